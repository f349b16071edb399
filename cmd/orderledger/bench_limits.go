package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/bench"
)

// The limits that the bench command measures beside the program: the least that anybody would have to do for the same
// work, with the same means. They are all in this file. Who makes one slower flatters the program.

// A groupCommit makes records durable in a file that is there already, zero-filled, so that a sync has nothing to do but
// write: one goroutine takes all records that are waiting, writes them at once, syncs once and answers each of their
// writers. Where the file ends it begins again.
type groupCommit struct {
	file  *os.File
	size  int64
	at    int64 // where the next write goes
	syncs int   // so far
	queue chan waitingRecord
	done  chan struct{} // closed when the goroutine has ended
}

type waitingRecord struct {
	data    []byte
	durable chan<- error // has room for the answer
}

const (
	groupCommitSize  = 64 << 20 // more than all records that wait at once have together
	groupCommitQueue = 4_096
)

func newGroupCommit(path string, size int64) (_ *groupCommit, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	zeros := make([]byte, min(size, 1<<20))
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, at); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	g := &groupCommit{file: f, size: size, queue: make(chan waitingRecord, groupCommitQueue), done: make(chan struct{})}
	go g.run()
	return g, nil
}

// append returns when a record is durable.
func (g *groupCommit) append(record []byte) error {
	durable := make(chan error, 1)
	g.queue <- waitingRecord{record, durable}
	return <-durable
}

func (g *groupCommit) run() {
	defer close(g.done)
	var data []byte
	var writers []chan<- error
	for first := range g.queue {
		data, writers = append(data[:0], first.data...), append(writers[:0], first.durable)
		for range len(g.queue) {
			next := <-g.queue
			data, writers = append(data, next.data...), append(writers, next.durable)
		}
		err := g.write(data)
		for _, durable := range writers {
			durable <- err
		}
	}
}

func (g *groupCommit) write(data []byte) error {
	if g.at+int64(len(data)) > g.size {
		g.at = 0
	}
	if _, err := g.file.WriteAt(data, g.at); err != nil {
		return err
	}
	g.at += int64(len(data))
	g.syncs++
	return bench.Datasync(g.file)
}

// close is called when all writers have been answered.
func (g *groupCommit) close() error {
	close(g.queue)
	<-g.done
	return g.file.Close()
}

// bareSubmit decodes a submission, makes its bytes durable and answers as many bytes as the server would.
func bareSubmit(log *groupCommit) http.Handler {
	answer := []byte(`{"id":"00000000-0000-0000-0000-000000000000","number":"000000000000","status":"routed","revision":2,"events":` +
		`["order.submitted.v1","order.accepted.v1","order.routed.v1"],"fulfilments":[{"id":"f1","site":"main","phase":"routed"}],"holds":[]}`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var order commands.Submission
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &order)
		}
		if err == nil {
			err = log.append(body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(answer)
	})
}

// unmarshalAll decodes events with encoding/json into the structs that the domain folds.
func unmarshalAll(types map[string]reflect.Type, events []eventstore.Event) error {
	for i := range events {
		into := reflect.New(types[events[i].Type]).Interface()
		if err := json.Unmarshal(events[i].Data, into); err != nil {
			return err
		}
	}
	return nil
}

// eventTypes are the structs of the events of orders, by name.
func eventTypes() map[string]reflect.Type {
	types := make(map[string]reflect.Type)
	for _, e := range []domain.Event{
		&domain.Submitted{}, &domain.Accepted{}, &domain.Rejected{}, &domain.Held{}, &domain.Released{}, &domain.Amended{},
		&domain.Routed{}, &domain.Unrouted{}, &domain.Confirmed{}, &domain.FulfilmentStarted{}, &domain.Shipped{},
		&domain.Delivered{}, &domain.FulfilmentFailed{}, &domain.Cancelled{}, &domain.Returned{}, &domain.Closed{},
	} {
		types[e.Type()] = reflect.TypeOf(e).Elem()
	}
	return types
}

