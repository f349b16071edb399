package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/bench"
)

// measureRegions measures how long it takes until the others show what one region has answered.
func (b *benchmark) measureRegions(ctx context.Context) (_ bench.Section, err error) {
	s := bench.Section{
		Name: "regions",
		About: fmt.Sprintf("from the answer of one of %d regions until each of the %d others shows the order, all of them in this process and on one disk; "+
			"peak is the highest rate at which lag stays below %v for %v", len(places), len(places)-1, lagBound, b.trial),
	}
	dir, tidy, err := b.scratch("regions")
	if err != nil {
		return s, err
	}
	defer tidy(&err)
	b.step("starting %d regions", len(places))
	f, err := openFleet(ctx, dir, len(places), b.log)
	if err != nil {
		return s, err
	}
	alive, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() {
		defer stop()
		stopped <- f.run(alive)
	}()
	err = b.measureFleet(alive, f, &s)
	stop()
	return s, errors.Join(err, <-stopped, f.close())
}

// measureFleet measures a fleet that runs, and checks what it has come to.
func (b *benchmark) measureFleet(ctx context.Context, f *fleet, s *bench.Section) (err error) {
	load := f.lagLoad("regions")
	for range f.members { // so that all regions have heard of one another
		if _, err := load.next(ctx); err != nil {
			return err
		}
	}
	if err := f.settle(ctx); err != nil {
		return err
	}
	if s.Figures, err = b.lags(ctx, load); err != nil {
		return err
	}
	s.Figures = append(s.Figures, plainFigure("memory of all regions, this load included", "MB", float64(bench.ResidentMemory())/1e6))
	b.step("checking the rows of all regions")
	rows, err := f.check(ctx, int(load.acked.Load()))
	s.Checked = fmt.Sprintf("every region shows all %d orders that were acknowledged, their %d rows have the same hash everywhere, and equal the fold of the ledgers", load.acked.Load(), rows)
	return err
}

// lagLoad submits orders of a name to one region after the other, and watches the read models of the others.
func (f *fleet) lagLoad(name string) *lagLoad {
	home := func(n int) *member { return f.members[n%len(f.members)] }
	return &lagLoad{
		submit: func(ctx context.Context, n int) (submitted, error) { return submitTo(ctx, home(n).node, name, n) },
		visible: func(ctx context.Context, s submitted, saw func()) error {
			errs := make([]error, len(f.members))
			var watching sync.WaitGroup
			for i, m := range f.members {
				if m.own == s.mark.Ledger {
					continue
				}
				watching.Go(func() {
					if errs[i] = m.views.WaitFor(ctx, s.mark, &s.order); errs[i] == nil {
						saw()
					}
				})
			}
			watching.Wait()
			return errors.Join(errs...)
		},
		quiet: f.settle,
	}
}

// checkTimeout bounds folding all ledgers anew.
const checkTimeout = 10 * time.Minute

// check checks that every region shows so many orders, that all have the same rows, and that these follow from the
// ledgers. It returns how many rows there are.
func (f *fleet) check(ctx context.Context, orders int) (rows int, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var ledgers []eventstore.Reader
	for _, m := range f.members {
		ledgers = append(ledgers, m.ledger)
		counts, err := m.views.Counts(ctx, benchUnit)
		if err != nil {
			return 0, err
		}
		if len(counts) != 1 || counts[0].Status != domain.StatusRouted || counts[0].Orders != uint64(orders) {
			return 0, &gateError{fmt.Errorf("region %s counts %v, and %d orders are %s", m.region.Name, counts, orders, domain.StatusRouted)}
		}
	}
	_, rows, err = f.same(ctx)
	if different := (*exitError)(nil); errors.As(err, &different) {
		return 0, &gateError{err}
	}
	if err != nil {
		return 0, err
	}
	report, err := f.members[0].views.Verify(ctx, ledgers, nil)
	if err != nil {
		return 0, err
	}
	if report.Difference != nil {
		return 0, &gateError{fmt.Errorf("the read models are not what the ledgers add up to: %v", report.Difference)}
	}
	return rows, nil
}
