package rules_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
)

func mustParse(t testing.TB, text string) *rules.RuleSet {
	t.Helper()
	set, err := rules.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

const shop = `
version: 1
name: Shop
lists:
  eu: [DE, FR]
sites:
  EAST: {}
  WEST: {}
  FRENCH: {when: {country: FR}}
  LENSES: {line: {sku: LENS-*}}
validation:
  - row: V1
    when: {country: IR}
    then: reject
    code: embargo
    text: We do not deliver there.
  - row: V2
    when: {country: $eu, total: "> 500", currency: EUR}
    any_line: {sku: LENS-*, quantity: "> 5"}
    then: hold
    role: finance
    code: credit_check
    text: Somebody looks at the credit.
  - row: V3
    every_line: {sku: LENS-*}
    when: {country: DE}
    then: accept
  - row: V4
    when: {country: [DE, FR, IR]}
    then: accept
routing:
  - row: R1
    line: {sku: LENS-*}
    to: [LENSES, WEST]
  - row: R2
    when: {country: FR}
    to: [FRENCH, WEST, EAST]
  - row: R3
    when: {country: [DE, US]}
    to: [FRENCH, LENSES, EAST, WEST]
`

// order makes an order for a country with lines 1, 2, 3, … of one piece of the given articles.
func order(country string, skus ...string) domain.Order {
	o := domain.Order{Details: domain.Details{Currency: "EUR", Parties: domain.Parties{Buyer: domain.Party{Country: country}}}}
	for i, sku := range skus {
		o.Lines = append(o.Lines, domain.OrderLine{Line: domain.Line{ID: fmt.Sprint(i + 1), SKU: sku, Quantity: domain.Whole(1)}})
	}
	return o
}

func TestValidateTakesTheFirstRowThatMatches(t *testing.T) {
	set := mustParse(t, shop)
	rich := order("DE", "FRAME-1", "LENS-1", "LENS-2")
	rich.Totals.Total = domain.Whole(900)
	rich.Lines[1].Quantity, rich.Lines[2].Quantity = domain.Whole(6), domain.Whole(7)
	tests := []struct {
		name  string
		order domain.Order
		want  domain.Judgement
	}{
		{"rejected", order("IR", "LENS-1"), domain.Judgement{
			Verdict:  domain.VerdictRejected,
			Reason:   domain.Reason{Code: "embargo", Text: "We do not deliver there."},
			Decision: domain.Decision{Row: "V1", Facts: []domain.Fact{{Name: "country", Value: "IR"}}},
		}},
		{"held for the first line that matches", rich, domain.Judgement{
			Reason: domain.Reason{Code: "credit_check", Text: "Somebody looks at the credit."},
			Role:   "finance",
			Decision: domain.Decision{Row: "V2", Facts: []domain.Fact{
				{Name: "country", Value: "DE"}, {Name: "total", Value: "900"}, {Name: "currency", Value: "EUR"},
				{Name: "line 2 sku", Value: "LENS-1"}, {Name: "line 2 quantity", Value: "6"},
			}},
		}},
		{"accepted for every line", order("DE", "LENS-1", "LENS-2"), domain.Judgement{
			Verdict: domain.VerdictAccepted,
			Decision: domain.Decision{Row: "V3", Facts: []domain.Fact{
				{Name: "country", Value: "DE"}, {Name: "line 1 sku", Value: "LENS-1"}, {Name: "line 2 sku", Value: "LENS-2"},
			}},
		}},
		{"accepted by a later row", order("DE", "LENS-1", "FRAME-1"), domain.Judgement{
			Verdict:  domain.VerdictAccepted,
			Decision: domain.Decision{Row: "V4", Facts: []domain.Fact{{Name: "country", Value: "DE"}}},
		}},
		{"no row", order("US", "LENS-1"), domain.Judgement{
			Reason:   domain.Reason{Code: rules.CodeNoRule, Text: "No rule says what to do with this order."},
			Decision: domain.Decision{Row: "(none)"},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.want.Decision.RuleSet = set.Hash()
			if diff := cmp.Diff(test.want, set.Validate(&test.order)); diff != "" {
				t.Errorf("want −, got +\n%s", diff)
			}
		})
	}
}

func TestRoute(t *testing.T) {
	set := mustParse(t, shop)
	complete := func(o domain.Order) domain.Order {
		o.Terms.CompleteDelivery = true
		return o
	}
	tests := []struct {
		name     string
		order    domain.Order
		excluded []string
		want     string // site: lines; …
		row      string
		facts    string
	}{
		{"the first site of the row", order("FR", "FRAME-1"), nil, "FRENCH: 1", "R2", "country=FR"},
		{"lines for one site go together", order("FR", "FRAME-1", "LENS-1", "FRAME-2"), nil, "FRENCH: 1 3; LENSES: 2", "R2,R1",
			"country=FR, line 2 sku=LENS-1"},
		{"the first line of each row explains it", order("FR", "LENS-1", "LENS-2"), nil, "LENSES: 1 2", "R1", "line 1 sku=LENS-1"},
		{"a site that does not take the order", order("DE", "FRAME-1"), nil, "EAST: 1", "R3",
			"country=DE, site FRENCH=does not take country DE, site LENSES=does not take line 1 sku FRAME-1"},
		{"an excluded site", order("FR", "FRAME-1"), []string{"FRENCH", "EAST"}, "WEST: 1", "R2", "country=FR, site FRENCH=excluded"},
		{"a line without a site", order("FR", "FRAME-1", "LENS-1"), []string{"LENSES", "WEST"}, "", "R2,R1",
			"country=FR, line 2 sku=LENS-1, site LENSES=excluded, site WEST=excluded"},
		{"a line without a row", order("JP", "LENS-1", "FRAME-1"), nil, "", "R1,(none)", "line 1 sku=LENS-1, line 2 sku=FRAME-1"},
		{"complete delivery, best for all", complete(order("FR", "LENS-1", "FRAME-1")), nil, "WEST: 1 2", "R1,R2",
			"line 1 sku=LENS-1, country=FR, site LENSES=not named by row R2"},
		{"complete delivery, nobody has all", complete(order("FR", "LENS-1", "FRAME-1")), []string{"WEST"}, "", "R1,R2",
			"line 1 sku=LENS-1, country=FR, site LENSES=not named by row R2, site WEST=excluded"},
		{"complete delivery of one line", complete(order("FR", "FRAME-1")), nil, "FRENCH: 1", "R2", "country=FR"},
		{"nothing open", order("FR"), nil, "", "", ""},
		{"nothing open of a complete delivery", complete(order("FR")), nil, "", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := set.Route(&test.order, test.order.Unallocated(), test.excluded)
			if s := write(got.Allocations); s != test.want {
				t.Errorf("routed %q, want %q", s, test.want)
			}
			if got.Decision.Row != test.row || got.Decision.RuleSet != set.Hash() {
				t.Errorf("decided by %q of %q, want %q", got.Decision.Row, got.Decision.RuleSet, test.row)
			}
			var facts []string
			for _, f := range got.Decision.Facts {
				facts = append(facts, f.Name+"="+f.Value)
			}
			if s := strings.Join(facts, ", "); s != test.facts {
				t.Errorf("facts %q, want %q", s, test.facts)
			}
		})
	}
}

