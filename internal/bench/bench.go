// Package bench measures how fast something is: at full speed ([Closed]) and at a fixed rate ([Open]), with the
// latencies that a user would have seen, beside a limit that is measured in turns with it ([Interleave]). It writes what
// it found as a table, as JSON and as a plot. It does not know what it measures.
package bench

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// An Op does what is measured, once. Workers are numbered from 0; each calls it from one goroutine.
type Op func(ctx context.Context, worker int) error

// A Run is what was measured while workers were busy.
type Run struct {
	Ops     int           // that were done
	Unsent  int           // that [Open] wanted and no worker came to
	Elapsed time.Duration // until the last one was done
	CPU     time.Duration // of the whole process
	Latency *Histogram
}

// Rate is the number of operations per second.
func (r Run) Rate() float64 { return float64(r.Ops) / max(r.Elapsed.Seconds(), 1e-9) }

// Closed lets every worker do one operation after the other for a while. It finds out how much gets through; its latencies
// are those of workers who wait for one another, see [Open]. It returns the first error, after which all workers stop.
func Closed(ctx context.Context, workers int, d time.Duration, op Op) (Run, error) {
	return run(ctx, workers, func(ctx context.Context, worker int, latency *Histogram) error {
		begun := time.Now()
		for end := begun.Add(d); begun.Before(end) && ctx.Err() == nil; {
			if err := op(ctx, worker); err != nil {
				return err
			}
			now := time.Now()
			latency.Record(now.Sub(begun))
			begun = now
		}
		return nil
	})
}

// Open lets operations begin at a fixed rate, whether or not earlier ones are done, as long as a worker is free. Latency
// counts from the moment at which an operation was to begin: when the system stalls, all that were due meanwhile have
// waited. A system that falls so far behind that it is not done soon after the end is left alone: what no worker came to
// is counted as Unsent, with the time that it had waited by the end.
func Open(ctx context.Context, workers int, rate float64, d time.Duration, op Op) (Run, error) {
	return open(ctx, workers, rate, d, op, waitUntil)
}

func open(ctx context.Context, workers int, rate float64, d time.Duration, op Op, wait func(context.Context, time.Time)) (Run, error) {
	wanted := max(int64(math.Round(rate*d.Seconds())), 1)
	begun := time.Now()
	due := func(i int64) time.Time { return begun.Add(time.Duration(float64(i) / rate * float64(time.Second))) }
	end := due(wanted)

	turns := make(chan time.Time, workers)
	pacing, stop := context.WithCancel(ctx)
	var pacer sync.WaitGroup
	pacer.Go(func() {
		defer close(turns)
		for i := range wanted {
			wait(pacing, due(i))
			select {
			case turns <- due(i):
			case <-pacing.Done():
				return
			}
		}
	})
	var sent atomic.Int64
	r, err := run(ctx, workers, func(ctx context.Context, worker int, latency *Histogram) error {
		for at := range turns {
			if err := ctx.Err(); err != nil {
				return err
			}
			if time.Since(end) > d/late {
				return nil
			}
			sent.Add(1)
			if err := op(ctx, worker); err != nil {
				return err
			}
			latency.Record(time.Since(at))
		}
		return nil
	})
	stop()
	pacer.Wait()
	if err != nil {
		return r, err
	}
	for i := sent.Load(); i < wanted; i++ {
		r.Unsent++
		r.Latency.Record(end.Sub(due(i)))
	}
	return r, nil
}

// late is the part of its time by which a run at a fixed rate may be late before it gives up.
const late = 10

// waitUntil waits for a moment, or for ctx.
func waitUntil(ctx context.Context, at time.Time) {
	const short = 2 * time.Millisecond
	if wait := time.Until(at); wait > short {
		timer := time.NewTimer(wait - short)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
	pause(time.Until(at))
}

// run runs a goroutine for each worker and measures what they do together.
func run(ctx context.Context, workers int, work func(ctx context.Context, worker int, latency *Histogram) error) (Run, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r := Run{Latency: new(Histogram)}
	cpu, begun := CPUTime(), time.Now()
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			if err := work(ctx, worker, r.Latency); err != nil {
				fail(err)
			}
		})
	}
	all.Wait()
	r.Elapsed, r.CPU = time.Since(begun), CPUTime()-cpu
	r.Ops = int(r.Latency.Count())
	return r, context.Cause(ctx)
}

// Interleave calls every side once in each round, in turns: a machine that gets slower while it is measured then slows
// all sides alike. Every second round goes backwards.
func Interleave(rounds int, sides ...func() error) error {
	for round := range rounds {
		for i := range sides {
			if round%2 == 1 {
				i = len(sides) - 1 - i
			}
			if err := sides[i](); err != nil {
				return err
			}
		}
	}
	return nil
}

// Counted lets workers do n operations in all, as [Closed] does.
func Counted(ctx context.Context, workers, n int, op Op) (Run, error) {
	var next atomic.Int64
	return run(ctx, workers, func(ctx context.Context, worker int, latency *Histogram) error {
		begun := time.Now()
		for next.Add(1) <= int64(n) && ctx.Err() == nil {
			if err := op(ctx, worker); err != nil {
				return err
			}
			now := time.Now()
			latency.Record(now.Sub(begun))
			begun = now
		}
		return nil
	})
}

// Each calls do for 0 to n−1, some at once, and returns the first error, after which no call begins.
func Each(ctx context.Context, atOnce, n int, do func(ctx context.Context, i int) error) error {
	var next atomic.Int64
	_, err := Counted(ctx, atOnce, n, func(ctx context.Context, _ int) error { return do(ctx, int(next.Add(1)-1)) })
	return err
}
