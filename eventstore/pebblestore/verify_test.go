package pebblestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// damage gets at the keys of a closed ledger.
type damage struct {
	t  *testing.T
	db *pebble.DB
}

func (d damage) get(key []byte) []byte {
	d.t.Helper()
	value, closer, err := d.db.Get(key)
	if err != nil {
		d.t.Fatalf("%q: %v", key, err)
	}
	defer func() { _ = closer.Close() }()
	return bytes.Clone(value)
}

func (d damage) set(key, value []byte) {
	d.t.Helper()
	if err := d.db.Set(key, value, pebble.Sync); err != nil {
		d.t.Fatal(err)
	}
}

func (d damage) delete(key []byte) {
	d.t.Helper()
	if err := d.db.Delete(key, pebble.Sync); err != nil {
		d.t.Fatal(err)
	}
}

func (d damage) event(p eventstore.Position) eventstore.Recorded {
	d.t.Helper()
	e, err := decodeRecord(p, d.get(recordKey(p)))
	if err != nil {
		d.t.Fatal(err)
	}
	return e
}

// put stores an event and its pointer.
func (d damage) put(p eventstore.Position, e eventstore.Recorded, head eventstore.Hash) {
	d.t.Helper()
	b, _ := encodeRecord(e.Stream, &e.Event)
	sealRecord(b, head, e.Time, e.Revision)
	d.set(recordKey(p), b)
	d.set(indexKey(e.Stream, e.Revision), positionValue(p))
}

// cut removes an event and its pointer.
func (d damage) cut(p eventstore.Position) {
	d.t.Helper()
	e := d.event(p)
	d.delete(recordKey(p))
	d.delete(indexKey(e.Stream, e.Revision))
}

// forge computes the chain anew from a position on.
func (d damage) forge(from, to eventstore.Position) {
	d.t.Helper()
	chain := recordHead(d.get(recordKey(from - 1)))
	for p := from; p <= to; p++ {
		e := d.event(p)
		if !eventstore.Internal(e.Stream) {
			chain = eventstore.Chain(chain, &e)
		}
		d.put(p, e, chain)
	}
}

