package relay_test

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// A ledger is a Store in memory, whose appends and subscriptions a test can make fail. Its positions have gaps.
type ledger struct {
	eventstore.Identity

	mu        sync.Mutex // protects what follows
	events    []eventstore.Recorded
	grown     chan struct{} // closed, and replaced, at each append
	chainless bool          // leaves the chain to the relay
	// before and after are asked around an append to a relay's stream; an error they return is the append's.
	before, after func() error
	reading       error // what reads and subscriptions yield
}

func newLedger(lanes int) *ledger {
	return &ledger{
		Identity: eventstore.Identity{ID: uuid.New(), Lanes: lanes, Incarnation: 1},
		grown:    make(chan struct{}),
		before:   func() error { return nil },
		after:    func() error { return nil },
	}
}

func (l *ledger) Append(_ context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	internal := eventstore.Internal(stream)
	if internal {
		if err := l.before(); err != nil {
			return eventstore.Appended{}, err
		}
	}
	last := eventstore.NoStream
	var newest eventstore.Recorded
	for i := range l.events {
		if l.events[i].Stream == stream {
			last, newest = eventstore.At(l.events[i].Revision), l.events[i]
		}
	}
	if last == expected+1 && newest.ID == events[0].ID {
		return eventstore.Appended{Revision: newest.Revision, Repeated: true}, nil
	}
	if last != expected && expected != eventstore.Any {
		return eventstore.Appended{}, &eventstore.Conflict{Stream: stream, Expected: expected, Actual: last}
	}
	var position eventstore.Position
	var chain eventstore.Hash
	for i := range l.events {
		position = l.events[i].Position
		if !eventstore.Internal(l.events[i].Stream) {
			chain = l.events[i].Chain
		}
	}
	for _, e := range events {
		last++
		position += 3
		r := eventstore.Recorded{Event: e, Stream: stream, Revision: uint64(last), Position: position, Time: time.Now().UTC()}
		if !internal && !l.chainless {
			r.Chain = eventstore.Chain(chain, &r)
			chain = r.Chain
		}
		l.events = append(l.events, r)
	}
	close(l.grown)
	l.grown = make(chan struct{})
	result := eventstore.Appended{Revision: uint64(last), Position: position}
	if internal {
		return result, l.after()
	}
	return result, nil
}

func (l *ledger) ReadStream(_ context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		events, _, err := l.newer(0)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		for i := range events {
			e := events[i]
			if dir == eventstore.Backward {
				e = events[len(events)-1-i]
			}
			in := e.Revision >= from
			if dir == eventstore.Backward {
				in = e.Revision <= from
			}
			if e.Stream == stream && in && !yield(e, nil) {
				return
			}
		}
	}
}

func (l *ledger) ReadAll(_ context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		events, _, err := l.newer(after)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		for _, e := range events {
			if filter.Match(e.Stream) && !yield(e, nil) {
				return
			}
		}
	}
}

func (l *ledger) Subscribe(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for {
			events, grown, err := l.newer(after)
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			for _, e := range events {
				after = e.Position
				if filter.Match(e.Stream) && !yield(e, nil) {
					return
				}
			}
			select {
			case <-grown:
			case <-ctx.Done():
				yield(eventstore.Recorded{}, ctx.Err())
				return
			}
		}
	}
}

// newer returns the events after a position, a channel that is closed when there are more, and what reads yield.
func (l *ledger) newer(position eventstore.Position) ([]eventstore.Recorded, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.events, position+1, func(e eventstore.Recorded, p eventstore.Position) int {
		return cmp.Compare(e.Position, p)
	})
	return l.events[i:len(l.events):len(l.events)], l.grown, l.reading
}

func (l *ledger) Head(context.Context) (eventstore.Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	head := eventstore.Head{Identity: l.Identity}
	if n := len(l.events); n > 0 {
		head.Position, head.Chain = l.events[n-1].Position, l.events[n-1].Chain
	}
	return head, l.reading
}

