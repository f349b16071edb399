package importer_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/commands/importer"
	"github.com/orderledger/orderledger/domain"
)

func TestEveryField(t *testing.T) {
	const mapping = `
version: 1
source: everything
format: tsv
group: no
credits: {column: type, equals: [credit, storno]}
occurred: {column: at, layouts: ["02/01/2006 15:04", "2006-01-02T15:04:05Z07:00"], zone: Europe/London}
order:
  currency: {column: currency, default: USD}
  customer: {column: customer, values: {nobody: ""}}
  country: {column: country, default: US}
  region: region
  purchase_order: po
  ship_to_country: {constant: FR}
  ship_to_region: ship_region
  name: name
  email: email
  street: street
  city: city
  references: {offer: offer, contract: {constant: K1}}
  extensions: {season: {column: season, values: {s: summer}}, colour: colour}
line:
  sku: sku
  description: text
  gtin: gtin
  unit: {constant: KGM}
  buyer_line: position
  requested: wanted
  quantity: {column: quantity, decimal: ",", thousands: "."}
  price: {column: price, decimal: ",", thousands: " "}
`
	columns := strings.Fields("no type at currency customer country region po ship_region name email street city offer season colour sku text gtin position wanted quantity price")
	row := func(values string) string {
		m := map[string]string{}
		for pair := range strings.SplitSeq(values, ";") {
			name, value, _ := strings.Cut(pair, "=")
			m[name] = value
		}
		var cells []string
		for _, c := range columns {
			cells = append(cells, m[c])
			delete(m, c)
		}
		if len(m) > 0 {
			t.Fatalf("no column of %v", m)
		}
		return strings.Join(cells, "\t") + "\r\n"
	}
	l, o := importText(t, mapping, "orders.tsv", "\ufeff"+strings.Join(columns, "\t")+"\r\n"+
		row("no= Ä 1 ;at=31/12/2011 23:59;currency=GBP;customer=C 7;country=GB;region=ENG;po=4711;ship_region=75;name=Ann;email=a@b.c;street=Lane 1;city=Ely;"+
			"offer=O1;season=s;colour=red;sku=A;text=5\" pipe;gtin=4006381333931;position=10;wanted=2012-02-29;quantity=1.234,5;price=12 345,678")+
		row("no=2;type=storno;at=2011-06-01T00:30:00+02:00;customer=nobody;sku=A;quantity=-2;price=1"))
	if o.err != nil || len(l.orders) != 2 {
		t.Fatal(o)
	}
	want := map[string]importer.Order{
		"everything/%C3%84%201": {
			Key: "everything/%C3%84%201", Occurred: time.Date(2011, 12, 31, 23, 59, 0, 0, time.UTC),
			Submit: domain.Submit{
				Details: domain.Details{
					Kind: domain.Standard, Channel: domain.ChannelImport, PurchaseOrder: "4711", Currency: "GBP",
					References: []domain.Reference{{Kind: "contract", Value: "K1"}, {Kind: "offer", Value: "O1"}},
					Extensions: []domain.Extension{{Name: "colour", Value: "red"}, {Name: "season", Value: "summer"}},
					Parties: domain.Parties{
						Buyer:  domain.Party{Identifiers: []domain.Identifier{{Scheme: "customer", Value: "C 7"}}, Country: "GB", Region: "ENG"},
						ShipTo: domain.Party{Country: "FR", Region: "75"},
					},
				},
				Lines: []domain.Line{{
					SKU: "A", Description: `5" pipe`, GTIN: "4006381333931", Unit: "KGM", BuyerLine: "10", Requested: domain.Date{Day: "2012-02-29"},
					Quantity: domain.MustDecimal("1234.5"), Price: domain.Price{Amount: domain.MustDecimal("12345.678")},
				}},
			},
			Personal: domain.Personal{Buyer: domain.Person{Name: "Ann", Email: "a@b.c", Street: []string{"Lane 1"}, City: "Ely"}},
		},
		"everything/2": {
			Key: "everything/2", Occurred: time.Date(2011, 5, 31, 22, 30, 0, 0, time.UTC),
			Submit: domain.Submit{
				Details: domain.Details{
					Kind: domain.ReturnKind, Channel: domain.ChannelImport, Currency: "USD",
					References: []domain.Reference{{Kind: "contract", Value: "K1"}},
					Parties: domain.Parties{
						Buyer:  domain.Party{Identifiers: []domain.Identifier{{Scheme: "customer", Value: domain.UnknownParty}}, Country: "US"},
						ShipTo: domain.Party{Country: "FR"},
					},
				},
				Lines: []domain.Line{{SKU: "A", Unit: "KGM", Quantity: domain.Whole(2), Price: domain.Price{Amount: domain.Whole(1)}}},
			},
		},
	}
	same := cmp.Comparer(func(a, b domain.Decimal) bool { return a == b })
	if d := cmp.Diff(want, l.orders, same); d != "" {
		t.Error(d)
	}
}

