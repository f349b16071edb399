// Package mirror keeps a durable copy of another region's ledger in a SQLite file: append-only, verified against the
// ledger's chain, and read as the ledger itself would be.
//
//	bus ─▶ relay.Consumer ─▶ Apply ┐
//	                               ├─▶ Mirror ─▶ an eventstore.Reader over what is verified
//	feed ──────────────────▶ CatchUp ┘
//
// A mirror holds the public events of one ledger: those of streams for which [eventstore.Internal] is false. The bus
// brings them in an order of its own; they are durable once [Mirror.Apply] has returned, but no reader sees one before
// everything that the ledger holds before it. That is decided by the chain: the verified end moves to an event exactly
// if hashing it onto the hash at the end gives the hash that the event carries. What does not link is held, and what
// stays away is read from the ledger's feed by [Mirror.CatchUp].
//
// Readers see appends whole, as in the ledger itself: half of one would make half an answer to a command. No event says
// that it is the last one of its append, but an append is of one stream. What is verified is therefore shown up to where
// an event of another stream follows, up to where the ledger ended when it was read last, and up to where its own region
// says that an append has ended, when it asks for a confirmation; see [NewHandler]. The rest, which is of one stream, is
// durable and waits: for a moment, or as long as the ledger cannot be read.
//
// What the feed says counts. A delivery that it contradicts was forged or damaged on the bus and is replaced. A feed that
// contradicts what was verified before is believed no more: [ErrAltered], [ErrOlder].
//
// Some ledgers leave the chain to their relay: what is read from them carries no hash. Such events are linked by
// computing their hash, in the order of the feed, and checked against the next hash that is known, of the ledger's head
// or of a delivery that was held. Until one comes, they are as good as the feed.
//
// All methods are safe for concurrent use.
package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

var (
	// ErrForeign is returned where another ledger answers than the one that is mirrored.
	ErrForeign = errors.New("it is another ledger")
	// ErrOlder is returned for a ledger that ends before events that the mirror has verified, or that stands in an
	// earlier incarnation: its tail was lost, or it is an old copy that was not told to begin a new incarnation.
	ErrOlder = errors.New("the ledger is older than its mirror")
	// ErrAltered is returned for a ledger whose history contradicts what the mirror has verified.
	ErrAltered = errors.New("the ledger's history was altered")
	// ErrUnreached is returned while the mirror has not reached its ledger for the first time.
	ErrUnreached = errors.New("the mirror has not reached its ledger yet")
	// ErrBranched ends sequences and waits of an incarnation when the ledger goes on in a later one.
	ErrBranched = errors.New("the ledger went on from a backup")
	// ErrNewerSchema is returned for a file that a later version of the program has written.
	ErrNewerSchema = errors.New("the mirror was written by a later version of the program")
)

// A Config says what is mirrored.
type Config struct {
	Ledger uuid.UUID        // which ledger; it must be given
	Log    *slog.Logger     // is told of forged deliveries, outages and new incarnations; nil: nobody is
	Now    func() time.Time // nil: time.Now
}

// limits bound what is held in memory and in the file.
type limits struct {
	held, heldBytes   int // deliveries that do not link yet
	batch, batchBytes int // one transaction of CatchUp
	chunk, chunkBytes int // what a reader reads ahead
}

// A Mirror is the copy of one ledger. It starts nothing by itself, but for Follow and FollowFeed.
type Mirror struct {
	path   string
	ledger uuid.UUID
	log    *slog.Logger
	now    func() time.Time
	limits limits

	writer *sql.DB // one connection
	reader *sql.DB
	insert *sql.Stmt // an event, by writer

	closing  chan struct{}
	catching chan struct{} // holds a value while CatchUp runs

	writing sync.Mutex // held for a whole transaction; protects the fields below
	unsure  bool       // a transaction's outcome is unknown: the file must be asked
	closed  bool

	mu    sync.Mutex // protects the fields below; taken after writing
	state state
	moved chan struct{} // closed and replaced when the state has changed
	news  news
}

// state is what stands in the file.
type state struct {
	identity eventstore.Identity // but for the id, zero before the first contact
	known    bool                // there was a first contact
	end      eventstore.Position // of the newest verified event
	chain    eventstore.Hash     // of the same
	tail     string              // its stream
	events   uint64              // up to the verified end

	shown      eventstore.Position // of the newest event that readers see, which ends an append
	shownChain eventstore.Hash     // of the same

	held      int
	heldBytes int
}

var _ eventstore.Reader = (*Mirror)(nil)

// Open opens the mirror in the file at path, and makes it where there is none. It refuses the mirror of another ledger
// with [ErrForeign], one of a later version with [ErrNewerSchema], and a file that is no mirror.
func Open(ctx context.Context, path string, c Config) (*Mirror, error) {
	m, err := open(ctx, path, c)
	if err != nil {
		return nil, fmt.Errorf("opening the mirror in %s: %w", path, err)
	}
	return m, nil
}

func open(ctx context.Context, path string, c Config) (_ *Mirror, err error) {
	if c.Ledger == uuid.Nil {
		return nil, errors.New("a mirror needs a ledger")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	m := &Mirror{
		path: path, ledger: c.Ledger, log: c.Log.With("ledger", c.Ledger), now: c.Now,
		limits: limits{
			held: 10_000, heldBytes: 64 << 20,
			batch: 1_000, batchBytes: 4 << 20,
			chunk: 256, chunkBytes: 1 << 20,
		},
		closing: make(chan struct{}), catching: make(chan struct{}, 1), moved: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.disconnect())
		}
	}()
	if err := m.connect(ctx); err != nil {
		return nil, err
	}
	if m.state, err = load(ctx, m.writer); err != nil {
		return nil, err
	}
	if m.state.identity.ID != m.ledger {
		return nil, fmt.Errorf("%w: the file mirrors ledger %s, and not %s", ErrForeign, m.state.identity.ID, m.ledger)
	}
	m.news.begin(m.now(), m.state)
	return m, nil
}

// Close ends every sequence and wait with [eventstore.ErrClosed]. It may be called twice.
func (m *Mirror) Close() error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	close(m.closing)
	if err := m.disconnect(); err != nil {
		return fmt.Errorf("closing the mirror in %s: %w", m.path, err)
	}
	return nil
}

// alive returns why nothing can be done any more.
func (m *Mirror) alive(ctx context.Context) error {
	select {
	case <-m.closing:
		return eventstore.ErrClosed
	default:
		return ctx.Err()
	}
}

// snapshot returns the state, and a channel that is closed when it has changed.
func (m *Mirror) snapshot() (state, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.moved
}

// Identity tells which ledger is mirrored, and in which incarnation. It reports false before the first contact with the
// ledger, when only its id is known.
func (m *Mirror) Identity() (eventstore.Identity, bool) {
	s, _ := m.snapshot()
	return s.identity, s.known
}
