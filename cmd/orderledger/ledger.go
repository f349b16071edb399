package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// ledgerCommand is what there is to do with the ledger itself.
type ledgerCommand struct {
	Show             ledgerShowCommand       `cmd:"" help:"Show which ledger this is and where it ends. The server must be stopped."`
	BeginIncarnation beginIncarnationCommand `cmd:"" help:"Let a backup, or a ledger that has lost its end, go on from where it stands. The server must be stopped."`
}

type ledgerShowCommand struct{}

func (ledgerShowCommand) Run(ctx context.Context, e *environment) error {
	ledger, _, err := e.openStopped(ctx)
	if err != nil {
		return err
	}
	defer ledger.Close()
	h, err := ledger.Head(ctx)
	if err != nil {
		return err
	}
	shown := shownLedger{ID: h.ID.String(), Lanes: h.Lanes, Format: h.Format, Position: h.Position, Chain: h.Chain}
	if shown.Incarnations, err = ledger.incarnations(ctx); err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(shown)
	}
	e.printf("ledger       %s, %d lanes, format %d\nends at      position %d", shown.ID, shown.Lanes, shown.Format, shown.Position)
	if shown.Chain != (eventstore.Hash{}) {
		e.printf(", chain %s", shown.Chain)
	}
	e.printf("\n")
	for _, i := range shown.Incarnations {
		e.printf("incarnation  %d, since %s, after position %d\n", i.Number, i.Begun.Format(time.RFC3339), i.After)
	}
	return nil
}

type shownLedger struct {
	ID           string              `json:"id"`
	Lanes        int                 `json:"lanes"`
	Format       int                 `json:"format"`
	Position     eventstore.Position `json:"position"`
	Chain        eventstore.Hash     `json:"chain,omitzero"` // EventStoreDB does not know it
	Incarnations []shownIncarnation  `json:"incarnations"`
}

type shownIncarnation struct {
	Number uint32              `json:"number"`
	After  eventstore.Position `json:"after"`
	Chain  eventstore.Hash     `json:"chain"`
	Begun  time.Time           `json:"begun"`
}

type beginIncarnationCommand struct {
	Lost bool `required:"" help:"I know that what the ledger took after this copy is lost, and that nobody uses the original any more."`
}

func (beginIncarnationCommand) Run(ctx context.Context, e *environment) error {
	if esdb.IsConnectionString(e.Ledger) {
		return beginInEventStoreDB(ctx, e)
	}
	dir, err := e.ledgerDir()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "ledger")); dir == "" || errors.Is(err, fs.ErrNotExist) {
		return &exitError{exitUnavailable, fmt.Errorf("there is no ledger in %s", e.Data)}
	}
	begun, err := pebblestore.BeginIncarnation(dir, &pebblestore.Config{Logger: e.logger()})
	if errors.Is(err, pebblestore.ErrGoesOn) {
		return &exitError{exitRefused, err}
	}
	if err != nil {
		return err
	}
	return e.printIncarnation(shownIncarnation{begun.Number, begun.After, begun.Chain, begun.Begun})
}

func (e *environment) printIncarnation(i shownIncarnation) error {
	if e.JSON {
		return e.printJSON(i)
	}
	e.printf("incarnation %d begins after position %d\n", i.Number, i.After)
	return nil
}

// backupCommand copies the ledger.
type backupCommand struct {
	To   string `arg:"" type:"path" help:"The data directory to make: a ledger must not be in it yet."`
	Keys string `type:"path" placeholder:"FILE" help:"Copy the keys of personal data as well, to this file. Keep it apart from the ledger: who destroys a key must destroy it there too."`
}

func (b backupCommand) Run(ctx context.Context, e *environment) error {
	if esdb.IsConnectionString(e.Ledger) {
		return usage("a ledger in EventStoreDB is backed up by EventStoreDB's own means; back up the file %s as well, apart from it", filepath.Join(e.Data, "keys"))
	}
	dir, err := e.ledgerDir()
	if err != nil {
		return err
	}
	if dir == "" {
		return usage("a ledger in memory ends with its server")
	}
	bar := e.progress("backing up", "bytes")
	begun := time.Now()
	anchor, err := pebblestore.Backup(ctx, dir, b.To, nil, func(done, total int64) { bar.set(done, float64(done)/float64(max(total, 1))) })
	bar.done()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &exitError{exitUnavailable, fmt.Errorf("there is no ledger in %s", dir)}
	case errors.Is(err, eventstore.ErrCorrupt):
		return &exitError{exitDifferent, err}
	case err != nil:
		return err
	}
	// After the ledger: a key stands in its file before an event is sealed with it.
	if b.Keys != "" {
		if err := copyKeys(filepath.Join(e.Data, "keys"), b.Keys); err != nil {
			return fmt.Errorf("the ledger is backed up, its keys are not: %w", err)
		}
	}
	if e.JSON {
		return e.printJSON(map[string]any{"position": anchor.Position, "chain": anchor.Chain, "seconds": time.Since(begun).Seconds()})
	}
	e.printf("backed up to position %d, chain %s\n", anchor.Position, anchor.Chain)
	return nil
}

// copyKeys copies the key file, and makes the copy durable. The file grows at its end only, or is replaced whole.
func copyKeys(from, to string) error {
	keys, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(keys)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
