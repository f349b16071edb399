package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// orderEvents chooses the events that rows are made from.
var orderEvents = eventstore.Filter{Prefixes: []string{domain.StreamPrefix}}

// reload reads the checkpoints again after a transaction whose outcome is unknown.
func (p *Projector) reload(ctx context.Context) error {
	if p.writer == nil {
		return errors.New("the projector is closed")
	}
	if !p.unsure {
		return nil
	}
	for _, s := range p.followed() {
		if err := p.load(ctx, p.views.writer, s); err != nil {
			return err
		}
	}
	p.unsure = false
	return nil
}

// adopt begins to follow a ledger, or goes on where the rows have come to. Rows that do not count any more are removed.
func (p *Projector) adopt(ctx context.Context, s *source) error {
	tx, err := p.views.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing is left to roll back after Commit
	if err := p.renew(p.writer.in(tx), p.now()); err != nil {
		return err
	}
	id := s.identity.ID
	var incarnation uint32
	var lanes, version int
	err = tx.QueryRowContext(ctx, `SELECT incarnation, lanes, fold_version FROM sources WHERE source = $1`, id[:]).Scan(&incarnation, &lanes, &version)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = plant(ctx, tx, s)
	case err != nil:
	case incarnation > s.identity.Incarnation:
		err = fmt.Errorf("%w: it is incarnation %d of ledger %s, seen was %d", ErrTailLost, s.identity.Incarnation, id, incarnation)
	case incarnation < s.identity.Incarnation || lanes != s.identity.Lanes || version != domain.FoldVersion:
		p.log.WarnContext(ctx, "the read models of a ledger are folded anew", "source", id,
			"incarnation", s.identity.Incarnation, "old_incarnation", incarnation, "fold_version", domain.FoldVersion, "old_fold_version", version)
		if err = clear(ctx, tx, p.writer.in(tx), id); err == nil {
			err = plant(ctx, tx, s)
		}
	}
	if err != nil {
		return err
	}
	if err := p.load(ctx, tx, s); err != nil {
		return err
	}
	return tx.Commit()
}

// plant writes the checkpoint of a ledger of which nothing is known.
func plant(ctx context.Context, tx *sql.Tx, s *source) error {
	id := s.identity.ID
	_, err := tx.ExecContext(ctx, `INSERT INTO sources (source, incarnation, lanes, fold_version, chain_position, chain)
		VALUES ($1, $2, $3, $4, 0, $5)`, id[:], int64(s.identity.Incarnation), s.identity.Lanes, domain.FoldVersion, make([]byte, len(s.chain)))
	for lane := 0; err == nil && lane < s.identity.Lanes; lane++ {
		_, err = tx.ExecContext(ctx, `INSERT INTO lanes (source, incarnation, lane, position) VALUES ($1, $2, $3, 0)`,
			id[:], int64(s.identity.Incarnation), lane)
	}
	return err
}

// clear removes all that is known from a ledger.
func clear(ctx context.Context, tx *sql.Tx, w *statements, source uuid.UUID) error {
	shared, err := sharedOrders(ctx, tx, source)
	if err != nil {
		return err
	}
	for _, t := range append(tableNames(), "lanes", "sources") {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+t+` WHERE source = $1`, source[:]); err != nil {
			return err
		}
	}
	// Until they are folded anew, the other ledgers that hold them decide among themselves.
	for _, o := range shared {
		claims, err := w.claims(o.unit, o.id)
		if err != nil {
			return err
		}
		if err := w.weigh(o.unit, o.id, claims); err != nil {
			return err
		}
	}
	return nil
}

// orderKey names an order.
type orderKey struct {
	unit string
	id   uuid.UUID
}

// sharedOrders returns the orders of a ledger that another one holds too.
func sharedOrders(ctx context.Context, db queryer, source uuid.UUID) (orders []orderKey, err error) {
	rows, err := db.QueryContext(ctx, `SELECT DISTINCT o.business_unit, o.order_id FROM orders o JOIN orders p
		ON p.business_unit = o.business_unit AND p.order_id = o.order_id AND p.source <> o.source WHERE o.source = $1`, source[:])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var o orderKey
		if err := rows.Scan(&o.unit, &o.id); err != nil {
			return nil, err
		}
		orders = append(orders, o)
	}
	return orders, rows.Err()
}

// queryer is a database or a transaction in it.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// load reads what the database knows of a source.
func (p *Projector) load(ctx context.Context, db queryer, s *source) error {
	id := s.identity.ID
	lanes, err := loadLanes(ctx, db, s.identity)
	if err != nil {
		return fmt.Errorf("reading the checkpoint: %w", err)
	}
	var chain []byte
	err = db.QueryRowContext(ctx, `SELECT chain_position, chain, passed FROM sources WHERE source = $1`, id[:]).Scan(&s.chained, &chain, &s.floor)
	if err != nil {
		return fmt.Errorf("reading the checkpoint: %w", err)
	}
	copy(s.chain[:], chain)
	rows, err := db.QueryContext(ctx, `SELECT order_id FROM parked WHERE source = $1`, id[:])
	if err != nil {
		return fmt.Errorf("reading parked orders: %w", err)
	}
	defer func() { _ = rows.Close() }() // its error is read below
	parked := make(map[uuid.UUID]struct{})
	for rows.Next() {
		var order uuid.UUID
		if err := rows.Scan(&order); err != nil {
			return fmt.Errorf("reading parked orders: %w", err)
		}
		parked[order] = struct{}{}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading parked orders: %w", err)
	}
	s.lanes, s.parked, s.orders = lanes, parked, cache{}
	return nil
}

// loadLanes reads how far each lane of a ledger has come.
func loadLanes(ctx context.Context, db queryer, ledger eventstore.Identity) ([]eventstore.Position, error) {
	rows, err := db.QueryContext(ctx, `SELECT l.lane, l.position, s.passed FROM lanes l JOIN sources s ON s.source = l.source
		WHERE l.source = $1 AND l.incarnation = $2`,
		ledger.ID[:], int64(ledger.Incarnation))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is read below
	lanes := make([]eventstore.Position, ledger.Lanes)
	for rows.Next() {
		var lane int
		var position, passed eventstore.Position
		if err := rows.Scan(&lane, &position, &passed); err != nil {
			return nil, err
		}
		if lane < 0 || lane >= len(lanes) {
			return nil, fmt.Errorf("lane %d of %d", lane, len(lanes))
		}
		lanes[lane] = max(position, passed)
	}
	return lanes, rows.Err()
}
