package mirror

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the database driver

	"github.com/orderledger/orderledger/eventstore"
)

const (
	// application marks a SQLite file as a mirror.
	application = 0x6f6c6d72
	// schema is the version of the tables that this package writes, and the only one that it reads.
	schema = 1

	readers = 3
)

//go:embed schema.sql
var tables string

// connect opens the file. A file that is new gets its tables and the ledger's name.
func (m *Mirror) connect(ctx context.Context) (err error) {
	if m.path, err = filepath.Abs(m.path); err != nil {
		return err
	}
	m.writer, err = sql.Open("sqlite", dataSource(m.path, "_txlock=immediate", "synchronous(FULL)", "journal_mode(WAL)", "cache_size(-8192)"))
	if err != nil {
		return err
	}
	m.writer.SetMaxOpenConns(1)
	if err := m.migrate(ctx); err != nil {
		return err
	}
	m.reader, err = sql.Open("sqlite", dataSource(m.path, "_txlock=deferred", "query_only(1)"))
	if err != nil {
		return err
	}
	m.reader.SetMaxOpenConns(readers)
	m.reader.SetMaxIdleConns(readers)
	m.insert, err = m.writer.PrepareContext(ctx, `INSERT INTO events (position, stream, revision, chain, record) VALUES (?, ?, ?, ?, ?)`)
	return err
}

func (m *Mirror) disconnect() error {
	var errs []error
	if m.insert != nil {
		errs = append(errs, m.insert.Close())
	}
	for _, db := range []*sql.DB{m.reader, m.writer} { // the last connection tidies up, so it must be one that writes
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// dataSource names a SQLite file with a setting of the driver and pragmas.
func dataSource(path, setting string, pragmas ...string) string {
	var b strings.Builder
	b.WriteString("file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?" + setting)
	for _, p := range append([]string{"busy_timeout(5000)"}, pragmas...) {
		b.WriteString("&_pragma=" + p)
	}
	return b.String()
}

func (m *Mirror) migrate(ctx context.Context) error {
	tx, err := m.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // fails after Commit, where nothing is left to roll back
	var is, version, others int
	err = tx.QueryRowContext(ctx, `SELECT a.application_id, v.user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id a, pragma_user_version v`).Scan(&is, &version, &others)
	switch {
	case err != nil:
		return err
	case is == application && version > schema:
		return fmt.Errorf("%w: schema %d, known is %d", ErrNewerSchema, version, schema)
	case is == application && version == schema:
		return nil
	case is != 0 || version != 0 || others != 0:
		return errors.New("the file is a database, but no mirror")
	}
	if _, err := tx.ExecContext(ctx, tables); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO ledger (id, events, shown) VALUES (?, 0, 0)`, m.ledger[:]); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", application, schema)); err != nil {
		return err
	}
	return tx.Commit()
}

// asker is a database or a transaction in it.
type asker interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// load reads the state from the file.
func load(ctx context.Context, db asker) (s state, err error) {
	var id uuid.UUID
	var lanes, format, incarnation sql.NullInt64
	err = db.QueryRowContext(ctx, `SELECT id, lanes, format, incarnation, events, shown FROM ledger`).
		Scan(&id, &lanes, &format, &incarnation, &s.events, &s.shown)
	if err != nil {
		return s, fmt.Errorf("reading which ledger it is: %w", err)
	}
	s.known = incarnation.Valid
	s.identity = eventstore.Identity{ID: id, Lanes: int(lanes.Int64), Format: int(format.Int64), Incarnation: uint32(incarnation.Int64)}
	last, ok, err := newestAt(ctx, db, maxPosition)
	if err != nil {
		return s, fmt.Errorf("reading where it ends: %w", err)
	}
	if ok {
		s.end, s.chain, s.tail = last.position, last.chain, string(eventstore.RecordStream(last.record))
	}
	seen, _, err := newestAt(ctx, db, s.shown)
	if err != nil {
		return s, fmt.Errorf("reading what readers see: %w", err)
	}
	s.shown, s.shownChain = seen.position, seen.chain
	err = db.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(length(record)), 0) FROM held`).Scan(&s.held, &s.heldBytes)
	if err != nil {
		return s, fmt.Errorf("reading what it holds: %w", err)
	}
	return s, nil
}

// maxPosition is the greatest position that a file can hold.
const maxPosition = eventstore.Position(1<<63 - 1)

// An entry is an event as it stands in the file.
type entry struct {
	position eventstore.Position
	chain    eventstore.Hash
	record   []byte // its canonical form
}

// recorded gives the event of an entry, which becomes its owner.
func (e *entry) recorded() (eventstore.Recorded, error) {
	r, err := eventstore.ParseRecord(e.record)
	if err != nil {
		return r, fmt.Errorf("the mirror's event at position %d: %w", e.position, err)
	}
	r.Position, r.Chain = e.position, e.chain
	return r, nil
}

// A scanner is a row, or the current one of some.
type scanner interface{ Scan(dest ...any) error }

// scanEntry reads position, chain and record.
func scanEntry(row scanner) (e entry, err error) {
	var position int64
	var chain []byte
	if err := row.Scan(&position, &chain, &e.record); err != nil {
		return e, err
	}
	e.position = eventstore.Position(position)
	if len(chain) != len(e.chain) {
		return e, fmt.Errorf("%w: the hash at position %d of the mirror has %d bytes", eventstore.ErrCorrupt, e.position, len(chain))
	}
	e.chain = eventstore.Hash(chain)
	return e, nil
}

// newestAt returns the newest verified event up to a position. It reports false where there is none.
func newestAt(ctx context.Context, db asker, p eventstore.Position) (entry, bool, error) {
	return one(db.QueryRowContext(ctx, `SELECT position, chain, record FROM events WHERE position <= ? ORDER BY position DESC LIMIT 1`, int64(p)))
}

// one reads an entry that may not be there.
func one(row scanner) (entry, bool, error) {
	e, err := scanEntry(row)
	if errors.Is(err, sql.ErrNoRows) {
		return e, false, nil
	}
	return e, err == nil, err
}
