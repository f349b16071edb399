package simulate

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/eventstoretest"
)

// TestLedger has the simulated ledger keep the promises of all ledgers: what a history shows is then not its fault.
func TestLedger(t *testing.T) {
	var mu sync.Mutex
	disks := make(map[string]*disk)
	eventstoretest.Run(t, eventstoretest.Implementation{Open: func(_ *testing.T, dir string) eventstore.Store {
		mu.Lock()
		defer mu.Unlock()
		if disks[dir] == nil {
			disks[dir] = newDisk(uuid.New(), eventstore.DefaultLanes, time.Now)
		}
		return disks[dir].open()
	}})
}
