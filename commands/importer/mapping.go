package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/orderledger/orderledger/domain"
)

// A Mapping says how the lines of a file become orders. docs/import.md describes its form.
type Mapping struct {
	Version int    `yaml:"version"`
	Source  string `yaml:"source"`  // where the orders come from; part of every idempotency key
	Format  string `yaml:"format"`  // csv (default), tsv or jsonl
	Settled bool   `yaml:"settled"` // the orders were fulfilled before the ledger knew them: they are closed at once

	Group    string    `yaml:"group"`    // column whose value lines of one order share
	Window   int       `yaml:"window"`   // how many other lines may stand between two lines of one order
	Credits  *Match    `yaml:"credits"`  // lines of orders of kind return, whose quantities are below zero
	Skip     []Match   `yaml:"skip"`     // lines to leave out
	Occurred TimeField `yaml:"occurred"` // when the order was made

	Order OrderFields `yaml:"order"`
	Line  LineFields  `yaml:"line"`
}

// OrderFields are read from the first line of an order.
type OrderFields struct {
	Currency      Field            `yaml:"currency"`
	Customer      Field            `yaml:"customer"`
	Country       Field            `yaml:"country"`
	Region        Field            `yaml:"region"`
	PurchaseOrder Field            `yaml:"purchase_order"`
	ShipToCountry Field            `yaml:"ship_to_country"`
	ShipToRegion  Field            `yaml:"ship_to_region"`
	Name          Field            `yaml:"name"`   // of the buyer; encrypted, like the next three
	Email         Field            `yaml:"email"`  //
	Street        Field            `yaml:"street"` //
	City          Field            `yaml:"city"`   //
	References    map[string]Field `yaml:"references"`
	Extensions    map[string]Field `yaml:"extensions"`
}

// LineFields are read from every line.
type LineFields struct {
	SKU         Field `yaml:"sku"`
	Description Field `yaml:"description"`
	GTIN        Field `yaml:"gtin"`
	Unit        Field `yaml:"unit"`
	BuyerLine   Field `yaml:"buyer_line"`
	Requested   Field `yaml:"requested"` // as 2006-01-02
	Quantity    Field `yaml:"quantity"`
	Price       Field `yaml:"price"`
}

// A Field says where a value comes from. In YAML a plain string names a column.
type Field struct {
	Column    string            `yaml:"column"`
	Constant  string            `yaml:"constant"`
	Default   string            `yaml:"default"`   // where the column is empty
	Values    map[string]string `yaml:"values"`    // what values become; one that is not listed stays as it is
	Only      bool              `yaml:"only"`      // a value that is not listed is an error
	Decimal   string            `yaml:"decimal"`   // the mark before the fraction of a number; a point where nothing is said
	Thousands string            `yaml:"thousands"` // the mark between groups of digits, which is dropped
}

// A TimeField is a moment.
type TimeField struct {
	Column  string   `yaml:"column"`
	Layouts []string `yaml:"layouts"` // as in Go's package time; tried in order
	Zone    string   `yaml:"zone"`    // where the clock stood that wrote times without zone

	location *time.Location
}

// A Match chooses lines by the value of a column.
type Match struct {
	Column string   `yaml:"column"`
	Prefix string   `yaml:"prefix"`
	Equals []string `yaml:"equals"`
	Code   string   `yaml:"code"` // why such a line is left out, in the rejects file
}

// UnmarshalYAML reads a field or the name of its column.
func (f *Field) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		f.Column = node.Value
		return nil
	}
	type plain Field // without this method
	return strictNode(node, (*plain)(f))
}

// strictNode decodes a node into v and refuses unknown keys, which yaml.v3 forgets to do below custom decoders.
func strictNode(node *yaml.Node, v any) error {
	text, err := yaml.Marshal(node)
	if err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	return nil
}

const (
	maxMapping    = 256 << 10
	defaultWindow = 1_000
	maxWindow     = 100_000
)

// ParseMapping reads a mapping and checks it.
func ParseMapping(r io.Reader) (*Mapping, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxMapping+1))
	if err != nil {
		return nil, fmt.Errorf("reading the mapping: %w", err)
	}
	if len(text) > maxMapping {
		return nil, fmt.Errorf("the mapping has more than %d bytes", maxMapping)
	}
	m := &Mapping{}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("reading the mapping: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("the mapping: %w", err)
	}
	return m, nil
}

