package pebblestore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// elsewhere makes the events of another ledger, with times of their own and positions with gaps.
func elsewhere(n int) (events []eventstore.Recorded, chain eventstore.Hash) {
	for i := range n {
		e := eventstore.Recorded{
			Event:  eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Metadata: []byte(`{}`), Data: fmt.Appendf(nil, `{"n":%d}`, i)},
			Stream: fmt.Sprintf("order-%d", i%7), Revision: uint64(i / 7), Position: eventstore.Position(10*i + 5),
			Time: time.Date(2011, 12, 9, 12, 50, 0, i, time.UTC),
		}
		chain = eventstore.Chain(chain, &e)
		events = append(events, e)
	}
	return events, chain
}

func openCopy(t *testing.T, dir string, of eventstore.Identity) *pebblestore.Copy {
	t.Helper()
	c, err := pebblestore.OpenCopy(dir, small(), of)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACopyOfAnotherLedger(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "copy")
	source := eventstore.Identity{ID: uuid.New(), Lanes: 8, Format: 1, Incarnation: 3}
	events, chain := elsewhere(5000)
	for begin := 0; begin < len(events); begin += 1250 { // it is interrupted again and again
		c := openCopy(t, dir, source)
		if err := c.Add(t.Context(), events[begin:begin+1250]); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir)
		if err := s.Writable(); !errors.Is(err, eventstore.ErrReadOnly) {
			t.Errorf("an unfinished copy takes writes: %v", err)
		}
		closed(t, s)
		if err := os.RemoveAll(filepath.Join(dir, "ledger", "index")); begin == 1250 && err != nil {
			t.Fatal(err)
		}
	}
	c := openCopy(t, dir, source)
	i := 0
	for r, err := range c.ReadAll(t.Context(), 0, eventstore.Filter{Public: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.ID != events[i].ID || !r.Time.Equal(events[i].Time) || r.Position != eventstore.Position(i+1) {
			t.Fatalf("event %d is %+v", i, r)
		}
		i++
	}
	if err := c.Finish(t.Context(), 5000, eventstore.Hash{1}); err == nil {
		t.Error("a copy with another chain was finished")
	}
	if err := c.Finish(t.Context(), 5000, chain); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pebblestore.OpenCopy(dir, small(), source); !errors.Is(err, pebblestore.ErrTaken) {
		t.Errorf("a finished copy goes on with error %v, want ErrTaken", err)
	}

	s := open(t, dir)
	defer closed(t, s)
	verified(t, s)
	want := eventstore.Identity{ID: source.ID, Lanes: 8, Format: pebblestore.Format, Incarnation: 4}
	if h := head(t, s); h.Identity != want || h.Position != 5000 || h.Chain != chain {
		t.Errorf("the copy ends as %+v, want %+v at 5000 with %s", h, want, chain)
	}
	incarnations := s.Incarnations()
	if len(incarnations) != 2 || incarnations[0].Number != 3 || incarnations[1].Number != 4 || incarnations[1].After != 5000 || incarnations[1].Chain != chain {
		t.Errorf("incarnations %+v", incarnations)
	}
	again := events[4999].Event
	if a, err := s.Append(t.Context(), events[4999].Stream, eventstore.At(events[4999].Revision-1), []eventstore.Event{again}); err != nil || !a.Repeated {
		t.Errorf("a retry is answered with %+v, error %v", a, err)
	}
	fill(t, s, "order-1", 3)
	verified(t, s)
}

func TestACopyOfNothing(t *testing.T) {
	dir := t.TempDir()
	c := openCopy(t, dir, eventstore.Identity{ID: uuid.New(), Lanes: 8})
	if err := c.Finish(t.Context(), 0, eventstore.Hash{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	defer closed(t, s)
	fill(t, s, "order-1", 3)
	verified(t, s)
}

func TestACopyRefuses(t *testing.T) {
	source := eventstore.Identity{ID: uuid.New(), Lanes: 8}
	taken := func(name, dir string, of eventstore.Identity) {
		t.Helper()
		if _, err := pebblestore.OpenCopy(dir, small(), of); !errors.Is(err, pebblestore.ErrTaken) {
			t.Errorf("%s: error %v, want ErrTaken", name, err)
		}
	}
	ledger := t.TempDir()
	s := open(t, ledger)
	fill(t, s, "order-1", 3)
	locked := (*eventstore.LockedError)(nil)
	if _, err := pebblestore.OpenCopy(ledger, small(), source); !errors.As(err, &locked) {
		t.Errorf("a ledger in use: error %v", err)
	}
	id := head(t, s).Identity
	closed(t, s)
	taken("another ledger", ledger, source)
	taken("the ledger itself", ledger, id)
	backup := t.TempDir()
	if _, err := pebblestore.Backup(t.Context(), ledger, backup, nil, nil); err != nil {
		t.Fatal(err)
	}
	taken("a backup", backup, id)
	if err := os.Remove(filepath.Join(ledger, "anchor.json")); err != nil {
		t.Fatal(err)
	}
	taken("a ledger without an anchor", ledger, id)

	dir := t.TempDir()
	c := openCopy(t, dir, source)
	events, _ := elsewhere(20)
	if err := c.Add(t.Context(), events[:10]); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(t.Context(), events[17:]); !eventstore.IsConflict(err) {
		t.Errorf("events without those before them: error %v, want a conflict", err)
	}
	if err := c.Add(t.Context(), []eventstore.Recorded{{Stream: "order-1"}}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("an event that is none: error %v, want ErrInvalid", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]eventstore.Identity{
		"another ledger":      {ID: uuid.New(), Lanes: 8},
		"another incarnation": {ID: source.ID, Lanes: 8, Incarnation: 1},
		"other lanes":         {ID: source.ID, Lanes: 9},
	} {
		taken("the unfinished copy of "+name, dir, of)
	}
}

// A crash comes between the two writes that finish a copy.
func TestACopyThatIsFinishedTwice(t *testing.T) {
	dir := t.TempDir()
	source := eventstore.Identity{ID: uuid.New(), Lanes: 8}
	events, chain := elsewhere(10)
	c := openCopy(t, dir, source)
	if err := c.Add(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, "anchor.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(t.Context(), 10, chain); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "anchor.json"), before, 0o600); err != nil {
		t.Fatal(err)
	}
	c = openCopy(t, dir, source)
	if err := c.Finish(t.Context(), 10, chain); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	defer closed(t, s)
	if n := len(s.Incarnations()); n != 2 || s.Writable() != nil {
		t.Errorf("%d incarnations, want 2; %v", n, s.Writable())
	}
}

func TestOneProcessClaimsADirectory(t *testing.T) {
	dir := t.TempDir()
	c, err := pebblestore.ClaimDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Announce("http://127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	locked := (*eventstore.LockedError)(nil)
	if _, err := pebblestore.ClaimDir(dir); !errors.As(err, &locked) || locked.Address != "http://127.0.0.1:1" || locked.PID != os.Getpid() {
		t.Errorf("a second claim: error %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pebblestore.Announced(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still announced: %v", err)
	}
	if c, err = pebblestore.ClaimDir(dir); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pebblestore.ClaimDir(filepath.Join(dir, "missing")); err == nil || errors.As(err, &locked) {
		t.Errorf("a directory that is missing: error %v", err)
	}
}
