package commands_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/realdata"
)

// jsonSuite reads the JSON test suite (github.com/nst/JSONTestSuite).
func jsonSuite(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open(realdata.Path(t, "hostile", "JSONTestSuite_parsing.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	suite := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if path.Ext(h.Name) != ".json" {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		suite[path.Base(h.Name)] = string(text)
	}
	if len(suite) < 300 {
		t.Fatalf("the suite has %d texts", len(suite))
	}
	return suite
}

func naughtyStrings(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(realdata.Path(t, "hostile", "blns.json"))
	if err != nil {
		t.Fatal(err)
	}
	var naughty []string
	if err := json.Unmarshal(text, &naughty); err != nil {
		t.Fatal(err)
	}
	return append(naughty, "\x00", "\ufeff", "\u202e", strings.Repeat("a", 201), strings.Repeat("é", 1001), strings.Repeat("x", 64_001))
}

// writes are all routes that write; ORDER stands for an order that exists.
func writes() []string {
	routes := []string{"/v1/orders", "/v1/import/orders", "/v1/erasures"}
	for _, c := range routeCases {
		routes = append(routes, "/v1/orders/ORDER/"+c.path)
	}
	return routes
}

// events counts the events of the ledger by reading what is new.
type events struct {
	s     *server
	after eventstore.Position
}

func (e *events) fresh() int {
	e.s.t.Helper()
	n := 0
	for r, err := range e.s.store.ReadAll(e.s.t.Context(), e.after, eventstore.Filter{}) {
		if err != nil {
			e.s.t.Fatal(err)
		}
		e.after = r.Position
		n++
	}
	return n
}

// checkHostile holds an answer to a hostile request: no failure of the server's, and nothing stored unless it says so.
func checkHostile(t *testing.T, what string, r response, stored int) {
	t.Helper()
	switch {
	case r.status >= 500:
		t.Errorf("%s: %d %s", what, r.status, r.body)
	case r.status >= 300 && stored > 0:
		t.Errorf("%s: %d %s, and %d events were stored", what, r.status, r.body, stored)
	case r.status >= 300 && (r.code() == "" || !strings.HasPrefix(r.header.Get("Content-Type"), "application/problem+json")):
		t.Errorf("%s: no problem: %d %s", what, r.status, r.body)
	}
}

func TestHostileJSON(t *testing.T) {
	s := newServer(t)
	id := s.submit("k", plain)
	seen := &events{s: s}
	seen.fresh()
	for name, text := range jsonSuite(t) {
		for _, route := range writes() {
			r := s.post(strings.Replace(route, "ORDER", id, 1), name, text)
			checkHostile(t, route+" "+name, r, seen.fresh())
			// What is no JSON in form is no command. (An object without members asks a few routes for something.)
			if strings.HasPrefix(name, "n_") && r.status < 300 && text != "" {
				t.Errorf("%s took %s", route, name)
			}
		}
	}
}

// TestHostileStrings puts every naughty string into some places of an order and of the bodies of the other routes, so
// that every place gets many of them.
func TestHostileStrings(t *testing.T) {
	s := newServer(t)
	seen := &events{s: s}
	for i, naughty := range naughtyStrings(t) {
		for j, body := range hostileBodies(naughty) {
			if j > 0 && (i+j)%4 > 0 {
				continue
			}
			r := s.post("/v1/orders", fmt.Sprint(i, "-", j), body)
			checkHostile(t, fmt.Sprintf("order %d with %.60q", j, naughty), r, seen.fresh())
		}
		quoted := quote(naughty)
		for j, c := range []struct{ path, body string }{
			{"hold", `{"reason":{"code":` + quoted + `,"text":` + quoted + `},"role":` + quoted + `}`},
			{"release", `{"hold":` + quoted + `}`},
			{"route", `{"site":` + quoted + `}`},
			{"fulfilments/f1/confirm", `{"outcome":"accepted","reference":` + quoted + `}`},
			{"fulfilments/f1/ship", `{"id":` + quoted + `,"carrier":` + quoted + `,"lines":[{"line":` + quoted + `,"quantity":` + quoted + `}]}`},
			{"fulfilments/f1/deliver", `{"shipment":` + quoted + `,"occurred":` + quoted + `}`},
			{"amend", `{"lines":[{"line":` + quoted + `,"quantity":"1"}],"personal":{"instructions":` + quoted + `}}`},
		} {
			if (i+j)%2 > 0 {
				continue
			}
			id := domain.OrderID("main", "local", fmt.Sprint(i, "-0")).String()
			r := s.post("/v1/orders/"+id+"/"+c.path, fmt.Sprint(c.path, i), c.body)
			checkHostile(t, fmt.Sprintf("%s with %.60q", c.path, naughty), r, seen.fresh())
		}
		if i%8 > 0 {
			continue
		}
		r := s.post("/v1/erasures", fmt.Sprint(i), `{"subject":{"scheme":`+quoted+`,"value":`+quoted+`}}`)
		checkHostile(t, fmt.Sprintf("erasure of %.60q", naughty), r, seen.fresh())
	}
	// What was taken can be read.
	for _, e := range s.stored() {
		if strings.HasPrefix(e.Stream, domain.StreamPrefix) {
			if _, err := domain.DecodeEvent(e.Type, e.Data); err != nil {
				t.Errorf("a stored event cannot be read: %v", err)
			}
		}
	}
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// hostileBodies returns orders with a string in one place each.
func hostileBodies(naughty string) []string {
	q := quote(naughty)
	line := func(members string) string {
		return strings.Replace(plain, `{"sku":"A",`, `{"sku":"A",`+members+`,`, 1)
	}
	order := func(members string) string { return strings.TrimSuffix(plain, "}") + "," + members + "}" }
	return []string{
		order(`"purchase_order":` + q),
		order(`"references":[{"kind":"x","value":` + q + `}]`),
		order(`"extensions":[{"name":` + q + `,"value":` + q + `}]`),
		order(`"terms":{"payment":` + q + `,"incoterms":{"place":` + q + `}}`),
		order(`"personal":{"buyer":{"name":` + q + `,"street":[` + q + `]},"instructions":` + q + `}`),
		order(`"documents":[{"name":` + q + `,"sha256":` + q + `,"size":1}]`),
		order(`"total_given":` + q),
		line(`"description":` + q),
		line(`"buyer_line":` + q),
		line(`"unit":` + q),
		line(`"configuration":{"data":` + q + `}`),
		line(`"requested":{"day":` + q + `,"zone":` + q + `}`),
		strings.Replace(plain, `"C1"`, q, 1),
		strings.Replace(plain, `"A"`, q, 1),
		strings.Replace(plain, `"2"`, q, 1),
		strings.Replace(plain, `"EUR"`, q, 1),
	}
}

// TestSizes sends what is too much of something.
func TestSizes(t *testing.T) {
	s := newServer(t)
	many := func(n int, of string) string { return strings.TrimSuffix(strings.Repeat(of+",", n), ",") }
	lines := func(n int, line string) string {
		return `{"currency":"EUR","parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"C1"}]}},"lines":[` + many(n, line) + `]}`
	}
	const line = `{"sku":"A","quantity":"1"}`
	for _, c := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"body", strings.Repeat(" ", 2<<20) + plain, 413, "body_too_large"},
		{"depth", strings.Repeat("[", 100_000), 400, "wrong_type"},
		{"depth of an object", strings.Repeat(`{"lines":[`, 10_000), 400, "unknown_field"},
		{"lines", lines(domain.MaxLines+1, line), 400, "too_many"},
		{"name", lines(1, `{"sku":"`+strings.Repeat("A", 201)+`","quantity":"1"}`), 400, "too_long"},
		{"text", lines(1, `{"sku":"A","quantity":"1","description":"`+strings.Repeat("A", 2001)+`"}`), 400, "too_long"},
		{"identifiers", strings.Replace(plain, `{"scheme":"customer","value":"C1"}`, many(21, `{"scheme":"customer","value":"C1"}`), 1), 400, "too_many"},
		{"append", lines(1200, `{"sku":"A","quantity":"1","description":"`+strings.Repeat("A", 1000)+`"}`), 413, "append_too_large"},
	} {
		if r := s.post("/v1/orders", c.name, c.body); r.status != c.status || r.code() != c.code {
			t.Errorf("%s: %d %.300s, want %d %s", c.name, r.status, r.body, c.status, c.code)
		}
	}
	if stored := s.stored(); len(stored) != 0 {
		t.Errorf("%d events were stored", len(stored))
	}
	if r := s.post("/v1/orders", "indented", strings.Repeat(" ", 2<<20-len(plain))+plain); r.status != http.StatusCreated {
		t.Errorf("an order in a body of 2 MiB, most of it white space: %d %s", r.status, r.body)
	}
	if r := s.post("/v1/orders", "most", lines(domain.MaxLines, line)); r.status != http.StatusCreated {
		t.Errorf("an order of as many lines as there may be: %d %s", r.status, r.body)
	}
}
