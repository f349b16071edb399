package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
)

// TestEventsAreReadAcrossSegments appends groups of all sizes, smaller and larger than a segment, and reads them in every
// way, also after the ledger was opened again.
func TestEventsAreReadAcrossSegments(t *testing.T) {
	const size = 1 << 10
	cfg := &Config{FS: vfs.NewMem(), SegmentSize: size}
	s := mustOpen(t, "data", cfg)
	defer func() { mustClose(t, s) }()
	var want []eventstore.Event
	streams := map[string]int{}
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 60 {
		stream := fmt.Sprintf("order-%d", n%3)
		events := make([]eventstore.Event, 1+rng.IntN(4))
		for i := range events {
			events[i] = sized(stream, 200+rng.IntN(400))
		}
		if n%20 == 7 {
			events = []eventstore.Event{sized(stream, 3*size), sized(stream, 10*size)}
		}
		ctx, cancel := context.WithCancel(t.Context())
		followed := make(chan eventstore.Recorded)
		go func() {
			defer close(followed)
			for e, err := range s.Subscribe(ctx, eventstore.Position(len(want)), eventstore.Filter{}) {
				if err != nil {
					return
				}
				followed <- e
			}
		}()
		if _, err := s.Append(t.Context(), stream, eventstore.Any, events); err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if got := <-followed; got.ID != e.ID {
				t.Fatalf("append %d: the subscriber got %s, want %s", n, got.ID, e.ID)
			}
		}
		cancel()
		<-followed
		want = append(want, events...)
		streams[stream] += len(events)
		if n%7 == 0 {
			mustClose(t, s)
			s = mustOpen(t, "data", cfg)
		}
	}
	if n := len(*s.segments.segments.Load()); n < 20 {
		t.Errorf("%d segments", n)
	}
	for after := range want {
		i := after
		for e, err := range s.ReadAll(t.Context(), eventstore.Position(after), eventstore.Filter{}) {
			if err != nil || e.ID != want[i].ID || e.Position != eventstore.Position(i+1) || !bytes.Equal(e.Data, want[i].Data) {
				t.Fatalf("after %d: %s at %d, error %v; want %s at %d", after, e.ID, e.Position, err, want[i].ID, i+1)
			}
			i++
		}
		if i != len(want) {
			t.Fatalf("after %d: %d events, want %d", after, i-after, len(want)-after)
		}
	}
	for stream, n := range streams {
		for _, from := range []uint64{0, uint64(n) / 2, uint64(n) - 1} {
			checkStreamFrom(t, s, stream, uint64(n), from)
		}
	}
	checkWhole(t, s, len(want))
}

// checkStreamFrom reads a stream of n events from a revision on, forward and backward.
func checkStreamFrom(t *testing.T, s *Store, stream string, n, from uint64) {
	t.Helper()
	revision := from
	for e, err := range s.ReadStream(t.Context(), stream, from, eventstore.Forward) {
		if err != nil || e.Revision != revision || e.Stream != stream {
			t.Fatalf("%s forward from %d: revision %d of %q, error %v; want %d", stream, from, e.Revision, e.Stream, err, revision)
		}
		revision++
	}
	if revision != max(n, from) {
		t.Fatalf("%s forward from %d: ends with %d, want %d", stream, from, revision, n)
	}
	left := min(n, from+1)
	for e, err := range s.ReadStream(t.Context(), stream, from, eventstore.Backward) {
		if err != nil || e.Revision != left-1 || e.Stream != stream {
			t.Fatalf("%s backward from %d: revision %d of %q, error %v; want %d", stream, from, e.Revision, e.Stream, err, left-1)
		}
		left--
	}
	if left != 0 {
		t.Fatalf("%s backward from %d: %d events are missing", stream, from, left)
	}
}

