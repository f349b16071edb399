package importer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/commands/importer"
)

func TestFormsOfText(t *testing.T) {
	plain := heading + good("1", "A") + good("1", "B") + good("2", "C")
	const want = "shop/1: A B; shop/2: C"
	tabs := with(t, shop, "group: order", "group: order\nformat: tsv")
	tests := map[string]struct{ mapping, name, text, want string }{
		"CSV":                {shop, "o.csv", plain, want},
		"no end":             {shop, "o.csv", strings.TrimSuffix(plain, "\n"), want},
		"byte order mark":    {shop, "o.csv", "\ufeff" + plain, want},
		"CRLF":               {shop, "o.csv", strings.ReplaceAll(plain, "\n", "\r\n"), want},
		"CRCRLF":             {shop, "o.csv", strings.ReplaceAll(plain, "\n", "\r\r\n"), want},
		"blank lines":        {shop, "o.csv", "\n \n" + strings.ReplaceAll(plain, "\n", "\n\n\t\r\n"), want},
		"white space":        {shop, "o.csv", strings.ReplaceAll(plain, ",", " , "), want},
		"TSV":                {tabs, "o.tsv", strings.ReplaceAll(plain, ",", "\t"), want},
		"gzip":               {shop, "o.csv.gz", gzipped(t, plain), want},
		"gzip, not so named": {shop, "o.csv", gzipped(t, plain), want},
		"two gzips in one":   {shop, "o.csv.gz", gzipped(t, plain) + gzipped(t, good("3", "D")), want + "; shop/3: D"},
		"empty":              {shop, "o.csv", "", ""},
		"heading only":       {shop, "o.csv", heading, ""},
		"quotes": {shop, "o.csv", heading + `"1","A ""x"", y",2,"9.99",2024-05-01 10:00:00,C7,DE` + "\n" +
			"1,\"B\nC\",2,1,2024-05-01 10:00:00,C7,DE\r\n" + `1,5" pipe,2,1,2024-05-01 10:00:00,C7,DE` + "\n" + `1,"",2,1,2024-05-01 10:00:00,C7,DE`, `shop/1: A "x", y 5" pipe`},
		"other columns": {shop, "o.csv", "more,country,time,customer,sku,order,price,more,quantity,\nx,DE,2024-05-01 10:00:00,C7,A,1,2,y,3,\n", "shop/1: A"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l, o := importText(t, test.mapping, test.name, test.text)
			if got := l.skus(); o.err != nil || got != test.want || o.Files != 1 || o.Bytes != o.Size || o.Size != int64(len(test.text)) {
				t.Errorf("got %s, want %s; %+v", got, test.want, o)
			}
		})
	}
}

func TestLinesAfterABadQuoteAreRead(t *testing.T) {
	bad := `x,"unclosed,1,1` + "\n"
	for _, between := range []string{
		strings.Repeat(good("1", "A"), 3),
		strings.Repeat(good("1", "A"), 300),
		"1,\"A\",2,9.99,2024-05-01 10:00:00,C7,DE\n",
		strings.Repeat(" ", 2<<20) + "\n" + good("1", "A"),
		good("1", "A") + "1,\xff,2,9.99,2024-05-01 10:00:00,C7,DE\n",
		"\xff\",2,3,4,5,6\n",
		strings.Repeat(good("1", "A"), 300) + "x\",2,3,4,5,6\n",
	} {
		l, o := importText(t, shop, "o.csv", heading+bad+between+good("2", "B")+"useless\n")
		lines := strings.Count(bad+between, "\n") + 2
		last := fmt.Sprintf("%d wrong_number_of_columns", lines+1)
		codes := o.codes(t)
		if o.err != nil || o.Lines != int64(lines) || o.Codes["unterminated_quote"] != 1 || codes[0] != "2 unterminated_quote" ||
			codes[len(codes)-1] != last || !strings.Contains(l.skus(), "shop/2: B") {
			t.Errorf("%d lines: %+v\n%.300s", lines, o.Summary, codes)
		}
	}
}

func TestHeadOfAnOrderIsItsFirstUsedLine(t *testing.T) {
	l, o := importText(t, shop, "o.csv", heading+"1,A,-5,1,2024-05-01 10:00:00,C1,DE\n1,B,1,1,2024-05-01 11:00:00,C2,Österreich\n")
	got := l.orders["shop/1"].Submit.Parties.Buyer
	if o.err != nil || o.Used != 1 || got.Country != "AT" || got.Identifiers[0].Value != "C2" {
		t.Errorf("the buyer is %v; %+v", got, o)
	}
}

