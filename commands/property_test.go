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
)

// TestEveryAcceptedCommandKeepsItsAnswer lets several handlers work on the same few orders, in any interleaving of
// their loads and appends, some of which get lost on the way back. Whatever was accepted gets its first answer when
// it comes again, and has led to events once.
func TestEveryAcceptedCommandKeepsItsAnswer(t *testing.T) {
	test, keys := t, openKeys(t)
	rapid.Check(t, func(t *rapid.T) {
		ledger := openLedger(test)
		defer func() { _ = ledger.Close() }()
		// The appends of a handler first let another handler go before it, where the plan says so.
		var before []func()
		store := &meddled{Store: ledger}
		store.append = func(_ context.Context, _ []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error) {
			if len(before) > 0 {
				next := before[0]
				before = before[1:]
				next()
			}
			done, err := do()
			if rapid.IntRange(0, 9).Draw(t, "lost") == 0 {
				return eventstore.Appended{}, context.DeadlineExceeded
			}
			return done, err
		}
		handlers := []*commands.Handler{newHandler(test, store, keys), newHandler(test, store, keys)}
		accepted := map[uuid.UUID]commands.Result{}
		asked := map[uuid.UUID]domain.Command{}
		send := func() {
			c := anyCommand().Draw(t, "command")
			r, err := rapid.SampledFrom(handlers).Draw(t, "handler").Handle(context.Background(), c, domain.Personal{})
			if err != nil {
				return
			}
			if first, ok := accepted[c.ID]; ok {
				same(t, first, r)
				return
			}
			accepted[c.ID], asked[c.ID] = r, c
		}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			before = nil
			for range rapid.IntRange(0, 3).Draw(t, "rivals") {
				before = append(before, send)
			}
			send()
		}
		before = nil

		for id, c := range asked {
			for _, h := range handlers {
				r, err := h.Handle(context.Background(), c, domain.Personal{})
				if err != nil {
					t.Fatalf("%s again: %v", c.Do.Name(), err)
				}
				if !r.Repeated {
					t.Fatalf("%s was done twice", c.Do.Name())
				}
				same(t, accepted[id], r)
			}
		}
		leads := map[uuid.UUID]int{}
		for e, err := range ledger.ReadAll(context.Background(), 0, eventstore.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			meta, err := domain.DecodeMeta(e.Metadata)
			if err != nil {
				t.Fatal(err)
			}
			leads[meta.Command]++
		}
		for id, n := range leads {
			if first, ok := accepted[id]; !ok || len(first.Events) != n {
				t.Fatalf("command %s led to %d events, and answered %v", id, n, first.Events)
			}
		}
	})
}

// same compares answers in all that a client sees.
func same(t *rapid.T, first, again commands.Result) {
	t.Helper()
	first.Repeated, again.Repeated = false, false
	if d := cmp.Diff(first, again, cmp.Comparer(func(a, b domain.Decimal) bool { return a == b })); d != "" {
		t.Fatalf("the answer differs (-first +again):\n%s", d)
	}
}

// anyCommand draws commands on two orders, under few keys, so that they meet.
func anyCommand() *rapid.Generator[domain.Command] {
	return rapid.Custom(func(t *rapid.T) domain.Command {
		submit := submission(fmt.Sprint("order ", rapid.IntRange(0, 1).Draw(t, "order")))
		key := fmt.Sprint("key ", rapid.IntRange(0, 11).Draw(t, "key"))
		why := domain.Reason{Code: "x"}
		f := fmt.Sprint("f", rapid.IntRange(1, 3).Draw(t, "fulfilment"))
		actions := []domain.Action{
			domain.PlaceHold{Reason: why}, domain.Release{}, domain.Cancel{Reason: why, Lines: []domain.LineQuantity{{Line: "1", Quantity: domain.Whole(1)}}},
			domain.StartFulfilment{Fulfilment: f}, domain.ReportFailure{Fulfilment: f, Reason: why}, domain.Ship{Fulfilment: f},
			domain.Deliver{Fulfilment: f}, domain.Close{}, domain.Reroute{Fulfilment: f, Site: "z", Reason: why},
			domain.Confirm{Fulfilment: f, Confirmation: domain.Confirmation{Outcome: domain.Accepts}},
		}
		n := rapid.IntRange(-3, len(actions)-1).Draw(t, "action")
		if n < 0 {
			return submit
		}
		return command(submit.Order, key, actions[n])
	})
}
