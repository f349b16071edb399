package faults

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// A failure makes the n-th change of a disk fail, of those of one kind or of all. As on real disks, what a failed sync
// was to write is not written by the next one either.
type failure struct {
	disk   *disk
	op     string // empty: all
	err    error
	mu     sync.Mutex // protects what follows
	left   int        // changes until it fails
	failed *change    // what has failed; nil: nothing yet
}

func (f *failure) before(c change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// Where Pebble cannot write the index it may end the process, which loses nothing; that is shown on the real program.
	if f.failed != nil || !strings.HasPrefix(c.op, f.op) || strings.Contains(c.path, "/index") {
		return nil
	}
	if f.left--; f.left > 0 {
		return nil
	}
	f.failed = &c
	if c.op == "sync" {
		f.disk.lose(c.path)
	}
	return f.err
}

func (f *failure) happened() *change {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// A script is a short life of a ledger: it is opened four times on one disk and takes appends. What it is told becomes
// known: where an append fails, its outcome is unknown, nothing is acknowledged until the ledger is opened again, and
// then it is repeated.
type script struct {
	*testing.T
	disk  *disk
	evict bool // what a failed sync has lost is seen to be lost when the ledger is opened again, and not only after a power failure
	next  map[string]eventstore.Expected
	knowledge
	unknown *attempt
}

func (s *script) run() {
	s.Helper()
	s.next = make(map[string]eventstore.Expected)
	for range 4 {
		ledger, err := pebblestore.Open("data", settings(s.disk))
		if err == nil {
			s.seen = s.shown(ledger)
			s.write(ledger)
			_ = ledger.Close() // it may tell of a failure again
		}
		if s.evict {
			s.disk.evict()
		}
	}
}

func (s *script) shown(ledger *pebblestore.Store) (events []eventstore.Recorded) {
	for e, err := range ledger.ReadAll(s.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			s.Errorf("reading: %v", err)
			break
		}
		events = append(events, e)
	}
	return events
}

// write appends until the ledger has failed and has shown that it takes no more.
func (s *script) write(ledger *pebblestore.Store) {
	const appends = 12
	failed := 0
	for i := 0; i < appends && failed < 3; i++ {
		a := s.attempt(i)
		result, err := ledger.Append(s.Context(), a.stream, a.expected, a.events)
		if err != nil {
			failed++
		}
		switch {
		case err == nil && failed > 0:
			s.Error("an append was acknowledged after a failure")
		case err == nil:
			s.acked = append(s.acked, acked{a, result})
			s.next[a.stream] = eventstore.At(result.Revision)
			if s.unknown == a {
				s.unknown = nil
			}
		case errors.Is(err, eventstore.ErrFailed): // nothing was stored; it may have failed while it was opened
			if s.unknown != a {
				s.begun = s.begun[:len(s.begun)-1]
			}
		case failed > 1:
			s.Errorf("an append after a failure: %v, want ErrFailed", err)
		case eventstore.Unavailable(err) || eventstore.IsConflict(err):
			s.Errorf("the append that failed: %v, want an unknown outcome", err)
		default:
			s.unknown = a
			if err := ledger.Writable(); !errors.Is(err, eventstore.ErrFailed) {
				s.Errorf("writable after a failure: %v, want ErrFailed", err)
			}
		}
	}
	acknowledged := 0
	for _, a := range s.acked {
		acknowledged += len(a.events)
	}
	if n := len(s.shown(ledger)); failed > 0 && s.unknown != nil && n != acknowledged && n != acknowledged+len(s.unknown.events) {
		s.Errorf("%d events are shown after a failure, and %d were acknowledged", n, acknowledged)
	}
}

// attempt is the next append, or the one whose outcome is unknown.
func (s *script) attempt(i int) *attempt {
	if s.unknown != nil {
		return s.unknown
	}
	stream := fmt.Sprintf("order-%d", i%3)
	expected, ok := s.next[stream]
	if !ok {
		expected = eventstore.NoStream
	}
	a := &attempt{stream: stream, expected: expected}
	for range 1 + i%3 {
		data := bytes.Repeat([]byte("x"), 1+300*i)
		a.events = append(a.events, eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Data: data})
	}
	s.begun = append(s.begun, a)
	return a
}

// TestAFailedSyncIsNotTriedAgain lets each sync of a script fail once.
func TestAFailedSyncIsNotTriedAgain(t *testing.T) {
	failEach(t, "sync", syscall.EIO)
}

// TestEachChangeOfTheDiskMayFail lets each operation of a script fail once that changes the disk.
func TestEachChangeOfTheDiskMayFail(t *testing.T) {
	for _, err := range []error{syscall.EIO, syscall.ENOSPC} {
		t.Run(err.Error(), func(t *testing.T) { failEach(t, "", err) })
	}
}

func failEach(t *testing.T, op string, err error) {
	rng := seeded(t)
	step := 1
	if !full {
		step = slowed
	}
	n := 1
	for more := true; more; n += step {
		evict := n%2 == 0
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			d := newDisk()
			f := &failure{disk: d, op: op, left: n, err: err}
			d.before = f.before
			life := &script{T: t, disk: d, evict: evict}
			life.run()
			c := f.happened()
			if more = c != nil; !more {
				return
			}
			for _, crash := range []crash{dropped, kept} {
				left := d.fail(crash, rng, func() {})
				if _, _, loss := survey(t.Context(), left, life.knowledge); !loss.none() {
					t.Errorf("unsynced data %v: %v", crash, loss)
				}
			}
			if t.Failed() {
				t.Errorf("all this after change %d, %s %s, has failed", n, c.op, c.path)
			}
		})
	}
	if n < 30 {
		t.Errorf("there were only %d operations", n)
	}
	t.Logf("each of %d operations has failed once", n-1)
}
