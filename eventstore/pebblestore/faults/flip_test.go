package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// files are all files of a ledger, by their names.
type files map[string][]byte

// some returns one of the files that have so many bytes: mostly one of those that cannot be made anew.
func (f files) some(rng *rand.Rand, atLeast int) string {
	mostly := rng.IntN(4) > 0
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(f)), func(name string) bool {
		return len(f[name]) < atLeast || mostly && strings.Contains(name, "/index/")
	})
	return names[rng.IntN(len(names))]
}

// place returns a place in a file, mostly before the zeros at its end.
func place(rng *rand.Rand, file []byte) int {
	if used := len(bytes.TrimRight(file, "\x00")); used > 0 && rng.IntN(8) > 0 {
		return rng.IntN(used)
	}
	return rng.IntN(len(file))
}

// change puts a changed copy in place of a file.
func (f files) change(name string, with func(b []byte) []byte) { f[name] = with(slices.Clone(f[name])) }

// block is a place in a file: two blocks never overlap.
func block(rng *rand.Rand, file []byte, size int) (from, to int) {
	from = place(rng, file) / size * size
	return from, min(from+size, len(file))
}

var blockSizes = []int{1, 16, 512, 4096}

// harms are ways in which stored bytes change. Each returns what it has done.
var harms = []func(f, older files, rng *rand.Rand) string{
	func(f, _ files, rng *rand.Rand) string {
		name := f.some(rng, 1)
		at, bit := place(rng, f[name]), rng.IntN(8)
		f.change(name, func(b []byte) []byte { b[at] ^= 1 << bit; return b })
		return fmt.Sprintf("bit %d of byte %d of %s is flipped", bit, at, name)
	},
	func(f, _ files, rng *rand.Rand) string {
		name := f.some(rng, 1)
		at, value := place(rng, f[name]), byte(rng.IntN(256))
		f.change(name, func(b []byte) []byte { b[at] = value; return b })
		return fmt.Sprintf("byte %d of %s is %d", at, name, value)
	},
	func(f, _ files, rng *rand.Rand) string {
		name, size := f.some(rng, 1), blockSizes[rng.IntN(len(blockSizes))]
		from, to := block(rng, f[name], size)
		f.change(name, func(b []byte) []byte { clear(b[from:to]); return b })
		return fmt.Sprintf("bytes %d to %d of %s are zero", from, to, name)
	},
	func(f, _ files, rng *rand.Rand) string {
		name, size := f.some(rng, 1), blockSizes[rng.IntN(len(blockSizes))]
		a, aEnd := block(rng, f[name], size)
		b, bEnd := block(rng, f[name], size)
		n := min(aEnd-a, bEnd-b)
		f.change(name, func(file []byte) []byte {
			first := slices.Clone(file[a : a+n])
			copy(file[a:a+n], file[b:b+n])
			copy(file[b:b+n], first)
			return file
		})
		return fmt.Sprintf("%d bytes at %d and %d of %s are swapped", n, a, b, name)
	},
	func(f, _ files, rng *rand.Rand) string {
		to, from, size := f.some(rng, 1), f.some(rng, 1), blockSizes[rng.IntN(len(blockSizes))]
		at, end := block(rng, f[to], size)
		source, _ := block(rng, f[from], size)
		f.change(to, func(b []byte) []byte { copy(b[at:end], f[from][source:]); return b })
		return fmt.Sprintf("bytes %d to %d of %s come from byte %d of %s", at, end, to, source, from)
	},
	func(f, _ files, rng *rand.Rand) string {
		name := f.some(rng, 1)
		at := place(rng, f[name])
		f.change(name, func(b []byte) []byte { return b[:at] })
		return fmt.Sprintf("%s ends at byte %d", name, at)
	},
	func(f, _ files, rng *rand.Rand) string {
		name := f.some(rng, 0)
		n := 1 + rng.IntN(1024)
		f.change(name, func(b []byte) []byte {
			for range n {
				b = append(b, byte(rng.IntN(256)))
			}
			return b
		})
		return fmt.Sprintf("%d bytes follow the end of %s", n, name)
	},
	func(f, _ files, rng *rand.Rand) string {
		name, size := f.some(rng, 1), blockSizes[rng.IntN(len(blockSizes))]
		from, to := block(rng, f[name], size)
		f.change(name, func(b []byte) []byte { return slices.Delete(b, from, to) })
		return fmt.Sprintf("bytes %d to %d are cut out of %s", from, to, name)
	},
	func(f, _ files, rng *rand.Rand) string {
		name := f.some(rng, 0)
		delete(f, name)
		return name + " is deleted"
	},
	func(f, _ files, rng *rand.Rand) string {
		name := f.some(rng, 1)
		f.change(name, func(b []byte) []byte { clear(b); return b })
		return name + " is zero"
	},
	func(f, _ files, rng *rand.Rand) string {
		a, b := f.some(rng, 0), f.some(rng, 0)
		f[a], f[b] = f[b], f[a]
		return fmt.Sprintf("%s and %s are swapped", a, b)
	},
	func(f, older files, rng *rand.Rand) string {
		name := older.some(rng, 0)
		f[name] = older[name]
		return name + " is an older one"
	},
}