func TestNumbers(t *testing.T) {
	tests := []struct{ marks, number, want string }{ // want is empty where it is no number
		{"", "1", "1"},
		{"", "-0.50", "-0.5"},
		{"", "1,5", ""},
		{"", "1,000", ""},
		{"", "+1", ""},
		{"", ".5", ""},
		{"", "5.", ""},
		{"", "007", ""},
		{"decimal: ','", "1,5", "1.5"},
		{"decimal: ','", "-1,5", "-1.5"},
		{"decimal: ','", "1.5", ""},
		{"decimal: ','", "1,5.0", ""},
		{"decimal: ','", "1,5,0", ""},
		{"decimal: ','", "1,", ""},
		{"decimal: ',', thousands: '.'", "1.234.567,89", "1234567.89"},
		{"decimal: ',', thousands: '.'", "12.34.567,89", "1234567.89"},
		{"decimal: ',', thousands: '.'", "1234567,89", "1234567.89"},
		{"decimal: ',', thousands: '.'", "1.5", ""},
		{"decimal: ',', thousands: '.'", "1.23", ""},
		{"decimal: ',', thousands: '.'", "1.2345", ""},
		{"decimal: ',', thousands: '.'", "1234.567", ""},
		{"decimal: ',', thousands: '.'", ".123", ""},
		{"decimal: ',', thousands: '.'", "-.123", ""},
		{"decimal: ',', thousands: '.'", "0.123", ""},
		{"decimal: ',', thousands: '.'", "-1.234", "-1234"},
		{"decimal: ',', thousands: '.'", "1..234", ""},
		{"decimal: ',', thousands: '.'", "1,234.567", ""},
		{"thousands: ','", "1,234.5", "1234.5"},
		{"thousands: ','", "1,23", ""},
		{"thousands: \"'\"", "1'234.5", "1234.5"},
		{`thousands: "\u202f", decimal: ","`, "1\u202f234,5", "1234.5"},
		{`decimal: "٫"`, "1٫5", "1.5"},
	}
	for _, test := range tests {
		t.Run(test.marks+" "+test.number, func(t *testing.T) {
			mapping := with(t, shop, "quantity: quantity", "quantity: {column: quantity, "+test.marks+"}")
			number := test.number
			if strings.Contains(number, ",") {
				number = `"` + number + `"`
			}
			for _, order := range []string{"1", "C1"} { // one of them takes the sign
				l, o := importText(t, mapping, "orders.csv", heading+order+",A,"+number+",1,2024-05-01 10:00:00,C7,DE\n")
				got := ""
				for _, order := range l.orders {
					got = order.Submit.Lines[0].Quantity.String()
				}
				want := strings.TrimPrefix(test.want, "-")
				if o.err != nil || got != want && o.Codes["negative_quantity"]+o.Codes["positive_quantity_in_credit"] == 0 || want == "" && o.Codes["not_a_number"] != 1 {
					t.Errorf("%s became %q; %v %v", test.number, got, o.Codes, o.err)
				}
			}
		})
	}
}

