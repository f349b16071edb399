package domain_test

import (
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

// Of any claims exactly one is over all others, whoever compares them in whatever order.
func TestOneClaimIsOverTheOthers(t *testing.T) {
	id := rapid.Custom(func(t *rapid.T) uuid.UUID {
		return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	})
	rapid.Check(t, func(t *rapid.T) {
		order := id.Draw(t, "order")
		claims := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) domain.Claim {
			return domain.Claim{Ledger: id.Draw(t, "ledger"), Epoch: rapid.Uint32Max(2).Draw(t, "epoch"), Withdrawn: rapid.Bool().Draw(t, "withdrawn"), Left: rapid.Bool().Draw(t, "left")}
		}), 1, 6, func(c domain.Claim) uuid.UUID { return c.Ledger }).Draw(t, "claims")
		winners := 0
		for _, c := range claims {
			wins := true
			for _, d := range claims {
				if c == d {
					continue
				}
				if c.Over(d, order) == d.Over(c, order) {
					t.Fatalf("%+v and %+v are over each other, or neither is", c, d)
				}
				wins = wins && c.Over(d, order)
			}
			if wins {
				winners++
				for _, d := range claims {
					alike := c.Withdrawn == d.Withdrawn && c.Epoch == d.Epoch
					if c.Withdrawn && !d.Withdrawn || c.Withdrawn == d.Withdrawn && c.Epoch < d.Epoch || alike && c.Left && !d.Left {
						t.Fatalf("%+v is over %+v", c, d)
					}
				}
			}
		}
		if winners != 1 {
			t.Fatalf("%d of %d claims are over all others", winners, len(claims))
		}
	})
}

// An order's claim follows its history: withdrawn for another ledger, moved to one, left by one.
func TestClaim(t *testing.T) {
	own, other := uuid.UUID{1}, uuid.UUID{2}
	o := after(t, order(article("lens", "10")))
	move := func(home uuid.UUID, epoch uint32) domain.Move {
		return domain.Move{Home: home.String(), Source: other.String(), Epoch: epoch}
	}
	for _, test := range []struct {
		do   domain.Action
		want domain.Claim
	}{
		{domain.PlaceHold{Reason: because("asked")}, domain.Claim{Ledger: own}},
		{domain.Withdraw{Winner: other.String(), Reason: because("duplicate")}, domain.Claim{Ledger: own, Withdrawn: true}},
		{move(own, 3), domain.Claim{Ledger: own, Epoch: 3}},
		{move(other, 4), domain.Claim{Ledger: own, Epoch: 4, Left: true}},
		{domain.Withdraw{Winner: other.String()}, domain.Claim{Ledger: own, Epoch: 4, Left: true, Withdrawn: true}},
		{move(own, 5), domain.Claim{Ledger: own, Epoch: 5}},
	} {
		o = going(t, o, test.do)
		if got := o.Claim(own); got != test.want {
			t.Errorf("after %+v: %+v, want %+v", test.do, got, test.want)
		}
		if (o.Reason != domain.Reason{}) && o.WithdrawnFor == "" {
			t.Errorf("after %+v: the order is not withdrawn, but says why: %v", test.do, o.Reason)
		}
	}
}

// What concerns several ledgers is recorded as it was asked for, and conflicts over different things are different ones.
func TestLedgersOfAnOrder(t *testing.T) {
	o := after(t, order(article("lens", "10")))
	conflict := func(ledger, command, site string) domain.Conflict {
		return domain.Conflict{Ledger: ledger, Command: command, Action: "ship", Code: "over_shipment", Site: site, Fulfilment: "f1", Revision: 7}
	}
	with := func(id string, c domain.Conflict) domain.Conflict {
		c.ID = id
		return c
	}
	for _, test := range []struct {
		do   domain.Action
		want domain.Event
	}{
		{domain.Move{Home: "l-1", Source: "l-2", Last: 9, Epoch: 2}, &domain.HomeMoved{Home: "l-1", Source: "l-2", Last: 9, Epoch: 2}},
		{domain.RecordConflict{Conflict: conflict("l-2", "a", "")}, &domain.ConflictFound{Conflict: with("c1", conflict("l-2", "a", ""))}},
		{domain.RecordConflict{Conflict: conflict("l-3", "a", "")}, &domain.ConflictFound{Conflict: with("c2", conflict("l-3", "a", ""))}},
		{domain.RecordConflict{Conflict: conflict("l-2", "b", "")}, &domain.ConflictFound{Conflict: with("c3", conflict("l-2", "b", ""))}},
		{domain.RecordConflict{Conflict: conflict("l-2", "", "A")}, &domain.ConflictFound{Conflict: with("c4", conflict("l-2", "", "A"))}},
		{domain.RecordConflict{Conflict: conflict("l-2", "", "B")}, &domain.ConflictFound{Conflict: with("c5", conflict("l-2", "", "B"))}},
		{domain.Settle{Conflict: "c2", Reason: because("known")}, &domain.ConflictSettled{Conflict: "c2", Reason: because("known")}},
	} {
		events, err := domain.Decide(o, asked(o, test.do), domaintest.Policy{}, now)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, []domain.Event{test.want}, events)
		o = domain.Evolve(o, events[0])
	}
	var open []string
	for _, c := range o.Conflicts {
		if !c.Settled {
			open = append(open, c.ID)
		}
	}
	wantSame(t, []string{"c1", "c3", "c4", "c5"}, open)
	wantSame(t, because("known"), o.Conflict("c2").Answer)
	wantMalformed(t, o, asked(o, domain.RecordConflict{Conflict: domain.Conflict{Ledger: "l-2"}}), "command", "missing")
}
