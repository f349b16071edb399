package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
)

func TestKeysSortAsStreamsAndRevisions(t *testing.T) {
	anyName := rapid.StringN(1, -1, eventstore.MaxStreamName)
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyName.Draw(t, "a"), anyName.Draw(t, "b")
		r1, r2 := rapid.Uint64().Draw(t, "r1"), rapid.Uint64().Draw(t, "r2")
		k := waypointKey(a, r1)
		stream, rest, err := cutName(k)
		if err != nil || stream != a || !bytes.Equal(rest, waypointKey(a, r1)[len(k)-8:]) {
			t.Fatalf("key of %q, %d is cut into %q and %x, error %v", a, r1, stream, rest, err)
		}
		if stream, rest, err := cutName(streamKey(a)); err != nil || stream != a || len(rest) > 0 {
			t.Fatalf("key of %q is cut into %q and %x, error %v", a, stream, rest, err)
		}
		for n := range streamKey(a) {
			if _, _, err := cutName(k[:n]); err == nil {
				t.Fatalf("the first %d bytes are taken for a key", n)
			}
		}
		if (bytes.Compare(k, waypointKey(a, r2)) < 0) != (r1 < r2) || bytes.HasPrefix(waypointKey(b, r2), k[:len(k)-8]) != (a == b) {
			t.Fatalf("keys of %q, %d and %q, %d do not sort", a, r1, b, r2)
		}
		if p1, p2 := positionKey(eventstore.Position(r1)), positionKey(eventstore.Position(r2)); (bytes.Compare(p1, p2) < 0) != (r1 < r2) {
			t.Fatalf("positions %d and %d do not sort", r1, r2)
		}
	})
}

// aLedger makes a closed ledger in data, and returns its events by stream.
func aLedger(t *testing.T, fs vfs.FS) map[string][]uuid.UUID {
	t.Helper()
	s := mustOpen(t, "data", &Config{FS: fs, SegmentSize: 32 << 10})
	want := map[string][]uuid.UUID{}
	for n := range 400 {
		stream := fmt.Sprintf("order-%d", n%40)
		if n%4 == 0 {
			stream = "order-long"
		}
		events := newEvents(1 + n%3)
		if _, err := s.Append(t.Context(), stream, eventstore.Any, events); err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			want[stream] = append(want[stream], e.ID)
		}
	}
	mustClose(t, s)
	return want
}

// checkStreams checks that what can be read is right, and reports the error of what cannot.
func checkStreams(t *testing.T, s *Store, want map[string][]uuid.UUID) (failed error) {
	t.Helper()
	all := 0
	for stream, ids := range want {
		all += len(ids)
		var got []uuid.UUID
		var err error
		for e, failure := range s.ReadStream(t.Context(), stream, 0, eventstore.Forward) {
			if err = failure; err == nil {
				got = append(got, e.ID)
			}
		}
		failed = errors.Join(failed, err)
		if err == nil && !slices.Equal(got, ids) {
			t.Errorf("%s has %d events, want %d", stream, len(got), len(ids))
		}
	}
	for _, after := range []eventstore.Position{0, 300, 600, eventstore.Position(all) - 1} {
		n := int(after)
		var err error
		for e, failure := range s.ReadAll(t.Context(), after, eventstore.Filter{}) {
			if err = failure; err == nil {
				if n++; int(e.Position) != n {
					t.Fatalf("position %d after %d", e.Position, n-1)
				}
			}
		}
		failed = errors.Join(failed, err)
		if err == nil && n != all {
			t.Errorf("%d events after position %d, want %d", n-int(after), after, all-int(after))
		}
	}
	return failed
}

func files(t *testing.T, fs vfs.FS, dir string) map[string][]byte {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		stat, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if stat.IsDir() {
			maps.Copy(all, files(t, fs, path))
		} else {
			all[path] = readFrom(t, fs, path)
		}
	}
	return all
}

