package projections

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// A Report says what [Views.Verify] has found.
type Report struct {
	Sources    []Source    // the checkpoints up to which the ledgers were folded
	Rows       int         // that were compared and are equal
	Difference *Difference // the first one; nil: there is none
}

// A Difference is a place where rows are not what the ledgers' events add up to.
type Difference struct {
	Table  string
	Key    string // the row's key, as column=value
	Column string // empty: the whole row is missing or too much
	Fault  string // missing, surplus or different
}

func (d *Difference) String() string {
	if d.Column == "" {
		return fmt.Sprintf("table %s: the row %s is %s", d.Table, d.Key, d.Fault)
	}
	return fmt.Sprintf("table %s: column %s of the row %s is %s", d.Table, d.Column, d.Key, d.Fault)
}

// Verify folds the ledgers anew, each lane up to its checkpoint, into a temporary file beside the read models, and compares
// all rows. Rows may go on changing meanwhile: those are compared that were there at the start.
//
// Ledgers that the rows come from must all be given. A difference is no error but part of the report.
func (v *Views) Verify(ctx context.Context, ledgers []eventstore.Reader, progress func(Progress)) (Report, error) {
	report, err := v.verify(ctx, ledgers, progress)
	if err != nil {
		return Report{}, fmt.Errorf("verifying the read models: %w", err)
	}
	return report, nil
}

func (v *Views) verify(ctx context.Context, ledgers []eventstore.Reader, progress func(Progress)) (report Report, err error) {
	snapshot, err := v.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = snapshot.Rollback() }() // it has written nothing
	if report.Sources, err = sources(ctx, snapshot); err != nil {
		return Report{}, err
	}
	frozen, err := freeze(ctx, snapshot, report.Sources, ledgers)
	if err != nil {
		return Report{}, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(v.path), "verify-")
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	pure, err := build(ctx, filepath.Join(dir, "views.db"), frozen, progress)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, pure.Close()) }()
	for _, t := range tables {
		n, difference, err := t.compare(ctx, snapshot, pure.reader)
		if err != nil {
			return Report{}, fmt.Errorf("comparing table %s: %w", t.name, err)
		}
		report.Rows += n
		if difference != nil {
			report.Difference = difference
			return report, nil
		}
	}
	return report, nil
}

// A frozen ledger ends, in each lane, where the rows have come to.
type frozen struct {
	eventstore.Reader
	head  eventstore.Head
	lanes []eventstore.Position
}

// freeze pairs each source of the rows with its ledger.
func freeze(ctx context.Context, db queryer, sources []Source, ledgers []eventstore.Reader) ([]eventstore.Reader, error) {
	heads := make(map[uuid.UUID]frozen, len(ledgers))
	for _, ledger := range ledgers {
		head, err := ledger.Head(ctx)
		if err != nil {
			return nil, err
		}
		heads[head.ID] = frozen{Reader: ledger, head: head}
	}
	var list []eventstore.Reader
	for _, source := range sources {
		f, ok := heads[source.Ledger]
		switch {
		case !ok:
			return nil, fmt.Errorf("the rows come from ledger %s, which was not given", source.Ledger)
		case f.head.Incarnation != source.Incarnation || f.head.Position < source.Newest:
			return nil, fmt.Errorf("ledger %s: %w", source.Ledger, ErrTailLost)
		}
		var err error
		if f.lanes, err = loadLanes(ctx, db, f.head.Identity); err != nil {
			return nil, err
		}
		f.head.Position, f.head.Chain = source.Newest, eventstore.Hash{}
		list = append(list, f)
	}
	return list, nil
}

func (f frozen) Head(context.Context) (eventstore.Head, error) { return f.head, nil }

func (f frozen) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range f.Reader.ReadAll(ctx, after, filter) {
			if err == nil && e.Position > f.head.Position {
				return
			}
			if err == nil && e.Position > f.lanes[eventstore.Lane(e.Stream, len(f.lanes))] {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// compare compares a table row by row with what it should be, and returns the number of equal rows and the first
// difference.
func (t table) compare(ctx context.Context, is, should queryer) (equal int, _ *Difference, err error) {
	left, err := t.open(ctx, is)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, left.rows.Close()) }()
	right, err := t.open(ctx, should)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, right.rows.Close()) }()
	for {
		if err := errors.Join(left.next(), right.next()); err != nil || left.row == nil && right.row == nil {
			return equal, nil, err
		}
		switch c := t.order(left, right); {
		case c > 0:
			return equal, &Difference{Table: t.name, Key: right.key(t.key), Fault: "missing"}, nil
		case c < 0:
			return equal, &Difference{Table: t.name, Key: left.key(t.key), Fault: "surplus"}, nil
		}
		for i, column := range left.columns {
			if compareValues(left.row[i], right.row[i]) != 0 {
				return equal, &Difference{Table: t.name, Key: left.key(t.key), Column: column, Fault: "different"}, nil
			}
		}
		equal++
	}
}

// order tells which of two cursors stands at the smaller key: −1 for the left one. A cursor at its end is largest.
func (t table) order(left, right *cursor) int {
	switch {
	case left.row == nil:
		return 1
	case right.row == nil:
		return -1
	}
	for _, column := range t.key {
		if c := compareValues(left.value(column), right.value(column)); c != 0 {
			return c
		}
	}
	return 0
}

// A cursor reads a table in the order of its key.
type cursor struct {
	rows    *sql.Rows
	columns []string
	row     []any // nil at the end
}

func (t table) open(ctx context.Context, db queryer) (*cursor, error) {
	rows, err := db.QueryContext(ctx, `SELECT * FROM `+t.name+` ORDER BY `+strings.Join(t.key, ", "))
	if err != nil {
		return nil, err
	}
	columns, err := rows.Columns()
	if err != nil {
		return nil, errors.Join(err, rows.Close())
	}
	return &cursor{rows: rows, columns: columns}, nil
}

func (c *cursor) next() error {
	c.row = nil
	if !c.rows.Next() {
		return c.rows.Err()
	}
	row := make([]any, len(c.columns))
	fields := make([]any, len(row))
	for i := range row {
		fields[i] = &row[i]
	}
	c.row = row
	return c.rows.Scan(fields...)
}

func (c *cursor) value(column string) any { return c.row[slices.Index(c.columns, column)] }

// key writes the columns of a key for people.
func (c *cursor) key(columns []string) string {
	parts := make([]string, len(columns))
	for i, column := range columns {
		v := c.value(column)
		if b, ok := v.([]byte); ok {
			if id, err := uuid.FromBytes(b); err == nil {
				v = id
			}
		}
		parts[i] = fmt.Sprintf("%s=%v", column, v)
	}
	return strings.Join(parts, " ")
}

// compareValues compares two values of one column as the database does.
func compareValues(a, b any) int {
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, b)
		}
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b)
		}
	case []byte:
		if b, ok := b.([]byte); ok {
			return bytes.Compare(a, b)
		}
	}
	return cmp.Compare(fmt.Sprintf("%T %v", a, a), fmt.Sprintf("%T %v", b, b))
}
