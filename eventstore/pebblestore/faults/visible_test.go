package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// A gate holds up every sync of a disk while it is shut.
type gate struct {
	sync.RWMutex
	arrived chan struct{} // gets one when a sync comes
}

func (g *gate) before(c change) error {
	if !strings.HasPrefix(c.op, "sync") {
		return nil
	}
	select {
	case g.arrived <- struct{}{}:
	default:
	}
	g.RLock()
	defer g.RUnlock()
	return nil
}

// An audience are the readers of a ledger, each of which remembers what it has seen.
type audience struct {
	mu   sync.Mutex // protects what follows
	seen map[string][]uuid.UUID
}

// see notes what a reader sees now, which must begin with what it has seen before.
func (a *audience) see(t *testing.T, reader string, ids []uuid.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.seen[reader]
	if len(ids) < len(before) {
		t.Errorf("%s sees %d events, and has seen %d", reader, len(ids), len(before))
		return
	}
	for i, id := range before {
		if ids[i] != id {
			t.Errorf("%s sees another event than before at place %d", reader, i)
			return
		}
	}
	a.seen[reader] = ids
}

func (a *audience) count(reader string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen[reader])
}

// look reads everything in every way.
func (a *audience) look(ctx context.Context, t *testing.T, s eventstore.Reader, reader string, streams []string) {
	var all []uuid.UUID
	position := eventstore.Position(0)
	for e, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			t.Error(err)
			return
		}
		if e.Position <= position {
			t.Errorf("after position %d comes %d", position, e.Position)
		}
		position = e.Position
		all = append(all, e.ID)
	}
	a.see(t, reader, all)
	head, err := s.Head(ctx)
	if err != nil || head.Position < position {
		t.Errorf("the head is %d, error %v, and position %d was seen", head.Position, err, position)
	}
	for _, stream := range streams {
		for _, dir := range []eventstore.Direction{eventstore.Forward, eventstore.Backward} {
			var ids []uuid.UUID
			from := uint64(0)
			if dir == eventstore.Backward {
				from = eventstore.End
			}
			for e, err := range s.ReadStream(ctx, stream, from, dir) {
				if err != nil {
					t.Error(err)
					return
				}
				if ids == nil {
					ids = make([]uuid.UUID, 0, e.Revision+1)
				}
				if dir == eventstore.Backward && len(ids) == 0 {
					ids = make([]uuid.UUID, e.Revision+1)
				}
				if dir == eventstore.Backward {
					ids[e.Revision] = e.ID
				} else {
					ids = append(ids, e.ID)
				}
			}
			a.see(t, fmt.Sprintf("%s of stream %s, direction %d", reader, stream, dir), ids)
		}
	}
}

func (a *audience) subscribe(ctx context.Context, t *testing.T, s eventstore.Reader, reader string) {
	after := eventstore.Position(0)
	var ids []uuid.UUID
	for e, err := range s.Subscribe(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			return
		}
		if after++; e.Position != after {
			t.Errorf("after position %d comes %d", after-1, e.Position)
		}
		ids = append(ids, e.ID)
		a.see(t, reader, ids)
	}
}

// TestNothingIsSeenBeforeItIsDurable holds up the disk's syncs while appends are under way: until they are done, no
// reader and no subscriber sees anything of them, whichever way it reads, and nobody is told that they have happened.
func TestNothingIsSeenBeforeItIsDurable(t *testing.T) {
	g := &gate{arrived: make(chan struct{}, 1)}
	d := newDisk()
	d.before = g.before
	s := open(t, d)
	a := &audience{seen: make(map[string][]uuid.UUID)}
	ctx, stop := context.WithCancel(t.Context())
	var subscribers sync.WaitGroup
	subscribers.Go(func() { a.subscribe(ctx, t, s, "subscriber") })
	streams := []string{"order-0", "order-1", "order-2"}
	events := 0
	for range 30 {
		g.Lock()
		for len(g.arrived) > 0 {
			<-g.arrived
		}
		answers := make(chan error, 6)
		for i := range cap(answers) {
			list := make([]eventstore.Event, 1+i%3)
			for j := range list {
				list[j] = eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Data: []byte("{}")}
			}
			events += len(list)
			go func() {
				_, err := s.Append(t.Context(), streams[i%len(streams)], eventstore.Any, list)
				answers <- err
			}()
		}
		<-g.arrived
		before := a.count("reader")
		for range 20 {
			a.look(t.Context(), t, s, "reader", streams)
			if n := max(a.count("reader"), a.count("subscriber")); n > before {
				t.Fatalf("%d events are seen, and %d are durable", n, before)
			}
		}
		if len(answers) > 0 {
			t.Fatal("an append was acknowledged before its sync")
		}
		g.Unlock()
		for range cap(answers) {
			check(t, <-answers)
		}
		a.look(t.Context(), t, s, "reader", streams)
		if n := a.count("reader"); n != events {
			t.Fatalf("%d events are seen, and %d were acknowledged", n, events)
		}
	}
	stop()
	subscribers.Wait()
	check(t, s.Close())
}

// TestNothingAppearsBehindAReader reads in every way beside writers: what a reader has seen stays as it was, and what
// is new comes after it.
func TestNothingAppearsBehindAReader(t *testing.T) {
	s := open(t, newDisk())
	a := &audience{seen: make(map[string][]uuid.UUID)}
	l := &load{t: t, histories: histories(t), ledger: s}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { l.run(ctx, 4, seeded(t)) })
	for i := range 2 {
		work.Go(func() { a.subscribe(ctx, t, s, fmt.Sprint("subscriber ", i)) })
		work.Go(func() {
			for ctx.Err() == nil {
				var streams []string
				for _, ack := range l.known().acked {
					if streams = append(streams, ack.stream); len(streams) == 5 {
						break
					}
				}
				a.look(t.Context(), t, s, fmt.Sprint("reader ", i), streams)
				if a.count(fmt.Sprint("reader ", i)) > 3_000 {
					stop()
				}
			}
		})
	}
	work.Wait()
	stop()
	check(t, s.Close())
}
