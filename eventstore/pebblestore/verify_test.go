package pebblestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

func TestVerifyFindsWhatWasDamaged(t *testing.T) {
	const last = 20 // events, the first 12 of them in one segment; 4, 8, 12, 16 and 20 are internal
	changed := []byte(`{"changed":true}`)
	for name, c := range map[string]struct {
		harm    func(l *layout)
		bad     eventstore.Position
		problem string
		refused eventstore.Position // where Open finds it; 0: at bad
	}{
		"nothing": {harm: func(*layout) {}},
		"an event was changed": {
			harm: func(l *layout) { l.event(5).Data = changed },
			bad:  5, problem: "the chain does not hold",
		},
		"the time of an event was changed": {
			harm: func(l *layout) { l.event(5).Time = l.event(5).Time.Add(1) },
			bad:  5, problem: "the chain does not hold",
		},
		"an event was changed with its hash": {
			harm: func(l *layout) {
				l.event(5).Data = changed
				l.event(5).chain = eventstore.Chain(l.event(4).chain, &l.event(5).Recorded)
			},
			bad: 6, problem: "the chain does not hold",
		},
		"the last event was changed with its hash": {
			harm: func(l *layout) {
				l.event(19).Data = changed
				l.forge(19)
			},
			bad: last, problem: "the anchor says",
		},
		"an event was changed and the chain forged": {
			harm: func(l *layout) {
				l.event(5).Data = changed
				l.forge(5)
				l.headers[1].chain = l.event(12).chain
			},
			bad: last, problem: "the anchor says",
		},
		"an internal event changed the chain": {
			harm: func(l *layout) { l.event(16).chain = eventstore.Hash{1} },
			bad:  16, problem: "the chain does not hold",
		},
		"an event was removed": {
			harm: func(l *layout) { l.events = slices.Delete(l.events, 4, 5) },
			bad:  5, problem: "the event is missing: position 6 stands in its place",
		},
		"an event of the newest segment was removed": {
			harm: func(l *layout) { l.events = slices.Delete(l.events, 14, 15) },
			bad:  15, problem: "the event is missing",
		},
		"an internal event was removed": {
			harm: func(l *layout) { l.events = slices.Delete(l.events, 7, 8) },
			bad:  8, problem: "the event is missing",
		},
		"the first event was removed": {
			harm: func(l *layout) { l.events = l.events[1:] },
			bad:  1, problem: "the event is missing",
		},
		"an event was removed and the gap closed": {
			harm: func(l *layout) {
				l.events = slices.Delete(l.events, 4, 5)
				l.number()
			},
			bad: 5, problem: "the chain does not hold",
		},
		"an event was removed, the gap closed and the chain forged": {
			harm: func(l *layout) {
				l.events = slices.Delete(l.events, 4, 5)
				l.number()
				l.forge(1)
				l.event(8).before = l.event(1)
				l.headers[1].first, l.headers[1].chain = 12, l.event(11).chain
			},
			bad: 8, problem: `revision 2 of stream "order-1" points to revision 0`,
		},
		"an event was inserted": {
			harm: func(l *layout) {
				e := eventstore.Recorded{Event: eventstore.Event{ID: uuid.New(), Type: "t"}, Stream: "order-new"}
				l.events = slices.Insert(l.events, 4, &event{Recorded: e, segment: 1, chain: eventstore.Chain(l.event(4).chain, &e)})
				l.number()
			},
			bad: 6, problem: "the chain does not hold",
		},
		"two events were swapped": {
			harm: func(l *layout) {
				l.events[4], l.events[5] = l.events[5], l.events[4]
				l.number()
			},
			bad: 5, problem: "the chain does not hold",
		},
		"an event was written twice": {
			harm: func(l *layout) { l.events = slices.Insert(l.events, 5, l.event(5)) },
			bad:  6, problem: "the event is missing: position 5 stands in its place",
		},
		"the end was cut off": {
			harm: func(l *layout) { l.events = l.events[:15] },
			bad:  16, problem: "its end was cut off",
		},
		"everything was cut off": {
			harm: func(l *layout) { l.events, l.headers = nil, l.headers[:1] },
			bad:  1, problem: "its end was cut off",
		},
		"an event is garbage": {
			harm: func(l *layout) { l.event(5).raw = []byte("garbage") },
			bad:  5, problem: "wrong length",
		},
		"an event is zeros": {
			harm: func(l *layout) { l.event(15).raw = make([]byte, 100) },
			bad:  15, problem: "the log ends here",
		},
		"an event has no canonical form": {
			harm: func(l *layout) {
				f := frame(append(make([]byte, recordAt), "garbage garbage"...))
				copy(f, []byte{0, 0, 0, byte(len(f) - positionAt), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5})
				chain := l.event(4).chain
				copy(f[chainAt:], chain[:])
				chain = f.link()
				copy(f[chainAt:], chain[:])
				sum := f.checksum()
				copy(f[checksumAt:], []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
				l.event(5).raw = f
			},
			bad: 5, problem: "a field of the record has a wrong length",
		},
		"a frame points to another event": {
			harm: func(l *layout) { l.event(9).before = l.event(6) },
			bad:  9, problem: `revision 2 of stream "order-1" points to revision 1 of "order-2"`,
		},
		"a frame points to an older event": {
			harm: func(l *layout) { l.event(9).before = l.event(1) },
			bad:  9, problem: `points to revision 0 of "order-1"`,
		},
		"a frame points nowhere": {
			harm: func(l *layout) { l.event(9).before = nil },
			bad:  9, problem: "revision 2 of stream",
		},
		"a frame points where no event is": {
			harm: func(l *layout) { l.event(9).before = &event{at: addressOf(1, 130)} },
			bad:  9, problem: "00000001.log at byte 130",
		},
		"a frame points beyond the log": {
			harm: func(l *layout) { l.event(9).before = &event{at: addressOf(7, 130)} },
			bad:  9, problem: "00000007.log is missing",
		},
		"the first event of a stream points somewhere": {
			harm: func(l *layout) { l.event(2).before = l.event(1) },
			bad:  2, problem: `revision 0 of stream "order-2" points to`,
		},
		"an append lost its end": {
			harm: func(l *layout) { l.event(6).left = 3 },
			bad:  7, problem: "3 events of the append before this one are missing", refused: 6,
		},
		"the last append lost its end": {
			harm: func(l *layout) { l.event(last).left = 2 },
			bad:  last + 1, problem: "2 events of the last append are missing",
		},
		"a segment begins with another position": {
			harm: func(l *layout) { l.headers[1].first = 12 },
			bad:  13, problem: "00000002.log says that it begins with position 12",
		},
		"a segment begins with another chain": {
			harm: func(l *layout) { l.headers[1].chain = eventstore.Hash{1} },
			bad:  13, problem: "00000002.log says that it begins with position 13 after 01",
		},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			cfg := &Config{FS: mem, SegmentSize: 2 << 10}
			s := mustOpen(t, "data", cfg)
			streams := []string{"order-1", "order-2", "order-3", "relay-1"}
			for i := range last {
				appendOne(t, s, streams[i%len(streams)])
			}
			mustClose(t, s)
			l := layOpen(t, mem, "data")
			if len(l.headers) != 2 || l.headers[1].first != 13 {
				t.Fatalf("segments %+v", l.headers)
			}
			c.harm(l)
			l.write()

			// Verify finds it, even if the index was made to fit.
			l.fitIndex()
			fitted := *cfg
			fitted.ReadOnly = true
			s = mustOpen(t, "data", &fitted)
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
			mustClose(t, s)

			// Without the index, Open reads the log: it refuses what no crash leaves, and takes the rest for an older copy.
			removeIndex(t, mem, "data")
			s, err = Open("data", cfg)
			if err != nil {
				if c.problem == "" || !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), fmt.Sprintf("position %d:", cmp.Or(c.refused, c.bad))) {
					t.Errorf("error %v, want ErrCorrupt", err)
				}
				return
			}
			if err := s.Writable(); err != nil && (c.problem == "" || !errors.Is(err, eventstore.ErrReadOnly)) {
				t.Errorf("writable: %v", err)
			}
			if r, err := s.Verify(t.Context(), nil); err != nil || (r.Problem == "") != (c.problem == "") {
				t.Errorf("report %+v, error %v", r, err)
			}
			mustClose(t, s)
		})
	}
}

