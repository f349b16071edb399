package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/bench"
)

const (
	lagWorkers  = 64          // commands at once
	lagBound    = time.Second // lag above it counts as growing without bound
	lagSamples  = 200         // orders in a second whose lag is measured: looking costs, too
	lagWatchers = 4_096       // of them that are not visible yet
)

// measureLag measures how long it takes until what a command has led to can be seen.
func (b *benchmark) measureLag(ctx context.Context) (_ bench.Section, err error) {
	s := bench.Section{
		Name: "lag",
		About: fmt.Sprintf("from the answer to a command until the read models show it, the whole server in this process; "+
			"peak is the highest rate at which lag stays below %v for %v", lagBound, b.trial),
	}
	dir, tidy, err := b.scratch("lag")
	if err != nil {
		return s, err
	}
	defer tidy(&err)
	n, alive, err := b.startNode(ctx, dir, true)
	if err != nil {
		return s, err
	}
	load := n.lagLoad("lag")
	s.Figures, err = b.lags(alive, load)
	if err == nil {
		err = n.quiet(alive)
	}
	if err == nil {
		s.Figures = append(s.Figures, plainFigure("memory, this load included", "MB", float64(bench.ResidentMemory())/1e6))
		b.step("checking the rows")
		var rows int
		if rows, err = checkViews(ctx, n.ledger, filepath.Join(dir, "views.db"), domain.StatusRouted, int(load.acked.Load())); err == nil {
			s.Checked = fmt.Sprintf("all %d orders that were acknowledged are visible, and %d rows equal the fold of the ledger", load.acked.Load(), rows)
		}
	}
	return s, errors.Join(err, n.end())
}

// lags finds the peak and measures below it.
func (b *benchmark) lags(ctx context.Context, load *lagLoad) ([]bench.Figure, error) {
	peak, err := b.lagPeak(ctx, load)
	if err != nil {
		return nil, err
	}
	figures := []bench.Figure{plainFigure("peak", "commands/s", peak)}
	for _, percent := range []int{50, 80} {
		rate := peak * float64(percent) / 100
		b.step("lag at %d %% of peak, %.0f commands/s", percent, rate)
		t, err := load.try(ctx, rate, b.trial)
		if err != nil {
			return nil, err
		}
		for _, q := range quantiles {
			f := plainFigure(fmt.Sprintf("%s at %d %% of peak", q.name, percent), "ms", q.of(bench.Run{Latency: t.lag}))
			if q.name == "p99" && percent == 50 {
				f.Aim = load.aim
			}
			figures = append(figures, f)
		}
	}
	return figures, nil
}

// lagPeak looks for the highest rate at which lag stays bounded, to a tenth.
func (b *benchmark) lagPeak(ctx context.Context, load *lagLoad) (float64, error) {
	b.step("looking for the peak")
	begun := time.Now()
	r, err := bench.Closed(ctx, lagWorkers, b.measure, func(ctx context.Context, _ int) error {
		_, err := load.next(ctx)
		return err
	})
	if err == nil {
		err = load.quiet(ctx)
	}
	if err != nil {
		return 0, err
	}
	rate := float64(r.Ops) / time.Since(begun).Seconds()
	low, high := 0.0, 0.0 // the highest rate that went well, and the lowest that did not; 0: none yet
	for range 8 {
		b.step("looking for the peak: %.0f commands/s for %v", rate, b.trial)
		t, err := load.try(ctx, rate, b.trial)
		if err != nil {
			return 0, err
		}
		if t.bounded {
			low = rate
		} else {
			high = rate
		}
		switch {
		case high == 0:
			rate *= 1.3
		case low == 0:
			rate /= 1.5
		case high/low < 1.1:
			return low, nil
		default:
			rate = (low + high) / 2
		}
	}
	if low == 0 {
		return 0, errors.New("there is no rate at which lag stays bounded")
	}
	return low, nil
}

// A lagLoad submits orders and watches when they become visible.
type lagLoad struct {
	aim     *bench.Aim                                               // of p99 at half of the peak, in ms; nil: none
	submit  func(ctx context.Context, n int) (submitted, error)      // the n-th order
	visible func(ctx context.Context, s submitted, saw func()) error // calls saw wherever the order becomes visible
	quiet   func(context.Context) error                              // returns when all that was submitted is visible
	begun   atomic.Int64                                             // orders
	acked   atomic.Int64
}

// lagLoad submits orders of a name to a node and watches its read models.
func (n *benchNode) lagLoad(name string) *lagLoad {
	return &lagLoad{
		aim:    &bench.Aim{Value: 50, AtMost: true},
		submit: func(ctx context.Context, i int) (submitted, error) { return submitTo(ctx, n.node, name, i) },
		visible: func(ctx context.Context, s submitted, saw func()) error {
			if err := n.views.WaitFor(ctx, s.mark, &s.order); err != nil {
				return err
			}
			saw()
			return nil
		},
		quiet: n.quiet,
	}
}

// submitTo submits the n-th order of a name to a node, and returns it with its mark.
func submitTo(ctx context.Context, to *node, name string, n int) (submitted, error) {
	key := benchKey(name, n)
	id := benchOrder(name, n)
	r, err := to.handler.Handle(ctx, domain.Command{
		ID: domain.CommandID(id, localSubmitter, key), Order: id, BusinessUnit: benchUnit,
		Actor: domain.Actor{Kind: "system", Issuer: "local", Subject: localSubmitter}, Do: benchSubmission(name, n),
	}, domain.Personal{})
	if err != nil {
		return submitted{}, err
	}
	r.Mark.Position = 0 // to be woken by this order alone
	return submitted{id, r.Mark}, nil
}

// next submits the next order.
func (l *lagLoad) next(ctx context.Context) (submitted, error) {
	s, err := l.submit(ctx, int(l.begun.Add(1)))
	if err == nil {
		l.acked.Add(1)
	}
	return s, err
}

// submitted is an order and the mark that its submission has answered.
type submitted struct {
	order uuid.UUID
	mark  eventstore.Mark
}

// A trial is what a rate has led to.
type trial struct {
	lag     *bench.Histogram
	bounded bool
}

// try submits at a rate for a while.
func (l *lagLoad) try(ctx context.Context, rate float64, d time.Duration) (trial, error) {
	t := trial{lag: new(bench.Histogram)}
	var late bench.Histogram // in the second half
	var watchers sync.WaitGroup
	var watching, count atomic.Int64
	var failed atomic.Pointer[error]
	every := max(int64(rate/lagSamples), 1)
	half := time.Now().Add(d / 2)
	r, err := bench.Open(ctx, lagWorkers, rate, d, func(context.Context, int) error {
		s, err := l.next(ctx)
		if err != nil || count.Add(1)%every != 0 {
			return err
		}
		acked := time.Now()
		if watching.Add(1) > lagWatchers {
			watching.Add(-1)
			late.Record(time.Hour) // far from bounded
			return nil
		}
		watchers.Go(func() {
			defer watching.Add(-1)
			err := l.visible(ctx, s, func() {
				lag := time.Since(acked)
				t.lag.Record(lag)
				if acked.After(half) {
					late.Record(lag)
				}
			})
			if err != nil {
				failed.Store(&err)
			}
		})
		return nil
	})
	watchers.Wait()
	if cause := failed.Load(); cause != nil {
		err = errors.Join(err, *cause)
	}
	if err == nil {
		err = l.quiet(ctx)
	}
	t.bounded = r.Unsent == 0 && late.Max() < lagBound
	return t, err
}
