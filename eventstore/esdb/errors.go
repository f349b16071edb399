package esdb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	firstPause   = 20 * time.Millisecond
	longestPause = 2 * time.Second
)

var (
	// errStop tells that a sequence has what it wants.
	errStop = errors.New("the receiver has left")
	// errSilent tells that the server has not answered in time.
	errSilent = errors.New("the server does not answer")
	// errQuiet tells that a subscription has had no news for so long that it is begun anew.
	errQuiet = errors.New("the subscription has no news")
	// errStuck tells that the official client has not returned although its context is done. It is closed.
	errStuck = errors.New("the client of EventStoreDB does not return")
	// errRetired tells that a call was not begun because its client had just been given up.
	errRetired = errors.New("the connection was given up")
)

// A final error is one that trying again does not change.
type final struct{ error }

func (e final) Unwrap() error { return e.error }

// An unsent error tells that a call has not reached the server.
type unsent struct{ error }

func (e unsent) Unwrap() error { return e.error }

// translate puts an error of the official client into the ledger's words, and marks it as final if it is. The client
// tells most by a code of its own, some by gRPC's.
func translate(err error) error {
	if errors.As(err, new(final)) {
		return err
	}
	var e *official.Error
	if errors.As(err, &e) {
		switch e.Code() {
		case official.ErrorCodeStreamDeleted:
			return final{fmt.Errorf("%w: %w", eventstore.ErrCorrupt, err)} // nobody deletes events of a ledger
		case official.ErrorCodeUnauthenticated, official.ErrorCodeAccessDenied, official.ErrorCodeUnsupportedFeature:
			return final{err}
		}
	}
	switch status.Code(cause(err)) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.InvalidArgument:
		return final{err}
	}
	return err
}

// broken reports whether an error tells that the connection or the node behind it is of no use. The official client is not
// given time to find another one by itself: when it fails to, it stays closed for ever.
func broken(err error) bool {
	if errors.Is(err, errSilent) {
		return true
	}
	switch status.Code(cause(err)) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	}
	var e *official.Error
	return errors.As(err, &e) && e.Code() == official.ErrorCodeConnectionClosed
}

// redirected reports whether a node has said that another one is the leader. The official client has turned to that one.
func redirected(err error) bool {
	var e *official.Error
	return errors.As(err, &e) && e.Code() == official.ErrorCodeNotLeader
}

// cause is what the official client has wrapped: what gRPC said.
func cause(err error) error {
	var e *official.Error
	for errors.As(err, &e) && e.Err() != nil {
		err = e.Err()
	}
	return err
}

// retry calls f until it returns no error or a final one, for so long without its having moved; 0: until ctx is done.
func (s *Store) retry(ctx context.Context, patience time.Duration, f func() (moved bool, err error)) error {
	began, pause := time.Now(), firstPause
	for {
		if s.closing.Err() != nil {
			return eventstore.ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		moved, err := f()
		switch {
		case err == nil || errors.Is(err, errStop) || errors.As(err, new(final)):
			return err
		case s.closing.Err() != nil:
			return eventstore.ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		case moved:
			began, pause = time.Now(), firstPause
		}
		if patience > 0 && time.Since(began) >= patience {
			return fmt.Errorf("%w: EventStoreDB fails: %w", eventstore.ErrUnreachable, err)
		}
		s.pause(ctx, pause, err)
		pause = min(2*pause, longestPause)
	}
}

// pause waits, less a random part, or until ctx is done or the store is closed.
func (s *Store) pause(ctx context.Context, d time.Duration, because error) {
	s.logger.DebugContext(ctx, "asking EventStoreDB again", "error", because)
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.closing.Done():
	case <-timer.C:
	}
}
