package importer

import (
	"slices"
	"strings"
	"time"

	"github.com/orderledger/orderledger/domain"
)

// An Order is what the importer submits.
type Order struct {
	Key      string // idempotency key, the same at every run
	Occurred time.Time
	Submit   domain.Submit
	Personal domain.Personal
}

// A Reject is a line that could not be used.
type Reject struct {
	File   string
	Line   int64  // from 1, the heading included
	Field  string // column or field; empty: the line or its order as a whole
	Code   string // why, for programs
	Detail string // why, for people
	Text   string // the line
}

// A draft is an order whose lines are still being read.
type draft struct {
	group   string
	order   Order
	credit  bool
	lines   []record // where order.Submit.Lines come from
	last    int64    // how many records had been seen when its newest line came
}

// A grouper deals the lines of one file to orders. Lines of one order need not be neighbours, as long as no more than
// a window of other lines stand between them; only the orders within that window are kept in memory.
type grouper struct {
	mapping *Mapping
	file    string
	columns map[string]int
	open    map[string]*draft
	queue   []*draft // the open ones, that which had no line for longest first
	count   int64    // records seen
}

func newGrouper(m *Mapping, file string, heading record) (*grouper, *Reject) {
	g := &grouper{mapping: m, file: file, columns: make(map[string]int), open: make(map[string]*draft)}
	for i, name := range heading.fields {
		g.columns[strings.TrimSpace(name)] = i
	}
	for _, name := range m.columns() {
		if _, ok := g.columns[name]; name != "" && !ok {
			return nil, &Reject{File: file, Line: heading.number, Field: name, Code: "missing_column",
				Detail: "the file has no column " + name, Text: heading.text}
		}
	}
	return g, nil
}

// value returns a record's value for a field.
func (g *grouper) value(r record, f Field) (string, bool) {
	value := f.Constant
	if f.Column != "" {
		value = strings.TrimSpace(r.fields[g.columns[f.Column]])
	}
	if value == "" {
		return f.Default, true
	}
	if mapped, ok := f.Values[value]; ok {
		return mapped, true
	}
	return value, !f.Only
}

// add takes one record. It returns the drafts that are complete now, and a reject where the record can be given to no
// order.
func (g *grouper) add(r record) (done []*draft, reject *Reject) {
	g.count++
	done = g.ripe()
	fail := func(field, code, detail string) ([]*draft, *Reject) {
		return done, &Reject{File: g.file, Line: r.number, Field: field, Code: code, Detail: detail, Text: r.text}
	}
	switch {
	case r.fault != "":
		return fail("", r.fault, "the line cannot be read")
	case len(r.fields) != len(g.columns):
		return fail("", "wrong_number_of_columns", "the line has other columns than the heading")
	}
	for _, skip := range g.mapping.Skip {
		if skip.match(strings.TrimSpace(r.fields[g.columns[skip.Column]])) {
			code := skip.Code
			if code == "" {
				code = "skipped"
			}
			return fail(skip.Column, code, "the mapping leaves such lines out")
		}
	}
	group := strings.TrimSpace(r.fields[g.columns[g.mapping.Group]])
	if group == "" {
		return fail(g.mapping.Group, "missing", "the line names no order")
	}
	d := g.open[group]
	if d == nil {
		if d, reject = g.begin(group, r); reject != nil {
			return done, reject
		}
		g.open[group] = d
	} else if i := slices.Index(g.queue, d); i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	}
	d.last = g.count
	g.queue = append(g.queue, d)
	return done, g.line(d, r)
}

// ripe takes out the drafts whose window has passed.
func (g *grouper) ripe() []*draft {
	n := 0
	for n < len(g.queue) && g.count-g.queue[n].last > int64(g.mapping.Window) {
		delete(g.open, g.queue[n].group)
		n++
	}
	done := slices.Clone(g.queue[:n])
	g.queue = slices.Delete(g.queue, 0, n)
	return done
}

// rest takes out all drafts.
func (g *grouper) rest() []*draft {
	done := g.queue
	g.queue, g.open = nil, nil
	return done
}