func TestASegmentIsFilledToItsLastByte(t *testing.T) {
	const size = 1 << 10
	for name, c := range map[string]struct {
		sizes []int
		ends  []int64 // of the segments
	}{
		"exactly":           {[]int{size - headerSize, 200}, []int64{size, headerSize + 200}},
		"in two steps":      {[]int{400, size - headerSize - 400, 200}, []int64{size, headerSize + 200}},
		"a byte too much":   {[]int{400, size - headerSize - 399, 200}, []int64{headerSize + 400, headerSize + size - headerSize - 399 + 200}},
		"larger than one":   {[]int{5 * size, 200}, []int64{headerSize + 5*size, headerSize + 200}},
		"larger, afterward": {[]int{200, 5 * size, 200}, []int64{headerSize + 200, headerSize + 5*size, headerSize + 200}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &Config{FS: vfs.NewMem(), SegmentSize: size}
			for _, reopen := range []bool{false, true} {
				s := mustOpen(t, name, cfg)
				before := s.durable().Position
				for _, n := range c.sizes {
					if _, err := s.Append(t.Context(), "order-1", eventstore.Any, []eventstore.Event{sized("order-1", n)}); err != nil {
						t.Fatal(err)
					}
					if reopen {
						mustClose(t, s)
						s = mustOpen(t, name, cfg)
					}
				}
				if !reopen {
					var ends []int64
					for _, g := range *s.segments.segments.Load() {
						ends = append(ends, s.segments.limit(g.number, s.head.Load().end))
					}
					if !slices.Equal(ends, c.ends) {
						t.Errorf("segments end at %d, want %d", ends, c.ends)
					}
				}
				checkWhole(t, s, int(before)+len(c.sizes))
				mustClose(t, s)
			}
		})
	}
}

