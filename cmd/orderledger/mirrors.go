package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
)

// mirrorsIn is the directory of the mirrors of other regions' ledgers, in a data directory.
func mirrorsIn(data string) string { return filepath.Join(data, "mirrors") }

// mirrors are those of a data directory whose server is stopped.
type mirrors []*mirror.Mirror

// openMirrors opens the mirrors that the read models come from beside the ledger.
func (e *environment) openMirrors(ctx context.Context) (_ mirrors, err error) {
	names, err := filepath.Glob(filepath.Join(mirrorsIn(e.Data), "*.db"))
	if err != nil {
		return nil, err
	}
	var all mirrors
	defer func() {
		if err != nil {
			err = errors.Join(err, all.Close())
		}
	}()
	for _, name := range names {
		if strings.Contains(filepath.Base(name), ".incarnation-") {
			continue // kept aside when its ledger went on from a backup
		}
		id, err := mirror.LedgerOf(ctx, name)
		if err != nil {
			return nil, err
		}
		m, err := mirror.Open(ctx, name, mirror.Config{Ledger: id, Log: e.logger()})
		if err != nil {
			return nil, err
		}
		if _, known := m.Identity(); !known { // nothing came from there yet
			if err := m.Close(); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, m)
	}
	return all, nil
}

// with returns a ledger and the mirrors.
func (m mirrors) with(ledger eventstore.Reader) []eventstore.Reader {
	all := []eventstore.Reader{ledger}
	for _, o := range m {
		all = append(all, o)
	}
	return all
}

// Close closes all.
func (m mirrors) Close() error {
	var errs []error
	for _, o := range m {
		errs = append(errs, o.Close())
	}
	return errors.Join(errs...)
}

// verifyMirrors checks the chains of all mirrors. It returns an error that wraps [eventstore.ErrCorrupt] for one that is
// not what was written.
func (e *environment) verifyMirrors(ctx context.Context) error {
	copies, err := e.openMirrors(ctx)
	if err != nil {
		return err
	}
	defer copies.Close()
	for _, m := range copies {
		if err := m.Verify(ctx); err != nil {
			return err
		}
		if !e.JSON {
			s := m.Status()
			e.printf("mirror: %d events of ledger %s form one chain\n", s.Events, s.Head.ID)
		}
	}
	return nil
}
