package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

func TestCatchUp(t *testing.T) {
	for _, c := range []struct {
		name   string
		source func(eventstore.Reader) eventstore.Reader
	}{
		{"a ledger that tells hashes", func(r eventstore.Reader) eventstore.Reader { return r }},
		{"a ledger that leaves them to its relay", func(r eventstore.Reader) eventstore.Reader { return unchained(r) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ledger := newLedger(t)
			source := c.source(ledger)
			path := filepath.Join(t.TempDir(), "source.db")
			m := openMirror(t, path, ledger, nil)
			m.Limit(100, 1<<20, 7, 5)
			catchUp(t, m, source)
			checkEqual(t, m, nil)
			for range 3 {
				fill(t, ledger, 30)
				catchUp(t, m, source)
				checkEqual(t, m, public(t, ledger))
				sent := deliveries(head(t, ledger).Identity, public(t, ledger))
				fill(t, ledger, 6)
				all := deliveries(head(t, ledger).Identity, public(t, ledger))
				apply(t, m, all[len(sent)+1:]...) // the first one is missing
				catchUp(t, m, source)
				checkEqual(t, m, public(t, ledger))
				if s := m.Status(); s.Held != 0 || s.Lag != 0 || s.Err != nil {
					t.Errorf("status %+v", s)
				}
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				m = openMirror(t, path, ledger, nil)
			}
		})
	}
}

// TestTheHashesOfTheBusAreKnown has a ledger without hashes contradict what its relay has sent.
func TestTheHashesOfTheBusAreKnown(t *testing.T) {
	m, source, sent := followed(t, 6, nil)
	apply(t, m, forge(sent[3], func(e *eventstore.Recorded) { e.Chain[0] ^= 1 }))
	checkError(t, m.CatchUp(t.Context(), unchained(source)), mirror.ErrAltered)
	checkEqual(t, m, nil)
}

// TestAlteredLedgers has a ledger show another history than the mirror has verified, at every place.
func TestAlteredLedgers(t *testing.T) {
	const verified, events = 4, 8
	target := eventstore.Position(0)
	at := func(change func(*eventstore.Recorded) bool) func(*eventstore.Recorded) bool {
		return func(e *eventstore.Recorded) bool { return e.Position != target || change(e) }
	}
	for name, change := range map[string]func(r eventstore.Reader) changed{
		"altered": func(r eventstore.Reader) changed {
			return changed{Reader: r, event: at(func(e *eventstore.Recorded) bool { e.Data = []byte(`{}`); return true })}
		},
		"removed": func(r eventstore.Reader) changed {
			return changed{Reader: r, event: at(func(*eventstore.Recorded) bool { return false })}
		},
		"inserted": func(r eventstore.Reader) changed {
			return changed{Reader: r, event: at(func(e *eventstore.Recorded) bool { e.ID = uuid.New(); return true })}
		},
		"internal": func(r eventstore.Reader) changed {
			return changed{Reader: r, event: at(func(e *eventstore.Recorded) bool { e.Stream = "relay-1"; return true })}
		},
	} {
		for n := verified; n < events; n++ {
			t.Run(fmt.Sprint(name, " ", n), func(t *testing.T) {
				ledger := newLedger(t)
				m := openMirror(t, "", ledger, nil)
				fill(t, ledger, verified)
				catchUp(t, m, ledger)
				fill(t, ledger, events-verified)
				want := public(t, ledger)
				target = want[n].Position
				named := target
				switch {
				case name == "removed" && n+1 < events:
					named = want[n+1].Position
				case name == "removed":
					named = head(t, ledger).Position
				}
				err := m.CatchUp(t.Context(), change(ledger))
				checkError(t, err, mirror.ErrAltered, fmt.Sprintf("position %d", named))
				checkVerified(t, m, want[:n]) // what came before is good
				s := m.Status()
				checkError(t, s.Err, mirror.ErrAltered)
				if s.Since.IsZero() || !m.NeedsCatchUp(time.Now()) {
					t.Errorf("status %+v", s)
				}
				catchUp(t, m, ledger) // somebody has repaired it
				checkEqual(t, m, want)
			})
		}
	}
}

