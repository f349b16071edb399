package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// A holding is an order as one ledger holds it.
type holding struct {
	ledger uuid.UUID
	events []held       // its stream, from the beginning
	order  domain.Order // that they add up to
}

// A held is an event in a holding.
type held struct {
	eventstore.Recorded
	event domain.Event
	meta  domain.Meta
}

// home is the ledger in which the order lives, by what the holding says.
func (h *holding) home() uuid.UUID { return homeOf(h.order, h.ledger) }

// homeOf is the ledger in which an order lives, by what a ledger that holds it says; zero where it names none.
func homeOf(o domain.Order, ledger uuid.UUID) uuid.UUID {
	named := ""
	switch claim := o.Claim(ledger); {
	case claim.Withdrawn:
		named = o.WithdrawnFor
	case claim.Left:
		named = o.Home
	default:
		return ledger
	}
	id, err := uuid.Parse(named)
	if err != nil {
		return uuid.Nil
	}
	return id
}

func (h *holding) claim() domain.Claim { return h.order.Claim(h.ledger) }

// end is what an append to the holding expects.
func (h *holding) end() eventstore.Expected {
	if len(h.events) == 0 {
		return eventstore.NoStream
	}
	return eventstore.At(uint64(len(h.events) - 1))
}

// common is how many events two holdings have in common from the beginning.
func common(a, b *holding) int {
	n := 0
	for n < len(a.events) && n < len(b.events) && a.events[n].ID == b.events[n].ID {
		n++
	}
	return n
}

// copies are events to be appended to another ledger as they are.
func copies(events []held) []eventstore.Event {
	all := make([]eventstore.Event, len(events))
	for i := range events {
		all[i] = events[i].Event
	}
	return all
}

// holdings are an order in all ledgers that can be read here.
type holdings struct {
	order  uuid.UUID
	own    holding    // without events where the own ledger does not have the order
	others []*holding // of those that have it
}

// errUnreadable is why an order cannot be compared: a later version has written its events.
var errUnreadable = errors.New("this version cannot read the order")

// holdings reads an order in all ledgers. It fails where one of them cannot be read.
func (h *Handler) holdings(ctx context.Context, order uuid.UUID) (*holdings, error) {
	x := &holdings{order: order}
	var err error
	if x.own, err = readHolding(ctx, h.store, h.ledger.ID, order); err != nil {
		return nil, fmt.Errorf("reading order %s: %w", order, err)
	}
	for _, region := range h.regions() {
		if region.Mirror == nil {
			continue
		}
		other, err := readHolding(ctx, region.Mirror, region.Ledger, order)
		if err != nil {
			return nil, fmt.Errorf("%w: order %s in region %s: %w", errMirror, order, region.Name, err)
		}
		if len(other.events) > 0 && (len(x.own.events) == 0 || other.order.BusinessUnit == x.own.order.BusinessUnit) {
			x.others = append(x.others, &other)
		}
	}
	return x, nil
}

func readHolding(ctx context.Context, ledger eventstore.Reader, id, order uuid.UUID) (holding, error) {
	h := holding{ledger: id}
	for r, err := range ledger.ReadStream(ctx, domain.Stream(order), 0, eventstore.Forward) {
		if err != nil {
			return holding{}, err
		}
		e := held{Recorded: r}
		if e.event, err = domain.DecodeEvent(r.Type, r.Data); err == nil {
			e.meta, err = domain.DecodeMeta(r.Metadata)
		}
		if err != nil {
			return holding{}, fmt.Errorf("%w: event %d: %w", errUnreadable, r.Revision, err)
		}
		h.order = domain.Evolve(h.order, e.event)
		h.events = append(h.events, e)
	}
	return h, nil
}

// winner is the holding that counts; nil: nobody has the order.
func (x *holdings) winner() *holding {
	var best *holding
	if len(x.own.events) > 0 {
		best = &x.own
	}
	for _, other := range x.others {
		if best == nil || other.claim().Over(best.claim(), x.order) {
			best = other
		}
	}
	return best
}

// in returns the order as a ledger holds it; nil: it does not.
func (x *holdings) in(ledger uuid.UUID) *holding {
	for _, other := range x.others {
		if other.ledger == ledger {
			return other
		}
	}
	return nil
}

// epoch is that of the order's next move, above all that is known.
func (x *holdings) epoch() uint32 {
	last := x.own.order.Epoch
	for _, other := range x.others {
		last = max(last, other.order.Epoch)
	}
	return last + 1
}
