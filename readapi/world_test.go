package readapi_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
	"github.com/orderledger/orderledger/readapi"
)

// A world is a ledger, its read models and the read side over them. Nothing in it runs by itself.
type world struct {
	t         testing.TB
	ledger    *pebblestore.Store
	id        uuid.UUID // of the ledger
	views     *projections.Views
	projector *projections.Projector
	server    *web.Server
	log       *lines

	mu       sync.Mutex // protects the fields below while requests are under way
	keys     map[string][]byte
	now      time.Time // when commands are sent
	commands int

	paused bool   // commands do not reach the read models
	asked  func() // is called when somebody asks for the regions; nil: nothing is
}

func newWorld(t testing.TB, change ...func(*readapi.Config)) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{t: t, keys: make(map[string][]byte), now: time.Date(2026, 11, 20, 8, 30, 0, 0, time.UTC), log: new(lines)}
	dir := t.TempDir()
	var err error
	if w.ledger, err = pebblestore.Open(filepath.Join(dir, "ledger"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closes(t, w.ledger.Close()) })
	head, err := w.ledger.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w.id = head.ID
	if w.views, err = projections.Open(ctx, filepath.Join(dir, "views.db"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closes(t, w.views.Close()) })
	if w.projector, err = projections.NewProjector(ctx, w.views, []eventstore.Reader{w.ledger}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closes(t, w.projector.Close(context.Background())) })
	cfg := readapi.Config{
		Views: w.views, Ledger: w.ledger, Key: w.key, Lag: w.projector.Lag,
		Logger: slog.New(slog.NewTextHandler(w.log, nil)), Now: w.clock,
	}
	for _, c := range change {
		c(&cfg)
	}
	w.server = web.New(web.Config{Codes: readapi.Codes(), Rate: -1, CursorKey: []byte("0123456789abcdef"), Logger: cfg.Logger})
	readapi.Register(w.server, cfg)
	return w
}

func closes(t testing.TB, err error) {
	if err != nil {
		t.Errorf("closing: %v", err)
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) key(name string) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key, ok := w.keys[name]
	return key, ok
}

func (w *world) destroyKey(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.keys, name)
}

