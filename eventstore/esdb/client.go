package esdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// grace is how long a call may take to notice that its context is done.
const grace = 2 * time.Second

// A client is the official client for the time of one connection.
//
// When a call finds that the server is gone, the official client asks its own goroutine to search a node again at the next
// call. If that search fails it is closed for ever, other calls block for ever, and in any case the old connection is never
// closed. So a client is given up before that: it says to its logger that a call has failed before it acts on it, and from
// then on no other call is let in. It is closed when the last call has left.
type client struct {
	official *official.Client
	leader   bool // only the leader of a cluster shall answer
	logger   *slog.Logger
	forget   func(*client) // called once it is given up
	unwatch  func()        // ends the watch; nil: there is none yet
	users    atomic.Int64  // the connector counts as one

	// entering is held for reading by calls that ask the official client's goroutine for the connection.
	entering sync.RWMutex
	retired  bool // protected by entering: no other call is let in
}

func newClient(c official.Configuration, logger *slog.Logger, forget func(*client)) (*client, error) {
	made := &client{leader: c.NodePreference == official.NodePreferenceLeader, logger: logger, forget: forget}
	made.users.Store(1)
	c.Logger = made.log
	var err error
	made.official, err = official.NewClient(&c)
	return made, err
}

// log is the official client's logger. It is called with nothing but the error by a call that has failed, before that call
// asks for another connection.
func (c *client) log(level official.LogLevel, text string, args ...any) {
	c.logger.Debug("EventStoreDB's client", "level", level, "message", fmt.Sprintf(text, args...))
	if level != official.LogError || len(args) != 1 {
		return
	}
	if err, ok := args[0].(error); ok && status.Code(err) == codes.Unavailable {
		c.retire()
	}
}

func (c *client) hold() { c.users.Add(1) }

// release ends a hold. The last one closes the client.
func (c *client) release() {
	if c.users.Add(-1) == 0 {
		_ = c.official.Close() // always nil
	}
}

// retire lets no other call in.
func (c *client) retire() {
	c.entering.Lock()
	before := c.retired
	c.retired = true
	c.entering.Unlock()
	if !before {
		c.forget(c)
		if c.unwatch != nil {
			c.unwatch()
		}
		c.release()
	}
}

// watch gives up the client when its connection breaks, also while nobody asks anything: gRPC would connect again by
// itself, to whichever server is there then. It releases the client.
func (c *client) watch(ctx context.Context) {
	defer c.release()
	err := errQuiet
	for errors.Is(err, errQuiet) {
		err = c.drain(ctx, followingIdentity, func(message) error { return nil })
	}
	c.retire()
}

// call runs a call of the official client, turns a panic into an error and ends at the latest shortly after ctx is done,
// whatever the official client does. f must use the context that it is given.
func call[T any](ctx context.Context, c *client, f func(context.Context) (T, error)) (T, error) {
	var none T
	c.entering.RLock()
	if c.retired {
		c.entering.RUnlock()
		c.forget(c)
		return none, unsent{errRetired}
	}
	entered := sync.OnceFunc(c.entering.RUnlock)
	if c.leader {
		// The official client means to say this itself, but puts it where it is not sent.
		ctx = metadata.AppendToOutgoingContext(ctx, "requires-leader", "true")
	}
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		defer entered()
		value, err := protect(func() (T, error) { return f(entry{ctx, entered}) })
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case a := <-done:
		return a.value, a.err
	case <-timer.C:
		// It blocks where no context reaches. Closing makes it panic there, and so it ends.
		_ = c.official.Close() // always nil
		c.forget(c)
		return none, errStuck
	}
}

// An entry is the context of a call. The official client looks at it first when it has its connection.
type entry struct {
	context.Context //nolint:containedctx // it is one
	entered         func()
}

func (e entry) Deadline() (time.Time, bool) {
	e.entered()
	return e.Context.Deadline()
}

// protect turns a panic of the official client, which it has for answers that it does not expect, into an error.
func protect[T any](f func() (T, error)) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("EventStoreDB's client panicked: %v", p)
		}
	}()
	return f()
}
