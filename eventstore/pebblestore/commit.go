package pebblestore

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	maxQueue      = 1024    // appends that wait for the committer
	maxGroupBytes = 4 << 20 // of one group, exceeded by at most one append
)

// A request is an append on its way to the committer. It shares no memory with the caller, who may have given up.
type request struct {
	stream   string
	internal bool
	expected eventstore.Expected
	hint     hint    // of the stream
	frames   []frame // in memory
	memory   []byte
	answer   chan answer // holds one
}

// requests are used again, because what they are made of is most of what an append allocates.
var requests = sync.Pool{New: func() any { return new(request) }}

// maxReused bounds the memory of a request that is used again.
const maxReused = 16 << 10

func newRequest(stream string, expected eventstore.Expected, events []eventstore.Event) *request {
	r := requests.Get().(*request)
	r.stream, r.internal, r.expected, r.hint = stream, eventstore.Internal(stream), expected, hint{}
	r.answer = make(chan answer, 1) // one that was used belongs to the synctest bubble where it was made
	size := 0
	for i := range events {
		size += frameSize(stream, &events[i])
	}
	r.memory = slices.Grow(r.memory[:0], size)
	r.frames = slices.Grow(r.frames[:0], len(events))
	for i := range events {
		begin := len(r.memory)
		r.memory = appendFrame(r.memory, stream, &events[i], len(events)-1-i)
		r.frames = append(r.frames, r.memory[begin:])
	}
	return r
}

// done gives a request back that was answered.
func (r *request) done() {
	if cap(r.memory) <= maxReused {
		requests.Put(r)
	}
}

// id is that of an event of the append.
func (r *request) id(i int) uuid.UUID {
	at := recordAt + 4 + len(r.stream) + 4 + 8 + 4
	return uuid.UUID(r.frames[i][at : at+len(uuid.UUID{})])
}

type answer struct {
	appended eventstore.Appended
	err      error
}

// Append implements [eventstore.Appender].
func (s *Store) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	var none eventstore.Appended
	if err := s.alive(ctx); err != nil {
		return none, err
	}
	if err := eventstore.Validate(stream, expected, events); err != nil {
		return none, err
	}
	if s.readOnly != nil {
		return none, s.readOnly
	}
	r := newRequest(stream, expected, events)
	if err := s.send(ctx, r); err != nil {
		return none, err
	}
	select {
	case a := <-r.answer:
		r.done()
		return a.appended, a.err
	case <-ctx.Done():
		return none, fmt.Errorf("append to %q: the outcome is unknown: %w", stream, ctx.Err())
	}
}

func (s *Store) send(ctx context.Context, r *request) error {
	s.sending.RLock()
	defer s.sending.RUnlock()
	if err := s.alive(ctx); err != nil { // the queue may be closed
		return err
	}
	if !s.index.isNew(r.stream) {
		// The committer, which is one for all, then need not look. It says itself what is wrong with the index.
		r.hint, _ = s.index.lookUp(r.stream)
	}
	select {
	case s.queue <- r:
		return nil
	default: // the select below costs more
	}
	select {
	case s.queue <- r:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("append to %q: nothing was stored: %w", r.stream, ctx.Err())
	}
}

// A committer is the one writer. It belongs to the goroutine of run, for which Close waits before it closes files.
type committer struct {
	store *Store
	next  head // the ledger's end when the group is durable

	group   []byte // frames to write
	now     int64  // when they were taken, in Unix nanoseconds
	number  uint64 // of the group
	pending []pending
}

// A pending is an append of the group.
type pending struct {
	*request
	entry    *entry
	begin    int // of its frames in the group
	appended eventstore.Appended
}

func newCommitter(s *Store) *committer {
	return &committer{store: s, next: *s.head.Load(), number: 1}
}

// run answers requests until the queue is closed and empty.
func (c *committer) run() {
	for r := range c.store.queue {
		group := c.drain(r)
		err := c.refuse()
		if err == nil {
			err = c.makeRoom(group)
		}
		if err != nil {
			for _, r := range group {
				r.answer <- answer{err: err}
			}
			continue
		}
		c.now = c.store.now().UnixNano()
		for _, r := range group {
			c.add(r)
		}
		c.commit()
	}
}

// makeRoom begins a new segment when the last one is full, and writes the index when much of it is in memory only.
func (c *committer) makeRoom(group []*request) error {
	s := c.store
	place := place{s.segments.end, c.next.position, c.next.chain}
	err := damaged(s.index.turn(c.next.last, place))
	size := 0
	for _, r := range group {
		size += len(r.memory)
	}
	if err == nil && s.segments.full(size) {
		err = s.beginSegment(place, s.identity.Incarnation)
		c.next.end = s.segments.end
	}
	if err != nil {
		s.fail(err)
		return *s.failure.Load()
	}
	return nil
}

