// Package pebblestore is the embedded, durable ledger: an [eventstore.Store] in a directory of its own. Events stand in a
// log of segments, which Pebble indexes.
//
// An append is acknowledged when it is synced to the disk, and readers see nothing earlier. One goroutine commits: it
// takes what is queued, writes it to the log in one piece, syncs once and answers all. The index is in memory at first
// and written now and then, without a sync of its own: after a crash it is brought up to date from the log, and where it
// is damaged or gone it is made anew. Readers do not wait for writers.
//
// The directory holds
//
//	ledger/00000001.log  the log: what is stored, and all that is needed to store it somewhere else
//	ledger/index/        Pebble's files; they can be made anew
//	anchor.json          the head of the ledger, written outside of them each second and at Close, see [eventstore.Anchor]
//	server.json          who has the ledger open, see [Announced]
//
// After a failed write or sync the ledger takes no more writes and must be opened anew, because no program can know
// what a disk kept of a sync that failed. While the disk has less than 64 MiB left, appends are refused with
// [eventstore.ErrFull], and taken again once there is room; with hardly any left at the start, the ledger is opened to be
// read. Where Pebble cannot write its own books it may end the process. Nothing that was acknowledged is lost by that.
//
// What a crash leaves of the events that were written last, it leaves at the end of the log, and Open cuts it off there:
// nobody was told that they are stored. Damage anywhere else is told as [eventstore.ErrCorrupt] by who meets it, and
// found by [Store.Verify].
package pebblestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// Format is the version of the stored form that this package writes, and the only one that it reads.
const Format = 2

// A Config changes how a ledger is opened. The zero Config is useful.
type Config struct {
	FS       vfs.FS           // where the files are; nil: the disk. vfs.NewMem makes a ledger that lives in memory
	Now      func() time.Time // the clock that stamps events; nil: time.Now
	Logger   *slog.Logger     // nil: slog.Default
	Lanes    int              // of a new ledger; 0: eventstore.DefaultLanes. An existing ledger keeps its own
	ID       uuid.UUID        // of a new ledger; zero: a random one. An existing ledger keeps its own
	ReadOnly bool             // refuse writes and change no file; the ledger must exist

	// SegmentSize is how large the files of the log become, in bytes, but for an append that has no room in one;
	// 0: 256 MiB. At most 1 GiB.
	SegmentSize int64
}

// A Store is an open ledger. All its methods are safe for concurrent use.
type Store struct {
	dir      string
	fs       vfs.FS
	now      func() time.Time
	logger   *slog.Logger
	lock     *pebble.Lock
	segments *log
	index    *index
	identity eventstore.Identity
	readOnly error // why writes are refused; nil: they are taken

	head    atomic.Pointer[head]  // what is durable: readers go no further
	failure atomic.Pointer[error] // why no write will be taken again

	announced atomic.Bool          // server.json is ours
	anchored  *eventstore.Position // what the anchor says, if that is known; belongs to anchorEachSecond while that runs

	queue     chan *request // to the committer; nil: the ledger takes no writes
	committer *committer    // belongs to its goroutine until that ends

	closing chan struct{} // closed when Close begins
	wg      sync.WaitGroup
	once    sync.Once
	closed  error // the result of Close

	// sending is held for reading while an append is looked up and put into the queue, and for writing to close the queue.
	sending sync.RWMutex
	// reading is held for reading while files are read. Only Close takes it for writing, so no reader waits for a writer.
	reading sync.RWMutex
	gone    bool // the files are being closed
}

var _ eventstore.Store = (*Store)(nil)

// A head is the durable end of the ledger. The next one replaces it.
type head struct {
	position eventstore.Position
	chain    eventstore.Hash
	last     address       // of the newest event
	end      address       // of the log
	replaced chan struct{} // closed when there is a newer head
}

// Open opens the ledger in a directory and makes one if there is none. It returns a [*eventstore.LockedError] while
// another process has it open.
//
// A ledger that does not agree with its anchor, because it is an older copy or has lost its tail, is opened for reading
// only, see [Store.Writable]; [BeginIncarnation] lets it go on.
func Open(dir string, cfg *Config) (*Store, error) {
	s, err := open(dir, cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the ledger in %s: %w", dir, err)
	}
	return s, nil
}

