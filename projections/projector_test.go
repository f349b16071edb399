package projections_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

func TestDeliveriesThatMakeNoSense(t *testing.T) {
	l := newLedger(t)
	newLife(t, l, "one", nil)
	_, p := caughtUp(t, l)
	good := deliveries(t, l)[0]
	for name, test := range map[string]struct {
		change func(*eventstore.Delivery)
		want   error // nil: any
	}{
		"source":      {func(d *eventstore.Delivery) { d.Source = uuid.New() }, projections.ErrUnknownSource},
		"incarnation": {func(d *eventstore.Delivery) { d.Incarnation++ }, projections.ErrUnreached},
		"lane":        {func(d *eventstore.Delivery) { d.Lane++ }, nil},
		"large lane":  {func(d *eventstore.Delivery) { d.Lane, d.Event = 99, nil }, nil},
		"future":      {func(d *eventstore.Delivery) { d.Previous, d.Position = 1e6, 1e6+1 }, projections.ErrUnreached},
	} {
		t.Run(name, func(t *testing.T) {
			d := good
			test.change(&d)
			err := p.Apply(t.Context(), []eventstore.Delivery{d})
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got error %v, want %v", err, test.want)
			}
		})
	}
}

// A delivery may skip revisions without a gap in its lane, where the ledger's own lanes were cut otherwise.
func TestFetchesMissingRevisions(t *testing.T) {
	l := newLedger(t)
	x := newLife(t, l, "one", nil).deliver()
	v := newViews(t)
	p := newProjector(t, v, l)
	all := deliveries(t, l)
	i := slices.IndexFunc(all, func(d eventstore.Delivery) bool { return d.Event != nil && d.Event.Revision == 4 })
	d := all[i]
	d.Previous = 0
	check(t, p.Apply(t.Context(), []eventstore.Delivery{d}))
	wantRevision(t, v, x.order.ID, 4)
	wantFold(t, v, l)

	d = all[i+2]
	d.Previous = 0
	for name, lacks := range map[string]func(uint64) bool{
		"one revision": func(r uint64) bool { return r == 5 },
		"the end":      func(r uint64) bool { return r >= 5 },
	} {
		p = newProjector(t, v, hole{l, lacks})
		if err := p.Apply(t.Context(), []eventstore.Delivery{d}); err == nil {
			t.Errorf("the ledger does not give %s, and it was passed over", name)
		}
		wantRevision(t, v, x.order.ID, 4)
	}
}

// Revisions alone keep an event from being applied twice, should a checkpoint be older than its rows.
func TestAppliedRevisionsAreSkipped(t *testing.T) {
	l := newLedger(t)
	newLife(t, l, "one", nil).deliver()
	v, _ := caughtUp(t, l)
	check(t, v.Exec(t.Context(), `UPDATE lanes SET position = 0`))
	check(t, v.Exec(t.Context(), `UPDATE sources SET passed = 0`))
	p := newProjector(t, v, l)
	for _, d := range deliveries(t, l) {
		check(t, p.Apply(t.Context(), []eventstore.Delivery{d}))
	}
	wantFold(t, v, l)
}

// What the ledger takes while a projector catches up is left to the bus, or the checkpoint would be behind the rows.
func TestCatchUpEndsAtTheHead(t *testing.T) {
	l := newLedger(t)
	newLife(t, l, "one", nil).deliver()
	v, _ := caughtUp(t, mimic{l, func(h *eventstore.Head) { h.Position -= 2 }})
	wantFold(t, v, l)
}

// A hole is a ledger that lacks revisions.
type hole struct {
	eventstore.Reader
	lacks func(revision uint64) bool
}

func (h hole) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range h.Reader.ReadStream(ctx, stream, from, dir) {
			if !h.lacks(e.Revision) && !yield(e, err) {
				return
			}
		}
	}
}

// A mimic shows another head than the ledger's.
type mimic struct {
	eventstore.Reader
	change func(*eventstore.Head)
}

func (m mimic) Head(ctx context.Context) (eventstore.Head, error) {
	h, err := m.Reader.Head(context.WithoutCancel(ctx))
	m.change(&h)
	return h, err
}

func TestLostTail(t *testing.T) {
	l := newLedger(t)
	newLife(t, l, "one", nil).deliver()
	_, err := l.Append(t.Context(), "command-1", eventstore.NoStream, []eventstore.Event{{ID: uuid.New(), Type: "command.done.v1"}})
	check(t, err)
	for name, change := range map[string]func(*eventstore.Head){
		"shorter": func(h *eventstore.Head) { h.Position-- },
		"other":   func(h *eventstore.Head) { h.Chain[0]++ },
	} {
		t.Run(name, func(t *testing.T) {
			v, p := caughtUp(t, l)
			check(t, p.CatchUp(t.Context()))
			cut := mimic{l, change}
			if err := newProjector(t, v, cut).CatchUp(t.Context()); !errors.Is(err, projections.ErrTailLost) || !projections.Final(err) {
				t.Errorf("catching up: got error %v, want %v", err, projections.ErrTailLost)
			}
		})
	}
	v, _ := caughtUp(t, l)
	_, err = v.Verify(t.Context(), []eventstore.Reader{mimic{l, func(h *eventstore.Head) { h.Position-- }}}, nil)
	if !errors.Is(err, projections.ErrTailLost) {
		t.Errorf("verifying: got error %v, want %v", err, projections.ErrTailLost)
	}
}

