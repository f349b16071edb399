package esdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orderledger/orderledger/eventstore"
)

// appendLimit bounds one attempt to append.
const appendLimit = 10 * time.Second

// Append implements [eventstore.Appender]. It repeats an append whose answer was lost, unless expected is Any or
// StreamExists, where that might store the events twice.
//
// A server does not tell a repetition from a first append. So what was appended is read again: Repeated is false only for
// events that stand there as they were given.
func (s *Store) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	if err := eventstore.Validate(stream, expected, events); err != nil {
		return eventstore.Appended{}, err
	}
	if err := checkMetadata(events); err != nil {
		return eventstore.Appended{}, err
	}
	p := newProposal(stream, expected, events)
	p.before = eventstore.Position(s.newest.Load())
	p.trusting = eventstore.Internal(stream) // the server may keep its newest event only, and that may be another one by then
	return s.propose(ctx, p)
}

// propose appends what is proposed, and tries again as Append does.
func (s *Store) propose(ctx context.Context, p *proposal) (eventstore.Appended, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return eventstore.Appended{}, eventstore.ErrClosed
	}
	s.appends.Add(1)
	s.mu.Unlock()
	defer s.appends.Done()

	var result eventstore.Appended
	sent := false
	err := s.retry(ctx, s.patience, func() (bool, error) {
		err := s.with(ctx, func(c *client) (err error) {
			sent = true
			result, err = p.append(ctx, c)
			return err
		})
		if err != nil && ctx.Err() == nil && !p.repeatable() && !errors.As(err, new(unsent)) {
			err = final{err}
		}
		return false, err
	})
	switch {
	case err == nil:
		s.saw(result.Position)
		return result, nil
	case errors.Is(err, eventstore.ErrClosed) && sent:
		// The ledger was closed while the outcome was being found out.
		return eventstore.Appended{}, errors.New("the ledger was closed before EventStoreDB had answered")
	case errors.Is(err, eventstore.ErrUnreachable) && sent:
		// The error is not wrapped: it would say that nothing was stored.
		return eventstore.Appended{}, fmt.Errorf("append to %q: the outcome is unknown: %v", p.stream, err) //nolint:errorlint // see above
	}
	return eventstore.Appended{}, err
}

// A proposal is what is to be appended.
type proposal struct {
	stream   string
	expected eventstore.Expected
	events   []eventstore.Event
	data     []official.EventData
	before   eventstore.Position // a position of the ledger before the append
	trusting bool                // what is acknowledged is not read again
}

func newProposal(stream string, expected eventstore.Expected, events []eventstore.Event) *proposal {
	p := &proposal{stream: stream, expected: expected, events: events, data: make([]official.EventData, len(events))}
	for i, e := range events {
		p.data[i] = official.EventData{EventID: e.ID, EventType: e.Type, ContentType: official.ContentTypeJson, Data: e.Data, Metadata: e.Metadata}
	}
	return p
}

// repeatable reports whether the server recognises the append when it comes again.
func (p *proposal) repeatable() bool {
	return p.expected >= 0 || p.expected == eventstore.NoStream
}

// append tries once.
func (p *proposal) append(ctx context.Context, c *client) (eventstore.Appended, error) {
	written, err := c.append(ctx, p.stream, revision(p.expected), p.data)
	switch {
	case refused(err):
		return p.settle(ctx, c)
	case err != nil:
		return eventstore.Appended{}, err
	case p.trusting || !p.repeatable():
		a := eventstore.Appended{Revision: written.NextExpectedVersion, Position: eventstore.Position(written.CommitPosition)}
		a.Repeated = a.Position <= p.before
		return a, nil
	}
	a, stands, err := p.find(ctx, c)
	if err == nil && !stands {
		err = fmt.Errorf("stream %q does not hold what was acknowledged", p.stream)
	}
	return a, err
}

// settle tells a conflict from a repetition that the server has not recognised.
func (p *proposal) settle(ctx context.Context, c *client) (eventstore.Appended, error) {
	conflict := &eventstore.Conflict{Stream: p.stream, Expected: p.expected, Actual: eventstore.NoStream}
	last, err := c.collect(ctx, lastOfStream(p.stream))
	if err != nil {
		return eventstore.Appended{}, err
	}
	if len(last) > 0 {
		conflict.Actual = eventstore.At(last[0].Revision)
	}
	if p.repeatable() && conflict.Actual-p.expected >= eventstore.Expected(len(p.events)) {
		if a, stands, err := p.find(ctx, c); stands || err != nil {
			return a, err
		}
	}
	return eventstore.Appended{}, final{conflict}
}

// find looks whether the events stand where they should. They are told as repeated if they stood there before or are not
// the same in all but their ids.
func (p *proposal) find(ctx context.Context, c *client) (a eventstore.Appended, stands bool, err error) {
	from := uint64(p.expected + 1)
	found, err := c.collect(ctx, ofStream(p.stream, official.Forwards, official.Revision(from), uint64(len(p.events))))
	if err != nil || len(found) != len(p.events) {
		return a, false, err
	}
	for i, e := range p.events {
		f := found[i]
		if f.ID != e.ID || f.Revision != from+uint64(i) {
			return a, false, nil
		}
		if f.Type != e.Type || !bytes.Equal(f.Data, e.Data) || !bytes.Equal(f.Metadata, e.Metadata) {
			a.Repeated = true
		}
	}
	last := found[len(found)-1]
	a.Revision, a.Position = last.Revision, last.Position
	a.Repeated = a.Repeated || a.Position <= p.before
	return a, true, nil
}

func revision(e eventstore.Expected) official.ExpectedRevision {
	switch e {
	case eventstore.NoStream:
		return official.NoStream{}
	case eventstore.StreamExists:
		return official.StreamExists{}
	case eventstore.Any:
		return official.Any{}
	}
	return official.Revision(uint64(e))
}

// append asks the server once to append.
func (c *client) append(ctx context.Context, stream string, expected official.ExpectedRevision, events []official.EventData) (*official.WriteResult, error) {
	ctx, cancel := context.WithTimeout(ctx, appendLimit)
	defer cancel()
	written, err := call(ctx, c, func(ctx context.Context) (*official.WriteResult, error) {
		return c.official.AppendToStream(ctx, stream, official.AppendToStreamOptions{ExpectedRevision: expected}, events...)
	})
	if status.Code(cause(err)) == codes.InvalidArgument {
		if strings.Contains(strings.ToLower(err.Error()), "append size") {
			return nil, final{fmt.Errorf("%w for this server: %w", eventstore.ErrTooLarge, err)}
		}
		return nil, final{fmt.Errorf("%w: %w", eventstore.ErrInvalid, err)}
	}
	return written, err
}

// refused reports whether a server has refused an append because the stream is not as expected.
func refused(err error) bool {
	var e *official.Error
	return errors.As(err, &e) && e.Code() == official.ErrorCodeWrongExpectedVersion
}