// TestADamagedIndexIsNeverBelieved flips bits in each file of the index, cuts it off, and removes it.
func TestADamagedIndexIsNeverBelieved(t *testing.T) {
	whole := vfs.NewMem()
	want := aLedger(t, whole)
	rng := rand.New(rand.NewPCG(3, 4))
	harms := map[string]func(b []byte) []byte{
		"removed": func([]byte) []byte { return nil },
		"cut off": func(b []byte) []byte { return b[:len(b)/2] },
	}
	for n := range 3 {
		harms[fmt.Sprint("flip ", n)] = func(b []byte) []byte {
			if len(b) > 0 {
				b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			}
			return b
		}
	}
	for name := range files(t, whole, "data/ledger/index") {
		for harm, change := range harms {
			fs := vfs.NewMem()
			if _, err := vfs.Clone(whole, fs, "data", "data"); err != nil {
				t.Fatal(err)
			}
			if b := change(readFrom(t, fs, name)); b != nil {
				writeTo(t, fs, name, b)
			} else {
				remove(t, fs, name)
			}
			if strings.HasSuffix(name, "LOCK") {
				continue // there is nothing in it
			}
			before := files(t, fs, "data")
			for _, readOnly := range []bool{true, false} {
				s, err := Open("data", &Config{FS: fs, Logger: slogDiscard, ReadOnly: readOnly})
				if err != nil {
					t.Errorf("%s, %s: %v", name, harm, err)
					continue
				}
				failed := checkStreams(t, s, want)
				if failed != nil && !errors.Is(failed, eventstore.ErrCorrupt) {
					t.Errorf("%s, %s: %v", name, harm, failed)
				}
				r, err := s.Verify(t.Context(), nil)
				if err != nil || failed != nil && r.Problem == "" {
					t.Errorf("%s, %s: report %+v, error %v, and readers failed: %v", name, harm, r, err, failed)
				}
				if !readOnly && failed == nil {
					appendOne(t, s, "order-long")
				}
				_ = s.Close() // it may say that the index is damaged
				if after := files(t, fs, "data"); readOnly && !maps.EqualFunc(before, after, bytes.Equal) {
					t.Errorf("%s, %s: a reader changed files", name, harm)
				}
			}
		}
	}
}

func TestAnotherIndexIsMadeAnew(t *testing.T) {
	const dir = "data/ledger/index"
	replace := func(t *testing.T, from, to vfs.FS) {
		removeIndex(t, to, "data")
		if from != nil {
			if _, err := vfs.Clone(from, to, dir, dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	mem, older, other := vfs.NewMem(), vfs.NewMem(), vfs.NewMem()
	want := aLedger(t, mem)
	aLedger(t, other)
	if _, err := vfs.Clone(mem, older, "data", "data"); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, "data", &Config{FS: mem})
	for n := range 50 {
		events := newEvents(5)
		stream := fmt.Sprintf("order-%d", n)
		if _, err := s.Append(t.Context(), stream, eventstore.Any, events); err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			want[stream] = append(want[stream], e.ID)
		}
	}
	mustClose(t, s)
	for name, index := range map[string]vfs.FS{"none": nil, "an older one": older, "another ledger's": other, "its own": mem} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			if _, err := vfs.Clone(mem, fs, "data", "data"); err != nil {
				t.Fatal(err)
			}
			replace(t, index, fs)
			before := files(t, fs, "data")
			for _, readOnly := range []bool{true, false} {
				s := mustOpen(t, "data", &Config{FS: fs, ReadOnly: readOnly})
				if err := checkStreams(t, s, want); err != nil {
					t.Error(err)
				}
				if r, err := s.Verify(t.Context(), nil); err != nil || r.Problem != "" {
					t.Errorf("report %+v, error %v", r, err)
				}
				mustClose(t, s)
				if after := files(t, fs, "data"); readOnly && !maps.EqualFunc(before, after, bytes.Equal) {
					t.Error("a reader changed files")
				}
			}
		})
	}
	t.Run("a newer one", func(t *testing.T) {
		replace(t, mem, older)
		s := mustOpen(t, "data", &Config{FS: older})
		defer mustClose(t, s)
		for stream, ids := range want {
			if n, err := s.index.lookUp(stream); err != nil || n.revision >= int64(len(ids)) {
				t.Errorf("%s ends with revision %d, error %v", stream, n.revision, err)
			}
		}
		if r, err := s.Verify(t.Context(), nil); err != nil || r.Problem != "" {
			t.Errorf("report %+v, error %v", r, err)
		}
	})
}

// TestAStreamIsReadFromAnywhere reads long streams, with the way to their events in memory and in Pebble.
func TestAStreamIsReadFromAnywhere(t *testing.T) {
	lengths := map[string]uint64{"order-short": 3, "order-64": 64, "order-65": 65, "order-long": 1300}
	cfg := &Config{FS: vfs.NewMem(), SegmentSize: 32 << 10}
	s := mustOpen(t, "data", cfg)
	check := func() {
		t.Helper()
		for stream, n := range lengths {
			for from := uint64(0); from < n+70; from += 1 + n/11 {
				checkStreamFrom(t, s, stream, n, from)
			}
			for _, near := range []uint64{62, 63, 64, 65, 127, 128, 1023, 1024, n - 2, n - 1} {
				if near < n {
					checkStreamFrom(t, s, stream, n, near)
				}
			}
		}
		head := s.durable().Position
		for after := eventstore.Position(0); after <= head; after += 177 {
			checkFrom(t, s, after, head)
		}
		for step := eventstore.Position(positionStep); step < head; step += positionStep {
			for _, after := range []eventstore.Position{step - 2, step - 1, step, step + 1} {
				checkFrom(t, s, after, head)
			}
		}
	}
	s.index.maxStreams = 2 // what follows is written to Pebble again and again
	left := maps.Clone(lengths)
	for len(left) > 0 {
		for stream, n := range left {
			k := min(n, 7)
			appendEvents(t, s, stream, int(k))
			if left[stream] -= k; left[stream] == 0 {
				delete(left, stream)
			}
		}
	}
	check()
	mustClose(t, s)
	s = mustOpen(t, "data", cfg)
	check()
	appendEvents(t, s, "order-long", 100) // goes on in memory
	lengths["order-long"] += 100
	check()
	checkWhole(t, s, 3+64+65+1400)
	mustClose(t, s)
	removeIndex(t, cfg.FS, "data")
	cfg.ReadOnly = true
	s = mustOpen(t, "data", cfg)
	check()
	mustClose(t, s)
}

