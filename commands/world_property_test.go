package commands_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// TestOneAnswerInEveryRegion sends random commands to random regions over links that break before or after a request is
// there, while mirrors fall behind. Whatever was answered is answered alike in every region afterwards,
// each order is in one ledger, and each command has led to events once.
//
// Who submits an order again, having had no answer, asks a region that knows it or the same one again. Where nobody does
// there are two orders, of which one gives way.
func TestOneAnswerInEveryRegion(t *testing.T) {
	test := t
	w := newWorld(t, "a", "b", "c") // for all runs, each of which has orders of its own
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		w.heal()
		run++
		unit := fmt.Sprint("unit", run)
		answers := map[string]string{} // what each request was told, by path and key
		asked := map[string][3]string{}
		send := func(r *region, path, key, body string) {
			got := r.erp().post(path, key, body, "Business-Unit", unit)
			switch name := path + " " + key; {
			case got.status == http.StatusServiceUnavailable:
			case got.status >= http.StatusBadRequest:
				if before, ok := answers[name]; ok {
					t.Fatalf("%s was told %s, then %d %s", name, before, got.status, got.body)
				}
			default:
				if before, ok := answers[name]; ok && before != tells(got) {
					t.Fatalf("%s was told %s, then %s", name, before, tells(got))
				}
				answers[name], asked[name] = tells(got), [3]string{path, key, body}
			}
		}
		keys := []string{"1", "2"}
		entry := map[string]*region{} // where each order is submitted first
		for _, key := range keys {
			entry[key] = w.regions[rapid.SampledFrom(w.order).Draw(t, "entry")]
		}
		for range rapid.IntRange(5, 40).Draw(t, "steps") {
			w.passed.Add(1)
			r := w.regions[rapid.SampledFrom(w.order).Draw(t, "region")]
			key := rapid.SampledFrom(keys).Draw(t, "order")
			order := domain.OrderID(unit, "erp", key)
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0: // the world gets worse, or better
				for _, name := range w.others(r.name) {
					r.links[name].set(fault(rapid.IntRange(int(whole), int(strange)).Filter(func(f int) bool { return fault(f) != silent }).Draw(t, "link")))
					if rapid.Bool().Draw(t, "cut") {
						r.mirrors[name].cut(test)
					} else {
						r.mirrors[name].heal()
					}
				}
			case 1:
				if !r.knows(test, order) {
					r = entry[key]
				}
				send(r, "/v1/orders", key, plain)
			default:
				path := "/v1/orders/" + order.String() + "/" + rapid.SampledFrom([]string{"hold", "cancel", "fulfilments/f1/ship"}).Draw(t, "action")
				body := `{` + reason + `}`
				if strings.HasSuffix(path, "ship") {
					body = `{}`
				}
				if !r.knows(test, order) { // it is unknown here, which is no answer for ever
					continue
				}
				send(r, path, rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "key"), body)
			}
		}
		w.heal()
		for name, q := range asked {
			for _, r := range w.regions {
				if got := r.erp().post(q[0], q[1], q[2], "Business-Unit", unit); tells(got) != answers[name] || got.header.Get("Idempotent-Replayed") != "true" {
					t.Fatalf("%s in %s: %sinstead of %s", name, r.name, tells(got), answers[name])
				}
			}
		}
		for _, key := range keys {
			w.checkOnce(t, domain.OrderID(unit, "erp", key))
		}
	})
}

// knows reports whether a region has an order, or a mirror that has it.
func (r *region) knows(t testing.TB, order uuid.UUID) bool {
	t.Helper()
	has := false
	for range r.store.ReadStream(t.Context(), domain.Stream(order), 0, eventstore.Forward) {
		has = true
	}
	for _, m := range r.mirrors {
		for range m.ReadStream(t.Context(), domain.Stream(order), 0, eventstore.Forward) {
			has = true
		}
	}
	return has
}

// heal repairs all links and mirrors.
func (w *world) heal() {
	for _, r := range w.regions {
		for _, name := range w.others(r.name) {
			r.links[name].set(whole)
			r.mirrors[name].heal()
		}
	}
}

// checkOnce tests that an order is in one ledger, and that none of its commands has led to events twice.
func (w *world) checkOnce(t *rapid.T, order uuid.UUID) {
	homes := 0
	for _, r := range w.regions {
		var last uuid.UUID
		done := map[uuid.UUID]bool{}
		for e, err := range r.store.ReadStream(r.t.Context(), domain.Stream(order), 0, eventstore.Forward) {
			if err != nil {
				t.Fatal(err)
			}
			meta, err := domain.DecodeMeta(e.Metadata)
			if err != nil {
				t.Fatal(err)
			}
			if meta.Command != last && done[meta.Command] {
				t.Fatalf("command %s was done twice", meta.Command)
			}
			last, done[meta.Command] = meta.Command, true
		}
		if len(done) > 0 {
			homes++
		}
	}
	if homes > 1 {
		t.Fatalf("order %s is in %d ledgers", order, homes)
	}
}
