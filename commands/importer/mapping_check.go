package importer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/orderledger/orderledger/domain"
)

// sourceName leaves out the slash, which ends the source in a key.
var sourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// check completes the mapping with its defaults and returns everything that is wrong with it.
func (m *mapping) check() []string {
	c := &mappingCheck{}
	if m.Version != 1 {
		c.fault("version: this program reads version 1, not %d", m.Version)
	}
	if !sourceName.MatchString(m.Source) {
		c.fault("source: a name of 1 to 100 letters, digits, points, hyphens and underscores is needed: it tells the orders of this source from all others")
	}
	switch m.Format {
	case "":
		m.Format = "csv"
	case "csv", "tsv", "jsonl":
	default:
		c.fault("format: csv, tsv or jsonl, not %q", m.Format)
	}
	if m.Format == "jsonl" {
		return c.faults
	}
	if m.Window == 0 {
		m.Window = defaultWindow
	}
	if m.Window < 0 || m.Window > maxWindow {
		c.fault("window: 1 to %d lines, not %d", maxWindow, m.Window)
	}
	if m.Group == "" {
		c.fault("group: name the column that lines of one order share")
	}
	c.match("credits", m.Credits)
	for i := range m.Skip {
		c.match(fmt.Sprintf("skip[%d]", i), &m.Skip[i])
	}
	c.moment(&m.Occurred)
	for _, f := range m.fields() {
		c.field(f)
	}
	if code := m.Order.Currency.Constant; code != "" {
		if _, ok := domain.MinorUnits(code); !ok {
			c.fault("order.currency: %q is not a currency of ISO 4217", code)
		}
	}
	if m.Order.Customer.Default == "" {
		m.Order.Customer.Default = domain.UnknownParty
	}
	return c.faults
}

// A namedField is a field with what a check and a reader need to know of it.
type namedField struct {
	name     string
	field    *field
	required bool
	number   bool
}

// fields lists all fields of orders and lines.
func (m *mapping) fields() []namedField {
	var all []namedField
	for _, t := range m.orderTexts() {
		all = append(all, namedField{name: t.name, field: t.field, required: t.name == "order.currency" || t.name == "order.customer"})
	}
	for name, group := range map[string]map[string]field{"order.references": m.Order.References, "order.extensions": m.Order.Extensions} {
		for key, f := range group {
			all = append(all, namedField{name: name + "." + key, field: &f, required: true})
		}
	}
	for _, t := range m.lineTexts() {
		all = append(all, namedField{name: t.name, field: t.field, required: t.name == "line.sku"})
	}
	all = append(all,
		namedField{name: "line.quantity", field: &m.Line.Quantity, required: true, number: true},
		namedField{name: "line.price", field: &m.Line.Price, required: true, number: true})
	slices.SortStableFunc(all, func(a, b namedField) int { return strings.Compare(a.name, b.name) })
	return all
}

type mappingCheck struct{ faults []string }

func (c *mappingCheck) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *mappingCheck) match(name string, m *match) {
	if m != nil && (m.Column == "" || m.Prefix == "" && len(m.Equals) == 0) {
		c.fault("%s: name a column, and a prefix or values", name)
	}
}

func (c *mappingCheck) field(n namedField) {
	f := n.field
	switch {
	case !f.given() && (n.required || f.Default != "" || f.Only || len(f.Values) > 0):
		c.fault("%s: name a column or a constant", n.name)
	case f.Column != "" && f.Constant != "":
		c.fault("%s: it is a column or a constant, not both", n.name)
	}
	if f.Only && len(f.Values) == 0 {
		c.fault("%s: only lists no values", n.name)
	}
	marks := f.Decimal + f.Thousands
	switch {
	case marks == "":
	case !n.number:
		c.fault("%s: decimal and thousands are marks of a number, and this is none", n.name)
	case strings.ContainsAny(marks, "0123456789-"):
		c.fault("%s: digits and signs are no marks between digits", n.name)
	case f.Thousands == f.decimal():
		c.fault("%s: %q cannot stand before the fraction and between groups of digits", n.name, f.Thousands)
	}
}

// decimal returns the mark before the fraction of a number.
func (f *field) decimal() string {
	if f.Decimal == "" {
		return "."
	}
	return f.Decimal
}

func (c *mappingCheck) moment(m *moment) {
	if m.Column == "" || len(m.Layouts) == 0 {
		c.fault("occurred: name the column and its layouts")
	}
	for _, layout := range m.Layouts {
		day := time.Date(1999, time.December, 31, 0, 0, 0, 0, time.UTC)
		read, err := time.Parse(layout, day.Format(layout))
		switch {
		case strings.Contains(layout, "MST"):
			c.fault("occurred.layouts: %q has an abbreviation of a time zone, and these are not unique", layout)
		case err != nil || read.Format(time.DateOnly) != day.Format(time.DateOnly):
			c.fault("occurred.layouts: %q does not tell a day: it is written as 2006-01-02 15:04:05, in the order and form that the file has", layout)
		}
	}
	location, err := time.LoadLocation(m.Zone)
	if err != nil || m.Zone == "" || m.Zone == "Local" {
		c.fault("occurred.zone: %q is no time zone such as Europe/London or UTC", m.Zone)
	}
	m.location = location
}
