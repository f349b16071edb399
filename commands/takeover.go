package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// A Movement is what has become of an order that was to move.
type Movement string

// The movements.
const (
	Moved          Movement = "moved"
	AlreadyHere    Movement = "already_here" // it had moved before
	LivesElsewhere Movement = "elsewhere"    // it lives in another region than the one that it was to leave
	TooLarge       Movement = "too_large"    // its history does not fit into one append; it stays
	Diverged       Movement = "diverged"     // the region to which it was to return has done something that its home has not: it stays
	Unreadable     Movement = "unreadable"   // a later version has written it; it stays
)

// errNoSuchRegion is why nothing is known of a region.
var errNoSuchRegion = errors.New("there is no other region of this name, or it is not followed")

// TakeOver has an order that lives in a region live in this one, as far as it is known here, and says what has become of
// it. A dry takeover only says what would. An order that has moved once stays moved: TakeOver may be called again at any time.
//
// The region does not hear of it until it follows this one. What it has done beyond what is known here is found when it
// comes, see [Handler.Reconcile].
func (h *Handler) TakeOver(ctx context.Context, from string, order uuid.UUID, by domain.Actor, dry bool) (Movement, error) {
	region, err := h.followed(from)
	if err != nil {
		return "", err
	}
	offered := false // it may know more of the order than what moves
	movement, err := h.moveOne(ctx, order, dry, func(x *holdings) (Append, Movement, error) {
		w := x.winner()
		if there := x.in(region.Ledger); there != nil {
			offered = common(&x.own, there) < len(x.own.events)
		}
		switch {
		case w == nil:
			return Append{}, "", &domain.Refused{Code: domain.CodeUnknownOrder, Detail: fmt.Sprintf("there is no order %s", order)}
		case w.home() == h.ledger.ID:
			return Append{}, AlreadyHere, nil
		case w.home() != region.Ledger:
			a, _, err := h.witness(x, region.Ledger)
			return a, LivesElsewhere, err
		}
		a, err := h.move(x, w, h.ledger.ID, by)
		return a, Moved, err
	})
	if err == nil && offered && !dry && (movement == Moved || movement == AlreadyHere) {
		// Before anybody else may turn out to have taken the order over, who cannot hear of this.
		_, err = h.Reconcile(ctx, order)
	}
	return movement, err
}

// followed returns a region of which something is known here.
func (h *Handler) followed(name string) (Region, error) {
	for _, region := range h.regions() {
		if region.Name == name && region.Mirror != nil {
			return region, nil
		}
	}
	return Region{}, fmt.Errorf("region %s: %w", name, errNoSuchRegion)
}

// moveOne does what decide says, until the order has moved or there is nothing to do.
func (h *Handler) moveOne(ctx context.Context, order uuid.UUID, dry bool, decide func(*holdings) (Append, Movement, error)) (Movement, error) {
	if err := h.asked(); err != nil {
		return "", err
	}
	for failures := 0; failures < maxAttempts; {
		x, err := h.holdings(ctx, order)
		if errors.Is(err, errUnreadable) {
			return Unreadable, nil
		}
		if err != nil {
			return "", err
		}
		a, movement, err := decide(x)
		switch {
		case errors.Is(err, eventstore.ErrTooLarge):
			return TooLarge, nil
		case err != nil || len(a.Events) == 0 || dry:
			return movement, err
		}
		what := moved
		if movement != Moved {
			what = witnessed // there may be more
		}
		switch err := h.commit(ctx, order, a, what); {
		case errors.Is(err, errChanged):
			failures++
		case err != nil || movement == Moved:
			return movement, err
		}
	}
	return "", fmt.Errorf("order %s: %w", order, ErrBusy)
}

