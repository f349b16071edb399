package pebblestore

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
)

// TestReadFromEveryPosition reads from every position of ledgers to their ends, with events that lie across the pieces in
// which the log is read.
func TestReadFromEveryPosition(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 0))
	for range 40 {
		s := mustOpen(t, "ledger", &Config{FS: vfs.NewMem()})
		for head := eventstore.Position(1); head <= 30; head++ {
			e := newEvents(1)
			e[0].Data = make([]byte, 100+random.IntN(1_000))
			if _, err := s.Append(t.Context(), "order-1", eventstore.Any, e); err != nil {
				t.Fatal(err)
			}
			for after := range head {
				next := after + 1
				for e, err := range s.ReadAll(t.Context(), after, eventstore.Filter{}) {
					if err != nil || e.Position != next {
						t.Fatalf("after %d of %d: position %d, %v, want %d", after, head, e.Position, err, next)
					}
					next++
				}
				if next != head+1 {
					t.Fatalf("after %d of %d: read up to %d", after, head, next-1)
				}
			}
		}
		mustClose(t, s)
	}
}
