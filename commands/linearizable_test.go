package commands_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/orderledger/orderledger/domain"
)

// A seen is what the one who has asked for something was told.
type seen int

const (
	unknown seen = iota // nothing that counts: it may have been done, or may be done yet
	done
	absent // there is no such order
)

// oneOrder says what one order does that takes one request after the other, in whatever region: it is there from the first
// submission on. Its state is whether it is there. What is asked for is a submission, or else a hold.
var oneOrder = porcupine.Model{
	Init: func() any { return false },
	Step: func(state, input, output any) (bool, any) {
		there, submits := state.(bool), input.(bool)
		switch output.(seen) {
		case done:
			return there || submits, true
		case absent:
			return !there && !submits, false
		}
		return true, there || submits
	},
}

// TestSubmissionIsLinearizable has clients submit one order and hold it, under few keys, all at once and in all regions,
// over links that break before or after a request is there, while some mirrors hear of nothing. There is always an order of these requests, each between its
// beginning and its end, in which one ledger alone could have answered so; those without an answer end never. And whoever
// asked under the same key was told of the same order.
func TestSubmissionIsLinearizable(t *testing.T) {
	const histories = 1000
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable
	w := newWorld(t, "a", "b", "c")
	answered := 0
	for n := range histories {
		w.heal()
		for _, r := range w.regions {
			for _, name := range w.others(r.name) {
				if random.IntN(2) == 0 { // it hears of the order from those whom it asks
					r.mirrors[name].cut(t)
				}
			}
		}
		operations, ok := w.concurrently(fmt.Sprint("unit", n), random.Uint64())
		if !ok || !porcupine.CheckOperations(oneOrder, operations) {
			t.Fatalf("history %d: %+v", n, operations)
		}
		for _, o := range operations {
			if o.Output != unknown {
				answered++
			}
		}
	}
	if answered < 5*histories {
		t.Errorf("only %d requests were answered", answered)
	}
	t.Logf("%d histories, %d requests answered", histories, answered)
}

// concurrently returns what some clients have asked for and were told, and whether all were told of one order.
func (w *world) concurrently(unit string, seed uint64) ([]porcupine.Operation, bool) {
	const clients, requests = 3, 5
	var clock, wrong atomic.Int64
	histories := make([][]porcupine.Operation, clients)
	id := domain.OrderID(unit, "erp", "k").String()
	var running sync.WaitGroup
	for c := range clients {
		running.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(c))) //nolint:gosec // repeatable
			for range requests {
				w.passed.Add(1)
				r := w.regions[w.order[random.IntN(len(w.order))]]
				for _, name := range w.others(r.name) {
					r.links[name].set([]fault{whole, whole, refused, lostBefore, lostAfter}[random.IntN(5)])
				}
				submits := random.IntN(2) == 0
				path, key, body := orderPath(id, "hold"), fmt.Sprint("hold", random.IntN(2)), `{"reason":{"code":"credit"}}`
				if submits {
					path, key, body = "/v1/orders", "k", plain
				}
				o := porcupine.Operation{ClientId: c, Input: submits, Call: clock.Add(1), Output: unknown, Return: math.MaxInt64}
				got := r.erp().post(path, key, body, "Business-Unit", unit)
				switch lost := random.IntN(5) == 0; {
				case lost || got.status >= http.StatusInternalServerError:
				case got.status == http.StatusNotFound && got.code() == string(domain.CodeUnknownOrder):
					o.Output, o.Return = absent, clock.Add(1)
				default:
					o.Output, o.Return = done, clock.Add(1)
					if got.status >= http.StatusBadRequest || !strings.HasPrefix(got.body, `{"id":"`+id) {
						wrong.Add(1)
					}
				}
				histories[c] = append(histories[c], o)
			}
		})
	}
	running.Wait()
	var all []porcupine.Operation
	for _, h := range histories {
		all = append(all, h...)
	}
	return all, wrong.Load() == 0
}
