package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/orderledger/orderledger/eventstore"
)

// Sequences read ahead in chunks and hold nothing of Pebble's while their receiver works. Chunks begin small, for those
// who want one event, and grow.
const (
	minChunk      = 16      // events
	maxChunk      = 512     // events
	maxChunkBytes = 1 << 20 // of their records, exceeded by at most one
	maxScan       = 8192    // records that a filter may pass over in one chunk
)

// ReadStream implements [eventstore.Reader].
func (s *Store) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		limit := minChunk
		for {
			events, more, err := s.streamChunk(stream, from, dir, limit)
			if !s.yieldAll(ctx, yield, events, err) || !more {
				return
			}
			last := events[len(events)-1].Revision
			if dir == eventstore.Backward {
				if last == 0 {
					return
				}
				from = last - 1
			} else {
				from = last + 1
			}
			limit = min(2*limit, maxChunk)
		}
	}
}

// ReadAll implements [eventstore.Reader].
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	until := s.head.Load()
	return func(yield func(eventstore.Recorded, error) bool) {
		s.readAll(ctx, after, until, filter, yield)
	}
}

// Subscribe implements [eventstore.Reader].
func (s *Store) Subscribe(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for {
			h := s.head.Load()
			if !s.readAll(ctx, after, h, filter, yield) {
				return
			}
			after = max(after, h.position)
			select { // the next round yields the error
			case <-h.replaced:
			case <-ctx.Done():
			case <-s.closing:
			}
		}
	}
}

// Head implements [eventstore.Reader].
func (s *Store) Head(ctx context.Context) (eventstore.Head, error) {
	if err := s.alive(ctx); err != nil {
		return eventstore.Head{}, err
	}
	return s.durable(), nil
}

func (s *Store) durable() eventstore.Head { return s.headOf(s.head.Load()) }

func (s *Store) headOf(h *head) eventstore.Head {
	return eventstore.Head{Identity: s.identity, Position: h.position, Chain: h.chain}
}

// readAll yields what stands after one position, up to the end of the log as it was at a head, and reports whether to go
// on.
func (s *Store) readAll(ctx context.Context, after eventstore.Position, until *head, filter eventstore.Filter, yield func(eventstore.Recorded, error) bool) bool {
	if !s.yieldAll(ctx, yield, nil, nil) {
		return false
	}
	if after >= until.position {
		return true
	}
	var scan *scanner
	err := s.read(func() (err error) { scan, err = s.locate(after+1, until.end); return err })
	for limit, more := minChunk, true; more; limit = min(2*limit, maxChunk) {
		var events []eventstore.Recorded
		if err == nil {
			events, more, err = s.chunk(scan, filter, limit)
		}
		if !s.yieldAll(ctx, yield, events, err) {
			return false
		}
	}
	return true
}

// yieldAll yields a chunk while the store is open and ctx is not done, and then the error that ended it or the chunk.
// It reports whether to go on.
func (s *Store) yieldAll(ctx context.Context, yield func(eventstore.Recorded, error) bool, events []eventstore.Recorded, err error) bool {
	for _, e := range events {
		if err := s.alive(ctx); err != nil {
			yield(eventstore.Recorded{}, err)
			return false
		}
		if !yield(e, nil) {
			return false
		}
	}
	if err == nil {
		err = s.alive(ctx)
	}
	if err != nil {
		yield(eventstore.Recorded{}, err)
		return false
	}
	return true
}

// locate returns a scanner that reads from a position on, which is no later than the end.
func (s *Store) locate(p eventstore.Position, end address) (*scanner, error) {
	at, err := s.index.near(p)
	if err != nil {
		return nil, err
	}
	if at == 0 {
		at = s.segments.origin().next
	}
	scan := s.segments.scan(at, end)
	for n := range 2 * positionStep {
		at, f, err := scan.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, s.brokenAt(at, err)
		}
		if f.position() > p {
			return nil, corrupt(p, errMissing)
		}
		if f.position() == p {
			// Read anew: what was read ahead before may have given way to what was read for this event.
			scan.at, scan.buf, scan.size = at, nil, smallRead
			return scan, nil
		}
		if n == 0 && f.position()+positionStep <= p {
			break
		}
	}
	return nil, fmt.Errorf("%w: it leads to %v for position %d", errIndex, at, p)
}