func TestWindow(t *testing.T) {
	// The mapping's window is 3.
	others := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(good(fmt.Sprint("x", i), "X"))
		}
		return b.String()
	}
	tests := map[string]struct {
		text string
		want string
		late int64
	}{
		"neighbours":  {good("1", "A") + good("1", "B"), "shop/1: A B", 0},
		"just within": {good("1", "A") + others(3) + good("1", "B"), "shop/1: A B; shop/x0: X; shop/x1: X; shop/x2: X", 0},
		"beyond":      {good("1", "A") + others(4) + good("1", "B"), "shop/1: A; shop/x0: X; shop/x1: X; shop/x2: X; shop/x3: X", 1},
		"in turns": {
			good("1", "A") + good("2", "A") + good("1", "B") + good("2", "B") + good("3", "A") + good("2", "C") + good("1", "C") + good("2", "D"),
			"shop/1: A B C; shop/2: A B C D; shop/3: A", 0,
		},
		"kept open by useless lines": {good("1", "A") + "1\n1\n1\n" + good("1", "B"), "shop/1: A B", 0},
		"closed by useless lines":    {good("1", "A") + "1\n1\n1\n1\n" + good("1", "B"), "shop/1: A", 1},
		"kept open by its own":       {good("1", "A") + others(2) + "1,B,0,1,2024-05-01 10:00:00,C7,DE\n" + others(3) + good("1", "C"), "shop/1: A C; shop/x0: X X; shop/x1: X X; shop/x2: X", 0},
		"the same again":             {good("1", "A") + others(4) + good("1", "A"), "shop/1: A; shop/x0: X; shop/x1: X; shop/x2: X; shop/x3: X", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l, o := importText(t, shop, "o.csv", heading+test.text)
			if got := l.skus(); o.err != nil || got != test.want || o.Codes["idempotency_key_reused"] != test.late {
				t.Errorf("got %s, want %s; %+v", got, test.want, o)
			}
		})
	}
}

// The lines of an order that come too late never win over those that came in time, however busy the workers are.
func TestLateLinesAreAlwaysTheLaterOnes(t *testing.T) {
	var b strings.Builder
	for i := range 200 {
		b.WriteString(good(fmt.Sprint(i), "early"))
		if i >= 5 {
			b.WriteString(good(fmt.Sprint(i-5), "late"))
		}
	}
	file := write(t, "o.csv", heading+b.String())
	mapping := mappingOf(t, shop)
	var want string
	for _, workers := range []int{1, 2, 64} {
		l := newLedger()
		o := l.into(t, mapping, workers, file)
		if o.err != nil || strings.Contains(l.skus(), "late") || o.Codes["idempotency_key_reused"] != 195 {
			t.Fatalf("%d workers: %v %s", workers, o.Codes, l.skus())
		}
		if want == "" {
			want = o.rejects
		}
		again := l.into(t, mapping, workers, file)
		if o.rejects != want || again.rejects != want || again.Repeated != again.Orders {
			t.Errorf("%d workers: the rejects differ", workers)
		}
	}
}

func TestSeveralFiles(t *testing.T) {
	a, b := write(t, "o.csv", heading+good("1", "A")+"1\n"), write(t, "o.csv", heading+"1\n"+good("2", "A")+good("1", "B"))
	l := newLedger()
	o := l.into(t, mappingOf(t, shop), 8, a, b)
	want := []string{"3 wrong_number_of_columns", "2 wrong_number_of_columns", "4 idempotency_key_reused"}
	if d := cmp.Diff(want, o.codes(t)); d != "" || o.err != nil || o.Files != 2 || l.skus() != "shop/1: A; shop/2: A" {
		t.Errorf("%s\n%+v\n%s", d, o, l.skus())
	}
	if !strings.Contains(o.rejects, a+",3,") || !strings.Contains(o.rejects, b+",2,") {
		t.Errorf("the rejects do not say which file: %s", o.rejects)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	whole := gzipped(t, heading+good("1", "A"))
	tests := map[string]struct{ name, text, want string }{
		"another heading":   {"o.csv", "a,b\n", `the file does not fit the mapping: it has no column "country", it has no column "customer"`},
		"a column twice":    {"o.csv", "sku," + heading, `it has several columns "sku"`},
		"heading not UTF-8": {"o.csv", "\xff\xfeo\x00", "the file does not fit the mapping: its heading cannot be read: invalid_utf8"},
		"not gzipped":       {"o.csv.gz", heading, "is not gzipped"},
		"empty gzip":        {"o.csv.gz", "", "is not gzipped"},
		"broken gzip":       {"o.csv.gz", "\x1f\x8bxxxxxxxxxxxxxxxx", "gzip"},
		"half a gzip":       {"o.csv.gz", whole[:len(whole)-9], "unexpected EOF"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, o := importText(t, shop, test.name, test.text)
			if o.err == nil || !strings.Contains(o.err.Error(), test.want) || !strings.Contains(o.err.Error(), test.name) || o.Files != 0 {
				t.Errorf("got %v", o.err)
			}
		})
	}
	dir := t.TempDir()
	if o := newLedger().into(t, mappingOf(t, shop), 1, dir); o.err == nil {
		t.Error("a directory was read")
	}
	if o := newLedger().into(t, mappingOf(t, shop), 1, filepath.Join(dir, "none")); !errors.Is(o.err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", o.err)
	}
}

