package projections

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the database driver
)

var (
	// ErrNotFound is returned for an order that no row knows.
	ErrNotFound = errors.New("the order is not in the read models")
	// ErrNewerSchema is returned for a database that a later version of the program has written.
	ErrNewerSchema = errors.New("the read models were written by a later version of the program")
)

// A Config changes how read models are opened. The zero Config is useful.
type Config struct {
	Readers int // how many queries may run at once; 0: 4
}

// Views are the read models in one database. Close them when they are not needed any more.
type Views struct {
	path   string
	writer *sql.DB // one connection, whose transactions begin as writers
	reader *sql.DB
	ask    questions
	bell   bell
}

// questions are what the reader is asked most often.
type questions struct {
	order           *sql.Stmt
	passed, showing *sql.Stmt
}

//go:embed migrations
var migrations embed.FS

// Open opens the read models in the SQLite file at path, and makes or upgrades them where need be. The file may be
// opened more than once; only commits through these Views wake those who wait on them.
func Open(ctx context.Context, path string, cfg *Config) (*Views, error) {
	v, err := open(ctx, path, cfg, "FULL")
	if err != nil {
		return nil, fmt.Errorf("opening the read models in %s: %w", path, err)
	}
	return v, nil
}

func open(ctx context.Context, path string, cfg *Config, synchronous string) (_ *Views, err error) {
	if cfg == nil {
		cfg = &Config{}
	}
	// Two names of one file must not differ in what they mean after a change of directory.
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	v := &Views{path: path}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.Close())
		}
	}()
	v.writer, err = sql.Open("sqlite", dataSource(path, "_txlock=immediate", "synchronous("+synchronous+")", "journal_mode(WAL)", "cache_size(-16384)"))
	if err != nil {
		return nil, err
	}
	v.writer.SetMaxOpenConns(1)
	if err := migrate(ctx, v.writer); err != nil {
		return nil, err
	}
	if v.reader, err = sql.Open("sqlite", dataSource(path, "_txlock=deferred", "query_only(1)")); err != nil {
		return nil, err
	}
	readers := cfg.Readers
	if readers <= 0 {
		readers = 4
	}
	v.reader.SetMaxOpenConns(readers)
	v.reader.SetMaxIdleConns(readers)
	for _, t := range []text{{&v.ask.order, selectOrder}, {&v.ask.passed, selectPassed}, {&v.ask.showing, selectShowing}} {
		if *t.statement, err = v.reader.PrepareContext(ctx, t.sql); err != nil { //nolint:sqlclosecheck // closing the database closes it
			return nil, err
		}
	}
	return v, nil
}

// dataSource names a SQLite file with a setting of the driver and pragmas.
func dataSource(path, setting string, pragmas ...string) string {
	var b strings.Builder
	b.WriteString("file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?" + setting)
	for _, p := range append([]string{"busy_timeout(5000)", "foreign_keys(1)"}, pragmas...) {
		b.WriteString("&_pragma=" + p)
	}
	return b.String()
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fmt.Errorf("%w: schema %d, known is %d", ErrNewerSchema, current, target)
	}
	if current == target {
		return nil
	}
	_, err = provider.Up(ctx)
	return err
}

// Close ends all queries. It may be called twice.
func (v *Views) Close() error {
	var errs []error
	for _, db := range []*sql.DB{v.reader, v.writer} { // the last connection tidies up, so it must be one that writes
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}