// A ledger that goes on from a backup makes the rows begin again.
func TestIncarnations(t *testing.T) {
	l := newLedger(t)
	x := newLife(t, l, "one", nil)
	v, p := caughtUp(t, l)
	next := mimic{l, func(h *eventstore.Head) { h.Incarnation++ }}
	old := deliveries(t, l)
	x.deliver()

	mark := eventstore.Mark{Ledger: old[0].Source, Incarnation: old[0].Incarnation + 1, Revision: 0}
	restored := newProjector(t, v, next)
	if _, _, err := v.Order(t.Context(), x.order.BusinessUnit, x.order.ID); !errors.Is(err, projections.ErrNotFound) {
		t.Errorf("an order of the lost branch: got error %v, want %v", err, projections.ErrNotFound)
	}
	check(t, restored.Apply(t.Context(), old)) // means nothing any more
	if _, _, err := v.Order(t.Context(), x.order.BusinessUnit, x.order.ID); !errors.Is(err, projections.ErrNotFound) {
		t.Errorf("an order of the lost branch: got error %v, want %v", err, projections.ErrNotFound)
	}
	check(t, restored.CatchUp(t.Context()))
	wantRevision(t, v, x.order.ID, x.order.Revision())
	check(t, v.WaitFor(t.Context(), mark, &x.order.ID))
	mark.Incarnation--
	if err := v.WaitFor(t.Context(), mark, nil); !errors.Is(err, projections.ErrLostBranch) {
		t.Errorf("waiting for a mark of the lost branch: got error %v, want %v", err, projections.ErrLostBranch)
	}
	if err := p.CatchUp(t.Context()); !errors.Is(err, projections.ErrLeaseLost) {
		t.Errorf("got error %v, want %v", err, projections.ErrLeaseLost)
	}
	if _, err := projections.NewProjector(t.Context(), v, []eventstore.Reader{l}, nil); !errors.Is(err, projections.ErrTailLost) {
		t.Errorf("following the old branch: got error %v, want %v", err, projections.ErrTailLost)
	}
}

// The ledger may go on from a backup while the projector runs.
func TestIncarnationWhileRunning(t *testing.T) {
	l := newLedger(t)
	x := newLife(t, l, "one", nil)
	raised := uint32(0)
	ledger := mimic{l, func(h *eventstore.Head) { h.Incarnation += raised }}
	v, p := caughtUp(t, ledger)
	raised = 1
	x.deliver()
	check(t, p.Apply(t.Context(), deliveries(t, ledger)))
	wantRevision(t, v, x.order.ID, x.order.Revision())
	raised = 2
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.CatchUp(ctx); err == nil { // must not leave it half way
		t.Error("caught up though cancelled")
	}
	check(t, p.CatchUp(t.Context()))
	wantFold(t, v, ledger)
}

func TestOtherFoldVersionIsFoldedAnew(t *testing.T) {
	l := newLedger(t)
	x := newLife(t, l, "one", nil).deliver()
	v, p := caughtUp(t, l)
	should, _ := caughtUp(t, l)
	check(t, p.Close(t.Context()))
	check(t, p.Close(t.Context()))
	check(t, v.Exec(t.Context(), `UPDATE orders SET fold_version = 0, total = '1'`))
	check(t, v.Exec(t.Context(), `UPDATE sources SET fold_version = 0`))
	if _, _, err := v.Order(t.Context(), x.order.BusinessUnit, x.order.ID); err == nil {
		t.Error("a row of another fold version was read")
	}
	check(t, newProjector(t, v, l).CatchUp(t.Context()))
	wantSame(t, v, should)
}