// chunk reads events that the filter chooses, and reports whether there may be more.
func (s *Store) chunk(scan *scanner, filter eventstore.Filter, limit int) (events []eventstore.Recorded, more bool, err error) {
	err = s.read(func() error {
		size := 0
		for range maxScan {
			at, f, err := scan.next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return s.brokenAt(at, err)
			}
			if !filter.Match(string(f.stream())) {
				continue
			}
			e, err := slices.Clone(f).event()
			if err != nil {
				return err
			}
			events = append(events, e)
			if size += len(f); len(events) == limit || size >= maxChunkBytes {
				break
			}
		}
		more = true
		return nil
	})
	return events, more, err
}

// brokenAt tells of a place in the log where no event can be read although one was written there.
func (s *Store) brokenAt(at address, err error) error {
	if !isBroken(err) && !errors.Is(err, errEnd) {
		return err
	}
	return fmt.Errorf("%w: %v: %w", eventstore.ErrCorrupt, at, err)
}

// streamChunk reads events of a stream from a revision on, and reports whether there may be more.
func (s *Store) streamChunk(stream string, from uint64, dir eventstore.Direction, limit int) (events []eventstore.Recorded, more bool, err error) {
	err = s.read(func() error {
		found, err := s.index.lookUp(stream)
		if err != nil || found.revision < 0 {
			return err
		}
		end := uint64(found.revision)
		switch {
		case dir == eventstore.Backward:
			from = min(from, end)
			events, err = s.walk(stream, found.tail, from-min(from, uint64(limit)-1), from, dir)
			more = err == nil && events[len(events)-1].Revision > 0
		case from <= end:
			// Up to where the walk begins in any case.
			events, err = s.walk(stream, found.tail, from, min(from|(streamStep-1), end), dir)
			more = err == nil && events[len(events)-1].Revision < end
		}
		return err
	})
	return events, more, err
}

// walk reads the events of a stream between two revisions, both included. As the frames lead, it goes from the last one
// to the first. It returns the events in the asked direction, at least one, and no more than make up a chunk.
func (s *Store) walk(stream string, end tail, first, last uint64, dir eventstore.Direction) ([]eventstore.Recorded, error) {
	at, err := s.index.waypoint(stream, end, last)
	if err != nil {
		return nil, err
	}
	var (
		events  []eventstore.Recorded
		size    int
		durable = s.head.Load().end
	)
	for revision := min(last|(streamStep-1), uint64(end.revision)); ; revision-- {
		e, previous, err := s.member(stream, revision, at, durable)
		if err != nil {
			return nil, err
		}
		at = previous
		if revision <= last {
			events = append(events, e)
			size += len(e.Data) + len(e.Metadata)
		}
		if size > maxChunkBytes && len(events) > 1 && dir == eventstore.Forward {
			size -= len(events[0].Data) + len(events[0].Metadata)
			events = events[1:] // for the next chunk
		}
		if revision == first || size > maxChunkBytes && dir == eventstore.Backward {
			break
		}
	}
	if dir == eventstore.Forward {
		slices.Reverse(events)
	}
	return events, nil
}

// member reads the event of a stream that stands at an address, and the address of the one before it.
func (s *Store) member(stream string, revision uint64, at, end address) (e eventstore.Recorded, previous address, err error) {
	f, err := s.segments.frame(at, end)
	if err != nil {
		return e, 0, err
	}
	if e, err = f.event(); err != nil {
		return e, 0, err
	}
	if e.Stream != stream || e.Revision != revision {
		return e, 0, corrupt(e.Position, fmt.Errorf("%w: revision %d of stream %q stands where revision %d of %q was looked for",
			errElsewhere, e.Revision, e.Stream, revision, stream))
	}
	return e, f.previous(), nil
}

// event reads one event that the index says exists.
func (s *Store) event(stream string, revision uint64) (eventstore.Recorded, error) {
	events, _, err := s.streamChunk(stream, revision, eventstore.Backward, 1)
	if err == nil && (len(events) == 0 || events[0].Revision != revision) {
		err = corrupt(0, fmt.Errorf("stream %q lacks revision %d", stream, revision))
	}
	if err != nil {
		return eventstore.Recorded{}, err
	}
	return events[0], nil
}

// read runs f while the files are open.
func (s *Store) read(f func() error) error {
	s.reading.RLock()
	defer s.reading.RUnlock()
	if s.gone {
		return eventstore.ErrClosed
	}
	return damaged(f())
}

var errMissing = errors.New("the event is missing")
