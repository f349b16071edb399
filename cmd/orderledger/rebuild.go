package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/feed"
	"github.com/orderledger/orderledger/projections"
)

// rebuildCommand folds the ledger into new read models and swaps them in.
type rebuildCommand struct{}

func (r rebuildCommand) Run(ctx context.Context, e *environment) error {
	ledger, path, err := e.openForViews(ctx)
	if err != nil {
		return err
	}
	defer ledger.Close()
	copies, err := e.openMirrors(ctx)
	if err != nil {
		return err
	}
	defer copies.Close()
	bar := e.progress("rebuilding", "events")
	var last projections.Progress
	begun := time.Now()
	err = projections.Rebuild(ctx, path, copies.with(ledger), func(p projections.Progress) {
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

// A closingReader is a ledger that is opened to be read.
type closingReader interface {
	eventstore.Reader
	io.Closer
}

// openForViews opens the ledger that the read models come from, that of a server that is stopped or the feed of one that
// runs, and names the file of the read models.
func (e *environment) openForViews(ctx context.Context) (closingReader, string, error) {
	address, ok := e.feed()
	if !ok {
		return e.openStopped(ctx)
	}
	path, err := e.viewsFile()
	if err != nil {
		return nil, "", err
	}
	client, err := feed.NewClient(feed.ClientConfig{URL: address, Token: e.Token, Logger: e.logger()})
	if err != nil {
		return nil, "", &exitError{exitUsage, err}
	}
	if _, err := client.Head(ctx); err != nil {
		return nil, "", errors.Join(&exitError{exitUnavailable, err}, client.Close())
	}
	return client, path, nil
}