// A finding is what became of a change.
type finding int

const (
	notOpened  finding = iota // the ledger was not opened
	readerTold                // a reader got an error
	verifyTold                // only Verify found it
	harmless                  // the content is the same
	unnoticed                 // the content is another one, and nobody says so
)

func (f finding) String() string {
	return [...]string{"refused", "told to readers", "found by verify only", "harmless", "silent"}[f]
}

// content is all that a ledger gives back.
type content struct {
	head    eventstore.Head
	events  []eventstore.Recorded
	streams map[string][]eventstore.Recorded
}

// read returns the content, or the first error of a reader.
func read(ctx context.Context, s *pebblestore.Store, streams []string) (c content, err error) {
	if c.head, err = s.Head(ctx); err != nil {
		return c, err
	}
	c.streams = make(map[string][]eventstore.Recorded)
	for e, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			return c, err
		}
		c.events = append(c.events, e)
	}
	for _, stream := range streams {
		for e, err := range s.ReadStream(ctx, stream, 0, eventstore.Forward) {
			if err != nil {
				return c, err
			}
			c.streams[stream] = append(c.streams[stream], e)
		}
		var last *eventstore.Recorded
		for e, err := range s.ReadStream(ctx, stream, eventstore.End, eventstore.Backward) {
			if err != nil {
				return c, err
			}
			last = &e
			break
		}
		if n := len(c.streams[stream]); (n == 0) != (last == nil) || n > 0 && !reflect.DeepEqual(c.streams[stream][n-1], *last) {
			c.streams[stream] = nil
		}
	}
	return c, nil
}

// judge opens changed files and tells what became of the change.
func judge(ctx context.Context, f files, readOnly bool, should content) (_ finding, why string) {
	cfg := settings(write(f))
	cfg.ReadOnly = readOnly
	s, err := pebblestore.Open("data", cfg)
	if err != nil {
		return notOpened, err.Error()
	}
	defer func() { _ = s.Close() }() // the anchor may disagree
	is, err := read(ctx, s, slices.Sorted(maps.Keys(should.streams)))
	if err != nil {
		if !errors.Is(err, eventstore.ErrCorrupt) {
			return unnoticed, fmt.Sprintf("a reader got an error that does not say that the ledger is corrupt: %v", err)
		}
		return readerTold, err.Error()
	}
	for _, e := range is.events {
		if p := int(e.Position); p < 1 || p > len(should.events) || !reflect.DeepEqual(e, should.events[p-1]) {
			return unnoticed, fmt.Sprintf("a reader got another event at position %d than was written", p)
		}
	}
	same := reflect.DeepEqual(is, should)
	r, err := s.Verify(ctx, nil)
	switch {
	case err != nil:
		return unnoticed, fmt.Sprintf("verify: %v", err)
	case r.Problem != "" && r.Bad > should.head.Position+1:
		return unnoticed, fmt.Sprintf("verify names position %d: %s", r.Bad, r.Problem)
	case r.Problem != "":
		return verifyTold, r.Problem
	case !same:
		return unnoticed, fmt.Sprintf("the ledger has %d events, and had %d; writable: %v", len(is.events), len(should.events), s.Writable())
	case int(r.Events) != len(should.events):
		return unnoticed, fmt.Sprintf("verify has checked %d events", r.Events)
	}
	return harmless, ""
}

