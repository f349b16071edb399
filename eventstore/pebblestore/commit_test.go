package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/orderledger/orderledger/eventstore"
)

// A gate holds up every sync of the log while it is shut.
type gate struct {
	sync.RWMutex
	arrived chan struct{} // gets one for each sync
}

func (g *gate) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		if inLog(op) {
			select {
			case g.arrived <- struct{}{}:
			default:
			}
			g.RLock()
			defer g.RUnlock()
		}
	}
	return nil
}

func (g *gate) String() string { return "gate" }

// shut holds up the syncs to come.
func (g *gate) shut() {
	g.Lock()
	for len(g.arrived) > 0 {
		<-g.arrived
	}
}

// inLog reports whether an operation is one on a segment of the log.
func inLog(op errorfs.Op) bool { return strings.HasSuffix(op.Path, segmentSuffix) }

// underSync opens a ledger whose first append waits for its sync, and stays so until open is called.
func underSync(t *testing.T) (s *Store, open func()) {
	g := &gate{arrived: make(chan struct{}, 1)}
	s = mustOpen(t, "data", &Config{FS: errorfs.Wrap(vfs.NewMem(), g)})
	g.shut()
	first := asyncAppend(t, t.Context(), s, "order-first", eventstore.NoStream, newEvents(1))
	<-g.arrived
	return s, sync.OnceFunc(func() {
		g.Unlock()
		if a := <-first; a.err != nil {
			t.Errorf("the first append: %v", a.err)
		}
	})
}

func asyncAppend(t *testing.T, ctx context.Context, s *Store, stream string, expected eventstore.Expected, events []eventstore.Event) <-chan answer {
	done := make(chan answer, 1)
	go func() {
		a, err := s.Append(ctx, stream, expected, events)
		done <- answer{a, err}
	}()
	return done
}

// queued waits until n appends wait for the committer.
func queued(s *Store, n int) {
	for len(s.queue) != n {
		runtime.Gosched()
	}
}

func TestAppendsOfOneGroupSeeEachOther(t *testing.T) {
	s, open := underSync(t)
	defer mustClose(t, s)
	defer open()
	first, other, next := newEvents(2), newEvents(1), newEvents(1)
	var answers []<-chan answer
	for i, c := range []struct {
		expected eventstore.Expected
		events   []eventstore.Event
	}{
		{eventstore.NoStream, first},
		{eventstore.NoStream, first}, // repeated
		{eventstore.NoStream, other}, // too late
		{eventstore.At(1), next},
		{eventstore.StreamExists, other},
		{eventstore.At(1), next}, // repeated
	} {
		answers = append(answers, asyncAppend(t, t.Context(), s, "order-1", c.expected, c.events))
		queued(s, i+1)
	}
	open()
	want := []answer{
		{appended: eventstore.Appended{Revision: 1, Position: 3}},
		{appended: eventstore.Appended{Revision: 1, Position: 3, Repeated: true}},
		{err: &eventstore.Conflict{Stream: "order-1", Expected: eventstore.NoStream, Actual: eventstore.At(1)}},
		{appended: eventstore.Appended{Revision: 2, Position: 4}},
		{appended: eventstore.Appended{Revision: 3, Position: 5}},
		{appended: eventstore.Appended{Revision: 2, Position: 4, Repeated: true}},
	}
	for i, w := range want {
		got := <-answers[i]
		if got.appended != w.appended || (got.err == nil) != (w.err == nil) || got.err != nil && got.err.Error() != w.err.Error() {
			t.Errorf("append %d: %+v, want %+v", i, got, w)
		}
	}
	if r, err := s.Verify(t.Context(), nil); err != nil || r.Problem != "" || r.Events != 5 {
		t.Errorf("report %+v, error %v", r, err)
	}
}

func TestNothingIsSeenBeforeItsSync(t *testing.T) {
	s, open := underSync(t)
	defer mustClose(t, s)
	defer open()
	if n := count(t, s); n != 0 {
		t.Errorf("%d events are shown before they are durable", n)
	}
	for _, dir := range []eventstore.Direction{eventstore.Forward, eventstore.Backward} {
		for range s.ReadStream(t.Context(), "order-first", 0, dir) {
			t.Error("an event is shown before it is durable")
		}
	}
	if h, err := s.Head(t.Context()); err != nil || h.Position != 0 {
		t.Errorf("the head is %+v, error %v", h, err)
	}
	open()
	if n := count(t, s); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestACancelledAppendHasAnUnknownOutcome(t *testing.T) {
	s, open := underSync(t)
	defer mustClose(t, s)
	defer open()
	ctx, cancel := context.WithCancel(t.Context())
	waiting := asyncAppend(t, ctx, s, "order-1", eventstore.NoStream, newEvents(1))
	queued(s, 1)
	cancel()
	a := <-waiting
	if !errors.Is(a.err, context.Canceled) || eventstore.Unavailable(a.err) || !strings.Contains(a.err.Error(), "unknown") {
		t.Errorf("error %v", a.err)
	}
}

func TestAFullQueueWaitsAndCanBeLeft(t *testing.T) {
	s, open := underSync(t)
	var answers []<-chan answer
	for range maxQueue {
		answers = append(answers, asyncAppend(t, t.Context(), s, "order-1", eventstore.Any, newEvents(1)))
	}
	queued(s, maxQueue)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := asyncAppend(t, ctx, s, "order-2", eventstore.NoStream, newEvents(1))
	cancel()
	if a := <-waiting; !errors.Is(a.err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", a.err)
	}
	open()
	for _, a := range answers {
		if a := <-a; a.err != nil {
			t.Error(a.err)
		}
	}
	mustClose(t, s)
}

func TestCloseWaitsForAppendsUnderWay(t *testing.T) {
	s, open := underSync(t)
	waiting := asyncAppend(t, t.Context(), s, "order-1", eventstore.NoStream, newEvents(1))
	queued(s, 1)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	<-s.closing
	select {
	case err := <-closed:
		t.Errorf("Close did not wait, and returned %v", err)
	default:
	}
	if _, err := s.Append(t.Context(), "order-2", eventstore.Any, newEvents(1)); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	open()
	if a := <-waiting; a.err != nil {
		t.Errorf("the append under way: %v", a.err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	s, open := underSync(t)
	defer mustClose(t, s)
	var answers []<-chan answer
	for i := range 12 {
		events := newEvents(1)
		events[0].Data = bytes.Repeat([]byte("x"), 1<<20-100)
		answers = append(answers, asyncAppend(t, t.Context(), s, "order-1", eventstore.Any, events))
		queued(s, i+1)
	}
	open()
	for _, a := range answers {
		if a := <-a; a.err != nil {
			t.Error(a.err)
		}
	}
	if n := count(t, s); n != 13 {
		t.Errorf("%d events, want 13", n)
	}
}

// TestWritersShareGroups has many writers on one processor: all who can append do so before the next group is written.
func TestWritersShareGroups(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const writers, appends = 16, 50
	syncs := &counter{kind: errorfs.OpFileSyncData}
	s := mustOpen(t, "data", &Config{FS: errorfs.Wrap(vfs.NewMem(), syncs)})
	defer mustClose(t, s)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range appends {
				appendOne(t, s, fmt.Sprint("order-", w))
			}
		})
	}
	wg.Wait()
	if n := syncs.n.Load(); n > writers*appends/4 {
		t.Errorf("%d appends by %d writers took %d syncs", writers*appends, writers, n)
	}
}
