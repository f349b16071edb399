package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// copyCommand copies a ledger to where there is none. What was interrupted goes on when it is started again.
type copyCommand struct {
	From string `required:"" env:"ORDERLEDGER_COPY_FROM" placeholder:"URL" help:"The ledger: pebble:DIR or esdb://… (${env})."`
	To   string `required:"" env:"ORDERLEDGER_COPY_TO" placeholder:"URL" help:"Where to copy it: pebble:DIR or esdb://…, which must be empty or hold the unfinished copy of the same ledger (${env})."`
}

// public are the events that the chain covers, which are those that are copied. Checkpoints of relays mean nothing
// elsewhere.
var public = eventstore.Filter{Public: true}

func (c copyCommand) Run(ctx context.Context, e *environment) error {
	from, err := openCopySource(ctx, e, c.From)
	if err != nil {
		return err
	}
	defer from.Close()
	head, err := from.Head(ctx)
	if err != nil {
		return err
	}
	to, err := openCopyTarget(ctx, e, c.To, head.Identity)
	if err != nil {
		return err
	}
	copied, begun := copying{from: from, to: to, head: head}, time.Now()
	err = copied.run(ctx, e)
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	took := time.Since(begun)
	incarnation := head.Incarnation + 1
	if e.JSON {
		return e.printJSON(map[string]any{
			"ledger": head.ID, "incarnation": incarnation, "events": copied.end.events, "copied": copied.events,
			"position": copied.written.position, "chain": copied.end.chain, "seconds": took.Seconds(),
		})
	}
	e.printf("copied %d events in %v (%.0f/s), %d in all: both ledgers have the chain %s\n",
		copied.events, took.Round(time.Millisecond), float64(copied.events)/took.Seconds(), copied.end.events, copied.end.chain)
	e.printf("The copy goes on as incarnation %d of ledger %s. Take its keys along, and never use the original again.\n", incarnation, head.ID)
	return nil
}

// A copySource is a ledger that nobody writes to, as far as that can be known.
type copySource interface {
	eventstore.Reader
	io.Closer
}

func openCopySource(ctx context.Context, e *environment, url string) (copySource, error) {
	if esdb.IsConnectionString(url) {
		s, err := esdb.Open(ctx, esdb.Config{ConnectionString: url, Existing: true, Logger: e.logger()})
		if err != nil {
			return nil, unavailable(ctx, err)
		}
		return s, nil
	}
	dir, err := copiedDir(url)
	if err != nil {
		return nil, err
	}
	s, err := pebblestore.Open(dir, &pebblestore.Config{ReadOnly: true, Logger: e.logger()})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &exitError{exitUnavailable, fmt.Errorf("there is no ledger in %s", dir)}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// A copyTarget takes the events of another ledger as they are.
type copyTarget interface {
	ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error]
	Add(ctx context.Context, events []eventstore.Recorded) error
	Finish(ctx context.Context, after eventstore.Position, chain eventstore.Hash) error
	io.Closer
}

func openCopyTarget(ctx context.Context, e *environment, url string, of eventstore.Identity) (copyTarget, error) {
	if esdb.IsConnectionString(url) {
		c, err := esdb.OpenCopy(ctx, esdb.Config{ConnectionString: url, Logger: e.logger()}, of)
		switch {
		case errors.Is(err, esdb.ErrTaken):
			return nil, &exitError{exitRefused, err}
		case err != nil:
			return nil, unavailable(ctx, err)
		}
		return c, nil
	}
	dir, err := copiedDir(url)
	if err != nil {
		return nil, err
	}
	c, err := pebblestore.OpenCopy(dir, &pebblestore.Config{Logger: e.logger()}, of)
	if errors.Is(err, pebblestore.ErrTaken) {
		return nil, &exitError{exitRefused, err}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func copiedDir(url string) (string, error) {
	scheme, dir, _ := strings.Cut(url, ":")
	if scheme != "pebble" || dir == "" {
		return "", usage("a ledger that is copied is pebble:DIR or esdb://HOST, and %q is neither", scheme+":…")
	}
	return dir, nil
}

// A copying carries events from one ledger to another.
type copying struct {
	from copySource
	to   copyTarget
	head eventstore.Head // of the original when the copying began

	end     chainEnd // of what was read of the original
	written chainEnd // of what was read of the copy
	events  uint64   // that were copied by this run
}

func (c *copying) run(ctx context.Context, e *environment) error {
	bar := e.progress("looking at the copy", "events")
	err := c.readCopy(ctx, bar)
	bar.done()
	if err != nil {
		return err
	}
	bar = e.progress("copying", "events")
	err = c.copy(ctx, bar)
	bar.done()
	if err != nil {
		return err
	}
	bar = e.progress("checking the copy", "events")
	err = c.readCopy(ctx, bar)
	bar.done()
	if err != nil {
		return err
	}
	if c.written.events != c.end.events || c.written.chain != c.end.chain {
		return &exitError{exitDifferent, fmt.Errorf("the copy has %d events with chain %s, and the original %d with chain %s",
			c.written.events, c.written.chain, c.end.events, c.end.chain)}
	}
	for _, err := range c.from.ReadAll(ctx, c.end.position, public) {
		if err != nil {
			return err
		}
		return &exitError{exitRefused, errors.New("the original has taken more events meanwhile: stop its server, and run the same command again to copy them")}
	}
	return c.to.Finish(ctx, c.written.position, c.written.chain)
}

// readCopy follows the chain of the copy to its end.
func (c *copying) readCopy(ctx context.Context, bar *progressBar) error {
	for r, err := range c.to.ReadAll(ctx, c.written.position, public) {
		if err == nil {
			err = c.written.follow(&r)
		}
		if err != nil {
			return fmt.Errorf("reading the copy: %w", err)
		}
		bar.set(int64(c.written.events), float64(c.written.events)/float64(max(c.end.events, c.written.events+1)))
	}
	return nil
}

const (
	copyEvents = 1_000   // that are added at once
	copyBytes  = 4 << 20 // of them, about
)

// copy adds the events that the copy does not have yet, after it has compared what it has.
func (c *copying) copy(ctx context.Context, bar *progressBar) error {
	had := c.written
	var batch []eventstore.Recorded
	size := 0
	flush := func() error {
		err := c.to.Add(ctx, batch)
		if err == nil {
			c.events += uint64(len(batch))
			bar.set(int64(c.events), float64(c.end.position)/float64(max(c.head.Position, 1)))
			batch, size = batch[:0], 0
		}
		return err
	}
	if err := c.compare(had); err != nil {
		return err
	}
	for r, err := range c.from.ReadAll(ctx, 0, public) {
		if err == nil {
			err = c.end.follow(&r)
		}
		if err != nil {
			return fmt.Errorf("reading the original: %w", err)
		}
		if c.end.events <= had.events {
			if err := c.compare(had); err != nil {
				return err
			}
			continue
		}
		batch = append(batch, r)
		size += len(r.Data) + len(r.Metadata)
		if len(batch) == copyEvents || size >= copyBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if c.end.events < had.events {
		return &exitError{exitRefused, fmt.Errorf("the copy has %d events already, and the original %d", had.events, c.end.events)}
	}
	return flush()
}

// compare checks, once the original was read so far, that the copy has begun as the original does.
func (c *copying) compare(had chainEnd) error {
	if c.end.events == had.events && c.end.chain != had.chain {
		return &exitError{exitRefused, fmt.Errorf("the %d events that were copied before are not those of the original: it is another one, or has changed", had.events)}
	}
	return nil
}
