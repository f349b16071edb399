package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
)

// ErrTaken is returned by OpenCopy for a directory that holds something else.
var ErrTaken = errors.New("there is a ledger already")

var errCopying = fmt.Errorf("%w: it is the unfinished copy of another ledger", eventstore.ErrReadOnly)

// A Copy is a ledger that is being copied to a directory, event by event, with the times at which the original took
// them. Until it is finished it opens for reading only, as a backup does. It belongs to one goroutine.
type Copy struct {
	store     *Store
	of        eventstore.Identity
	committer *committer
}

// OpenCopy begins a copy in a directory that holds no ledger, or goes on with the unfinished copy of the same ledger in
// the same incarnation.
func OpenCopy(dir string, cfg *Config, of eventstore.Identity) (*Copy, error) {
	of.Format = Format
	c, err := openCopy(dir, cfg, of)
	if err != nil {
		return nil, fmt.Errorf("copying to the ledger in %s: %w", dir, err)
	}
	return c, nil
}

func openCopy(dir string, cfg *Config, of eventstore.Identity) (_ *Copy, err error) {
	if cfg == nil {
		cfg = &Config{}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, fs: vfs.Default, now: cfg.Now, logger: cfg.Logger, closing: make(chan struct{}), readOnly: errCopying}
	if s.now == nil {
		s.now = time.Now
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	ledger := s.fs.PathJoin(dir, "ledger")
	if err := makeDir(s.fs, ledger); err != nil {
		return nil, err
	}
	if s.lock, err = lockDir(s.fs, dir, ledger); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.abort())
		}
	}()
	if err := s.claimFor(of, ledger); err != nil {
		return nil, err
	}
	if err := s.load(ledger, cfg, false); err != nil {
		return nil, err
	}
	if id := s.identity; id.ID != of.ID || id.Lanes != of.Lanes || id.Incarnation != of.Incarnation && id.Incarnation != of.Incarnation+1 {
		return nil, fmt.Errorf("%w: ledger %s, incarnation %d", ErrTaken, id.ID, id.Incarnation)
	}
	if err := s.segments.resume(s.head.Load()); err != nil {
		return nil, err
	}
	if err := s.index.collectNames(func() bool { return false }); err != nil {
		return nil, err
	}
	if err := s.Announce(""); err != nil {
		return nil, err
	}
	return &Copy{store: s, of: of, committer: newCommitter(s)}, nil
}

// claimFor makes sure that the directory holds the unfinished copy of a ledger. The anchor says so before there is a log:
// it stands at position 0, where no backup of a ledger with events stands.
func (s *Store) claimFor(of eventstore.Identity, ledger string) error {
	l, err := openLog(s.fs, ledger, maxSegment)
	if err != nil {
		return err
	}
	s.segments = l // closed by abort
	a, err := readAnchor(s.fs, s.dir)
	switch {
	case err == nil && (!a.Backup || a.Position > 0 || a.Ledger != of.ID || a.Incarnation != of.Incarnation || a.Lanes != of.Lanes):
		return fmt.Errorf("%w: ledger %s, incarnation %d, which is no unfinished copy of %s, incarnation %d", ErrTaken, a.Ledger, a.Incarnation, of.ID, of.Incarnation)
	case errors.Is(err, fs.ErrNotExist) && l.newest() != nil:
		return ErrTaken
	case errors.Is(err, fs.ErrNotExist):
		err = (anchorFile{Time: s.now().UTC(), Backup: true}).write(s.fs, s.dir, eventstore.Head{Identity: of})
	}
	if err != nil {
		return err
	}
	if l.newest() == nil {
		s.identity = of
		if err := s.beginSegment(place{}, of.Incarnation); err != nil {
			return err
		}
	}
	s.segments = nil
	return l.close()
}

// ReadAll does what [Store.ReadAll] does, for what was copied so far.
func (c *Copy) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return c.store.ReadAll(ctx, after, filter)
}

// Add adds events in the order in which they stand in the original, behind those that were added before, and returns
// when they are durable.
func (c *Copy) Add(ctx context.Context, events []eventstore.Recorded) error {
	for len(events) > 0 {
		if err := c.store.alive(ctx); err != nil {
			return err
		}
		n, size := 0, 0
		for n < len(events) && n < maxQueue && size < maxGroupBytes {
			size += frameSize(events[n].Stream, &events[n].Event)
			n++
		}
		if err := c.add(events[:n]); err != nil {
			return fmt.Errorf("copying to the ledger in %s: %w", c.store.dir, err)
		}
		events = events[n:]
	}
	return nil
}

// add adds events in one piece.
func (c *Copy) add(events []eventstore.Recorded) error {
	group := make([]*request, len(events))
	for i := range events {
		e := &events[i]
		expected := eventstore.NoStream
		if e.Revision > 0 {
			expected = eventstore.At(e.Revision - 1)
		}
		if err := eventstore.Validate(e.Stream, expected, []eventstore.Event{e.Event}); err != nil {
			return fmt.Errorf("position %d: %w", e.Position, err)
		}
		group[i] = newRequest(e.Stream, expected, []eventstore.Event{e.Event})
	}
	err := c.committer.refuse()
	if err == nil {
		err = c.committer.makeRoom(group)
	}
	if err != nil {
		return err
	}
	for i, r := range group {
		c.committer.now = events[i].Time.UnixNano()
		c.committer.add(r)
	}
	c.committer.commit()
	for i, r := range group {
		a := <-r.answer
		if a.err != nil {
			return fmt.Errorf("position %d: %w", events[i].Position, a.err)
		}
		r.done()
	}
	return nil
}

// Finish makes what was copied a ledger that takes writes, in a new incarnation that begins at a position, with the chain
// up to there.
func (c *Copy) Finish(_ context.Context, after eventstore.Position, chain eventstore.Hash) error {
	s := c.store
	h := s.head.Load()
	if h.position != after || h.chain != chain {
		return fmt.Errorf("finishing the copy in %s: it ends at position %d with chain %s, and not at %d with %s", s.dir, h.position, h.chain, after, chain)
	}
	if s.identity.Incarnation == c.of.Incarnation {
		if err := s.beginSegment(place{h.end, h.position, h.chain}, c.of.Incarnation+1); err != nil {
			return fmt.Errorf("finishing the copy in %s: %w", s.dir, err)
		}
		s.identity.Incarnation++
	}
	if err := s.writeAnchor(); err != nil {
		return fmt.Errorf("finishing the copy in %s: %w", s.dir, err)
	}
	s.readOnly = nil
	return nil
}

// Close leaves the copy as it is.
func (c *Copy) Close() error {
	if c.store.readOnly != nil && c.store.failure.Load() == nil {
		// Without the index, going on takes longer. It is not worth an error.
		_ = c.store.saveIndex()
	}
	return c.store.Close()
}
