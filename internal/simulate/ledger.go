package simulate

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// A disk is what a ledger has written. It outlasts the processes that open it, one at a time.
type disk struct {
	identity eventstore.Identity
	now      func() time.Time

	mu      sync.Mutex // protects the fields below
	events  []eventstore.Recorded
	streams map[string][]int // indexes of events
	head    eventstore.Head
	full    bool          // it takes no more
	grown   chan struct{} // closed and replaced by each append
}

func newDisk(id uuid.UUID, lanes int, now func() time.Time) *disk {
	identity := eventstore.Identity{ID: id, Lanes: lanes, Format: 1}
	return &disk{
		identity: identity, now: now, streams: make(map[string][]int), head: eventstore.Head{Identity: identity}, grown: make(chan struct{}),
	}
}

// A fault is what becomes of an append.
type fault int

const (
	whole         fault = iota
	crashedBefore       // the process dies, and nothing was stored
	crashedAfter        // the process dies after everything was stored, and before it could say so
	unsureBefore        // the disk does not answer; nothing was stored
	unsureAfter         // the disk does not answer, but everything was stored
	failedSync          // the disk fails, and takes nothing until it is opened again
)

// A ledger is an open disk: an [eventstore.Store] that is the property of one process and dies with it.
type ledger struct {
	*disk
	before func()                                         // if not nil, called before an append looks at its stream
	crash  func()                                         // if not nil, called where the process dies in an append
	stored func(stream string, events []eventstore.Event) // if not nil, called after an append that may have been stored

	closed  chan struct{}
	closing sync.Once
	next    fault // what becomes of the next append; protected by disk.mu
	failed  bool  // protected by disk.mu
}

func (d *disk) open() *ledger { return &ledger{disk: d, closed: make(chan struct{})} }

var _ eventstore.Store = (*ledger)(nil)

// Close ends what the process does with the ledger.
func (l *ledger) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return nil
}

func (l *ledger) alive(ctx context.Context) error {
	select {
	case <-l.closed:
		return eventstore.ErrClosed
	default:
		return ctx.Err()
	}
}

// errNoAnswer is an append's error that leaves the outcome unknown.
var errNoAnswer = errors.New("the disk did not answer")

// Append implements [eventstore.Appender].
func (l *ledger) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	if err := eventstore.Validate(stream, expected, events); err != nil {
		return eventstore.Appended{}, err
	}
	if l.before != nil {
		l.before()
	}
	if err := l.alive(ctx); err != nil {
		return eventstore.Appended{}, err
	}
	how := l.fault()
	if how == crashedBefore {
		l.crash()
		return eventstore.Appended{}, eventstore.ErrClosed
	}
	result, err := l.store(how, stream, expected, events)
	if l.stored != nil && !result.Repeated {
		l.stored(stream, events)
	}
	if how == crashedAfter {
		l.crash()
		return eventstore.Appended{}, eventstore.ErrClosed
	}
	return result, err
}

// fault takes what becomes of the next append.
func (l *ledger) fault() fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	how := l.next
	l.next = whole
	return how
}

func (l *ledger) store(how fault, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = l.failed || how == failedSync
	switch {
	case l.failed:
		return eventstore.Appended{}, eventstore.ErrFailed
	case l.full:
		return eventstore.Appended{}, eventstore.ErrFull
	}
	if at, ok := l.repeated(stream, expected, events); ok {
		last := l.events[at]
		return eventstore.Appended{Revision: last.Revision, Position: last.Position, Repeated: true}, nil
	}
	if actual := l.last(stream); !fits(expected, actual) {
		return eventstore.Appended{}, &eventstore.Conflict{Stream: stream, Expected: expected, Actual: actual}
	}
	if how == unsureBefore {
		return eventstore.Appended{}, errNoAnswer
	}
	result := l.write(stream, events)
	if how == unsureAfter {
		return eventstore.Appended{}, errNoAnswer
	}
	return result, nil
}

// last is the last revision of a stream, as an append expects it.
func (d *disk) last(stream string) eventstore.Expected {
	return eventstore.Expected(len(d.streams[stream])) - 1 // −1 is NoStream
}

func fits(expected, actual eventstore.Expected) bool {
	switch expected {
	case eventstore.Any:
		return true
	case eventstore.StreamExists:
		return actual != eventstore.NoStream
	}
	return expected == actual
}

// repeated reports whether events stand where an append would put them, and where the last of them is.
func (d *disk) repeated(stream string, expected eventstore.Expected, events []eventstore.Event) (at int, ok bool) {
	if expected < eventstore.NoStream {
		return 0, false
	}
	first := int(expected + 1)
	all := d.streams[stream]
	if len(all) < first+len(events) {
		return 0, false
	}
	for i := range events {
		at = all[first+i]
		if d.events[at].ID != events[i].ID {
			return 0, false
		}
	}
	return at, true
}

