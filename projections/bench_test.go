package projections_test

import (
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

// BenchmarkRebuild folds orders of seven events each.
func BenchmarkRebuild(b *testing.B) {
	l := newLedger(b)
	const orders = 5000
	for i := range orders {
		newLife(b, l, "bench"+strconv.Itoa(i), nil).deliver()
	}
	b.ResetTimer()
	events := 0
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "views.db")
		check(b, projections.Rebuild(b.Context(), path, []eventstore.Reader{l}, func(p projections.Progress) { events = p.Events }))
	}
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkOrder reads orders as many clients do at once.
func BenchmarkOrder(b *testing.B) {
	l := newLedger(b)
	const orders = 1000
	for i := range orders {
		newLife(b, l, "bench"+strconv.Itoa(i), nil).deliver()
	}
	v, _ := caughtUp(b, l)
	rows, err := v.Orders(b.Context(), projections.Query{BusinessUnit: domaintest.BusinessUnit, Limit: projections.MaxLimit})
	check(b, err)
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			row := rows[rand.IntN(len(rows))]
			if o, _, err := v.Order(b.Context(), row.BusinessUnit, row.ID); err != nil || o.ID != row.ID {
				b.Error(o.ID, err)
			}
		}
	})
}
