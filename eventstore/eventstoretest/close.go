package eventstoretest

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

var closeTests = []test{
	{name: "Close may be called twice", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvent())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := l.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
		wg.Wait()
	}},
	{name: "every call after Close returns ErrClosed", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvents(3)...)
		all := l.ReadAll(l.ctx, 0, eventstore.Filter{})
		l.close()
		errs := make(map[string]error)
		_, errs["Append"] = l.Append(l.ctx, "order-1", eventstore.Any, newEvents(1))
		_, errs["Head"] = l.Head(l.ctx)
		_, errs["ReadStream"] = gather(l.ReadStream(l.ctx, "order-1", 0, eventstore.Forward))
		_, errs["ReadAll"] = gather(l.ReadAll(l.ctx, 0, eventstore.Filter{}))
		_, errs["ReadAll of before"] = gather(all)
		_, errs["Subscribe"] = gather(l.Subscribe(l.ctx, 0, eventstore.Filter{}))
		for call, err := range errs {
			if !errors.Is(err, eventstore.ErrClosed) {
				t.Errorf("%s: error %v, want ErrClosed", call, err)
			}
		}
		if !eventstore.Unavailable(errs["Append"]) {
			t.Error("a refused append is not told as unavailable")
		}
	}},
	{name: "a sequence under way ends with ErrClosed", f: func(t *testing.T, l *ledger) {
		const n = 5000 // more than any reader would hold at once
		l.append("order-1", eventstore.NoStream, newEvents(n)[:n/2]...)
		l.append("order-1", eventstore.Any, newEvents(n/2)...)
		for name, seq := range map[string]func(func(eventstore.Recorded, error) bool){
			"ReadStream": l.ReadStream(l.ctx, "order-1", 0, eventstore.Forward),
			"ReadAll":    l.ReadAll(l.ctx, 0, ours),
			"Subscribe":  l.Subscribe(l.ctx, 0, ours),
		} {
			got := 0
			var last error
			for _, err := range seq {
				if got++; got == 1 {
					l.close()
				}
				last = err
			}
			if !errors.Is(last, eventstore.ErrClosed) {
				t.Errorf("%s: error %v after %d events, want ErrClosed", name, last, got)
			}
		}
	}},
	{name: "what was acknowledged before Close is there afterwards", f: func(t *testing.T, l *ledger) {
		acknowledged := make([][]uuid.UUID, writers)
		begun := make(chan struct{}, writers)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for {
					events := newEvents(2)
					_, err := l.Append(l.ctx, name(w), eventstore.Any, events)
					if err != nil {
						if !errors.Is(err, eventstore.ErrClosed) {
							t.Errorf("Append: %v", err)
						}
						return
					}
					acknowledged[w] = append(acknowledged[w], events[0].ID, events[1].ID)
					if len(acknowledged[w]) == 20 {
						begun <- struct{}{}
					}
				}
			})
		}
		for range writers {
			<-begun
		}
		l.close()
		wg.Wait()
		l.reopen()
		for w, want := range acknowledged {
			got := ids(l.stream(name(w)))
			if len(got) != len(want) {
				t.Errorf("stream %s holds %d events, %d were acknowledged", name(w), len(got), len(want))
				continue
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("stream %s holds %s at revision %d, want %s", name(w), got[i], i, want[i])
				}
			}
		}
	}},
	{name: "a ledger is the same when it is opened again", f: func(t *testing.T, l *ledger) {
		for _, stream := range []string{"order-1", "relay-1", "order-2", "order-1"} {
			l.append(stream, eventstore.Any, newEvents(30)...)
		}
		before := l.all(0)
		head, err := l.Head(l.ctx)
		if err != nil {
			t.Fatal(err)
		}
		l.reopen()
		if d := diff(before, l.all(0)); d != "" {
			t.Errorf("ledger (-before +after):\n%.2000s", d)
		}
		again, err := l.Head(l.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if again.Identity != head.Identity || again.Position < head.Position || again.Chain != head.Chain {
			t.Errorf("the head is %+v, and was %+v", again, head)
		}
		a := l.append("order-1", eventstore.At(59), newEvent())
		if a.Position <= head.Position {
			t.Errorf("position %d follows %d", a.Position, head.Position)
		}
		if !l.impl.Unchained {
			checkChain(t, l)
		}
	}},
}
