package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// small makes every few events a segment.
func small() *pebblestore.Config {
	return &pebblestore.Config{SegmentSize: 16 << 10, Logger: slog.New(slog.DiscardHandler)}
}

func open(t *testing.T, dir string) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.Open(dir, small())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test has closed it, unless it failed
	return s
}

func closed(t *testing.T, s *pebblestore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func fill(t *testing.T, s *pebblestore.Store, stream string, n int) {
	t.Helper()
	for range n {
		e := eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Data: []byte(`{"of":"` + stream + `"}`)}
		if _, err := s.Append(context.WithoutCancel(t.Context()), stream, eventstore.Any, []eventstore.Event{e}); err != nil {
			t.Error(err)
			return
		}
	}
}

func all(t *testing.T, s *pebblestore.Store) (events []eventstore.Recorded) {
	t.Helper()
	for e, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func verified(t *testing.T, s *pebblestore.Store) {
	t.Helper()
	if r, err := s.Verify(t.Context(), nil); err != nil || r.Problem != "" {
		t.Errorf("report %+v, error %v", r, err)
	}
}

func head(t *testing.T, s *pebblestore.Store) eventstore.Head {
	t.Helper()
	h, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestRestoreDrill loses a ledger and goes on from its backup, on another machine.
func TestRestoreDrill(t *testing.T) {
	dir := t.TempDir()
	data, copied, elsewhere := filepath.Join(dir, "data"), filepath.Join(dir, "backup"), filepath.Join(dir, "elsewhere")
	s := open(t, data)
	fill(t, s, "order-1", 100)
	fill(t, s, "relay-main", 3)
	closed(t, s) // writes the anchor
	s = open(t, data)
	before := all(t, s)
	a, err := pebblestore.Backup(t.Context(), data, copied, small(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Head != head(t, s) {
		t.Errorf("the backup goes up to %+v, and the ledger to %+v", a.Head, head(t, s))
	}
	fill(t, s, "order-1", 5) // what will be lost
	closed(t, s)
	if err := os.CopyFS(elsewhere, os.DirFS(copied)); err != nil {
		t.Fatal(err)
	}

	// Until it is told that it is the ledger now, it can be read and checked, and takes nothing.
	for range 2 {
		s = open(t, elsewhere)
		if err := s.Writable(); !errors.Is(err, eventstore.ErrReadOnly) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("writable: %v", err)
		}
		if got := all(t, s); fmt.Sprint(got) != fmt.Sprint(before) {
			t.Errorf("the backup has\n%v, and the ledger had\n%v", got, before)
		}
		verified(t, s)
		closed(t, s)
	}
	begun, err := pebblestore.BeginIncarnation(elsewhere, small())
	if err != nil || begun.Number != 1 || begun.After != a.Position || begun.Chain != a.Chain {
		t.Fatalf("%+v, error %v; want incarnation 1 after %d", begun, err, a.Position)
	}
	if _, err := pebblestore.BeginIncarnation(elsewhere, small()); !errors.Is(err, pebblestore.ErrGoesOn) {
		t.Errorf("error %v, want ErrGoesOn", err)
	}
	s = open(t, elsewhere)
	if err := s.Writable(); err != nil {
		t.Error(err)
	}
	fill(t, s, "order-1", 10)
	verified(t, s)
	closed(t, s)
	s = open(t, elsewhere)
	if h := head(t, s); h.Incarnation != 1 || h.ID != a.ID || h.Position != a.Position+10 {
		t.Errorf("the head is %+v", h)
	}
	if events := all(t, s); len(events) != len(before)+10 || events[len(events)-1].Revision != 109 {
		t.Errorf("%d events, the last is %+v", len(events), events[len(events)-1])
	}
	if got := s.Incarnations(); len(got) != 2 || got[0].Number != 0 || got[0].After != 0 || got[1] != begun {
		t.Errorf("incarnations %+v", got)
	}
	verified(t, s)
	closed(t, s)
}

// TestAnOlderCopyGoesOnWhenTold puts older files in the place of newer ones.
func TestAnOlderCopyGoesOnWhenTold(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	s := open(t, data)
	fill(t, s, "order-1", 50)
	closed(t, s)
	if err := os.CopyFS(filepath.Join(dir, "older"), os.DirFS(filepath.Join(data, "ledger"))); err != nil {
		t.Fatal(err)
	}
	s = open(t, data)
	fill(t, s, "order-1", 50)
	closed(t, s)
	if err := os.RemoveAll(filepath.Join(data, "ledger")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(data, "ledger"), os.DirFS(filepath.Join(dir, "older"))); err != nil {
		t.Fatal(err)
	}
	s = open(t, data)
	if err := s.Writable(); !errors.Is(err, eventstore.ErrReadOnly) || !strings.Contains(err.Error(), "ends at position 50, and stood at 100") {
		t.Errorf("writable: %v", err)
	}
	closed(t, s)
	for number := range uint32(2) {
		if _, err := pebblestore.BeginIncarnation(data, small()); err != nil {
			t.Fatal(err)
		}
		s = open(t, data)
		fill(t, s, "order-1", 20)
		if h := head(t, s); h.Incarnation != number+1 {
			t.Errorf("the head is %+v", h)
		}
		verified(t, s)
		closed(t, s)
		// An older copy of the new incarnation is one as well.
		if err := os.RemoveAll(filepath.Join(data, "ledger")); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(data, "ledger"), os.DirFS(filepath.Join(dir, "older"))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackupBesideWriters copies while others write, again and again, and looks at every copy.
func TestBackupBesideWriters(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := open(t, data)
	fill(t, s, "order-0", 10)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for w := range 4 {
		wg.Go(func() {
			for range 400 {
				select {
				case <-done:
					return
				default:
					fill(t, s, fmt.Sprint("order-", w), 10)
				}
			}
		})
	}
	last := eventstore.Position(0)
	for n := range 4 {
		to := filepath.Join(t.TempDir(), "backup")
		a, err := pebblestore.Backup(t.Context(), data, to, small(), nil)
		if err != nil {
			t.Errorf("backup %d: %v", n, err)
			break
		}
		if a.Position < last {
			t.Errorf("backup %d goes up to %d, and the one before to %d", n, a.Position, last)
		}
		last = a.Position
		c := open(t, to)
		if got := all(t, c); uint64(len(got)) != uint64(a.Position) {
			t.Errorf("backup %d has %d events, and says %d", n, len(got), a.Position)
		}
		verified(t, c)
		closed(t, c)
	}
	close(done)
	wg.Wait()
	events := all(t, s)
	if uint64(last) > uint64(len(events)) {
		t.Errorf("a backup had %d events, and the ledger has %d", last, len(events))
	}
	closed(t, s)
}

func TestBackupRefuses(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if _, err := pebblestore.Backup(t.Context(), data, filepath.Join(dir, "b"), nil, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
	s := open(t, data)
	fill(t, s, "order-1", 1000)
	closed(t, s)
	if _, err := pebblestore.Backup(t.Context(), data, data, nil, nil); err == nil || !strings.Contains(err.Error(), "there is a ledger already") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pebblestore.Backup(ctx, data, filepath.Join(dir, "c"), nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	name := filepath.Join(data, "ledger", "00000002.log")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[1000] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pebblestore.Backup(t.Context(), data, filepath.Join(dir, "d"), nil, nil); !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("a damaged ledger: error %v, want ErrCorrupt", err)
	}
	if _, err := pebblestore.BeginIncarnation(filepath.Join(dir, "c", "no"), &pebblestore.Config{ReadOnly: true}); err == nil {
		t.Error("no error")
	}
}