func TestSegmentsGrowAndTheNextIsMadeAhead(t *testing.T) {
	dir := t.TempDir()
	cfg := &Config{FS: vfs.Default, SegmentSize: 4 << 20}
	s := mustOpen(t, dir, cfg)
	defer func() { mustClose(t, s) }()
	data := bytes.Repeat([]byte("x"), 500<<10) // zeros are what a spare has
	n := 0
	one := func() {
		t.Helper()
		e := newEvents(1)
		e[0].Data = data
		if _, err := s.Append(t.Context(), "order-1", eventstore.Any, e); err != nil {
			t.Fatal(err)
		}
		n++
	}
	for len(*s.segments.segments.Load()) < 5 {
		one()
		sp := &s.segments.spare
		for sp.fed >= 1<<20 { // no one was there to take it
			runtime.Gosched()
			s.segments.spare.feed(0)
		}
	}
	sizes := []int64{1 << 20, 2 << 20, 4 << 20, 4 << 20}
	all := *s.segments.segments.Load()
	for i, size := range sizes {
		if end := s.segments.limit(all[i].number, 0); end > size || end < size-int64(len(data))-1000 {
			t.Errorf("segment %d ends at %d, and should have up to %d bytes", i+1, end, size)
		}
	}
	if ahead := all[4].size; ahead <= headerSize || ahead > 4<<20 {
		t.Errorf("the newest segment had %d bytes when it was begun", ahead)
	}
	checkWhole(t, s, n)

	// What a crash leaves, spare included, goes on.
	left := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	writeTo(t, vfs.Default, filepath.Join(left, "ledger", spareName), []byte("anything"))
	again := mustOpen(t, left, &Config{SegmentSize: 4 << 20})
	defer mustClose(t, again)
	if _, err := os.Stat(filepath.Join(left, "ledger", spareName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the spare is still there: %v", err)
	}
	appendOne(t, again, "order-1")
	checkWhole(t, again, n+1)
}

// TestACrashLeavesWholeAppends cuts the last group of a log off, byte by byte, and in other ways that a disk might.
func TestACrashLeavesWholeAppends(t *testing.T) {
	mem := vfs.NewMem()
	cfg := &Config{FS: mem, SegmentSize: 4 << 10}
	s := mustOpen(t, "data", cfg)
	appendEvents(t, s, "order-1", 2)
	appendEvents(t, s, "order-2", 3)
	mustClose(t, s)
	anchor := readFrom(t, mem, "data/"+anchorName)
	s = mustOpen(t, "data", cfg)
	last := newEvents(4)
	if _, err := s.Append(t.Context(), "order-1", eventstore.At(1), last); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	const name = "data/ledger/00000001.log"
	log := readFrom(t, mem, name)
	events := layOpen(t, mem, "data").events
	begin, end := int(events[5].at.offset()), bytes.LastIndexFunc(log, func(r rune) bool { return r != 0 })+1
	frames := []int{begin, int(events[6].at.offset()), int(events[7].at.offset()), int(events[8].at.offset()), end}

	check := func(what string, log []byte, want int) {
		t.Helper()
		fs := vfs.NewMem()
		cfg := &Config{FS: fs, SegmentSize: 4 << 10}
		if err := fs.MkdirAll("data/ledger", 0o750); err != nil {
			t.Fatal(err)
		}
		writeTo(t, fs, name, log)
		writeTo(t, fs, "data/"+anchorName, anchor)
		for _, readOnly := range []bool{true, false} {
			s, err := Open("data", &Config{FS: fs, ReadOnly: readOnly, Logger: slogDiscard})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if n := count(t, s); n != want {
				t.Fatalf("%s: %d events, want %d", what, n, want)
			}
			if after := readFrom(t, fs, name); readOnly && !bytes.Equal(after, log) {
				t.Fatalf("%s: a reader changed the log", what)
			}
			if readOnly {
				mustClose(t, s)
				continue
			}
			if after := readFrom(t, fs, name); len(bytes.Trim(after[s.head.Load().end.offset():], "\x00")) > 0 {
				t.Fatalf("%s: something stands behind the end", what)
			}
			// A smaller append takes the place of what was cut off.
			if a, err := s.Append(t.Context(), "order-1", eventstore.Any, last[:1]); err != nil || int(a.Position) != want+1 {
				t.Fatalf("%s: %+v, error %v", what, a, err)
			}
			mustClose(t, s)
			removeIndex(t, fs, "data")
			s = mustOpen(t, "data", cfg)
			checkWhole(t, s, want+1)
			mustClose(t, s)
		}
	}
	check("nothing", log, 9)
	for cut := begin; cut < end; cut += 61 {
		zeroed := slices.Clone(log)
		clear(zeroed[cut:])
		check(fmt.Sprintf("zeros from byte %d", cut), zeroed, 5)
		check(fmt.Sprintf("the end at byte %d", cut), log[:cut], 5)
	}
	for i := range last {
		torn := slices.Clone(log)
		clear(torn[frames[i]:frames[i+1]])
		check(fmt.Sprintf("event %d is missing", i), torn, 5)
		torn = slices.Clone(log)
		torn[frames[i]+recordAt] ^= 1
		check(fmt.Sprintf("event %d is torn", i), torn, 5)
	}
	check("garbage behind the end", slices.Concat(log[:end], []byte{1, 2, 3}, make([]byte, 500)), 9)
}

// TestDamageIsNoCrash damages events of the newest segment that a later one tells to have been durable, however far away.
func TestDamageIsNoCrash(t *testing.T) {
	for _, size := range []int{200, 500 << 10} {
		const events = 12
		cfg := &Config{FS: vfs.NewMem(), SegmentSize: 64 << 20}
		s := mustOpen(t, "data", cfg)
		s.segments.grow(64 << 20) // all in one
		for range events {
			e := sized("order-1", size)
			for i := range e.Data {
				e.Data[i] = byte(i)
			}
			if _, err := s.Append(t.Context(), "order-1", eventstore.Any, []eventstore.Event{e}); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, s)
		at := layOpen(t, cfg.FS, "data").events
		const name = "data/ledger/00000001.log"
		log := readFrom(t, cfg.FS, name)
		end := int(at[events-1].at.offset()) + size
		step := 1
		if size > 1<<10 {
			step = events - 1
		}
		for first := 0; first < events; first += step {
			for _, until := range []int{first + 1, events - 1, events} {
				damaged := slices.Clone(log)
				stop := end
				if until < events {
					stop = int(at[until].at.offset())
				}
				if stop <= int(at[first].at.offset()) {
					continue
				}
				clear(damaged[at[first].at.offset():stop])
				writeTo(t, cfg.FS, name, damaged)
				removeIndex(t, cfg.FS, "data")
				s, err := Open("data", &Config{FS: cfg.FS, Logger: slogDiscard})
				if until < events && first < until {
					if want := fmt.Sprintf("position %d: %v: ", first+1, at[first].at); !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), want) {
						t.Fatalf("events %d to %d: error %v, want ErrCorrupt at %s", first+1, until, err, want)
					}
					continue
				}
				// Nothing follows: only the anchor knows.
				if err != nil || !errors.Is(s.Writable(), eventstore.ErrReadOnly) {
					t.Fatalf("events %d to %d: error %v", first+1, until, err)
				}
				mustClose(t, s)
			}
		}
	}
}

