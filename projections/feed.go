package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// A Notification tells that an order has moved. One event may lead to several.
type Notification struct {
	BusinessUnit string
	Place        Place
	Order        uuid.UUID
	Revision     uint64 // of the event
	Number       string
	Customer     string
	Kind         string // submitted, shipped, promise_changed, …: the code of the summary
	Before       domain.Status
	Status       domain.Status
	Occurred     time.Time
	Summary      Summary
}

// A Place is where a notification stands in the feed of a ledger. Places of one ledger are in order.
type Place struct {
	Source   uuid.UUID
	Position eventstore.Position
	N        int // among the entries of one event, from 0
}

const notificationColumns = `business_unit, source, told, position, n, order_id, revision, number, customer, kind, status_before, status, occurred, summary`

func (n *Notification) fields() []any {
	return []any{
		&n.BusinessUnit, &n.Place.Source, new(bool), &n.Place.Position, &n.Place.N, &n.Order, &n.Revision, &n.Number, &n.Customer,
		&n.Kind, &n.Before, &n.Status, (*moment)(&n.Occurred), &n.Summary,
	}
}

func (n *Notification) values() ([]any, error) {
	summary, err := n.Summary.encode()
	if err != nil {
		return nil, err
	}
	return []any{
		n.BusinessUnit, n.Place.Source[:], 1, int64(n.Place.Position), int64(n.Place.N), n.Order[:], int64(n.Revision), n.Number, n.Customer,
		n.Kind, string(n.Before), string(n.Status), micros(n.Occurred), summary,
	}, nil
}

// Notifications returns up to limit notifications of a business unit after the given places, at most one for each
// ledger. A ledger that none of them names begins at its start. Those of one ledger come in the order of their places;
// only those are shown that every lane of the ledger has passed, so that none appears before one already seen, except
// where an order was parked.
//
// An order that has moved stands in several ledgers. Each event of it is told once, by the ledger in which it happened; the
// copies are silent, and so is all that the history that counts does not have. Where the rows do not have the event from
// there, the next home tells it, so that nothing is lost with a ledger. If it does come from there later, it is told a second
// time, with the order, revision and kind of the first.
// The limit is at most [MaxLimit]; 0: 50.
func (v *Views) Notifications(ctx context.Context, businessUnit string, after []Place, limit int) ([]Notification, error) {
	sources, err := v.Sources(ctx)
	if err != nil {
		return nil, err
	}
	var list []Notification
	for _, s := range sources {
		if list, err = v.notifications(ctx, list, businessUnit, s, after, pageSize(limit)); err != nil {
			return nil, fmt.Errorf("reading notifications: %w", err)
		}
	}
	return list, nil
}

// notifications adds those of one source to the list, until it has the given length.
func (v *Views) notifications(ctx context.Context, list []Notification, businessUnit string, s Source, after []Place, length int) ([]Notification, error) {
	start := Place{N: -1}
	for _, p := range after {
		if p.Source == s.Ledger {
			start = p
		}
	}
	rows, err := v.reader.QueryContext(ctx, `SELECT `+notificationColumns+` FROM notifications
		WHERE business_unit = $1 AND source = $2 AND told = 1 AND (position, n) > ($3, $4) AND position <= $5
		ORDER BY position, n LIMIT $6`,
		businessUnit, s.Ledger[:], int64(start.Position), start.N, int64(s.Passed), length-len(list))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is read below
	for rows.Next() {
		var n Notification
		if err := rows.Scan(n.fields()...); err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, rows.Err()
}

// End returns where the feed of each ledger ends now: notifications after these places are new.
func (v *Views) End(ctx context.Context) ([]Place, error) {
	sources, err := v.Sources(ctx)
	if err != nil {
		return nil, err
	}
	places := make([]Place, len(sources))
	for i, s := range sources {
		places[i] = Place{Source: s.Ledger, Position: s.Passed, N: lastEntry}
	}
	return places, nil
}

// lastEntry stands behind all entries of an event.
const lastEntry = 1 << 30
