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
type rebuildCommand struct {
	Views string `placeholder:"URL" help:"The read models: sqlite:FILE (default: views.db in the data directory)."`
}

func (r rebuildCommand) Run(ctx context.Context, e *environment) error {
	path, err := viewsPath(r.Views, e.Data)
	if err != nil {
		return err
	}
	ledger, err := openToRead(e)
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

// openToRead opens the ledger of the data directory without the right to write.
func openToRead(e *environment) (*pebblestore.Store, error) {
	ledger, err := pebblestore.Open(e.Data, &pebblestore.Config{ReadOnly: true, Logger: e.logger()})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &exitError{exitUnavailable, fmt.Errorf("there is no ledger in %s", e.Data)}
	}
	return ledger, err
}
