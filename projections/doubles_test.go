package projections_test

import (
	"strconv"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/projections"
)

// wantShownOnce checks every list and count in which a double could appear.
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