// seal encrypts a personal section under the named key, which is made if need be.
func (w *world) seal(p domain.Personal, order uuid.UUID, name string) domain.Sealed {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keys[name] == nil {
		w.keys[name] = make([]byte, 32)
		_, _ = rand.Read(w.keys[name])
	}
	sealed, err := domain.Seal(&p, order, name, w.keys[name], rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return sealed
}

// rules reject what comes from XX, hold channel "watched", and send everything to the sites Jena and Wetzlar in turn.
type rules struct{}

func (rules) Validate(o *domain.Order) domain.Judgement {
	d := domain.Decision{RuleSet: strings.Repeat("ab", 32), Row: "V7", Facts: []domain.Fact{{Name: "channel", Value: o.Channel}}}
	switch o.Channel {
	case "bad":
		return domain.Judgement{Verdict: domain.VerdictRejected, Decision: d, Reason: domain.Reason{Code: "embargo", Text: "no orders from there"}}
	case "watched":
		return domain.Judgement{Role: "fraud", Decision: d, Reason: domain.Reason{Code: "fraud_check", Text: "first order of this customer"}}
	}
	return domain.Judgement{Verdict: domain.VerdictAccepted, Decision: d}
}

func (rules) Route(_ *domain.Order, open []domain.LineQuantity, excluded []string) domain.Routing {
	sites := []string{"Jena", "Wetzlar"}
	if len(excluded) >= len(sites) {
		return domain.Routing{}
	}
	return domain.Routing{
		Allocations: []domain.Allocation{{Site: sites[len(excluded)], Lines: open}},
		Decision:    domain.Decision{RuleSet: strings.Repeat("cd", 32), Row: "R2", Facts: []domain.Fact{{Name: "country", Value: "DE"}}},
	}
}

func orderID(unit, key string) uuid.UUID { return domain.OrderID(unit, "local", key) }

// do sends a command and returns the mark of what it wrote.
func (w *world) do(unit string, order uuid.UUID, a domain.Action) eventstore.Mark {
	w.t.Helper()
	mark, err := w.try(unit, order, a)
	if err != nil {
		w.t.Fatal(err)
	}
	return mark
}

func (w *world) try(unit string, order uuid.UUID, a domain.Action) (mark eventstore.Mark, err error) {
	ctx := w.t.Context()
	w.mu.Lock()
	w.commands++
	w.now = w.now.Add(7 * time.Minute)
	n, now := w.commands, w.now
	w.mu.Unlock()
	c := domain.Command{
		ID: domain.CommandID(order, "local", fmt.Sprint(n)), Order: order, BusinessUnit: unit,
		Actor: domain.Actor{Kind: "person", Issuer: "local", Subject: "ada"}, Cause: domain.Cause{Correlation: "corr-1"}, Do: a,
	}
	var o domain.Order
	expected := eventstore.NoStream
	for e, err := range w.ledger.ReadStream(ctx, domain.Stream(order), 0, eventstore.Forward) {
		if err != nil {
			return mark, err
		}
		event, err := domain.DecodeEvent(e.Type, e.Data)
		if err != nil {
			return mark, err
		}
		o, expected = domain.Evolve(o, event), eventstore.At(e.Revision)
	}
	events, err := domain.Decide(o, c, rules{}, now)
	if err != nil {
		return mark, err
	}
	meta, err := domain.EncodeMeta(domain.Meta{Command: c.ID, Actor: c.Actor, BusinessUnit: unit, Cause: c.Cause, Occurred: now})
	if err != nil {
		return mark, err
	}
	records := make([]eventstore.Event, len(events))
	for i, e := range events {
		data, err := domain.EncodeEvent(e)
		if err != nil {
			return mark, err
		}
		records[i] = eventstore.Event{ID: domain.EventID(c.ID, w.id, i), Type: e.Type(), Metadata: meta, Data: data}
	}
	appended, err := w.ledger.Append(ctx, domain.Stream(order), expected, records)
	if err != nil {
		return mark, err
	}
	if !w.paused {
		if err := w.projector.CatchUp(ctx); err != nil {
			return mark, err
		}
	}
	return eventstore.Mark{Ledger: w.id, Position: appended.Position, Revision: appended.Revision, Incarnation: w.incarnation()}, nil
}

// appendRaw adds an event to an order that no domain has made.
func (w *world) appendRaw(order uuid.UUID, typ string) eventstore.Mark {
	w.t.Helper()
	meta, err := domain.EncodeMeta(domain.Meta{Command: uuid.New(), Actor: domain.Actor{Kind: "person", Subject: "ada"}, BusinessUnit: "main", Occurred: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	var last uint64
	for e, err := range w.ledger.ReadStream(w.t.Context(), domain.Stream(order), eventstore.End, eventstore.Backward) {
		if err != nil {
			w.t.Fatal(err)
		}
		last = e.Revision
		break
	}
	appended, err := w.ledger.Append(w.t.Context(), domain.Stream(order), eventstore.At(last),
		[]eventstore.Event{{ID: uuid.New(), Type: typ, Metadata: meta, Data: []byte("{}")}})
	if err != nil {
		w.t.Fatal(err)
	}
	return eventstore.Mark{Ledger: w.id, Position: appended.Position, Revision: appended.Revision, Incarnation: w.incarnation()}
}

func (w *world) incarnation() uint32 {
	head, err := w.ledger.Head(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return head.Incarnation
}

func (w *world) catchUp() {
	w.t.Helper()
	if err := w.projector.CatchUp(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// simple is an order of three lenses and a mount.
func simple() domain.Submit {
	hundred := domain.Whole(100)
	return domain.Submit{
		Details: domain.Details{
			Channel: "web", PurchaseOrder: "PO-4711", Currency: "EUR",
			References: []domain.Reference{{Kind: "contract", Value: "C-2026-9"}},
			Parties:    domain.Parties{Buyer: domain.Party{Identifiers: []domain.Identifier{{Scheme: "customer", Value: "K-1001"}}, Country: "DE"}},
			Terms:      domain.Terms{Incoterms: domain.Incoterms{Rule: "DAP", Version: "2020", Place: "Wien"}, Payment: "30 days net"},
			Taxes:      []domain.Tax{{Category: "S", Amount: domain.MustDecimal("19.01")}},
		},
		Lines: []domain.Line{
			{SKU: "LENS-50", Description: "Lens 50 mm", Quantity: domain.Whole(3), Price: domain.Price{Amount: domain.MustDecimal("1249.5")}, Requested: domain.Date{Day: "2026-12-01"}},
			{SKU: "MOUNT-M", Description: "Mount", Quantity: domain.Whole(25), Price: domain.Price{Amount: domain.MustDecimal("12.345"), BaseQuantity: &hundred}},
		},
	}
}

// submit submits the simple order, changed, under a key.
func (w *world) submit(key string, change ...func(*domain.Submit)) (uuid.UUID, eventstore.Mark) {
	w.t.Helper()
	s := simple()
	for _, c := range change {
		c(&s)
	}
	id := orderID("main", key)
	return id, w.do("main", id, s)
}

// get sends a GET request with headers given as "Name: value".
func (w *world) get(path string, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, w.request(path, headers...))
	return rec
}

func (w *world) request(path string, headers ...string) *http.Request {
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, path, nil)
	r.Host = "localhost"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	return r
}

// read decodes the JSON answer to a GET request, which must be 200.
func read[T any](w *world, path string, headers ...string) T {
	w.t.Helper()
	var v T
	rec := w.get(path, headers...)
	if rec.Code != http.StatusOK {
		w.t.Fatalf("GET %s: %d %s", path, rec.Code, rec.Body)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		w.t.Fatalf("GET %s: %v in %s", path, err, rec.Body)
	}
	return v
}

// refused checks status and code of the problem that answers a GET request.
func (w *world) refused(status int, code, path string, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	rec := w.get(path, headers...)
	var p web.Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Code != status || p.Code != code {
		w.t.Errorf("GET %s: %d %s, want %d %s", path, rec.Code, rec.Body, status, code)
	}
	return rec
}

// lines collects a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