// openSQLite opens a database as the read models do: by one writer whose file is thrown away when a rebuild fails, or
// by as many readers.
func openSQLite(path string, readers int) (*sql.DB, error) {
	source := "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)"
	if readers == 0 {
		source += "&_txlock=immediate&_pragma=synchronous(OFF)&_pragma=journal_mode(WAL)&_pragma=cache_size(-16384)"
	} else {
		source += "&_txlock=deferred&_pragma=query_only(1)"
	}
	db, err := sql.Open("sqlite", source)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(max(readers, 1))
	db.SetMaxIdleConns(max(readers, 1))
	return db, nil
}

// A rowLoad inserts rows that somebody else has worked out into a database of its own, with the tables and indexes of
// the one that they come from.
type rowLoad struct {
	db      *sql.DB
	inserts map[string]*sql.Stmt // by table
}

func newRowLoad(ctx context.Context, path string, like *sql.DB) (_ *rowLoad, err error) {
	l := &rowLoad{inserts: make(map[string]*sql.Stmt)}
	if l.db, err = openSQLite(path, 0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.db.Close())
		}
	}()
	parts, err := schema(ctx, like)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if _, err := l.db.ExecContext(ctx, p.text); err != nil {
			return nil, fmt.Errorf("making %s: %w", p.name, err)
		}
		if p.kind != "table" {
			continue
		}
		places := strings.TrimSuffix(strings.Repeat("?,", p.columns), ",")
		l.inserts[p.name], err = l.db.PrepareContext(ctx, `INSERT INTO "`+p.name+`" VALUES (`+places+`)`) //nolint:sqlclosecheck // ends with the database
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

// insert inserts rows of some tables in one transaction.
func (l *rowLoad) insert(ctx context.Context, batch []tableRows) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // it fails after Commit, where nothing is left to roll back
	for _, t := range batch {
		insert := tx.StmtContext(ctx, l.inserts[t.table]) //nolint:sqlclosecheck // ends with the transaction
		for _, row := range t.rows {
			if _, err := insert.ExecContext(ctx, row...); err != nil {
				return fmt.Errorf("inserting into %s: %w", t.table, err)
			}
		}
	}
	return tx.Commit()
}

// finish leaves one durable file, as a rebuild does.
func (l *rowLoad) finish(ctx context.Context, path string) error {
	_, err := l.db.ExecContext(ctx, `PRAGMA journal_mode = DELETE`)
	if err = errors.Join(err, l.db.Close()); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// tableRows are rows of a table.
type tableRows struct {
	table string
	rows  [][]any
}

// A keySelect reads whole rows of orders by their primary key.
type keySelect struct {
	statement    *sql.Stmt
	businessUnit string
	source       uuid.UUID
}

func newKeySelect(ctx context.Context, db *sql.DB, businessUnit string, source uuid.UUID) (*keySelect, error) {
	statement, err := db.PrepareContext(ctx, `SELECT * FROM orders WHERE business_unit = $1 AND order_id = $2 AND source = $3`)
	if err != nil {
		return nil, err
	}
	return &keySelect{statement, businessUnit, source}, nil
}

// read lets use look at the columns of an order's row, and tells which one is the folded order. They are gone when it has
// returned.
func (s *keySelect) read(ctx context.Context, order uuid.UUID, use func(columns []sql.RawBytes, folded int) error) error {
	rows, err := s.statement.QueryContext(ctx, s.businessUnit, order[:], s.source[:])
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make([]sql.RawBytes, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	if !rows.Next() {
		return errors.Join(rows.Err(), sql.ErrNoRows)
	}
	if err := rows.Scan(into...); err != nil {
		return err
	}
	return use(values, slices.Index(columns, "folded"))
}

// bareQuery answers the folded order as it stands in its row.
func bareQuery(rows *keySelect) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := uuid.Parse(strings.TrimPrefix(r.URL.Path, "/v1/orders/"))
		if err == nil {
			err = rows.read(r.Context(), id, func(columns []sql.RawBytes, folded int) error {
				w.Header().Set("Content-Type", "application/json")
				_, err := w.Write(columns[folded])
				return err
			})
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}
