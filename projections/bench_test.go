package projections_test

import (
	"path/filepath"
	"strconv"
	"testing"

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
