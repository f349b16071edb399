package commands_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/keyring"
)

// A store whose appends a test meddles with.
type meddled struct {
	eventstore.Store
	append func(ctx context.Context, events []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error)
}

func (m *meddled) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	return m.append(ctx, events, func() (eventstore.Appended, error) { return m.Store.Append(ctx, stream, expected, events) })
}

const unit = "main"

// command makes a command as a client of the business unit main sends it.
func command(order uuid.UUID, key string, do domain.Action) domain.Command {
	return domain.Command{
		ID: domain.CommandID(order, "local", key), Order: order, BusinessUnit: unit,
		Actor: domain.Actor{Kind: "person", Subject: "local"}, Do: do,
	}
}

func submission(key string) domain.Command {
	return command(domain.OrderID(unit, "local", key), key, domain.Submit{
		Details: domain.Details{Currency: "EUR", Parties: domain.Parties{Buyer: domain.Party{
			Identifiers: []domain.Identifier{{Scheme: "customer", Value: "C1"}}, Country: "DE",
		}}},
		Lines: []domain.Line{{SKU: "A", Quantity: domain.Whole(2), Price: domain.Price{Amount: domain.Whole(10)}}},
	})
}

func handle(t testing.TB, h *commands.Handler, c domain.Command) commands.Result {
	t.Helper()
	r, err := h.Handle(t.Context(), c, domain.Personal{})
	if err != nil {
		t.Fatalf("%s: %v", c.Do.Name(), err)
	}
	return r
}

// sameAnswer compares all of two results but whether they were repeated.
func sameAnswer(t testing.TB, got, want commands.Result) {
	t.Helper()
	got.Repeated, want.Repeated = false, false
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b domain.Decimal) bool { return a == b })); d != "" {
		t.Errorf("the answer differs (-first +now):\n%s", d)
	}
}

func TestRepeatedCommandGetsItsFirstAnswer(t *testing.T) {
	h := newHandler(t, openLedger(t), openKeys(t))
	submit := submission("k")
	first := handle(t, h, submit)
	if first.Repeated || first.Order.Status() != domain.StatusRouted || first.Revision != 2 || first.Mark.Position == 0 {
		t.Fatalf("the first answer is %+v", first)
	}
	hold := command(submit.Order, "h", domain.PlaceHold{Reason: domain.Reason{Code: "x"}})
	held := handle(t, h, hold)
	handle(t, h, command(submit.Order, "r", domain.Release{}))

	again := handle(t, h, submit)
	if !again.Repeated {
		t.Error("the repeated command does not say so")
	}
	sameAnswer(t, again, first)
	sameAnswer(t, handle(t, h, hold), held)
	// Who asks, and through which trace, may differ.
	submit.Cause = domain.Cause{Correlation: "other"}
	submit.Actor.OnBehalfOf = "somebody"
	sameAnswer(t, handle(t, h, submit), first)
}

func TestKeyReused(t *testing.T) {
	h := newHandler(t, openLedger(t), openKeys(t))
	submit := submission("k")
	handle(t, h, submit)
	other := submit
	s := submit.Do.(domain.Submit)
	s.PurchaseOrder = "other"
	other.Do = s
	occurred := submit
	occurred.Occurred = now
	hold := command(submit.Order, "k", domain.PlaceHold{Reason: domain.Reason{Code: "x"}})
	for _, c := range []domain.Command{other, occurred, hold} {
		_, err := h.Handle(t.Context(), c, domain.Personal{})
		var reused *commands.KeyReused
		if !errors.As(err, &reused) || reused.Command != submit.ID {
			t.Errorf("%s under a used key: %v", c.Do.Name(), err)
		}
	}
	if _, err := h.Handle(t.Context(), submit, domain.Personal{Instructions: "x"}); err == nil {
		t.Error("other personal data under a used key was taken")
	}
}

func TestRepeatedAtOnce(t *testing.T) {
	s := newServer(t)
	const clients = 50
	answers := make([]response, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			answers[i] = s.post("/v1/orders", "one", with(plain, "personal", map[string]any{"instructions": "ring twice"}))
		})
	}
	wg.Wait()
	replayed := 0
	for _, a := range answers {
		if a.status != http.StatusCreated || a.body != answers[0].body {
			t.Fatalf("answered %d %s and %s", a.status, a.body, answers[0].body)
		}
		if a.header.Get("Idempotent-Replayed") == "true" {
			replayed++
		}
		if a.header.Get("Orderledger-Mark") != answers[0].header.Get("Orderledger-Mark") || a.header.Get("ETag") != answers[0].header.Get("ETag") {
			t.Error("marks or tags differ")
		}
	}
	if replayed != clients-1 {
		t.Errorf("%d of %d were answered again", replayed, clients)
	}
	if stored := s.stored(); len(stored) != 3 {
		t.Errorf("%d events are stored", len(stored))
	}
}

