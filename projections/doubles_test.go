package projections_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/projections"
)

// Orders that were submitted in several ledgers are shown once, and everybody shows the same one, in whatever order the
// ledgers were read and however far.
func TestDoublesAreShownOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ledgers := []*pebblestore.Store{newLedger(t), newLedger(t), newLedger(t)}
		want := make(map[uuid.UUID]domain.Claim) // by order
		for i := range rapid.IntRange(1, 8).Draw(t, "orders") {
			for _, l := range ledgers[:rapid.IntRange(1, 3).Draw(t, "ledgers")] {
				head, err := l.Head(t.Context())
				check(t, err)
				x := newLife(t, l, strconv.Itoa(i), nil)
				c := domain.Claim{Ledger: head.ID}
				if rapid.Bool().Draw(t, "delivered") {
					x.deliver()
				}
				if rapid.IntRange(0, 3).Draw(t, "withdrawn") == 0 {
					x.do(domain.Withdraw{Winner: "another", Reason: domain.Reason{Code: "duplicate"}})
					c.Withdrawn = true
				}
				if w, ok := want[x.order.ID]; !ok || c.Over(w, x.order.ID) {
					want[x.order.ID] = c
				}
			}
		}
		v := newViews(t)
		p := newProjector(t, v, ledgers[0])
		p.SetBatch(rapid.IntRange(1, 5).Draw(t, "batch"))
		followed := rapid.Permutation([]int{1, 2}).Draw(t, "order of ledgers")
		for _, i := range followed {
			check(t, p.Follow(t.Context(), ledgers[i]))
		}
		behind := []int{0, 1, 2}
		for len(behind) > 0 {
			i := rapid.SampledFrom(behind).Draw(t, "which one goes on")
			head, err := ledgers[i].Head(t.Context())
			check(t, err)
			more, err := p.CatchUpSome(t.Context(), head.ID)
			check(t, err)
			if !more {
				behind = slices.DeleteFunc(behind, func(j int) bool { return j == i })
			}
		}
		wantShownOnce(t, v, want)
		wantFold(t, v, ledgers[0], ledgers[1], ledgers[2])
	})
}

// wantShownOnce checks every answer in which a double could appear.
func wantShownOnce(t tester, v *projections.Views, want map[uuid.UUID]domain.Claim) {
	t.Helper()
	statuses := make(map[domain.Status]uint64)
	events := 0
	for id, c := range want {
		row, o, err := v.Order(t.Context(), domaintest.BusinessUnit, id)
		check(t, err)
		if row.Source != c.Ledger {
			t.Errorf("order %s is shown from ledger %s, want %s", id, row.Source, c.Ledger)
		}
		statuses[row.Status]++
		events += int(o.Events)
	}
	for _, q := range []projections.Query{{}, {Statuses: domain.Statuses()}, {Customer: "c-4711"}, {Words: "lens"}} {
		q.BusinessUnit, q.Limit = domaintest.BusinessUnit, len(want)
		list, err := v.Orders(t.Context(), q)
		check(t, err)
		if len(list) != len(want) {
			t.Errorf("%d orders are listed by %+v, want %d", len(list), q, len(want))
		}
		for _, o := range list {
			if o.Source != want[o.ID].Ledger {
				t.Errorf("order %s is listed from ledger %s, want %s", o.ID, o.Source, want[o.ID].Ledger)
			}
		}
	}
	counts, err := v.Counts(t.Context(), domaintest.BusinessUnit)
	check(t, err)
	for _, c := range counts {
		if c.Orders != statuses[c.Status] {
			t.Errorf("%d orders are %s, want %d", c.Orders, c.Status, statuses[c.Status])
		}
		delete(statuses, c.Status)
	}
	if len(statuses) > 0 {
		t.Errorf("not counted: %v", statuses)
	}
	notes, err := v.Notifications(t.Context(), domaintest.BusinessUnit, nil, projections.MaxLimit)
	check(t, err)
	for _, n := range notes {
		if n.Place.Source != want[n.Order].Ledger {
			t.Errorf("order %s is told of from ledger %s, want %s", n.Order, n.Place.Source, want[n.Order].Ledger)
		}
	}
	if len(notes) == 0 {
		t.Error("there are no notifications")
	}
}

// While the rows of the ledger that counts are folded anew, the order is shown from the other one.
func TestDoubleStandsInWhileTheOtherIsFoldedAnew(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	x := newLife(t, a, "twice", nil)
	newLife(t, b, "twice", nil)
	v, p := caughtUp(t, a, b)
	row, _, err := v.Order(t.Context(), domaintest.BusinessUnit, x.order.ID)
	check(t, err)
	check(t, p.Close(t.Context()))
	check(t, v.Exec(t.Context(), `UPDATE sources SET fold_version = 0 WHERE source = $1`, row.Source[:]))
	newProjector(t, v, a, b)
	list, err := v.Orders(t.Context(), projections.Query{BusinessUnit: domaintest.BusinessUnit})
	check(t, err)
	if len(list) != 1 || list[0].Source == row.Source {
		t.Errorf("listed is %+v, want the order as the other ledger has it", list)
	}
}

// A projector that was started again has to do with the rows of ledgers that it does not follow yet.
func TestDoubleOfALedgerThatIsNotFollowedYet(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	newLife(t, a, "only here", nil)
	for i := range 8 {
		newLife(t, b, strconv.Itoa(i), nil)
	}
	v, p := caughtUp(t, a, b)
	check(t, p.Close(t.Context()))
	p = newProjector(t, v, a)
	for i := range 8 {
		newLife(t, a, strconv.Itoa(i), nil)
	}
	check(t, p.CatchUp(t.Context()))
	wantFold(t, v, a, b)
}

func TestFollowRefusesALedgerTwice(t *testing.T) {
	l := newLedger(t)
	_, p := caughtUp(t, l)
	if err := p.Follow(t.Context(), l); err == nil {
		t.Error("a ledger is followed twice")
	}
	if _, err := p.CatchUpSome(t.Context(), uuid.New()); err == nil {
		t.Error("a ledger that is not followed was caught up with")
	}
}
