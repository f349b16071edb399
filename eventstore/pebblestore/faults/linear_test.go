package faults

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// A call is what a client asks for: an append, or a read where there are no events.
type call struct {
	stream   string
	expected eventstore.Expected
	events   []uuid.UUID
}

// A reply is what it was told.
type reply struct {
	unknown  bool // it was told nothing that counts
	conflict bool
	last     uint64 // revision
	repeated bool
	read     []uuid.UUID
}

// streamModel says what one stream does that takes one call after the other. Its state are the ids of its events.
var streamModel = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		streams := make(map[string][]porcupine.Operation)
		for _, o := range history {
			stream := o.Input.(call).stream
			streams[stream] = append(streams[stream], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range streams {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() []any { return []any{[]uuid.UUID(nil)} },
	Step: func(state, input, output any) []any {
		ids, c, r := state.([]uuid.UUID), input.(call), output.(reply)
		if len(c.events) == 0 {
			if r.unknown || slices.Equal(ids, r.read) {
				return []any{ids}
			}
			return nil
		}
		next, told := appendTo(ids, c)
		if r.unknown {
			return []any{ids, next}
		}
		if told.conflict != r.conflict || told.repeated != r.repeated || told.last != r.last {
			return nil
		}
		return []any{next}
	},
	Equal: func(a, b any) bool { return slices.Equal(a.([]uuid.UUID), b.([]uuid.UUID)) },
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v → %+v", input, output)
	},
}).ToModel()

// appendTo does an append to a stream.
func appendTo(ids []uuid.UUID, c call) ([]uuid.UUID, reply) {
	last := eventstore.Expected(len(ids)) - 1
	if c.expected == eventstore.Any || c.expected == last || c.expected == eventstore.StreamExists && last >= 0 {
		next := slices.Concat(ids, c.events)
		return next, reply{last: uint64(len(next)) - 1}
	}
	if first := int(c.expected) + 1; c.expected >= eventstore.NoStream && first+len(c.events) <= len(ids) &&
		slices.Equal(ids[first:first+len(c.events)], c.events) {
		return ids, reply{last: uint64(first+len(c.events)) - 1, repeated: true}
	}
	return ids, reply{conflict: true}
}

// A recording is a history under way.
type recording struct {
	ledger atomic.Pointer[pebblestore.Store]
	clock  atomic.Int64
	calls  atomic.Int64
	done   func() // is called after each call

	mu  sync.Mutex // protects what follows
	ops []porcupine.Operation
}

// do makes a call, records it, and returns what it was told.
func (r *recording) do(ctx context.Context, client int, c call) reply {
	o := porcupine.Operation{ClientId: client, Input: c, Call: r.clock.Add(1)}
	var out reply
	s := r.ledger.Load()
	if len(c.events) == 0 {
		for e, err := range s.ReadStream(ctx, c.stream, 0, eventstore.Forward) {
			if err != nil {
				out = reply{unknown: true}
				break
			}
			out.read = append(out.read, e.ID)
		}
	} else {
		events := make([]eventstore.Event, len(c.events))
		for i, id := range c.events {
			events[i] = eventstore.Event{ID: id, Type: "test.happened.v1", Data: []byte("{}")}
		}
		a, err := s.Append(ctx, c.stream, c.expected, events)
		switch {
		case err == nil:
			out = reply{last: a.Revision, repeated: a.Repeated}
		case eventstore.IsConflict(err):
			out = reply{conflict: true}
		case eventstore.Unavailable(err):
			return reply{unknown: true} // nothing was stored: it did not happen
		default:
			out = reply{unknown: true}
		}
	}
	o.Output, o.Return = out, r.clock.Add(1)
	if out.unknown {
		o.Return = math.MaxInt64 // it may still happen
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
	return out
}

// work makes calls at random. What it does not know the outcome of, it asks again.
func (r *recording) work(ctx context.Context, client, calls int, streams []string, rng *rand.Rand) {
	ends := make(map[string]eventstore.Expected) // where this client believes the streams to end
	for _, stream := range streams {
		ends[stream] = eventstore.NoStream
	}
	for range calls {
		c := call{stream: streams[rng.IntN(len(streams))]}
		end := ends[c.stream]
		if rng.IntN(4) > 0 {
			c.expected = []eventstore.Expected{end, end, end, end, end - 1, end + 1, eventstore.Any, eventstore.StreamExists}[rng.IntN(8)]
			c.expected = max(c.expected, eventstore.StreamExists)
			if c.expected == -3 {
				c.expected = eventstore.Any
			}
			for range 1 + rng.IntN(3) {
				c.events = append(c.events, uuid.New())
			}
		}
		hurried, cancel := context.WithCancel(ctx)
		if rng.IntN(6) == 0 {
			go func() { // while it is under way
				runtime.Gosched()
				cancel()
			}()
		}
		told := r.do(hurried, client, c)
		cancel()
		if c.expected >= eventstore.NoStream && len(c.events) > 0 && (told.unknown || rng.IntN(8) == 0) {
			told = r.do(ctx, client, c)
		}
		switch {
		case told.unknown || told.conflict:
			ends[c.stream]++
		case len(c.events) == 0:
			ends[c.stream] = eventstore.Expected(len(told.read)) - 1
		default:
			ends[c.stream] = eventstore.At(told.last)
		}
		r.done()
	}
}

// TestAppendsAreLinearizable records a thousand histories of clients that append to the same streams and read them: each
// is as if the calls had come one after the other. Some calls are cancelled, some appends are repeated, and in every
// fifth history the power fails, so that the outcome of what was under way is unknown.
func TestAppendsAreLinearizable(t *testing.T) {
	histories := 1_000 / slowed
	if full {
		histories = 100_000
	}
	const clients, calls = 4, 8
	rng := seeded(t)
	made, unknown, conflicts, repeated := 0, 0, 0, 0
	d := newDisk()
	s := open(t, d)
	for h := range histories {
		streams := []string{fmt.Sprintf("order-%d-a", h), fmt.Sprintf("order-%d-b", h)}
		r := new(recording)
		r.ledger.Store(s)
		cutAt := 0
		if h%5 == 4 {
			cutAt = 1 + rng.IntN(clients*calls)
		}
		cut := make(chan struct{})
		r.done = func() {
			if int(r.calls.Add(1)) == cutAt {
				close(cut)
			}
		}
		var work sync.WaitGroup
		for client := range clients {
			rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
			work.Go(func() { r.work(t.Context(), client, calls, streams, rng) })
		}
		if cutAt > 0 {
			<-cut
			d = diskOf(d.fail(crash(rng.IntN(int(crashes))), rng, func() { d.off.Store(true) }))
			before := s
			s = open(t, d)
			r.ledger.Store(s)
			work.Wait()
			_ = before.Close() // it has failed
		}
		work.Wait()
		for _, stream := range streams {
			r.do(t.Context(), clients, call{stream: stream})
		}
		for _, o := range r.ops {
			made++
			switch out := o.Output.(reply); {
			case out.unknown:
				unknown++
			case out.conflict:
				conflicts++
			case out.repeated:
				repeated++
			}
		}
		if !porcupine.CheckOperations(streamModel, r.ops) {
			t.Fatalf("history %d is not linearizable: %v", h, r.ops)
		}
	}
	t.Logf("%d calls: %d outcomes unknown, %d conflicts, %d repeated", made, unknown, conflicts, repeated)
	check(t, s.Close())
}
