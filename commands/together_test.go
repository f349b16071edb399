package commands_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// operator is who has orders move.
var operator = domain.Actor{Kind: "person", Issuer: "bus", Subject: "ops"}

// cutOff lets nothing come into a region or out of it; join undoes that.
func (w *world) cutOff(t testing.TB, r *region) {
	t.Helper()
	for _, name := range w.others(r.name) {
		other := w.regions[name]
		r.mirrors[name].cut(t)
		other.mirrors[r.name].cut(t)
		r.links[name].set(refused)
		other.links[r.name].set(refused)
	}
}

func (w *world) join(r *region) {
	w.passed.Add(1)
	for _, name := range w.others(r.name) {
		other := w.regions[name]
		r.mirrors[name].heal()
		other.mirrors[r.name].heal()
		r.links[name].set(whole)
		other.links[r.name].set(whole)
	}
}

// takeOver has all orders of a region move, and says how many did what.
func (r *region) takeOver(of *region) (map[commands.Movement]int, error) {
	return moveAll(func(after eventstore.Position) (commands.Progress, error) {
		return r.commands.TakeOverSome(context.Background(), of.name, after, operator, false)
	})
}

// giveBack has all orders that came from a region return there.
func (r *region) giveBack(to *region) (map[commands.Movement]int, error) {
	return moveAll(func(after eventstore.Position) (commands.Progress, error) {
		return r.commands.HandOverSome(context.Background(), to.name, after, operator, false)
	})
}

func moveAll(some func(eventstore.Position) (commands.Progress, error)) (map[commands.Movement]int, error) {
	all := map[commands.Movement]int{}
	for after := eventstore.Position(0); ; {
		p, err := some(after)
		if err != nil {
			return all, err
		}
		for movement, n := range p.Orders {
			all[movement] += n
		}
		if p.Done {
			return all, nil
		}
		if p.After <= after {
			return all, fmt.Errorf("no progress behind %d", after)
		}
		after = p.After
	}
}

// mustMove checks what has become of orders that were to move.
func mustMove(t testing.TB, want string) func(map[commands.Movement]int, error) {
	t.Helper()
	return func(got map[commands.Movement]int, err error) {
		t.Helper()
		if s := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(got), "map["), "]"); err != nil || s != want {
			t.Fatalf("moved %s, error %v, want %s", s, err, want)
		}
	}
}