func (d *disk) write(stream string, events []eventstore.Event) eventstore.Appended {
	now := d.now().UTC()
	for _, e := range events {
		r := eventstore.Recorded{
			Event:  eventstore.Event{ID: e.ID, Type: e.Type, Metadata: bytes.Clone(e.Metadata), Data: bytes.Clone(e.Data)},
			Stream: stream, Revision: uint64(len(d.streams[stream])), Time: now,
			Position: d.head.Position + 1 + eventstore.Position(len(d.events)%3), // with gaps, as positions may have
		}
		d.head.Position = r.Position
		if !eventstore.Internal(stream) {
			r.Chain = eventstore.Chain(d.head.Chain, &r)
			d.head.Chain = r.Chain
		}
		d.streams[stream] = append(d.streams[stream], len(d.events))
		d.events = append(d.events, r)
	}
	close(d.grown)
	d.grown = make(chan struct{})
	return eventstore.Appended{Revision: uint64(len(d.streams[stream])) - 1, Position: d.head.Position}
}

// forget loses the newest event of an order and all behind it, as a disk does that has not written what it said it had.
func (d *disk) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := d.events
	d.streams, d.head = make(map[string][]int), eventstore.Head{Identity: d.identity}
	for n := len(kept); n > 0; n = len(kept) {
		public := !eventstore.Internal(kept[n-1].Stream)
		if kept = kept[:n-1]; public {
			break
		}
	}
	d.events = kept
	for i := range kept {
		e := &kept[i]
		d.streams[e.Stream] = append(d.streams[e.Stream], i)
		d.head.Position = e.Position
		if !eventstore.Internal(e.Stream) {
			d.head.Chain = e.Chain
		}
	}
}

// Head implements [eventstore.Reader].
func (l *ledger) Head(ctx context.Context) (eventstore.Head, error) {
	if err := l.alive(ctx); err != nil {
		return eventstore.Head{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head, nil
}

// ReadStream implements [eventstore.Reader].
func (l *ledger) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		l.mu.Lock()
		all := l.streams[stream]
		l.mu.Unlock()
		n := uint64(len(all))
		if dir == eventstore.Forward {
			all = all[min(from, n):]
		} else {
			all = slices.Clone(all[:min(from, n-min(n, 1))+min(n, 1)])
			slices.Reverse(all)
		}
		for _, i := range all {
			if !l.yield(ctx, i, yield) {
				return
			}
		}
		if len(all) == 0 {
			l.complain(ctx, yield)
		}
	}
}

// yield gives out an event, or why there will be no more. It reports whether there may be.
func (l *ledger) yield(ctx context.Context, index int, yield func(eventstore.Recorded, error) bool) bool {
	if err := l.alive(ctx); err != nil {
		yield(eventstore.Recorded{}, err)
		return false
	}
	l.mu.Lock()
	e := l.events[index]
	l.mu.Unlock()
	return yield(e, nil)
}

func (l *ledger) complain(ctx context.Context, yield func(eventstore.Recorded, error) bool) {
	if err := l.alive(ctx); err != nil {
		yield(eventstore.Recorded{}, err)
	}
}

// ReadAll implements [eventstore.Reader].
func (l *ledger) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	l.mu.Lock()
	end := len(l.events)
	l.mu.Unlock()
	return func(yield func(eventstore.Recorded, error) bool) {
		if l.between(ctx, l.behind(after), end, filter, yield) {
			l.complain(ctx, yield)
		}
	}
}

// between yields events by their indexes, and reports whether the receiver wants more.
func (l *ledger) between(ctx context.Context, from, end int, filter eventstore.Filter, yield func(eventstore.Recorded, error) bool) bool {
	for i := from; i < end; i++ {
		l.mu.Lock()
		chosen := filter.Match(l.events[i].Stream)
		l.mu.Unlock()
		if chosen && !l.yield(ctx, i, yield) {
			return false
		}
	}
	return true
}

// behind is the index of the first event after a position.
func (d *disk) behind(after eventstore.Position) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, found := slices.BinarySearchFunc(d.events, after, func(e eventstore.Recorded, p eventstore.Position) int {
		switch {
		case e.Position < p:
			return -1
		case e.Position > p:
			return 1
		}
		return 0
	})
	if found {
		i++
	}
	return i
}

// Subscribe implements [eventstore.Reader].
func (l *ledger) Subscribe(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for at := l.behind(after); ; {
			l.mu.Lock()
			end, grown := len(l.events), l.grown
			l.mu.Unlock()
			if !l.between(ctx, at, end, filter, yield) {
				return
			}
			at = end
			select {
			case <-grown:
			case <-ctx.Done():
				yield(eventstore.Recorded{}, ctx.Err())
				return
			case <-l.closed:
				yield(eventstore.Recorded{}, eventstore.ErrClosed)
				return
			}
		}
	}
}
