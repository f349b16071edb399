package eventstoretest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

var readTests = []test{
	{name: "a stream that does not exist yields nothing", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvent())
		for _, dir := range []eventstore.Direction{eventstore.Forward, eventstore.Backward} {
			for _, from := range []uint64{0, 7, eventstore.End} {
				if got := l.collect(l.ReadStream(l.ctx, "order-2", from, dir)); len(got) != 0 {
					t.Errorf("from %d, direction %d: %d events", from, dir, len(got))
				}
			}
		}
	}},
	{name: "a stream is read from any revision in both directions", f: func(t *testing.T, l *ledger) {
		const n = 1500 // more than any reader would hold at once
		var want []eventstore.Recorded
		for len(want) < n {
			events := newEvents(500)
			l.append("order-1", eventstore.Any, events...)
			l.append("order-2", eventstore.Any, newEvent()) // stands in between
			want = append(want, recorded("order-1", uint64(len(want)), events...)...)
		}
		for _, from := range []uint64{0, 1, 15, 16, 17, 749, n - 1, n} {
			got := l.collect(l.ReadStream(l.ctx, "order-1", from, eventstore.Forward))
			if d := diffWritten(want[from:], got); d != "" {
				t.Errorf("forward from %d (-want +got):\n%.2000s", from, d)
			}
		}
		backward := slices.Clone(want)
		slices.Reverse(backward)
		for _, from := range []uint64{0, 1, 15, 16, 17, 749, n - 1, eventstore.End} {
			rest := backward
			if from != eventstore.End {
				rest = backward[n-1-from:]
			}
			got := l.collect(l.ReadStream(l.ctx, "order-1", from, eventstore.Backward))
			if d := diffWritten(rest, got); d != "" {
				t.Errorf("backward from %d (-want +got):\n%.2000s", from, d)
			}
		}
	}},
	{name: "reading both ways gives the same events", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvents(5)...)
		forward := l.stream("order-1")
		backward := l.collect(l.ReadStream(l.ctx, "order-1", eventstore.End, eventstore.Backward))
		slices.Reverse(backward)
		if d := diff(forward, backward); d != "" {
			t.Errorf("(-forward +backward):\n%s", d)
		}
	}},
	{name: "streams with similar names stand apart", f: func(t *testing.T, l *ledger) {
		names := []string{"order-1", "order-10", "order-", "order", "order-1 ", "Order-1", "order-é", "order-e\u0301", "order-1/2", "%6frder-1"}
		for _, name := range names {
			l.append(name, eventstore.NoStream, newEvent())
		}
		for _, name := range names {
			if got := l.stream(name); len(got) != 1 || got[0].Stream != name {
				t.Errorf("stream %q yields %d events", name, len(got))
			}
		}
	}},
	{name: "the ledger is read after any position", f: func(t *testing.T, l *ledger) {
		for i := range 4 {
			l.append(name(i), eventstore.NoStream, newEvents(20)...)
		}
		all := l.all(0)
		if len(all) != 80 {
			t.Fatalf("the ledger holds %d events, want 80", len(all))
		}
		for _, i := range []int{0, 1, 15, 16, 17, 63, 78, 79} {
			if d := diff(all[i+1:], l.all(all[i].Position)); d != "" {
				t.Errorf("after event %d (-want +got):\n%.2000s", i, d)
			}
		}
	}},
	{name: "a filter chooses by prefix", f: func(t *testing.T, l *ledger) {
		for _, stream := range []string{"order-1", "relay-1", "ruleset-1", "order-2", "command-1"} {
			l.append(stream, eventstore.NoStream, newEvents(2)...)
		}
		for _, c := range []struct {
			filter eventstore.Filter
			want   int
		}{
			{eventstore.Filter{Prefixes: []string{"order-"}}, 4},
			{eventstore.Filter{Prefixes: []string{"order-", "ruleset-"}}, 6},
			{eventstore.Filter{Prefixes: []string{"order-1"}}, 2},
			{eventstore.Filter{Prefixes: []string{"unknown-"}}, 0},
			{eventstore.Filter{Prefixes: []string{"relay-"}}, 2},
			{eventstore.Filter{Prefixes: []string{"relay-", "order-"}, Public: true}, 4},
		} {
			got := l.collect(l.ReadAll(l.ctx, 0, c.filter))
			want := slices.DeleteFunc(l.all(0), func(e eventstore.Recorded) bool { return !c.filter.Match(e.Stream) })
			if len(got) != c.want {
				t.Errorf("%+v: %d events, want %d", c.filter, len(got), c.want)
			}
			if d := diff(want, got); d != "" {
				t.Errorf("%+v (-want +got):\n%s", c.filter, d)
			}
		}
		for _, e := range l.collect(l.ReadAll(l.ctx, 0, eventstore.Filter{Public: true})) {
			if eventstore.Internal(e.Stream) {
				t.Errorf("a public filter chose stream %s", e.Stream)
			}
		}
	}},
	{name: "ReadAll ends at the head of its call", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvents(3)...)
		seq := l.ReadAll(l.ctx, 0, eventstore.Filter{Prefixes: []string{"order-"}})
		l.append("order-1", eventstore.At(2), newEvents(2)...)
		if got := l.collect(seq); len(got) != 3 {
			t.Errorf("%d events, want the 3 that stood there at the call", len(got))
		}
	}},
	{name: "a sequence may be left early", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvents(100)...)
		ctx, cancel := context.WithCancel(l.ctx)
		defer cancel()
		for _, seq := range []func(func(eventstore.Recorded, error) bool){
			l.ReadStream(ctx, "order-1", 0, eventstore.Forward),
			l.ReadAll(ctx, 0, eventstore.Filter{}),
			l.Subscribe(ctx, 0, eventstore.Filter{}),
		} {
			n := 0
			for _, err := range seq {
				if err != nil {
					t.Fatal(err)
				}
				if n++; n == 20 {
					break
				}
			}
		}
	}},
	{name: "a cancelled read ends with the context's error", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvents(100)...)
		for name, read := range map[string]func(ctx context.Context) func(func(eventstore.Recorded, error) bool){
			"ReadStream": func(ctx context.Context) func(func(eventstore.Recorded, error) bool) {
				return l.ReadStream(ctx, "order-1", 0, eventstore.Forward)
			},
			"ReadAll": func(ctx context.Context) func(func(eventstore.Recorded, error) bool) {
				return l.ReadAll(ctx, 0, eventstore.Filter{})
			},
		} {
			ctx, cancel := context.WithCancel(l.ctx)
			cancel()
			if got, err := gather(read(ctx)); !errors.Is(err, context.Canceled) || len(got) > 0 {
				t.Errorf("%s: %d events and error %v, want context.Canceled", name, len(got), err)
			}
		}
	}},
	{name: "an acknowledged append is seen by every reader", f: func(t *testing.T, l *ledger) {
		for i := range uint64(20) {
			e := newEvent()
			a := l.append("order-1", eventstore.Any, e)
			if got := l.collect(l.ReadStream(l.ctx, "order-1", i, eventstore.Forward)); len(got) != 1 || got[0].ID != e.ID {
				t.Fatalf("the stream lacks revision %d", i)
			}
			if got := l.all(a.Position - 1); len(got) != 1 || got[0].ID != e.ID {
				t.Fatalf("the ledger lacks position %d", a.Position)
			}
			if head, err := l.Head(l.ctx); err != nil || head.Position < a.Position {
				t.Fatalf("Head = position %d, error %v; want at least %d", head.Position, err, a.Position)
			}
		}
	}},
	{name: "an append is seen whole or not at all", f: func(t *testing.T, l *ledger) {
		const size = 7
		whileWriting(t, l, size, func() {
			seen := make(map[string]int)
			for _, e := range l.all(0) {
				seen[e.Stream]++
			}
			for i := range writers {
				seen[name(i)+"'s own"] = len(l.stream(name(i)))
			}
			for stream, n := range seen {
				if n%size != 0 {
					t.Errorf("%s shows %d events, although each append has %d", stream, n, size)
				}
			}
		})
	}},
	{name: "no position appears behind a reader", f: func(t *testing.T, l *ledger) {
		var before []uuid.UUID
		whileWriting(t, l, 1, func() {
			all := l.all(0)
			checkRising(t, all)
			now := ids(all)
			if len(now) < len(before) || !slices.Equal(before, now[:len(before)]) {
				t.Error("what was read before is not the beginning of what is read now")
			}
			before = now
		})
	}},
	{name: "the head tells the ledger and its end", f: func(t *testing.T, l *ledger) {
		first, err := l.Head(l.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if first.ID == uuid.Nil || first.Lanes < 1 || first.Format < 1 {
			t.Errorf("identity %+v", first.Identity)
		}
		a := l.append("order-1", eventstore.NoStream, newEvents(2)...)
		second, err := l.Head(l.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if second.Identity != first.Identity || second.Position < a.Position || first.Position >= a.Position {
			t.Errorf("the head was %+v, then %+v; the append ended at %d", first, second, a.Position)
		}
		ctx, cancel := context.WithCancel(l.ctx)
		cancel()
		if _, err := l.Head(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	}},
	{name: "every event carries the chain, internal ones excepted", chained: true, f: func(t *testing.T, l *ledger) {
		for _, stream := range []string{"order-1", "relay-1", "order-2", "order-1", "relay-1"} {
			l.append(stream, eventstore.Any, newEvents(2)...)
		}
		checkChain(t, l)
	}},
}

const writers = 4

// whileWriting calls look again and again while goroutines append groups of events.
func whileWriting(t *testing.T, l *ledger, size int, look func()) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range 25 {
				if _, err := l.Append(l.ctx, name(w), eventstore.Any, newEvents(size)); err != nil {
					t.Errorf("Append: %v", err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		close(done)
	}()
	for {
		look()
		select {
		case <-done:
			look()
			return
		default:
		}
	}
}

// checkChain computes the chain of a whole ledger again.
func checkChain(t *testing.T, l *ledger) {
	t.Helper()
	var chain eventstore.Hash
	for _, e := range l.collect(l.ReadAll(l.ctx, 0, eventstore.Filter{})) {
		if eventstore.Internal(e.Stream) {
			if e.Chain != (eventstore.Hash{}) {
				t.Errorf("revision %d of %s is internal and carries a hash", e.Revision, e.Stream)
			}
			continue
		}
		if chain = eventstore.Chain(chain, &e); e.Chain != chain {
			t.Fatalf("revision %d of %s carries %s, want %s", e.Revision, e.Stream, e.Chain, chain)
		}
	}
	if head, err := l.Head(l.ctx); err != nil || head.Chain != chain {
		t.Errorf("the head carries %s, error %v; want %s", head.Chain, err, chain)
	}
}