func open(dir string, cfg *Config) (_ *Store, err error) {
	if cfg == nil {
		cfg = &Config{}
	}
	s := &Store{dir: dir, fs: cfg.FS, now: cfg.Now, logger: cfg.Logger, closing: make(chan struct{})}
	if s.fs == nil {
		s.fs = vfs.Default
		// Two names of one directory must meet at one lock.
		if s.dir, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if cfg.SegmentSize < 0 || cfg.SegmentSize > 1<<30 {
		return nil, fmt.Errorf("segments have up to 1 GiB, not %d bytes", cfg.SegmentSize)
	}
	ledger := s.fs.PathJoin(s.dir, "ledger")
	if !cfg.ReadOnly {
		if err := makeDir(s.fs, ledger); err != nil {
			return nil, err
		}
	}
	if s.lock, err = lockDir(s.fs, s.dir, ledger); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.abort())
		}
	}()
	readOnly := error(nil)
	if cfg.ReadOnly {
		readOnly = fmt.Errorf("%w: it was opened so", eventstore.ErrReadOnly)
	} else if err := s.checkRoom(startRoom); err != nil {
		readOnly = fmt.Errorf("%w: so it was opened to be read: make room, and start again", err)
	}
	if err := s.load(ledger, cfg, readOnly != nil); err != nil {
		return nil, err
	}
	if s.readOnly = readOnly; s.readOnly != nil {
		return s, nil
	}
	if s.readOnly, err = s.checkAnchor(); err != nil {
		return nil, err
	}
	if err := s.Announce(""); err != nil {
		return nil, err
	}
	if s.readOnly != nil {
		s.logger.Error("the ledger is open for reading only", "dir", s.dir, "error", s.readOnly)
		return s, nil
	}
	if err := s.segments.resume(s.head.Load()); err != nil {
		return nil, err
	}
	if err := removeSpare(s.fs, ledger); err != nil {
		return nil, err
	}
	if err := s.writeAnchor(); err != nil {
		return nil, err
	}
	s.start()
	return s, nil
}

// lockDir locks the ledger for this process.
func lockDir(fsys vfs.FS, dir, ledger string) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(ledger, fsys)
	if err == nil {
		return lock, nil
	}
	// A file system that cannot make the lock file says so in a PathError; a lock that is taken never does.
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return nil, err
	}
	owner, _ := readAnnouncement(fsys, dir) // without it, the owner is unknown
	return nil, &eventstore.LockedError{Dir: dir, PID: owner.PID, Address: owner.Address}
}

// load opens the log and its index, and finds the head.
func (s *Store) load(dir string, cfg *Config, readOnly bool) (err error) {
	if s.segments, err = openLog(s.fs, dir, cmp.Or(cfg.SegmentSize, maxSegment)); err != nil {
		return err
	}
	if s.segments.newest() == nil {
		if err := s.create(cfg); err != nil {
			return err
		}
	}
	s.identity = s.segments.newest().identity
	if !readOnly {
		if err := s.segments.settle(); err != nil {
			return err
		}
	}
	last, end, err := s.loadIndex(s.fs.PathJoin(dir, "index"), readOnly)
	if err != nil {
		return err
	}
	s.head.Store(&head{position: end.position, chain: end.chain, last: last, end: end.next, replaced: make(chan struct{})})
	return nil
}

// create begins a new ledger.
func (s *Store) create(cfg *Config) error {
	switch a, err := s.readAnchor(); {
	case err == nil && a.Format != Format:
		return &formatError{a.Format}
	case err == nil:
		return fmt.Errorf("%w: there is no log, and its anchor says that it stood at position %d: bring the files back, or move %s away to begin a new ledger",
			eventstore.ErrCorrupt, a.Position, anchorName)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case cfg.ReadOnly:
		return fmt.Errorf("there is no ledger yet: %w", fs.ErrNotExist)
	}
	lanes := cfg.Lanes
	if lanes == 0 {
		lanes = eventstore.DefaultLanes
	}
	if lanes < 1 || lanes > 1<<16 {
		return fmt.Errorf("a ledger has 1 to %d lanes, not %d", 1<<16, lanes)
	}
	id := cfg.ID
	if id == uuid.Nil {
		var err error
		if id, err = uuid.NewRandom(); err != nil {
			return err
		}
	}
	s.identity = eventstore.Identity{ID: id, Lanes: lanes, Format: Format}
	return s.beginSegment(place{}, 0)
}

// beginSegment begins the segment that goes on where the log ends.
func (s *Store) beginSegment(end place, incarnation uint32) error {
	h := header{
		identity: s.identity, number: end.next.segment() + 1, before: end.next,
		first: end.position + 1, chain: end.chain, begun: s.now().UTC(),
	}
	h.identity.Incarnation = incarnation
	return s.segments.begin(h)
}

