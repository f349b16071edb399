package rules_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
)

// orders draws orders that the optics maker's rules tell apart.
func orders() *rapid.Generator[domain.Order] {
	return rapid.Custom(func(t *rapid.T) domain.Order {
		pick := func(name string, from ...string) string { return rapid.SampledFrom(from).Draw(t, name) }
		o := domain.Order{
			Details: domain.Details{
				Kind:     domain.Kind(pick("kind", "", "standard", "sample", "replacement")),
				Channel:  pick("channel", "web", "edi"),
				Currency: pick("currency", "EUR", "JPY", "CNY"),
				Parties:  domain.Parties{ShipTo: domain.Party{Country: pick("country", "DE", "GB", "US", "BR", "CN", "JP", "SG", "ZA", "IR", "NO")}},
				Terms:    domain.Terms{CompleteDelivery: rapid.Bool().Draw(t, "complete"), Priority: rapid.IntRange(0, 9).Draw(t, "priority")},
			},
			Totals: domain.Totals{Total: domain.Whole(rapid.Int64Range(0, 100_000).Draw(t, "total"))},
		}
		for i := range rapid.IntRange(1, 6).Draw(t, "lines") {
			o.Lines = append(o.Lines, domain.OrderLine{Line: domain.Line{
				ID:       fmt.Sprint(i + 1),
				SKU:      pick("sku", "LENS-RX-1", "LENS-ST-1", "MICRO-1", "FRAME-1", "TOASTER"),
				Quantity: domain.Whole(rapid.Int64Range(1, 2000).Draw(t, "quantity")),
			}})
		}
		return o
	})
}

func TestRoutingProperties(t *testing.T) {
	set := rules.Optics()
	var sites []string
	for _, s := range set.Sites() {
		sites = append(sites, s.Code)
	}
	rapid.Check(t, func(t *rapid.T) {
		o := orders().Draw(t, "order")
		excluded := rapid.SliceOfDistinct(rapid.SampledFrom(sites), rapid.ID[string]).Draw(t, "excluded")
		open := rapid.Permutation(o.Unallocated()).Draw(t, "open")
		given := slices.Clone(open)

		r := set.Route(&o, open, excluded)
		if again := set.Route(&o, open, excluded); !reflect.DeepEqual(r, again) {
			t.Fatalf("two answers to one question:\n%+v\n%+v", r, again)
		}
		if !slices.Equal(given, open) {
			t.Fatal("the open lines were changed")
		}
		if r.Decision.RuleSet != set.Hash() || r.Decision.Row == "" {
			t.Fatalf("the decision names nothing: %+v", r.Decision)
		}
		if len(r.Allocations) == 0 {
			return
		}
		var dealt []domain.LineQuantity
		var used []string
		for _, a := range r.Allocations {
			if slices.Contains(excluded, a.Site) || !slices.Contains(sites, a.Site) || slices.Contains(used, a.Site) {
				t.Fatalf("site %s is excluded, unknown or there twice: %+v", a.Site, r.Allocations)
			}
			used = append(used, a.Site)
			dealt = append(dealt, a.Lines...)
		}
		if o.Terms.CompleteDelivery && len(used) != 1 {
			t.Fatalf("a complete delivery from %v", used)
		}
		byLine := func(a, b domain.LineQuantity) int { return strings.Compare(a.Line, b.Line) }
		slices.SortFunc(dealt, byLine)
		slices.SortFunc(given, byLine)
		if !slices.Equal(dealt, given) {
			t.Fatalf("dealt %v of %v", dealt, given)
		}
	})
}

// TestOnlyFactsMatter changes everything about an order that is no fact of the rules.
func TestOnlyFactsMatter(t *testing.T) {
	set := rules.Optics()
	rapid.Check(t, func(t *rapid.T) {
		o := orders().Draw(t, "order")
		other := o
		other.ID = uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		other.Number = rapid.String().Draw(t, "number")
		other.Events = rapid.Uint64().Draw(t, "events")
		other.Documents = []domain.Document{{Name: rapid.String().Draw(t, "document")}}
		other.Extensions = []domain.Extension{{Name: "x", Value: rapid.String().Draw(t, "extension")}}
		other.Parties.BillTo.Country = "KP"
		other.Holds = []domain.Hold{{ID: "h1"}}
		other.Lines = slices.Clone(o.Lines)
		for i := range other.Lines {
			other.Lines[i].Description = rapid.String().Draw(t, "description")
			other.Lines[i].Promised = "2026-01-01"
		}
		if a, b := set.Validate(&o), set.Validate(&other); !reflect.DeepEqual(a, b) {
			t.Fatalf("judged\n%+v\n%+v", a, b)
		}
		if a, b := set.Route(&o, o.Unallocated(), nil), set.Route(&other, other.Unallocated(), nil); !reflect.DeepEqual(a, b) {
			t.Fatalf("routed\n%+v\n%+v", a, b)
		}
	})
}