func TestALogWithAWrongSegmentIsRefused(t *testing.T) {
	const dir = "data/ledger/"
	segment := func(n uint32) string { return dir + segmentName(n) }
	rewrite := func(t *testing.T, fs vfs.FS, n uint32, change func(h *header)) {
		h, err := decodeHeader(readFrom(t, fs, segment(n)))
		if err != nil {
			t.Fatal(err)
		}
		change(&h)
		writeAt(t, fs, segment(n), 0, h.encode())
	}
	for name, c := range map[string]struct {
		harm func(t *testing.T, fs vfs.FS)
		want string
		copy bool // it is opened for reading, as an older copy
	}{
		"the first is missing": {harm: func(t *testing.T, fs vfs.FS) { remove(t, fs, segment(1)) }, want: "00000001.log is missing"},
		"one is missing":       {harm: func(t *testing.T, fs vfs.FS) { remove(t, fs, segment(2)) }, want: "00000002.log is missing"},
		"the last is missing":  {harm: func(t *testing.T, fs vfs.FS) { remove(t, fs, segment(3)) }, copy: true},
		"two are swapped": {
			harm: func(t *testing.T, fs vfs.FS) {
				a, b := readFrom(t, fs, segment(2)), readFrom(t, fs, segment(3))
				writeTo(t, fs, segment(2), b)
				writeTo(t, fs, segment(3), a)
			},
			want: "00000002.log: its header is that of segment 3",
		},
		"one is of another ledger": {
			harm: func(t *testing.T, fs vfs.FS) { rewrite(t, fs, 2, func(h *header) { h.identity.ID[0]++ }) },
			want: "00000002.log: it is of ledger",
		},
		"one has other lanes": {
			harm: func(t *testing.T, fs vfs.FS) { rewrite(t, fs, 2, func(h *header) { h.identity.Lanes++ }) },
			want: "00000002.log: it is of ledger",
		},
		"one is of an older incarnation": {
			harm: func(t *testing.T, fs vfs.FS) { rewrite(t, fs, 2, func(h *header) { h.identity.Incarnation = 7 }) },
			want: "00000003.log: it is of incarnation 0",
		},
		"one follows another": {
			harm: func(t *testing.T, fs vfs.FS) { rewrite(t, fs, 3, func(h *header) { h.before = addressOf(1, 200) }) },
			want: "00000003.log: it does not follow",
		},
		"one follows from beyond": {
			harm: func(t *testing.T, fs vfs.FS) { rewrite(t, fs, 3, func(h *header) { h.before = addressOf(2, 1<<30) }) },
			want: "00000003.log: it does not follow",
		},
		"one follows from a header": {
			harm: func(t *testing.T, fs vfs.FS) { rewrite(t, fs, 3, func(h *header) { h.before = addressOf(2, 1) }) },
			want: "00000003.log: it does not follow",
		},
		"one begins before the one before": {
			harm: func(t *testing.T, fs vfs.FS) { rewrite(t, fs, 3, func(h *header) { h.first = 1 }) },
			want: "00000003.log: it does not follow",
		},
		"the first is not": {
			harm: func(t *testing.T, fs vfs.FS) { rewrite(t, fs, 1, func(h *header) { h.first = 2 }) },
			want: "00000001.log: it is not the first",
		},
		"a header is damaged": {
			harm: func(t *testing.T, fs vfs.FS) { writeAt(t, fs, segment(2), 70, []byte{1, 2, 3}) },
			want: "00000002.log: the checksum of its header is wrong",
		},
		"the newest header is damaged": {
			harm: func(t *testing.T, fs vfs.FS) { writeAt(t, fs, segment(3), 70, []byte{1, 2, 3}) },
			want: "00000003.log: the checksum of its header is wrong",
		},
		"one is something else": {
			harm: func(t *testing.T, fs vfs.FS) { writeAt(t, fs, segment(2), 0, []byte("something else")) },
			want: "00000002.log: it does not begin as a segment",
		},
		"one is cut off": {
			harm: func(t *testing.T, fs vfs.FS) { writeTo(t, fs, segment(2), readFrom(t, fs, segment(2))[:300]) },
			want: "00000003.log: it does not follow",
		},
		"one is empty": {
			harm: func(t *testing.T, fs vfs.FS) { writeTo(t, fs, segment(2), nil) },
			want: "00000002.log: its header is cut off",
		},
		"the newest is cut off": {
			harm: func(t *testing.T, fs vfs.FS) { writeTo(t, fs, segment(3), readFrom(t, fs, segment(3))[:300]) },
			copy: true,
		},
		"the newest is empty": {harm: func(t *testing.T, fs vfs.FS) { writeTo(t, fs, segment(3), nil) }, copy: true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &Config{FS: vfs.NewMem(), SegmentSize: 1 << 10}
			s := mustOpen(t, "data", cfg)
			for range 14 {
				appendOne(t, s, "order-1")
			}
			if n := s.segments.newest().number; n != 3 {
				t.Fatalf("%d segments", n)
			}
			mustClose(t, s)
			c.harm(t, cfg.FS)
			for _, readOnly := range []bool{true, false} {
				s, err := Open("data", &Config{FS: cfg.FS, ReadOnly: readOnly, Logger: slogDiscard})
				if c.want != "" {
					if !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
						t.Errorf("error %v, want ErrCorrupt: %s", err, c.want)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Writable(); !errors.Is(err, eventstore.ErrReadOnly) {
					t.Errorf("writable: %v", err)
				}
				if r, err := s.Verify(t.Context(), nil); err != nil || !strings.Contains(r.Problem, "its end was cut off") {
					t.Errorf("report %+v, error %v", r, err)
				}
				mustClose(t, s)
			}
		})
	}
}