func checkFrom(t *testing.T, s *Store, after, head eventstore.Position) {
	t.Helper()
	want := after
	for e, err := range s.ReadAll(t.Context(), after, eventstore.Filter{}) {
		if want++; err != nil || e.Position != want {
			t.Fatalf("after %d: position %d, error %v; want %d", after, e.Position, err, want)
		}
		if want > after+300 {
			return
		}
	}
	if want != head {
		t.Fatalf("after %d: ends at %d, want %d", after, want, head)
	}
}

// TestTheIndexTurnsUnderWriters has many writers, whose streams leave the memory and come back.
func TestTheIndexTurnsUnderWriters(t *testing.T) {
	const writers, appends = 8, 60
	cfg := &Config{FS: vfs.NewMem(), SegmentSize: 16 << 10}
	s := mustOpen(t, "data", cfg)
	s.index.maxStreams = 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			last := map[string]eventstore.Expected{}
			for range appends {
				stream := fmt.Sprintf("order-%d-%d", w, rng.IntN(12))
				expected, ok := last[stream]
				if !ok {
					expected = eventstore.NoStream
				}
				a, err := s.Append(t.Context(), stream, expected, newEvents(1+rng.IntN(3)))
				if err != nil {
					t.Error(err)
				}
				last[stream] = eventstore.At(a.Revision)
				if _, err := s.Append(t.Context(), stream, eventstore.NoStream, newEvents(1)); !eventstore.IsConflict(err) {
					t.Errorf("error %v, want a conflict", err)
				}
				appendOne(t, s, "order-shared")
			}
		})
	}
	for range 3 {
		if r, err := s.Verify(t.Context(), nil); err != nil || r.Problem != "" {
			t.Errorf("report %+v, error %v", r, err)
		}
	}
	wg.Wait()
	if s.index.generation < 20 {
		t.Errorf("the index turned %d times only", s.index.generation)
	}
	events := int(s.durable().Position)
	checkWhole(t, s, events)
	// A crash finds an index that is behind, and in parts ahead of what it says.
	left := vfs.NewMem()
	if err := s.index.await(); err != nil {
		t.Fatal(err)
	}
	if err := s.index.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.Clone(cfg.FS, left, "data", "data"); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	for _, fs := range []vfs.FS{cfg.FS, left} {
		s := mustOpen(t, "data", &Config{FS: fs})
		checkWhole(t, s, events)
		mustClose(t, s)
	}
}

// TestHintsAreRightOrNotTaken adds to an index by hints of any age, and compares with a map.
func TestHintsAreRightOrNotTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &Store{logger: slogDiscard, fs: vfs.NewMem()}
		if err := s.openIndex(s.fs, "index", false); err != nil {
			t.Fatal(err)
		}
		x := s.index
		defer func() {
			if err := errors.Join(x.await(), x.db.Close()); err != nil {
				t.Fatal(err)
			}
		}()
		x.maxStreams = rapid.IntRange(1, 4).Draw(t, "size")
		streams := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g"})
		model := map[string]tail{}
		end := func(stream string) tail {
			if m, ok := model[stream]; ok {
				return m
			}
			return noTail
		}
		hints := map[string][]hint{}
		p := place{next: addressOf(1, headerSize)}
		t.Repeat(map[string]func(*rapid.T){
			"look": func(t *rapid.T) {
				stream := streams.Draw(t, "stream")
				h, err := x.lookUp(stream)
				if err != nil || h.tail != end(stream) || !h.known {
					t.Fatalf("%s: found %+v, error %v; want %+v", stream, h, err, end(stream))
				}
				hints[stream] = append(hints[stream], h)
			},
			"add": func(t *rapid.T) {
				stream := streams.Draw(t, "stream")
				h := hint{}
				if known := hints[stream]; len(known) > 0 {
					h = rapid.SampledFrom(known).Draw(t, "hint")
				}
				e, err := x.open(stream, h)
				if err != nil || e.tail != end(stream) {
					t.Fatalf("%s: opened %+v with %+v in generation %d, error %v; want %+v", stream, e, h, x.generation, err, end(stream))
				}
				if rapid.IntRange(0, 3).Draw(t, "conflict") == 0 {
					return // and nothing is added
				}
				p = place{next: p.next + 100, position: p.position + 1}
				x.mu.Lock()
				x.extend(e, stream, uint64(e.revision+1), p.next, p.position, 100)
				x.mu.Unlock()
				model[stream] = e.tail
			},
			"turn": func(t *rapid.T) {
				if err := x.turn(p.next, p); err != nil {
					t.Fatal(err)
				}
			},
			"collect": func(t *rapid.T) {
				if err := x.await(); err != nil {
					t.Fatal(err)
				}
				if err := x.collectNames(func() bool { return false }); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				for stream := range model {
					if x.isNew(stream) {
						t.Fatalf("%s is taken for new", stream)
					}
				}
				if n := len(x.young.streams); n > x.maxStreams+30 {
					t.Fatalf("%d streams in one half", n)
				}
			},
		})
	})
}