// start starts the goroutines for which Close waits.
func (s *Store) start() {
	s.queue = make(chan *request, maxQueue)
	s.committer = newCommitter(s)
	s.wg.Go(s.committer.run)
	s.wg.Go(s.anchorEachSecond)
	s.wg.Go(s.growSpare)
	s.wg.Go(func() {
		if err := s.index.collectNames(func() bool { return s.alive(context.Background()) != nil }); err != nil {
			s.logger.Warn("new streams take longer to begin", "dir", s.dir, "error", err)
		}
	})
}

// growSpare makes the segment that will come next.
func (s *Store) growSpare() {
	for {
		select {
		case <-s.closing:
			return
		case fed := <-s.segments.spare.hungry:
			if s.checkSpace() != nil {
				continue
			}
			if err := s.segments.spare.grow(s.fs, s.segments.dir, fed); err != nil {
				s.logger.Warn("the next segment is not made ahead", "dir", s.dir, "error", err)
			}
		}
	}
}

// dropSpare gives back the room of the segment that would come next, which is worth more to appends.
func (s *Store) dropSpare() {
	if err := s.segments.spare.drop(s.fs, s.segments.dir); err != nil {
		s.logger.Warn("the next segment is in the way", "dir", s.dir, "error", err)
	}
}

// Writable returns nil for a ledger that takes writes, and otherwise why it takes none: an error that wraps
// [eventstore.ErrReadOnly] for a ledger that was opened so, and [eventstore.ErrFailed] for one that has failed since.
// It does not look at the disk.
func (s *Store) Writable() error {
	if failure := s.failure.Load(); failure != nil {
		return *failure
	}
	return s.readOnly
}

// Close waits for appends under way, ends every sequence with [eventstore.ErrClosed], writes the anchor and gives the
// directory free. Another call returns the same.
func (s *Store) Close() error {
	s.once.Do(func() {
		if err := s.close(); err != nil {
			s.closed = fmt.Errorf("closing the ledger in %s: %w", s.dir, err)
		}
	})
	return s.closed
}

func (s *Store) close() error {
	close(s.closing)
	if s.queue != nil {
		s.sending.Lock()
		close(s.queue)
		s.sending.Unlock()
	}
	s.wg.Wait()
	s.reading.Lock() // waits for the last reader
	s.gone = true
	s.reading.Unlock()
	var errs []error
	if s.readOnly == nil && s.failure.Load() == nil {
		// Without the index the next start takes longer. It is not worth an error.
		if err := s.saveIndex(); err != nil {
			s.logger.Warn("the index was not written", "dir", s.dir, "error", firstLine("%v", err))
		}
	}
	if s.readOnly == nil {
		errs = append(errs, s.writeAnchor())
	}
	return errors.Join(append(errs, s.abort())...)
}

// saveIndex makes the index durable.
func (s *Store) saveIndex() error {
	h := s.head.Load()
	if err := s.index.store(h.last, place{h.end, h.position, h.chain}); err != nil {
		return err
	}
	if err := s.index.await(); err != nil {
		return err
	}
	return s.index.flush()
}

// abort gives back what open took.
func (s *Store) abort() error {
	var errs []error
	if s.index != nil {
		_ = s.index.await() // the log has it
		if err := s.index.db.Close(); s.failure.Load() == nil {
			errs = append(errs, err) // a Pebble that has failed only repeats itself
		}
	}
	if s.segments != nil {
		errs = append(errs, s.segments.close())
	}
	return errors.Join(append(errs, s.unannounce(), s.lock.Close())...)
}

// alive returns the error of a call that comes after Close has begun, or whose context is done.
func (s *Store) alive(ctx context.Context) error {
	select {
	case <-s.closing:
		return eventstore.ErrClosed
	default:
		return ctx.Err()
	}
}

// fail latches the first failure: from then on nothing is acknowledged, and readers see nothing new.
func (s *Store) fail(err error) {
	err = fmt.Errorf("%w: %w", eventstore.ErrFailed, err)
	if isFull(err) {
		err = fmt.Errorf("%w: %w", eventstore.ErrFull, err)
	}
	if s.failure.CompareAndSwap(nil, &err) {
		s.logger.Error("the ledger has failed", "dir", s.dir, "error", err)
	}
}