// TestAnotherPast has a ledger with the same id and other events from the beginning.
func TestAnotherPast(t *testing.T) {
	for _, more := range []int{0, 1} {
		ledger, other := newLedger(t), newLedger(t)
		m := openMirror(t, "", ledger, nil)
		fill(t, ledger, 8)
		catchUp(t, m, ledger)
		fill(t, other, 8+more)
		forged := changed{Reader: other, head: func(h *eventstore.Head) { h.ID = head(t, ledger).ID }}
		checkError(t, m.CatchUp(t.Context(), forged), mirror.ErrAltered)
		checkEqual(t, m, public(t, ledger))
	}
}

func TestForeignLedgers(t *testing.T) {
	ledger, other := newLedger(t), newLedger(t)
	path := filepath.Join(t.TempDir(), "source.db")
	m := openMirror(t, path, ledger, nil)
	fill(t, ledger, 3)
	fill(t, other, 3)
	checkError(t, m.CatchUp(t.Context(), other), mirror.ErrForeign, head(t, other).ID.String())
	catchUp(t, m, ledger)
	checkError(t, m.CatchUp(t.Context(), other), mirror.ErrForeign)
	lanes := changed{Reader: ledger, head: func(h *eventstore.Head) { h.Lanes = 8 }}
	checkError(t, m.CatchUp(t.Context(), lanes), mirror.ErrForeign, "lanes")
	checkEqual(t, m, public(t, ledger))
	_, err := mirror.Open(t.Context(), path, mirror.Config{Ledger: uuid.New()})
	checkError(t, err, mirror.ErrForeign, path, head(t, ledger).ID.String())
	if _, err := mirror.Open(t.Context(), path, mirror.Config{}); err == nil {
		t.Error("a mirror of no ledger was opened")
	}
}

func TestOlderLedgers(t *testing.T) {
	ledger := newLedger(t)
	m := openMirror(t, "", ledger, nil)
	fill(t, ledger, 5)
	newer := changed{Reader: ledger, head: func(h *eventstore.Head) { h.Incarnation += 3 }}
	catchUp(t, m, newer)
	checkError(t, m.CatchUp(t.Context(), ledger), mirror.ErrOlder, "incarnation 0", "3")
	end := head(t, m).Position
	cut := changed{Reader: ledger, head: func(h *eventstore.Head) { h.Incarnation += 3; h.Position = end - 1 }}
	checkError(t, m.CatchUp(t.Context(), cut), mirror.ErrOlder, fmt.Sprintf("position %d", end-1))
	checkEqual(t, m, public(t, ledger))
	catchUp(t, m, newer)
}

// restored returns a ledger as it was backed up, going on in a new incarnation.
func restored(t *testing.T, ledger *fileLedger) *fileLedger {
	t.Helper()
	to := &fileLedger{fs: ledger.fs, dir: ledger.dir + "+"}
	cfg := &pebblestore.Config{FS: ledger.fs, Logger: silent()}
	if _, err := pebblestore.Backup(t.Context(), ledger.dir, to.dir, cfg, nil); err != nil {
		t.Fatal(err)
	}
	return to
}

func (l *fileLedger) goOn(t *testing.T) *fileLedger {
	t.Helper()
	if _, err := pebblestore.BeginIncarnation(l.dir, &pebblestore.Config{FS: l.fs, Logger: silent()}); err != nil {
		t.Fatal(err)
	}
	l.Store = openLedger(t, l.fs, l.dir)
	return l
}

type fileLedger struct {
	*pebblestore.Store
	fs  vfs.FS
	dir string
}

