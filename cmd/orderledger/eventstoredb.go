package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/eventstore/relay"
	"github.com/orderledger/orderledger/projections"
)

// An eventStoreDB is a ledger in EventStoreDB, together with the data directory of what stands beside it.
type eventStoreDB struct {
	*esdb.Store
	*pebblestore.Claim
}

// openEventStoreDB claims the data directory, so that nobody else uses the keys and read models in it, and connects.
func openEventStoreDB(ctx context.Context, data string, c esdb.Config) (*eventStoreDB, error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	claim, err := pebblestore.ClaimDir(data)
	if err != nil {
		return nil, err
	}
	store, err := esdb.Open(ctx, c)
	if err != nil {
		return nil, errors.Join(unavailable(ctx, err), claim.Close())
	}
	return &eventStoreDB{store, claim}, nil
}

// unavailable gives an error of opening a ledger in EventStoreDB its exit code.
func unavailable(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, esdb.ErrConnectionString):
		return &exitError{exitUsage, err}
	case ctx.Err() != nil:
		return err
	}
	return &exitError{exitUnavailable, err}
}

// Writable is nil: only an append tells whether EventStoreDB takes writes.
func (*eventStoreDB) Writable() error { return nil }

func (s *eventStoreDB) Close() error { return errors.Join(s.Store.Close(), s.Claim.Close()) }

// openEventStoreDB opens a ledger in EventStoreDB.
func (n *node) openEventStoreDB(ctx context.Context, c nodeConfig) (data string, err error) {
	store, err := openEventStoreDB(ctx, c.Data, esdb.Config{ConnectionString: c.Ledger, ID: c.ledgerID(), Logger: c.Log})
	if err != nil {
		return "", err
	}
	n.ledger, n.reader, n.distant = store, store, true
	n.opened(store.Close)
	return c.Data, store.Announce("")
}

// A witness has seen the chain of a ledger at a position.
type witness struct {
	who      string
	position eventstore.Position
	chain    eventstore.Hash
}

// witnesses returns who has seen the ledger, in the order of the positions: the relay, which computes the chain, the read
// models, which stand outside EventStoreDB, and who let the ledger go on as another incarnation.
func (s *eventStoreDB) witnesses(ctx context.Context, e *environment, id eventstore.Identity) ([]witness, error) {
	var all []witness
	incarnations, err := s.Incarnations(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range incarnations {
		all = append(all, witness{fmt.Sprintf("incarnation %d", i.Number), i.After, i.Chain})
	}
	checkpoint, err := relay.LastCheckpoint(ctx, s, relayName)
	if err != nil {
		return nil, err
	}
	all = append(all, witness{"the relay", checkpoint.Position, checkpoint.Chain})
	source, err := e.seenByViews(ctx, id)
	if err != nil {
		return nil, err
	}
	all = append(all, witness{"the read models", source.Chained, source.Chain})
	all = slices.DeleteFunc(all, func(w witness) bool { return w.position == 0 })
	slices.SortStableFunc(all, func(a, b witness) int { return cmp.Compare(a.position, b.position) })
	return all, nil
}

// seenByViews is what the read models know of a ledger; nothing where there are none.
func (e *environment) seenByViews(ctx context.Context, id eventstore.Identity) (seen projections.Source, err error) {
	path, err := e.viewsFile()
	if err != nil {
		return seen, err
	}
	if _, err := os.Stat(path); err != nil {
		return seen, nil
	}
	views, err := projections.Open(ctx, path, nil)
	if err != nil {
		return seen, err
	}
	defer func() { err = errors.Join(err, views.Close()) }()
	sources, err := views.Sources(ctx)
	for _, s := range sources {
		if s.Ledger == id.ID && s.Incarnation == id.Incarnation {
			seen = s
		}
	}
	return seen, err
}

// verify computes the chain of the whole ledger and compares it with what others have seen of it.
func (s *eventStoreDB) verify(ctx context.Context, e *environment) (*ledgerVerification, error) {
	head, err := s.Head(ctx)
	if err != nil {
		return nil, err
	}
	witnesses, err := s.witnesses(ctx, e, head.Identity)
	if err != nil {
		return nil, err
	}
	bar := e.progress("ledger", "events")
	defer bar.done()
	v := &ledgerVerification{Head: head.Position}
	var end chainEnd
	var anchored eventstore.Position
	for r, err := range s.ReadAll(ctx, 0, public) {
		if err == nil {
			err = end.follow(&r)
		}
		if err != nil {
			return nil, err
		}
		for len(witnesses) > 0 && witnesses[0].position <= r.Position && v.Problem == "" {
			switch w := witnesses[0]; {
			case w.position < r.Position:
				v.Bad, v.Problem = w.position, fmt.Sprintf("%s saw an event there, which is gone", w.who)
			case w.chain != end.chain:
				v.Bad, v.Problem = w.position, fmt.Sprintf("the chain is %s, and was %s for %s: the history up to here is another one", end.chain, w.chain, w.who)
			default:
				anchored = w.position
			}
			witnesses = witnesses[1:]
		}
		bar.set(int64(end.events), float64(r.Position)/float64(max(head.Position, 1)))
	}
	if v.Problem == "" && len(witnesses) > 0 {
		v.Bad, v.Problem = end.position+1, fmt.Sprintf("the ledger ends here, and %s saw position %d: its end was cut off", witnesses[0].who, witnesses[0].position)
	}
	v.Events, v.Chain = end.events, end.chain
	if v.Problem == "" && anchored < end.position {
		v.Unanchored, v.why = []eventstore.Position{anchored + 1, end.position}, "the relay, which computes the chain, has not come so far"
	}
	return v, nil
}

func (s *eventStoreDB) incarnations(ctx context.Context) ([]shownIncarnation, error) {
	incarnations, err := s.Incarnations(ctx)
	var all []shownIncarnation
	for _, i := range incarnations {
		all = append(all, shownIncarnation{i.Number, i.After, i.Chain, i.Begun})
	}
	return all, err
}

// beginInEventStoreDB lets a ledger go on whose database was restored from a backup. EventStoreDB cannot tell that it was.
func beginInEventStoreDB(ctx context.Context, e *environment) error {
	ledger, err := openEventStoreDB(ctx, e.Data, esdb.Config{ConnectionString: e.Ledger, Existing: true, Logger: e.logger()})
	if err != nil {
		return err
	}
	defer ledger.Close()
	var end chainEnd
	for r, err := range ledger.ReadAll(ctx, 0, public) {
		if err == nil {
			err = end.follow(&r)
		}
		if err != nil {
			return err
		}
	}
	begun, err := ledger.BeginIncarnation(ctx, end.position, end.chain)
	if err != nil {
		return err
	}
	return e.printIncarnation(shownIncarnation{begun.Number, begun.After, begun.Chain, begun.Begun})
}
