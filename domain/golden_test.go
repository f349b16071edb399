package domain_test

import (
	"bytes"
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

var update = flag.Bool("update", false, "rewrite the results in testdata; golden bytes are only ever added")

const golden = "testdata/golden"

// Bytes that a ledger may hold stay as they are and can be read for ever: a file here is never changed or deleted.
func TestGoldenEvents(t *testing.T) {
	for _, e := range domaintest.Events() {
		t.Run(e.Type(), func(t *testing.T) {
			got, err := domain.EncodeEvent(e)
			if err != nil {
				t.Fatal(err)
			}
			wantGolden(t, e.Type(), got)
			back, err := domain.DecodeEvent(e.Type(), got)
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, e, back)
			wantSame(t, e, fromJSON(t, got, e))
			wantSameJSON(t, got, e)
		})
	}
}

func TestGoldenMeta(t *testing.T) {
	m := domaintest.Filled[domain.Meta]()
	got, err := domain.EncodeMeta(m)
	if err != nil {
		t.Fatal(err)
	}
	wantGolden(t, "meta", got)
	back, err := domain.DecodeMeta(got)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, m, back)
}

// The folded order is rebuilt from events when its form changes, so its bytes may change, together with FoldVersion.
func TestGoldenOrder(t *testing.T) {
	o := domaintest.Filled[domain.Order]()
	got, err := domain.EncodeOrder(o)
	if err != nil {
		t.Fatal(err)
	}
	wantGolden(t, "order", got)
	back, err := domain.DecodeOrder(got)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, o, back)
	wantSame(t, &o, fromJSON(t, got, &o))
	wantSameJSON(t, got, o)
}

// Files of versions that are no longer written are read too.
func TestGoldenFilesDecode(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(golden, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if want := len(domaintest.Events()) + 2; len(files) < want {
		t.Fatalf("%d files are left of at least %d", len(files), want)
	}
	for _, file := range files {
		data := readGolden(t, file)
		var again []byte
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		switch name {
		case "meta":
			var m domain.Meta
			if m, err = domain.DecodeMeta(data); err == nil {
				again, err = domain.EncodeMeta(m)
			}
		case "order":
			var o domain.Order
			if o, err = domain.DecodeOrder(data); err == nil {
				again, err = domain.EncodeOrder(o)
			}
		default:
			var e domain.Event
			if e, err = domain.DecodeEvent(name, data); err == nil {
				again, err = domain.EncodeEvent(e)
			}
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		} else if !bytes.Equal(again, data) {
			t.Errorf("%s is written again as\n%s", file, again)
		}
	}
}

func TestUnknownEvent(t *testing.T) {
	if _, err := domain.DecodeEvent("order.submitted.v99", []byte("{}")); !errors.Is(err, domain.ErrUnknownEvent) {
		t.Errorf("a version from the future: %v", err)
	}
}

// Whoever adds an event or an action cannot forget to add its example.
func TestExamplesAreComplete(t *testing.T) {
	examples := map[string]bool{}
	for _, e := range domaintest.Events() {
		examples[reflect.TypeOf(e).Elem().Name()] = true
	}
	for _, a := range domaintest.Actions() {
		examples[reflect.TypeOf(a).Name()] = true
	}
	for file, method := range map[string]string{"event.go": "Type", "command.go": "Name"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != method {
				continue
			}
			receiver := f.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			if name := receiver.(*ast.Ident).Name; !examples[name] {
				t.Errorf("%s has no example", name)
			}
		}
	}
}

// wantGolden compares bytes with those in a file. With -update it writes the file, but for events and metadata only
// one that does not exist yet.
func wantGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join(golden, name+".json")
	_, err := os.Stat(file)
	if *update && (err != nil || name == "order") {
		if err := os.WriteFile(file, append(bytes.Clone(got), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := readGolden(t, file); !bytes.Equal(got, want) {
		t.Errorf("the bytes have changed:\n got %s\nwant %s", got, want)
	}
}

func readGolden(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(data, []byte("\n"))
}
