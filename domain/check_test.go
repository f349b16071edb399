package domain_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/internal/realdata"
)

const malformedHead = `# What is said to values that make no sense: one row per field of each action, each with what was put into it and the code of
# the fault, or ok where it is taken. The fault names the field as it stands here. The tests compute this table: it is written
# anew by go test ./domain -update.

`

// Every field of every action takes each hostile value or names itself and says what is wrong.
func TestMalformed(t *testing.T) {
	const file = "testdata/malformed.txt"
	var b bytes.Buffer
	b.WriteString(malformedHead)
	for n, a := range domaintest.Actions() {
		if n > 0 {
			b.WriteByte('\n')
		}
		v := reflect.New(reflect.TypeOf(a)).Elem()
		v.Set(reflect.ValueOf(clone(a)))
		check := func() error {
			c := asked(domain.Order{}, v.Interface().(domain.Action))
			return c.Check()
		}
		if err := check(); err != nil {
			t.Fatalf("%s: %v", a.Name(), err)
		}
		row := func(path string, results []string) {
			fmt.Fprintf(&b, "%-9s %-50s %s\n", a.Name(), path, strings.Join(results, "  "))
		}
		hostile(t, v, "", check, row)
	}
	personal := domaintest.Filled[domain.Personal]()
	b.WriteByte('\n')
	hostile(t, reflect.ValueOf(&personal).Elem(), "personal", func() error { return personal.Check() }, func(path string, results []string) {
		fmt.Fprintf(&b, "%-60s %s\n", path, strings.Join(results, "  "))
	})
	got := b.String()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the table has changed (-update writes it anew):\n%s", diff)
	}
}

// hostile puts each hostile value into each field of v in turn, and the right one back.
func hostile(t *testing.T, v reflect.Value, path string, check func() error, row func(string, []string)) {
	t.Helper()
	switch v.Interface().(type) {
	case domain.Sealed:
		return // not from outside
	case domain.Decimal:
		try(t, v, path, check, row,
			value{"below", num("-1")}, value{"zero", num("0")}, value{"large", num("10000000000")}, value{"fine", num("0.0000001")})
		return
	case time.Time:
		try(t, v, path, check, row,
			value{"early", time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC)}, value{"late", time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)})
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "-" {
				name = strings.ToLower(field.Name) // named by the address
			}
			if name != "" && path != "" {
				name = "." + name
			}
			hostile(t, v.Field(i), path+name, check, row)
		}
	case reflect.Pointer:
		hostile(t, v.Elem(), path, check, row)
	case reflect.Slice:
		many := reflect.MakeSlice(v.Type(), domain.MaxLines+1, domain.MaxLines+1)
		for i := range many.Len() {
			many.Index(i).Set(v.Index(0))
		}
		try(t, v, path, check, row,
			value{"none", reflect.Zero(v.Type()).Interface()},
			value{"many", many.Interface()},
			value{"twice", reflect.Append(v, v.Index(0)).Interface()})
		hostile(t, v.Index(0), path+"[0]", check, row)
	case reflect.String:
		text := func(name, s string) value { return value{name, reflect.ValueOf(s).Convert(v.Type()).Interface()} }
		try(t, v, path, check, row,
			text("empty", ""), text("long", strings.Repeat("x", domain.MaxData+1)), text("control", "a\x00b"),
			text("utf8", "a\xffb"), text("nonsense", "No such thing"))
	case reflect.Int, reflect.Int64:
		whole := func(name string, n int64) value { return value{name, reflect.ValueOf(n).Convert(v.Type()).Interface()} }
		try(t, v, path, check, row, whole("below", -1), whole("large", 1<<41))
	case reflect.Uint32:
		try(t, v, path, check, row, value{"zero", uint32(0)}, value{"large", uint32(math.MaxUint32)})
	case reflect.Uint64:
		try(t, v, path, check, row, value{"zero", uint64(0)}, value{"large", uint64(1 << 63)})
	case reflect.Bool:
	default:
		t.Fatalf("%s: no hostile %v", path, v.Type())
	}
}

type value struct {
	name string
	v    any
}

func try(t *testing.T, v reflect.Value, path string, check func() error, row func(string, []string), values ...value) {
	t.Helper()
	right := reflect.New(v.Type()).Elem()
	right.Set(v)
	defer v.Set(right)
	var results []string
	for _, h := range values {
		v.Set(reflect.ValueOf(h.v))
		result := "ok"
		if err := check(); err != nil {
			m := new(domain.Malformed)
			if !errors.As(err, &m) {
				t.Fatalf("%s, %s: %v", path, h.name, err)
			}
			result = m.Code
			if !strings.HasPrefix(m.Field, path) {
				t.Errorf("%s, %s: the fault names %q", path, h.name, m.Field)
			}
			if m.Detail == "" || strings.Contains(m.Detail, "%!") || len(m.Error()) > 400 || !utf8.ValidString(m.Error()) {
				t.Errorf("%s, %s: %q", path, h.name, m.Error())
			}
		}
		results = append(results, h.name+": "+result)
	}
	row(path, results)
}

