package mirror

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/orderledger/orderledger/eventstore"
)

// Head tells which ledger is mirrored, and position and hash of the newest event that readers see, which ends an append.
// Before the first contact it returns [ErrUnreached].
func (m *Mirror) Head(ctx context.Context) (eventstore.Head, error) {
	if err := m.alive(ctx); err != nil {
		return eventstore.Head{}, err
	}
	s, _ := m.snapshot()
	if !s.known {
		return eventstore.Head{}, ErrUnreached
	}
	return s.head(), nil
}

func (s *state) head() eventstore.Head {
	return eventstore.Head{Identity: s.identity, Position: s.shown, Chain: s.shownChain}
}

// ReadStream implements [eventstore.Reader]. It yields [ErrBranched] when a new incarnation begins.
func (m *Mirror) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	const forward = `SELECT position, chain, record FROM events WHERE stream = ? AND revision >= ? AND position <= ? ORDER BY revision LIMIT ?`
	const backward = `SELECT position, chain, record FROM events WHERE stream = ? AND revision <= ? AND position <= ? ORDER BY revision DESC LIMIT ?`
	query := forward
	if dir == eventstore.Backward {
		query = backward
	}
	s, _ := m.snapshot()
	name := []byte(stream)
	return func(yield func(eventstore.Recorded, error) bool) {
		for {
			chunk, full, err := m.chunk(ctx, s, query, name, int64(min(from, uint64(maxPosition))), int64(s.shown))
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			for i := range chunk {
				if !yield(chunk[i], nil) {
					return
				}
			}
			if !full {
				return
			}
			switch last := chunk[len(chunk)-1].Revision; {
			case dir == eventstore.Forward:
				from = last + 1
			case last == 0:
				return
			default:
				from = last - 1
			}
		}
	}
}

// ReadAll implements [eventstore.Reader]. It yields [ErrBranched] when a new incarnation begins.
func (m *Mirror) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	s, _ := m.snapshot()
	return func(yield func(eventstore.Recorded, error) bool) {
		if err := m.between(ctx, s, &after, s.shown, filter, yield); err != nil && !errors.Is(err, errStop) {
			yield(eventstore.Recorded{}, err)
		}
	}
}

// Subscribe implements [eventstore.Reader]. It yields [ErrBranched] when a new incarnation begins.
func (m *Mirror) Subscribe(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		s, moved := m.snapshot()
		for began := s; ; s, moved = m.snapshot() {
			if !began.known { // it could not see anything yet
				began = s
			}
			err := m.between(ctx, began, &after, s.shown, filter, yield)
			if err == nil {
				err = m.wait(ctx, moved)
			}
			if err != nil {
				if !errors.Is(err, errStop) {
					yield(eventstore.Recorded{}, err)
				}
				return
			}
		}
	}
}

// wait waits until the state has changed.
func (m *Mirror) wait(ctx context.Context, moved <-chan struct{}) error {
	select {
	case <-moved:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-m.closing:
		return eventstore.ErrClosed
	}
}

// between yields what the filter chooses after a position, which it moves on, up to another. It returns errStop when the
// receiver wants no more.
func (m *Mirror) between(ctx context.Context, began state, after *eventstore.Position, end eventstore.Position, filter eventstore.Filter,
	yield func(eventstore.Recorded, error) bool,
) error {
	for {
		chunk, full, err := m.chunk(ctx, began, `SELECT position, chain, record FROM events WHERE position > ? AND position <= ? ORDER BY position LIMIT ?`,
			int64(min(*after, maxPosition)), int64(end))
		if err != nil {
			return err
		}
		for i := range chunk {
			e := &chunk[i]
			if filter.Match(e.Stream) && !yield(*e, nil) {
				return errStop
			}
			*after = e.Position
		}
		if !full {
			return nil
		}
	}
}

// chunk runs a query for events, the last argument of which is how many may come, for a sequence that began in some
// state. It reports whether there may be more. No transaction is open when it returns, so that slow receivers hinder nobody.
func (m *Mirror) chunk(ctx context.Context, began state, query string, args ...any) (_ []eventstore.Recorded, full bool, err error) {
	if err := m.alive(ctx); err != nil {
		return nil, false, err
	}
	events, full, err := m.query(ctx, query, append(args, m.limits.chunk)...)
	if err != nil {
		return nil, false, m.readError(ctx, err)
	}
	if s, _ := m.snapshot(); began.known && s.identity.Incarnation != began.identity.Incarnation {
		return nil, false, fmt.Errorf("%w: incarnation %d was being read, and now it is %d", ErrBranched, began.identity.Incarnation, s.identity.Incarnation)
	}
	return events, full, nil
}

func (m *Mirror) query(ctx context.Context, query string, args ...any) (events []eventstore.Recorded, full bool, err error) {
	rows, err := m.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = rows.Close() }() // its error is read below
	size := 0
	for rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return nil, false, err
		}
		r, err := e.recorded()
		if err != nil {
			return nil, false, err
		}
		events = append(events, r)
		if size += len(e.record); size >= m.limits.chunkBytes {
			return events, true, nil
		}
	}
	return events, len(events) == m.limits.chunk, rows.Err()
}

// readError names why a read failed: the mirror was closed meanwhile, or the context is done.
func (m *Mirror) readError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if err := m.alive(ctx); err != nil {
		return err
	}
	return fmt.Errorf("reading the mirror in %s: %w", m.path, err)
}

// Wait waits until readers see the ledger's events up to a position of an incarnation, which are then verified and durable
// here. It returns [ErrBranched] if the mirror stands in a later incarnation, where that position may be
// another event's. With a context that is done it tells whether that is so now.
func (m *Mirror) Wait(ctx context.Context, incarnation uint32, position eventstore.Position) error {
	return m.await(ctx, incarnation, func(s *state) bool { return s.shown >= position })
}

// await returns when the state of an incarnation is as wanted.
func (m *Mirror) await(ctx context.Context, incarnation uint32, wanted func(*state) bool) error {
	for {
		s, moved := m.snapshot()
		switch {
		case s.known && s.identity.Incarnation > incarnation:
			return fmt.Errorf("%w: it is in incarnation %d, asked was for %d", ErrBranched, s.identity.Incarnation, incarnation)
		case s.known && s.identity.Incarnation == incarnation && wanted(&s):
			return nil
		}
		if err := m.wait(ctx, moved); err != nil {
			return err
		}
	}
}

// errStop tells that the receiver wants no more.
var errStop = errors.New("the receiver has left")
