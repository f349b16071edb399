package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/orderledger/orderledger/domain"
)

// A Mapping says how the lines of a file become orders. [ParseMapping] makes one; docs/import.md describes its form.
// It is safe for concurrent use.
type Mapping struct{ mapping }

type mapping struct {
	Version int    `yaml:"version"`
	Source  string `yaml:"source"`  // where the orders come from; part of every idempotency key
	Format  string `yaml:"format"`  // csv (default), tsv or jsonl
	Settled bool   `yaml:"settled"` // the orders were fulfilled before the ledger knew them: they are closed at once

	Group    string  `yaml:"group"`    // column whose value lines of one order share
	Window   int     `yaml:"window"`   // how many other lines may stand between two lines of one order
	Credits  *match  `yaml:"credits"`  // lines of orders of kind return, whose quantities are below zero
	Skip     []match `yaml:"skip"`     // lines to leave out
	Occurred moment  `yaml:"occurred"` // when the order was made

	Order orderFields `yaml:"order"`
	Line  lineFields  `yaml:"line"`
}

// orderFields are read from the first line of an order.
type orderFields struct {
	Currency      field            `yaml:"currency"`
	Customer      field            `yaml:"customer"`
	Country       field            `yaml:"country"`
	Region        field            `yaml:"region"`
	PurchaseOrder field            `yaml:"purchase_order"`
	ShipToCountry field            `yaml:"ship_to_country"`
	ShipToRegion  field            `yaml:"ship_to_region"`
	Name          field            `yaml:"name"`   // of the buyer; encrypted, like the next three
	Email         field            `yaml:"email"`  //
	Street        field            `yaml:"street"` //
	City          field            `yaml:"city"`   //
	References    map[string]field `yaml:"references"`
	Extensions    map[string]field `yaml:"extensions"`
}

// lineFields are read from every line.
type lineFields struct {
	SKU         field `yaml:"sku"`
	Description field `yaml:"description"`
	GTIN        field `yaml:"gtin"`
	Unit        field `yaml:"unit"`
	BuyerLine   field `yaml:"buyer_line"`
	Requested   field `yaml:"requested"` // as 2006-01-02
	Quantity    field `yaml:"quantity"`
	Price       field `yaml:"price"`
}

// A field says where a value comes from. In YAML a plain string names a column.
type field struct {
	Column    string            `yaml:"column"`
	Constant  string            `yaml:"constant"`
	Default   string            `yaml:"default"`   // where there is no value
	Values    map[string]string `yaml:"values"`    // what values become; one that is not listed stays as it is
	Only      bool              `yaml:"only"`      // a value that is not listed is an error
	Decimal   string            `yaml:"decimal"`   // the mark before the fraction of a number; a point where nothing is said
	Thousands string            `yaml:"thousands"` // the mark between groups of digits
}

// fieldKeys are the keys of a field in YAML.
var fieldKeys = []string{"column", "constant", "default", "values", "only", "decimal", "thousands"}

// UnmarshalYAML reads a field or the name of its column.
func (f *field) UnmarshalYAML(node *yaml.Node) error {
	switch node.Kind {
	case yaml.ScalarNode:
		f.Column = node.Value
		return nil
	case yaml.MappingNode:
		// Below a method of this kind yaml.v3 forgets that unknown keys are errors.
		for i := 0; i < len(node.Content); i += 2 {
			if key := node.Content[i]; !slices.Contains(fieldKeys, key.Value) {
				return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: unknown key %s", key.Line, key.Value)}}
			}
		}
		type plain field // without this method
		return node.Decode((*plain)(f))
	}
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: a field is the name of a column, or an object", node.Line)}}
}

// given reports whether the mapping says where the value comes from.
func (f *field) given() bool { return f.Column != "" || f.Constant != "" }

// A match chooses lines by the value of a column.
type match struct {
	Column string   `yaml:"column"`
	Prefix string   `yaml:"prefix"`
	Equals []string `yaml:"equals"`
	Code   string   `yaml:"code"` // why such a line is left out, in the rejects file
}

func (m *match) matches(value string) bool {
	return m.Prefix != "" && strings.HasPrefix(value, m.Prefix) || slices.Contains(m.Equals, value)
}

