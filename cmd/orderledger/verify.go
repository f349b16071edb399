package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/projections"
)

// verifyCommand checks what is stored.
type verifyCommand struct {
	What string `arg:"" optional:"" default:"all" enum:"all,ledger,views" help:"ledger (its chain and anchor), views (the tables equal the fold), or all (default)."`
}

func (v verifyCommand) Run(ctx context.Context, e *environment) error {
	ledger, path, err := e.openStopped()
	if err != nil {
		return err
	}
	defer ledger.Close()
	var report struct {
		Ledger *pebblestore.Report `json:"ledger,omitempty"`
		Views  *projections.Report `json:"views,omitempty"`
	}
	var faults []error
	if v.What != "views" {
		found, err := verifyLedger(ctx, e, ledger)
		if err != nil {
			return err
		}
		report.Ledger = &found
		if found.Problem != "" {
			faults = append(faults, fmt.Errorf("the ledger is not what was written: position %d: %s", found.Bad, found.Problem))
		} else if !e.JSON {
			e.printf("ledger: %d events form one chain\n", found.Events)
		}
	}
	if v.What != "ledger" {
		found, err := verifyViews(ctx, e, ledger, path)
		if err != nil {
			return err
		}
		report.Views = &found
		if found.Difference != nil {
			faults = append(faults, fmt.Errorf("the read models are not what the ledger adds up to: %v; 'orderledger rebuild' makes them anew", found.Difference))
		}
	}
	if e.JSON {
		if err := e.printJSON(report); err != nil {
			return err
		}
	}
	if err := errors.Join(faults...); err != nil {
		return &exitError{exitDifferent, err}
	}
	return nil
}

func verifyLedger(ctx context.Context, e *environment, ledger *pebblestore.Store) (pebblestore.Report, error) {
	bar := e.progress("ledger", "events")
	report, err := ledger.Verify(ctx, func(done, total uint64) { bar.set(int64(done), float64(done)/float64(max(total, 1))) })
	bar.done()
	return report, err
}

func verifyViews(ctx context.Context, e *environment, ledger eventstore.Reader, path string) (projections.Report, error) {
	views, err := projections.Open(ctx, path, nil)
	if err != nil {
		return projections.Report{}, err
	}
	defer views.Close()
	bar := e.progress("read models", "events")
	report, err := views.Verify(ctx, []eventstore.Reader{ledger}, func(p projections.Progress) { bar.set(int64(p.Events), p.Fraction) })
	bar.done()
	if err == nil && report.Difference == nil && !e.JSON {
		e.printf("read models: %d rows equal the fold of the ledger\n", report.Rows)
	}
	return report, err
}
