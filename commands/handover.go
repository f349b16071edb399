package commands

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// HandOver has an order that lives here live in another region, which has held it before or not at all, and says what has
// become of it. A dry one only says what would. From then on nothing is decided over the order here; there it is from when
// that region has heard of it.
func (h *Handler) HandOver(ctx context.Context, to string, order uuid.UUID, by domain.Actor, dry bool) (Movement, error) {
	region, err := h.followed(to)
	if err != nil {
		return "", err
	}
	return h.moveOne(ctx, order, dry, func(x *holdings) (Append, Movement, error) {
		w := x.winner()
		switch {
		case w == nil:
			return Append{}, "", &domain.Refused{Code: domain.CodeUnknownOrder, Detail: fmt.Sprintf("there is no order %s", order)}
		case w.home() == region.Ledger:
			return Append{}, AlreadyHere, nil
		case w != &x.own || w.home() != h.ledger.ID:
			return Append{}, LivesElsewhere, nil
		}
		n := 0
		if there := x.in(region.Ledger); there != nil {
			if n = common(w, there); n < len(there.events) {
				return Append{}, Diverged, nil
			}
		}
		a, err := h.move(x, w, region.Ledger, by)
		if err == nil {
			// What it lacks there has to fit into one append, too.
			err = eventstore.Validate(a.Stream, eventstore.NoStream, append(copies(w.events[n:]), a.Events...))
		}
		return a, Moved, err
	})
}

// HandOverSome is [Handler.HandOver] of the next orders that have come here from a region, at most 500. It goes on where
// Progress says until that is done; after an error it goes on where it began.
func (h *Handler) HandOverSome(ctx context.Context, to string, after eventstore.Position, by domain.Actor, dry bool) (Progress, error) {
	region, err := h.followed(to)
	if err != nil {
		return Progress{}, err
	}
	came := func(r *eventstore.Recorded) bool { return cameFrom(r, region.Ledger) }
	return moveSome(ctx, h.store, after, came, func(order uuid.UUID) (Movement, error) {
		return h.HandOver(ctx, to, order, by, dry)
	})
}

// cameFrom reports whether an event says that an order has moved away from a ledger.
func cameFrom(r *eventstore.Recorded, ledger uuid.UUID) bool {
	moved, ok := decodeMove(r)
	return ok && moved.Source == ledger.String()
}

// decodeMove reads an event that says that an order has moved.
func decodeMove(r *eventstore.Recorded) (*domain.HomeMoved, bool) {
	if r.Type != (*domain.HomeMoved)(nil).Type() {
		return nil, false
	}
	e, err := domain.DecodeEvent(r.Type, r.Data)
	moved, ok := e.(*domain.HomeMoved)
	return moved, ok && err == nil
}
