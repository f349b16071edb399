package main

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/internal/bench"
)

// appendToEventStoreDB measures with a number of writers on the ledger that the user has named, beside an embedded one.
func (b *benchmark) appendToEventStoreDB(ctx context.Context, writers int) (_ []bench.Figure, events int, err error) {
	remote, err := esdb.Open(ctx, esdb.Config{ConnectionString: b.eventStoreDB, Logger: b.log})
	if err != nil {
		return nil, 0, unavailable(ctx, err)
	}
	defer func() { err = errors.Join(err, remote.Close()) }()
	for _, err := range remote.ReadAll(ctx, 0, eventstore.Filter{Prefixes: []string{"order-", "rules-"}}) {
		if err != nil {
			return nil, 0, err
		}
		return nil, 0, usage("the ledger in EventStoreDB holds orders: name one that may be filled with events of a benchmark")
	}
	dir, tidy, err := b.scratch("append")
	if err != nil {
		return nil, 0, err
	}
	defer tidy(&err)
	embedded, err := pebblestore.Open(dir, &pebblestore.Config{Logger: b.log})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, embedded.Close()) }()
	load := newAppendLoad(remote, uuid.NewString(), writers) // the streams of earlier runs are still there
	figures, err := b.beside(ctx, besides{
		name: counted(writers, "writer") + ", EventStoreDB", unit: "events/s", workers: writers,
		subject: load.append, limit: newAppendLoad(embedded, "", writers).append,
	})
	if err != nil {
		return nil, 0, err
	}
	b.step("checking what was appended")
	if events, err = load.checkEvents(ctx, remote); err != nil {
		return nil, 0, &gateError{err}
	}
	return figures, events, nil
}
