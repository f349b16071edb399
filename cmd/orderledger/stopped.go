package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// A stoppedLedger is the ledger of a server that is stopped, opened to be read.
type stoppedLedger interface {
	closingReader
	verify(ctx context.Context, e *environment) (*ledgerVerification, error)
	incarnations(ctx context.Context) ([]shownIncarnation, error) // the newest last
}

// openStopped opens the ledger of a server that is stopped, and names the file of its read models.
func (e *environment) openStopped(ctx context.Context) (stoppedLedger, string, error) {
	if _, ok := e.feed(); ok {
		return nil, "", usage("this needs the ledger itself, and not the address of a server that has it")
	}
	path, err := e.viewsFile()
	if err != nil {
		return nil, "", err
	}
	if esdb.IsConnectionString(e.Ledger) {
		ledger, err := openEventStoreDB(ctx, e.Data, esdb.Config{ConnectionString: e.Ledger, Existing: true, Logger: e.logger()})
		if err != nil {
			return nil, "", err
		}
		return ledger, path, nil
	}
	dir, err := e.ledgerDir()
	if err != nil {
		return nil, "", err
	}
	if dir == "" {
		return nil, "", usage("a ledger in memory ends with its server")
	}
	ledger, err := pebblestore.Open(dir, &pebblestore.Config{ReadOnly: true, Logger: e.logger()})
	if errors.Is(err, fs.ErrNotExist) {
		err = &exitError{exitUnavailable, fmt.Errorf("there is no ledger in %s", dir)}
	}
	if err != nil {
		return nil, "", err
	}
	return stoppedEmbedded{ledger}, path, nil
}

// A stoppedEmbedded is a ledger of this program's own.
type stoppedEmbedded struct{ *pebblestore.Store }

func (s stoppedEmbedded) verify(ctx context.Context, e *environment) (*ledgerVerification, error) {
	bar := e.progress("ledger", "events")
	r, err := s.Verify(ctx, func(done, total uint64) { bar.set(int64(done), float64(done)/float64(max(total, 1))) })
	bar.done()
	if err != nil {
		return nil, err
	}
	v := &ledgerVerification{Events: r.Events, Head: r.Head.Position, Chain: r.Head.Chain, Problem: r.Problem, Bad: r.Bad}
	if first, last, ok := r.Unanchored(); ok {
		v.Unanchored, v.why = []eventstore.Position{first, last}, "the server did not end as it should"
	}
	return v, nil
}

func (s stoppedEmbedded) incarnations(context.Context) ([]shownIncarnation, error) {
	var all []shownIncarnation
	for _, i := range s.Incarnations() {
		all = append(all, shownIncarnation{i.Number, i.After, i.Chain, i.Begun})
	}
	return all, nil
}