// drain takes what is queued behind the first request, without waiting for more.
func (c *committer) drain(first *request) []*request {
	// Who was answered and could append again comes first. Go hands the processor straight to and fro between the
	// committer and the one that woke it: each event would be a group of its own, and the others would wait for
	// milliseconds while all processors are busy.
	runtime.Gosched()
	group := []*request{first}
	for size := len(first.memory); size < maxGroupBytes && len(group) < maxQueue; {
		select {
		case r, ok := <-c.store.queue:
			if !ok {
				return group
			}
			group = append(group, r)
			size += len(r.memory)
		default:
			return group
		}
	}
	return group
}

// refuse tells why no append can be taken now.
func (c *committer) refuse() error {
	if err := c.store.failure.Load(); err != nil {
		return *err
	}
	if c.store.checkSpace() == nil {
		return nil
	}
	c.store.dropSpare()
	return c.store.checkSpace()
}

// add puts an append into the group, or answers it if there is nothing to write.
func (c *committer) add(r *request) {
	e, err := c.store.index.open(r.stream, r.hint)
	if err != nil {
		r.answer <- answer{err: damaged(err)}
		return
	}
	t := e.tail
	if e.group == c.number {
		t = e.ahead
	}
	if matches(r.expected, t.revision) {
		c.write(r, e, t)
		return
	}
	appended, err := c.repeat(r, e, t)
	r.answer <- answer{appended, err}
}

// matches reports whether a stream is as expected, by its last revision.
func matches(expected eventstore.Expected, last int64) bool {
	switch expected {
	case eventstore.Any:
		return true
	case eventstore.StreamExists:
		return last >= 0
	default: // NoStream is -1, as is the last revision of a stream that does not exist
		return int64(expected) == last
	}
}

// repeat answers an append whose stream is not as expected: with the first result if its events stand there already.
func (c *committer) repeat(r *request, e *entry, t tail) (eventstore.Appended, error) {
	if e.group == c.number {
		c.commit() // what an answer rests on must be durable
	}
	if err := c.store.failure.Load(); err != nil {
		return eventstore.Appended{}, *err
	}
	conflict := &eventstore.Conflict{Stream: r.stream, Expected: r.expected, Actual: eventstore.Expected(t.revision)}
	first := int64(r.expected) + 1
	if r.expected < eventstore.NoStream || first+int64(len(r.frames))-1 > t.revision {
		return eventstore.Appended{}, conflict
	}
	var p eventstore.Position
	for i := range r.frames {
		e, err := c.store.event(r.stream, uint64(first)+uint64(i))
		if err != nil {
			return eventstore.Appended{}, err
		}
		if e.ID != r.id(i) {
			return eventstore.Appended{}, conflict
		}
		p = e.Position
	}
	return eventstore.Appended{Revision: uint64(first) + uint64(len(r.frames)) - 1, Position: p, Repeated: true}, nil
}

// write puts an append into the group, behind what its stream ends with.
func (c *committer) write(r *request, e *entry, t tail) {
	begin := len(c.group)
	for _, f := range r.frames {
		c.next.position++
		c.next.chain = f.seal(seal{
			position: c.next.position, revision: uint64(t.revision + 1), time: c.now,
			durable: c.store.segments.end, previous: t.at, chained: !r.internal,
		}, c.next.chain)
		t = tail{t.revision + 1, c.store.segments.end + address(len(c.group))}
		c.group = append(c.group, f...)
	}
	e.ahead, e.group = t, c.number
	c.pending = append(c.pending, pending{r, e, begin, eventstore.Appended{Revision: uint64(t.revision), Position: c.next.position}})
}

// commit makes the group durable, shows it to readers, and answers. After a failure nothing is shown any more.
func (c *committer) commit() {
	if len(c.pending) == 0 {
		return
	}
	s := c.store
	var err error
	if failure := s.failure.Load(); failure != nil {
		err = *failure // an earlier part of the same group has failed
	}
	begin := s.segments.end
	if err == nil {
		err = s.segments.write(c.group)
	}
	if failure := s.failure.Load(); err == nil && failure != nil {
		err = *failure
	}
	if err != nil {
		s.fail(err)
	} else {
		c.show(begin)
	}
	for _, p := range c.pending {
		a := answer{appended: p.appended}
		if err != nil {
			// The error is not wrapped: ErrFailed and ErrFull would say that nothing was stored.
			a = answer{err: fmt.Errorf("append to %q: the outcome is unknown until the ledger is opened again: %v", p.stream, err)} //nolint:errorlint // see above
		}
		p.answer <- a
	}
	clear(c.pending)
	c.pending, c.group = c.pending[:0], c.group[:0]
	c.number++
}

// show lets readers see the group, which begins at an address.
func (c *committer) show(begin address) {
	s := c.store
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	for _, p := range c.pending {
		at := begin + address(p.begin)
		first := len(p.frames) - 1
		for i, f := range p.frames {
			back := first - i
			c.next.last = at
			s.index.extend(p.entry, p.stream, p.appended.Revision-uint64(back), at, p.appended.Position-eventstore.Position(back), len(f))
			at += address(len(f))
		}
	}
	next := c.next
	next.end = s.segments.end
	next.replaced = make(chan struct{})
	close(s.head.Swap(&next).replaced)
}
