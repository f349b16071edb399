package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/bench"
	"github.com/orderledger/orderledger/projections"
)

// insertEvents is how many events' rows the limit inserts in one transaction; a rebuild folds as many in one.
const insertEvents = 10_000

// measureRebuild measures the folding of a ledger into read models.
func (b *benchmark) measureRebuild(ctx context.Context) (_ bench.Section, err error) {
	s := bench.Section{
		Name:  "rebuild",
		About: fmt.Sprintf("read models of %d orders of %d events from the ledger, %d of them under way at a time, all tables and indexes", b.orders, benchLife, fillOrders),
		Limit: fmt.Sprintf("inserting the same rows into the same tables, with the same driver and settings, %d events in a transaction", insertEvents),
	}
	dir, tidy, err := b.scratch("rebuild")
	if err != nil {
		return s, err
	}
	defer tidy(&err)
	ledger, err := b.filled(ctx, dir, "rebuild", b.orders)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	b.step("making the rows that the limit inserts")
	if err := rebuilt(ctx, ledger, dir); err != nil {
		return s, err
	}
	done := filepath.Join(dir, "views.db")
	from, err := openSQLite(done, 1)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()

	events := b.orders * benchLife
	path, copied := filepath.Join(dir, "again.db"), filepath.Join(dir, "limit.db")
	var subject, limit []bench.Run
	err = bench.Interleave(b.rounds,
		func() error {
			b.step("round %d of %d: limit", len(limit)+1, b.rounds)
			r, err := insertRows(ctx, from, copied, events, insertEvents)
			limit = append(limit, r)
			return err
		},
		func() error {
			b.step("round %d of %d", len(subject)+1, b.rounds)
			var watch bench.Stopwatch
			watch.Start()
			err := projections.Rebuild(ctx, path, []eventstore.Reader{ledger}, nil)
			watch.Stop()
			subject = append(subject, watch.Run(events))
			return err
		})
	if err != nil {
		return s, err
	}
	memory := bench.ResidentMemory()
	info, err := os.Stat(done)
	if err != nil {
		return s, err
	}
	s.Figures = []bench.Figure{
		{Name: "rebuild", Unit: "events/s", Value: spread(subject, bench.Run.Rate), Limit: new(spread(limit, bench.Run.Rate)), Aim: &bench.Aim{Value: 0.7}},
		{Name: "rebuild: CPU", Unit: "s/million", Value: spread(subject, cpuPerMillion), Limit: new(spread(limit, cpuPerMillion))},
		plainFigure("on disk", "B/event", float64(info.Size())/float64(events)),
		plainFigure("memory, rows of the limit included", "MB", float64(memory)/1e6),
	}
	b.step("checking the rows")
	if err := projections.Swap(ctx, path); err != nil {
		return s, err
	}
	rows, err := checkViews(ctx, ledger, path, domain.StatusClosed, b.orders)
	if err != nil {
		return s, err
	}
	s.Checked = fmt.Sprintf("all %d orders are closed, and %d rows equal the fold of the ledger", b.orders, rows)
	return s, nil
}

// checkViews looks whether read models show so many orders, all in one status, and are what the ledger adds up to.
func checkViews(ctx context.Context, ledger eventstore.Reader, path string, status domain.Status, orders int) (rows int, err error) {
	views, err := projections.Open(ctx, path, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, views.Close()) }()
	counts, err := views.Counts(ctx, benchUnit)
	if err != nil {
		return 0, err
	}
	if len(counts) != 1 || counts[0].Status != status || counts[0].Orders != uint64(orders) {
		return 0, &gateError{fmt.Errorf("the read models count %v, and %d orders are %s", counts, orders, status)}
	}
	report, err := views.Verify(ctx, []eventstore.Reader{ledger}, nil)
	if err != nil {
		return 0, err
	}
	if report.Difference != nil {
		return 0, &gateError{fmt.Errorf("the read models are not what the ledger adds up to: %v", report.Difference)}
	}
	return report.Rows, nil
}

// countOrders is how many orders read models show.
func countOrders(ctx context.Context, path string) (orders int, err error) {
	views, err := projections.Open(ctx, path, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, views.Close()) }()
	counts, err := views.Counts(ctx, benchUnit)
	for _, c := range counts {
		orders += int(c.Orders)
	}
	return orders, err
}

