package esdb

import (
	"context"
	"errors"
	"io"
	"math"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	// silence is how long a server may send nothing while it has something to send.
	silence = 30 * time.Second
	// quiet is how long a subscription that has caught up may get nothing before it is begun anew. A connection that is
	// broken shows earlier, by its keepalive.
	quiet = 2 * time.Minute
	// window is how many events a server looks through for a subscription before it tells how far it is.
	window = 1000
)

// A message is what a server sends to a reader: an event, or how far a subscription is.
type message struct {
	event      *eventstore.Recorded // nil: the message has none
	checkpoint eventstore.Position  // nothing chosen stands between the last event and here, says the server; 0: it says nothing
	caughtUp   bool                 // everything that stood there when the subscription began has come
}

// A source gives the messages of a sequence, at the end io.EOF.
type source func() (message, error)

// An opener begins a sequence, which ends with ctx.
type opener func(ctx context.Context, c *official.Client) (source, error)

func ofStream(stream string, dir official.Direction, from official.StreamPosition, count uint64) opener {
	return func(ctx context.Context, c *official.Client) (source, error) {
		r, err := c.ReadStream(ctx, stream, official.ReadStreamOptions{Direction: dir, From: from}, count)
		if err != nil {
			return nil, err
		}
		return events(r), nil
	}
}

func lastOfStream(stream string) opener {
	return ofStream(stream, official.Backwards, official.End{}, 1)
}

func lastOfAll(ctx context.Context, c *official.Client) (source, error) {
	r, err := c.ReadAll(ctx, official.ReadAllOptions{Direction: official.Backwards, From: official.End{}}, 1)
	if err != nil {
		return nil, err
	}
	return events(r), nil
}

func events(r *official.ReadStream) source {
	return func() (message, error) {
		e, err := r.Recv()
		var coded *official.Error
		switch {
		case err == nil:
			return message{event: recorded(e)}, nil
		case errors.As(err, &coded) && coded.Code() == official.ErrorCodeResourceNotFound:
			return message{}, io.EOF // a stream that does not exist
		}
		return message{}, err
	}
}

// following is a subscription to everything after a position.
func following(after eventstore.Position, filter *official.SubscriptionFilter) opener {
	o := official.SubscribeToAllOptions{From: official.Start{}, Filter: filter, MaxSearchWindow: window, CheckpointInterval: 1}
	if after > 0 {
		// EventStoreDB has two numbers, which differ only for transactions that its gRPC interface does not have.
		o.From = official.Position{Commit: uint64(after), Prepare: uint64(after)}
	}
	return func(ctx context.Context, c *official.Client) (source, error) {
		sub, err := c.SubscribeToAll(ctx, o)
		if err != nil {
			return nil, err
		}
		return news(sub), nil
	}
}

// followingIdentity is a subscription to which ledger the server holds.
func followingIdentity(ctx context.Context, c *official.Client) (source, error) {
	sub, err := c.SubscribeToStream(ctx, identityStream, official.SubscribeToStreamOptions{From: official.Start{}})
	if err != nil {
		return nil, err
	}
	return news(sub), nil
}

func news(sub *official.Subscription) source {
	return func() (message, error) {
		m := sub.Recv()
		switch {
		case m.EventAppeared != nil:
			return message{event: recorded(m.EventAppeared)}, nil
		case m.CheckPointReached != nil:
			return message{checkpoint: eventstore.Position(m.CheckPointReached.Commit)}, nil
		case m.SubscriptionDropped != nil:
			return message{}, dropped(m.SubscriptionDropped.Error)
		}
		return message{caughtUp: m.CaughtUp != nil}, nil
	}
}

// dropped is why a subscription was ended. The server does not end one without a reason.
func dropped(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// recorded is an event in the ledger's words. Links are not followed: they stand for themselves.
func recorded(resolved *official.ResolvedEvent) *eventstore.Recorded {
	e := resolved.OriginalEvent()
	r := &eventstore.Recorded{
		Event:    eventstore.Event{ID: e.EventID, Type: e.EventType, Metadata: e.UserMetadata, Data: e.Data},
		Stream:   e.StreamID,
		Revision: e.EventNumber,
		Position: eventstore.Position(e.Position.Commit),
		Time:     e.CreatedDate.UTC(),
	}
	if metadata, t, ok := unstamp(r.Metadata); ok {
		r.Metadata, r.Time = metadata, t
	}
	return r
}

// drain reads a sequence to its end and hands over what comes. A server that falls silent ends it with errSilent, a
// subscription without news with errQuiet.
func (c *client) drain(ctx context.Context, open opener, take func(message) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watch.Stop()
	next, err := call(ctx, c, func(ctx context.Context) (source, error) { return open(ctx, c.official) })
	patience := silence
	for err == nil {
		var m message
		if m, err = protect(next); err != nil {
			break
		}
		watch.Stop() // the receiver may take its time
		if err := take(m); err != nil {
			return err
		}
		if m.caughtUp {
			patience = quiet
		}
		watch.Reset(patience)
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(context.Cause(ctx), errSilent) && patience == quiet:
		return errQuiet
	case errors.Is(context.Cause(ctx), errSilent):
		return errSilent
	}
	return err
}

// collect reads a short sequence.
func (c *client) collect(ctx context.Context, open opener) (events []eventstore.Recorded, err error) {
	err = c.drain(ctx, open, func(m message) error {
		events = append(events, *m.event)
		return nil
	})
	return events, err
}

// all is more events than a stream has.
const all = math.MaxInt64
