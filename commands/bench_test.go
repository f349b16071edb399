package commands_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// BenchmarkSubmit submits orders of two lines from 128 clients to a ledger on the disk.
func BenchmarkSubmit(b *testing.B) {
	store, err := pebblestore.Open(b.TempDir(), &pebblestore.Config{Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	s := serve(b, store, openKeys(b), nil)
	var n atomic.Int64
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if r := s.post("/v1/orders", strconv.FormatInt(n.Add(1), 10), plain); r.status != http.StatusCreated {
				b.Error(r.body)
			}
		}
	})
}

// BenchmarkHandle handles the next command on an order that has had many events, by a handler that knows the order and
// by one that has just been started.
func BenchmarkHandle(b *testing.B) {
	for _, events := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			ledger, keys := openLedger(b), openKeys(b)
			h := newHandler(b, ledger, keys)
			submit := submission("k")
			handle(b, h, submit)
			next := 0
			again := func(h *commands.Handler) { // puts the order on hold, or releases it
				var do domain.Action = domain.PlaceHold{Reason: domain.Reason{Code: "x"}}
				if next%2 == 1 {
					do = domain.Release{}
				}
				next++
				handle(b, h, command(submit.Order, strconv.Itoa(next), do))
			}
			for next < events {
				again(h)
			}
			b.Run("started", func(b *testing.B) {
				refused := command(submit.Order, "refused", domain.StartFulfilment{Fulfilment: "f9"}) // leaves the order as it is
				b.ReportAllocs()
				for b.Loop() {
					if _, err := newHandler(b, ledger, keys).Handle(b.Context(), refused, domain.Personal{}); err == nil {
						b.Fatal("the command was not refused")
					}
				}
			})
			b.Run("known", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					again(h)
				}
			})
		})
	}
}

// BenchmarkRegions handles commands on the orders of a region by itself, and among others: there a new order is looked
// for in their mirrors, and a known one is not.
func BenchmarkRegions(b *testing.B) {
	for _, regions := range []string{"a", "a b c"} {
		b.Run(fmt.Sprintf("regions=%d", len(strings.Fields(regions))), func(b *testing.B) {
			h := newHandler(b, openLedger(b), openKeys(b))
			if regions != "a" {
				h = newWorld(b, strings.Fields(regions)...).regions["a"].commands
			}
			submit := submission("k")
			handle(b, h, submit)
			b.Run("known", func(b *testing.B) {
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					var do domain.Action = domain.PlaceHold{Reason: domain.Reason{Code: "x"}}
					if n%2 == 1 {
						do = domain.Release{}
					}
					handle(b, h, command(submit.Order, fmt.Sprintf("%s %d", b.Name(), n), do))
				}
			})
			b.Run("new", func(b *testing.B) {
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					handle(b, h, submission(fmt.Sprintf("%s %d", b.Name(), n)))
				}
			})
		})
	}
}
