package esdb

import (
	"context"
	"errors"
	"fmt"
	"iter"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/orderledger/orderledger/eventstore"
)

// ErrTaken is returned by OpenCopy for a server that holds something else.
var ErrTaken = errors.New("the server is not empty")

// A Copy is a ledger that is being copied to a server, event by event. Nobody can open it as a ledger before it is
// finished. It belongs to one goroutine.
type Copy struct {
	store *Store
}

// OpenCopy connects to a server that is empty but for system streams, or holds the unfinished copy of the same ledger in
// the same incarnation.
func OpenCopy(ctx context.Context, c Config, of eventstore.Identity) (*Copy, error) {
	configuration, err := parse(c.ConnectionString)
	if err != nil {
		return nil, err
	}
	store, err := connect(ctx, c, configuration, func(ctx context.Context, client *client, _ bool) (eventstore.Identity, error) {
		of.Format = format
		return of, claim(ctx, client, dataOf(of))
	})
	if err != nil {
		return nil, err
	}
	return &Copy{store}, nil
}

// claim makes sure that the server holds the unfinished copy of a ledger.
func claim(ctx context.Context, c *client, of identityData) error {
	last, err := c.collect(ctx, lastOfStream(identityStream))
	if err != nil {
		return fmt.Errorf("reading which ledger it is: %w", err)
	}
	if len(last) == 0 {
		if err := c.checkEmpty(ctx); err != nil {
			return err
		}
		return c.enter(ctx, official.NoStream{}, copyingType, of)
	}
	d, err := decodeIdentity(&last[0])
	switch {
	case err != nil:
		return final{err}
	case last[0].Type != copyingType:
		return final{fmt.Errorf("%w: it holds ledger %s, incarnation %d", ErrTaken, d.Ledger, d.Incarnation)}
	case d != of:
		return final{fmt.Errorf("%w: it holds the unfinished copy of ledger %s, incarnation %d", ErrTaken, d.Ledger, d.Incarnation)}
	}
	return nil
}

// checkEmpty looks for events in streams that are not the system's.
func (c *client) checkEmpty(ctx context.Context) error {
	any := &official.SubscriptionFilter{Type: official.StreamFilterType, Regex: `^[^$]`}
	err := c.drain(ctx, following(0, any), func(m message) error {
		switch {
		case m.event != nil:
			return final{fmt.Errorf("%w: it holds events that belong to no ledger, in stream %q for one", ErrTaken, m.event.Stream)}
		case m.caughtUp:
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// ReadAll does what [Store.ReadAll] does, for what was copied so far.
func (c *Copy) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return c.store.ReadAll(ctx, after, filter)
}

// stampSize is more than [stamp] adds to metadata that are a JSON object.
const stampSize = 64

// Add adds events in the order in which they stand in the ledger, behind those that were added before, and returns when
// they are durable.
func (c *Copy) Add(ctx context.Context, events []eventstore.Recorded) error {
	for len(events) > 0 {
		n, size := 0, 0
		for n < len(events) && n < eventstore.MaxEvents && events[n].Stream == events[0].Stream {
			e := &events[n]
			size += len(e.ID) + len(e.Type) + len(e.Metadata) + len(e.Data) + stampSize
			if n > 0 && size > eventstore.MaxAppend {
				break
			}
			n++
		}
		if err := c.add(ctx, events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// add adds events of one stream.
func (c *Copy) add(ctx context.Context, recorded []eventstore.Recorded) error {
	first := &recorded[0]
	expected := eventstore.NoStream
	if first.Revision > 0 {
		expected = eventstore.At(first.Revision - 1)
	}
	plain := make([]eventstore.Event, len(recorded))
	stamped := make([]eventstore.Event, len(recorded))
	for i := range recorded {
		plain[i], stamped[i] = recorded[i].Event, recorded[i].Event
		stamped[i].Metadata = stamp(recorded[i].Metadata, recorded[i].Time)
	}
	if err := eventstore.Validate(first.Stream, expected, stamped); err != nil {
		return fmt.Errorf("copying position %d: %w", first.Position, err)
	}
	p := newProposal(first.Stream, expected, stamped)
	p.events = plain
	p.trusting = true // who copies reads everything again at the end
	if _, err := c.store.propose(ctx, p); err != nil {
		return fmt.Errorf("copying revision %d of stream %q: %w", first.Revision, first.Stream, err)
	}
	return nil
}

// Finish makes what was copied a ledger, in a new incarnation that begins at a position, with the chain up to there.
func (c *Copy) Finish(ctx context.Context, after eventstore.Position, chain eventstore.Hash) error {
	_, err := c.store.BeginIncarnation(ctx, after, chain)
	return err
}

// Close leaves the copy as it is.
func (c *Copy) Close() error { return c.store.Close() }