func write(allocations []domain.Allocation) string {
	var parts []string
	for _, a := range allocations {
		s := a.Site + ":"
		for _, l := range a.Lines {
			s += " " + l.Line
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, "; ")
}

func TestRouteJudgesTheOpenQuantity(t *testing.T) {
	set := mustParse(t, `
version: 1
name: By quantity
sites: {BIG: {}, SMALL: {line: {quantity: "<= 10"}}}
validation: [{row: V1, then: accept}]
routing:
  - {row: R1, line: {quantity: "< 50"}, to: [SMALL, BIG]}
  - {row: R2, to: BIG}
`)
	o := order("DE", "A")
	o.Lines[0].Quantity = domain.Whole(100)
	for open, want := range map[int64]string{5: "SMALL", 30: "BIG", 100: "BIG"} {
		quantity := []domain.LineQuantity{{Line: "1", Quantity: domain.Whole(open)}}
		got := set.Route(&o, quantity, nil)
		if len(got.Allocations) != 1 || got.Allocations[0].Site != want {
			t.Errorf("%d open pieces went to %v, not to %s", open, got.Allocations, want)
		}
		if !slices.Equal(quantity, got.Allocations[0].Lines) {
			t.Errorf("allocated %v of %v", got.Allocations[0].Lines, quantity)
		}
	}
}

func TestRouteOfUnknownLine(t *testing.T) {
	o := order("FR", "FRAME-1", "FRAME-2")
	open := []domain.LineQuantity{{Line: "2", Quantity: domain.Whole(1)}, {Line: "1", Quantity: domain.Whole(1)}, {Line: "9", Quantity: domain.Whole(1)}}
	set := mustParse(t, shop)
	if got := set.Route(&o, open, nil); len(got.Allocations) != 0 {
		t.Errorf("routed %v", got.Allocations)
	}
	if got := set.Route(&o, open[:2], nil); write(got.Allocations) != "FRENCH: 2 1" {
		t.Errorf("routed %v", got.Allocations)
	}
}

func TestDecisionsAreBounded(t *testing.T) {
	var rows strings.Builder
	long := "x" + strings.Repeat("ü", 90) // 181 bytes
	var skus []string
	for i := range 100 {
		fmt.Fprintf(&rows, "  - {row: R%d, line: {sku: %q}, to: main}\n", i, fmt.Sprint(long, i))
		skus = append(skus, fmt.Sprint(long, i))
	}
	set := mustParse(t, "version: 1\nname: x\nsites: {main: {}}\nvalidation: [{row: V1, every_line: {sku: '*', quantity: '> 0'}, then: accept}]\nrouting:\n"+rows.String())
	o := order("DE", skus...)
	for _, d := range []domain.Decision{set.Validate(&o).Decision, set.Route(&o, o.Unallocated(), nil).Decision} {
		if len(d.Facts) != 32 || strings.Count(d.Row, ",") > 31 {
			t.Errorf("%d facts, rows %s", len(d.Facts), d.Row)
		}
		if v := d.Facts[0].Value; v != "x"+strings.Repeat("ü", 49) {
			t.Errorf("the value was cut to %q", v)
		}
	}
	if d := set.Route(&o, o.Unallocated(), nil); len(d.Allocations) != 1 || len(d.Allocations[0].Lines) != 100 {
		t.Error("not all lines were routed")
	}
}

// TestOptics walks the rows of the optics maker.
func TestOptics(t *testing.T) {
	set := rules.Optics()
	with := func(o domain.Order, change func(*domain.Order)) domain.Order {
		change(&o)
		return o
	}
	configured := func(o *domain.Order) {
		for i := range o.Lines {
			o.Lines[i].Configuration.SHA256 = strings.Repeat("0", 64)
		}
	}
	tests := []struct {
		order domain.Order
		row   string // that judges
		route string
	}{
		{order("KP", "FRAME-1"), "V10", "LYON-WH: 1"},
		{with(order("UA", "FRAME-1"), func(o *domain.Order) { o.Parties.Buyer.Region = "43" }), "V11", "LYON-WH: 1"},
		{order("", "FRAME-1"), "V12", "LYON-WH: 1"},
		{order("DE", "FRAME-1", "TOASTER"), "V20", "ROTTERDAM-WH: 1; JENA-PLANT: 2"},
		{order("DE", "LENS-RX-1"), "V21", "JENA-PLANT: 1"},
		{with(order("DE", "LENS-RX-1"), configured), "V99", "JENA-PLANT: 1"},
		{with(order("US", "LENS-RX-1", "FRAME-1"), configured), "V99", "ROCHESTER-PLANT: 1; AUSTIN-WH: 2"},
		{with(order("US", "LENS-RX-1", "FRAME-1"), func(o *domain.Order) { configured(o); o.Terms.CompleteDelivery = true }), "V99", "ROCHESTER-PLANT: 1 2"},
		{with(order("CN", "FRAME-1"), func(o *domain.Order) { o.Terms.CompleteDelivery = true }), "V99", "SINGAPORE-WH: 1"},
		{with(order("JP", "FRAME-1"), func(o *domain.Order) { o.Kind = domain.Sample; o.Lines[0].Quantity = domain.Whole(4) }), "V30", "NAGOYA-PLANT: 1"},
		{with(order("JP", "FRAME-1", "FRAME-2", "FRAME-3", "FRAME-4", "FRAME-5", "FRAME-6"), func(o *domain.Order) { o.Kind = domain.Sample }), "V31",
			"NAGOYA-PLANT: 1 2 3 4 5 6"},
		{with(order("FR", "FRAME-1"), func(o *domain.Order) { o.Kind = domain.Replacement }), "V32", "LYON-WH: 1"},
		{with(order("NO", "FRAME-1"), func(o *domain.Order) { o.TotalGiven = new(domain.Decimal); o.Totals.Total = domain.Whole(1) }), "V40", "ROTTERDAM-WH: 1"},
		{with(order("GB", "FRAME-1"), func(o *domain.Order) { o.Channel = "edi" }), "V41", "LEEDS-WH: 1"},
		{with(order("BR", "CARE-1"), func(o *domain.Order) { o.Lines[0].Quantity = domain.Whole(10_001) }), "V42", "AUSTIN-WH: 1"},
		{with(order("CA", "BINO-1"), func(o *domain.Order) { o.Totals.Total = domain.Whole(50_001) }), "V50", "TORONTO-WH: 1"},
		{with(order("SG", "PHOTO-1"), func(o *domain.Order) { o.Currency = "JPY"; o.Totals.Total = domain.Whole(9_000_000) }), "V52", "SINGAPORE-WH: 1"},
		{order("ZA", "MICRO-1"), "V99", "JENA-PLANT: 1"},
	}
	for _, test := range tests {
		j := set.Validate(&test.order)
		if j.Decision.Row != test.row {
			t.Errorf("%s: judged by %s, want %s: %+v", test.order.Lines[0].SKU, j.Decision.Row, test.row, j)
		}
		if got := write(set.Route(&test.order, test.order.Unallocated(), nil).Allocations); got != test.route {
			t.Errorf("%s %s: routed %q, want %q", test.order.ShipTo().Country, test.order.Lines[0].SKU, got, test.route)
		}
	}
}