func TestVerifyFindsWhatWasDamaged(t *testing.T) {
	const last = 20 // events; 4, 8, 12, 16 and 20 are internal
	for name, c := range map[string]struct {
		harm     func(d damage)
		bad      eventstore.Position
		problem  string
		readOnly bool
	}{
		"nothing": {harm: func(damage) {}},
		"an event was changed": {
			harm: func(d damage) {
				e := d.event(5)
				e.Data = []byte(`{"changed":true}`)
				d.put(5, e, recordHead(d.get(recordKey(5))))
			},
			bad: 5, problem: "the chain does not hold",
		},
		"the time of an event was changed": {
			harm: func(d damage) {
				e := d.event(5)
				e.Time = e.Time.Add(1)
				d.put(5, e, e.Chain)
			},
			bad: 5, problem: "the chain does not hold",
		},
		"an event was changed with its hash": {
			harm: func(d damage) {
				e := d.event(5)
				e.Data = []byte(`{"changed":true}`)
				d.put(5, e, eventstore.Chain(recordHead(d.get(recordKey(4))), &e))
			},
			bad: 6, problem: "the chain does not hold",
		},
		"an event was changed and the chain forged": {
			harm: func(d damage) {
				e := d.event(5)
				e.Data = []byte(`{"changed":true}`)
				d.put(5, e, e.Chain)
				d.forge(5, last)
			},
			bad: last, problem: "the anchor says", readOnly: true,
		},
		"an event was removed": {
			harm: func(d damage) { d.cut(5) },
			bad:  5, problem: "the record is missing",
		},
		"an internal event was removed": {
			harm: func(d damage) { d.cut(8) },
			bad:  8, problem: "the record is missing",
		},
		"the first event was removed": {
			harm: func(d damage) { d.cut(1) },
			bad:  1, problem: "the record is missing",
		},
		"an event was removed and the gap closed": {
			harm: func(d damage) {
				for p := eventstore.Position(5); p < last; p++ {
					e := d.event(p + 1)
					d.put(p, e, recordHead(d.get(recordKey(p+1))))
				}
				d.delete(recordKey(last))
			},
			bad: 5, problem: "the chain does not hold", readOnly: true,
		},
		"an event was inserted": {
			harm: func(d damage) {
				for p := eventstore.Position(last); p >= 5; p-- {
					d.put(p+1, d.event(p), recordHead(d.get(recordKey(p))))
				}
				e := eventstore.Recorded{Event: eventstore.Event{ID: uuid.New(), Type: "t"}, Stream: "order-new"}
				d.put(5, e, eventstore.Chain(recordHead(d.get(recordKey(4))), &e))
			},
			bad: 6, problem: "the chain does not hold",
		},
		"two events were swapped": {
			harm: func(d damage) {
				a, b := d.event(5), d.event(6)
				d.put(5, b, b.Chain)
				d.put(6, a, a.Chain)
			},
			bad: 5, problem: "the chain does not hold",
		},
		"the end was cut off": {
			harm: func(d damage) {
				for p := eventstore.Position(last); p > 15; p-- {
					d.cut(p)
				}
			},
			bad: 16, problem: "its end was cut off", readOnly: true,
		},
		"everything was cut off": {
			harm: func(d damage) {
				for p := eventstore.Position(last); p > 0; p-- {
					d.cut(p)
				}
			},
			bad: 1, problem: "its end was cut off", readOnly: true,
		},
		"a record is garbage": {
			harm: func(d damage) { d.set(recordKey(5), []byte("garbage")) },
			bad:  5, problem: "too short",
		},
		"a record has another version": {
			harm: func(d damage) {
				b := d.get(recordKey(5))
				b[0] = 9
				d.set(recordKey(5), b)
			},
			bad: 5, problem: "version 9",
		},
		"a record has a wrong length": {
			harm: func(d damage) { d.set(recordKey(5), append(d.get(recordKey(5)), 0)) },
			bad:  5, problem: "follow the record",
		},
		"a key is garbage": {
			harm: func(d damage) { d.set(append(recordKey(5), 1), []byte("garbage")) },
			bad:  6, problem: "not the key of a record",
		},
		"a pointer was removed": {
			harm: func(d damage) { d.delete(indexKey("order-1", 1)) },
			bad:  5, problem: "does not list its revision 1",
		},
		"a pointer was changed": {
			harm: func(d damage) { d.set(indexKey("order-1", 1), positionValue(6)) },
			bad:  5, problem: "lists its revision 1 at position 6",
		},
		"a pointer is garbage": {
			harm: func(d damage) { d.set(indexKey("order-1", 1), []byte{1}) },
			bad:  5, problem: "a pointer has 8 bytes",
		},
		"a pointer leads to another event": {
			harm: func(d damage) { d.set(indexKey("order-9", 0), positionValue(5)) },
			bad:  5, problem: `stream "order-9" lists revision 0`,
		},
		"a pointer leads beyond the end": {
			harm: func(d damage) { d.set(indexKey("order-9", 0), positionValue(last+7)) },
			bad:  last + 7, problem: `stream "order-9" lists revision 0`,
		},
		"a stream begins late": {
			harm: func(d damage) { d.set(indexKey("order-9", 3), positionValue(5)) },
			bad:  5, problem: `stream "order-9" lacks revision 0`,
		},
		"a key of the index is garbage": {
			harm: func(d damage) { d.set([]byte{indexPrefix, 0, 200, 1}, positionValue(5)) },
			bad:  last, problem: "not a key of the stream index",
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			cfg := &Config{FS: fs}
			s := mustOpen(t, "data", cfg)
			streams := []string{"order-1", "order-2", "order-3", "relay-1"}
			for i := range last {
				appendOne(t, s, streams[i%len(streams)])
			}
			mustClose(t, s)
			db, err := pebble.Open("data/ledger", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
			if err != nil {
				t.Fatal(err)
			}
			c.harm(damage{t, db})
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}

			s = mustOpen(t, "data", cfg)
			defer mustClose(t, s)
			if err := s.Writable(); (err != nil) != c.readOnly || err != nil && !errors.Is(err, eventstore.ErrReadOnly) {
				t.Errorf("ReadOnly = %v, want %v", err, c.readOnly)
			}
			r, err := s.Verify(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Bad != c.bad || !strings.Contains(r.Problem, c.problem) || (r.Problem == "") != (c.problem == "") {
				t.Errorf("found at %d: %q; want at %d: %q", r.Bad, r.Problem, c.bad, c.problem)
			}
			if c.problem == "" && r.Events != last {
				t.Errorf("%d events were checked, want %d", r.Events, last)
			}
		})
	}
}

