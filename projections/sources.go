package projections

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// A Source is how far the rows have come with a ledger.
type Source struct {
	Ledger      uuid.UUID
	Incarnation uint32
	Lanes       int
	Passed      eventstore.Position // every lane has come so far
	Newest      eventstore.Position // the lane that is ahead has come so far
	Chained     eventstore.Position // the newest event whose chain hash is known
	Chain       eventstore.Hash     // that hash
}

// Sources returns the checkpoint of each ledger that the rows come from, in the order of their ids.
func (v *Views) Sources(ctx context.Context) ([]Source, error) { return sources(ctx, v.reader) }

func sources(ctx context.Context, db queryer) ([]Source, error) {
	rows, err := db.QueryContext(ctx, `SELECT s.source, s.incarnation, s.lanes, s.chain_position, s.chain, s.passed, min(l.position), max(l.position)
		FROM sources s JOIN lanes l ON l.source = s.source AND l.incarnation = s.incarnation
		GROUP BY s.source, s.incarnation, s.lanes, s.chain_position, s.chain, s.passed ORDER BY s.source`)
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints: %w", err)
	}
	defer func() { _ = rows.Close() }() // its error is read below
	var sources []Source
	for rows.Next() {
		var s Source
		var chain []byte
		var passed eventstore.Position
		if err := rows.Scan(&s.Ledger, &s.Incarnation, &s.Lanes, &s.Chained, &chain, &passed, &s.Passed, &s.Newest); err != nil {
			return nil, fmt.Errorf("reading checkpoints: %w", err)
		}
		s.Passed, s.Newest = max(s.Passed, passed), max(s.Newest, passed)
		copy(s.Chain[:], chain)
		sources = append(sources, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading checkpoints: %w", err)
	}
	return sources, nil
}

// A StatusCount is how many orders are in a status.
type StatusCount struct {
	Status domain.Status
	Orders uint64
	Oldest time.Time // since when the order is in it that has been longest
}

// Counts returns how many orders of a business unit are in each status that has any, in the order in which orders
// pass them.
func (v *Views) Counts(ctx context.Context, businessUnit string) ([]StatusCount, error) {
	rows, err := v.reader.QueryContext(ctx, `SELECT c.status,
			sum(c.orders) - (SELECT count(*) FROM doubles d JOIN orders o ON o.order_id = d.order_id AND o.source = d.source
				WHERE d.business_unit = c.business_unit AND o.status = c.status),
			(SELECT o.status_since FROM orders o WHERE o.business_unit = c.business_unit AND o.status = c.status`+notDouble("o.")+`
				ORDER BY o.status_since LIMIT 1)
		FROM status_counts c WHERE c.business_unit = $1 GROUP BY c.business_unit, c.status`, businessUnit)
	if err != nil {
		return nil, fmt.Errorf("counting orders: %w", err)
	}
	defer func() { _ = rows.Close() }() // its error is read below
	found := make(map[domain.Status]StatusCount)
	for rows.Next() {
		var c StatusCount
		var oldest sql.NullInt64
		if err := rows.Scan(&c.Status, &c.Orders, &oldest); err != nil {
			return nil, fmt.Errorf("counting orders: %w", err)
		}
		if c.Oldest = time.UnixMicro(oldest.Int64).UTC(); oldest.Valid { // else all of them count in another ledger
			found[c.Status] = c
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("counting orders: %w", err)
	}
	var counts []StatusCount
	for _, s := range domain.Statuses() {
		if c, ok := found[s]; ok {
			counts = append(counts, c)
		}
	}
	return counts, nil
}

// Homes returns how many orders of a business unit each ledger holds that count.
func (v *Views) Homes(ctx context.Context, businessUnit string) (map[uuid.UUID]uint64, error) {
	rows, err := v.reader.QueryContext(ctx, `SELECT c.source,
			sum(c.orders) - (SELECT count(*) FROM doubles d WHERE d.business_unit = c.business_unit AND d.source = c.source)
		FROM status_counts c WHERE c.business_unit = $1 GROUP BY c.business_unit, c.source`, businessUnit)
	if err != nil {
		return nil, fmt.Errorf("counting orders: %w", err)
	}
	defer func() { _ = rows.Close() }() // its error is read below
	homes := make(map[uuid.UUID]uint64)
	for rows.Next() {
		var ledger uuid.UUID
		var orders uint64
		if err := rows.Scan(&ledger, &orders); err != nil {
			return nil, fmt.Errorf("counting orders: %w", err)
		}
		homes[ledger] = orders
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("counting orders: %w", err)
	}
	return homes, nil
}

// A Parked order is one of which an event could not be applied.
type Parked struct {
	BusinessUnit string // empty where no event said it
	Source       uuid.UUID
	Order        uuid.UUID
	Revision     uint64 // of the first event that was not applied
	Position     eventstore.Position
	Error        string
	Skipped      bool // see [Projector.SkipParked]
}

// Parked returns up to limit orders that are parked, the longest first. The limit is at most [MaxLimit]; 0: 50.
func (v *Views) Parked(ctx context.Context, limit int) ([]Parked, error) {
	rows, err := v.reader.QueryContext(ctx, `SELECT p.business_unit, p.source, p.order_id, p.revision, p.position, p.error, s.revision IS NOT NULL
		FROM parked p LEFT JOIN skipped s ON s.source = p.source AND s.order_id = p.order_id AND s.revision = p.revision
		ORDER BY p.position, p.source, p.order_id LIMIT $1`, pageSize(limit))
	if err != nil {
		return nil, fmt.Errorf("reading parked orders: %w", err)
	}
	defer func() { _ = rows.Close() }() // its error is read below
	var list []Parked
	for rows.Next() {
		var p Parked
		if err := rows.Scan(&p.BusinessUnit, &p.Source, &p.Order, &p.Revision, &p.Position, &p.Error, &p.Skipped); err != nil {
			return nil, fmt.Errorf("reading parked orders: %w", err)
		}
		list = append(list, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading parked orders: %w", err)
	}
	return list, nil
}