// begin makes the draft of an order from its first line.
func (g *grouper) begin(group string, r record) (*draft, *Reject) {
	m := g.mapping
	d := &draft{group: group}
	d.order.Key = m.Source + "/" + group
	fail := func(field, code, detail string) (*draft, *Reject) {
		return nil, &Reject{File: g.file, Line: r.number, Field: field, Code: code, Detail: detail, Text: r.text}
	}
	if len(d.order.Key) > 255 || strings.ContainsFunc(d.order.Key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fail(m.Group, "invalid_group", "a source and order make a key of at most 255 visible ASCII characters")
	}
	var ok bool
	if d.order.Occurred, ok = m.Occurred.time(strings.TrimSpace(r.fields[g.columns[m.Occurred.Column]])); !ok {
		return fail(m.Occurred.Column, "invalid_time", "the time has none of the layouts of the mapping")
	}
	s := &d.order.Submit
	s.Channel, s.Settled, s.Kind = domain.ChannelImport, m.Settled, domain.Standard
	if c := m.Credits; c != nil && c.match(strings.TrimSpace(r.fields[g.columns[c.Column]])) {
		d.credit, s.Kind = true, domain.ReturnKind
	}
	var customer, street string
	p := &d.order.Personal
	for _, f := range []struct {
		field Field
		to    *string
	}{
		{m.Order.Currency, &s.Currency}, {m.Order.Customer, &customer}, {m.Order.PurchaseOrder, &s.PurchaseOrder},
		{m.Order.Country, &s.Parties.Buyer.Country}, {m.Order.Region, &s.Parties.Buyer.Region},
		{m.Order.ShipToCountry, &s.Parties.ShipTo.Country}, {m.Order.ShipToRegion, &s.Parties.ShipTo.Region},
		{m.Order.Name, &p.Buyer.Name}, {m.Order.Email, &p.Buyer.Email}, {m.Order.City, &p.Buyer.City}, {m.Order.Street, &street},
	} {
		if *f.to, ok = g.value(r, f.field); !ok {
			return fail(f.field.Column, "unknown_value", "the mapping lists no such value")
		}
	}
	if customer == "" {
		customer = domain.UnknownParty
	}
	s.Parties.Buyer.Identifiers = []domain.Identifier{{Scheme: "customer", Value: customer}}
	if street != "" {
		p.Buyer.Street = []string{street}
	}
	for _, name := range sortedKeys(m.Order.References) {
		if v, _ := g.value(r, m.Order.References[name]); v != "" {
			s.References = append(s.References, domain.Reference{Kind: name, Value: v})
		}
	}
	for _, name := range sortedKeys(m.Order.Extensions) {
		if v, _ := g.value(r, m.Order.Extensions[name]); v != "" {
			s.Extensions = append(s.Extensions, domain.Extension{Name: name, Value: v})
		}
	}
	return d, nil
}

func sortedKeys(m map[string]Field) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// line adds a line to a draft, unless it has to be rejected.
func (g *grouper) line(d *draft, r record) *Reject {
	m := g.mapping
	fail := func(field, code, detail string) *Reject {
		return &Reject{File: g.file, Line: r.number, Field: field, Code: code, Detail: detail, Text: r.text}
	}
	if field := g.contradiction(d, r); field != "" {
		return fail(field, "differs_from_order", "the line says something else than the first line of its order")
	}
	if len(d.lines) == domain.MaxLines {
		return fail(m.Group, "too_many_lines", "the order has as many lines as an order may have")
	}
	var l domain.Line
	for _, f := range []struct {
		field Field
		to    *string
	}{
		{m.Line.SKU, &l.SKU}, {m.Line.Description, &l.Description}, {m.Line.GTIN, &l.GTIN}, {m.Line.Unit, &l.Unit},
		{m.Line.BuyerLine, &l.BuyerLine}, {m.Line.Requested, &l.Requested.Day},
	} {
		value, ok := g.value(r, f.field)
		if !ok {
			return fail(f.field.Column, "unknown_value", "the mapping lists no such value")
		}
		*f.to = value
	}
	var ok bool
	if l.Quantity, ok = g.number(r, m.Line.Quantity); !ok {
		return fail(m.Line.Quantity.Column, "not_a_number", "the quantity is no decimal number")
	}
	if l.Price.Amount, ok = g.number(r, m.Line.Price); !ok {
		return fail(m.Line.Price.Column, "not_a_number", "the price is no decimal number")
	}
	if d.credit {
		l.Quantity = l.Quantity.Neg()
	}
	switch sign := l.Quantity.Sign(); {
	case sign == 0:
		return fail(m.Line.Quantity.Column, "zero_quantity", "nothing was ordered")
	case sign < 0 && d.credit:
		return fail(m.Line.Quantity.Column, "positive_quantity_in_credit", "a credit takes back, and this line does not")
	case sign < 0:
		return fail(m.Line.Quantity.Column, "negative_quantity", "only a credit takes back")
	case l.Price.Amount.Sign() < 0:
		return fail(m.Line.Price.Column, "negative_price", "a price is not below zero")
	}
	if err := l.Check(); err != nil {
		field, code, detail := fault(err)
		return fail(field, code, detail)
	}
	d.order.Submit.Lines = append(d.order.Submit.Lines, l)
	d.lines = append(d.lines, record{number: r.number, text: r.text})
	return nil
}

// contradiction names a column in which a line differs from the order that its first line made.
func (g *grouper) contradiction(d *draft, r record) string {
	s := &d.order.Submit
	for _, f := range []struct {
		field Field
		have  string
	}{
		{g.mapping.Order.Currency, s.Currency},
		{g.mapping.Order.Customer, s.Parties.Buyer.Identifiers[0].Value},
		{g.mapping.Order.Country, s.Parties.Buyer.Country},
	} {
		value, _ := g.value(r, f.field)
		if value != f.have && (value != "" || f.have != domain.UnknownParty) {
			return f.field.Column
		}
	}
	return ""
}

func (g *grouper) number(r record, f Field) (domain.Decimal, bool) {
	value, _ := g.value(r, f)
	if f.Thousands != "" {
		value = strings.ReplaceAll(value, f.Thousands, "")
	}
	if f.Decimal != "" {
		value = strings.Replace(value, f.Decimal, ".", 1)
	}
	d, err := domain.ParseDecimal(value)
	return d, err == nil
}
