package mirror

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/orderledger/orderledger/eventstore"
)

// Apply takes deliveries from the bus. When it has returned nil they are durable, or the feed must bring them, which
// NeedsCatchUp then tells; either way they may be acknowledged. After an error nothing was stored, and they may be applied
// again. Deliveries that were applied before change nothing.
//
// The verified end moves over all that links to it, and readers see it append by append. The rest is held: at most 10,000 deliveries or 64 MiB, beyond which
// the feed must bring them. Before the first contact with the ledger everything is held.
func (m *Mirror) Apply(ctx context.Context, deliveries []eventstore.Delivery) error {
	if err := m.alive(ctx); err != nil {
		return err
	}
	now := m.now()
	deliveries, foreign := m.ours(deliveries)
	if foreign > 0 {
		m.log.ErrorContext(ctx, "deliveries of another ledger: they are not kept", "deliveries", foreign)
	}
	if err := m.take(ctx, deliveries); err != nil {
		err = fmt.Errorf("mirroring deliveries of ledger %s: %w", m.ledger, err)
		m.noteApplied(now, err)
		return err
	}
	m.noteApplied(now, nil)
	m.noteHeard(now, deliveries)
	return nil
}

// ours returns the deliveries of the mirror's ledger, and how many others there are.
func (m *Mirror) ours(deliveries []eventstore.Delivery) (ours []eventstore.Delivery, foreign int) {
	for _, d := range deliveries {
		if d.Source != m.ledger {
			foreign++
			continue
		}
		ours = append(ours, d)
	}
	return ours, foreign
}

// arrival is a delivery on its way into the file.
type arrival struct {
	entry
	incarnation uint32
}

func (m *Mirror) take(ctx context.Context, deliveries []eventstore.Delivery) error {
	arrivals := make([]arrival, 0, len(deliveries))
	for _, d := range deliveries {
		e := d.Event
		if e == nil || eventstore.Internal(e.Stream) || e.Position == 0 || e.Position > maxPosition {
			continue
		}
		record := eventstore.AppendRecord(make([]byte, 0, eventstore.RecordSize(e)), e)
		arrivals = append(arrivals, arrival{entry{e.Position, e.Chain, record}, d.Incarnation})
	}
	if len(arrivals) == 0 {
		return nil
	}
	return m.transact(ctx, func(s *step) error {
		var waiting []entry
		for _, a := range arrivals {
			switch {
			case s.known && a.incarnation < s.identity.Incarnation: // may never have happened
			case s.known && a.incarnation == s.identity.Incarnation:
				waiting = append(waiting, a.entry)
			default:
				if err := s.hold(ctx, a.incarnation, &a.entry); err != nil {
					return err
				}
			}
		}
		slices.SortStableFunc(waiting, func(a, b entry) int { return cmp.Compare(a.position, b.position) })
		waiting, err := s.advance(ctx, waiting)
		if err != nil {
			return err
		}
		for i := range waiting {
			if err := s.hold(ctx, s.identity.Incarnation, &waiting[i]); err != nil {
				return err
			}
		}
		return nil
	})
}
