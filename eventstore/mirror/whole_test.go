package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// appendTo appends so many events to a stream and returns the position of the last one.
func appendTo(t *testing.T, ledger eventstore.Appender, stream string, n int) eventstore.Position {
	t.Helper()
	a, err := ledger.Append(t.Context(), stream, eventstore.Any, events(n))
	if err != nil {
		t.Fatal(err)
	}
	return a.Position
}

// shows has a mirror show a ledger's first events up to a position, to every kind of reader.
func shows(t *testing.T, m *mirror.Mirror, end eventstore.Position) {
	t.Helper()
	last := func(seq iter.Seq2[eventstore.Recorded, error]) (p eventstore.Position) {
		for _, e := range collect(t, seq) {
			p = max(p, e.Position)
		}
		return p
	}
	if got := head(t, m).Position; got != end {
		t.Fatalf("the head is %d, want %d", got, end)
	}
	if got := last(m.ReadAll(t.Context(), 0, eventstore.Filter{})); got != end {
		t.Fatalf("all is read up to %d, want %d", got, end)
	}
	for stream := range streams(t, m) {
		for _, from := range []struct {
			revision  uint64
			direction eventstore.Direction
		}{{0, eventstore.Forward}, {eventstore.End, eventstore.Backward}} {
			if got := last(m.ReadStream(t.Context(), stream, from.revision, from.direction)); got > end {
				t.Fatalf("stream %s is read up to %d, and shown is %d", stream, got, end)
			}
		}
	}
}

func streams(t *testing.T, r eventstore.Reader) iter.Seq[string] {
	t.Helper()
	names := make(map[string]bool)
	for _, e := range public(t, r) {
		names[e.Stream] = true
	}
	return maps.Keys(names)
}

// TestHalfAnAppendIsNotShown delivers two appends to a stream event by event, and lets each of what may tell that they are
// whole do so. The mirror is opened again after each step.
func TestHalfAnAppendIsNotShown(t *testing.T) {
	away := errors.New("away")
	for name, tell := range map[string]func(*testing.T, *mirror.Mirror, *pebblestore.Store, eventstore.Position){
		"another stream": func(t *testing.T, m *mirror.Mirror, ledger *pebblestore.Store, _ eventstore.Position) {
			appendTo(t, ledger, "order-2", 2)
			all := deliveries(head(t, ledger).Identity, public(t, ledger))
			apply(t, m, all[len(all)-2])
		},
		"the ledger's head": func(t *testing.T, m *mirror.Mirror, ledger *pebblestore.Store, _ eventstore.Position) {
			catchUp(t, m, ledger)
		},
		"the head of a ledger without hashes": func(t *testing.T, m *mirror.Mirror, ledger *pebblestore.Store, _ eventstore.Position) {
			catchUp(t, m, unchained(ledger))
		},
		"a confirmation": func(t *testing.T, m *mirror.Mirror, ledger *pebblestore.Store, end eventstore.Position) {
			if status := confirm(t, m, 0, end); status != http.StatusOK {
				t.Errorf("status %d", status)
			}
			checkError(t, m.CatchUp(t.Context(), failing{ledger, away}), away)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := newLedger(t)
			path := filepath.Join(t.TempDir(), "source.db")
			m := openMirror(t, path, ledger, nil)
			again := func() {
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				m = openMirror(t, path, ledger, nil)
			}
			first := appendTo(t, ledger, "order-1", 3)
			catchUp(t, m, ledger)
			shows(t, m, first)
			appendTo(t, ledger, "order-1", 3)
			end := appendTo(t, ledger, "order-1", 2)
			for _, d := range deliveries(head(t, ledger).Identity, public(t, ledger))[3:] {
				apply(t, m, d)
				shows(t, m, first)
				again()
				shows(t, m, first)
			}
			if status := confirm(t, m, 1, end); status != http.StatusServiceUnavailable {
				t.Errorf("status %d for an incarnation that has not begun", status)
			}
			if status := confirm(t, m, 0, end+9); status != http.StatusServiceUnavailable {
				t.Errorf("status %d for what is not there", status)
			}
			shows(t, m, first)
			tell(t, m, ledger, end)
			shows(t, m, end)
			again()
			shows(t, m, end)
		})
	}
}

// TestAHeadThatIsPassed reads a ledger that ended in the middle of what the mirror has verified meanwhile.
func TestAHeadThatIsPassed(t *testing.T) {
	ledger := newLedger(t)
	m := openMirror(t, "", ledger, nil)
	var end, next eventstore.Position
	source := changed{Reader: ledger, head: func(*eventstore.Head) {
		end = head(t, ledger).Position
		next = appendTo(t, ledger, "order-1", 3)
		all := deliveries(head(t, ledger).Identity, public(t, ledger))
		apply(t, m, all[:len(all)-1]...)
	}}
	appendTo(t, ledger, "order-1", 2)
	for range 3 {
		catchUp(t, m, source)
		shows(t, m, end)
	}
	catchUp(t, m, ledger)
	shows(t, m, next)
}