func TestMalformedEnvelope(t *testing.T) {
	long, broken, control := strings.Repeat("x", domain.MaxName+1), "\xff", "a\nb"
	for _, test := range []struct {
		field, code string
		set         func(*domain.Command)
	}{
		{"", "missing", func(c *domain.Command) { c.Do = nil }},
		{"business_unit", "missing", func(c *domain.Command) { c.BusinessUnit = "" }},
		{"business_unit", "too_long", func(c *domain.Command) { c.BusinessUnit = long }},
		{"actor.subject", "missing", func(c *domain.Command) { c.Actor.Subject = "" }},
		{"actor.subject", "control_character", func(c *domain.Command) { c.Actor.Subject = control }},
		{"actor.kind", "missing", func(c *domain.Command) { c.Actor.Kind = "" }},
		{"actor.issuer", "too_long", func(c *domain.Command) { c.Actor.Issuer = long }},
		{"actor.on_behalf_of", "invalid_utf8", func(c *domain.Command) { c.Actor.OnBehalfOf = broken }},
		{"cause.correlation", "too_long", func(c *domain.Command) { c.Cause.Correlation = long }},
		{"cause.causation", "control_character", func(c *domain.Command) { c.Cause.Causation = control }},
		{"cause.traceparent", "invalid_utf8", func(c *domain.Command) { c.Cause.Traceparent = broken }},
		{"occurred", "out_of_range", func(c *domain.Command) { c.Occurred = time.Unix(-1e11, 0) }},
		{"occurred", "out_of_range", func(c *domain.Command) { c.Occurred = time.Unix(1e11, 0) }},
		{"occurred", "in_future", func(c *domain.Command) { c.Occurred = hoursLater(25) }},
		{"", "unknown_action", func(c *domain.Command) { c.Do = &domain.Close{} }},
		{"settled", "unexpected", func(c *domain.Command) {
			s := order(article("lens", "1"))
			s.Settled = true
			c.Order, c.Do = domain.OrderID("main", "tester", "another"), s
		}},
	} {
		o := after(t, order(article("lens", "1")))
		c := asked(o, domain.Close{})
		test.set(&c)
		if c.Order != o.ID {
			o = domain.Order{}
		}
		wantMalformed(t, o, c, test.field, test.code)
	}
}

func wantMalformed(t *testing.T, o domain.Order, c domain.Command, field, code string) {
	t.Helper()
	events, err := domain.Decide(o, c, domaintest.Policy{}, now)
	m := new(domain.Malformed)
	if !errors.As(err, &m) || m.Field != field || m.Code != code || len(events) > 0 {
		t.Errorf("%v, %v; want %s at %q", typesOf(events), err, code, field)
	}
	if err != nil && field != "" && !strings.HasPrefix(err.Error(), field+": ") {
		t.Errorf("%q does not begin with the field %s", err, field)
	}
}