// insertRows copies all rows of a database, in the order in which they came about, those of so many events in each
// transaction. Reading them is not measured.
func insertRows(ctx context.Context, from *sql.DB, path string, events, together int) (bench.Run, error) {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(path + suffix); err != nil {
			return bench.Run{}, err
		}
	}
	read, err := newRowReader(ctx, from, together)
	if err != nil {
		return bench.Run{}, err
	}
	var watch bench.Stopwatch
	watch.Start()
	load, err := newRowLoad(ctx, path, from)
	watch.Stop()
	if err != nil {
		return bench.Run{}, err
	}
	for more := true; more && err == nil; {
		var batch []tableRows
		if batch, more, err = read.next(ctx); err == nil {
			watch.Start()
			err = load.insert(ctx, batch)
			watch.Stop()
		}
	}
	if err != nil {
		return bench.Run{}, errors.Join(err, load.db.Close())
	}
	watch.Start()
	err = load.finish(ctx, path)
	watch.Stop()
	return watch.Run(events), err
}

// A rowReader reads the rows of a database batch by batch: those that so many events have led to, then the next ones.
type rowReader struct {
	db        *sql.DB
	queries   map[string]string // by table; rows between two positions
	rest      []string          // tables that go with the last batch
	together  int               // events of a batch
	positions []int64           // of all events
	after     int64
}

func newRowReader(ctx context.Context, db *sql.DB, together int) (*rowReader, error) {
	r := &rowReader{db: db, together: together, queries: make(map[string]string)}
	parts, err := schema(ctx, db)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		switch {
		case p.kind != "table":
		case p.positioned && p.name != "lanes": // whose positions may be those before all events
			r.queries[p.name] = `SELECT * FROM "` + p.name + `" WHERE position > $1 AND position <= $2`
		case p.name == "order_terms":
			r.queries[p.name] = `SELECT t.* FROM order_terms t JOIN orders o USING (business_unit, order_id, source) WHERE o.position > $1 AND o.position <= $2`
		default:
			r.rest = append(r.rest, p.name)
		}
	}
	rows, err := db.QueryContext(ctx, `SELECT position FROM timeline ORDER BY position`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var position int64
		if err := rows.Scan(&position); err != nil {
			return nil, err
		}
		r.positions = append(r.positions, position)
	}
	return r, rows.Err()
}

// next reads a batch and tells whether there are more.
func (r *rowReader) next(ctx context.Context) (batch []tableRows, more bool, err error) {
	n := min(r.together, len(r.positions))
	upTo := r.positions[n-1]
	r.positions = r.positions[n:]
	for table, query := range r.queries {
		rows, err := allRows(ctx, r.db, query, r.after, upTo)
		if err != nil {
			return nil, false, err
		}
		batch = append(batch, tableRows{table, rows})
	}
	r.after = upTo
	if more = len(r.positions) > 0; more {
		return batch, true, nil
	}
	for _, table := range r.rest {
		rows, err := allRows(ctx, r.db, `SELECT * FROM "`+table+`"`)
		if err != nil {
			return nil, false, err
		}
		batch = append(batch, tableRows{table, rows})
	}
	return batch, false, nil
}

func allRows(ctx context.Context, db *sql.DB, query string, args ...any) ([][]any, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var all [][]any
	for rows.Next() {
		row := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// A schemaPart is a table or an index.
type schemaPart struct {
	kind, name, text string
	columns          int
	positioned       bool // it has a column position
}

// schema lists the tables of a database, then its indexes.
func schema(ctx context.Context, db *sql.DB) ([]schemaPart, error) {
	rows, err := db.QueryContext(ctx, `SELECT type, name, sql,
			(SELECT count(*) FROM pragma_table_info(m.name)), EXISTS (SELECT 1 FROM pragma_table_info(m.name) WHERE name = 'position')
		FROM sqlite_master m WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type DESC`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var parts []schemaPart
	for rows.Next() {
		var p schemaPart
		if err := rows.Scan(&p.kind, &p.name, &p.text, &p.columns, &p.positioned); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, rows.Err()
}