func TestTimes(t *testing.T) {
	tests := []struct{ layout, zone, value, want string }{
		{"2006-01-02 15:04:05", "Europe/London", "2011-01-15 12:00:00", "2011-01-15T12:00:00Z"},
		{"2006-01-02 15:04:05", "Europe/London", "2011-07-15 12:00:00", "2011-07-15T11:00:00Z"},
		{"2006-01-02 15:04", "Europe/Berlin", "2024-03-31 01:59", "2024-03-31T00:59:00Z"},
		{"2006-01-02 15:04", "Europe/Berlin", "2024-03-31 02:30", "2024-03-31T01:30:00Z"}, // left out
		{"2006-01-02 15:04", "Europe/Berlin", "2024-03-31 03:00", "2024-03-31T01:00:00Z"},
		{"2006-01-02 15:04", "Europe/Berlin", "2024-10-27 02:30", "2024-10-27T00:30:00Z"}, // came twice
		{"2006-01-02 15:04", "Europe/Berlin", "2024-10-27 03:00", "2024-10-27T02:00:00Z"},
		{"2006-01-02 15:04", "America/New_York", "2024-03-10 02:30", "2024-03-10T07:30:00Z"}, // left out
		{"2006-01-02 15:04", "America/New_York", "2024-03-10 03:00", "2024-03-10T07:00:00Z"},
		{"2006-01-02 15:04", "America/New_York", "2024-11-03 01:30", "2024-11-03T05:30:00Z"}, // came twice
		{"2006-01-02 15:04", "America/New_York", "2024-11-03 02:00", "2024-11-03T07:00:00Z"},
		{"2006-01-02 15:04", "Europe/London", "2011-03-27 01:30", "2011-03-27T01:30:00Z"}, // left out
		{"2006-01-02 15:04", "Europe/London", "2011-10-30 01:30", "2011-10-30T00:30:00Z"}, // came twice
		{"2006-01-02 15:04", "Australia/Lord_Howe", "2024-04-07 01:45", "2024-04-06T14:45:00Z"},
		{"2006-01-02 15:04", "Pacific/Apia", "2011-12-30 12:00", "2011-12-30T22:00:00Z"}, // a whole day was left out
		{"2006-01-02T15:04:05Z07:00", "Europe/Berlin", "2024-10-27T02:30:00+01:00", "2024-10-27T01:30:00Z"},
		{"2006-01-02T15:04:05Z07:00", "Europe/Berlin", "2024-10-27T02:30:00Z", "2024-10-27T02:30:00Z"},
		{"2006-01-02 15:04:05 -0700", "Europe/Berlin", "2024-01-01 00:00:00 -0330", "2024-01-01T03:30:00Z"},
		{"02.01.06", "UTC", "31.12.11", "2011-12-31T00:00:00Z"},
		{"1/2/2006", "UTC", "2/30/2011", ""},
		{"2006-01-02 15:04:05", "UTC", "2011-01-01", ""},
		{"2006-01-02 15:04:05", "UTC", "2011-01-01 24:00:00", ""},
		{"2006-01-02 15:04:05", "UTC", "", ""},
	}
	for _, test := range tests {
		t.Run(test.zone+" "+test.value, func(t *testing.T) {
			mapping := with(t, shop, `layouts: ["2006-01-02 15:04:05"], zone: Europe/Berlin`, fmt.Sprintf("layouts: [%q], zone: %s", test.layout, test.zone))
			l, o := importText(t, mapping, "orders.csv", heading+"1,A,1,1,"+test.value+",C7,DE\n")
			got := ""
			for _, order := range l.orders {
				got = order.Occurred.Format(time.RFC3339)
				if order.Occurred.Location() != time.UTC {
					t.Error("the time is not in UTC")
				}
			}
			if got != test.want || o.err != nil || test.want == "" && o.Codes["invalid_time"] != 1 {
				t.Errorf("%s became %q, want %q; %v %v", test.value, got, test.want, o.Codes, o.err)
			}
		})
	}
}