// What a single hostile value cannot show: faults that need a form of their own, or several fields.
func TestMalformedValues(t *testing.T) {
	submit := func(set func(*domain.Submit)) domain.Action {
		s := order(article("lens", "1"))
		set(&s)
		return s
	}
	zone := func(z string) domain.Action {
		return submit(func(s *domain.Submit) { s.Lines[0].Requested = domain.Date{Day: "2026-03-01", Zone: z} })
	}
	day := func(d string) domain.Action {
		return submit(func(s *domain.Submit) { s.Lines[0].Requested.Day = d })
	}
	gtin := func(g string) domain.Action { return submit(func(s *domain.Submit) { s.Lines[0].GTIN = g }) }
	for _, test := range []struct {
		field, code string
		do          domain.Action
	}{
		{"lines", "missing", submit(func(s *domain.Submit) { s.Lines = nil })},
		{"lines[0].sku", "missing", submit(func(s *domain.Submit) { s.Lines[0].SKU = "" })},
		{"lines[0].id", "unexpected", submit(func(s *domain.Submit) { s.Lines[0].ID = "1" })},
		{"lines[0].gtin", "invalid_gtin", gtin("4006381333932")},
		{"lines[0].gtin", "invalid_gtin", gtin("400638133393")},
		{"lines[0].gtin", "invalid_gtin", gtin("0000000000000000")},
		{"lines[0].gtin", "invalid_gtin", gtin("40063813339３1")},
		{"lines[0].requested.day", "invalid_date", day("2026-02-30")},
		{"lines[0].requested.day", "invalid_date", day("2026-2-3")},
		{"lines[0].requested.day", "invalid_date", day("03/01/2026")},
		{"lines[0].requested.day", "invalid_date", day("2026-03-01T00:00:00Z")},
		{"lines[0].requested.day", "out_of_range", day("1899-12-31")},
		{"lines[0].requested.day", "out_of_range", day("9999-12-31")},
		{"lines[0].requested.zone", "invalid_zone", zone("Europe/")},
		{"lines[0].requested.zone", "invalid_zone", zone("/etc/localtime")},
		{"lines[0].requested.zone", "invalid_zone", zone("../../etc/passwd")},
		{"lines[0].requested.zone", "invalid_zone", zone("A/B/C/D")},
		{"lines[0].requested.zone", "invalid_zone", zone("Europe/" + strings.Repeat("x", 200))},
		{"currency", "unknown_currency", submit(func(s *domain.Submit) { s.Currency = "eur" })},
		{"currency", "unknown_currency", submit(func(s *domain.Submit) { s.Currency = "E R" })},
		{"currency", "unknown_currency", submit(func(s *domain.Submit) { s.Currency = "XXX" })},
		{"parties.buyer.country", "unknown_country", submit(func(s *domain.Submit) { s.Parties.Buyer.Country = "UK" })},
		{"parties.buyer.country", "unknown_country", submit(func(s *domain.Submit) { s.Parties.Buyer.Country = "D " })},
		{"parties.buyer.identifiers", "missing", submit(func(s *domain.Submit) { s.Parties.Buyer.Identifiers = nil })},
		{"lines", "amount_inexact", submit(func(s *domain.Submit) {
			three := domain.Whole(3)
			s.Lines[0].Price.BaseQuantity = &three
		})},
		{"lines", "amount_inexact", submit(func(s *domain.Submit) {
			s.Lines[0].Quantity, s.Lines[0].Price.Amount = num("9999999999.999999"), num("9999999999.999999")
		})},
		{"lines[1].line", "repeated", domain.Return{Lines: []domain.LineQuantity{of("1", "1"), of("1", "1")}, Reason: because("x")}},
		{"lines[0]", "missing", domain.Amend{Lines: []domain.LineChange{{Line: "1"}}}},
		{"lines", "unexpected", domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{
			Outcome: domain.Refuses, Reason: because("busy"), Lines: []domain.LineConfirmation{{Line: "1"}},
		}}},
		{"reason.code", "missing", domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{Outcome: domain.Refuses}}},
		{"reason.code", "missing", domain.Close{Reason: domain.Reason{Text: "only a text"}}},
	} {
		wantMalformed(t, domain.Order{}, asked(domain.Order{}, test.do), test.field, test.code)
	}
	for _, good := range []domain.Action{
		gtin("96385074"), gtin("614141000036"), gtin("4006381333931"), gtin("10614141000415"),
		zone("UTC"), zone("Europe/Berlin"), zone("America/Argentina/Buenos_Aires"), zone("Etc/GMT+5"),
		day("2028-02-29"), day("1900-01-01"), day("2200-12-31"),
	} {
		if err := asked(domain.Order{}, good).Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}

func TestLineCheck(t *testing.T) {
	if err := article("lens", "1").Check(); err != nil {
		t.Error(err)
	}
	m := new(domain.Malformed)
	if err := article("lens", "0").Check(); !errors.As(err, &m) || m.Field != "quantity" || m.Code != "zero" {
		t.Errorf("%v", err)
	}
}

