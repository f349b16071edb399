package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/orderledger/orderledger/eventstore/feed"
	"github.com/orderledger/orderledger/internal/web"
)

// maxAwait is the longest pause between two questions whether the ledger is there.
const maxAwait = 5 * time.Second

// openPatiently opens a node. Where another process has the ledger it waits until that answers, so that it does not
// matter which is started first; it does not wait where an answer says that nothing will come of it.
func openPatiently(ctx context.Context, c nodeConfig) (*node, error) {
	begun, waiting := time.Now(), false
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, maxAwait) {
		n, err := openNode(ctx, c)
		switch {
		case err == nil:
			if waiting {
				c.Log.InfoContext(ctx, "the ledger is there", "ledger", c.Ledger, "waited", time.Since(begun).Round(time.Millisecond))
			}
			return n, nil
		case errors.Is(err, feed.ErrRefused):
			return nil, &exitError{exitUnavailable, err}
		case ctx.Err() != nil || !errors.Is(err, feed.ErrUnreachable):
			return nil, err
		case !waiting:
			waiting = true
			c.Log.WarnContext(ctx, "waiting for the process that has the ledger, and serving nothing before", "ledger", c.Ledger, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause - rand.N(pause/2)):
		}
	}
}

// feedError is what a request is told that needs the ledger of another process while that does not answer.
func feedError(err error) *web.Error {
	if !errors.Is(err, feed.ErrUnreachable) {
		return nil
	}
	return &web.Error{
		Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: maxAwait, Cause: err,
		Detail: "The process that has the ledger does not answer just now. What the read models hold can be asked for.",
	}
}
