package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/projections"
)

// rebuildCommand folds the ledger into new read models and swaps them in.
type rebuildCommand struct{}

func (r rebuildCommand) Run(ctx context.Context, e *environment) error {
	ledger, path, err := e.openStopped()
	if err != nil {
		return err
	}
	defer ledger.Close()
	bar := e.progress("rebuilding", "events")
	var last projections.Progress
	begun := time.Now()
	err = projections.Rebuild(ctx, path, []eventstore.Reader{ledger}, func(p projections.Progress) {
		last = p
		bar.set(int64(p.Events), p.Fraction)
	})
	bar.done()
	if err != nil {
		return err
	}
	if err := projections.Swap(ctx, path); err != nil {
		return err
	}
	took := time.Since(begun)
	if e.JSON {
		return e.printJSON(map[string]any{"events": last.Events, "seconds": took.Seconds()})
	}
	e.printf("rebuilt the read models from %d events in %v\n", last.Events, took.Round(time.Millisecond))
	return nil
}

// openStopped opens the ledger of a server that is stopped, to read it, and names the file of its read models.
func (e *environment) openStopped() (*pebblestore.Store, string, error) {
	if _, ok := e.feed(); ok {
		return nil, "", usage("this needs the ledger's own directory, and not the address of a server that has it")
	}
	dir, err := e.ledgerDir()
	if err != nil {
		return nil, "", err
	}
	path, err := e.viewsFile()
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
	return ledger, path, err
}
