package importer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/orderledger/orderledger/domain"
)

// A builder makes orders and lines of the records of one file.
type builder struct {
	mapping *mapping

	width           int // columns of the file
	group, occurred int // columns
	credits         int
	skips           []int // columns of the mapping's skips
	orderTexts      []boundText[Order]
	references      []boundExtra
	extensions      []boundExtra
	same            []boundText[Order] // those of orderTexts in which all lines of an order agree
	lineTexts       []boundText[domain.Line]
	quantity, price boundField
}

// A boundField is a field whose column has been found.
type boundField struct {
	*field
	column int // -1: it has none
}

type boundText[T any] struct {
	boundField
	of func(*T) *string
}

// A boundExtra is a reference or extension.
type boundExtra struct {
	boundField
	name string
}

// ErrMapping is returned for a file that the mapping cannot be meant for. Nothing of it was imported.
var ErrMapping = errors.New("the file does not fit the mapping")

// newBuilder finds the columns of a mapping in the heading of a file.
func newBuilder(m *mapping, heading record) (*builder, error) {
	if heading.fault != "" {
		return nil, fmt.Errorf("%w: its heading cannot be read: %s", ErrMapping, heading.fault)
	}
	index := make(map[string]int)
	var twice []string
	for i, name := range heading.fields {
		name = strings.TrimSpace(name)
		if _, ok := index[name]; ok {
			twice = append(twice, name)
		}
		index[name] = i
	}
	var faults []string
	for _, name := range m.columns() {
		if _, ok := index[name]; !ok {
			faults = append(faults, fmt.Sprintf("it has no column %q", name))
		} else if slices.Contains(twice, name) {
			faults = append(faults, fmt.Sprintf("it has several columns %q", name))
		}
	}
	if faults != nil {
		return nil, fmt.Errorf("%w: %s", ErrMapping, strings.Join(faults, ", "))
	}

	bind := func(f *field) boundField {
		if f.Column == "" {
			return boundField{f, -1}
		}
		return boundField{f, index[f.Column]}
	}
	extras := func(fields map[string]field) []boundExtra {
		var all []boundExtra
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			f := fields[name]
			all = append(all, boundExtra{bind(&f), name})
		}
		return all
	}
	b := &builder{
		mapping: m, width: len(heading.fields),
		group: index[m.Group], occurred: index[m.Occurred.Column],
		references: extras(m.Order.References), extensions: extras(m.Order.Extensions),
		quantity: bind(&m.Line.Quantity), price: bind(&m.Line.Price),
	}
	if m.Credits != nil {
		b.credits = index[m.Credits.Column]
	}
	for _, s := range m.Skip {
		b.skips = append(b.skips, index[s.Column])
	}
	for _, t := range m.orderTexts() {
		if !t.field.given() {
			continue
		}
		bound := boundText[Order]{bind(t.field), t.of}
		b.orderTexts = append(b.orderTexts, bound)
		if f := t.field; bound.column >= 0 && (f == &m.Order.Customer || f == &m.Order.Country || f == &m.Order.Currency) {
			b.same = append(b.same, bound)
		}
	}
	for _, t := range m.lineTexts() {
		if t.field.given() {
			b.lineTexts = append(b.lineTexts, boundText[domain.Line]{bind(t.field), t.of})
		}
	}
	return b, nil
}

// value returns what a record says for a field. It reports false for a value that the mapping had to list.
func (f *boundField) value(r record) (string, bool) {
	value := f.Constant
	if f.column >= 0 {
		value = strings.TrimSpace(r.fields[f.column])
	}
	known := true
	if len(f.Values) > 0 && value != "" {
		mapped, listed := f.Values[value]
		if listed {
			value = mapped
		}
		known = listed || !f.Only
	}
	return cmp.Or(value, f.Default), known
}

func (r record) reject(field, code, detail string) *reject {
	return &reject{r.origin, field, code, detail}
}

func (r record) unknown(f *boundField) *reject {
	return r.reject(f.Column, "unknown_value", "the mapping does not list this value")
}

// unusable rejects a record that belongs to no order.
func (b *builder) unusable(r record) *reject {
	switch {
	case r.fault != "":
		return r.reject("", r.fault, unreadable)
	case len(r.fields) != b.width:
		return r.reject("", "wrong_number_of_columns", fmt.Sprintf("the line has %d columns, the heading %d", len(r.fields), b.width))
	}
	for i, column := range b.skips {
		if skip := &b.mapping.Skip[i]; skip.matches(strings.TrimSpace(r.fields[column])) {
			return r.reject(skip.Column, cmp.Or(skip.Code, "skipped"), "the mapping leaves such lines out")
		}
	}
	if strings.TrimSpace(r.fields[b.group]) == "" {
		return r.reject(b.mapping.Group, "missing", "the line names no order")
	}
	return nil
}

