package commands

import (
	"slices"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// testify has this ledger show to the one where an order counts what it alone may know of those from which the order was
// taken over: they may never come back to tell it themselves. A ledger with a history of its own does so only where a
// takeover says that one is lost, because what it notes needs a person.
func (h *Handler) testify(x *holdings) (Append, deed, error) {
	w := x.winner()
	if w == nil || w == &x.own {
		return Append{}, nothing, nil
	}
	for i := range w.events {
		moved, ok := w.events[i].event.(*domain.HomeMoved)
		if !ok {
			continue
		}
		source, err := uuid.Parse(moved.Source)
		if there := x.in(source); err != nil || there == nil || there == w || common(&x.own, there) < len(x.own.events) {
			continue
		}
		if a, what, err := h.witness(x, source); what != nothing || err != nil {
			return a, what, err
		}
	}
	return Append{}, nothing, nil
}

// witness makes the append by which this ledger shows what was done in a lost one and its winner lacks: a copy of the lost
// ledger's history, given up at once, whose commands are offered like those of every other copy. Where the lost ledger has
// handed the order over to one that has not heard of it, the copy says so and is adopted. Where this ledger has a history
// of its own it notes a conflict for the first of the commands, for the winner to do the same.
func (h *Handler) witness(x *holdings, lost uuid.UUID) (Append, deed, error) {
	w, there := x.winner(), x.in(lost)
	if there == nil || w == &x.own {
		return Append{}, nothing, nil
	}
	n := len(x.own.events)
	diverged := common(&x.own, there) < n
	if n == len(there.events) && !diverged {
		return Append{}, nothing, nil
	}
	if there == w && !diverged {
		return Append{Stream: domain.Stream(x.order), Expected: x.own.end(), Events: copies(fitting(there.events[n:]))}, witnessed, nil
	}
	unheard := x.unheard(w, there)
	switch {
	case len(unheard) == 0:
		return Append{}, nothing, nil
	case diverged:
		return h.note(x, unheard[0].conflict(lost, domain.ConflictHeardOf))
	}
	a := Append{Stream: domain.Stream(x.order)}
	if !there.claim().Withdrawn {
		var err error
		if a, err = h.bySystem(x, there.order, "witness", h.itself(), domain.Withdraw{Winner: w.home().String()}); err != nil {
			return Append{}, nothing, err
		}
	}
	a.Expected, a.Events = x.own.end(), append(copies(there.events[n:]), a.Events...)
	return a, witnessed, eventstore.Validate(a.Stream, a.Expected, a.Events)
}

// unheard are the offers of a lost ledger that neither the winner has, unless that is the lost one, nor this one.
func (x *holdings) unheard(w, there *holding) []offer {
	others := []*holding{&x.own}
	if w != there {
		others = append(others, w)
	}
	return slices.DeleteFunc(offers(there, common(others[len(others)-1], there)), func(o offer) bool {
		return slices.ContainsFunc(others, func(k *holding) bool {
			_, had := k.commands()[o.meta.Command]
			return had || k.noted(o.meta.Command)
		})
	})
}
