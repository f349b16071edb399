package commands_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/keyring"
)

var secret = with(plain, "personal", map[string]any{"buyer": map[string]any{"name": "Ada"}})

const erasureOfC1 = `{"subject":{"scheme":"customer","value":"C1"}}`

// keyOf returns the name of the key that seals an order.
func (s *server) keyOf(id string) string {
	s.t.Helper()
	var o domain.Order
	for r, err := range s.store.ReadStream(s.t.Context(), domain.StreamPrefix+id, 0, eventstore.Forward) {
		if err != nil {
			s.t.Fatal(err)
		}
		e, err := domain.DecodeEvent(r.Type, r.Data)
		if err != nil {
			s.t.Fatal(err)
		}
		o = domain.Evolve(o, e)
	}
	if len(o.Personal) == 0 {
		s.t.Fatal("the order has no personal section")
	}
	return o.Personal[0].Key
}

func TestErase(t *testing.T) {
	s := newServer(t)
	first, second := s.submit("1", secret), s.submit("2", secret)
	other := s.post("/v1/orders", "1", secret, "Business-Unit", "other").answer(t).ID
	name := s.keyOf(first)
	if s.keyOf(second) != name || s.keyOf(other) == name {
		t.Fatal("a buyer has one key in each business unit")
	}
	r := s.post("/v1/erasures", "e", erasureOfC1)
	if r.status != http.StatusOK || r.body != "{\"keys\":1}\n" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if _, ok := s.keys.Key(name); ok {
		t.Error("the key is still there")
	}
	if _, ok := s.keys.Key(s.keyOf(other)); !ok {
		t.Error("the key of another business unit is gone")
	}
	mark, err := eventstore.ParseMark(r.header.Get("Orderledger-Mark"))
	if err != nil || mark.Position == 0 {
		t.Errorf("mark %v, %v", mark, err)
	}
	// What is submitted afterwards has a new key, which a retry of the erasure spares.
	third := s.submit("3", secret)
	if s.keyOf(third) == name {
		t.Error("the destroyed key is used again")
	}
	again := s.post("/v1/erasures", "e", erasureOfC1)
	if again.status != r.status || again.body != r.body || again.header.Get("Orderledger-Mark") != mark.String() || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("again: %d %s", again.status, again.body)
	}
	if _, ok := s.keys.Key(s.keyOf(third)); !ok {
		t.Error("a retry destroyed a newer key")
	}
	if r := s.post("/v1/erasures", "n", `{"subject":{"scheme":"customer","value":"nobody"}}`); r.status != http.StatusOK || r.body != "{\"keys\":0}\n" {
		t.Errorf("of nobody: %d %s", r.status, r.body)
	}
	s.checkActs(name)
}

// checkActs checks that two erasures are recorded, the first one of the named key, and that they name nobody.
func (s *server) checkActs(name string) {
	t := s.t
	t.Helper()
	var acts int
	for _, e := range s.stored() {
		if e.Stream != commands.ErasureStream {
			continue
		}
		acts++
		meta, err := domain.DecodeMeta(e.Metadata)
		if err != nil || meta.Actor.Subject != "local" || meta.BusinessUnit != "main" || !meta.Occurred.Equal(now) {
			t.Errorf("metadata %+v, %v", meta, err)
		}
		if strings.Contains(string(e.Data), "C1") || strings.Contains(string(e.Data), "nobody") || strings.Contains(string(e.Metadata), "C1") {
			t.Errorf("the act names its subject: %s", e.Data)
		}
		if acts == 1 && !strings.Contains(string(e.Data), name) {
			t.Errorf("the act does not name the key: %s", e.Data)
		}
	}
	if acts != 2 {
		t.Errorf("%d acts are recorded", acts)
	}
}