// A text is a text of an order or a line that a mapping may fill.
type text[T any] struct {
	name  string // of the field in the mapping
	field *field
	of    func(*T) *string
}

func (m *mapping) orderTexts() []text[Order] {
	f := &m.Order
	return []text[Order]{
		{"order.currency", &f.Currency, func(o *Order) *string { return &o.Submit.Currency }},
		{"order.customer", &f.Customer, func(o *Order) *string { return &o.Submit.Parties.Buyer.Identifiers[0].Value }},
		{"order.country", &f.Country, func(o *Order) *string { return &o.Submit.Parties.Buyer.Country }},
		{"order.region", &f.Region, func(o *Order) *string { return &o.Submit.Parties.Buyer.Region }},
		{"order.purchase_order", &f.PurchaseOrder, func(o *Order) *string { return &o.Submit.PurchaseOrder }},
		{"order.ship_to_country", &f.ShipToCountry, func(o *Order) *string { return &o.Submit.Parties.ShipTo.Country }},
		{"order.ship_to_region", &f.ShipToRegion, func(o *Order) *string { return &o.Submit.Parties.ShipTo.Region }},
		{"order.name", &f.Name, func(o *Order) *string { return &o.Personal.Buyer.Name }},
		{"order.email", &f.Email, func(o *Order) *string { return &o.Personal.Buyer.Email }},
		{"order.street", &f.Street, func(o *Order) *string { return &o.Personal.Buyer.Street[0] }},
		{"order.city", &f.City, func(o *Order) *string { return &o.Personal.Buyer.City }},
	}
}

func (m *mapping) lineTexts() []text[domain.Line] {
	f := &m.Line
	return []text[domain.Line]{
		{"line.sku", &f.SKU, func(l *domain.Line) *string { return &l.SKU }},
		{"line.description", &f.Description, func(l *domain.Line) *string { return &l.Description }},
		{"line.gtin", &f.GTIN, func(l *domain.Line) *string { return &l.GTIN }},
		{"line.unit", &f.Unit, func(l *domain.Line) *string { return &l.Unit }},
		{"line.buyer_line", &f.BuyerLine, func(l *domain.Line) *string { return &l.BuyerLine }},
		{"line.requested", &f.Requested, func(l *domain.Line) *string { return &l.Requested.Day }},
	}
}

// columns lists every column that the mapping names.
func (m *mapping) columns() []string {
	names := []string{m.Group, m.Occurred.Column}
	for _, f := range m.fields() {
		names = append(names, f.field.Column)
	}
	for _, s := range m.Skip {
		names = append(names, s.Column)
	}
	if m.Credits != nil {
		names = append(names, m.Credits.Column)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// maxKey is the length of the longest idempotency key.
const maxKey = 255

// key makes the idempotency key of the order that its source calls own. No two orders get the same key.
func (m *mapping) key(own string) (key string, ok bool) {
	key = m.Source + "/" + url.PathEscape(own)
	return key, len(key) <= maxKey
}

const (
	maxMapping    = 256 << 10
	defaultWindow = 1_000
	maxWindow     = 100_000
)

// ParseMapping reads a mapping and checks it. Its error lists everything that is wrong with it, a line each.
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
	var typed *yaml.TypeError
	switch err := dec.Decode(&m.mapping); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the mapping is empty")
	case errors.As(err, &typed):
		return nil, fmt.Errorf("the mapping does not have the form it should:\n%s", strings.Join(sentences(typed), "\n"))
	case err != nil:
		return nil, fmt.Errorf("reading the mapping: %w", err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the mapping is followed by a second document")
	}
	if faults := m.check(); len(faults) > 0 {
		return nil, fmt.Errorf("the mapping says what cannot be:\n%s", strings.Join(faults, "\n"))
	}
	return m, nil
}

// sentences drops names of Go types from the errors of yaml.v3.
func sentences(err *yaml.TypeError) []string {
	var all []string
	for _, s := range err.Errors {
		if where, _, ok := strings.Cut(s, " not found in type "); ok {
			s = strings.Replace(where, "field ", "unknown key ", 1)
		}
		all = append(all, strings.ReplaceAll(s, "importer.", ""))
	}
	return all
}
