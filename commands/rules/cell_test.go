package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
)

// sampleOrder has a value for every fact.
func sampleOrder() domain.Order {
	given := domain.MustDecimal("99.50")
	return domain.Order{
		Details: domain.Details{
			Kind:          domain.Sample,
			Channel:       "web",
			PurchaseOrder: "PO 4711",
			References:    []domain.Reference{{Kind: "contract", Value: "C-9"}},
			Currency:      "EUR",
			Parties: domain.Parties{
				Buyer: domain.Party{
					Identifiers: []domain.Identifier{{Scheme: "gln", Value: "4000001000005"}, {Scheme: "customer", Value: "C-1001"}},
					Country:     "FR",
				},
				ShipTo: domain.Party{Country: "US", Region: "CA"},
			},
			Terms: domain.Terms{
				Incoterms: domain.Incoterms{Rule: "DAP"}, Payment: "net30", CompleteDelivery: true, Priority: 7,
			},
			TotalGiven: &given,
			Extensions: []domain.Extension{{Name: "colour", Value: "blue"}},
		},
		Lines: []domain.OrderLine{
			{Line: domain.Line{ID: "1", SKU: "LENS-RX-156-A", Quantity: domain.Whole(2), Unit: "PR", Price: domain.Price{Amount: domain.MustDecimal("45.5")},
				Configuration: domain.Configuration{SHA256: strings.Repeat("ab", 32)}}},
			{Line: domain.Line{ID: "2", SKU: "FRAME-7", GTIN: "04012345678901", Quantity: domain.MustDecimal("10.5")}, Cancelled: domain.Whole(2)},
			{Line: domain.Line{ID: "3", SKU: "GONE", Quantity: domain.Whole(99)}, Cancelled: domain.Whole(99)},
		},
		Totals: domain.Totals{Total: domain.MustDecimal("100.00")},
	}
}