// TestALargeIndexIsMadeAnewInParts has more in the log than one half of what is in memory.
func TestALargeIndexIsMadeAnewInParts(t *testing.T) {
	dir, cfg := t.TempDir(), &Config{FS: vfs.Default}
	s := mustOpen(t, dir, cfg)
	n := 0
	for size := 0; size < maxYoungBytes+2<<20; n++ {
		e := sized("order-1", 1000<<10)
		if _, err := s.Append(t.Context(), fmt.Sprintf("order-%d", n%5), eventstore.Any, []eventstore.Event{e, newEvents(1)[0]}); err != nil {
			t.Fatal(err)
		}
		size += len(e.Data)
	}
	mustClose(t, s)
	removeIndex(t, cfg.FS, dir)
	s = mustOpen(t, dir, cfg)
	defer mustClose(t, s)
	if s.index.generation == 0 {
		t.Error("everything is in memory")
	}
	checkWhole(t, s, 2*n)
}

// TestAnIndexThatCannotBeWritten has Pebble fail. The log has everything, so nothing is lost.
func TestAnIndexThatCannotBeWritten(t *testing.T) {
	var on syncBool
	mem := vfs.NewMem()
	cfg := &Config{FS: errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on.get() && strings.HasSuffix(op.Path, ".sst") && op.Kind == errorfs.OpCreate {
			return syscall.ENOSPC
		}
		return nil
	}))}
	s := mustOpen(t, "data", cfg)
	s.index.maxStreams = 2
	on.set(true)
	stored := 0
	for range 20 {
		appendOne(t, s, fmt.Sprint("order-", stored))
		stored++
	}
	s.index.unsynced = maxUnsynced // the next part is made durable
	var err error
	for err == nil && stored < 40 {
		if _, err = s.Append(t.Context(), fmt.Sprint("order-", stored), eventstore.Any, newEvents(1)); err == nil {
			stored++
		}
	}
	if !errors.Is(err, eventstore.ErrFull) || !errors.Is(err, eventstore.ErrFailed) {
		t.Errorf("error %v, want ErrFull", err)
	}
	if n := count(t, s); n != stored {
		t.Errorf("%d events, want %d", n, stored)
	}
	mustClose(t, s)
	on.set(false)
	s = mustOpen(t, "data", &Config{FS: mem})
	checkWhole(t, s, stored)
	appendOne(t, s, "order-1")

	// Nor does Close wait for an index that cannot be written.
	mustClose(t, s)
	s = mustOpen(t, "data", cfg)
	appendOne(t, s, "order-2")
	on.set(true)
	mustClose(t, s)
	on.set(false)
	s = mustOpen(t, "data", cfg)
	defer mustClose(t, s)
	checkWhole(t, s, stored+2)
}

type syncBool struct {
	mu sync.Mutex
	on bool
}

func (b *syncBool) get() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.on
}

func (b *syncBool) set(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.on = on
}

func TestAFailedIndexStopsTheLedger(t *testing.T) {
	s := mustOpen(t, "data", &Config{FS: vfs.NewMem()})
	appendOne(t, s, "order-1")
	s.index.maxStreams = 1
	s.index.flushing = make(chan error, 1)
	s.index.flushing <- syscall.EIO
	_, err := s.Append(t.Context(), "order-2", eventstore.Any, newEvents(1))
	if !errors.Is(err, eventstore.ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Errorf("error %v, want ErrFailed", err)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	mustClose(t, s)
}