// What naughty strings are accepted as names, texts or data comes back from the ledger as it was.
func TestNaughtyStrings(t *testing.T) {
	text, err := os.ReadFile(realdata.Path(t, "hostile", "blns.json"))
	if err != nil {
		t.Fatal(err)
	}
	var naughty []string
	if err := json.Unmarshal(text, &naughty); err != nil || len(naughty) < 400 {
		t.Fatal(len(naughty), err)
	}
	fields := []func(*domain.Submit, string){
		func(s *domain.Submit, v string) { s.PurchaseOrder = v },
		func(s *domain.Submit, v string) { s.Channel = v },
		func(s *domain.Submit, v string) { s.References = []domain.Reference{{Kind: v, Value: v}} },
		func(s *domain.Submit, v string) { s.Parties.Buyer.Identifiers[0].Value = v },
		func(s *domain.Submit, v string) { s.Terms.Incoterms.Place = v },
		func(s *domain.Submit, v string) { s.Documents = []domain.Document{{Name: v, SHA256: v}} },
		func(s *domain.Submit, v string) { s.Extensions = []domain.Extension{{Name: "x", Value: v}} },
		func(s *domain.Submit, v string) { s.Lines[0].SKU = v },
		func(s *domain.Submit, v string) { s.Lines[0].Description = v },
		func(s *domain.Submit, v string) { s.Lines[0].Configuration.Data = v },
		func(s *domain.Submit, v string) { s.Lines[0].Requested = domain.Date{Day: v, Zone: v} },
		func(s *domain.Submit, v string) { s.Lines[0].Unit, s.Lines[0].GTIN = v, v },
		func(s *domain.Submit, v string) { s.Currency = v },
		func(s *domain.Submit, v string) { s.Adjustments = []domain.Adjustment{{Kind: v, Reason: v}} },
	}
	accepted := 0
	for _, v := range naughty {
		for i, set := range fields {
			s := order(article("lens", "1"))
			set(&s, v)
			events, err := domain.Decide(domain.Order{}, asked(domain.Order{}, s), domaintest.Policy{}, now)
			if err != nil {
				if !errors.As(err, new(*domain.Malformed)) {
					t.Errorf("field %d, %q: %v", i, v, err)
				}
				continue
			}
			accepted++
			data, err := domain.EncodeEvent(events[0])
			if err != nil {
				t.Errorf("field %d, %q: %v", i, v, err)
				continue
			}
			back, err := domain.DecodeEvent(events[0].Type(), data)
			if err != nil {
				t.Errorf("field %d, %q: %v", i, v, err)
				continue
			}
			if !reflect.DeepEqual(back, events[0]) {
				t.Errorf("field %d, %q comes back as %+v", i, v, back)
			}
		}
		_, _ = domain.ParseDecimal(v)
		_, _ = domain.ParseNumber(v)
		_, _ = domain.StreamOrder(v)
	}
	if accepted < len(naughty) {
		t.Errorf("only %d of %d were accepted anywhere", accepted, len(naughty))
	}
}

// Codes of a fixed form are taken or refused by their first and last letters and everything between.
func TestCheckCodes(t *testing.T) {
	for _, tt := range []struct {
		field    string
		set      func(*domain.Submit, string)
		good, no []string
	}{
		{"lines[0].unit", func(s *domain.Submit, v string) { s.Lines[0].Unit = v },
			[]string{"", "C62", "KG", "00"}, []string{"C", "C622", "c62", "C 2", "C6\n", "É", "É2"}},
		{"parties.buyer.region", func(s *domain.Submit, v string) { s.Parties.Buyer.Region = v },
			[]string{"", "1", "CA", "BRE"}, []string{"ca", "BREM", "C-A", "É"}},
		{"terms.incoterms.rule", func(s *domain.Submit, v string) { s.Terms.Incoterms.Rule = v },
			[]string{"", "DAP"}, []string{"DA", "DAPX", "dap", "D1P", "D P"}},
		{"terms.incoterms.version", func(s *domain.Submit, v string) { s.Terms.Incoterms.Version = v },
			[]string{"", "1999", "2020"}, []string{"199", "20201", "1820", "2120", "20x0", "x020"}},
	} {
		check := func(value string) error {
			submit := clone(domaintest.Actions()[0]).(domain.Submit)
			tt.set(&submit, value)
			return domain.Command{BusinessUnit: "main", Actor: domain.Actor{Kind: "person", Subject: "x"}, Do: submit}.Check()
		}
		for _, value := range tt.good {
			if err := check(value); err != nil {
				t.Errorf("%s %q: %v", tt.field, value, err)
			}
		}
		for _, value := range tt.no {
			var bad *domain.Malformed
			if err := check(value); !errors.As(err, &bad) || bad.Field != tt.field {
				t.Errorf("%s %q: %v", tt.field, value, err)
			}
		}
	}
}

// What is good is checked without a name being put together.
func TestCheckAllocatesLittle(t *testing.T) {
	submit := clone(domaintest.Actions()[0]).(domain.Submit)
	for len(submit.Lines) < 100 {
		submit.Lines = append(submit.Lines, submit.Lines[0])
	}
	c := domain.Command{BusinessUnit: "main", Actor: domain.Actor{Kind: "person", Subject: "x"}, Do: submit}
	if n := testing.AllocsPerRun(10, func() { _ = c.Check() }); n > 300 { // its hashes are decoded
		t.Errorf("%v allocations", n)
	}
}