func TestCells(t *testing.T) {
	tests := []struct {
		conditions string // of a row
		want       bool
	}{
		// Every fact of an order.
		{`when: {kind: sample}`, true},
		{`when: {kind: standard}`, false},
		{`when: {channel: web}`, true},
		{`when: {currency: EUR}`, true},
		{`when: {total: 100}`, true},
		{`when: {total_differs: yes}`, true},
		{`when: {total_differs: no}`, false},
		{`when: {country: US}`, true},
		{`when: {country: FR}`, false},
		{`when: {region: CA}`, true},
		{`when: {buyer_country: FR}`, true},
		{`when: {customer: C-1001}`, true},
		{`when: {customer: "4000001000005"}`, false},
		{`when: {lines: 2}`, true}, // the third is cancelled
		{`when: {quantity: 10.5}`, true},
		{`when: {priority: 7}`, true},
		{`when: {incoterms: DAP}`, true},
		{`when: {payment: net30}`, true},
		{`when: {complete_delivery: yes}`, true},
		{`when: {substitution: yes}`, false},
		{`when: {substitution: no}`, true},
		{`when: {purchase_order: PO 4711}`, true},
		{`when: {extension.colour: blue}`, true},
		{`when: {extension.size: missing}`, true},
		{`when: {reference.contract: C-*}`, true},
		{`when: {reference.order: present}`, false},
		// Every fact of a line.
		{`any_line: {sku: FRAME-7}`, true},
		{`any_line: {sku: GONE}`, false}, // cancelled
		{`any_line: {gtin: "04012345678901"}`, true},
		{`any_line: {quantity: 8.5}`, true}, // what is not cancelled
		{`any_line: {unit: C62}`, true},     // where none is given
		{`any_line: {price: 45.50}`, true},
		{`any_line: {configured: yes}`, true},
		{`any_line: {configured: no}`, true},
		// One line has to satisfy all cells of any_line, every line those of every_line.
		{`any_line: {sku: FRAME-7, configured: yes}`, false},
		{`any_line: {sku: LENS-*, configured: yes}`, true},
		{`every_line: {configured: yes}`, false},
		{`every_line: {quantity: "< 9"}`, true},
		{`every_line: {sku: [LENS-*, FRAME-*]}`, true},
		{`{when: {country: US}, any_line: {sku: FRAME-*}, every_line: {quantity: "> 1"}}`, true},
		{`{when: {country: US}, any_line: {sku: FRAME-*}, every_line: {quantity: "> 2"}}`, false},
		{`{when: {country: US}, any_line: {sku: NONE}, every_line: {quantity: "> 1"}}`, false},
		{`{when: {country: DE}, any_line: {sku: FRAME-*}, every_line: {quantity: "> 1"}}`, false},
		// Texts.
		{`when: {country: [DE, US]}`, true},
		{`when: {country: [DE, FR]}`, false},
		{`when: {country: [DE, DE, FR, IT, ES, PT, NL, BE, LU, US, AT]}`, true},
		{`when: {country: [DE, FR, IT, ES, PT, NL, BE, LU, AT, CH]}`, false},
		{`when: {country: $america}`, true},
		{`when: {country: [DE, $america]}`, true},
		{`when: {country: $wide}`, true},
		{`when: {country: not US}`, false},
		{`when: {country: not DE}`, true},
		{`when: {country: not $america}`, false},
		{`when: {country: {not: [DE, $america]}}`, false},
		{`when: {country: {not: [DE, FR]}}`, true},
		{`when: {country: present}`, true},
		{`when: {country: missing}`, false},
		{`when: {country: [missing, US]}`, true},
		{`when: {country: not missing}`, true},
		{`when: {country: us}`, false}, // refused, see below: never that value
		{`when: {payment: "= net30"}`, true},
		{`when: {payment: "= missing"}`, false},
		{`when: {payment: "= net*"}`, false},
		{`when: {customer: C-*}`, true},
		{`when: {customer: "*1001"}`, true},
		{`when: {customer: "*-*0*1"}`, true},
		{`when: {customer: "*-*0*2"}`, false},
		{`when: {customer: "C-1001*"}`, true},
		{`when: {customer: "*C-1001"}`, true},
		{`when: {customer: "C-10*001"}`, false}, // the ends may not overlap
		{`when: {customer: "*"}`, true},
		{`when: {extension.size: "*"}`, false}, // a missing text is nothing
		{`when: {extension.size: not L}`, true},
		{`any_line: {sku: $glass}`, true},
		// Numbers.
		{`when: {total: "> 99.99"}`, true},
		{`when: {total: "> 100"}`, false},
		{`when: {total: ">= 100"}`, true},
		{`when: {total: ">=100.01"}`, false},
		{`when: {total: "< 100"}`, false},
		{`when: {total: "< 100.01"}`, true},
		{`when: {total: "<= 100"}`, true},
		{`when: {total: "<= 99.99"}`, false},
		{`when: {total: "= 100.00"}`, true},
		{`when: {total: 100..200}`, true},
		{`when: {total: 50 .. 100}`, true},
		{`when: {total: 101..200}`, false},
		{`when: {total: -5..99}`, false},
		{`when: {total: [5, "> 90"]}`, true},
		{`when: {total: not 100}`, false},
		{`when: {total: not 5..7}`, true},
		{`when: {total: {not: [5, "> 90"]}}`, false},
		// Yes and no.
		{`when: {complete_delivery: true}`, true},
		{`when: {complete_delivery: "yes"}`, true},
		{`when: {complete_delivery: false}`, false},
		{`when: {complete_delivery: not yes}`, false},
		{`{}`, true},
	}
	for _, test := range tests {
		t.Run(test.conditions, func(t *testing.T) {
			set, err := rules.Parse([]byte(oneRow(test.conditions)))
			if strings.Contains(test.conditions, "us}") {
				if err == nil {
					t.Fatal("a country that does not exist was taken")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			j := set.Validate(new(sampleOrder()))
			if got := j.Verdict == domain.VerdictAccepted; got != test.want {
				t.Errorf("matches: %t, want %t", got, test.want)
			}
			if j.Decision.RuleSet != set.Hash() {
				t.Errorf("the decision names rule set %q, not %q", j.Decision.RuleSet, set.Hash())
			}
		})
	}
}

// oneRow is a rule set that accepts what the conditions match and nothing else.
func oneRow(conditions string) string {
	row := "row: V1, then: accept"
	switch {
	case conditions == "{}":
	case strings.HasPrefix(conditions, "{"):
		row += ", " + conditions[1:len(conditions)-1]
	default:
		row += ", " + conditions
	}
	return fmt.Sprintf(`
version: 1
name: one row
lists:
  america: [US, CA]
  wide: [$america, MX]
  glass: [LENS-*]
sites: {main: {}}
validation:
  - {%s}
routing:
  - {row: R1, to: main}
`, row)
}

func TestOrderWithoutFacts(t *testing.T) {
	for _, conditions := range []string{
		`when: {kind: standard}`, `when: {customer: missing}`, `when: {country: missing}`, `when: {lines: 0}`,
		`when: {quantity: 0}`, `when: {total_differs: no}`, `every_line: {sku: NONE}`,
	} {
		set, err := rules.Parse([]byte(oneRow(conditions)))
		if err != nil {
			t.Fatal(err)
		}
		if set.Validate(new(domain.Order)).Verdict != domain.VerdictAccepted {
			t.Errorf("%s does not match the empty order", conditions)
		}
	}
}

func TestCustomerWithoutCustomerNumber(t *testing.T) {
	set, err := rules.Parse([]byte(oneRow(`when: {customer: "4000001000005"}`)))
	if err != nil {
		t.Fatal(err)
	}
	o := sampleOrder()
	o.Parties.Buyer.Identifiers = o.Parties.Buyer.Identifiers[:1]
	if set.Validate(&o).Verdict != domain.VerdictAccepted {
		t.Error("the first identifier does not stand in for the customer number")
	}
	o.Parties.Buyer.Identifiers = []domain.Identifier{
		{Scheme: "customer", Value: domain.UnknownParty}, {Scheme: "vat", Value: "1"}, {Scheme: "gln", Value: "4000001000005"},
	}
	if set.Validate(&o).Verdict != domain.VerdictAccepted {
		t.Error("another identifier stands in for a customer number that nobody knows")
	}
}

func TestQuantityBeyondAllDigits(t *testing.T) {
	set, err := rules.Parse([]byte(oneRow(`when: {quantity: "> 9999999999"}`)))
	if err != nil {
		t.Fatal(err)
	}
	o := domain.Order{Lines: []domain.OrderLine{
		{Line: domain.Line{ID: "1", Quantity: domain.MustDecimal("9999999999999999999")}},
		{Line: domain.Line{ID: "2", Quantity: domain.MustDecimal("0.000001")}},
	}}
	if set.Validate(&o).Verdict != domain.VerdictAccepted {
		t.Error("a sum with too many digits is not large")
	}
}
