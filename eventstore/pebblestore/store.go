// Package pebblestore is the embedded, durable ledger: an [eventstore.Store] in a directory of its own, on Pebble.
//
// An append is acknowledged when it is synced to the disk, and readers see nothing earlier. One goroutine commits:
// it takes what is queued, writes it as one batch, syncs once and answers all. Readers never wait for writers.
//
// The directory holds
//
//	ledger/      Pebble's own files
//	anchor.json  the head of the ledger, written outside of them each second and at Close, see [eventstore.Anchor]
//	server.json  who has the ledger open, see [Announced]
//
// After a failed write or sync the ledger takes no more writes and must be opened anew, because no program can know
// what a disk kept of a sync that failed. Where Pebble cannot even begin a new log file it ends the process; nothing that
// was acknowledged is lost. While the disk has less than 64 MiB left, appends are refused with
// [eventstore.ErrFull], and taken again once there is room.
package pebblestore

import (
	"context"
	"encoding/json"
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
const Format = 1

// A Config changes how a ledger is opened. The zero Config is useful.
type Config struct {
	FS       vfs.FS           // where the files are; nil: the disk. vfs.NewMem makes a ledger that lives in memory
	Now      func() time.Time // the clock that stamps events; nil: time.Now
	Logger   *slog.Logger     // nil: slog.Default
	Lanes    int              // of a new ledger; 0: eventstore.DefaultLanes. An existing ledger keeps its own
	ReadOnly bool             // refuse writes and change no file; the ledger must exist
}

// A Store is an open ledger. All its methods are safe for concurrent use.
type Store struct {
	dir      string
	fs       vfs.FS
	now      func() time.Time
	log      *slog.Logger
	lock     *pebble.Lock
	db       *pebble.DB
	identity eventstore.Identity
	readOnly error // why writes are refused; nil: they are taken

	head    atomic.Pointer[head]  // what is durable: readers go no further
	failure atomic.Pointer[error] // why no write will be taken again

	announced atomic.Bool          // server.json is ours
	anchored  *eventstore.Position // what the anchor says, if that is known; belongs to anchorEachSecond while that runs

	queue chan *request // to the committer; nil: the ledger takes no writes
	stuck bool          // Pebble has panicked and holds its locks; belongs to the committer while that runs

	closing chan struct{} // closed when Close begins
	wg      sync.WaitGroup
	once    sync.Once
	closed  error // the result of Close

	// sending is held for reading while an append is put into the queue, and for writing to close the queue.
	sending sync.RWMutex
	// reading is held for reading while Pebble is read. Only Close takes it for writing, so no reader waits for a writer.
	reading sync.RWMutex
	gone    bool // Pebble is being closed
}

var _ eventstore.Store = (*Store)(nil)

// A head is the durable end of the ledger. The next one replaces it.
type head struct {
	position eventstore.Position
	chain    eventstore.Hash
	replaced chan struct{} // closed when there is a newer head
}

// Open opens the ledger in a directory and makes one if there is none. It returns a [*eventstore.LockedError] while
// another process has it open.
//
// A ledger that does not agree with its anchor, because it is an older copy or has lost its tail, is opened for
// reading only: see [Store.ReadOnly].
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
	s := &Store{dir: dir, fs: cfg.FS, now: cfg.Now, log: cfg.Logger, closing: make(chan struct{})}
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
	if s.log == nil {
		s.log = slog.Default()
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
	if s.db, err = pebble.Open(ledger, s.options(cfg.ReadOnly)); err != nil {
		return nil, err
	}
	if err := s.load(cfg); err != nil {
		return nil, err
	}
	if cfg.ReadOnly {
		s.readOnly = fmt.Errorf("%w: it was opened so", eventstore.ErrReadOnly)
		return s, nil
	}
	if s.readOnly, err = s.checkAnchor(); err != nil {
		return nil, err
	}
	if err := s.Announce(""); err != nil {
		return nil, err
	}
	if s.readOnly != nil {
		s.log.Error("the ledger is open for reading only", "dir", s.dir, "error", s.readOnly)
		return s, nil
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

// load reads the identity, or makes one for a new ledger, and finds the head.
func (s *Store) load(cfg *Config) error {
	value, closer, err := s.db.Get([]byte(identityKey))
	switch {
	case err == nil:
		s.identity, err = decodeIdentity(value)
		err = errors.Join(err, closer.Close())
	case errors.Is(err, pebble.ErrNotFound) && !cfg.ReadOnly:
		err = s.create(cfg.Lanes)
	case errors.Is(err, pebble.ErrNotFound):
		err = errors.New("there is no ledger yet")
	}
	if err != nil {
		return err
	}
	h := &head{replaced: make(chan struct{})}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{recordPrefix}, UpperBound: []byte{recordPrefix + 1}})
	if err != nil {
		return damaged(err)
	}
	defer func() { _ = it.Close() }() // its error is read below
	if it.Last() {
		if h.position, err = parseRecordKey(it.Key()); err != nil {
			return corrupt(0, err)
		}
		if _, err := decodeRecord(h.position, it.Value()); err != nil {
			return err
		}
		h.chain = recordHead(it.Value())
	}
	if err := it.Error(); err != nil {
		return damaged(err)
	}
	s.head.Store(h)
	return nil
}

// create gives a new ledger its identity.
func (s *Store) create(lanes int) error {
	if lanes == 0 {
		lanes = eventstore.DefaultLanes
	}
	if lanes < 1 || lanes > 1<<16 {
		return fmt.Errorf("a ledger has 1 to %d lanes, not %d", 1<<16, lanes)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	s.identity = eventstore.Identity{ID: id, Lanes: lanes, Format: Format}
	value, err := encodeIdentity(s.identity)
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	if err := b.Set([]byte(identityKey), value, nil); err != nil {
		return err
	}
	return s.apply(b)
}

// start starts the goroutines for which Close waits.
func (s *Store) start() {
	s.queue = make(chan *request, maxQueue)
	s.wg.Go(newCommitter(s).run)
	s.wg.Go(s.anchorEachSecond)
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
	var err error
	if s.readOnly == nil {
		err = s.writeAnchor()
	}
	return errors.Join(err, s.abort())
}

// abort gives back what open took.
func (s *Store) abort() error {
	if s.stuck {
		// Closing Pebble would wait for ever. The directory stays locked, because Pebble may still write to it.
		return fmt.Errorf("only a new process can open it again: %w", *s.failure.Load())
	}
	var err error
	if s.db != nil {
		err = s.db.Close()
		if s.failure.Load() != nil {
			err = nil // a Pebble that has failed only repeats itself
		}
	}
	return errors.Join(err, s.unannounce(), s.lock.Close())
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
		s.log.Error("the ledger has failed", "dir", s.dir, "error", err)
	}
}

// identityFile is the stored form of an identity.
type identityFile struct {
	Format      int       `json:"format"`
	ID          uuid.UUID `json:"id"`
	Lanes       int       `json:"lanes"`
	Incarnation uint32    `json:"incarnation"`
}

func encodeIdentity(id eventstore.Identity) ([]byte, error) {
	return json.Marshal(identityFile{Format: id.Format, ID: id.ID, Lanes: id.Lanes, Incarnation: id.Incarnation})
}

func decodeIdentity(b []byte) (eventstore.Identity, error) {
	var f identityFile
	if err := json.Unmarshal(b, &f); err != nil {
		return eventstore.Identity{}, fmt.Errorf("%w: its identity cannot be read: %w", eventstore.ErrCorrupt, err)
	}
	if f.Format != Format {
		return eventstore.Identity{}, fmt.Errorf("the ledger has format %d, and this program knows format %d only: use the program that wrote it, or a newer one", f.Format, Format)
	}
	return eventstore.Identity{ID: f.ID, Lanes: f.Lanes, Format: f.Format, Incarnation: f.Incarnation}, nil
}
