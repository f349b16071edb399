package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/eventstore/relay"
	"github.com/orderledger/orderledger/internal/message"
)

// full asks for the long runs.
var full = os.Getenv("ORDERLEDGER_FULL") == "1"

var quiet = slog.New(slog.DiscardHandler)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seeded returns a source of chance, the same in every run unless ORDERLEDGER_SEED asks for another one.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(1)
	if s := os.Getenv("ORDERLEDGER_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		check(t, err)
	}
	t.Logf("ORDERLEDGER_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// settings are those of a ledger that has several of everything.
func settings(fsys vfs.FS) *pebblestore.Config {
	return &pebblestore.Config{FS: fsys, Logger: quiet, Lanes: 4, SegmentSize: 64 << 10}
}

func open(t testing.TB, fsys vfs.FS) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.Open("data", settings(fsys))
	check(t, err)
	return s
}

// A history is the life of an order, as it is stored.
type history struct {
	order  string // the order's id, as it stands in the events
	events []eventstore.Event
}

func histories(t testing.TB) []history {
	t.Helper()
	list := make([]history, 40)
	for i := range list {
		for _, h := range rapid.Custom(domaintest.History).Example(i) {
			if s, ok := h.Event.(*domain.Submitted); ok {
				list[i].order = s.Order.String()
			}
			data, err := domain.EncodeEvent(h.Event)
			check(t, err)
			metadata, err := domain.EncodeMeta(h.Meta)
			check(t, err)
			list[i].events = append(list[i].events, eventstore.Event{Type: h.Event.Type(), Metadata: metadata, Data: data})
		}
	}
	return list
}

// A load is a ledger at work: writers that remember what they were told, a relay that remembers what it has published,
// and a subscriber that remembers what it has seen.
type load struct {
	t         *testing.T
	ledger    *pebblestore.Store
	histories []history
	publish   func([]eventstore.Delivery) // is given what the relay publishes; nil: nobody
	lag       int                         // writers wait while so many events are seen and not published; 0: they do not wait

	mu sync.Mutex // protects what is known
	knowledge
	heard *sync.Cond // what is published has grown
}

// knowledge is what is known of a ledger at a moment. Its lists only grow.
type knowledge struct {
	begun     []*attempt
	acked     []acked
	seen      []eventstore.Recorded
	published []eventstore.Delivery
}

// An attempt is an append that was begun.
type attempt struct {
	stream   string
	expected eventstore.Expected
	events   []eventstore.Event
}

// acked is an attempt that was acknowledged.
type acked struct {
	*attempt
	eventstore.Appended
}

// known returns what is known now.
func (l *load) known() knowledge {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.knowledge
}

// run works until ctx is done, or until no writer goes on because the ledger has failed.
func (l *load) run(ctx context.Context, writers int, rng *rand.Rand) {
	l.heard = sync.NewCond(&l.mu)
	defer context.AfterFunc(ctx, l.heard.Broadcast)()
	var work, followers sync.WaitGroup
	following, stop := context.WithCancel(ctx)
	after := eventstore.Position(len(l.known().seen))
	followers.Go(func() { l.subscribe(following, after) })
	r, err := relay.New(relay.Config{Name: "bus", Ledger: l.ledger, Bus: l})
	check(l.t, err)
	followers.Go(func() { _ = r.Run(following) }) // it ends with the context
	for range writers {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
		work.Go(func() { l.write(ctx, rng) })
	}
	work.Wait()
	if writers == 0 {
		<-ctx.Done()
	}
	stop()
	followers.Wait()
}

// write brings orders from their beginning to their end.
func (l *load) write(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		order := uuid.New()
		history := l.histories[rng.IntN(len(l.histories))]
		expected := eventstore.NoStream
		for i := 0; i < len(history.events) && ctx.Err() == nil; {
			n := min(1+rng.IntN(4), len(history.events)-i)
			a := &attempt{stream: domain.Stream(order), expected: expected}
			for j := i; j < i+n; j++ {
				e := history.events[j]
				e.Data = bytes.ReplaceAll(e.Data, []byte(history.order), []byte(order.String()))
				e.ID = domain.EventID(order, uuid.Nil, j)
				a.events = append(a.events, e)
			}
			l.mu.Lock()
			for ctx.Err() == nil && l.lag > 0 && len(l.seen)-len(l.published) > l.lag {
				l.heard.Wait()
			}
			l.begun = append(l.begun, a)
			l.mu.Unlock()
			result, err := l.ledger.Append(context.WithoutCancel(ctx), a.stream, a.expected, a.events)
			if err != nil {
				return // its outcome is unknown
			}
			l.mu.Lock()
			l.acked = append(l.acked, acked{a, result})
			l.mu.Unlock()
			i += n
			expected = eventstore.At(uint64(i) - 1)
		}
	}
}

// subscribe notes what it sees. Positions have no gap in this ledger.
func (l *load) subscribe(ctx context.Context, after eventstore.Position) {
	for e, err := range l.ledger.Subscribe(ctx, after, eventstore.Filter{}) {
		if err != nil {
			return
		}
		if after++; e.Position != after {
			l.t.Errorf("after position %d comes %d", after-1, e.Position)
		}
		l.mu.Lock()
		l.seen = append(l.seen, e)
		l.mu.Unlock()
	}
}

