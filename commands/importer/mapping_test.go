package importer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orderledger/orderledger/commands/importer"
)

func TestParseMappingRefuses(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string // the lines of the error after the first one
	}{
		"empty":            {"", nil},
		"no mapping":       {"[1, 2]", []string{"line 1: cannot unmarshal !!seq into mapping"}},
		"no YAML":          {"a: [", nil},
		"two documents":    {shop + "---\n" + shop, nil},
		"oversized":        {shop + strings.Repeat("#", 256<<10), nil},
		"unknown key":      {shop + "colour: blue\n", []string{"line 20: unknown key colour"}},
		"unknown field":    {strings.Replace(shop, "customer: customer", "customer: {colum: c, column: c}", 1), []string{"line 14: unknown key colum"}},
		"a list as field":  {strings.Replace(shop, "customer: customer", "customer: [c]", 1), []string{"line 14: a field is the name of a column, or an object"}},
		"the wrong type":   {strings.Replace(shop, "settled: true", "settled: perhaps", 1), []string{"line 6: cannot unmarshal !!str `perhaps` into bool"}},
		"two wrong things": {strings.Replace(shop, "window: 3", "window: x", 1) + "colour: blue\n", []string{"line 5: cannot unmarshal !!str `x` into int", "line 20: unknown key colour"}},
		"next to nothing": {"version: 2", []string{
			"version: this program reads version 1, not 2",
			"source: a name of 1 to 100 letters, digits, points, hyphens and underscores is needed: it tells the orders of this source from all others",
			"group: name the column that lines of one order share",
			"occurred: name the column and its layouts",
			`occurred.zone: "" is no time zone such as Europe/London or UTC`,
			"line.price: name a column or a constant",
			"line.quantity: name a column or a constant",
			"line.sku: name a column or a constant",
			"order.currency: name a column or a constant",
			"order.customer: name a column or a constant",
		}},
		"everything": {`
version: 1
source: a/b
format: xml
window: 100001
group: g
credits: {prefix: C}
skip: [{column: a}]
occurred: {column: t, layouts: [yyyy-mm-dd, "2006-01-02 MST", "15:04"], zone: Mars/Olympus}
order:
  currency: {constant: XXX}
  customer: {column: c, constant: d}
  country: {column: c, only: true}
  region: {default: x}
  references: {contract: {values: {a: b}}}
line:
  sku: {column: s, decimal: ","}
  quantity: {column: q, decimal: ",", thousands: ","}
  price: {column: p, thousands: "."}
  gtin: {column: g, thousands: "x"}
`, []string{
			"source: a name of 1 to 100 letters, digits, points, hyphens and underscores is needed: it tells the orders of this source from all others",
			`format: csv, tsv or jsonl, not "xml"`,
			"window: 1 to 100000 lines, not 100001",
			"credits: name a column, and a prefix or values",
			"skip[0]: name a column, and a prefix or values",
			`occurred.layouts: "yyyy-mm-dd" does not tell a day: it is written as 2006-01-02 15:04:05, in the order and form that the file has`,
			`occurred.layouts: "2006-01-02 MST" has an abbreviation of a time zone, and these are not unique`,
			`occurred.layouts: "15:04" does not tell a day: it is written as 2006-01-02 15:04:05, in the order and form that the file has`,
			`occurred.zone: "Mars/Olympus" is no time zone such as Europe/London or UTC`,
			"line.gtin: decimal and thousands are marks of a number, and this is none",
			`line.price: "." cannot stand before the fraction and between groups of digits`,
			`line.quantity: "," cannot stand before the fraction and between groups of digits`,
			"line.sku: decimal and thousands are marks of a number, and this is none",
			"order.country: only lists no values",
			"order.customer: it is a column or a constant, not both",
			"order.references.contract: name a column or a constant",
			"order.region: name a column or a constant",
			`order.currency: "XXX" is not a currency of ISO 4217`,
		}},
		"a digit as mark": {strings.Replace(shop, "price: price", "price: {column: price, thousands: '0'}", 1), []string{"line.price: digits and signs are no marks between digits"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := importer.ParseMapping(strings.NewReader(test.text))
			if err == nil {
				t.Fatal("the mapping was taken")
			}
			var got []string
			for i, line := range strings.Split(err.Error(), "\n") {
				if i > 0 {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", err, strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestCarriedMappings(t *testing.T) {
	files, err := filepath.Glob("../../docs/mappings/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("there are none", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := importer.ParseMapping(strings.NewReader(string(text))); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func FuzzParseMapping(f *testing.F) {
	f.Add(shop)
	f.Add("version: 1\nsource: a\nformat: jsonl\n")
	f.Add("order: {references: {a: &x {column: b}, c: *x}}")
	f.Add("occurred: {column: t, layouts: [\"2006-01-02T15:04:05Z07:00\"], zone: UTC}")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := importer.ParseMapping(strings.NewReader(text))
		if (m == nil) == (err == nil) {
			t.Fatalf("mapping %v, error %v", m, err)
		}
		if err != nil && (strings.TrimSpace(err.Error()) == "" || strings.HasSuffix(err.Error(), ":\n")) {
			t.Fatalf("an error without a sentence: %q", err)
		}
	})
}