func TestEraseByOrder(t *testing.T) {
	s := newServer(t)
	unknown := s.submit("1", strings.Replace(secret, "C1", domain.UnknownParty, 1))
	neighbour := s.submit("2", strings.Replace(secret, "C1", domain.UnknownParty, 1))
	known := s.submit("3", secret)
	if r := s.post("/v1/erasures", "u", `{"order":"`+unknown+`"}`); r.status != http.StatusOK || r.body != "{\"keys\":1}\n" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if _, ok := s.keys.Key(s.keyOf(unknown)); ok {
		t.Error("the key is still there")
	}
	for _, spared := range []string{neighbour, known} {
		if _, ok := s.keys.Key(s.keyOf(spared)); !ok {
			t.Error("the key of another order is gone")
		}
	}
	for body, want := range map[string]string{
		`{"order":"` + known + `"}`:                        "409 buyer_known",
		`{"order":"0d3ac5a5-9a4b-5a0c-8a55-3f8f5b6f2c11"}`: "404 unknown_order",
		`{"order":"x"}`:                                    "400 invalid_parameter",
		`{}`:                                               "400 missing",
		`{"order":"` + known + `","subject":{"scheme":"customer","value":"C1"}}`: "400 missing",
		`{"subject":{"scheme":"customer","value":"unknown"}}`:                    "400 missing",
		`{"subject":{"scheme":"","value":"C1"}}`:                                 "400 missing",
		`{"subject":{"scheme":"customer"}}`:                                      "400 missing",
		``:                                                                       "400 empty_body",
	} {
		if r := s.post("/v1/erasures", "x", body); fmt.Sprint(r.status, " ", r.code()) != want {
			t.Errorf("%s: %d %s, want %s", body, r.status, r.body, want)
		}
	}
	if r := s.post("/v1/erasures", "y", `{"order":"`+unknown+`"}`, "Business-Unit", "other"); r.status != http.StatusNotFound {
		t.Errorf("from another business unit: %d %s", r.status, r.body)
	}
	if r := s.post("/v1/erasures", "u", erasureOfC1); r.status != http.StatusUnprocessableEntity || r.code() != "idempotency_key_reused" {
		t.Errorf("under a used key: %d %s", r.status, r.body)
	}
}

// TestReapply goes on with a key file from before an erasure.
func TestReapply(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	open := func() *keyring.Keyring {
		t.Helper()
		keys, err := keyring.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = keys.Close() })
		return keys
	}
	s := serve(t, openLedger(t), open(), nil)
	name := s.keyOf(s.submit("1", secret))
	kept := s.keyOf(s.submit("2", strings.Replace(secret, "C1", "C2", 1)))
	backup, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if r := s.post("/v1/erasures", "e", erasureOfC1); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if n, err := s.commands.Reapply(t.Context()); n != 0 || err != nil {
		t.Errorf("with the newest keys %d were destroyed: %v", n, err)
	}
	if err := s.keys.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	keys := open()
	if _, ok := keys.Key(name); !ok {
		t.Fatal("the backup has lost the key")
	}
	if n, err := newHandler(t, s.store, keys).Reapply(t.Context()); n != 1 || err != nil {
		t.Errorf("%d keys were destroyed: %v", n, err)
	}
	if _, ok := keys.Key(name); ok {
		t.Error("the erased key came back with the backup")
	}
	if _, ok := keys.Key(kept); !ok {
		t.Error("another key is gone")
	}
}

// TestErasureIsRecordedFirst has the ledger refuse: without a record nothing is destroyed.
func TestErasureIsRecordedFirst(t *testing.T) {
	store := &meddled{Store: openLedger(t)}
	refuse := false
	store.append = func(_ context.Context, _ []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error) {
		if refuse {
			return eventstore.Appended{}, eventstore.ErrFull
		}
		return do()
	}
	s := serve(t, store, openKeys(t), nil)
	name := s.keyOf(s.submit("1", secret))
	refuse = true
	if r := s.post("/v1/erasures", "e", erasureOfC1); r.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", r.status, r.body)
	}
	if _, ok := s.keys.Key(name); !ok {
		t.Error("a key was destroyed without a record")
	}
	// The act is recorded and the process dies before it has destroyed anything: a retry does.
	refuse = false
	if err := s.keys.Close(); err != nil {
		t.Fatal(err)
	}
	if r := s.post("/v1/erasures", "e2", erasureOfC1); r.status != http.StatusServiceUnavailable || r.code() != "keys_unavailable" {
		t.Errorf("without keys: %d %s", r.status, r.body)
	}
}