// Publish is the relay's bus.
func (l *load) Publish(_ string, messages ...*watermill.Message) error {
	var deliveries []eventstore.Delivery
	for _, m := range messages {
		d, whole, err := message.Decode(m.Payload)
		if err != nil || !whole {
			return fmt.Errorf("a message that cannot be read: %w", err)
		}
		deliveries = append(deliveries, d)
	}
	if l.publish != nil {
		l.publish(deliveries)
	} else {
		<-time.After(time.Millisecond) // lanes wait for the bus now and then
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.published = append(l.published, deliveries...)
	l.heard.Broadcast()
	return nil
}

// Close implements the bus.
func (l *load) Close() error { return nil }

// A loss is what is wrong with a ledger after the power has failed.
type loss struct {
	acked, seen, published int      // events that were known, and are lost or another
	faults                 []string // anything else
}

func (l *loss) fault(format string, args ...any) {
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

func (l *loss) none() bool { return l.acked+l.seen+l.published == 0 && len(l.faults) == 0 }

func (l *loss) String() string {
	return fmt.Sprintf("lost: %d acknowledged events, %d seen by readers, %d published; %q", l.acked, l.seen, l.published, l.faults)
}

// survey opens what a crash has left and compares it with what was known when it happened. It returns the events, and
// how far the relay's checkpoint had come.
func survey(ctx context.Context, left vfs.FS, k knowledge) (events []eventstore.Recorded, relayed eventstore.Position, _ *loss) {
	l := new(loss)
	s, err := pebblestore.Open("data", settings(left))
	if err != nil {
		l.acked = len(k.acked)
		l.fault("%v", err)
		return nil, 0, l
	}
	defer func() {
		if err := s.Close(); err != nil {
			l.fault("closing: %v", err)
		}
	}()
	if err := s.Writable(); err != nil {
		l.fault("%v", err)
	}
	for e, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			l.fault("reading: %v", err)
			return nil, 0, l
		}
		events = append(events, e)
	}
	is := func(p eventstore.Position, id uuid.UUID) bool {
		return p > 0 && int(p) <= len(events) && events[p-1].ID == id && events[p-1].Position == p
	}
	for _, a := range k.acked {
		for i, e := range a.events {
			if back := len(a.events) - 1 - i; !is(a.Position-eventstore.Position(back), e.ID) {
				l.acked++
			}
		}
	}
	for _, e := range k.seen {
		if !is(e.Position, e.ID) || events[e.Position-1].Chain != e.Chain {
			l.seen++
		}
	}
	l.whole(events, k)
	relayed = l.checkpoint(ctx, s, events, k)
	if r, err := s.Verify(ctx, nil); err != nil || r.Problem != "" || int(r.Events) != len(events) {
		l.fault("verify: %+v, error %v", r, err)
	}
	if err := s.Writable(); err == nil {
		l.retry(ctx, s, k)
	}
	return events, relayed, l
}

// whole checks that of each append all events are there, one after the other, or none, and that nothing else is.
func (l *loss) whole(events []eventstore.Recorded, k knowledge) {
	first := make(map[uuid.UUID]*attempt, len(k.begun))
	for _, a := range k.begun {
		first[a.events[0].ID] = a
	}
	seen := make(map[uuid.UUID]bool, len(k.seen))
	for _, e := range k.seen {
		seen[e.ID] = true
	}
	for i := 0; i < len(events); {
		e := events[i]
		a := first[e.ID]
		if a == nil {
			if !eventstore.Internal(e.Stream) && !seen[e.ID] {
				l.fault("nobody has appended event %s at position %d", e.ID, e.Position)
			}
			i++
			continue
		}
		for j, want := range a.events {
			if i+j >= len(events) || events[i+j].ID != want.ID || events[i+j].Stream != a.stream ||
				events[i+j].Revision != uint64(int64(a.expected)+1)+uint64(j) {
				l.fault("of an append of %d events at position %d, %d are there", len(a.events), e.Position, j)
				break
			}
		}
		i += len(a.events)
	}
}

// checkpoint checks that the relay's checkpoint vouches only for what the bus had taken, and that the ledger has that.
func (l *loss) checkpoint(ctx context.Context, s *pebblestore.Store, events []eventstore.Recorded, k knowledge) eventstore.Position {
	taken := make(map[eventstore.Position]bool, len(k.published))
	for _, d := range k.published {
		if d.Event == nil {
			continue
		}
		taken[d.Position] = true
		if int(d.Position) > len(events) || events[d.Position-1].ID != d.Event.ID {
			l.published++
		}
	}
	for e, err := range s.ReadStream(ctx, "relay-bus", eventstore.End, eventstore.Backward) {
		var c relay.Checkpoint
		if err = errors.Join(err, json.Unmarshal(e.Data, &c)); err != nil {
			l.fault("reading the checkpoint: %v", err)
			return 0
		}
		for _, e := range events {
			lane := eventstore.Lane(e.Stream, 4)
			if (e.Position <= c.Position || e.Position <= c.Lanes[lane]) && !eventstore.Internal(e.Stream) && !taken[e.Position] {
				l.fault("the relay's checkpoint has passed position %d, which the bus has not taken", e.Position)
				return 0
			}
		}
		return c.Position
	}
	return 0
}

// retry repeats the newest appends that nobody knew the outcome of. Each must succeed, and once more with the same
// result.
func (l *loss) retry(ctx context.Context, s *pebblestore.Store, k knowledge) {
	done := make(map[*attempt]bool, len(k.acked))
	for _, a := range k.acked {
		done[a.attempt] = true
	}
	for _, a := range k.begun[max(0, len(k.begun)-10):] {
		if done[a] {
			continue
		}
		first, err := s.Append(ctx, a.stream, a.expected, a.events)
		if err != nil || first.Revision != uint64(int64(a.expected))+uint64(len(a.events)) {
			l.fault("retrying an append of %d events at %v: %+v, error %v", len(a.events), a.expected, first, err)
			continue
		}
		again, err := s.Append(ctx, a.stream, a.expected, a.events)
		if err != nil || !again.Repeated || again.Revision != first.Revision || again.Position != first.Position {
			l.fault("an append had the result %+v, and %+v when repeated, error %v", first, again, err)
		}
	}
}
