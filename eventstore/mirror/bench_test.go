package mirror_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// A ledger for benchmarks: events of about 1 KB.
func benchLedger(b *testing.B, n int) (eventstore.Reader, []eventstore.Delivery) {
	b.Helper()
	ledger := newLedger(b)
	data := make([]byte, 1024)
	for i := range data {
		data[i] = 'a' + byte(i%26)
	}
	for i := 0; i < n; i += 500 {
		batch := events(min(500, n-i))
		for j := range batch {
			batch[j].Data = data
		}
		if _, err := ledger.Append(b.Context(), "order-"+uuid.NewString(), eventstore.NoStream, batch); err != nil {
			b.Fatal(err)
		}
	}
	return ledger, deliveries(head(b, ledger).Identity, public(b, ledger))
}

func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			ledger, sent := benchLedger(b, 20_000)
			m := openMirror(b, "", ledger, nil)
			empty := changed{Reader: newLedger(b), head: func(h *eventstore.Head) { h.ID = head(b, ledger).ID }}
			catchUp(b, m, empty)
			next, files := 0, 0
			b.ResetTimer()
			for range b.N {
				if next+size > len(sent) { // begin anew
					b.StopTimer()
					files++
					m = openMirror(b, filepath.Join(b.TempDir(), fmt.Sprint(files, ".db")), ledger, nil)
					catchUp(b, m, empty)
					next = 0
					b.StartTimer()
				}
				apply(b, m, sent[next:next+size]...)
				next += size
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkCatchUp(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			n := 20 * size
			ledger, _ := benchLedger(b, n)
			files := 0
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				files++
				m := openMirror(b, filepath.Join(b.TempDir(), fmt.Sprint(files, ".db")), ledger, nil)
				m.Limit(1000, 1<<20, size, 256)
				b.StartTimer()
				catchUp(b, m, ledger)
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
