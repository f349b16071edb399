package esdb_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
)

func config(s *served) esdb.Config {
	return esdb.Config{ConnectionString: s.server.ConnectionString(), Patience: 5 * time.Second, Logger: silent()}
}

func openCopy(t *testing.T, s *served, of eventstore.Identity) *esdb.Copy {
	t.Helper()
	c, err := esdb.OpenCopy(t.Context(), config(s), of)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// original makes the events of a ledger elsewhere, in two streams.
func original(metadata ...string) []eventstore.Recorded {
	var events []eventstore.Recorded
	for i, m := range metadata {
		e := newEvent()
		e.Metadata = []byte(m)
		events = append(events, eventstore.Recorded{
			Event: e, Stream: []string{"order-1", "order-2"}[i%2], Revision: uint64(i / 2), Position: eventstore.Position(i + 1),
			Time: time.Date(2011, 12, 9, 12, 50, 0, i*1001, time.UTC),
		})
	}
	return events
}

func chainOf(events []eventstore.Recorded) (chain eventstore.Hash) {
	for i := range events {
		chain = eventstore.Chain(chain, &events[i])
	}
	return chain
}

func TestACopyKeepsWhatTheChainCovers(t *testing.T) {
	server := serve(t, vfs.NewMem(), "copy", "")
	defer func() { _ = server.Close() }()
	source := eventstore.Identity{ID: uuid.New(), Lanes: 8, Format: 2, Incarnation: 3}
	events := original(`{"command":"1"}`, ``, `{}`, `{ }`, `[1]`, ` {"command":"1"}`, `{"$bytes":"x"}`, `{ "$bytes":"x"}`, `{"$recorded":"x"}`, `no JSON`, `{"half`)
	c := openCopy(t, server, source)
	if err := c.Add(t.Context(), events[:5]); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = openCopy(t, server, source)
	if err := c.Add(t.Context(), events[4:]); err != nil { // one of them stands there already
		t.Fatal(err)
	}
	var got []eventstore.Recorded
	for r, err := range c.ReadAll(t.Context(), 0, eventstore.Filter{Public: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if len(got) != len(events) || chainOf(got) != chainOf(events) {
		t.Fatalf("%d events with chain %s, want %d with %s", len(got), chainOf(got), len(events), chainOf(events))
	}
	for i := range got {
		if !bytes.Equal(got[i].Metadata, events[i].Metadata) || !got[i].Time.Equal(events[i].Time) {
			t.Errorf("%q at %v has become %q at %v", events[i].Metadata, events[i].Time, got[i].Metadata, got[i].Time)
		}
	}
	// Who looks with another client sees JSON.
	for r, err := range server.ledger.ReadAll(t.Context(), 0, eventstore.Filter{Public: true}) {
		if err != nil || !json.Valid(r.Metadata) && !strings.Contains(string(r.Metadata), "half") {
			t.Errorf("metadata %q, error %v", r.Metadata, err)
		}
	}
	last := got[len(got)-1]
	if err := c.Finish(t.Context(), last.Position, chainOf(got)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	s := open(t, server.server.ConnectionString())
	defer func() { _ = s.Close() }()
	head, err := s.Head(t.Context())
	want := eventstore.Identity{ID: source.ID, Lanes: 8, Format: 1, Incarnation: 4}
	if err != nil || head.Identity != want {
		t.Errorf("the copy is %+v, error %v; want %+v", head.Identity, err, want)
	}
	incarnations, err := s.Incarnations(t.Context())
	if err != nil || len(incarnations) != 2 || incarnations[1].Number != 4 || incarnations[1].After != last.Position || incarnations[1].Chain != chainOf(events) {
		t.Errorf("incarnations %+v, error %v", incarnations, err)
	}
	if a, err := s.Append(t.Context(), "order-2", eventstore.At(4), []eventstore.Event{newEvent()}); err != nil || a.Revision != 5 {
		t.Errorf("appended %+v, error %v", a, err)
	}
}

func TestAnUnfinishedCopyIsNoLedger(t *testing.T) {
	server := serve(t, vfs.NewMem(), "unfinished", "")
	defer func() { _ = server.Close() }()
	source := eventstore.Identity{ID: uuid.New(), Lanes: 8}
	c := openCopy(t, server, source)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := esdb.Open(t.Context(), config(server)); !errors.Is(err, esdb.ErrUnfinished) {
		t.Errorf("opened with error %v, want ErrUnfinished", err)
	}
	for _, other := range []eventstore.Identity{{ID: uuid.New(), Lanes: 8}, {ID: source.ID, Lanes: 8, Incarnation: 1}, {ID: source.ID, Lanes: 9}} {
		if _, err := esdb.OpenCopy(t.Context(), config(server), other); !errors.Is(err, esdb.ErrTaken) {
			t.Errorf("a copy of %+v goes on with error %v, want ErrTaken", other, err)
		}
	}
	c = openCopy(t, server, source)
	if err := c.Finish(t.Context(), 0, eventstore.Hash{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := esdb.OpenCopy(t.Context(), config(server), source); !errors.Is(err, esdb.ErrTaken) {
		t.Errorf("a finished copy goes on with error %v, want ErrTaken", err)
	}
}

func TestACopyNeedsAServerOfItsOwn(t *testing.T) {
	server := serve(t, vfs.NewMem(), "used", "")
	defer func() { _ = server.Close() }()
	if _, err := server.ledger.Append(t.Context(), "account-1", eventstore.NoStream, []eventstore.Event{newEvent()}); err != nil {
		t.Fatal(err)
	}
	_, err := esdb.OpenCopy(t.Context(), config(server), eventstore.Identity{ID: uuid.New(), Lanes: 8})
	if !errors.Is(err, esdb.ErrTaken) || !strings.Contains(err.Error(), "account-1") {
		t.Errorf("error %v, want ErrTaken with the stream", err)
	}
}

func TestMetadataThatWouldBeTakenForThoseOfACopy(t *testing.T) {
	server := serve(t, vfs.NewMem(), "stamp", "")
	defer func() { _ = server.Close() }()
	s := open(t, server.server.ConnectionString())
	defer func() { _ = s.Close() }()
	e := newEvent()
	e.Metadata = []byte(`{"$recorded":"2026-01-01T00:00:00Z","a":1}`)
	if _, err := s.Append(t.Context(), "order-1", eventstore.NoStream, []eventstore.Event{e}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("error %v, want ErrInvalid", err)
	}
}

func TestALedgerThatMustBeThere(t *testing.T) {
	server := serve(t, vfs.NewMem(), "existing", "")
	defer func() { _ = server.Close() }()
	c := config(server)
	c.Existing = true
	began := time.Now()
	if _, err := esdb.Open(t.Context(), c); !errors.Is(err, esdb.ErrNoLedger) || time.Since(began) > c.Patience {
		t.Errorf("error %v after %v, want ErrNoLedger at once", err, time.Since(began))
	}
	made := open(t, "kurrentdb"+strings.TrimPrefix(server.server.ConnectionString(), "esdb"))
	defer func() { _ = made.Close() }()
	s, err := esdb.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	first, err1 := made.Head(t.Context())
	second, err2 := s.Head(t.Context())
	if err := errors.Join(err1, err2); err != nil || first.Identity != second.Identity {
		t.Errorf("%+v and %+v, error %v", first.Identity, second.Identity, err)
	}
}

func TestALedgerWithAnIDOfItsOwn(t *testing.T) {
	server := serve(t, vfs.NewMem(), "named", "")
	defer func() { _ = server.Close() }()
	first := uuid.New()
	for _, id := range []uuid.UUID{first, uuid.New()} { // the second time it is there already
		c := config(server)
		c.ID = id
		s, err := esdb.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if head, err := s.Head(t.Context()); err != nil || head.ID != first {
			t.Errorf("ledger %s, error %v; want %s", head.ID, err, first)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheNamesOfTheProduct(t *testing.T) {
	for url, want := range map[string]bool{
		"esdb://a": true, "esdb+discover://a": true, "kurrentdb://a": true, "kurrentdb+discover://a": true, "kurrent://a": true, "kdb://a": true,
		"esdb:a": false, "http://a": false, "esdb+other://a": false, "pebble:esdb://a": false, "": false,
	} {
		if got := esdb.IsConnectionString(url); got != want {
			t.Errorf("%q: %v, want %v", url, got, want)
		}
	}
}

func TestANewIncarnation(t *testing.T) {
	server := serve(t, vfs.NewMem(), "restored", "")
	defer func() { _ = server.Close() }()
	s := open(t, server.server.ConnectionString())
	a, err := s.Append(t.Context(), "order-1", eventstore.NoStream, []eventstore.Event{newEvent()})
	if err != nil {
		t.Fatal(err)
	}
	chain := eventstore.Hash{1}
	begun, err := s.BeginIncarnation(t.Context(), a.Position, chain)
	if err != nil || begun.Number != 1 || begun.After != a.Position || begun.Chain != chain || begun.Begun.IsZero() {
		t.Errorf("begun %+v, error %v", begun, err)
	}
	if _, err := s.BeginIncarnation(t.Context(), a.Position, chain); err == nil {
		t.Error("a store of the incarnation before has begun another one")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, server.server.ConnectionString())
	defer func() { _ = s.Close() }()
	if head, err := s.Head(t.Context()); err != nil || head.Incarnation != 1 {
		t.Errorf("head %+v, error %v", head, err)
	}
}

func TestOnlyTheNewestIsKept(t *testing.T) {
	server := serve(t, vfs.NewMem(), "newest", "")
	defer func() { _ = server.Close() }()
	s := open(t, server.server.ConnectionString())
	defer func() { _ = s.Close() }()
	if _, err := server.ledger.Append(t.Context(), "$$relay-bus", eventstore.NoStream, []eventstore.Event{{ID: uuid.New(), Type: "$metadata", Data: []byte(`{"$acl":{"$r":"ops"}}`)}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.KeepNewest(t.Context(), "relay-bus"); err != nil {
			t.Fatal(err)
		}
	}
	events := []eventstore.Event{newEvent(), newEvent(), newEvent()}
	for i := range events {
		expected := eventstore.Expected(i - 1)
		if a, err := s.Append(t.Context(), "relay-bus", expected, events[i:i+1]); err != nil || a.Revision != uint64(i) || a.Repeated {
			t.Errorf("appended %+v, error %v", a, err)
		}
	}
	// An append whose answer was lost comes again when what it wrote is not shown any more.
	if _, err := s.Append(t.Context(), "relay-bus", eventstore.NoStream, events[:1]); err != nil && !eventstore.IsConflict(err) {
		t.Errorf("a repetition: error %v, want none or a conflict", err)
	}
	n := 0
	for e, err := range s.ReadStream(t.Context(), "relay-bus", 0, eventstore.Forward) {
		if n++; err != nil || e.ID != events[2].ID || e.Revision != 2 {
			t.Errorf("read %+v, error %v", e, err)
		}
	}
	if n != 1 {
		t.Errorf("%d events are shown, want the newest", n)
	}
	var metadata []string
	for e, err := range server.ledger.ReadStream(t.Context(), "$$relay-bus", 0, eventstore.Forward) {
		if err != nil {
			t.Fatal(err)
		}
		metadata = append(metadata, string(e.Data))
	}
	if want := `{"$acl":{"$r":"ops"},"$maxCount":1}`; len(metadata) != 2 || metadata[1] != want {
		t.Errorf("metadata %v, want %s once", metadata, want)
	}
}
