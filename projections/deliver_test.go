package projections_test

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/projections"
)

// scatter records histories of several orders, interleaved with events of other streams.
func scatter(t *rapid.T, l *pebblestore.Store) {
	type order struct {
		id      uuid.UUID
		history []domaintest.Recorded
		done    int
	}
	var orders []*order
	for range rapid.IntRange(1, 3).Draw(t, "orders") {
		h := domaintest.History(t)
		id := h[0].Event.(*domain.Submitted).Order
		if !slices.ContainsFunc(orders, func(o *order) bool { return o.id == id }) {
			orders = append(orders, &order{id: id, history: h})
		}
	}
	for other := 0; len(orders) > 0; other++ {
		if rapid.IntRange(0, 9).Draw(t, "other stream") == 0 {
			_, err := l.Append(context.Background(), "command-"+strconv.Itoa(other), eventstore.NoStream,
				[]eventstore.Event{{ID: uuid.NewSHA1(uuid.Nil, []byte(strconv.Itoa(other))), Type: "command.done.v1", Data: []byte("{}")}})
			check(t, err)
		}
		i := rapid.IntRange(0, len(orders)-1).Draw(t, "order")
		o := orders[i]
		n := rapid.IntRange(1, min(4, len(o.history)-o.done)).Draw(t, "events")
		record(t, l, o.id, uint64(o.done), o.history[o.done:o.done+n]...)
		if o.done += n; o.done == len(o.history) {
			orders = slices.Delete(orders, i, i+1)
		}
	}
}

var errCrash = errors.New("the power went")

// crash applies deliveries and fails the commit, without telling whether it has happened nevertheless.
func crash(t tester, p *projections.Projector, batch []eventstore.Delivery, committed bool) {
	t.Helper()
	p.SetCommit(func(tx *sql.Tx) error {
		if committed {
			check(t, tx.Commit())
		}
		return errCrash
	})
	if err := p.Apply(t.Context(), batch); err != nil && !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
}

// Whatever the bus does to deliveries and however often the projector dies, the rows become what a fold gives.
func TestAnyDeliveryGivesTheFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger(t)
		scatter(t, l)
		is := newViews(t)
		p := newProjector(t, is, l)
		sent := disturb(t, deliveries(t, l))
		for len(sent) > 0 {
			n := rapid.IntRange(1, min(16, len(sent))).Draw(t, "batch")
			batch := sent[:n]
			sent = sent[n:]
			switch rapid.IntRange(0, 9).Draw(t, "fate") {
			case 0:
				crash(t, p, batch, rapid.Bool().Draw(t, "committed"))
				p.SetCommit(nil)
				check(t, p.Apply(t.Context(), batch))
			case 1: // a new process
				p = newProjector(t, is, l)
				check(t, p.Apply(t.Context(), batch))
			case 2:
				check(t, p.Apply(t.Context(), batch))
				check(t, p.Apply(t.Context(), batch))
			case 3:
				p.SetBatch(n)
				check(t, p.CatchUp(t.Context()))
			default:
				check(t, p.Apply(t.Context(), batch))
			}
			if rapid.IntRange(0, 24).Draw(t, "look") == 0 {
				wantFold(t, is, l)
			}
		}
		wantFold(t, is, l)
		sources, err := is.Sources(t.Context())
		check(t, err)
		head, err := l.Head(t.Context())
		check(t, err)
		if sources[0].Passed != head.Position {
			t.Fatalf("the rows have come to position %d, the ledger to %d", sources[0].Passed, head.Position)
		}
	})
}

// disturb returns deliveries doubled, lost and in another order: lanes overtake each other, and where the bus is at its
// worst so do the deliveries of one lane. The last tick of each lane arrives.
func disturb(t *rapid.T, list []eventstore.Delivery) []eventstore.Delivery {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	worst := rapid.Bool().Draw(t, "worst")
	type placed struct {
		eventstore.Delivery
		at float64
	}
	var all []placed
	delay := map[int]float64{}
	for i, d := range list {
		if random.IntN(10) == 0 {
			delay[d.Lane] = random.Float64() * 30 // the lane is held up from here on
		}
		copies := 1
		switch {
		case random.IntN(8) == 0 && d.Event != nil:
			copies = 0
		case random.IntN(4) == 0:
			copies = 2
		}
		for range copies {
			at := float64(i) + delay[d.Lane]
			if worst {
				at += random.Float64() * 20
			}
			all = append(all, placed{d, at})
		}
	}
	slices.SortStableFunc(all, func(x, y placed) int {
		if x.at < y.at {
			return -1
		}
		return 1
	})
	sent := make([]eventstore.Delivery, len(all))
	for i, p := range all {
		sent[i] = p.Delivery
	}
	return sent
}

// wantFold checks that the rows are, lane by lane, the fold of the history up to the checkpoint.
func wantFold(t tester, v *projections.Views, ledgers ...eventstore.Reader) {
	t.Helper()
	report, err := v.Verify(t.Context(), ledgers, nil)
	check(t, err)
	if report.Difference != nil {
		t.Fatalf("not the fold up to the checkpoint: %v", report.Difference)
	}
}

// A projector whose commits fail goes on, and so does its successor, whether the commits had happened or not.
func TestCrashAtEachCommit(t *testing.T) {
	for _, test := range []struct{ committed, survives bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		l := newLedger(t)
		for i := range 3 {
			newLife(t, l, "crash"+strconv.Itoa(i), nil).deliver()
		}
		is := newViews(t)
		p := newProjector(t, is, l)
		for _, d := range deliveries(t, l) {
			crash(t, p, []eventstore.Delivery{d}, test.committed)
			if !test.survives {
				p = newProjector(t, is, l)
			}
			p.SetCommit(nil)
			check(t, p.Apply(t.Context(), []eventstore.Delivery{d}))
		}
		should, _ := caughtUp(t, l)
		wantSame(t, is, should)
	}
}
