package pebblestore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/eventstoretest"
	"github.com/orderledger/orderledger/eventstore/pebblestore"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContractOnDisk(t *testing.T) {
	eventstoretest.Run(t, eventstoretest.Implementation{Slow: true, Open: func(t *testing.T, dir string) eventstore.Store {
		s, err := pebblestore.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}})
}

func TestContractInMemory(t *testing.T) {
	fs := vfs.NewMem()
	eventstoretest.Run(t, eventstoretest.Implementation{Open: func(t *testing.T, dir string) eventstore.Store {
		s, err := pebblestore.Open(dir, &pebblestore.Config{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}})
}
