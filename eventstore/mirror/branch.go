package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/orderledger/orderledger/eventstore"
)

// branch follows a ledger into a later incarnation. What the mirror holds is kept aside first; then what the ledger does not
// hold any more is removed. A crash in between leaves the mirror as it was.
func (m *Mirror) branch(ctx context.Context, source eventstore.Reader, id eventstore.Identity) error {
	common, err := m.common(ctx, source)
	if err != nil {
		return fmt.Errorf("looking for where incarnation %d branches off: %w", id.Incarnation, err)
	}
	var lost uint64
	var kept string
	err = m.transact(ctx, func(s *step) error {
		var err error
		if kept, err = m.keepAside(ctx, s.identity.Incarnation); err != nil {
			return fmt.Errorf("keeping incarnation %d aside: %w", s.identity.Incarnation, err)
		}
		result, err := s.tx.ExecContext(ctx, `DELETE FROM events WHERE position > ?`, int64(common.position))
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		s.end, s.chain, s.tail = common.position, common.chain, string(eventstore.RecordStream(common.record))
		if lost = uint64(n); lost > 0 { // the backup ends here, and so does an append
			s.shown, s.shownChain = s.end, s.chain
		}
		s.events -= lost
		if err := s.identify(ctx, id); err != nil {
			return err
		}
		s.feed = true
		return s.release(ctx)
	})
	if err != nil {
		return fmt.Errorf("following incarnation %d: %w", id.Incarnation, err)
	}
	m.log.WarnContext(ctx, "the ledger went on from a backup", "incarnation", id.Incarnation, "position", uint64(common.position),
		"removed", lost, "kept_in", kept)
	return nil
}

// common returns the newest event of the mirror that the ledger has too. Equal hashes tell that all before it is equal
// too, so that the place is found by halving. A ledger that tells no hashes has nothing in common.
func (m *Mirror) common(ctx context.Context, source eventstore.Reader) (entry, error) {
	s, _ := m.snapshot()
	var low entry // is common
	high := s.end // the newest that may be
	for low.position < high {
		// The first guess is that nothing was lost.
		guess := high
		if high != s.end {
			guess = low.position + (high-low.position+1)/2
		}
		e, ok, err := newestAt(ctx, m.reader, guess)
		if err != nil {
			return low, m.readError(ctx, err)
		}
		if !ok || e.position <= low.position { // none up to the guess: look behind it
			e, ok, err = one(m.reader.QueryRowContext(ctx, `SELECT position, chain, record FROM events WHERE position > ? ORDER BY position LIMIT 1`, int64(guess)))
			if err != nil {
				return low, m.readError(ctx, err)
			}
			if !ok || e.position > high {
				return low, nil
			}
		}
		same, err := holds(ctx, source, &e)
		if err != nil {
			return low, err
		}
		if same {
			low = e
		} else {
			high = e.position - 1
		}
	}
	return low, nil
}

// holds reports whether a ledger has an event at its place, with its hash.
func holds(ctx context.Context, source eventstore.Reader, e *entry) (bool, error) {
	for r, err := range source.ReadAll(ctx, e.position-1, eventstore.Filter{Public: true}) {
		if err != nil {
			return false, err
		}
		return r.Position == e.position && r.Chain == e.chain, nil
	}
	return false, nil
}

// aside names the file that keeps an incarnation.
func (m *Mirror) aside(incarnation uint32) string {
	extension := filepath.Ext(m.path)
	return fmt.Sprintf("%s.incarnation-%d%s", strings.TrimSuffix(m.path, extension), incarnation, extension)
}

// keepAside copies the mirror as it is into the file of an incarnation, and returns its name. The file is whole or not
// there.
func (m *Mirror) keepAside(ctx context.Context, incarnation uint32) (string, error) {
	path := m.aside(incarnation)
	if _, err := os.Stat(path); err == nil {
		return path, nil // from a time before a crash
	}
	unfinished := path + ".unfinished"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	db, err := sql.Open("sqlite", dataSource(m.path, "_txlock=deferred")) // the readers' connections write no file
	if err != nil {
		return "", err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, unfinished)
	if err := errors.Join(err, db.Close()); err != nil {
		return "", err
	}
	for _, do := range []func() error{
		func() error { return syncFile(unfinished) },
		func() error { return os.Rename(unfinished, path) },
		func() error { return syncFile(filepath.Dir(path)) },
	} {
		if err := do(); err != nil {
			return "", err
		}
	}
	return path, nil
}

// syncFile makes a file or directory durable.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
