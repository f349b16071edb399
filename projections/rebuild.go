package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

// Progress is how far a rebuild has come.
type Progress struct {
	Events   int           // folded so far
	Rate     float64       // events per second
	Fraction float64       // 0 to 1, an estimate
	Left     time.Duration // an estimate; 0 at the end
}

// Rebuild folds ledgers, up to where they end now, into new read models in a file beside the one at path, which is
// neither read nor changed. [Swap] puts the new file in its place. It tells progress, unless nil, several times a second
// at most. When it returns an error, ctx's included, it leaves nothing behind.
func Rebuild(ctx context.Context, path string, ledgers []eventstore.Reader, progress func(Progress)) (err error) {
	file := rebuilt(path)
	if err := remove(file); err != nil { // of a rebuild that was killed
		return fmt.Errorf("rebuilding the read models: %w", err)
	}
	v, err := build(ctx, file, ledgers, progress)
	if err == nil {
		err = errors.Join(v.reader.Close(), solidify(ctx, v.writer), v.Close())
	}
	if err == nil {
		err = syncFile(file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rebuilding the read models: %w", err), remove(file))
	}
	return nil
}

// rebuilt names the file that is built beside a path.
func rebuilt(path string) string { return path + ".rebuilt" }

// Swap replaces the read models at path by those that [Rebuild] has made beside them. Nobody may have either open. It
// happens at once or not at all, also in a crash.
func Swap(ctx context.Context, path string) error {
	file := rebuilt(path)
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("swapping the read models: %w", err)
	}
	// A log that outlived its database would be applied to the new one.
	if _, err := os.Stat(path); err == nil {
		if err := settle(ctx, path); err != nil {
			return fmt.Errorf("swapping the read models: they must not be in use: %w", err)
		}
		if err := keepSkipped(ctx, path, file); err != nil {
			return fmt.Errorf("swapping the read models: %w", err)
		}
	}
	if err := os.Rename(file, path); err != nil {
		return fmt.Errorf("swapping the read models: %w", err)
	}
	return syncFile(filepath.Dir(path))
}

// settle makes a database one file.
func settle(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", dataSource(path, "_txlock=immediate"))
	if err != nil {
		return err
	}
	return errors.Join(solidify(ctx, db), db.Close())
}

// solidify writes all of a database's log into its file and removes the log. It fails while others use the database.
func solidify(ctx context.Context, db *sql.DB) error {
	var mode string
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode = DELETE`).Scan(&mode); err != nil {
		return err
	}
	if mode != "delete" {
		return fmt.Errorf("the database stays in mode %q", mode)
	}
	return nil
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// remove removes a database, if there is one.
func remove(path string) error {
	var errs []error
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// build folds ledgers up to their heads into new read models. After an error nothing of them is open.
func build(ctx context.Context, path string, ledgers []eventstore.Reader, progress func(Progress)) (_ *Views, err error) {
	v, err := open(ctx, path, nil, "OFF") // a crash throws it all away
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.Close())
		}
	}()
	p, err := NewProjector(ctx, v, ledgers, nil)
	if err != nil {
		return nil, err
	}
	p.batch = limits{events: 10_000, bytes: 16 << 20}
	m := newMeter(progress, len(ledgers))
	for _, s := range p.followed() {
		if _, err := p.catchUp(ctx, s, 0, m.seen); err != nil {
			return nil, fmt.Errorf("reading ledger %s: %w", s.identity.ID, err)
		}
		m.next()
	}
	return v, p.Close(ctx)
}

// A meter turns what a rebuild has done into its progress.
type meter struct {
	tell    func(Progress)
	ledgers int // in all
	done    int // of them
	events  int
	start   time.Time
	told    time.Time
}

func newMeter(tell func(Progress), ledgers int) *meter {
	now := time.Now()
	return &meter{tell: tell, ledgers: ledgers, start: now, told: now}
}

func (m *meter) seen(events int, at, head eventstore.Position) {
	m.events += events
	m.show((float64(m.done) + float64(at)/float64(head)) / float64(m.ledgers))
}

func (m *meter) next() {
	m.done++
	if m.done == m.ledgers {
		m.told = m.start
		m.show(1)
	}
}

func (m *meter) show(fraction float64) {
	now := time.Now()
	if m.tell == nil || fraction < 1 && now.Sub(m.told) < 200*time.Millisecond {
		return
	}
	m.told = now
	spent := now.Sub(m.start)
	p := Progress{Events: m.events, Rate: float64(m.events) / max(spent.Seconds(), 1e-9), Fraction: fraction}
	if fraction > 0 {
		p.Left = time.Duration(float64(spent) * (1 - fraction) / fraction)
	}
	m.tell(p)
}

// keepSkipped copies what operators have decided, which follows from no ledger.
func keepSkipped(ctx context.Context, from, to string) (err error) {
	db, err := sql.Open("sqlite", dataSource(to, "_txlock=immediate", "synchronous(FULL)"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, `ATTACH DATABASE $1 AS former`, from); err != nil {
		return err
	}
	var known bool
	if err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM former.sqlite_master WHERE name = 'skipped')`).Scan(&known); err != nil || !known {
		return err
	}
	_, err = db.ExecContext(ctx, `INSERT OR REPLACE INTO skipped SELECT * FROM former.skipped`)
	return err
}