// TestAHeadThatIsFarBehind reads a ledger that ended before what readers see meanwhile, while something is held.
func TestAHeadThatIsFarBehind(t *testing.T) {
	ledger := newLedger(t)
	m := openMirror(t, "", ledger, nil)
	catchUp(t, m, ledger)
	appendTo(t, ledger, "order-1", 1)
	var end eventstore.Position
	catchUp(t, m, changed{Reader: ledger, fail: func() error {
		end = appendTo(t, ledger, "order-1", 2)
		appendTo(t, ledger, "order-2", 1)
		appendTo(t, ledger, "order-3", 2)
		all := deliveries(head(t, ledger).Identity, public(t, ledger))
		apply(t, m, append(all[:4:4], all[5])...)
		shows(t, m, end)
		return nil
	}})
	shows(t, m, end)
	if s := m.Status(); s.Held != 1 || s.Events != 4 {
		t.Errorf("status %+v", s)
	}
}

// TestHalfAnAppendInANewIncarnation has a ledger go on from a backup whose last append the mirror has only half.
func TestHalfAnAppendInANewIncarnation(t *testing.T) {
	for _, lost := range []int{0, 2} {
		t.Run(fmt.Sprint(lost, " lost"), func(t *testing.T) {
			t.Parallel() // a backup waits for an anchor
			disk := vfs.NewMem()
			first := &fileLedger{openLedger(t, disk, "data"), disk, "data"}
			m := openMirror(t, "", first, nil)
			before := appendTo(t, first, "order-1", 2)
			catchUp(t, m, first)
			end := appendTo(t, first, "order-1", 3)
			copied := restored(t, first)
			if lost > 0 {
				appendTo(t, first, "order-1", lost+1)
			}
			all := deliveries(head(t, first).Identity, public(t, first))
			apply(t, m, all[:len(all)-1]...)
			shows(t, m, before)
			second := copied.goOn(t)
			next := appendTo(t, second, "order-1", 3)
			broken := errors.New("broken")
			checkError(t, m.CatchUp(t.Context(), breaking{second, broken}), broken)
			if head(t, m).Incarnation != 1 {
				t.Errorf("head %+v", head(t, m))
			}
			if lost == 0 {
				shows(t, m, before)
			} else {
				shows(t, m, end)
			}
			catchUp(t, m, second)
			shows(t, m, next)
		})
	}
}

// A breaking ledger shows one event at a time.
type breaking struct {
	eventstore.Reader
	err error
}

func (b breaking) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) sequence {
	return func(yield func(eventstore.Recorded, error) bool) {
		n := 0
		for e, err := range b.Reader.ReadAll(ctx, after, f) {
			if n++; n > 1 {
				yield(eventstore.Recorded{}, b.err)
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestEverythingIsShownSoon follows a ledger that grows all the time, at last in one stream only. Nothing stays hidden for
// long, no reader sees a part of an append, and what is shown never shrinks, although the mirror is opened again.
func TestEverythingIsShownSoon(t *testing.T) {
	const patience = 200 * time.Millisecond
	for _, bus := range []bool{false, true} {
		t.Run(map[bool]string{false: "feed", true: "bus"}[bus], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ledger := newLedger(t)
				path := filepath.Join(t.TempDir(), "source.db")
				var m *mirror.Mirror
				var stop func() error
				start := func() {
					m = openMirror(t, path, ledger, nil)
					m.Limit(1000, 1<<20, 3, 4)
					follow := m.FollowFeed
					if bus {
						follow = m.Follow
					}
					stop = running(t, func(ctx context.Context) error { return follow(ctx, ledger) })
					synctest.Wait()
				}
				start()
				ends := map[eventstore.Position]time.Time{0: {}} // when the append was made
				var seen eventstore.Position
				var sent int
				for i := range 80 {
					stream := fmt.Sprint("order-", rand.N(3))
					if i >= 30 {
						stream = "order-1"
					}
					ends[appendTo(t, ledger, stream, 1+rand.N(5))] = time.Now()
					if all := deliveries(head(t, ledger).Identity, public(t, ledger)); bus {
						n := sent + rand.N(len(all)-sent+1)
						part := all[sent:n]
						rand.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
						apply(t, m, part...)
						sent = n
					}
					time.Sleep(rand.N(15 * time.Millisecond))
					if i < 40 && i%13 == 12 {
						checkError(t, stop(), context.Canceled)
						if err := m.Close(); err != nil {
							t.Fatal(err)
						}
						start()
					}
					end := head(t, m).Position
					if _, ok := ends[end]; !ok || end < seen {
						t.Fatalf("shown is %d, and was %d before", end, seen)
					}
					if i%10 == 0 {
						shows(t, m, end)
					}
					for p, at := range ends {
						if p > end && time.Since(at) > 2*time.Second+patience || p > end && !bus && time.Since(at) > patience {
							t.Fatalf("shown is %d, and %d was there %v ago", end, p, time.Since(at))
						}
					}
					seen = end
				}
				if bus {
					apply(t, m, deliveries(head(t, ledger).Identity, public(t, ledger))[sent:]...)
				}
				time.Sleep(patience)
				checkEqual(t, m, public(t, ledger))
				finish(t, stop, m, ledger)
			})
		})
	}
}
