// Package esdb is a ledger in EventStoreDB or KurrentDB, 23.10 or newer, through the official client: an
// [eventstore.Store].
//
// # How it stands there
//
// Streams, event types and ids are EventStoreDB's own, and data and metadata are JSON as they were appended, so that its
// user interface shows an order as the stream order-<id> of the category order. A [eventstore.Position] is the commit
// position, the recorded time is the server's, or stands in the metadata of events that were copied from another ledger.
// Which ledger this is stands in the stream $ledger, to which nothing is added but when a new incarnation begins.
// Events carry no chain: who reads them in order computes it, beginning with the first.
//
// The database should be the ledger's alone: every stream in it is one of the ledger, and internal only if its name says so.
//
// The user needs to append to the streams of the ledger and to read $all and $ledger, and to create $ledger at first. As
// EventStoreDB is delivered, streams whose names begin with $ are for members of $admins.
//
// # Outages
//
// A connection that breaks is replaced. Append, ReadStream, ReadAll and Head try again for as long as [Config.Patience]
// says; a subscription tries on until its context is done. In a cluster, unless the connection string prefers other
// nodes, everything asks for the leader, so that what was acknowledged is read.
//
// The official client ends the process (log.Fatalf) where a server sends an event without a readable time of creation.
// Nothing can be done about that from here.
package esdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// A Config says where a ledger is.
type Config struct {
	// ConnectionString names the server or the cluster as EventStoreDB's clients have it, such as
	// esdb://user:password@host:2113 or esdb+discover://…, or as KurrentDB's have it: see [IsConnectionString]. Its
	// settings of discovery are not used, nor is its logging.
	ConnectionString string
	// Existing refuses a server that holds no ledger, rather than to create one.
	Existing bool
	// Lanes of a new ledger; 0: eventstore.DefaultLanes. An existing ledger keeps its own.
	Lanes int
	// ID of a new ledger; zero: a random one. An existing ledger keeps its own.
	ID uuid.UUID
	// Patience is how long a call goes on trying while the server fails; 0: 15 seconds.
	Patience time.Duration
	Logger   *slog.Logger // nil: slog.Default
}

// A Store is a ledger in EventStoreDB. All its methods are safe for concurrent use.
type Store struct {
	clients  *connector
	identity eventstore.Identity
	patience time.Duration
	logger   *slog.Logger

	// newest is a position that the ledger has reached. An append that ends no further is none.
	newest atomic.Uint64

	closing context.Context //nolint:containedctx // the life of the store, which ends its sequences
	close   context.CancelFunc

	mu      sync.Mutex // protects what follows
	closed  bool
	appends sync.WaitGroup // is added to only while not closed
}

var _ eventstore.Store = (*Store)(nil)

const defaultPatience = 15 * time.Second

// Open connects to a ledger, which it creates if there is none, unless c.Existing says otherwise: then it returns
// [ErrNoLedger]. It tries for as long as c.Patience says.
func Open(ctx context.Context, c Config) (*Store, error) {
	configuration, err := parse(c.ConnectionString)
	if err != nil {
		return nil, err
	}
	if c.Lanes < 0 {
		return nil, fmt.Errorf("a ledger cannot have %d lanes", c.Lanes)
	}
	var fresh eventstore.Identity
	if !c.Existing {
		fresh = eventstore.Identity{ID: c.ID, Lanes: cmp.Or(c.Lanes, eventstore.DefaultLanes), Format: format}
		if fresh.ID == uuid.Nil {
			fresh.ID = uuid.New()
		}
	}
	return connect(ctx, c, configuration, func(ctx context.Context, client *client, first bool) (eventstore.Identity, error) {
		if !first {
			return identify(ctx, client, eventstore.Identity{}) // it must be there, though a node may not have come so far yet
		}
		id, err := identify(ctx, client, fresh)
		if errors.Is(err, ErrNoLedger) {
			err = final{err}
		}
		return id, err
	})
}

// connect opens a store.
func connect(ctx context.Context, c Config, configuration *official.Configuration, who identifier) (*Store, error) {
	if c.Patience <= 0 {
		c.Patience = defaultPatience
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Store{patience: c.Patience, logger: c.Logger}
	s.closing, s.close = context.WithCancel(context.Background())
	s.clients = newConnector(*configuration, who, c.Logger)
	err := s.retry(ctx, s.patience, func() (bool, error) {
		return false, s.with(ctx, func(*client) error { return nil })
	})
	if err == nil {
		s.identity = *s.clients.identity
		_, err = s.Head(ctx)
	}
	if err != nil {
		_ = s.Close() // never fails
		return nil, fmt.Errorf("opening the ledger in EventStoreDB: %w", err)
	}
	return s, nil
}

// IsConnectionString reports whether a URL begins as the connection strings of EventStoreDB and KurrentDB do: with esdb,
// kurrentdb, kurrent or kdb, or one of these with +discover.
func IsConnectionString(url string) bool {
	_, ok := unify(url)
	return ok
}

// unify names the product as the official client does.
func unify(connection string) (string, bool) {
	scheme, rest, ok := strings.Cut(connection, "://")
	name, discover := strings.CutSuffix(scheme, "+discover")
	if !ok || !slices.Contains([]string{"esdb", "kurrentdb", "kurrent", "kdb"}, name) {
		return connection, false
	}
	if discover {
		return "esdb+discover://" + rest, true
	}
	return "esdb://" + rest, true
}

// ErrConnectionString is returned by Open for a connection string that cannot be read. It does not tell the password.
var ErrConnectionString = errors.New("the connection string of EventStoreDB")

// parse reads a connection string. Its errors do not tell the password.
func parse(connection string) (*official.Configuration, error) {
	connection, _ = unify(connection)
	c, err := official.ParseConnectionString(connection)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnectionString, discreet(connection, err))
	}
	return c, nil
}

// discreet returns why a connection string cannot be read, as far as that follows without its credentials.
func discreet(connection string, err error) error {
	scheme, rest, _ := strings.Cut(connection, "://")
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		if _, err = official.ParseConnectionString(scheme + "://" + rest[at+1:]); err == nil {
			err = errors.New("the name or the password before the @ has characters that must be written as %2F or the like")
		}
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Head implements [eventstore.Reader]. It does not know the chain.
func (s *Store) Head(ctx context.Context) (eventstore.Head, error) {
	head := eventstore.Head{Identity: s.identity}
	err := s.retry(ctx, s.patience, func() (bool, error) {
		return false, s.pull(ctx, lastOfAll, func(m message) error {
			head.Position = m.event.Position
			return nil
		})
	})
	if err != nil {
		return eventstore.Head{}, err
	}
	s.saw(head.Position)
	return head, nil
}

// saw notes a position that the ledger has reached.
func (s *Store) saw(p eventstore.Position) {
	for {
		newest := s.newest.Load()
		if uint64(p) <= newest || s.newest.CompareAndSwap(newest, uint64(p)) {
			return
		}
	}
}

// Close implements [eventstore.Store]. Appends that wait for the server to return are given up, with an unknown outcome.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.close()
	s.appends.Wait()
	s.clients.close()
	return nil
}
