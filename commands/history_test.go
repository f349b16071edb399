package commands_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/keyring"
)

// A sending is a command on its way to one of several handlers of a ledger.
type sending struct {
	Command domain.Command
	Handler int
	Rivals  []sending // arrive between its first load and its first append
	Lost    bool      // the handler does not hear what became of that append
}

func anySending(rivals int) *rapid.Generator[sending] {
	return rapid.Custom(func(t *rapid.T) sending {
		s := sending{
			Command: anyCommand().Draw(t, "command"),
			Handler: rapid.IntRange(0, 1).Draw(t, "handler"),
			Lost:    rapid.IntRange(0, 9).Draw(t, "lost") == 0,
		}
		if rivals > 0 {
			s.Rivals = rapid.SliceOfN(anySending(rivals-1), 0, rivals).Draw(t, "rivals")
		}
		return s
	})
}

// An outcome is what a client learns of a sending, but for the ledger's id.
type outcome struct {
	Result commands.Result
	Err    string
}

// TestWhatAHandlerRemembersIsNeverNoticed sends the same commands twice, to handlers that remember what they have read
// and, over another ledger, to handlers of which each has just been started. Nobody can tell the two apart.
func TestWhatAHandlerRemembersIsNeverNoticed(t *testing.T) {
	test, keys := t, openKeys(t)
	rapid.Check(t, func(t *rapid.T) {
		sendings := rapid.SliceOfN(anySending(2), 1, 25).Draw(t, "sendings")
		remembering := outcomes(test, keys, sendings, func(store eventstore.Store) func(int) *commands.Handler {
			handlers := []*commands.Handler{newHandler(test, store, keys), newHandler(test, store, keys)}
			return func(n int) *commands.Handler { return handlers[n] }
		})
		started := outcomes(test, keys, sendings, func(store eventstore.Store) func(int) *commands.Handler {
			return func(int) *commands.Handler { return newHandler(test, store, keys) }
		})
		if d := cmp.Diff(started, remembering, cmp.Comparer(func(a, b domain.Decimal) bool { return a == b })); d != "" {
			t.Fatalf("a handler that remembers answers otherwise (-started +remembering):\n%s", d)
		}
	})
}

// outcomes sends commands to handlers of a new ledger.
func outcomes(t *testing.T, keys *keyring.Keyring, sendings []sending, handlers func(eventstore.Store) func(int) *commands.Handler) []outcome {
	ledger := openLedger(t)
	defer func() { _ = ledger.Close() }()
	store := &meddled{Store: ledger}
	handler := handlers(store)
	var all []outcome
	var send func(sending)
	var under *sending // the sending whose first append is awaited
	store.append = func(_ context.Context, _ []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error) {
		s := under
		under = nil
		if s == nil {
			return do()
		}
		for _, rival := range s.Rivals {
			send(rival)
		}
		done, err := do()
		if s.Lost {
			return eventstore.Appended{}, context.DeadlineExceeded
		}
		return done, err
	}
	send = func(s sending) {
		under = &s
		r, err := handler(s.Handler).Handle(context.Background(), s.Command, domain.Personal{})
		under = nil
		r.Mark.Ledger = uuid.Nil
		o := outcome{Result: r}
		if err != nil {
			o = outcome{Err: fmt.Sprintf("%T", err)}
		}
		all = append(all, o)
	}
	for _, s := range sendings {
		send(s)
	}
	return all
}

// TestLongOrder takes commands on an order with more of them than one read brings, and each of them once more.
func TestLongOrder(t *testing.T) {
	h := newHandler(t, openLedger(t), openKeys(t))
	submit := submission("k")
	first := []commands.Result{handle(t, h, submit)}
	sent := []domain.Command{submit}
	for i := range 200 {
		c := command(submit.Order, fmt.Sprint(i), domain.PlaceHold{Reason: domain.Reason{Code: "x"}})
		if i%2 == 1 {
			c.Do = domain.Release{}
		}
		first, sent = append(first, handle(t, h, c)), append(sent, c)
	}
	for i, c := range sent {
		again := handle(t, h, c)
		if !again.Repeated {
			t.Fatalf("command %d was done twice", i)
		}
		sameAnswer(t, again, first[i])
	}
}