// TestOtherContentAtOnce sends two orders under one key at the same time: their events have the same ids, and yet only
// the one that was stored may be acknowledged.
func TestOtherContentAtOnce(t *testing.T) {
	for n := range 20 {
		s := newServer(t)
		var answers [2]response
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i] = s.post("/v1/orders", "one", with(plain, "purchase_order", fmt.Sprint("PO", i))) })
		}
		wg.Wait()
		a, b := answers[0], answers[1]
		if a.status > b.status {
			a, b = b, a
		}
		if a.status != http.StatusCreated || b.status != http.StatusUnprocessableEntity || b.code() != "idempotency_key_reused" {
			t.Fatalf("run %d: answered %d and %d %s", n, a.status, b.status, b.body)
		}
	}
}

func TestConflictIsDecidedAnew(t *testing.T) {
	ledger := openLedger(t)
	conflicts := 0
	store := &meddled{Store: ledger}
	keys := openKeys(t)
	h := newHandler(t, store, keys)
	other := newHandler(t, ledger, keys)
	submit := submission("k")
	store.append = func(_ context.Context, _ []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error) {
		return do()
	}
	handle(t, h, submit)
	store.append = func(_ context.Context, _ []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error) {
		if conflicts++; conflicts <= 7 {
			handle(t, other, command(submit.Order, fmt.Sprint("o", conflicts), domain.PlaceHold{Reason: domain.Reason{Code: "x"}}))
		}
		return do()
	}
	r := handle(t, h, command(submit.Order, "mine", domain.PlaceHold{Reason: domain.Reason{Code: "y"}}))
	if len(r.Order.Holds) != 8 || r.Order.Holds[7].ID != "h8" || conflicts != 8 {
		t.Errorf("after %d conflicts the order has the holds %v", conflicts, r.Order.Holds)
	}
}

