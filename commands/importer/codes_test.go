package importer_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/domain"
)

// with returns a copy of a text in which something stands in the place of something else.
func with(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("there is no %q", old)
	}
	return strings.Replace(text, old, replacement, 1)
}

func TestRejects(t *testing.T) {
	const jsonl = "version: 1\nsource: shop\nformat: jsonl\n"
	const order = `{"key":"1","currency":"EUR","parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"C7"}]}},"lines":[{"sku":"A","quantity":"1","price":{"amount":"1"}}]}`
	long := strings.Repeat("x", 300)
	tests := map[string]struct {
		mapping string // shop where there is none
		lines   string // after the heading
		used    int64
		want    []string // line, code and field
	}{
		"nothing wrong":     {lines: good("1", "A") + good("1", "B") + good("2", "C"), used: 3},
		"price of zero":     {lines: "1,A,2,0,2024-05-01 10:00:00,C7,DE\n", used: 1},
		"no customer":       {lines: "1,A,2,1,2024-05-01 10:00:00,,DE\n1,B,2,1,2024-05-01 10:00:00,,DE\n", used: 2},
		"a value of nobody": {lines: "1,A,2,1,2024-05-01 10:00:00,,nowhere\n", used: 1},
		"negative quantity": {lines: good("1", "A") + "1,B,-2,1,2024-05-01 10:00:00,C7,DE\n", used: 1, want: []string{"3 negative_quantity quantity"}},
		"credit":            {lines: "C1,A,-2,1,2024-05-01 10:00:00,C7,DE\n", used: 1},
		"credit that sells": {lines: good("C1", "A"), want: []string{"2 positive_quantity_in_credit quantity"}},
		"nothing ordered":   {lines: "1,A,0,1,2024-05-01 10:00:00,C7,DE\n1,A,-0.00,1,2024-05-01 10:00:00,C7,DE\n", want: []string{"2 zero_quantity quantity", "3 zero_quantity quantity"}},
		"negative price":    {lines: "1,A,1,-1,2024-05-01 10:00:00,C7,DE\n", want: []string{"2 negative_price price"}},
		"no numbers": {
			lines: "1,A,1e3,1,2024-05-01 10:00:00,C7,DE\n1,A,1,£1,2024-05-01 10:00:00,C7,DE\n1,A,NaN,1,2024-05-01 10:00:00,C7,DE\n1,A,12345678901234567890,1,2024-05-01 10:00:00,C7,DE\n",
			want:  []string{"2 not_a_number quantity", "3 not_a_number price", "4 not_a_number quantity", "5 not_a_number quantity"},
		},
		"too large a number": {lines: "1,A,10000000000,1,2024-05-01 10:00:00,C7,DE\n1,A,1,0.0000001,2024-05-01 10:00:00,C7,DE\n", want: []string{"2 out_of_range quantity", "3 out_of_range price"}},
		"missing": {
			lines: ",A,1,1,2024-05-01 10:00:00,C7,DE\n1,,1,1,2024-05-01 10:00:00,C7,DE\n1,A, ,1,2024-05-01 10:00:00,C7,DE\n1,A,1,,2024-05-01 10:00:00,C7,DE\n",
			want:  []string{"2 missing order", "3 missing sku", "4 missing quantity", "5 missing price"},
		},
		"no time":         {lines: "1,A,1,1,yesterday,C7,DE\n" + good("1", "B"), used: 1, want: []string{"2 invalid_time time"}},
		"unknown country": {lines: "1,A,1,1,2024-05-01 10:00:00,C7,Atlantis\n", want: []string{"2 unknown_value country"}},
		"another customer": {
			lines: good("1", "A") + "1,B,1,1,2024-05-01 10:00:00,C8,DE\n1,B,1,1,2024-05-01 10:00:00,,DE\n1,B,1,1,2024-05-01 10:00:00,C7,Österreich\n", used: 1,
			want: []string{"3 differs_from_order customer", "4 differs_from_order customer", "5 differs_from_order country"},
		},
		"credit and order in one": {
			mapping: with(t, shop, "credits: {column: order, prefix: C}", "credits: {column: sku, prefix: R}"),
			lines:   good("1", "A") + "1,RX,-1,1,2024-05-01 10:00:00,C7,DE\n", used: 1, want: []string{"3 differs_from_order sku"},
		},
		"left out":          {lines: "1,POSTAGE,1,1,2024-05-01 10:00:00,C7,DE\n1,TESTING,1,1,2024-05-01 10:00:00,C7,DE\n", want: []string{"2 postage sku", "3 skipped sku"}},
		"columns":           {lines: "1,A,1\n" + strings.TrimSuffix(good("1", "A"), "\n") + ",\n", want: []string{"2 wrong_number_of_columns", "3 wrong_number_of_columns"}},
		"after a quote":     {lines: "\"1\"x,A,1,1,2024-05-01 10:00:00,C7,DE\n" + good("1", "B"), used: 1, want: []string{"2 malformed_csv"}},
		"endless quote":     {lines: "\"1,A,1,1,2024-05-01 10:00:00,C7,DE\n" + good("1", "B"), used: 1, want: []string{"2 unterminated_quote"}},
		"endless line":      {lines: strings.Repeat("x", 3<<20) + "\n" + good("1", "B"), used: 1, want: []string{"2 line_too_long"}},
		"not UTF-8":         {lines: "1,\xff,1,1,2024-05-01 10:00:00,C7,DE\n", want: []string{"2 invalid_utf8"}},
		"control character": {lines: "1,A\x00B,1,1,2024-05-01 10:00:00,C7,DE\n", want: []string{"2 control_character sku"}},
		"long article":      {lines: good("1", long), want: []string{"2 too_long sku"}},
		"another name of a column": {
			mapping: with(t, shop, "sku: sku", "sku: sku\n  gtin: country"), lines: good("1", "A"), want: []string{"2 invalid_gtin country"},
		},
		"long order":     {lines: good(long, "A"), want: []string{"2 invalid_group order"}},
		"long customer":  {lines: good("1", "A") + "2,A,1,1,2024-05-01 10:00:00," + long + ",DE\n2,B,1,1,2024-05-01 10:00:00," + long + ",DE\n", used: 1, want: []string{"3 too_long parties.buyer.identifiers[0].value", "4 too_long parties.buyer.identifiers[0].value"}},
		"too many lines": {lines: strings.Repeat(good("1", "A"), domain.MaxLines+2), used: domain.MaxLines, want: []string{"5002 too_many_lines order", "5003 too_many_lines order"}},
		"late line": {
			lines: good("1", "A") + good("2", "A") + good("3", "A") + good("4", "A") + good("5", "A") + good("1", "B"), used: 5,
			want: []string{"7 idempotency_key_reused"},
		},
		"JSON": {mapping: jsonl, lines: order, used: 1},
		"JSON that is none": {
			mapping: jsonl,
			lines:   "{\n" + with(t, order, `"key"`, `"kex"`) + "\n" + with(t, order, `"A"`, `7`) + "\n" + with(t, order, `"key":"1"`, `"key":""`) + "\n" + with(t, order, `"key":"1"`, `"key":"`+long+`"`) + "\n\xff\n" + with(t, order, `"EUR"`, `"XXX"`),
			want:    []string{"1 malformed_body", "2 unknown_field /kex", "3 wrong_type /lines/0/sku", "4 missing /key", "5 invalid_group /key", "6 invalid_utf8", "7 unknown_currency currency"},
		},
	}
	seen := map[string]bool{"append_too_large": true} // in the test with a ledger that has this limit
	for name, test := range tests {
		for _, w := range test.want {
			seen[strings.Fields(w)[1]] = true
		}
		t.Run(name, func(t *testing.T) {
			text := heading + test.lines
			if test.mapping == jsonl {
				text = test.lines
			}
			if test.mapping == "" {
				test.mapping = shop
			}
			_, o := importText(t, test.mapping, "orders.csv", text)
			if o.err != nil {
				t.Fatal(o.err)
			}
			if d := cmp.Diff(test.want, o.codes(t)); d != "" || o.Used != test.used {
				t.Errorf("used %d, want %d; rejects:\n%s\n%.2000s", o.Used, test.used, d, o.rejects)
			}
		})
	}

	doc, err := os.ReadFile("../../docs/import.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "## Reason codes")
	table, _, _ = strings.Cut(table, "\n## ")
	var documented []string
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) < 3 {
			continue
		}
		for _, code := range regexp.MustCompile("`([a-z_0-9]+)`").FindAllStringSubmatch(cells[1], -1) {
			documented = append(documented, code[1])
			if !seen[code[1]] {
				t.Errorf("docs/import.md tells of %s, and no test does", code[1])
			}
		}
	}
	if len(documented) < 15 || slices.Contains(documented, "") {
		t.Fatalf("found only the codes %q in docs/import.md", documented)
	}
}