// move makes the append to the own ledger after which an order lives in a ledger, with the history that the source has of
// it: what is lacking of that here, and the move. Where this ledger has something else, its history stays and nothing is
// copied: what the source did is offered to it. It returns [eventstore.ErrTooLarge].
func (h *Handler) move(x *holdings, source *holding, home uuid.UUID, by domain.Actor) (Append, error) {
	n := common(&x.own, source)
	order, lacking := x.own.order, []held(nil)
	if n == len(x.own.events) {
		order, lacking = source.order, source.events[n:]
		n = len(source.events)
	}
	epoch := x.epoch()
	a, err := h.bySystem(x, order, fmt.Sprint("move ", epoch), by, domain.Move{
		Home: home.String(), Source: source.ledger.String(), Last: uint64(max(n, 1) - 1), Epoch: epoch,
	})
	if err != nil {
		return Append{}, err
	}
	a.Expected, a.Events = x.own.end(), append(copies(lacking), a.Events...)
	return a, eventstore.Validate(a.Stream, a.Expected, a.Events)
}

// Progress is how far the orders of a region have moved.
type Progress struct {
	After  eventstore.Position `json:"after" doc:"Where to go on"`
	Head   eventstore.Position `json:"head" doc:"Where there is no more"`
	Done   bool                `json:"done" doc:"All orders have had their turn"`
	Orders map[Movement]int    `json:"orders" doc:"How many of these orders have moved, had moved before (already_here), live elsewhere, or stay because they are too_large, diverged or unreadable"`
	Listed []Stayed            `json:"listed" doc:"Those that stay"`
}

// A Stayed is an order that has not moved and should have.
type Stayed struct {
	Order    uuid.UUID `json:"order" format:"uuid"`
	Movement Movement  `json:"movement"`
}

// How many orders move at once, and how many events are read for that.
const (
	maxMoving  = 500
	maxLooking = 20_000
)

// TakeOverSome is [Handler.TakeOver] of the next orders that the region's ledger has after a position, at most 500. It goes
// on where Progress says until that is done; after an error it goes on where it began.
func (h *Handler) TakeOverSome(ctx context.Context, from string, after eventstore.Position, by domain.Actor, dry bool) (Progress, error) {
	region, err := h.followed(from)
	if err != nil {
		return Progress{}, err
	}
	if _, err := region.Mirror.Head(ctx); err != nil {
		return Progress{}, fmt.Errorf("%w: region %s: %w", errMirror, from, err)
	}
	first := func(r *eventstore.Recorded) bool { return r.Revision == 0 }
	return moveSome(ctx, region.Mirror, after, first, func(order uuid.UUID) (Movement, error) {
		return h.TakeOver(ctx, from, order, by, dry)
	})
}

// moveSome moves the next orders of a ledger for which an event tells that they may have to move.
func moveSome(ctx context.Context, ledger eventstore.Reader, after eventstore.Position, tells func(*eventstore.Recorded) bool,
	move func(uuid.UUID) (Movement, error),
) (Progress, error) {
	p := Progress{After: after, Done: true, Orders: map[Movement]int{}, Listed: []Stayed{}}
	head, err := ledger.Head(ctx)
	if err != nil {
		return Progress{}, err
	}
	p.Head = head.Position
	var orders []uuid.UUID
	seen, looked := map[uuid.UUID]bool{}, 0
	for r, err := range ledger.ReadAll(ctx, after, eventstore.Filter{Prefixes: []string{domain.StreamPrefix}}) {
		if err != nil {
			return Progress{}, err
		}
		if len(orders) == maxMoving || looked == maxLooking {
			p.Done = false
			break
		}
		looked++
		p.After = r.Position
		if order, ok := domain.StreamOrder(r.Stream); ok && tells(&r) && !seen[order] {
			seen[order] = true
			orders = append(orders, order)
		}
	}
	if p.Done {
		p.After = max(p.After, p.Head)
	}
	for _, order := range orders {
		movement, err := move(order)
		if err != nil {
			return Progress{}, err
		}
		p.Orders[movement]++
		switch movement {
		case TooLarge, Diverged, Unreadable:
			p.Listed = append(p.Listed, Stayed{order, movement})
		}
	}
	return p, nil
}
