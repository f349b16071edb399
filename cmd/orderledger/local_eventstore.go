package main

import (
	"context"
	"errors"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/esdb/esdbserver"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// A localEventStore serves an embedded ledger to clients of EventStoreDB. A nil one serves nothing.
type localEventStore struct {
	where  string
	ledger *pebblestore.Store
	server *esdbserver.Server
}

// openEventStore opens the ledger of the data directory and serves it, if the user wants that.
func (l localCommand) openEventStore(ctx context.Context, e *environment) (_ *localEventStore, err error) {
	if !l.EventStore {
		return nil, nil
	}
	if _, elsewhere := e.feed(); elsewhere || esdb.IsConnectionString(e.Ledger) {
		return nil, usage("--eventstore serves an embedded ledger: pebble:DIR or memory:")
	}
	dir, err := e.ledgerDir()
	if err != nil {
		return nil, err
	}
	config := &pebblestore.Config{Logger: e.logger()}
	s := &localEventStore{where: dir}
	if dir == "" {
		s.where = "memory"
		config.FS, dir = vfs.NewMem(), "ledger"
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, usage("making the data directory: %w", err)
	}
	if s.ledger, err = pebblestore.Open(dir, config); err != nil {
		return nil, err
	}
	s.server, err = esdbserver.New(esdbserver.Config{Store: s.ledger, Addr: l.EventStoreListen, Logger: e.logger()})
	if err == nil {
		err = s.server.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.ledger.Close())
	}
	return s, nil
}

func (s *localEventStore) close() error {
	if s == nil {
		return nil
	}
	return errors.Join(s.server.Close(), s.ledger.Close())
}
