package esdb_test

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/esdb/esdbserver"
	"github.com/orderledger/orderledger/eventstore/eventstoretest"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A served ledger is an embedded one behind EventStoreDB's protocol.
type served struct {
	ledger *pebblestore.Store
	server *esdbserver.Server
}

func serve(t *testing.T, fs vfs.FS, dir, addr string) *served {
	t.Helper()
	ledger, err := pebblestore.Open(dir, &pebblestore.Config{FS: fs, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	server, err := esdbserver.New(esdbserver.Config{Store: ledger, Addr: addr, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &served{ledger, server}
}

func (s *served) Close() error {
	return errors.Join(s.server.Close(), s.ledger.Close())
}

func open(t *testing.T, connection string) *esdb.Store {
	t.Helper()
	s, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: connection, Patience: 5 * time.Second, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A whole ledger has its server with it.
type whole struct {
	*esdb.Store
	server *served
}

func (w *whole) Close() error {
	return errors.Join(w.Store.Close(), w.server.Close())
}

func TestConformance(t *testing.T) {
	fs := vfs.NewMem()
	eventstoretest.Run(t, eventstoretest.Implementation{
		Open: func(t *testing.T, dir string) eventstore.Store {
			server := serve(t, fs, dir, "")
			return &whole{open(t, server.server.ConnectionString()), server}
		},
		Unchained: true,
		Slow:      true,
	})
}

func TestProcessesThatStartAtOnceShareOneLedger(t *testing.T) {
	server := serve(t, vfs.NewMem(), "shared", "")
	defer func() { _ = server.Close() }()
	heads := make([]eventstore.Head, 4)
	var work sync.WaitGroup
	for i := range heads {
		work.Go(func() {
			s, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: server.server.ConnectionString(), Lanes: i + 1, Logger: silent()})
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = s.Close() }()
			if heads[i], err = s.Head(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	for _, h := range heads {
		if h.Identity != heads[0].Identity || h.Lanes < 1 || h.Lanes > len(heads) {
			t.Errorf("one process has %+v, another %+v", h.Identity, heads[0].Identity)
		}
	}
}

// A ledger that is embedded can be looked at through the protocol, and shows an order as it was appended.
func TestEventsStandAsTheyWereAppended(t *testing.T) {
	server := serve(t, vfs.NewMem(), "plain", "")
	defer func() { _ = server.Close() }()
	s := open(t, server.server.ConnectionString())
	defer func() { _ = s.Close() }()
	e := newEvent()
	e.Metadata = []byte(`{"command":"1"}`)
	if _, err := s.Append(t.Context(), "order-1", eventstore.NoStream, []eventstore.Event{e}); err != nil {
		t.Fatal(err)
	}
	for got, err := range server.ledger.ReadStream(t.Context(), "order-1", 0, eventstore.Forward) {
		if err != nil || got.ID != e.ID || got.Type != e.Type || string(got.Data) != string(e.Data) || string(got.Metadata) != string(e.Metadata) {
			t.Errorf("%+v, error %v; want %+v", got.Event, err, e)
		}
	}
}