// check completes the mapping with its defaults and returns everything that is wrong with it.
func (m *Mapping) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if m.Version != 1 {
		fault("version: this program reads version 1, not %d", m.Version)
	}
	if m.Source == "" || len(m.Source) > 100 {
		fault("source: a name of 1 to 100 bytes is needed: it tells the orders of this source from all others")
	}
	switch m.Format {
	case "":
		m.Format = "csv"
	case "csv", "tsv", "jsonl":
	default:
		fault("format: csv, tsv or jsonl, not %q", m.Format)
	}
	if m.Window == 0 {
		m.Window = defaultWindow
	}
	if m.Window < 0 || m.Window > maxWindow {
		fault("window: 1 to %d lines", maxWindow)
	}
	if m.Format != "jsonl" {
		faults = append(faults, m.checkColumns()...)
	}
	return errors.Join(faults...)
}

func (m *Mapping) checkColumns() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if m.Group == "" {
		fault("group: name the column that lines of one order share")
	}
	for _, required := range []struct {
		name  string
		field Field
	}{
		{"order.currency", m.Order.Currency}, {"order.customer", m.Order.Customer},
		{"line.sku", m.Line.SKU}, {"line.quantity", m.Line.Quantity}, {"line.price", m.Line.Price},
	} {
		if required.field.Column == "" && required.field.Constant == "" {
			fault("%s: name a column or a constant", required.name)
		}
	}
	if m.Occurred.Column == "" || len(m.Occurred.Layouts) == 0 {
		fault("occurred: name the column and its layouts")
	}
	location, err := time.LoadLocation(m.Occurred.Zone)
	if err != nil || m.Occurred.Zone == "" || m.Occurred.Zone == "Local" {
		fault("occurred.zone: %q is no time zone such as Europe/London or UTC", m.Occurred.Zone)
	}
	m.Occurred.location = location
	if c := m.Order.Currency.Constant; c != "" {
		if _, ok := domain.MinorUnits(c); !ok {
			fault("order.currency: %q is not a currency of ISO 4217", c)
		}
	}
	for i, s := range m.Skip {
		if s.Column == "" || s.Prefix == "" && len(s.Equals) == 0 {
			fault("skip[%d]: name a column, and a prefix or values", i)
		}
	}
	if c := m.Credits; c != nil && (c.Column == "" || c.Prefix == "" && len(c.Equals) == 0) {
		fault("credits: name a column, and a prefix or values")
	}
	return faults
}

// columns lists every column that the mapping names.
func (m *Mapping) columns() []string {
	names := []string{m.Group, m.Occurred.Column}
	for _, f := range []Field{
		m.Order.Currency, m.Order.Customer, m.Order.Country, m.Order.Region, m.Order.PurchaseOrder, m.Order.ShipToCountry,
		m.Order.ShipToRegion, m.Order.Name, m.Order.Email, m.Order.Street, m.Order.City,
		m.Line.SKU, m.Line.Description, m.Line.GTIN, m.Line.Unit, m.Line.BuyerLine, m.Line.Requested, m.Line.Quantity, m.Line.Price,
	} {
		names = append(names, f.Column)
	}
	for _, fields := range []map[string]Field{m.Order.References, m.Order.Extensions} {
		for _, f := range fields {
			names = append(names, f.Column)
		}
	}
	for _, s := range m.Skip {
		names = append(names, s.Column)
	}
	if m.Credits != nil {
		names = append(names, m.Credits.Column)
	}
	return names
}

// match reports whether the value of the match's column is one of those it names.
func (m *Match) match(value string) bool {
	if m.Prefix != "" && strings.HasPrefix(value, m.Prefix) {
		return true
	}
	for _, e := range m.Equals {
		if value == e {
			return true
		}
	}
	return false
}

// time reads a moment.
func (f *TimeField) time(value string) (time.Time, bool) {
	for _, layout := range f.Layouts {
		if t, err := time.ParseInLocation(layout, value, f.location); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
