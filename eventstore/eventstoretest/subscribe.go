package eventstoretest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

// ours leaves out what others write.
var ours = eventstore.Filter{Prefixes: []string{"order-", "relay-"}}

var subscribeTests = []test{
	{name: "a subscriber catches up and then follows", f: func(t *testing.T, l *ledger) {
		old := newEvents(40)
		l.append("order-1", eventstore.NoStream, old...)
		sub := follow(l, 0, ours)
		if d := diffWritten(recorded("order-1", 0, old...), sub.take(t, 40)); d != "" {
			t.Fatalf("catching up (-want +got):\n%s", d)
		}
		for i := range uint64(5) {
			live := newEvents(2)
			l.append("order-1", eventstore.Any, live...)
			if d := diffWritten(recorded("order-1", 40+2*i, live...), sub.take(t, 2)); d != "" {
				t.Fatalf("following (-want +got):\n%s", d)
			}
		}
		sub.stop(t)
	}},
	{name: "a subscriber to an empty ledger waits for its first event", f: func(t *testing.T, l *ledger) {
		sub := follow(l, 0, ours)
		e := newEvent()
		l.append("order-1", eventstore.NoStream, e)
		if d := diffWritten(recorded("order-1", 0, e), sub.take(t, 1)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		sub.stop(t)
	}},
	{name: "a subscriber begins after its position", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvents(30)...)
		all := l.all(0)
		sub := follow(l, all[17].Position, ours)
		if d := diff(all[18:], sub.take(t, 12)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		sub.stop(t)
	}},
	{name: "a subscriber gets what its filter chooses", f: func(t *testing.T, l *ledger) {
		sub := follow(l, 0, eventstore.Filter{Prefixes: []string{"order-"}, Public: true})
		var want []eventstore.Recorded
		for i := range uint64(10) {
			l.append("relay-1", eventstore.Any, newEvents(3)...)
			l.append("command-1", eventstore.Any, newEvents(3)...)
			e := newEvent()
			l.append("order-1", eventstore.Any, e)
			want = append(want, recorded("order-1", i, e)...)
		}
		if d := diffWritten(want, sub.take(t, 10)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		sub.stop(t)
	}},
	{name: "many subscribers get everything once and in order", f: func(t *testing.T, l *ledger) {
		const subscribers = 8
		var subs []*subscription
		whileWriting(t, l, 3, func() {
			if len(subs) < subscribers { // they begin at all times
				subs = append(subs, follow(l, 0, ours))
			}
		})
		want := l.all(0)
		for i, sub := range subs {
			if d := diff(want, sub.take(t, len(want))); d != "" {
				t.Errorf("subscriber %d (-want +got):\n%.2000s", i, d)
			}
			sub.stop(t)
		}
	}},
	{name: "a slow subscriber hinders nobody and misses nothing", f: func(t *testing.T, l *ledger) {
		slow := follow(l, 0, ours) // gets nothing until take
		for range 300 {
			l.append("order-1", eventstore.Any, newEvents(10)...)
		}
		want := l.all(0)
		if d := diff(want, slow.take(t, len(want))); d != "" {
			t.Errorf("(-want +got):\n%.2000s", d)
		}
		slow.stop(t)
	}},
	{name: "a subscription ends with the context's error", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvent())
		ctx, cancel := context.WithTimeout(l.ctx, 20*time.Millisecond)
		defer cancel()
		got, err := gather(l.Subscribe(ctx, 0, ours))
		if !errors.Is(err, context.DeadlineExceeded) || len(got) > 1 {
			t.Errorf("%d events and error %v, want context.DeadlineExceeded", len(got), err)
		}
	}},
	{name: "a subscription that waits ends when the ledger is closed", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvent())
		subs := []*subscription{follow(l, 0, ours), follow(l, 0, ours)}
		for _, sub := range subs {
			sub.take(t, 1)
		}
		l.close()
		for _, sub := range subs {
			if err := sub.wait(); !errors.Is(err, eventstore.ErrClosed) {
				t.Errorf("error %v, want ErrClosed", err)
			}
		}
	}},
}

// A subscription is followed in a goroutine, which hands over one event at a time.
type subscription struct {
	events chan eventstore.Recorded
	cancel context.CancelFunc
	wg     sync.WaitGroup
	err    error // of the sequence, once wg is done
}

func follow(l *ledger, after eventstore.Position, filter eventstore.Filter) *subscription {
	ctx, cancel := context.WithCancel(l.ctx)
	sub := &subscription{events: make(chan eventstore.Recorded), cancel: cancel}
	sub.wg.Go(func() {
		defer close(sub.events)
		for e, err := range l.Subscribe(ctx, after, filter) {
			if err != nil {
				sub.err = err
				return
			}
			select {
			case sub.events <- e:
			case <-ctx.Done():
				sub.err = ctx.Err()
				return
			}
		}
		sub.err = errors.New("the subscription ended without an error")
	})
	l.t.Cleanup(func() { // for a test that fails
		cancel()
		sub.wg.Wait()
	})
	return sub
}

// take waits for n events.
func (s *subscription) take(t *testing.T, n int) []eventstore.Recorded {
	t.Helper()
	events := make([]eventstore.Recorded, 0, n)
	for len(events) < n {
		e, ok := <-s.events
		if !ok {
			t.Fatalf("%d of %d events came, then: %v", len(events), n, s.wait())
		}
		events = append(events, e)
	}
	return slices.Clip(events)
}

// stop cancels the subscription, which must hold no more events.
func (s *subscription) stop(t *testing.T) {
	t.Helper()
	s.cancel()
	for e := range s.events {
		t.Errorf("an event too many: revision %d of %s", e.Revision, e.Stream)
	}
	if err := s.wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("the subscription ended with %v, want context.Canceled", err)
	}
}

func (s *subscription) wait() error {
	s.wg.Wait()
	if s.err == nil {
		return fmt.Errorf("no error")
	}
	return s.err
}
