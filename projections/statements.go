package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// statements are what a projector reads and writes within a transaction.
type statements struct {
	renewLease                 *sql.Stmt
	selectOrder, insertOrder   *sql.Stmt
	updateOrder                *sql.Stmt
	entries, notes, terms      insert
	deleteTerm                 *sql.Stmt
	addCount, dropCount        *sql.Stmt
	upsertParked, deleteParked *sql.Stmt
	selectClaims               *sql.Stmt
	addDouble, dropDoubles     *sql.Stmt
	selectCopies, tellNote     *sql.Stmt
	findConflict               *sql.Stmt
	settleConflict             *sql.Stmt
	updateLane, updateSource   *sql.Stmt
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
		{&w.insertOrder, insertion("orders", orderColumns+", fold_version, folded", 1)},
		// What an order never changes is left out, and so are its indexes.
		{&w.updateOrder, `UPDATE orders SET status = $1, status_since = $2, total = $3, country = $4, updated = $5,
			revision = $6, position = $7, epoch = $8, promised = $9, has_left = $10, fold_version = $11, folded = $12
			WHERE order_id = $13 AND source = $14`},
		{&w.entries.one, insertion("timeline", entryColumns, 1)},
		{&w.entries.many, insertion("timeline", entryColumns, many)},
		{&w.notes.one, insertion("notifications", notificationColumns, 1)},
		{&w.notes.many, insertion("notifications", notificationColumns, many)},
		{&w.terms.one, insertion("order_terms", termColumns, 1)},
		{&w.terms.many, insertion("order_terms", termColumns, many)},
		{&w.deleteTerm, `DELETE FROM order_terms
			WHERE business_unit = $1 AND value = $2 AND kind = $3 AND submitted = $4 AND order_id = $5 AND source = $6`},
		{&w.addCount, `INSERT INTO status_counts (business_unit, source, status, orders) VALUES ($1, $2, $3, $4)
			ON CONFLICT (business_unit, source, status) DO UPDATE SET orders = status_counts.orders + excluded.orders`},
		{&w.dropCount, `DELETE FROM status_counts WHERE business_unit = $1 AND source = $2 AND status = $3 AND orders = 0`},
		{&w.upsertParked, `INSERT INTO parked (source, order_id, business_unit, revision, position, error)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (source, order_id) DO UPDATE SET business_unit = excluded.business_unit,
			revision = excluded.revision, position = excluded.position, error = excluded.error`},
		{&w.deleteParked, `DELETE FROM parked WHERE source = $1 AND order_id = $2`},
		{&w.selectClaims, `SELECT business_unit, source, epoch, status, has_left FROM orders WHERE order_id = $1`},
		{&w.addDouble, insertion("doubles", "business_unit, order_id, source", 1)},
		{&w.dropDoubles, `DELETE FROM doubles WHERE business_unit = $1 AND order_id = $2`},
		{&w.selectCopies, selectCopies},
		{&w.tellNote, `UPDATE notifications SET told = $1 WHERE business_unit = $2 AND source = $3 AND told = 1 - $1 AND position = $4`},
		{&w.findConflict, insertion("conflicts", conflictColumns, 1) + ` ON CONFLICT (business_unit, order_id, source, conflict) DO NOTHING`},
		{&w.settleConflict, `UPDATE conflicts SET is_open = 0, settled = $1, reason_code = $2, reason_text = $3
			WHERE business_unit = $4 AND order_id = $5 AND source = $6 AND conflict = $7`},
		{&w.updateLane, `UPDATE lanes SET position = $1 WHERE source = $2 AND incarnation = $3 AND lane = $4`},
		{&w.updateSource, `UPDATE sources SET chain_position = $1, chain = $2, passed = $3 WHERE source = $4`},
	}
}

// An insert adds rows to a table. Rows that come together cost less.
type insert struct{ one, many *sql.Stmt }

// many is how many rows go into a table at once.
const many = 32

// insertion is the SQL that adds some rows to a table. Its places have no names, which SQLite would look up one by one.
func insertion(table, columns string, rows int) string {
	row := "(?" + strings.Repeat(", ?", strings.Count(columns, ",")) + ")"
	return "INSERT INTO " + table + " (" + columns + ") VALUES " + row + strings.Repeat(", "+row, rows-1)
}

// rows adds so many rows, at most many, whose values stand one behind the other.
func (i insert) rows(values []any, n int) error {
	if n == many {
		_, err := i.many.Exec(values...)
		return err
	}
	for row := range slices.Chunk(values, len(values)/n) {
		if _, err := i.one.Exec(row...); err != nil {
			return err
		}
	}
	return nil
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