// TestACrashWhileASegmentWasBegun leaves one without a whole header: nothing was written to it.
func TestACrashWhileASegmentWasBegun(t *testing.T) {
	for _, events := range []int{0, 3} {
		for size := 0; size <= headerSize; size += headerSize / 4 {
			cfg := &Config{FS: vfs.NewMem(), SegmentSize: 1 << 10}
			if events > 0 {
				s := mustOpen(t, "data", cfg)
				appendEvents(t, s, "order-1", events)
				mustClose(t, s)
			} else if err := cfg.FS.MkdirAll("data/ledger", 0o750); err != nil {
				t.Fatal(err)
			}
			name := "data/ledger/" + segmentName(1)
			if events > 0 {
				name = "data/ledger/" + segmentName(2)
			}
			writeTo(t, cfg.FS, name, make([]byte, size))
			if events == 0 {
				if _, err := Open("data", &Config{FS: cfg.FS, ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("error %v, want fs.ErrNotExist", err)
				}
			}
			for n := range 2 {
				s := mustOpen(t, "data", cfg)
				for range 8 {
					appendOne(t, s, "order-1")
				}
				checkWhole(t, s, events+8*(n+1))
				mustClose(t, s)
			}
		}
	}
}

func remove(t *testing.T, fs vfs.FS, name string) {
	t.Helper()
	if err := fs.Remove(name); err != nil {
		t.Fatal(err)
	}
}