func TestANewIncarnation(t *testing.T) {
	type story struct{ before, lost, after int }
	for from, stories := range map[string][]story{
		"feed": {{10, 0, 3}, {10, 5, 9}, {0, 4, 4}, {33, 1, 0}},
		"bus":  {{10, 0, 0}, {2, 40, 3}},
	} {
		for _, c := range stories {
			t.Run(fmt.Sprint(from, " ", c), func(t *testing.T) {
				t.Parallel() // a backup waits for an anchor
				var log logBook
				disk := vfs.NewMem()
				first := &fileLedger{openLedger(t, disk, "data"), disk, "data"}
				path := filepath.Join(t.TempDir(), "source.db")
				m := openMirror(t, path, first, log.logger())
				m.Limit(100, 1<<20, 7, 4)
				fill(t, first, c.before)
				copied := restored(t, first)
				fill(t, first, c.lost)
				catchUp(t, m, first)
				old := public(t, first)

				reader, stop := nextOf(t, m)
				defer stop()
				waited := make(chan error, 1)
				go func() { waited <- m.Wait(t.Context(), 0, 1<<40) }()

				second := copied.goOn(t)
				fill(t, second, c.after)
				want := public(t, second)
				if from == "bus" {
					apply(t, m, deliveries(head(t, second).Identity, want)...)
					if m.Status().Held != len(want) {
						t.Errorf("%d deliveries are held", m.Status().Held)
					}
				}
				catchUp(t, m, second)
				checkEqual(t, m, want)
				if got := head(t, m); got.Identity != head(t, second).Identity {
					t.Errorf("identity %+v", got)
				}
				if s := m.Status(); s.Held != 0 || s.Err != nil {
					t.Errorf("status %+v", s)
				}
				if log.count("went on from a backup") != 1 || log.count(fmt.Sprint("removed=", c.lost)) != 1 {
					t.Errorf("log %s", &log)
				}
				checkError(t, <-waited, mirror.ErrBranched)
				if len(old) > 0 {
					checkError(t, reader(), mirror.ErrBranched)
				}
				apply(t, m, deliveries(head(t, first).Identity, old)...) // come too late
				checkEqual(t, m, want)
				if n := m.Status().Held; n > 0 {
					t.Errorf("%d deliveries of an earlier incarnation are held", n)
				}
				checkError(t, m.CatchUp(t.Context(), first), mirror.ErrOlder)

				aside, err := mirror.Open(t.Context(), m.Aside(0), mirror.Config{Ledger: head(t, first).ID})
				if err != nil {
					t.Fatal(err)
				}
				defer aside.Close()
				checkEqual(t, aside, old)
				if !strings.HasSuffix(m.Aside(0), "source.incarnation-0.db") {
					t.Errorf("kept in %s", m.Aside(0))
				}
			})
		}
	}
}

// nextOf subscribes to a mirror and returns a function that reads on to the sequence's error.
func nextOf(t *testing.T, m *mirror.Mirror) (rest func() error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	started, result := make(chan struct{}), make(chan error, 1)
	go func() {
		var last error
		close(started)
		for _, err := range m.Subscribe(ctx, 0, eventstore.Filter{}) {
			last = err
		}
		result <- last
	}()
	<-started
	return func() error { return <-result }, cancel
}

// TestAnIncarnationOfALedgerWithoutHashes has the mirror begin anew.
func TestAnIncarnationOfALedgerWithoutHashes(t *testing.T) {
	ledger := newLedger(t)
	m := openMirror(t, "", ledger, nil)
	fill(t, ledger, 9)
	catchUp(t, m, unchained(ledger))
	next := unchained(ledger)
	next.head = func(h *eventstore.Head) { h.Chain, h.Incarnation = eventstore.Hash{}, 1 }
	catchUp(t, m, next)
	checkEqual(t, m, public(t, ledger))
	if head(t, m).Incarnation != 1 {
		t.Errorf("head %+v", head(t, m))
	}
}

// TestAnIncarnationBeginsMeanwhile has the ledger be another one between its head and its events.
func TestAnIncarnationBeginsMeanwhile(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	first := &fileLedger{openLedger(t, disk, "data"), disk, "data"}
	m := openMirror(t, "", first, nil)
	fill(t, first, 5)
	copied := restored(t, first)
	fill(t, first, 5)
	catchUp(t, m, first)
	second := copied.goOn(t)
	fill(t, second, 9)
	asked := 0
	shifting := changed{Reader: second, head: func(h *eventstore.Head) {
		if asked++; asked == 1 {
			*h = head(t, first)
		}
	}}
	catchUp(t, m, shifting)
	checkEqual(t, m, public(t, second))
}

// TestAnInternalEventIsNotStored has a ledger without hashes show what it must not show.
func TestAnInternalEventIsNotStored(t *testing.T) {
	ledger := newLedger(t)
	fill(t, ledger, 5)
	m := openMirror(t, "", ledger, nil)
	source := unchained(ledger)
	source.event = func(e *eventstore.Recorded) bool {
		e.Chain, e.Stream = eventstore.Hash{}, "relay-"+e.Stream
		return true
	}
	checkError(t, m.CatchUp(t.Context(), source), mirror.ErrAltered, "no public event")
	checkEqual(t, m, nil)
}

