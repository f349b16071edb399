package esdbserver

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// streams gives a ledger what EventStoreDB has beyond the contract of package eventstore: streams that are deleted,
// have metadata and tombstones. All methods are safe for concurrent use.
type streams struct {
	store  eventstore.Store
	now    func() time.Time
	recent *recent

	seed maphash.Seed
	// locks are held, by the name of the stream, for reading while events are appended, and for writing while the stream
	// is deleted or comes back or gets metadata, which takes more than one call to the ledger.
	locks [256]sync.RWMutex
}

func newStreams(store eventstore.Store, now func() time.Time) *streams {
	return &streams{store: store, now: now, recent: newRecent(recentIDs), seed: maphash.MakeSeed()}
}

func (s *streams) lock(stream string) *sync.RWMutex {
	return &s.locks[maphash.String(s.seed, stream)%uint64(len(s.locks))]
}

// A written is the result of an append.
type written struct {
	revision eventstore.Expected // of the stream's newest event, or NoStream
	position eventstore.Position // 0: unknown
}

// newest reads the newest event of a stream.
func (s *streams) newest(ctx context.Context, stream string) (e eventstore.Recorded, exists bool, err error) {
	for e, err := range s.store.ReadStream(ctx, stream, eventstore.End, eventstore.Backward) {
		return e, err == nil, err
	}
	return e, false, nil
}

// last is the revision of the newest event of a stream.
func (s *streams) last(ctx context.Context, stream string) (eventstore.Expected, error) {
	e, exists, err := s.newest(ctx, stream)
	if err != nil || !exists {
		return eventstore.NoStream, err
	}
	return eventstore.At(e.Revision), nil
}

// append appends events to a stream as EventStoreDB would.
func (s *streams) append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (written, error) {
	if base, ok := baseOf(stream); ok {
		return s.appendMetadata(ctx, base, stream, expected, events)
	}
	lock := s.lock(stream)
	lock.RLock()
	m, err := s.metadata(ctx, stream)
	if err == nil && !m.deleted() {
		defer lock.RUnlock()
		return s.put(ctx, stream, expected, events, m.exists)
	}
	lock.RUnlock()
	if err != nil {
		return written{}, err
	}
	lock.Lock()
	defer lock.Unlock()
	return s.appendDeleted(ctx, stream, expected, events)
}

