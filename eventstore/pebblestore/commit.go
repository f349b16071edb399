package pebblestore

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	maxQueue      = 1024    // appends that wait for the committer
	maxGroupBytes = 4 << 20 // of one batch, exceeded by at most one append: Pebble keeps small batches in memory in one piece
)

// A request is an append on its way to the committer. It shares no memory with the caller, who may have given up.
type request struct {
	stream   string
	expected eventstore.Expected
	events   []eventstore.Recorded
	records  [][]byte
	bytes    int
	answer   chan answer // holds one
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
	r := &request{stream: stream, expected: expected, answer: make(chan answer, 1)}
	for i := range events {
		record, event := encodeRecord(stream, &events[i])
		r.records = append(r.records, record)
		r.events = append(r.events, event)
		r.bytes += len(record)
	}
	if err := s.send(ctx, r); err != nil {
		return none, err
	}
	select {
	case a := <-r.answer:
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
	select {
	case s.queue <- r:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("append to %q: nothing was stored: %w", r.stream, ctx.Err())
	}
}

// A committer is the one writer. It belongs to the goroutine of run.
type committer struct {
	store     *Store
	revisions revisions
	next      head // the ledger's end when the batch is durable

	batch   *pebble.Batch
	err     error               // why the batch is not what it should be
	written map[string]struct{} // streams that the batch writes to
	pending []pending           // what to answer when the batch is durable
}

type pending struct {
	*request
	appended eventstore.Appended
}

func newCommitter(s *Store) *committer {
	return &committer{store: s, next: *s.head.Load(), written: make(map[string]struct{})}
}

// run answers requests until the queue is closed and empty.
func (c *committer) run() {
	for r := range c.store.queue {
		group := c.drain(r)
		if err := c.refuse(); err != nil {
			for _, r := range group {
				r.answer <- answer{err: err}
			}
			continue
		}
		for _, r := range group {
			c.add(r)
		}
		c.commit()
	}
}

// drain takes what is queued behind the first request, without waiting for more.
func (c *committer) drain(first *request) []*request {
	group := []*request{first}
	for size := first.bytes; size < maxGroupBytes && len(group) < maxQueue; {
		select {
		case r, ok := <-c.store.queue:
			if !ok {
				return group
			}
			group = append(group, r)
			size += r.bytes
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
	return c.store.checkSpace()
}

// add puts an append into the batch, or answers it if there is nothing to write.
func (c *committer) add(r *request) {
	last, err := c.lastRevision(r.stream)
	if err == nil && matches(r.expected, last) {
		c.write(r, last)
		return
	}
	var appended eventstore.Appended
	if err == nil {
		appended, err = c.repeat(r, last)
	}
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
func (c *committer) repeat(r *request, last int64) (eventstore.Appended, error) {
	if _, ok := c.written[r.stream]; ok {
		c.commit() // what an answer rests on must be durable
	}
	if err := c.store.failure.Load(); err != nil {
		return eventstore.Appended{}, *err
	}
	conflict := &eventstore.Conflict{Stream: r.stream, Expected: r.expected, Actual: eventstore.Expected(last)}
	first := int64(r.expected) + 1
	if r.expected < eventstore.NoStream || first+int64(len(r.events))-1 > last {
		return eventstore.Appended{}, conflict
	}
	var p eventstore.Position
	for i := range r.events {
		e, err := c.store.event(r.stream, uint64(first)+uint64(i))
		if err != nil {
			return eventstore.Appended{}, err
		}
		if e.ID != r.events[i].ID {
			return eventstore.Appended{}, conflict
		}
		p = e.Position
	}
	return eventstore.Appended{Revision: uint64(first) + uint64(len(r.events)) - 1, Position: p, Repeated: true}, nil
}

// write puts an append into the batch.
func (c *committer) write(r *request, last int64) {
	if c.batch == nil {
		c.batch = c.store.db.NewBatch()
	}
	now := c.store.now().UTC()
	for i := range r.events {
		e := &r.events[i]
		last++
		c.next.position++
		e.Revision, e.Time = uint64(last), now
		if !eventstore.Internal(r.stream) {
			c.next.chain = eventstore.Chain(c.next.chain, e)
		}
		sealRecord(r.records[i], c.next.chain, now, e.Revision)
		c.set(recordKey(c.next.position), r.records[i])
		c.set(indexKey(r.stream, e.Revision), positionValue(c.next.position))
	}
	c.revisions.set(r.stream, last)
	c.written[r.stream] = struct{}{}
	c.pending = append(c.pending, pending{r, eventstore.Appended{Revision: uint64(last), Position: c.next.position}})
}

func (c *committer) set(key, value []byte) {
	if err := c.batch.Set(key, value, nil); err != nil {
		c.err = err
	}
}

// commit makes the batch durable, shows it to readers, and answers. After a failure nothing is shown any more.
func (c *committer) commit() {
	if c.batch == nil {
		return
	}
	err := c.err
	if failure := c.store.failure.Load(); failure != nil {
		err = *failure // an earlier batch of the same group has failed
	}
	if err == nil {
		err = c.store.apply(c.batch)
	}
	if err != nil {
		c.store.fail(err)
	} else {
		_ = c.batch.Close() // it only gives memory back
		next := c.next
		next.replaced = make(chan struct{})
		close(c.store.head.Swap(&next).replaced)
	}
	for _, p := range c.pending {
		a := answer{appended: p.appended}
		if err != nil {
			// The error is not wrapped: ErrFailed and ErrFull would say that nothing was stored.
			a = answer{err: fmt.Errorf("append to %q: the outcome is unknown until the ledger is opened again: %v", p.stream, err)} //nolint:errorlint // see above
		}
		p.answer <- a
	}
	c.batch = nil
	clear(c.written)
	clear(c.pending)
	c.pending = c.pending[:0]
}

// apply writes a batch and returns when it is durable. No write may follow an error.
func (s *Store) apply(b *pebble.Batch) (err error) {
	defer func() {
		// Pebble panics where it cannot write its log.
		if p := recover(); p != nil {
			s.stuck = true
			err = fmt.Errorf("pebble: %v", p)
			if cause, ok := p.(error); ok {
				err = fmt.Errorf("pebble: %w", cause)
			}
		}
	}()
	if err := s.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return err
	}
	if err := b.SyncWait(); err != nil {
		return err
	}
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// lastRevision is that of the stream's newest event, written or about to be, or -1.
func (c *committer) lastRevision(stream string) (int64, error) {
	if last, ok := c.revisions.get(stream); ok {
		return last, nil
	}
	last, err := c.store.lastRevision(stream)
	if err == nil {
		c.revisions.set(stream, last)
	}
	return last, err
}

// maxRevisions bounds either half of a cache. It exceeds a group, so that no stream of the group is forgotten.
const maxRevisions = 1 << 15

// revisions remembers the last revisions of the streams used last, in two halves: when the young half is full it
// becomes the old one, and what was not used since is forgotten.
type revisions struct {
	young, old map[string]int64
}

func (r *revisions) get(stream string) (int64, bool) {
	if last, ok := r.young[stream]; ok {
		return last, true
	}
	last, ok := r.old[stream]
	if ok {
		r.set(stream, last)
	}
	return last, ok
}

func (r *revisions) set(stream string, last int64) {
	if r.young == nil || len(r.young) >= maxRevisions {
		r.young, r.old = make(map[string]int64), r.young
	}
	r.young[stream] = last
}
