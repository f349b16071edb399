package esdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/orderledger/orderledger/eventstore"
)

// connectLimit bounds the search for a node: the official client asks every seed for up to five seconds.
const connectLimit = 20 * time.Second

// redirections is how often a new client is led on to the leader of the cluster.
const redirections = 3

// A connector hands out the client of the present connection, and makes a new one when that is given up.
type connector struct {
	configuration official.Configuration
	logger        *slog.Logger
	connecting    chan struct{} // held by who connects

	identify identifier
	identity *eventstore.Identity // what every server must hold; nil: there was none yet. Belongs to who connects

	mu      sync.Mutex // protects what follows
	current *client    // nil: there is none
	closed  bool
	failure error     // of the last attempt to connect
	failed  time.Time // when that was

	watches sync.WaitGroup // is added to only while not closed
}

func newConnector(c official.Configuration, who identifier, logger *slog.Logger) *connector {
	// One round over all seeds for each client: what follows a failure is decided here.
	c.MaxDiscoverAttempts, c.DiscoveryInterval = 1, 1
	return &connector{configuration: c, identify: who, logger: logger, connecting: make(chan struct{}, 1)}
}

// client returns a connected client, which the caller releases.
func (k *connector) client(ctx context.Context) (*client, error) {
	began := time.Now()
	if c, err := k.take(began); c != nil || err != nil {
		return c, err
	}
	select {
	case k.connecting <- struct{}{}:
		defer func() { <-k.connecting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c, err := k.take(began); c != nil || err != nil {
		return c, err // of who connected before
	}
	c, err := k.connect(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err != nil:
		if ctx.Err() == nil { // or it failed because this caller left
			k.failure, k.failed = err, time.Now()
		}
		return nil, err
	case k.closed:
		c.release()
		return nil, eventstore.ErrClosed
	}
	watching, cancel := context.WithCancel(context.Background())
	c.unwatch = cancel
	c.hold() // for the watch
	k.watches.Go(func() { c.watch(watching) })
	c.hold() // for the caller
	k.current = c
	return c, nil
}

// take returns the present client, held for the caller; an error if the last attempt to connect has failed since the
// caller began; or neither.
func (k *connector) take(began time.Time) (*client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return nil, eventstore.ErrClosed
	case k.current != nil:
		k.current.hold()
		return k.current, nil
	case k.failure != nil && k.failed.After(began):
		return nil, k.failure
	}
	return nil, nil
}

// connect makes a client that is connected to the right ledger.
func (k *connector) connect(ctx context.Context) (_ *client, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	c, err := newClient(k.configuration, k.logger, k.forget)
	if err != nil {
		return nil, final{err}
	}
	defer func() {
		if err != nil && !errors.Is(err, errStuck) {
			c.retire()
		}
	}()
	version, err := call(ctx, c, func(context.Context) (*official.ServerVersion, error) { return c.official.GetServerVersion() })
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", translate(err))
	}
	if version.Major < 23 || version.Major == 23 && version.Minor < 10 {
		return nil, final{fmt.Errorf("the server is EventStoreDB %d.%d, and 23.10 or newer is needed", version.Major, version.Minor)}
	}
	got, err := k.identify(ctx, c, k.identity == nil)
	for i := 0; i < redirections && redirected(err); i++ {
		got, err = k.identify(ctx, c, k.identity == nil)
	}
	switch {
	case err != nil:
		return nil, err
	case k.identity == nil:
		k.identity = &got
	case got != *k.identity:
		return nil, final{fmt.Errorf("the server holds ledger %s in incarnation %d, and not %s in incarnation %d", got.ID, got.Incarnation, k.identity.ID, k.identity.Incarnation)}
	}
	return c, nil
}

// forget makes sure that a client that was given up is not handed out any more.
func (k *connector) forget(c *client) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == c {
		k.current = nil
	}
}

// close gives up the present client, which is closed when its last user has left.
func (k *connector) close() {
	k.mu.Lock()
	c := k.current
	k.closed = true
	k.mu.Unlock()
	if c != nil {
		c.retire()
	}
	k.watches.Wait()
}