func (l *ledger) Close() error { return nil }

// set changes the ledger's behaviour.
func (l *ledger) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.grown)
	l.grown = make(chan struct{})
}

// public returns all events that are to be relayed.
func (l *ledger) public() []eventstore.Recorded {
	var events []eventstore.Recorded
	for e := range l.ReadAll(context.Background(), 0, eventstore.Filter{Public: true}) {
		events = append(events, e)
	}
	return events
}

// checkpoints returns how many a relay has saved.
func (l *ledger) checkpoints(name string) int {
	n := 0
	for range l.ReadStream(context.Background(), "relay-"+name, 0, eventstore.Forward) {
		n++
	}
	return n
}

// write appends one event to each of the streams order-from to order-(to-1).
func write(t testing.TB, store eventstore.Store, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		e := eventstore.Event{ID: uuid.New(), Type: "order.noted.v1", Data: fmt.Appendf(nil, `{"n":%d}`, i)}
		if _, err := store.Append(t.Context(), fmt.Sprintf("order-%d", i), eventstore.NoStream, []eventstore.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
}

// A view is what one receiver has seen of a ledger. It fails the test when a lane has a gap or goes wrong otherwise.
type view struct {
	source *ledger

	mu     sync.Mutex // protects what follows
	seen   map[int]eventstore.Position
	events []eventstore.Recorded // each once, in order of arrival
	twice  int
	ticks  int
}

func newView(source *ledger) *view {
	return &view{source: source, seen: make(map[int]eventstore.Position)}
}

func (v *view) apply(d eventstore.Delivery) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := v.seen[d.Lane]
	switch {
	case d.Source != v.source.ID || d.Incarnation != v.source.Incarnation:
		return fmt.Errorf("from ledger %s, incarnation %d", d.Source, d.Incarnation)
	case d.Event != nil && (d.Lane != eventstore.Lane(d.Event.Stream, v.source.Lanes) || d.Position != d.Event.Position):
		return fmt.Errorf("lane %d, position %d for %+v", d.Lane, d.Position, d.Event)
	case d.Event != nil && eventstore.Internal(d.Event.Stream):
		return fmt.Errorf("an event of %s", d.Event.Stream)
	case d.Previous > seen:
		return fmt.Errorf("gap in lane %d: previous %d, seen %d", d.Lane, d.Previous, seen)
	case d.Event == nil:
		v.ticks++
	case d.Position <= seen:
		v.twice++
		return nil
	default:
		v.events = append(v.events, *d.Event)
	}
	// The lane has nothing else between what was seen and what came now.
	between := d.Position
	if d.Event != nil {
		between--
	}
	for e := range v.source.ReadAll(context.Background(), seen, eventstore.Filter{Public: true}) {
		if e.Position > between {
			break
		}
		if eventstore.Lane(e.Stream, v.source.Lanes) == d.Lane {
			return fmt.Errorf("lane %d goes from %d to %d over the event at %d", d.Lane, seen, d.Position, e.Position)
		}
	}
	v.seen[d.Lane] = max(seen, d.Position)
	return nil
}

// complete returns an error unless every event has arrived once, with its chain.
func (v *view) complete() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	got := make(map[eventstore.Position]eventstore.Recorded)
	for _, e := range v.events {
		got[e.Position] = e
	}
	want := v.source.public()
	if len(want) != len(got) || len(got) != len(v.events) {
		return fmt.Errorf("%d of %d events have arrived", len(got), len(want))
	}
	var chain eventstore.Hash
	for i := range want {
		chain = eventstore.Chain(chain, &want[i])
		if e := got[want[i].Position]; e.ID != want[i].ID || e.Chain != chain {
			return fmt.Errorf("at position %d arrived %+v, not %+v with chain %s", want[i].Position, e, want[i], chain)
		}
	}
	return nil
}