// reconcile goes through everything that a region has not gone through yet.
func (r *region) reconcile() error {
	ctx := context.Background()
	if r.reconciler == nil {
		var err error
		if r.reconciler, err = commands.NewReconciler(ctx, r.commands); err != nil {
			return err
		}
	}
	ledgers := []uuid.UUID{r.ledger}
	for _, m := range r.mirrors {
		head, err := m.Head(ctx)
		if err != nil {
			return err
		}
		ledgers = append(ledgers, head.ID)
	}
	for _, ledger := range ledgers {
		for more := true; more; {
			var err error
			if more, err = r.reconciler.Step(ctx, ledger); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle lets all regions reconcile until nothing happens any more.
func (w *world) settle() error {
	for range 50 {
		before := w.heads()
		for _, name := range w.order {
			if err := w.regions[name].reconcile(); err != nil {
				return fmt.Errorf("region %s: %w", name, err)
			}
		}
		if w.heads() == before {
			return nil
		}
	}
	return errors.New("the regions do not come to rest")
}

// mustSettle also checks that the orders are well.
func (w *world) mustSettle(t testing.TB, acknowledged map[string][]string) {
	t.Helper()
	err := w.settle()
	for order, commands := range acknowledged {
		if err == nil {
			err = w.checkHome(uuid.MustParse(order), commands)
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, w.story(slices.Collect(maps.Keys(acknowledged))...))
	}
}

// heads are where the ledgers end.
func (w *world) heads() string {
	var b strings.Builder
	for _, name := range w.order {
		head, err := w.regions[name].store.Head(context.Background())
		fmt.Fprintln(&b, name, head.Position, err)
	}
	return b.String()
}

// A stood is an event as it stands in a ledger.
type stood struct {
	eventstore.Recorded
	event domain.Event
	meta  domain.Meta
}

// history is what a region's own ledger has of an order.
func (r *region) history(order uuid.UUID) ([]stood, domain.Order) {
	var all []stood
	var o domain.Order
	for e, err := range r.store.ReadStream(context.Background(), domain.Stream(order), 0, eventstore.Forward) {
		if err != nil {
			panic(err)
		}
		event, err := domain.DecodeEvent(e.Type, e.Data)
		if err != nil {
			panic(err)
		}
		meta, err := domain.DecodeMeta(e.Metadata)
		if err != nil {
			panic(err)
		}
		all = append(all, stood{e, event, meta})
		o = domain.Evolve(o, event)
	}
	return all, o
}

// tale is a history in a few words.
func (r *region) tale(order string) string {
	var words []string
	events, _ := r.history(uuid.MustParse(order))
	for _, e := range events {
		words = append(words, strings.TrimSuffix(strings.TrimPrefix(e.Type, "order."), ".v1"))
	}
	return strings.Join(words, " ")
}

// story is what the regions have of orders, for a failure.
func (w *world) story(orders ...string) string {
	var b strings.Builder
	for _, name := range w.order {
		r := w.regions[name]
		fmt.Fprintf(&b, "region %s, ledger %s\n", name, r.ledger)
		for _, order := range orders {
			events, _ := r.history(uuid.MustParse(order))
			for _, e := range events {
				fmt.Fprintf(&b, "  %s %d %s, command %s: %.200s\n", e.Stream, e.Revision, e.Type, e.meta.Command, e.Data)
			}
		}
	}
	return b.String()
}

// home is the region in which an order lives, as all ledgers together have it.
func (w *world) home(order uuid.UUID) *region {
	var home *region
	var best domain.Claim
	for _, name := range w.order {
		r := w.regions[name]
		if events, o := r.history(order); len(events) > 0 {
			if claim := o.Claim(r.ledger); home == nil || claim.Over(best, order) {
				home, best = r, claim
			}
		}
	}
	return home
}

// checkHome tests that an order lives in one region, that each of the commands that were acknowledged stands there once or is
// a conflict, and that everybody else has a part of that or has given way.
func (w *world) checkHome(order uuid.UUID, acknowledged []string) error {
	home := w.home(order)
	if home == nil {
		return fmt.Errorf("nobody has order %s", order)
	}
	events, o := home.history(order)
	if claim := o.Claim(home.ledger); claim.Left || claim.Withdrawn {
		return fmt.Errorf("order %s has no home: %s has %+v", order, home.name, claim)
	}
	done := map[string]int{}
	for i, e := range events {
		if i == 0 || events[i-1].meta.Command != e.meta.Command {
			done[e.meta.Command.String()]++
		}
	}
	listed := map[string]int{}
	for _, c := range o.Conflicts {
		if c.Command != "" {
			listed[c.Command]++
		}
	}
	for command, n := range done {
		if n > 1 {
			return fmt.Errorf("order %s in %s: command %s was done %d times", order, home.name, command, n)
		}
	}
	for command, n := range listed {
		if n > 1 {
			return fmt.Errorf("order %s in %s: command %s is %d conflicts", order, home.name, command, n)
		}
	}
	for _, command := range acknowledged {
		if done[command]+listed[command] == 0 {
			return fmt.Errorf("order %s in %s: command %s is lost", order, home.name, command)
		}
	}
	for _, name := range w.order {
		r := w.regions[name]
		theirs, other := r.history(order)
		same := slices.EqualFunc(theirs, events[:min(len(theirs), len(events))], func(a, b stood) bool { return a.ID == b.ID && string(a.Data) == string(b.Data) })
		if !same && other.WithdrawnFor == "" {
			return fmt.Errorf("order %s in %s has not given way to %s", order, name, home.name)
		}
	}
	return nil
}
