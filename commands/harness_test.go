package commands_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/internal/keyring"
	"github.com/orderledger/orderledger/internal/web"
)

var quiet = slog.New(slog.DiscardHandler)

// now is when the tests happen.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// openLedger opens a ledger in memory.
func openLedger(t testing.TB) *pebblestore.Store {
	t.Helper()
	return reopenLedger(t, vfs.NewMem())
}

func reopenLedger(t testing.TB, fs vfs.FS) *pebblestore.Store {
	t.Helper()
	store, err := pebblestore.Open("ledger", &pebblestore.Config{FS: fs, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func openKeys(t testing.TB) *keyring.Keyring {
	t.Helper()
	keys, err := keyring.Open(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	return keys
}

// newHandler makes a handler whose orders go to the first of the sites a, b and c that has not failed them. An order
// with the purchase order reject or hold is rejected or held.
func newHandler(t testing.TB, store eventstore.Store, keys *keyring.Keyring) *commands.Handler {
	t.Helper()
	h, err := commands.NewHandler(t.Context(), commands.Config{
		Ledger: store,
		Keys:   keys,
		Policy: func(context.Context, string) (domain.Policy, error) { return sites{"a", "b", "c"}, nil },
		Now:    func() time.Time { return now },
		Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// sites is a policy.
type sites []string

func (sites) Validate(o *domain.Order) domain.Judgement {
	switch o.PurchaseOrder {
	case "reject":
		return domain.Judgement{Verdict: domain.VerdictRejected, Reason: domain.Reason{Code: "unwanted"}}
	case "hold":
		return domain.Judgement{Reason: domain.Reason{Code: "credit_check"}}
	}
	return domain.Judgement{Verdict: domain.VerdictAccepted}
}

func (s sites) Route(_ *domain.Order, open []domain.LineQuantity, excluded []string) domain.Routing {
	for _, site := range s {
		if !strings.Contains(strings.Join(excluded, " "), site) {
			return domain.Routing{Allocations: []domain.Allocation{{Site: site, Lines: open}}}
		}
	}
	return domain.Routing{}
}

// A server is the write side behind HTTP.
type server struct {
	t        testing.TB
	handler  http.Handler
	store    eventstore.Store
	keys     *keyring.Keyring
	commands *commands.Handler
}

func newServer(t testing.TB) *server {
	t.Helper()
	return serve(t, openLedger(t), openKeys(t), nil)
}

func serve(t testing.TB, store eventstore.Store, keys *keyring.Keyring, active *rules.Active) *server {
	t.Helper()
	h := newHandler(t, store, keys)
	s := web.New(web.Config{
		Rate:   -1,
		Errors: []func(error) *web.Error{commands.WebError},
		Codes:  commands.Codes(),
	})
	commands.Register(s, h, active)
	return &server{t: t, handler: s, store: store, keys: keys, commands: h}
}

// A response is what the server said.
type response struct {
	status int
	header http.Header
	body   string
}

func (r response) code() string {
	var p struct{ Code string }
	_ = json.Unmarshal([]byte(r.body), &p)
	return p.Code
}

func (r response) answer(t testing.TB) commands.Answer {
	t.Helper()
	var a commands.Answer
	d := json.NewDecoder(strings.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		t.Fatalf("reading the answer %s: %v", r.body, err)
	}
	return a
}

// post sends a body with an idempotency key; headers are names and values.
func (s *server) post(path, key, body string, headers ...string) response {
	s.t.Helper()
	return s.send(http.MethodPost, path, strings.NewReader(body), append(headers, "Idempotency-Key", key)...)
}

func (s *server) send(method, path string, body io.Reader, headers ...string) response {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, "http://localhost"+path, body)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return response{w.Code, w.Header(), w.Body.String()}
}

// submit makes an order and returns its id.
func (s *server) submit(key, body string) string {
	s.t.Helper()
	r := s.post("/v1/orders", key, body)
	if r.status != http.StatusCreated {
		s.t.Fatalf("submitting: %d %s", r.status, r.body)
	}
	return r.answer(s.t).ID
}

// stored returns all events of the ledger.
func (s *server) stored() []eventstore.Recorded {
	s.t.Helper()
	var all []eventstore.Recorded
	for r, err := range s.store.ReadAll(s.t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// plain is an order of two pieces, and of three of another article.
const plain = `{"currency":"EUR","parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"C1"}],"country":"DE"}},` +
	`"lines":[{"sku":"A","quantity":"2","price":{"amount":"10"}},{"sku":"B","quantity":"3","price":{"amount":"1.5"}}]}`

// with returns a JSON object with other members in place of its own.
func with(object string, members ...any) string {
	var m map[string]any
	if err := json.Unmarshal([]byte(object), &m); err != nil {
		panic(err)
	}
	for i := 0; i < len(members); i += 2 {
		m[members[i].(string)] = members[i+1]
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		panic(err)
	}
	return b.String()
}
