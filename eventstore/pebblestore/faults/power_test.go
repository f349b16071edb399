package faults

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
)

// A wreck is what a disk held when the power failed, and what was known then.
type wreck struct {
	crash crash
	left  *vfs.MemFS
	last  bool // the ledger was about to be closed
	knowledge
	views []byte // the log of the read models, where there are any
}

// A life is a ledger under load on a disk, from its opening to its end, during which the power fails many times: at
// each time what the disk would hold is put aside, and the ledger goes on.
type life struct {
	*load
	disk   *disk
	wrecks chan<- wreck
	views  func() []byte // the log of the read models; nil: there are none

	mu       sync.Mutex // protects what follows
	rng      *rand.Rand
	next     int // changes until the power fails
	failures int // still to come
	over     context.CancelFunc
}

// before is asked before each change of the disk. The last failures come while the ledger closes.
func (l *life) before(change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next--; l.next > 0 || l.failures == 0 {
		return nil
	}
	l.next = 1 + l.rng.IntN(3)
	w := wreck{crash: crash(l.rng.IntN(int(crashes)))}
	if l.failures--; l.failures == 5 {
		w.last = true
		l.over()
	} else if l.rng.IntN(2) == 0 {
		l.next += l.rng.IntN(30)
	}
	w.left = l.disk.fail(w.crash, l.rng, func() {
		w.knowledge = l.known()
		if l.views != nil {
			w.views = l.views()
		}
	})
	l.wrecks <- w
	return nil
}

// live leads the life of a ledger of which something is known, with some power failures.
func live(t *testing.T, d *disk, k knowledge, failures int, rng *rand.Rand, histories []history, wrecks chan<- wreck) {
	ctx, over := context.WithCancel(t.Context())
	defer over()
	l := &life{
		load: &load{t: t, histories: histories, knowledge: k},
		disk: d, wrecks: wrecks, rng: rng, next: 1, failures: failures, over: over,
	}
	d.before = l.before
	l.ledger = open(t, d)
	l.run(ctx, 6, rand.New(rand.NewPCG(rng.Uint64(), 0)))
	check(t, l.ledger.Close())
}

// A toll counts what a series of power failures has shown.
type toll struct {
	mu          sync.Mutex // protects what follows
	points      [crashes]int
	events      int // found again
	checkpoints int // of the relay, found again
	last        wreck
	survivors   []eventstore.Recorded // in the last wreck
}

// survey looks at wrecks, and tells about those that have lost something.
func (l *toll) survey(t *testing.T, wrecks <-chan wreck) {
	for w := range wrecks {
		again := w.left
		if w.last {
			again = write(contents(w.left)) // the survey changes what is left
		}
		found, relayed, loss := survey(t.Context(), w.left, w.knowledge)
		if !loss.none() {
			t.Errorf("unsynced data %v, %d events known: %v", w.crash, len(w.seen), loss)
		}
		l.mu.Lock()
		l.points[w.crash]++
		l.events += len(found)
		if relayed > 0 {
			l.checkpoints++
		}
		if w.last {
			l.last, l.survivors = w, found
			l.last.left = again
		}
		l.mu.Unlock()
	}
}

func (l *toll) total() (n int) {
	for _, points := range l.points {
		n += points
	}
	return n
}

// TestPowerLoss lets the power fail at a thousand random moments, between any two changes of the disk: while the ledger
// opens what an earlier failure has left, while it works, and while it closes. What was acknowledged, read or published
// is there afterwards; appends are there whole or not at all; the relay's checkpoint vouches for nothing that the bus
// has not taken; and appends whose outcome nobody knew can be repeated.
func TestPowerLoss(t *testing.T) {
	points := 1_000 / slowed
	if full {
		points = 100_000
	}
	rng, histories := seeded(t), histories(t)
	l := new(toll)
	for lives := 0; l.total() < points && !t.Failed(); lives++ {
		d, k := newDisk(), knowledge{}
		if lives%3 > 0 { // it goes on with what a failure has left
			d = diskOf(l.last.left)
			k = knowledge{begun: slices.Clip(l.last.begun), seen: slices.Clip(l.survivors), published: slices.Clip(l.last.published)}
		}
		wrecks := make(chan wreck, 2)
		var surveyors sync.WaitGroup
		for range 2 {
			surveyors.Go(func() { l.survey(t, wrecks) })
		}
		live(t, d, k, 50, rng, histories, wrecks)
		close(wrecks)
		surveyors.Wait()
	}
	t.Logf("%d power failures, by what became of unsynced data: %v; %d events were found again, and %d checkpoints of the relay",
		l.total(), l.points, l.events, l.checkpoints)
	if l.checkpoints == 0 {
		t.Error("the relay never had a checkpoint: nothing was shown of it")
	}
}

// TestPowerLossWithoutSyncIsSeen is the control: the same ledger on a disk that says it has synced, and has not, does
// lose what it has acknowledged, and the survey tells.
func TestPowerLossWithoutSyncIsSeen(t *testing.T) {
	rng := seeded(t)
	d := newDisk()
	var opened atomic.Bool
	d.before = func(c change) error {
		if opened.Load() && strings.HasPrefix(c.op, "sync") {
			return errNoSync
		}
		return nil
	}
	l := &load{t: t, histories: histories(t), ledger: open(t, d)}
	opened.Store(true)
	for range 10 {
		ctx, over := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { l.run(ctx, 6, rand.New(rand.NewPCG(rng.Uint64(), 0))) })
		for n := len(l.known().seen); len(l.known().seen) < n+50; {
			runtime.Gosched()
		}
		over()
		for _, c := range []crash{dropped, kept} {
			var k knowledge
			left := d.fail(c, rng, func() { k = l.known() })
			if _, _, loss := survey(t.Context(), left, k); (loss.acked > 0 && loss.seen > 0) != (c == dropped) {
				t.Errorf("unsynced data %v: %v", c, loss)
			}
		}
		work.Wait()
	}
	check(t, l.ledger.Close())
}
