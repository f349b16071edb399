package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

var (
	// ErrUnknownLedger is returned for a mark of a ledger that the rows do not come from.
	ErrUnknownLedger = errors.New("the mark is of a ledger that is not followed")
	// ErrLostBranch is returned for a mark that a ledger gave before it went on from a backup: what it marks may be
	// gone.
	ErrLostBranch = errors.New("the mark is older than the restored ledger")
	// ErrParked is returned for an order that cannot come to a mark because it is parked.
	ErrParked = errors.New("the order is parked: an event of it could not be applied")
)

// WaitFor returns when the rows show what a mark marks: the named order at its revision or, where order is nil, all
// orders at its position. A mark without a position does not hold up lists. It returns ctx's error when that comes
// first, and at once [ErrUnknownLedger], [ErrLostBranch] or [ErrParked] where waiting would be in vain.
func (v *Views) WaitFor(ctx context.Context, mark eventstore.Mark, order *uuid.UUID) error {
	topic := everything
	if order != nil && mark.Position == 0 { // a position may also be reached by commits that touch other orders only
		topic = *order
	}
	rung, stop := v.bell.listen(topic)
	defer stop()
	for {
		there, err := v.reached(ctx, mark, order)
		if there || err != nil {
			return err
		}
		select {
		case <-rung:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const (
	selectPassed = `SELECT s.incarnation, s.passed, min(l.position) FROM sources s
		JOIN lanes l ON l.source = s.source AND l.incarnation = s.incarnation
		WHERE s.source = $1 GROUP BY s.incarnation, s.passed`
	selectShowing = `SELECT
		COALESCE((SELECT revision FROM orders WHERE order_id = $1 AND source = $2), -1),
		EXISTS (SELECT 1 FROM parked WHERE source = $2 AND order_id = $1)`
)

// reached reports whether the rows show what a mark marks.
func (v *Views) reached(ctx context.Context, mark eventstore.Mark, order *uuid.UUID) (bool, error) {
	var incarnation uint32
	var all, each int64
	err := v.ask.passed.QueryRowContext(ctx, mark.Ledger[:]).Scan(&incarnation, &all, &each)
	passed := max(all, each)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, ErrUnknownLedger
	case err != nil:
		return false, fmt.Errorf("reading the checkpoint: %w", err)
	case mark.Incarnation < incarnation:
		return false, ErrLostBranch
	case mark.Incarnation > incarnation:
		return false, nil
	case order == nil:
		return eventstore.Position(passed) >= mark.Position, nil
	}
	var revision int64
	var parked bool
	err = v.ask.showing.QueryRowContext(ctx, order[:], mark.Ledger[:]).Scan(&revision, &parked)
	switch {
	case err != nil:
		return false, fmt.Errorf("reading the revision of order %s: %w", order, err)
	case revision >= 0 && uint64(revision) >= mark.Revision:
		return true, nil
	case parked:
		return false, ErrParked
	}
	// The mark may be of another order: then all that it can mark has been passed.
	return mark.Position > 0 && eventstore.Position(passed) >= mark.Position, nil
}

// watchChunk is how many rows a watch reads at once.
const watchChunk = 64

// WatchOrder yields the entries of an order's timeline from a revision on, those that are there and then each new one,
// none lost and none twice. Where the order moves to another ledger, it goes on with the events there. It ends with ctx's
// error, or another one. A slow receiver costs no memory.
func (v *Views) WatchOrder(ctx context.Context, businessUnit string, source, order uuid.UUID, from uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		rung, stop := v.bell.listen(order)
		defer stop()
		for {
			entries, err := v.Timeline(ctx, businessUnit, source, order, from, watchChunk)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
				from = e.Revision + 1
			}
			if len(entries) == watchChunk {
				continue
			}
			next, err := v.goesOn(ctx, businessUnit, source, order, from)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if next != source {
				source = next
				continue
			}
			select {
			case <-rung:
			case <-ctx.Done():
				yield(Entry{}, ctx.Err())
				return
			}
		}
	}
}

// goesOn returns the ledger in which a history that was seen up to a revision goes on: the one that counts, if it took
// that history over.
func (v *Views) goesOn(ctx context.Context, businessUnit string, source, order uuid.UUID, from uint64) (uuid.UUID, error) {
	row, folded, err := v.readOrder(ctx, businessUnit, order)
	if err != nil {
		return source, fmt.Errorf("reading order %s: %w", order, err)
	}
	if folded == nil || row.Source == source || from == 0 {
		return source, nil
	}
	if same, err := v.Same(ctx, businessUnit, order, source, row.Source, from-1); !same || err != nil {
		return source, err
	}
	return row.Source, nil
}

// Same reports whether two ledgers hold the same event of an order at a revision, and so the same history up to there.
func (v *Views) Same(ctx context.Context, businessUnit string, order, a, b uuid.UUID, revision uint64) (bool, error) {
	var same bool
	err := v.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM timeline a JOIN timeline b ON b.business_unit = a.business_unit
		AND b.order_id = a.order_id AND b.source = $1 AND b.revision = a.revision AND b.event_id = a.event_id
		WHERE a.business_unit = $2 AND a.order_id = $3 AND a.source = $4 AND a.revision = $5)`,
		b[:], businessUnit, order[:], a[:], int64(revision)).Scan(&same)
	if err != nil {
		return false, fmt.Errorf("comparing the histories of order %s: %w", order, err)
	}
	return same, nil
}

// WatchNotifications yields the notifications of a business unit after the given places, as [Views.Notifications] orders
// them: those that are there and then each new one, none lost and none twice. It ends with ctx's error, or another
// one. A slow receiver costs no memory.
func (v *Views) WatchNotifications(ctx context.Context, businessUnit string, after []Place) iter.Seq2[Notification, error] {
	return func(yield func(Notification, error) bool) {
		rung, stop := v.bell.listen(everything)
		defer stop()
		places := append([]Place(nil), after...)
		for {
			list, err := v.Notifications(ctx, businessUnit, places, watchChunk)
			if err != nil {
				yield(Notification{}, err)
				return
			}
			for _, n := range list {
				if !yield(n, nil) {
					return
				}
				places = Advance(places, n.Place)
			}
			if len(list) == watchChunk {
				continue
			}
			select {
			case <-rung:
			case <-ctx.Done():
				yield(Notification{}, ctx.Err())
				return
			}
		}
	}
}

// Advance returns places with the one of the same ledger replaced by p, or p added.
func Advance(places []Place, p Place) []Place {
	for i := range places {
		if places[i].Source == p.Source {
			places[i] = p
			return places
		}
	}
	return append(places, p)
}
