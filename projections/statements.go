package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// statements are what a projector reads and writes within a transaction.
type statements struct {
	renewLease                 *sql.Stmt
	selectOrder, insertOrder   *sql.Stmt
	updateOrder                *sql.Stmt
	insertEntry, insertNote    *sql.Stmt
	insertTerm, deleteTerm     *sql.Stmt
	addCount, dropCount        *sql.Stmt
	upsertParked, deleteParked *sql.Stmt
	updateLane, updateChain    *sql.Stmt
}

// A text is a statement's place and its SQL, which is the same for SQLite and PostgreSQL.
type text struct {
	statement **sql.Stmt
	sql       string
}

func (w *statements) texts() []text {
	return []text{
		{&w.renewLease, `UPDATE lease SET expires = $1 WHERE id = 1 AND owner = $2 AND fence = $3`},
		{&w.selectOrder, `SELECT ` + orderColumns + `, folded FROM orders WHERE order_id = $1 AND source = $2`},
		{&w.insertOrder, `INSERT INTO orders (` + orderColumns + `, fold_version, folded)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)`},
		// What an order never changes is left out, and so are its indexes.
		{&w.updateOrder, `UPDATE orders SET status = $1, status_since = $2, total = $3, country = $4, updated = $5,
			revision = $6, position = $7, epoch = $8, promised = $9, fold_version = $10, folded = $11
			WHERE order_id = $12 AND source = $13`},
		{&w.insertEntry, `INSERT INTO timeline (` + entryColumns + `)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`},
		{&w.insertNote, `INSERT INTO notifications (` + notificationColumns + `)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`},
		{&w.insertTerm, `INSERT INTO order_terms (business_unit, value, kind, submitted, order_id, source)
			VALUES ($1, $2, $3, $4, $5, $6)`},
		{&w.deleteTerm, `DELETE FROM order_terms
			WHERE business_unit = $1 AND value = $2 AND kind = $3 AND submitted = $4 AND order_id = $5 AND source = $6`},
		{&w.addCount, `INSERT INTO status_counts (business_unit, source, status, orders) VALUES ($1, $2, $3, $4)
			ON CONFLICT (business_unit, source, status) DO UPDATE SET orders = status_counts.orders + excluded.orders`},
		{&w.dropCount, `DELETE FROM status_counts WHERE business_unit = $1 AND source = $2 AND status = $3 AND orders = 0`},
		{&w.upsertParked, `INSERT INTO parked (source, order_id, business_unit, revision, position, error)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (source, order_id) DO UPDATE SET business_unit = excluded.business_unit,
			revision = excluded.revision, position = excluded.position, error = excluded.error`},
		{&w.deleteParked, `DELETE FROM parked WHERE source = $1 AND order_id = $2`},
		{&w.updateLane, `UPDATE lanes SET position = $1 WHERE source = $2 AND incarnation = $3 AND lane = $4`},
		{&w.updateChain, `UPDATE sources SET chain_position = $1, chain = $2 WHERE source = $3`},
	}
}

// prepare prepares all statements.
func prepare(ctx context.Context, db *sql.DB) (*statements, error) {
	w := new(statements)
	for _, t := range w.texts() {
		var err error
		if *t.statement, err = db.PrepareContext(ctx, t.sql); err != nil {
			return nil, errors.Join(fmt.Errorf("preparing a statement: %w", err), w.Close())
		}
	}
	return w, nil
}

// in returns the statements as they run in a transaction. They end with it.
func (w *statements) in(tx *sql.Tx) *statements {
	inner := *w
	for _, t := range inner.texts() {
		*t.statement = tx.Stmt(*t.statement)
	}
	return &inner
}

func (w *statements) Close() error {
	var errs []error
	for _, t := range w.texts() {
		if *t.statement != nil {
			errs = append(errs, (*t.statement).Close())
		}
	}
	return errors.Join(errs...)
}
