package commands_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/eventstore"
)

var (
	faultPattern   = regexp.MustCompile(`(?:fail|malformed)\((?:"[^"]*"|[a-z]+(?:\+"[^"]*")?|at\([^)]*\)(?:\+"[^"]*")?), "([a-z_0-9]+)", "`)
	refusalPattern = regexp.MustCompile(`Code\w+\s+Code = "(\w+)"`)
)

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func newRules(t testing.TB, store eventstore.Store) *rules.Active {
	t.Helper()
	active, err := rules.NewActive(t.Context(), store, rules.Config{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return active
}

func TestRules(t *testing.T) {
	s := newServer(t)
	s = serve(t, s.store, s.keys, newRules(t, s.store))
	inForce := func() commands.RulesInForce {
		t.Helper()
		r := s.send(http.MethodGet, "/v1/rules", nil)
		var a commands.RulesInForce
		if err := json.Unmarshal([]byte(r.body), &a); err != nil || r.status != http.StatusOK {
			t.Fatalf("%d %s: %v", r.status, r.body, err)
		}
		return a
	}
	put := func(text, key string, headers ...string) response {
		t.Helper()
		return s.send(http.MethodPut, "/v1/rules", strings.NewReader(text), append([]string{"Content-Type", "application/yaml", "Idempotency-Key", key}, headers...)...)
	}
	if a := inForce(); !a.BuiltIn || a.SHA256 != rules.Minimal().Hash() || a.Text == "" {
		t.Errorf("at first %+v is in force", a)
	}
	text := rules.Optics().Text()
	first := put(text, "a")
	if first.status != http.StatusOK || !strings.Contains(first.body, rules.Optics().Hash()) {
		t.Fatalf("activating: %d %s", first.status, first.body)
	}
	if mark, err := eventstore.ParseMark(first.header.Get("Orderledger-Mark")); err != nil || mark.Position == 0 {
		t.Errorf("mark %v, %v", mark, err)
	}
	if a := inForce(); a.SHA256 != rules.Optics().Hash() || a.By != "local" || a.Activated.IsZero() || len(a.History) == 0 || a.Text != text {
		t.Errorf("%+v is in force", a)
	}
	before := len(s.stored())
	for _, key := range []string{"a", "b"} { // a retry, and the same text again
		if r := put(text, key); r.status != http.StatusOK || r.body != first.body || r.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("again: %d %s", r.status, r.body)
		}
	}
	for _, c := range []struct {
		text, key string
		headers   []string
		status    int
		code      string
	}{
		{"rules: [", "c", nil, 400, "invalid_rules"},
		{"", "c", nil, 400, ""},
		{text, "", nil, 400, "missing_idempotency_key"},
		{text, "c", []string{"Content-Type", "text/html"}, 415, "unsupported_media_type"},
		{rules.Minimal().Text(), "a", nil, 422, "idempotency_key_reused"},
		{strings.Repeat("# much\n", 60_000), "c", nil, 413, "body_too_large"},
	} {
		r := put(c.text, c.key, c.headers...)
		if r.status != c.status || c.code != "" && r.code() != c.code {
			t.Errorf("%.20q under key %q: %d %s, want %d %s", c.text, c.key, r.status, r.body, c.status, c.code)
		}
	}
	if after := len(s.stored()); after != before {
		t.Errorf("%d events were stored", after-before)
	}
	if a := inForce(); a.SHA256 != rules.Optics().Hash() {
		t.Errorf("%s is in force", a.SHA256)
	}
}
