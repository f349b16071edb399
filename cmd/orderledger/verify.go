package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

// verifyCommand checks what is stored.
type verifyCommand struct {
	What string `arg:"" optional:"" default:"all" enum:"all,ledger,views" help:"ledger (its chain and anchor), views (the tables equal the fold), or all (default)."`
}

func (v verifyCommand) Run(ctx context.Context, e *environment) error {
	ledger, path, err := e.openForViews(ctx)
	if err != nil {
		return err
	}
	defer ledger.Close()
	own, ok := ledger.(stoppedLedger)
	if !ok {
		switch v.What {
		case "ledger":
			return usage("the chain of a ledger is checked where the ledger is: 'orderledger verify views' checks what is here")
		case "all":
			e.note("only the read models are checked: the chain of a ledger is checked where the ledger is")
		}
		v.What = "views"
	}
	var report verification
	var faults []error
	if v.What != "views" {
		found, err := own.verify(ctx, e)
		if err != nil {
			return err
		}
		report.Ledger = found
		if found.Problem != "" {
			faults = append(faults, fmt.Errorf("the ledger is not what was written: position %d: %s", found.Bad, found.Problem))
		} else if !e.JSON {
			e.printf("ledger: %d events form one chain\n", found.Events)
			if loose := found.Unanchored; loose != nil {
				e.printf("ledger: no anchor vouches for positions %d to %d yet: %s\n", loose[0], loose[1], found.why)
			}
		}
	}
	if v.What != "views" {
		err := e.verifyMirrors(ctx)
		if err != nil && !errors.Is(err, eventstore.ErrCorrupt) {
			return err
		}
		if err != nil {
			faults = append(faults, err)
		}
	}
	if v.What != "ledger" && len(faults) == 0 { // rows of a damaged ledger say nothing
		found, err := verifyViews(ctx, e, ledger, path)
		if projections.Final(err) {
			return &exitError{exitDifferent, err}
		}
		if err != nil {
			return err
		}
		report.Views = &viewsVerification{Rows: found.Rows}
		if found.Difference != nil {
			report.Views.Difference = &rowDifference{found.Difference.Table, found.Difference.Key, found.Difference.Column, found.Difference.Fault}
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

// A verification is what verify --json prints.
type verification struct {
	Ledger *ledgerVerification `json:"ledger,omitempty"`
	Views  *viewsVerification  `json:"views,omitempty"`
}

type ledgerVerification struct {
	Events     uint64                `json:"events"`
	Head       eventstore.Position   `json:"head"`
	Chain      eventstore.Hash       `json:"chain"`
	Problem    string                `json:"problem,omitempty"`    // what is wrong first
	Bad        eventstore.Position   `json:"bad,omitempty"`        // at or just before this position
	Unanchored []eventstore.Position `json:"unanchored,omitempty"` // first and last position that no anchor vouches for yet
	why        string                // nothing does
}

type viewsVerification struct {
	Rows       int            `json:"rows"` // that were compared and are equal
	Difference *rowDifference `json:"difference,omitempty"`
}

type rowDifference struct {
	Table  string `json:"table"`
	Key    string `json:"key"`
	Column string `json:"column,omitempty"`
	Fault  string `json:"fault"`
}

func verifyViews(ctx context.Context, e *environment, ledger eventstore.Reader, path string) (projections.Report, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return projections.Report{}, &exitError{exitDifferent, fmt.Errorf("there are no read models in %s: 'orderledger rebuild' makes them", path)}
	}
	views, err := projections.Open(ctx, path, nil)
	if err != nil {
		return projections.Report{}, err
	}
	defer views.Close()
	copies, err := e.openMirrors(ctx)
	if err != nil {
		return projections.Report{}, err
	}
	defer copies.Close()
	bar := e.progress("read models", "events")
	report, err := views.Verify(ctx, copies.with(ledger), func(p projections.Progress) { bar.set(int64(p.Events), p.Fraction) })
	bar.done()
	if err == nil && report.Difference == nil && !e.JSON {
		e.printf("read models: %d rows equal the fold of the ledger\n", report.Rows)
	}
	return report, err
}
