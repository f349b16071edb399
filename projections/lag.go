package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

// A Lag is how far the rows are behind a ledger.
type Lag struct {
	Source
	Head   eventstore.Position // of the ledger
	Events int                 // that the rows lack, counted up to MaxLag
	Age    time.Duration       // since the ledger took the oldest of them; 0: the rows lack nothing
	Parked int                 // orders that are parked, without those that were given up
}

// MaxLag is the number of missing events after which nobody counts on.
const MaxLag = 10_000

// Lag returns how far the rows are behind each ledger, by asking the ledgers. It does not wait for a step under way.
func (p *Projector) Lag(ctx context.Context) ([]Lag, error) {
	sources, err := p.views.Sources(ctx)
	if err != nil {
		return nil, err
	}
	var list []Lag
	for _, source := range sources {
		s := p.followed()[source.Ledger]
		if s == nil {
			continue // rows of a ledger that is not followed any more
		}
		lag := Lag{Source: source}
		if err := p.measure(ctx, s.ledger, &lag); err != nil {
			return nil, fmt.Errorf("measuring the lag behind ledger %s: %w", source.Ledger, err)
		}
		list = append(list, lag)
	}
	return list, nil
}

func (p *Projector) measure(ctx context.Context, ledger eventstore.Reader, lag *Lag) error {
	err := p.views.reader.QueryRowContext(ctx, `SELECT count(*) FROM parked WHERE source = $1 AND NOT `+isSkipped, lag.Ledger[:]).Scan(&lag.Parked)
	if err != nil {
		return err
	}
	head, err := ledger.Head(ctx)
	if err != nil {
		return err
	}
	lag.Head = head.Position
	lanes, err := loadLanes(ctx, p.views.reader, eventstore.Identity{ID: lag.Ledger, Incarnation: lag.Incarnation, Lanes: lag.Lanes})
	if err != nil {
		return err
	}
	for e, err := range ledger.ReadAll(ctx, lag.Passed, eventstore.Filter{Public: true}) {
		if err != nil {
			return err
		}
		if e.Position <= lanes[eventstore.Lane(e.Stream, len(lanes))] {
			continue
		}
		if lag.Events == 0 {
			lag.Age = max(p.now().Sub(e.Time), 0)
		}
		if lag.Events++; lag.Events == MaxLag {
			break
		}
	}
	return nil
}