func TestLease(t *testing.T) {
	l := newLedger(t)
	x := newLife(t, l, "one", nil)
	v := newViews(t)
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	start := func(owner string) (*projections.Projector, error) {
		return projections.NewProjector(t.Context(), v, []eventstore.Reader{l}, &projections.ProjectorConfig{
			Owner: owner, Now: func() time.Time { return now },
		})
	}
	a, err := start("a")
	check(t, err)
	check(t, a.CatchUp(t.Context()))
	var held *projections.LeaseError
	if _, err := start("b"); !errors.As(err, &held) || held.Owner != "a" || !held.Until.Equal(now.Add(projections.LeaseTerm)) {
		t.Fatalf("got error %v, want that a holds the lease", err)
	}
	if held.Error() == "" {
		t.Error("the error says nothing")
	}
	// Deliveries that bring nothing new keep the lease.
	for range 5 {
		now = now.Add(projections.LeaseTerm / 2)
		check(t, a.Apply(t.Context(), deliveries(t, l)))
	}
	if _, err := start("b"); !errors.As(err, &held) || projections.Final(err) { // it expires
		t.Fatalf("got error %v, want that a holds the lease for now", err)
	}
	again, err := start("a") // after a crash
	check(t, err)
	x.deliver()
	if err := a.Apply(t.Context(), deliveries(t, l)); !errors.Is(err, projections.ErrLeaseLost) || !projections.Final(err) {
		t.Errorf("got error %v, want %v", err, projections.ErrLeaseLost)
	}
	wantRevision(t, v, x.order.ID, 2)
	check(t, a.Close(t.Context())) // does not touch the lease of the other one
	check(t, again.Apply(t.Context(), deliveries(t, l)))
	now = now.Add(projections.LeaseTerm)
	b, err := start("b")
	check(t, err)
	if err := again.CatchUp(t.Context()); err != nil && !errors.Is(err, projections.ErrLeaseLost) {
		t.Error(err)
	}
	check(t, b.Close(t.Context()))
	c, err := start("c")
	check(t, err)
	check(t, c.Close(t.Context()))
}

func TestFollowedTwice(t *testing.T) {
	l := newLedger(t)
	if _, err := projections.NewProjector(t.Context(), newViews(t), []eventstore.Reader{l, l}, nil); err == nil {
		t.Error("a ledger is followed twice")
	}
}

func TestSeveralLedgers(t *testing.T) {
	l1, l2 := newLedger(t), newLedger(t)
	x := newLife(t, l1, "one", nil)
	y := newLife(t, l2, "two", nil)
	newLife(t, l1, "both", nil).do(domain.Withdraw{Winner: "the other", Reason: domain.Reason{Code: "duplicate"}})
	both := newLife(t, l2, "both", nil).deliver()
	v, p := caughtUp(t, l1, l2)
	x.deliver()
	y.deliver()
	check(t, p.Apply(t.Context(), slices.Concat(deliveries(t, l2), deliveries(t, l1))))
	wantRevision(t, v, x.order.ID, x.order.Revision())
	wantRevision(t, v, y.order.ID, y.order.Revision())
	wantRevision(t, v, both.order.ID, both.order.Revision()) // not the one that was withdrawn
	should, _ := caughtUp(t, l2, l1)
	wantSame(t, v, should)
	sources, err := v.Sources(t.Context())
	check(t, err)
	if len(sources) != 2 {
		t.Errorf("%d sources, not 2", len(sources))
	}
	if _, err := v.Verify(t.Context(), []eventstore.Reader{l1}, nil); err == nil {
		t.Error("verified without one of the ledgers")
	}
}

func TestLag(t *testing.T) {
	l := newLedger(t)
	x := newLife(t, l, "one", nil)
	_, p := caughtUp(t, l)
	lag, err := p.Lag(t.Context())
	check(t, err)
	if lag[0].Events != 0 || lag[0].Age != 0 || lag[0].Head != lag[0].Passed {
		t.Errorf("caught up, but behind: %+v", lag)
	}
	x.deliver()
	lag, err = p.Lag(t.Context())
	check(t, err)
	if lag[0].Events != 4 || lag[0].Age <= 0 || lag[0].Head <= lag[0].Passed {
		t.Errorf("four events behind, but: %+v", lag)
	}
	// What the lane has is not missing, though other lanes have not come so far.
	all := deliveries(t, l)
	check(t, p.Apply(t.Context(), all[:len(all)-4]))
	lag, err = p.Lag(t.Context())
	check(t, err)
	if lag[0].Events != 0 || lag[0].Newest <= lag[0].Passed {
		t.Errorf("nothing is missing, but: %+v", lag)
	}
	check(t, p.Apply(t.Context(), all))
	lag, err = p.Lag(t.Context())
	check(t, err)
	head, err := l.Head(t.Context())
	check(t, err)
	if lag[0].Passed != head.Position || lag[0].Chain != head.Chain {
		t.Errorf("ticks did not bring the lanes to the head %+v: %+v", head, lag)
	}
}

func TestCancelledContext(t *testing.T) {
	l := newLedger(t)
	newLife(t, l, "one", nil)
	v := newViews(t)
	p := newProjector(t, v, l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Apply(ctx, deliveries(t, l)); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	if err := p.CatchUp(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	check(t, p.CatchUp(t.Context()))
	wantFold(t, v, l)
}