// TestFirstHit compares a random table with its rows on their own: the first that matches alone decides in the table.
func TestFirstHit(t *testing.T) {
	conditions := rapid.SampledFrom([]string{
		"when: {country: DE}", "when: {country: [US, CN, JP]}", "when: {country: not DE}", "when: {kind: sample}", "when: {total: \"> 5000\"}",
		"when: {priority: 3..6, channel: web}", "any_line: {sku: LENS-*}", "any_line: {sku: \"*-1\", quantity: \"> 1000\"}",
		"every_line: {sku: not TOASTER}", "when: {lines: 1}", "when: {complete_delivery: yes}", "when: {quantity: \"> 3000\"}",
	})
	rapid.Check(t, func(t *rapid.T) {
		table := rapid.SliceOfN(conditions, 1, 8).Draw(t, "table")
		o := orders().Draw(t, "order")
		want := "(none)"
		var rows strings.Builder
		for i, c := range table {
			row := fmt.Sprintf("  - {row: V%d, %s, then: accept}\n", i, c)
			rows.WriteString(row)
			if want == "(none)" && mustTable(t, row).Validate(&o).Verdict == domain.VerdictAccepted {
				want = fmt.Sprintf("V%d", i)
			}
		}
		if got := mustTable(t, rows.String()).Validate(&o).Decision.Row; got != want {
			t.Fatalf("row %s decided, want %s:\n%s", got, want, rows.String())
		}
	})
}

func mustTable(t *rapid.T, rows string) *rules.RuleSet {
	set, err := rules.Parse([]byte("version: 1\nname: x\nsites: {main: {}}\nvalidation:\n" + rows + "routing: [{row: R1, to: main}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestPatterns compares patterns with a slow and obvious way to match them.
func TestPatterns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*]{0,6}\*[ab*]{0,6}`).Draw(t, "pattern")
		s := rapid.StringMatching(`[ab]{1,12}`).Draw(t, "text")
		o := domain.Order{Details: domain.Details{Channel: s}}
		set := mustTable(t, fmt.Sprintf("  - {row: V1, when: {channel: %q}, then: accept}\n", pattern))
		if got, want := set.Validate(&o).Verdict != "", matches(pattern, s); got != want {
			t.Fatalf("%q matches %q: %t, want %t", pattern, s, got, want)
		}
	})
}

func matches(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return matches(pattern[1:], s) || s != "" && matches(pattern, s[1:])
	}
	return s != "" && s[0] == pattern[0] && matches(pattern[1:], s[1:])
}

// table50 is a table of which only the last of 50 rows matches the orders of the benchmark.
func table50(t testing.TB) *rules.RuleSet {
	var b strings.Builder
	b.WriteString("version: 1\nname: x\nlists: {eu: [DE, FR, IT, ES, NL, BE, AT, PL]}\nsites: {A: {}, B: {}}\nvalidation:\n")
	cells := []string{`country: [IR, KP]`, `country: not $eu`, `total: "> 50000", currency: EUR`, `customer: GROUP-*`, `kind: sample`, `priority: 8..9`, `country: $eu, purchase_order: present`}
	for i := range 49 {
		fmt.Fprintf(&b, "  - {row: V%d, when: {%s, channel: [c%d, web]}, then: accept}\n", i, cells[i%len(cells)], i)
	}
	b.WriteString("  - {row: V99, then: accept}\nrouting:\n")
	for i := range 49 {
		fmt.Fprintf(&b, "  - {row: R%d, when: {%s}, line: {sku: LENS-%d-*}, to: [B, A]}\n", i, cells[i%len(cells)], i)
	}
	b.WriteString("  - {row: R99, to: [A, B]}\n")
	return mustParse(t, b.String())
}

func benchmarkOrder() domain.Order {
	o := order("DE", "FRAME-7", "LENS-RX-1", "CARE-3")
	o.Channel = "phone"
	o.Totals.Total = domain.Whole(120)
	return o
}

func BenchmarkValidate50Rows(b *testing.B) {
	set, o := table50(b), benchmarkOrder()
	if row := set.Validate(&o).Decision.Row; row != "V99" {
		b.Fatal(row)
	}
	for b.Loop() {
		set.Validate(&o)
	}
}

func BenchmarkRoute50Rows3Lines(b *testing.B) {
	set, o := table50(b), benchmarkOrder()
	open := o.Unallocated()
	if row := set.Route(&o, open, nil).Decision.Row; row != "R99" {
		b.Fatal(row)
	}
	for b.Loop() {
		set.Route(&o, open, nil)
	}
}

func BenchmarkValidateOptics(b *testing.B) {
	set, o := rules.Optics(), benchmarkOrder()
	for b.Loop() {
		set.Validate(&o)
	}
}
