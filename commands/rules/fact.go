package rules

import (
	"math"
	"strings"

	"github.com/orderledger/orderledger/domain"
)

// A subject is what cells are asked about: an order, or one line of it.
type subject struct {
	order    *domain.Order
	line     *domain.OrderLine // nil: the order
	quantity domain.Decimal    // of the line
}

func (s subject) nameOf(f *fact) string {
	if s.line == nil {
		return f.name
	}
	return "line " + s.line.ID + " " + f.name
}

// A value is one of its members, as the kind of its fact tells.
type value struct {
	text   string // empty: missing
	number domain.Decimal
	yes    bool
}

type kind int

const (
	textFact kind = iota
	numberFact
	yesNoFact
)

// A fact is something that rules may look at. None is personal data.
type fact struct {
	name string
	kind kind
	get  func(subject) value
	bad  func(string) bool // a value that the fact never has; nil: there are none
}

// show writes a value for people.
func (f *fact) show(v value) string {
	switch f.kind {
	case numberFact:
		return v.number.String()
	case yesNoFact:
		if v.yes {
			return "yes"
		}
		return "no"
	}
	return v.text
}

var orderFacts = []fact{
	{name: "kind", get: func(s subject) value { return value{text: kindOf(s.order)} }, bad: badKind},
	{name: "channel", get: func(s subject) value { return value{text: s.order.Channel} }},
	{name: "currency", get: func(s subject) value { return value{text: s.order.Currency} }, bad: badCurrency},
	{name: "total", kind: numberFact, get: func(s subject) value { return value{number: s.order.Totals.Total} }},
	{name: "total_differs", kind: yesNoFact, get: func(s subject) value {
		given := s.order.TotalGiven
		return value{yes: given != nil && *given != s.order.Totals.Total}
	}},
	{name: "country", get: func(s subject) value { return value{text: s.order.ShipTo().Country} }, bad: badCountry},
	{name: "region", get: func(s subject) value { return value{text: s.order.ShipTo().Region} }},
	{name: "buyer_country", get: func(s subject) value { return value{text: s.order.Parties.Buyer.Country} }, bad: badCountry},
	{name: "customer", get: func(s subject) value { return value{text: customerOf(s.order)} }},
	{name: "lines", kind: numberFact, get: func(s subject) value { return value{number: linesOf(s.order)} }},
	{name: "quantity", kind: numberFact, get: func(s subject) value { return value{number: quantityOf(s.order)} }},
	{name: "priority", kind: numberFact, get: func(s subject) value { return value{number: domain.Whole(int64(s.order.Terms.Priority))} }},
	{name: "incoterms", get: func(s subject) value { return value{text: s.order.Terms.Incoterms.Rule} }},
	{name: "payment", get: func(s subject) value { return value{text: s.order.Terms.Payment} }},
	{name: "complete_delivery", kind: yesNoFact, get: func(s subject) value { return value{yes: s.order.Terms.CompleteDelivery} }},
	{name: "substitution", kind: yesNoFact, get: func(s subject) value { return value{yes: s.order.Terms.Substitution} }},
	{name: "purchase_order", get: func(s subject) value { return value{text: s.order.PurchaseOrder} }},
}

var lineFacts = []fact{
	{name: "sku", get: func(s subject) value { return value{text: s.line.SKU} }},
	{name: "gtin", get: func(s subject) value { return value{text: s.line.GTIN} }},
	{name: "quantity", kind: numberFact, get: func(s subject) value { return value{number: s.quantity} }},
	{name: "unit", get: func(s subject) value { return value{text: unitOf(s.line)} }},
	{name: "price", kind: numberFact, get: func(s subject) value { return value{number: s.line.Price.Amount} }},
	{name: "configured", kind: yesNoFact, get: func(s subject) value { return value{yes: s.line.Configuration != domain.Configuration{}} }},
}

// orderFact returns a fact of orders by its name, or nil. An order's extensions and references are facts too.
func orderFact(name string) *fact {
	if n, ok := strings.CutPrefix(name, "extension."); ok && n != "" {
		return &fact{name: name, get: func(s subject) value { return value{text: extensionOf(s.order, n)} }}
	}
	if k, ok := strings.CutPrefix(name, "reference."); ok && k != "" {
		return &fact{name: name, get: func(s subject) value { return value{text: referenceOf(s.order, k)} }}
	}
	return named(orderFacts, name)
}

// lineFact returns a fact of lines by its name, or nil.
func lineFact(name string) *fact { return named(lineFacts, name) }

func named(facts []fact, name string) *fact {
	for i := range facts {
		if facts[i].name == name {
			return &facts[i]
		}
	}
	return nil
}

func names(facts []fact) string {
	var all []string
	for _, f := range facts {
		all = append(all, f.name)
	}
	return strings.Join(all, ", ")
}

func kindOf(o *domain.Order) string {
	if o.Kind == "" {
		return string(domain.Standard)
	}
	return string(o.Kind)
}

// customerOf is the number under which the buyer is known.
func customerOf(o *domain.Order) string {
	customer, _ := o.Parties.Buyer.Customer()
	return customer.Value
}

func linesOf(o *domain.Order) domain.Decimal {
	n := 0
	for i := range o.Lines {
		if o.Lines[i].Active().Sign() > 0 {
			n++
		}
	}
	return domain.Whole(int64(n))
}

// quantityOf adds up the lines, whatever their units. A sum with too many digits is larger than any number in a rule.
func quantityOf(o *domain.Order) domain.Decimal {
	var sum domain.Decimal
	for i := range o.Lines {
		var err error
		if sum, err = sum.Add(o.Lines[i].Active()); err != nil {
			return domain.Whole(math.MaxInt64)
		}
	}
	return sum
}

func unitOf(l *domain.OrderLine) string {
	if l.Unit == "" {
		return "C62"
	}
	return l.Unit
}

func extensionOf(o *domain.Order, name string) string {
	for _, e := range o.Extensions {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func referenceOf(o *domain.Order, kind string) string {
	for _, r := range o.References {
		if r.Kind == kind {
			return r.Value
		}
	}
	return ""
}

func badCountry(s string) bool { return !domain.ValidCountry(s) }

func badCurrency(s string) bool {
	_, ok := domain.MinorUnits(s)
	return !ok
}

func badKind(s string) bool {
	switch domain.Kind(s) {
	case domain.Standard, domain.Sample, domain.Replacement, domain.ReturnKind:
		return false
	}
	return true
}