// keeps checks that a ledger that was told to be whole takes writes and keeps them.
func keeps(ctx context.Context, f files, should content) error {
	mem := write(f)
	for n := range 2 {
		s, err := pebblestore.Open("data", settings(mem))
		if err != nil {
			return err
		}
		e := eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Data: []byte("{}")}
		_, err = s.Append(ctx, should.events[0].Stream, eventstore.Any, []eventstore.Event{e})
		r, err2 := s.Verify(ctx, nil)
		if err := errors.Join(err, err2, s.Close()); err != nil {
			return err
		}
		if r.Problem != "" || int(r.Events) != len(should.events)+n+1 {
			return fmt.Errorf("after an append: %+v", r)
		}
	}
	return nil
}

// TestChangedBytes changes the files of a cleanly closed ledger in three thousand ways. Each change is noticed, or does
// nothing: the ledger is not opened, a reader gets ErrCorrupt, Verify names a position, or the content is the same.
func TestChangedBytes(t *testing.T) {
	trials := 3_000 / slowed
	if full {
		trials = 300_000
	}
	rng := seeded(t)
	mem := vfs.NewMem()
	var older files
	for age := range 3 {
		if age == 2 {
			older = contents(mem)
		}
		s, err := pebblestore.Open("data", settings(mem))
		check(t, err)
		for i := range 120 {
			stream := fmt.Sprintf("order-%d", i%17)
			if i%40 == 0 {
				stream = "relay-bus"
			}
			events := make([]eventstore.Event, 1+i%3)
			for j := range events {
				data := fmt.Sprintf(`{"age":%d,"n":%d,"text":%q}`, age, i, strings.Repeat("lens ", rng.IntN(60)))
				events[j] = eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Metadata: []byte(`{"by":"test"}`), Data: []byte(data)}
			}
			_, err := s.Append(t.Context(), stream, eventstore.Any, events)
			check(t, err)
		}
		check(t, s.Close())
	}
	whole := files(contents(mem))
	for name, b := range whole {
		t.Logf("%6d bytes %s", len(b), name)
	}

	s := open(t, write(whole))
	var streams []string
	for e, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		check(t, err)
		if !slices.Contains(streams, e.Stream) {
			streams = append(streams, e.Stream)
		}
	}
	should, err := read(t.Context(), s, streams)
	check(t, err)
	check(t, s.Close())

	var mu sync.Mutex // protects counts
	counts := make(map[finding]int)
	var work sync.WaitGroup
	for range 2 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
		work.Go(func() {
			for range trials / 2 {
				f := maps.Clone(whole)
				harm := harms[rng.IntN(len(harms))](f, older, rng)
				if reflect.DeepEqual(f, whole) {
					harm = "nothing is changed"
				}
				found, why := judge(t.Context(), f, rng.IntN(4) == 0, should)
				if found == harmless && rng.IntN(10) == 0 {
					if err := keeps(t.Context(), f, should); err != nil {
						t.Errorf("%s: harmless, but then: %v", harm, err)
					}
				}
				if found == unnoticed {
					t.Errorf("%s, and %s", harm, why)
				}
				if found == notOpened && (strings.ContainsAny(why, "\n") || len(why) < 30) {
					t.Errorf("%s, and the error is no sentence: %q", harm, why)
				}
				mu.Lock()
				counts[found]++
				mu.Unlock()
			}
		})
	}
	work.Wait()
	t.Logf("of %d changes: %v", trials, counts)
	if counts[unnoticed] > 0 || counts[notOpened]+counts[readerTold]+counts[verifyTold] < trials/3 {
		t.Errorf("too few changes are noticed: %v", counts)
	}
}
