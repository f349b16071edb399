package commands_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

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

// BenchmarkHandle decides commands on one order that has had many.
func BenchmarkHandle(b *testing.B) {
	h := newHandler(b, openLedger(b), openKeys(b))
	submit := submission("k")
	handle(b, h, submit)
	for i := range 100 {
		handle(b, h, command(submit.Order, strings.Repeat("h", i+1), domain.PlaceHold{Reason: domain.Reason{Code: "x"}}))
	}
	again := command(submit.Order, "h", domain.PlaceHold{Reason: domain.Reason{Code: "x"}})
	b.ReportAllocs()
	for b.Loop() {
		handle(b, h, again)
	}
}