func TestBusy(t *testing.T) {
	store := &meddled{Store: openLedger(t)}
	attempts := 0
	store.append = func(context.Context, []eventstore.Event, func() (eventstore.Appended, error)) (eventstore.Appended, error) {
		attempts++
		return eventstore.Appended{}, &eventstore.Conflict{}
	}
	h := newHandler(t, store, openKeys(t))
	if _, err := h.Handle(t.Context(), submission("k"), domain.Personal{}); !errors.Is(err, commands.ErrBusy) {
		t.Errorf("Handle: %v", err)
	}
	if attempts != 8 {
		t.Errorf("%d attempts", attempts)
	}
	ctx, cancel := context.WithCancel(t.Context())
	store.append = func(context.Context, []eventstore.Event, func() (eventstore.Appended, error)) (eventstore.Appended, error) {
		cancel()
		return eventstore.Appended{}, &eventstore.Conflict{}
	}
	if _, err := h.Handle(ctx, submission("k"), domain.Personal{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Handle of a caller that has gone: %v", err)
	}
}

func TestUnknownOutcome(t *testing.T) {
	lost := errors.New("the connection is gone")
	for _, done := range []bool{true, false} {
		ledger := openLedger(t)
		store := &meddled{Store: ledger}
		store.append = func(_ context.Context, _ []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error) {
			if done {
				if _, err := do(); err != nil {
					t.Error(err)
				}
			}
			return eventstore.Appended{}, lost
		}
		keys := openKeys(t)
		h := newHandler(t, store, keys)
		result, err := h.Handle(t.Context(), submission("k"), domain.Personal{})
		if !done {
			if !errors.Is(err, commands.ErrOutcomeUnknown) || !errors.Is(err, lost) {
				t.Errorf("Handle: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("an append that was done: %v", err)
		}
		sameAnswer(t, handle(t, newHandler(t, ledger, keys), submission("k")), result)
	}
}

// TestCallerGoesDuringAppend has the caller's context end while the append is under way.
func TestCallerGoesDuringAppend(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	store := &meddled{Store: openLedger(t)}
	store.append = func(ctx context.Context, _ []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error) {
		if _, err := do(); err != nil {
			t.Error(err)
		}
		cancel()
		return eventstore.Appended{}, ctx.Err()
	}
	if _, err := newHandler(t, store, openKeys(t)).Handle(ctx, submission("k"), domain.Personal{}); err != nil {
		t.Errorf("what was stored is not acknowledged: %v", err)
	}
}

func TestRestart(t *testing.T) {
	fs := vfs.NewMem()
	keys := openKeys(t)
	ledger := reopenLedger(t, fs)
	first := handle(t, newHandler(t, ledger, keys), submission("k"))
	if err := ledger.Close(); err != nil {
		t.Fatal(err)
	}
	again := handle(t, newHandler(t, reopenLedger(t, fs), keys), submission("k"))
	if !again.Repeated {
		t.Error("the order was made twice")
	}
	sameAnswer(t, again, first)
}

func TestLedgerUnavailable(t *testing.T) {
	ledger := openLedger(t)
	h := newHandler(t, ledger, openKeys(t))
	if err := ledger.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Handle(t.Context(), submission("k"), domain.Personal{}); !eventstore.Unavailable(err) {
		t.Errorf("Handle: %v", err)
	}
	if _, err := commands.NewHandler(t.Context(), commands.Config{Ledger: ledger}); err == nil {
		t.Error("a handler for a closed ledger")
	}
}

func TestPersonalIsSealed(t *testing.T) {
	ledger, keys := openLedger(t), openKeys(t)
	h := newHandler(t, ledger, keys)
	submit := submission("k")
	personal := domain.Personal{Buyer: domain.Person{Name: "Ada Lovelace"}}
	if _, err := h.Handle(t.Context(), submit, personal); err != nil {
		t.Fatal(err)
	}
	amend := command(submit.Order, "a", domain.Amend{})
	r, err := h.Handle(t.Context(), amend, domain.Personal{ShipTo: domain.Person{City: "Ockham"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Order.Personal) != 2 {
		t.Fatalf("%d personal sections", len(r.Order.Personal))
	}
	var known domain.Personal
	for _, sealed := range r.Order.Personal {
		if bytes.Contains(sealed.Data, []byte("Ada")) || bytes.Contains(sealed.Data, []byte("Ockham")) {
			t.Error("personal data stands in the clear")
		}
		key, ok := keys.Key(sealed.Key)
		if !ok {
			t.Fatal("there is no key of this name")
		}
		open, err := domain.Open(sealed, submit.Order, key)
		if err != nil {
			t.Fatal(err)
		}
		known = known.Overlay(open)
	}
	if known.Buyer.Name != "Ada Lovelace" || known.ShipTo.City != "Ockham" {
		t.Errorf("known is %+v", known)
	}
	// A second order of the buyer has the same key.
	second := submission("k2")
	r2, err := h.Handle(t.Context(), second, personal)
	if err != nil {
		t.Fatal(err)
	}
	if r2.Order.Personal[0].Key != r.Order.Personal[0].Key {
		t.Error("one buyer has two keys")
	}
}

func TestRefusedCommandMakesNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	keys, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	h := newHandler(t, openLedger(t), keys)
	order := domain.OrderID(unit, "local", "k")
	personal := domain.Personal{Instructions: "x"}
	empty := size()
	if _, err := h.Handle(t.Context(), command(order, "a", domain.Amend{}), personal); err == nil {
		t.Error("an order that does not exist was amended")
	}
	if size() != empty {
		t.Error("a refused command has made a key")
	}
	if _, err := h.Handle(t.Context(), submission("k"), personal); err != nil || size() == empty {
		t.Errorf("a submission has made no key: %v", err)
	}
	made := size()
	stranger := submission("k").Do.(domain.Submit)
	stranger.Parties.Buyer.Identifiers = []domain.Identifier{{Scheme: "customer", Value: "C2"}}
	other := command(order, "b", stranger)
	if _, err := h.Handle(t.Context(), other, personal); err == nil || size() != made {
		t.Errorf("a second submission of an order: %v", err)
	}
	_, err = h.Handle(t.Context(), command(order, "c", domain.Close{}), personal)
	var malformed *domain.Malformed
	if !errors.As(err, &malformed) || malformed.Field != "personal" {
		t.Errorf("closing with personal data: %v", err)
	}
}

func TestSealingFails(t *testing.T) {
	keys := openKeys(t)
	ledger := openLedger(t)
	h, err := commands.NewHandler(t.Context(), commands.Config{Ledger: ledger, Keys: keys, Random: strings.NewReader(""), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	personal := domain.Personal{Instructions: "x"}
	if _, err := h.Handle(t.Context(), submission("k"), personal); !errors.Is(err, io.EOF) {
		t.Errorf("without randomness: %v", err)
	}
	if err := keys.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := newHandler(t, ledger, keys).Handle(t.Context(), submission("k2"), personal); err == nil || !strings.Contains(err.Error(), "sealing") {
		t.Errorf("without keys: %v", err)
	}
}

func TestImportIsNotJudged(t *testing.T) {
	h := newHandler(t, openLedger(t), openKeys(t))
	c := submission("k")
	s := c.Do.(domain.Submit)
	s.Channel, s.PurchaseOrder, s.Settled = domain.ChannelImport, "reject", true
	c.Do, c.Occurred = s, time.Date(2011, 12, 9, 12, 50, 0, 0, time.UTC)
	if r := handle(t, h, c); r.Order.Status() != domain.StatusClosed {
		t.Errorf("the imported order is %s", r.Order.Status())
	}
	c = submission("k2")
	s.Settled = false
	c.Do = s
	handle(t, h, c)
	if r := handle(t, h, command(c.Order, "a", domain.Amend{Terms: &domain.Terms{Payment: "30"}})); r.Order.Status() != domain.StatusAccepted {
		t.Errorf("the amended import is %s", r.Order.Status())
	}
}

func TestPolicy(t *testing.T) {
	ledger, keys := openLedger(t), openKeys(t)
	var asked []string
	failure := errors.New("no rules")
	h, err := commands.NewHandler(t.Context(), commands.Config{Ledger: ledger, Keys: keys, Logger: quiet,
		Policy: func(_ context.Context, businessUnit string) (domain.Policy, error) {
			asked = append(asked, businessUnit)
			return nil, failure
		}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Handle(t.Context(), submission("k"), domain.Personal{}); !errors.Is(err, failure) {
		t.Errorf("without rules: %v", err)
	}
	// Nobody's order asks nobody, so that a stranger cannot make the rules of a business unit begin.
	asked = nil
	if _, err := h.Handle(t.Context(), command(uuid.New(), "c", domain.Close{}), domain.Personal{}); err == nil || asked != nil {
		t.Errorf("an unknown order: %v, asked the rules of %v", err, asked)
	}
	unruled, err := commands.NewHandler(t.Context(), commands.Config{Ledger: ledger, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if r := handle(t, unruled, submission("k")); r.Order.Status() != domain.StatusAccepted {
		t.Errorf("without a policy the order is %s", r.Order.Status())
	}
}

func TestBusinessUnitsDoNotSeeEachOther(t *testing.T) {
	h := newHandler(t, openLedger(t), openKeys(t))
	submit := submission("k")
	handle(t, h, submit)
	hold := command(submit.Order, "h", domain.PlaceHold{Reason: domain.Reason{Code: "x"}})
	handle(t, h, hold)
	hold.BusinessUnit = "other"
	_, err := h.Handle(t.Context(), hold, domain.Personal{Instructions: ""})
	var refused *domain.Refused
	if !errors.As(err, &refused) || refused.Code != domain.CodeUnknownOrder {
		t.Errorf("another business unit's retry: %v", err)
	}
}

func TestMetadata(t *testing.T) {
	ledger := openLedger(t)
	h := newHandler(t, ledger, openKeys(t))
	c := submission("k")
	c.Cause = domain.Cause{Correlation: "corr", Causation: "because", Traceparent: "00-1"}
	handle(t, h, c)
	hold := command(c.Order, "h", domain.PlaceHold{Reason: domain.Reason{Code: "x"}})
	hold.Occurred = time.Date(2026, 11, 20, 9, 0, 0, 0, time.FixedZone("", 3600))
	handle(t, h, hold)
	var metas []domain.Meta
	n := 0
	for r, err := range ledger.ReadStream(t.Context(), domain.Stream(c.Order), 0, eventstore.Forward) {
		if err != nil {
			t.Fatal(err)
		}
		meta, err := domain.DecodeMeta(r.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		metas = append(metas, meta)
		head, _ := ledger.Head(t.Context())
		if meta.Command == c.ID {
			if r.ID != domain.EventID(c.ID, head.ID, n) {
				t.Errorf("event %d has another id", n)
			}
			n++
		}
	}
	if len(metas) != 4 || n != 3 {
		t.Fatalf("%d events, %d of the submission", len(metas), n)
	}
	first, last := metas[0], metas[3]
	if first.Cause != c.Cause || first.Actor != c.Actor || first.BusinessUnit != unit || !first.Occurred.Equal(now) || first.Digest == (domain.Digest{}) {
		t.Errorf("the submission's metadata is %+v", first)
	}
	if !last.Occurred.Equal(hold.Occurred) || last.Digest == first.Digest {
		t.Errorf("the hold's metadata is %+v", last)
	}
}

// TestUnreadableEvent puts an event into an order that this version does not know.
func TestUnreadableEvent(t *testing.T) {
	ledger := openLedger(t)
	h := newHandler(t, ledger, openKeys(t))
	c := submission("k")
	handle(t, h, c)
	meta, err := domain.EncodeMeta(domain.Meta{Command: uuid.New()})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range []eventstore.Event{
		{ID: uuid.New(), Type: "order.closed.v1", Metadata: []byte("{"), Data: []byte("{}")},
		{ID: uuid.New(), Type: "order.vanished.v9", Metadata: meta, Data: []byte("{}")},
	} {
		other := submission(fmt.Sprint("k", i))
		handle(t, h, other)
		if _, err := ledger.Append(t.Context(), domain.Stream(other.Order), eventstore.At(2), []eventstore.Event{e}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Handle(t.Context(), command(other.Order, "c", domain.Close{}), domain.Personal{}); err == nil || !strings.Contains(err.Error(), "event 3") {
			t.Errorf("%s: %v", e.Type, err)
		}
	}
}