// Details of rejects that have more than one place.
const (
	unreadable = "the line cannot be read"
	longKey    = "source and order make a key of more than 255 characters"
)

func (b *builder) isCredit(r record) bool {
	return b.mapping.Credits != nil && b.mapping.Credits.matches(strings.TrimSpace(r.fields[b.credits]))
}

// begin makes the draft of an order from its first line, but without it.
func (b *builder) begin(group string, r record) (*draft, *reject) {
	m := b.mapping
	d := &draft{group: group, credit: b.isCredit(r)}
	o := &d.order
	var ok bool
	if o.Key, ok = m.key(group); !ok {
		return nil, r.reject(m.Group, "invalid_group", longKey)
	}
	if o.Occurred, ok = m.Occurred.read(strings.TrimSpace(r.fields[b.occurred])); !ok {
		return nil, r.reject(m.Occurred.Column, "invalid_time", "the time has none of the layouts of the mapping")
	}
	s := &o.Submit
	s.Channel, s.Settled, s.Kind = domain.ChannelImport, m.Settled, domain.Standard
	if d.credit {
		s.Kind = domain.ReturnKind
	}
	s.Parties.Buyer.Identifiers = []domain.Identifier{{Scheme: "customer"}}
	if m.Order.Street.given() {
		o.Personal.Buyer.Street = make([]string, 1)
	}
	for i := range b.orderTexts {
		t := &b.orderTexts[i]
		if *t.of(o), ok = t.value(r); !ok {
			return nil, r.unknown(&t.boundField)
		}
	}
	if street := o.Personal.Buyer.Street; street != nil && street[0] == "" {
		o.Personal.Buyer.Street = nil
	}
	for i := range b.references {
		x := &b.references[i]
		v, ok := x.value(r)
		if !ok {
			return nil, r.unknown(&x.boundField)
		}
		if v != "" {
			s.References = append(s.References, domain.Reference{Kind: x.name, Value: v})
		}
	}
	for i := range b.extensions {
		x := &b.extensions[i]
		v, ok := x.value(r)
		if !ok {
			return nil, r.unknown(&x.boundField)
		}
		if v != "" {
			s.Extensions = append(s.Extensions, domain.Extension{Name: x.name, Value: v})
		}
	}
	return d, nil
}

// contradiction names a column in which a line differs from the first line of its order.
func (b *builder) contradiction(d *draft, r record) string {
	if b.isCredit(r) != d.credit {
		return b.mapping.Credits.Column
	}
	for i := range b.same {
		t := &b.same[i]
		if value, _ := t.value(r); value != *t.of(&d.order) {
			return t.Column
		}
	}
	return ""
}

// line makes a line of an order.
func (b *builder) line(r record, credit bool) (domain.Line, *reject) {
	var l domain.Line
	for i := range b.lineTexts {
		t := &b.lineTexts[i]
		value, ok := t.value(r)
		if !ok {
			return l, r.unknown(&t.boundField)
		}
		*t.of(&l) = value
	}
	var reject *reject
	if l.Quantity, reject = b.number(r, &b.quantity); reject != nil {
		return l, reject
	}
	if l.Price.Amount, reject = b.number(r, &b.price); reject != nil {
		return l, reject
	}
	if credit {
		l.Quantity = l.Quantity.Neg()
	}
	switch sign := l.Quantity.Sign(); {
	case sign == 0:
		return l, r.reject(b.quantity.Column, "zero_quantity", "nothing was ordered")
	case sign < 0 && credit:
		return l, r.reject(b.quantity.Column, "positive_quantity_in_credit", "a credit takes back, and this line does not")
	case sign < 0:
		return l, r.reject(b.quantity.Column, "negative_quantity", "only a credit takes back")
	case l.Price.Amount.Sign() < 0:
		return l, r.reject(b.price.Column, "negative_price", "a price is not below zero")
	}
	var malformed *domain.Malformed
	if errors.As(l.Check(), &malformed) {
		return l, r.reject(b.lineColumn(malformed.Field), malformed.Code, malformed.Detail)
	}
	return l, nil
}

// lineColumn names the column that a field of a line came from.
func (b *builder) lineColumn(name string) string {
	name, _, _ = strings.Cut(name, ".")
	for _, f := range b.mapping.fields() {
		if f.name == "line."+name {
			return cmp.Or(f.field.Column, name)
		}
	}
	return name
}
