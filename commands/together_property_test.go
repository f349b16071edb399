package commands_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
)

// TestNothingLostNothingDoubled sends random commands to random regions while links break one by one, in one direction or both,
// orders are taken over and given back by whoever thinks that he may, and regions reconcile what they know, or are
// killed at it. When all is well again every region knows where each order lives, and whatever was acknowledged stands
// there once, or is a conflict, and gets an answer everywhere.
func TestNothingLostNothingDoubled(t *testing.T) {
	test := t
	w := newWorld(t, "a", "b", "c") // for all runs, each of which has orders of its own
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		w.wellAgain()
		run++
		m := &mess{world: w, run: run, acknowledged: map[string][]string{}, asked: map[string][3]string{}}
		for _, key := range []string{"1", "2"} {
			m.orders = append(m.orders, domain.OrderID("main", "erp", fmt.Sprintf("%d-%s", run, key)).String())
		}
		for range rapid.IntRange(20, 80).Draw(t, "steps") {
			w.passed.Add(1)
			m.step(test, t)
		}
		w.wellAgain()
		err := w.settle()
		for order, commands := range m.acknowledged {
			if err == nil {
				err = w.checkHome(uuid.MustParse(order), commands)
			}
		}
		if err == nil {
			err = m.askAgain()
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, w.story(m.orders...))
		}
	})
}

// A mess is a run.
type mess struct {
	*world
	run          int
	orders       []string
	acknowledged map[string][]string  // commands, by order
	asked        map[string][3]string // what was acknowledged: path, key and body, by command
}

// wellAgain repairs everything.
func (w *world) wellAgain() {
	w.passed.Add(1)
	w.heal()
	for _, r := range w.regions {
		r.asking, r.breakAfter = false, 0
	}
}

func (m *mess) step(test *testing.T, t *rapid.T) {
	r := m.regions[rapid.SampledFrom(m.order).Draw(t, "region")]
	other := rapid.SampledFrom(m.others(r.name)).Draw(t, "other")
	n := rapid.IntRange(0, 1).Draw(t, "order")
	order := uuid.MustParse(m.orders[n])
	switch rapid.SampledFrom(whatHappens).Draw(t, "what") {
	case "cut_off":
		m.cutOff(test, r)
	case "join":
		m.join(r)
	case "link":
		if rapid.Bool().Draw(t, "mirror") {
			r.mirrors[other].cut(test)
		} else {
			r.mirrors[other].heal()
		}
		r.links[other].set(rapid.SampledFrom([]fault{whole, refused, lostBefore, lostAfter}).Draw(t, "link"))
	case "start":
		r.asking = rapid.IntRange(0, 3).Draw(t, "asking") == 0
	case "take_over":
		m.tolerate(t, second(r.commands.TakeOver(context.Background(), other, order, operator, false)))
	case "hand_over":
		m.tolerate(t, second(r.commands.HandOver(context.Background(), other, order, operator, false)))
	case "reconcile": // it may be killed at it
		r.appends.Store(0)
		r.breakAfter, r.breakLost = rapid.IntRange(0, 2).Draw(t, "dies"), rapid.Bool().Draw(t, "lost")
		m.tolerate(t, r.reconcile())
		r.breakAfter = 0
	case "submit":
		m.send(t, r, "/v1/orders", fmt.Sprintf("%d-%d", m.run, n+1), plain)
	case "change":
		key := rapid.IntRange(0, len(changes)-1).Draw(t, "change")
		m.send(t, r, orderPath(m.orders[n], changes[key][0]), fmt.Sprint("k", key), changes[key][1])
	}
}

var whatHappens = strings.Fields("submit submit submit change change change change change change change change change change " +
	"cut_off cut_off join link link start take_over take_over hand_over reconcile reconcile")

// changes have a key each.
var changes = [][2]string{
	{"hold", `{"reason":{"code":"one"}}`},
	{"hold", `{"reason":{"code":"two"}}`},
	{"release", `{"hold":"h1"}`},
	{"cancel", `{"lines":[{"line":"1","quantity":"1"}],` + reason + `}`},
	{"cancel", because},
	{"amend", `{"lines":[{"line":"2","quantity":"4"}],` + reason + `}`},
	{"fulfilments/f1/start", `{}`},
	{"fulfilments/f1/ship", `{"lines":[{"line":"1","quantity":"1"}]}`},
	{"fulfilments/f1/ship", `{"lines":[{"line":"2","quantity":"3"}]}`},
	{"fulfilments/f1/fail", because},
	{"fulfilments/f1/reroute", `{"site":"b",` + reason + `}`},
	{"fulfilments/f2/ship", `{}`},
	{"close", ``},
}

func second(_ commands.Movement, err error) error { return err }

// tolerate takes the errors of a world that is not well.
func (m *mess) tolerate(t *rapid.T, err error) {
	var refused *domain.Refused
	switch {
	case err == nil, errors.Is(err, errKilled), errors.Is(err, commands.ErrAskingPeers):
	case errors.As(err, &refused) && refused.Code == domain.CodeUnknownOrder:
	default:
		t.Fatal(err)
	}
}

func (m *mess) send(t *rapid.T, r *region, path, key, body string) {
	got := r.erp().post(path, key, body)
	switch {
	case got.status >= 500 && got.status != http.StatusServiceUnavailable && got.status != http.StatusLoopDetected, got.code() == "idempotency_key_reused":
		t.Fatalf("%s %s in %s: %d %s", path, key, r.name, got.status, got.body)
	case got.status >= 300:
		return
	}
	order := got.answer(r.t).ID
	command := commandOf(order, key)
	if before, ok := m.asked[command]; ok && before != [3]string{path, key, body} {
		t.Fatalf("command %s is %v and %s", command, before, path)
	}
	if _, ok := m.asked[command]; !ok {
		m.asked[command] = [3]string{path, key, body}
		m.acknowledged[order] = append(m.acknowledged[order], command)
	}
}

// askAgain sends everything that was acknowledged to every region: it is answered, and nothing happens. Then something new is
// asked in each region, which happens in the order's home.
func (m *mess) askAgain() error {
	before := m.heads()
	for _, q := range m.asked {
		for _, name := range m.order {
			got := m.regions[name].erp().post(q[0], q[1], q[2])
			if got.status >= 300 || got.header.Get("Idempotent-Replayed") != "true" {
				return fmt.Errorf("%s %s again in %s: %d %s", q[0], q[1], name, got.status, got.body)
			}
		}
	}
	if now := m.heads(); now != before {
		return fmt.Errorf("something was done when everything was asked again: %s, then %s", before, now)
	}
	for order := range m.acknowledged {
		home := m.home(uuid.MustParse(order))
		for _, name := range m.order {
			tales := m.tales(order, home)
			got := m.regions[name].erp().post(orderPath(order, "return"), "last-"+name, `{"lines":[{"line":"9","quantity":"1"}],`+reason+`}`)
			if got.status != http.StatusConflict {
				return fmt.Errorf("something new in %s: %d %s", name, got.status, got.body)
			}
			got = m.regions[name].erp().post(orderPath(order, "hold"), "last-"+name, because)
			if got.status >= 500 || !slices.Equal(tales, m.tales(order, home)) {
				return fmt.Errorf("something new in %s: %d %s\n%s", name, got.status, got.body, strings.Join(m.tales(order, home), "\n"))
			}
		}
	}
	return nil
}

// tales are the histories of an order everywhere but in its home.
func (m *mess) tales(order string, home *region) []string {
	var all []string
	for _, name := range m.order {
		if r := m.regions[name]; r != home {
			all = append(all, r.tale(order))
		}
	}
	return all
}