func TestVerifyFindsADamagedIndex(t *testing.T) {
	const (
		events = 600 // of one stream
		last   = events + 1
	)
	at := func(n uint32, offset int64) []byte { return encodeTail(tail{0, addressOf(n, offset)})[8:] }
	for name, c := range map[string]struct {
		harm    func(b *pebble.Batch) error
		problem string
	}{
		"nothing":          {func(*pebble.Batch) error { return nil }, ""},
		"a stream is gone": {func(b *pebble.Batch) error { return b.Delete(streamKey("order-2"), nil) }, "knows streams with 600 events, and the log has 601"},
		"a stream too many": {func(b *pebble.Batch) error {
			return b.Set(streamKey("order-9"), encodeTail(tail{0, addressOf(1, headerSize)}), nil)
		}, `revision 0 of "order-9" was looked for`},
		"a stream ends early": {
			func(b *pebble.Batch) error {
				return b.Set(streamKey("order-1"), encodeTail(tail{0, addressOf(1, headerSize)}), nil)
			},
			"knows streams with 2 events",
		},
		"a stream ends nowhere":   {func(b *pebble.Batch) error { return b.Set(streamKey("order-2"), encodeTail(tail{0, 7}), nil) }, "00000000.log is missing"},
		"a stream ends in pieces": {func(b *pebble.Batch) error { return b.Set(streamKey("order-2"), []byte("garbage"), nil) }, "has 16 bytes"},
		"a key is garbage":        {func(b *pebble.Batch) error { return b.Set([]byte{streamPrefix, 0, 200, 1}, nil, nil) }, "not a key"},
		"a key is too long":       {func(b *pebble.Batch) error { return b.Set(append(streamKey("order-1"), 1), nil, nil) }, "not a key"},
		"a waypoint is gone":      {func(b *pebble.Batch) error { return b.Delete(waypointKey("order-1", 127), nil) }, `it lacks revision 127 of stream "order-1"`},
		"a waypoint is wrong":     {func(b *pebble.Batch) error { return b.Set(waypointKey("order-1", 127), at(1, headerSize), nil) }, "stands where revision 127"},
		"a waypoint is garbage":   {func(b *pebble.Batch) error { return b.Set(waypointKey("order-1", 127), []byte{1}, nil) }, "has 8 bytes"},
		"a position is gone":      {func(b *pebble.Batch) error { return b.Delete(positionKey(512), nil) }, "leads to position 256 for position 512"},
		"a position is wrong":     {func(b *pebble.Batch) error { return b.Set(positionKey(512), at(1, headerSize), nil) }, "leads to position 1 for position 512"},
		"a position is nowhere":   {func(b *pebble.Batch) error { return b.Set(positionKey(512), at(1, 1<<20), nil) }, "no event begins there"},
		"a position is garbage":   {func(b *pebble.Batch) error { return b.Set(positionKey(512), nil, nil) }, "has 8 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &Config{FS: vfs.NewMem()}
			s := mustOpen(t, "data", cfg)
			appendEvents(t, s, "order-1", events)
			appendOne(t, s, "order-2")
			mustClose(t, s)
			changeIndex(t, cfg.FS, "data", c.harm)
			s = mustOpen(t, "data", cfg)
			r, err := s.Verify(t.Context(), nil)
			if err != nil || !strings.Contains(r.Problem, c.problem) || (r.Problem == "") != (c.problem == "") || c.problem != "" && r.Bad != last {
				t.Errorf("report %+v, error %v; want at %d: %q", r, err, last, c.problem)
			}
			if c.problem != "" && !strings.Contains(r.Problem, "data/ledger/index") {
				t.Errorf("%q does not say what to do", r.Problem)
			}
			_ = s.Close()

			removeIndex(t, cfg.FS, "data")
			s = mustOpen(t, "data", cfg)
			defer mustClose(t, s)
			checkWhole(t, s, last)
		})
	}
}