// TestWhatHasComeNeedNotComeAgain has a connection break before a batch is full.
func TestWhatHasComeNeedNotComeAgain(t *testing.T) {
	ledger := newLedger(t)
	fill(t, ledger, 10)
	m := openMirror(t, "", ledger, nil)
	left := 6
	away := errors.New("away")
	checkError(t, m.CatchUp(t.Context(), changed{Reader: ledger, fail: func() error {
		if left--; left < 0 {
			return away
		}
		return nil
	}}), away)
	checkVerified(t, m, public(t, ledger)[:6])
}

// TestARestartWhileCatchingUp closes the mirror at every batch.
func TestARestartWhileCatchingUp(t *testing.T) {
	ledger := newLedger(t)
	fill(t, ledger, 100)
	path := filepath.Join(t.TempDir(), "source.db")
	away := errors.New("away")
	last := uint64(0)
	for round := range 20 {
		m := openMirror(t, path, ledger, nil)
		m.Limit(100, 1<<20, 8, 8)
		left := 13
		source := changed{Reader: ledger, fail: func() error {
			if left--; left < 0 {
				if round%2 == 0 {
					return away
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
			return nil
		}}
		err := m.CatchUp(t.Context(), source)
		if err != nil && !errors.Is(err, away) && !errors.Is(err, eventstore.ErrClosed) {
			t.Fatal(err)
		}
		if err == nil {
			checkEqual(t, m, public(t, ledger))
			return
		}
		if errors.Is(err, away) {
			s := m.Status()
			if s.Events <= last {
				t.Fatalf("round %d: %d events, as %d before", round, s.Events, last)
			}
			last = s.Events
			checkVerified(t, m, public(t, ledger)[:s.Events])
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("it never ended")
}

func TestCatchUpIsCancelled(t *testing.T) {
	ledger := newLedger(t)
	fill(t, ledger, 5)
	m := openMirror(t, "", ledger, nil)
	ctx, cancel := context.WithCancel(t.Context())
	entered, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		first := true
		done <- m.CatchUp(t.Context(), changed{Reader: ledger, fail: func() error {
			if first {
				first = false
				close(entered)
				<-leave
			}
			return nil
		}})
	}()
	<-entered
	if s := m.Status(); !s.Catching {
		t.Errorf("status %+v", s)
	}
	go cancel()
	if err := m.CatchUp(ctx, ledger); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := m.CatchUp(ctx, ledger); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := m.Apply(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	checkEqual(t, m, public(t, ledger))
}

// TestTheBusIsFaster has deliveries come between the head of the ledger and its events, and between those.
func TestTheBusIsFaster(t *testing.T) {
	for name, around := range map[string]func(eventstore.Reader) changed{
		"with hashes":    func(r eventstore.Reader) changed { return changed{Reader: r} },
		"without hashes": func(r eventstore.Reader) changed { return unchained(r) },
	} {
		t.Run(name, func(t *testing.T) {
			ledger := newLedger(t)
			m := openMirror(t, "", ledger, nil)
			m.Limit(100, 1<<20, 4, 4)
			id := head(t, ledger).Identity
			deliver := func() {
				fill(t, ledger, 3)
				all := deliveries(id, public(t, ledger))
				if err := m.Apply(t.Context(), all[m.Status().Events:]); err != nil {
					t.Error(err)
				}
			}
			source := around(ledger)
			forget := source.head
			source.head = func(h *eventstore.Head) {
				if forget != nil {
					forget(h)
				}
				deliver()
			}
			read := 0
			source.fail = func() error {
				if read++; read%5 == 0 {
					deliver()
				}
				return nil
			}
			for range 3 {
				fill(t, ledger, 10)
				catchUp(t, m, source)
				checkVerified(t, m, public(t, ledger)[:m.Status().Events])
			}
			catchUp(t, m, ledger)
			checkEqual(t, m, public(t, ledger))
			if m.Status().Held != 0 || m.NeedsCatchUp(time.Now()) {
				t.Errorf("status %+v", m.Status())
			}
		})
	}
}

func TestLedgerOf(t *testing.T) {
	ledger := newLedger(t)
	path := filepath.Join(t.TempDir(), "source.db")
	openMirror(t, path, ledger, nil)
	if id, err := mirror.LedgerOf(t.Context(), path); err != nil || id != head(t, ledger).ID {
		t.Errorf("ledger %v, error %v", id, err)
	}
	if _, err := mirror.LedgerOf(t.Context(), path+"x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want that there is none", err)
	}
}
