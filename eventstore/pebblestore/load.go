package pebblestore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// loadIndex opens the index and brings it up to the end of the log, which it returns with the address of the newest
// event. An index that cannot be read, or is not of this log, is made anew.
func (s *Store) loadIndex(dir string, readOnly bool) (last address, end place, err error) {
	err = s.openIndex(s.fs, dir, readOnly)
	if err == nil {
		last, end, err = s.indexed()
	}
	if err == nil {
		last, end, err = s.catchUp(last, end)
	}
	if err == nil {
		return last, end, nil
	}
	// Pebble has no one word for damage. Whatever does not come from the operating system is.
	if errno := syscall.Errno(0); s.failure.Load() != nil || errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist) {
		return 0, place{}, damaged(err)
	}
	if s.index != nil {
		_, _ = s.index.await(), s.index.db.Close() // it is given up
		s.index = nil
	}
	s.logger.Warn("the index of the ledger is made anew", "dir", s.dir, "error", firstLine("%v", err))
	where := s.fs
	if readOnly {
		where = vfs.NewMem()
	} else if err := s.fs.RemoveAll(dir); err != nil {
		return 0, place{}, err
	}
	if err := s.openIndex(where, dir, false); err != nil {
		return 0, place{}, err
	}
	return s.catchUp(0, s.segments.origin())
}

func (s *Store) openIndex(where vfs.FS, dir string, readOnly bool) error {
	if _, err := where.Stat(dir); readOnly && err != nil {
		return err // Pebble has no name for it
	}
	broken := &breakdown{done: make(chan struct{})}
	db, err := openPebble(dir, s.options(where, readOnly, broken))
	if err != nil {
		return err
	}
	s.index = newIndex(db, broken, readOnly)
	return nil
}

// openPebble opens Pebble, which panics where it cannot write its own books.
func openPebble(dir string, options *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = fmt.Errorf("opening the index: %w", p)
		default:
			err = fmt.Errorf("opening the index: %v", p)
		}
	}()
	return pebble.Open(dir, options)
}

// indexed returns how far the log is indexed, after a look at the event there.
func (s *Store) indexed() (last address, end place, err error) {
	last, end, ok, err := s.index.indexed()
	if err != nil || !ok || last == 0 {
		return 0, s.segments.origin(), err
	}
	newest := s.segments.newest()
	f, err := s.segments.frame(last, addressOf(newest.number, newest.size))
	if err != nil {
		return 0, end, err
	}
	if f.position() != end.position || f.chain() != end.chain {
		return 0, end, errIndex
	}
	end.next = last + address(len(f))
	return last, end, nil
}

// origin is the place before the first event.
func (l *log) origin() place { return place{next: (*l.segments.Load())[0].start()} }

// catchUp indexes what the log has behind a place.
func (s *Store) catchUp(last address, from place) (address, place, error) {
	done := from
	end, err := s.segments.replay(from, func(at address, f frame) error {
		e, err := f.event()
		if err != nil {
			return err
		}
		entry, err := s.index.open(e.Stream, hint{})
		if err != nil {
			return err
		}
		s.index.mu.Lock()
		s.index.extend(entry, e.Stream, e.Revision, at, e.Position, len(f))
		s.index.mu.Unlock()
		last = at
		done = place{at + address(len(f)), e.Position, f.chain()}
		if f.left() > 0 {
			return nil // what is indexed ends with a whole append
		}
		return s.index.turn(last, done)
	})
	return last, end, err
}