func TestReadersTellWhatIsCorrupt(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, "data", &Config{FS: fs})
	for range 5 {
		appendOne(t, s, "order-1")
	}
	d := damage{t, s.db}
	d.set(indexKey("order-2", 0), positionValue(3))
	d.set(indexKey("order-3", 0), positionValue(99))
	d.set(indexKey("order-4", 0), []byte("garbage"))
	s.head.Store(&head{position: 100, replaced: s.head.Load().replaced})
	d.set(recordKey(2), []byte("garbage"))
	defer func() {
		s.head.Store(&head{position: 5, replaced: s.head.Load().replaced})
		mustClose(t, s)
	}()

	check := func(what string, wantEvents int, wantError string, seq func(func(eventstore.Recorded, error) bool)) {
		t.Helper()
		n := 0
		var last error
		for _, err := range seq {
			if last = err; err == nil {
				n++
			}
		}
		if n != wantEvents || !errors.Is(last, eventstore.ErrCorrupt) || !strings.Contains(last.Error(), wantError) {
			t.Errorf("%s: %d events, then %v; want %d, then ErrCorrupt %q", what, n, last, wantEvents, wantError)
		}
	}
	ctx := t.Context()
	check("ReadAll", 1, "at position 2", s.ReadAll(ctx, 0, eventstore.Filter{}))
	check("Subscribe", 1, "at position 2", s.Subscribe(ctx, 0, eventstore.Filter{}))
	check("ReadStream", 1, "at position 2", s.ReadStream(ctx, "order-1", 0, eventstore.Forward))
	check("backward", 3, "at position 2", s.ReadStream(ctx, "order-1", eventstore.End, eventstore.Backward))
	check("another stream's event", 0, "at position 3", s.ReadStream(ctx, "order-2", 0, eventstore.Forward))
	check("no event", 0, "at position 99", s.ReadStream(ctx, "order-3", 0, eventstore.Forward))
	check("no pointer", 0, "order-4", s.ReadStream(ctx, "order-4", 0, eventstore.Forward))
}

func TestVerifyReportsAndEnds(t *testing.T) {
	s := mustOpen(t, "data", &Config{FS: vfs.NewMem()})
	const n = verifyChunk + 10
	for range n / 500 {
		appendEvents(t, s, "order-1", 500)
	}
	appendEvents(t, s, "order-2", n%500)
	var calls []uint64
	r, err := s.Verify(t.Context(), func(done, total uint64) {
		if done > total {
			t.Errorf("%d of %d done", done, total)
		}
		calls = append(calls, done)
	})
	if err != nil || r.Problem != "" || r.Events != n || r.Head.Position != n {
		t.Errorf("report %+v, error %v", r, err)
	}
	if len(calls) < 4 || !slices.IsSorted(calls) {
		t.Errorf("progress %d", calls)
	}
	// The anchor may have been written once since the ledger was opened.
	first, last, ok := r.Unanchored()
	if r.Anchor == nil || first != r.Anchor.Position+1 || last != n || ok != (r.Anchor.Position < n) {
		t.Errorf("unanchored %d to %d, %t; the anchor is %+v", first, last, ok, r.Anchor)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	mustClose(t, s)
	if _, err := s.Verify(t.Context(), nil); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

func TestVerifyRunsBesideWriters(t *testing.T) {
	s := mustOpen(t, "data", &Config{FS: vfs.NewMem()})
	defer mustClose(t, s)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 500 {
				appendEvents(t, s, "order-1", 3)
				appendEvents(t, s, "order-2", 2)
			}
		})
	}
	for s.durable().Position < 5000 {
		r, err := s.Verify(t.Context(), nil)
		if err != nil || r.Problem != "" {
			t.Errorf("report %+v, error %v", r, err)
		}
	}
	wg.Wait()
}

// quiet drops Pebble's messages.
type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, a ...any) { panic(f) }

func mustOpen(t *testing.T, dir string, cfg *Config) *Store {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func appendOne(t *testing.T, s *Store, stream string) eventstore.Appended {
	t.Helper()
	return appendEvents(t, s, stream, 1)
}

func appendEvents(t *testing.T, s *Store, stream string, n int) eventstore.Appended {
	t.Helper()
	a, err := s.Append(context.WithoutCancel(t.Context()), stream, eventstore.Any, newEvents(n))
	if err != nil {
		t.Error(err)
	}
	return a
}

func newEvents(n int) []eventstore.Event {
	events := make([]eventstore.Event, n)
	for i := range events {
		events[i] = eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Data: binary.AppendUvarint(nil, uint64(i))}
	}
	return events
}
