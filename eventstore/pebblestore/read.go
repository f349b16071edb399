package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"

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
	until := s.head.Load().position
	return func(yield func(eventstore.Recorded, error) bool) {
		s.readAll(ctx, after, until, filter, yield)
	}
}

// Subscribe implements [eventstore.Reader].
func (s *Store) Subscribe(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for {
			h := s.head.Load()
			if !s.readAll(ctx, after, h.position, filter, yield) {
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

func (s *Store) durable() eventstore.Head {
	h := s.head.Load()
	return eventstore.Head{Identity: s.identity, Position: h.position, Chain: h.chain}
}

// readAll yields what stands after one position, up to another one, and reports whether to go on.
func (s *Store) readAll(ctx context.Context, after, until eventstore.Position, filter eventstore.Filter, yield func(eventstore.Recorded, error) bool) bool {
	if !s.yieldAll(ctx, yield, nil, nil) {
		return false
	}
	for limit := minChunk; after < until; limit = min(2*limit, maxChunk) {
		events, end, err := s.chunk(after, until, filter, limit)
		if !s.yieldAll(ctx, yield, events, err) {
			return false
		}
		after = end
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

// chunk reads events after one position up to another one that the filter chooses, and returns how far it came.
func (s *Store) chunk(after, until eventstore.Position, filter eventstore.Filter, limit int) (events []eventstore.Recorded, end eventstore.Position, err error) {
	err = s.read(func() error {
		it, err := s.records(after+1, until)
		if err != nil {
			return err
		}
		defer func() { _ = it.Close() }() // its error is read below
		size := 0
		scanned := 0
		for ok := it.First(); ok; ok = it.Next() {
			p, record, err := recordAt(it)
			if err != nil {
				return err
			}
			stream, err := recordStream(record)
			if err != nil {
				return corrupt(p, err)
			}
			if filter.Match(string(stream)) {
				e, err := decodeRecord(p, bytes.Clone(record))
				if err != nil {
					return err
				}
				events = append(events, e)
				size += len(record)
			}
			end = p
			if scanned++; len(events) == limit || size >= maxChunkBytes || scanned == maxScan {
				return nil
			}
		}
		end = until
		return it.Error()
	})
	return events, end, err
}

// streamChunk reads events of a stream from a revision on, and reports whether there may be more.
func (s *Store) streamChunk(stream string, from uint64, dir eventstore.Direction, limit int) (events []eventstore.Recorded, more bool, err error) {
	err = s.read(func() error {
		until := s.head.Load().position
		index, err := s.index(stream)
		if err != nil {
			return err
		}
		defer func() { _ = index.Close() }() // its error is read below
		records, err := s.records(0, until)
		if err != nil {
			return err
		}
		defer func() { _ = records.Close() }()

		step, ok := index.Next, false
		if dir == eventstore.Backward {
			step = index.Prev
			if from == eventstore.End {
				ok = index.Last()
			} else {
				ok = index.SeekLT(indexKey(stream, from+1))
			}
		} else {
			ok = index.SeekGE(indexKey(stream, from))
		}
		size := 0
		for ; ok; ok = step() {
			_, revision, err := parseIndexKey(index.Key())
			if err != nil {
				return corrupt(0, err)
			}
			p, err := parsePositionValue(index.Value())
			if err != nil {
				return corrupt(0, fmt.Errorf("stream %q, revision %d: %w", stream, revision, err))
			}
			if p > until { // not durable yet
				if dir == eventstore.Forward {
					break
				}
				continue
			}
			e, err := lookUp(records, p)
			if err != nil {
				return err
			}
			if e.Stream != stream || e.Revision != revision {
				return corrupt(p, fmt.Errorf("stream %q, revision %d point to revision %d of %q", stream, revision, e.Revision, e.Stream))
			}
			events = append(events, e)
			size += len(e.Data) + len(e.Metadata)
			if len(events) == limit || size >= maxChunkBytes {
				more = true
				return nil
			}
		}
		return index.Error()
	})
	return events, more, err
}

// event reads one event that the index says exists.
func (s *Store) event(stream string, revision uint64) (eventstore.Recorded, error) {
	events, _, err := s.streamChunk(stream, revision, eventstore.Forward, 1)
	if err == nil && (len(events) == 0 || events[0].Revision != revision) {
		err = corrupt(0, fmt.Errorf("stream %q lacks revision %d", stream, revision))
	}
	if err != nil {
		return eventstore.Recorded{}, err
	}
	return events[0], nil
}

// lastRevision is that of the stream's newest event in Pebble, or -1.
func (s *Store) lastRevision(stream string) (int64, error) {
	last := int64(-1)
	err := s.read(func() error {
		// Most streams that are asked for are new. The filter of this one key saves them a search.
		_, closer, err := s.db.Get(indexKey(stream, 0))
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := closer.Close(); err != nil {
			return err
		}
		it, err := s.index(stream)
		if err != nil {
			return err
		}
		defer func() { _ = it.Close() }() // its error is read below
		if it.Last() {
			_, revision, err := parseIndexKey(it.Key())
			if err != nil {
				return corrupt(0, err)
			}
			last = int64(revision)
		}
		return it.Error()
	})
	return last, err
}

// read runs f while Pebble is open.
func (s *Store) read(f func() error) error {
	s.reading.RLock()
	defer s.reading.RUnlock()
	if s.gone {
		return eventstore.ErrClosed
	}
	return damaged(f())
}

// records iterates over records from one position to another one, both included.
func (s *Store) records(from, to eventstore.Position) (*pebble.Iterator, error) {
	return s.db.NewIter(&pebble.IterOptions{LowerBound: recordKey(from), UpperBound: append(recordKey(to), 0)})
}

// index iterates over the index of a stream.
func (s *Store) index(stream string) (*pebble.Iterator, error) {
	return s.db.NewIter(&pebble.IterOptions{LowerBound: streamKey(stream), UpperBound: streamEnd(stream)})
}

// recordAt is the record at which an iterator stands, as a view that holds until the iterator moves.
func recordAt(it *pebble.Iterator) (eventstore.Position, []byte, error) {
	p, err := parseRecordKey(it.Key())
	if err != nil {
		return 0, nil, corrupt(0, err)
	}
	record, err := it.ValueAndErr()
	return p, record, err
}

// lookUp reads the record at a position.
func lookUp(records *pebble.Iterator, p eventstore.Position) (eventstore.Recorded, error) {
	if !records.SeekGE(recordKey(p)) {
		if err := records.Error(); err != nil {
			return eventstore.Recorded{}, err
		}
		return eventstore.Recorded{}, corrupt(p, errMissing)
	}
	at, record, err := recordAt(records)
	if err != nil {
		return eventstore.Recorded{}, err
	}
	if at != p {
		return eventstore.Recorded{}, corrupt(p, errMissing)
	}
	return decodeRecord(p, slices.Clone(record))
}

var errMissing = errors.New("the record is missing")