// TestReadersTellWhatIsCorrupt has a damaged log, and an index that leads elsewhere.
func TestReadersTellWhatIsCorrupt(t *testing.T) {
	const events = 600
	cfg := &Config{FS: vfs.NewMem(), SegmentSize: 64 << 10}
	s := mustOpen(t, "data", cfg)
	for range events {
		appendOne(t, s, "order-1")
	}
	mustClose(t, s)
	l := layOpen(t, cfg.FS, "data")
	l.event(3).raw = make([]byte, len(frame(appendFrame(nil, "order-1", &l.event(3).Event, 0))))
	l.write()
	changeIndex(t, cfg.FS, "data", func(b *pebble.Batch) error {
		to := func(e *event) []byte { return encodeTail(tail{0, e.at}) }
		return errors.Join(
			b.Set(streamKey("order-2"), to(l.event(4)), nil),
			b.Set(streamKey("order-3"), encodeTail(tail{0, addressOf(9, 128)}), nil),
			b.Set(streamKey("order-4"), []byte("garbage"), nil),
			b.Set(streamKey("order-5"), encodeTail(tail{0, addressOf(1, 7)}), nil),
			b.Set(positionKey(256), to(l.event(events))[8:], nil),
			b.Set(positionKey(512), to(l.event(10))[8:], nil),
		)
	})
	s = mustOpen(t, "data", cfg)
	defer mustClose(t, s)

	check := func(what string, wantEvents int, wantError string, seq func(func(eventstore.Recorded, error) bool)) {
		t.Helper()
		n := 0
		var last error
		for _, err := range seq {
			if last = err; err == nil {
				n++
			}
		}
		if n != wantEvents || !errors.Is(last, eventstore.ErrCorrupt) || !strings.Contains(fmt.Sprint(last), wantError) {
			t.Errorf("%s: %d events, then %v; want %d, then ErrCorrupt %q", what, n, last, wantEvents, wantError)
		}
	}
	ctx := t.Context()
	check("ReadAll", 2, "00000001.log at byte", s.ReadAll(ctx, 0, eventstore.Filter{}))
	check("Subscribe", 2, "00000001.log at byte", s.Subscribe(ctx, 0, eventstore.Filter{}))
	check("from the damage", 0, "00000001.log at byte", s.ReadAll(ctx, 2, eventstore.Filter{}))
	check("a pointer too far", 0, "position 300: the event is missing", s.ReadAll(ctx, 299, eventstore.Filter{}))
	check("a pointer too near", 0, "for position 600", s.ReadAll(ctx, 599, eventstore.Filter{}))
	check("ReadStream", 0, "00000001.log at byte", s.ReadStream(ctx, "order-1", 0, eventstore.Forward))
	check("backward", 48, "00000001.log at byte", s.ReadStream(ctx, "order-1", 63, eventstore.Backward))
	check("another stream's event", 0, "at position 4", s.ReadStream(ctx, "order-2", 0, eventstore.Forward))
	check("no segment", 0, "00000009.log is missing", s.ReadStream(ctx, "order-3", 0, eventstore.Forward))
	check("no pointer", 0, "order-4", s.ReadStream(ctx, "order-4", 0, eventstore.Forward))
	check("within a header", 0, "no event begins there", s.ReadStream(ctx, "order-5", 0, eventstore.Forward))
	if _, err := s.Append(ctx, "order-4", eventstore.Any, newEvents(1)); !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("Append: error %v, want ErrCorrupt", err)
	}
	if _, err := s.Append(ctx, "order-1", eventstore.At(1), newEvents(1)); !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("a repeat: error %v, want ErrCorrupt", err)
	}
	appendOne(t, s, "order-1") // what is whole goes on
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
	if len(calls) < 3 || !slices.IsSorted(calls) {
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