func TestRejectsThatCannotBeWritten(t *testing.T) {
	full := errors.New("the disk is full")
	for _, lines := range []int{1, 10_000} {
		_, err := importer.Run(t.Context(), importer.Config{
			Mapping: mappingOf(t, shop), Files: []string{write(t, "o.csv", heading+strings.Repeat("useless\n", lines))},
			Submit: newLedger().submit, Rejects: failingWriter{full},
		})
		if !errors.Is(err, full) {
			t.Errorf("%d lines: %v", lines, err)
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestRefusedOrders(t *testing.T) {
	l := newLedger()
	l.before = func(_ context.Context, o importer.Order) error {
		if o.Key == "shop/2" {
			return fmt.Errorf("over there: %w", &importer.Refusal{Field: "f", Code: "append_too_large", Detail: "too large, alas"})
		}
		return nil
	}
	file := write(t, "o.csv", heading+good("1", "A")+good("2", "A")+good("3", "A")+good("2", "B"))
	o := l.into(t, mappingOf(t, shop), 2, file)
	want := "file,line,field,code,detail,text\n" +
		file + `,3,f,append_too_large,"too large, alas","2,A,2,9.99,2024-05-01 10:00:00,C7,DE"` + "\n" +
		file + `,5,f,append_too_large,"too large, alas","2,B,2,9.99,2024-05-01 10:00:00,C7,DE"` + "\n"
	if o.err != nil || o.rejects != want || o.Used != 2 || o.Orders != 2 || (&importer.Refusal{Detail: "x"}).Error() != "x" {
		t.Errorf("%+v\n%s", o, o.rejects)
	}
}

// Orders of which much stands open or waits for its turn are closed early, so that memory stays bounded.
func TestMuchThatIsOpen(t *testing.T) {
	mapping := mappingOf(t, with(t, shop, "window: 3", "window: 100000"))
	wide := "more," + heading
	filler := strings.Repeat("x", 900<<10)
	var b strings.Builder
	b.WriteString(wide)
	const orders = 40 // 36 MB
	for i := range orders {
		b.WriteString(filler + "," + good(fmt.Sprint(i), "A"))
	}
	for i := range orders {
		b.WriteString("," + good(fmt.Sprint(i), "B"))
	}
	file := write(t, "o.csv", b.String())
	l := newLedger()
	o := l.into(t, mapping, 64, file)
	if late := o.Codes["idempotency_key_reused"]; o.err != nil || o.Orders != orders || late < 2 || late > 10 {
		t.Errorf("%+v", o.Summary)
	}
	if again := l.into(t, mapping, 1, file); again.rejects != o.rejects || again.Repeated != o.Orders {
		t.Errorf("another run ends otherwise: %+v", again)
	}

	// One order alone is not closed early, but its lines are.
	text := wide + strings.Repeat(filler+","+good("1", "A"), 20)
	if _, o := importText(t, shop, "o.csv", text); o.err != nil || o.Orders != 1 || o.Used != 9 || o.Codes["too_many_lines"] != 11 {
		t.Errorf("%+v", o.Summary)
	}
}

func TestJSONLines(t *testing.T) {
	const mapping = "version: 1\nsource: shop\nformat: jsonl\nsettled: true\n"
	_, csv := importText(t, shop, "o.csv", heading+good("1", "A"))
	l, o := importText(t, mapping, "o.jsonl", "\ufeff"+
		`{"key":"1","occurred":"2024-05-01T10:00:00+02:00","currency":"EUR","parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"C7"}]}},`+
		`"lines":[{"sku":"A","quantity":"1","price":{"amount":"1"}}],"personal":{"buyer":{"name":"Ann"}}}`+"\r\n\n"+
		`{"key":"2","channel":"web","currency":"EUR","parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"C7"}]}},"lines":[{"sku":"A","quantity":"1"}]}`)
	first, second := l.orders["shop/1"], l.orders["shop/2"]
	switch {
	case csv.err != nil || o.err != nil || o.Used != 2:
		t.Errorf("%+v", o)
	case first.Occurred.String() != "2024-05-01 08:00:00 +0000 UTC" || !first.Submit.Settled || first.Submit.Channel != "import" || first.Personal.Buyer.Name != "Ann":
		t.Errorf("%+v", first)
	case !second.Occurred.IsZero() || second.Submit.Channel != "web":
		t.Errorf("%+v", second)
	}
}

func TestSummaryAsJSON(t *testing.T) {
	_, o := importText(t, shop, "o.csv", heading+good("1", "A")+"1\n")
	got, err := json.Marshal(o.Summary)
	want := fmt.Sprintf(`{"files":1,"bytes":%d,"size":%[1]d,"lines":2,"used":1,"rejected":1,"orders":1,"repeated":0,"codes":{"wrong_number_of_columns":1}}`, o.Size)
	if err != nil || string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