func TestErasuresAtOnce(t *testing.T) {
	s := newServer(t)
	s.submit("1", secret)
	var wg sync.WaitGroup
	keys := make([]string, 6)
	for i := range keys {
		wg.Go(func() {
			r := s.post("/v1/erasures", fmt.Sprint(i/2), erasureOfC1) // each twice
			if r.status != http.StatusOK {
				t.Errorf("%d %s", r.status, r.body)
			}
			keys[i] = r.body
		})
	}
	wg.Wait()
	for i := 0; i < len(keys); i += 2 {
		if keys[i] != keys[i+1] {
			t.Errorf("a repeated erasure answered %s and %s", keys[i], keys[i+1])
		}
	}
}

// TestErasureWaitsForOrders has an erasure come while an order of the same buyer, sealed already, is not in the ledger
// yet, and an order come while an erasure destroys the key.
func TestErasureWaitsForOrders(t *testing.T) {
	const wait = 100 * time.Millisecond // longer than an act in memory takes
	store := &meddled{Store: openLedger(t)}
	s := serve(t, store, openKeys(t), nil)
	var once sync.Once
	var other sync.WaitGroup
	// meanwhile has one request come during the append of another kind of event, and that append last until the
	// request is answered, or waits.
	meanwhile := func(during func(eventType string) bool, request func()) {
		once = sync.Once{}
		store.append = func(_ context.Context, events []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error) {
			if during(events[0].Type) {
				once.Do(func() {
					answered := make(chan struct{})
					other.Go(func() { defer close(answered); request() })
					select {
					case <-answered:
						t.Error("the other request did not wait")
					case <-time.After(wait):
					}
				})
			}
			return do()
		}
	}
	erasing := func(eventType string) bool { return eventType == commands.ErasureType }

	meanwhile(func(eventType string) bool { return !erasing(eventType) }, func() {
		if r := s.post("/v1/erasures", "e1", erasureOfC1); r.status != http.StatusOK || r.body != "{\"keys\":1}\n" {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
	first := s.submit("1", secret)
	other.Wait()
	if _, ok := s.keys.Key(s.keyOf(first)); ok {
		t.Error("the erasure spared an order that was before it")
	}
	if events := s.stored(); events[len(events)-1].Stream != commands.ErasureStream {
		t.Error("an order was appended after the erasure of its key")
	}

	s.submit("2", secret) // makes a key
	meanwhile(erasing, func() { s.submit("3", secret) })
	if r := s.post("/v1/erasures", "e2", erasureOfC1); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
	other.Wait()
	third := s.stored()
	id := strings.TrimPrefix(third[len(third)-1].Stream, domain.StreamPrefix)
	if _, ok := s.keys.Key(s.keyOf(id)); !ok {
		t.Error("an order was sealed with a key that was being destroyed")
	}
}

// TestOtherErasureAtOnce has another erasure under the same key be recorded between load and append: the event's id is
// the same, and yet it is another act.
func TestOtherErasureAtOnce(t *testing.T) {
	store := &meddled{Store: openLedger(t)}
	s := serve(t, store, openKeys(t), nil)
	rival := serve(t, store.Store, s.keys, nil)
	armed := false
	store.append = func(_ context.Context, _ []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error) {
		if armed {
			armed = false
			if r := rival.post("/v1/erasures", "e", strings.Replace(erasureOfC1, "C1", "C2", 1)); r.status != http.StatusOK {
				t.Errorf("%d %s", r.status, r.body)
			}
		}
		return do()
	}
	name := s.keyOf(s.submit("1", secret))
	armed = true
	if r := s.post("/v1/erasures", "e", erasureOfC1); r.status != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", r.status, r.body)
	}
	if _, ok := s.keys.Key(name); !ok {
		t.Error("a key was destroyed without a record")
	}
}

func TestErasuresCannotBeRead(t *testing.T) {
	for _, e := range []eventstore.Event{
		{ID: uuid.New(), Type: "keys.erased.v2", Data: []byte("{}")},
		{ID: uuid.New(), Type: commands.ErasureType, Data: []byte("[]")},
	} {
		ledger := openLedger(t)
		h := newHandler(t, ledger, openKeys(t))
		if _, err := ledger.Append(t.Context(), commands.ErasureStream, eventstore.NoStream, []eventstore.Event{e}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Reapply(t.Context()); err == nil {
			t.Errorf("%s %s was passed over", e.Type, e.Data)
		}
		if err := ledger.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Reapply(t.Context()); !errors.Is(err, eventstore.ErrClosed) {
			t.Errorf("Reapply from a closed ledger: %v", err)
		}
	}
}
