package esdb

import (
	"context"
	"errors"
	"iter"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/orderledger/orderledger/eventstore"
)

// with runs f with a connected client, and gives up the connection if f shows it to be broken.
func (s *Store) with(ctx context.Context, f func(c *client) error) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	leave := context.AfterFunc(s.closing, cancel)
	c, err := s.clients.client(waiting)
	leave()
	if err != nil {
		return unsent{err}
	}
	defer c.release()
	err = f(c)
	if err == nil || errors.Is(err, errStop) {
		return err
	}
	if ctx.Err() == nil && broken(err) {
		c.retire()
	}
	return translate(err)
}

// pull reads a sequence once, until it ends, take returns an error, or ctx is done or the store closed.
func (s *Store) pull(ctx context.Context, open opener, take func(message) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	return s.with(ctx, func(c *client) error {
		return c.drain(ctx, open, func(m message) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return take(m)
		})
	})
}

// ReadStream implements [eventstore.Reader].
func (s *Store) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		done := false
		end(yield, s.retry(ctx, s.patience, func() (moved bool, err error) {
			if done || dir == eventstore.Forward && from > all {
				return false, nil
			}
			err = s.pull(ctx, streamFrom(stream, from, dir), func(m message) error {
				moved = true
				if !yield(*m.event, nil) {
					return errStop
				}
				switch r := m.event.Revision; {
				case dir == eventstore.Forward:
					from = r + 1
				case r == 0:
					done = true // should the end not come any more
				default:
					from = r - 1
				}
				return nil
			})
			return moved, err
		}))
	}
}

func streamFrom(stream string, from uint64, dir eventstore.Direction) opener {
	switch {
	case dir == eventstore.Forward:
		return ofStream(stream, official.Forwards, official.Revision(from), all)
	case from > all:
		return ofStream(stream, official.Backwards, official.End{}, all)
	}
	return ofStream(stream, official.Backwards, official.Revision(from), all)
}

// ReadAll implements [eventstore.Reader]. The server leaves out what the filter does not choose.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	head, err := s.Head(ctx)
	return func(yield func(eventstore.Recorded, error) bool) {
		if err == nil && after < head.Position {
			// The client reads with a filter only when it subscribes.
			f := follower{filter: filter, last: after, resume: after, until: head.Position, yield: yield}
			err = s.retry(ctx, s.patience, func() (bool, error) { return f.run(ctx, s) })
		}
		if err == nil && s.closing.Err() != nil {
			err = eventstore.ErrClosed
		}
		end(yield, err)
	}
}

// Subscribe implements [eventstore.Reader].
func (s *Store) Subscribe(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		f := follower{filter: filter, last: after, resume: after, yield: yield}
		end(yield, s.retry(ctx, 0, func() (bool, error) { return f.run(ctx, s) }))
	}
}

// end yields the error with which a sequence ends.
func end(yield func(eventstore.Recorded, error) bool, err error) {
	if err != nil && !errors.Is(err, errStop) {
		yield(eventstore.Recorded{}, err)
	}
}

// A follower hands over the events after a position, across as many subscriptions as it takes.
type follower struct {
	filter eventstore.Filter
	until  eventstore.Position // no event after it is wanted; 0: all are
	yield  func(eventstore.Recorded, error) bool

	last   eventstore.Position // of the event that was handed over last, or where it began
	resume eventstore.Position // a new subscription begins after it
	told   eventstore.Position // the checkpoint that came last
}

// run follows one subscription. It ends with errStop when there is no more to come.
func (f *follower) run(ctx context.Context, s *Store) (moved bool, err error) {
	f.told = 0
	err = s.pull(ctx, following(f.resume, serverFilter(f.filter)), func(m message) error {
		moved = moved || m.event != nil || m.checkpoint > 0
		return f.take(m)
	})
	return moved, err
}

func (f *follower) take(m message) error {
	switch {
	case m.event != nil:
		return f.event(m.event)
	case m.checkpoint > 0:
		// Servers have sent a checkpoint ahead of an event that it should have followed. Each is trusted when the next one
		// has come.
		f.resume = max(f.resume, f.told)
		f.told = m.checkpoint
	}
	if f.until > 0 && (m.caughtUp || f.resume >= f.until) {
		return errStop
	}
	return nil
}

func (f *follower) event(e *eventstore.Recorded) error {
	if e.Position <= f.last {
		return nil // it came in the subscription before
	}
	if f.until > 0 && e.Position > f.until {
		return errStop
	}
	f.last, f.resume = e.Position, max(f.resume, e.Position)
	if f.filter.Match(e.Stream) && !f.yield(*e, nil) {
		return errStop
	}
	if e.Position == f.until {
		return errStop
	}
	return nil
}