// appendDeleted appends events to a stream that was deleted, which brings it back without its old events.
func (s *streams) appendDeleted(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (written, error) {
	m, err := s.metadata(ctx, stream)
	if err != nil {
		return written{}, err
	}
	if !m.deleted() { // somebody was faster
		return s.put(ctx, stream, expected, events, m.exists)
	}
	if m.tombstone || expected == eventstore.StreamExists {
		return written{}, &deletedError{stream}
	}
	last, err := s.last(ctx, stream)
	if err != nil {
		return written{}, err
	}
	switch {
	case expected == eventstore.Any:
		if w, known, err := s.recent.find(stream, expected, events); known || err != nil {
			return w, err
		}
	case expected != last:
		// Only a repetition succeeds, or the beginning of a new life.
		w, err := s.put(ctx, stream, expected, events, true)
		if !eventstore.IsConflict(err) || expected != eventstore.NoStream {
			return w, err
		}
	}
	// The metadata first: should the process end in between, the stream is there without events, and a repetition adds
	// them. The other way round they would stay hidden.
	if err := s.putMetadata(ctx, stream, m.truncated(int64(last)+1)); err != nil {
		return written{}, err
	}
	return s.put(ctx, stream, last, events, true)
}

// appendMetadata appends events to a stream of metadata.
func (s *streams) appendMetadata(ctx context.Context, base, stream string, expected eventstore.Expected, events []eventstore.Event) (written, error) {
	if _, nested := baseOf(base); nested {
		return written{}, invalid("the metadata of a stream has no metadata of its own")
	}
	for i := range events {
		if events[i].Type == tombstoneType {
			return written{}, invalid("an event of type %s is not appended: call Tombstone", tombstoneType)
		}
	}
	lock := s.lock(base)
	lock.Lock()
	defer lock.Unlock()
	m, err := s.metadata(ctx, base)
	if err != nil {
		return written{}, err
	}
	if m.tombstone {
		return written{}, &deletedError{stream}
	}
	if !m.deleted() || len(events) == 0 {
		return s.put(ctx, stream, expected, events, false)
	}
	// New metadata bring a deleted stream back, without its old events.
	last, err := s.last(ctx, base)
	if err != nil {
		return written{}, err
	}
	again := parseMetadata(events[len(events)-1].Data).truncated(int64(last) + 1)
	w, err := s.put(ctx, stream, expected, append(events, metadataEvent(again)), false)
	w.revision-- // the client's own event
	return w, err
}

// put appends events to a stream that is not deleted.
func (s *streams) put(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event, hasMetadata bool) (written, error) {
	if len(events) == 0 {
		return s.putNothing(ctx, stream, expected, hasMetadata)
	}
	if expected == eventstore.Any || expected == eventstore.StreamExists {
		if w, known, err := s.recent.find(stream, expected, events); known || err != nil {
			return w, err
		}
	}
	a, err := s.store.Append(ctx, stream, expected, events)
	if eventstore.IsConflict(err) && expected == eventstore.StreamExists && hasMetadata {
		a, err = s.store.Append(ctx, stream, eventstore.Any, events) // metadata alone make a stream exist
	}
	if err != nil {
		return written{}, err
	}
	s.recent.add(stream, a, events)
	return written{eventstore.At(a.Revision), a.Position}, nil
}

// putNothing checks the expectation of an append without events.
func (s *streams) putNothing(ctx context.Context, stream string, expected eventstore.Expected, hasMetadata bool) (written, error) {
	last, err := s.last(ctx, stream)
	if err != nil {
		return written{}, err
	}
	if !meets(last, expected, hasMetadata) {
		return written{}, &eventstore.Conflict{Stream: stream, Expected: expected, Actual: last}
	}
	return written{revision: last}, nil
}

// meets reports whether a stream is as expected.
func meets(last, expected eventstore.Expected, hasMetadata bool) bool {
	switch expected {
	case eventstore.Any:
		return true
	case eventstore.StreamExists:
		return last >= 0 || hasMetadata
	}
	return last == expected
}

// remove deletes a stream: for good, or so that it can be written again from the next revision on.
func (s *streams) remove(ctx context.Context, stream string, expected eventstore.Expected, forGood bool) (eventstore.Position, error) {
	if _, ok := baseOf(stream); ok {
		return 0, invalid("the metadata of a stream cannot be deleted without the stream")
	}
	lock := s.lock(stream)
	lock.Lock()
	defer lock.Unlock()
	m, err := s.metadata(ctx, stream)
	if err != nil {
		return 0, err
	}
	if m.tombstone || m.deleted() && expected == eventstore.StreamExists {
		return 0, &deletedError{stream}
	}
	last, err := s.last(ctx, stream)
	if err != nil {
		return 0, err
	}
	fresh := m.deleted() && expected == eventstore.NoStream
	unknown := last < 0 && !m.exists && !forGood
	if !meets(last, expected, m.exists) && !fresh || unknown {
		return 0, &eventstore.Conflict{Stream: stream, Expected: expected, Actual: last}
	}
	e := metadataEvent([]byte(`{"$tb":9223372036854775807}`))
	if forGood {
		e = eventstore.Event{ID: uuid.New(), Type: tombstoneType}
	}
	a, err := s.store.Append(ctx, metadataOf(stream), eventstore.Any, []eventstore.Event{e})
	return a.Position, err
}

// recentIDs is how many events a server knows by their ids.
const recentIDs = 1 << 16

// recent knows where the newest events stand, to recognise the repetition of an append without a revision. It forgets
// the oldest first.
type recent struct {
	mu     sync.Mutex // guards what follows
	places map[uuid.UUID]place
	ring   []uuid.UUID // in the order in which they came; next is where the oldest stands once the ring is full
	next   int
}

type place struct {
	stream   string
	revision uint64
	position eventstore.Position // of the append that it came with
}

func newRecent(size int) *recent {
	return &recent{places: make(map[uuid.UUID]place), ring: make([]uuid.UUID, 0, size)}
}

func (r *recent) add(stream string, a eventstore.Appended, events []eventstore.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range events {
		id := events[i].ID
		if _, known := r.places[id]; !known {
			r.enter(id)
		}
		r.places[id] = place{stream, a.Revision - uint64(len(events)-1-i), a.Position}
	}
}

func (r *recent) enter(id uuid.UUID) {
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, id)
		return
	}
	delete(r.places, r.ring[r.next])
	r.ring[r.next] = id
	r.next = (r.next + 1) % len(r.ring)
}

var errPartly = errors.New("some of the events stand in the stream already")

// find reports whether all events stand in the stream already. Where only the first ones do, it returns a conflict.
func (r *recent) find(stream string, expected eventstore.Expected, events []eventstore.Event) (w written, known bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range events {
		p, ok := r.places[events[i].ID]
		switch {
		case ok && p.stream == stream:
			w = written{eventstore.At(p.revision), p.position}
		case i == 0:
			return written{}, false, nil
		default:
			return written{}, false, errors.Join(errPartly, &eventstore.Conflict{Stream: stream, Expected: expected, Actual: w.revision})
		}
	}
	return w, len(events) > 0, nil
}
