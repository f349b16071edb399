package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/internal/bench"
)

// benchCommand measures how fast the program is on this machine, beside what the machine could do.
type benchCommand struct {
	What   string `arg:"" enum:"append,submit,replay,rebuild,query,lag,bus,regions,growth,all" help:"append, submit, replay, rebuild, query, lag, bus, regions, growth (how all of these change with what is stored), or all. See docs/bench.md."`
	Quick  bool   `help:"Spend a second or two on each: shows that it works, not how fast it is."`
	Full   bool   `help:"Take more and longer rounds, and let growth go on to 10 million events. Needs 25 GB of disk and an hour."`
	Events []int  `placeholder:"N,…" help:"How many stored events growth is measured at (default: 10000,1000000)."`
	Dir    string `type:"path" placeholder:"DIR" help:"Where to measure, in a directory that is removed at the end (default: the data directory)."`
	Plot   string `type:"path" placeholder:"FILE.svg" help:"Draw how much of its aim each figure has reached."`
}

// Run measures, prints what it has measured, and fails where a check at the end of a subject has failed: of that subject
// no figure is printed. An aim that was not reached is no failure.
func (c benchCommand) Run(ctx context.Context, e *environment) error {
	if c.Quick && c.Full {
		return usage("--quick and --full exclude each other")
	}
	for _, n := range c.Events {
		if n < benchLife || n > 100_000_000 {
			return usage("--events are %d to 100000000 each", benchLife)
		}
	}
	return c.runAll(ctx, e, slices.DeleteFunc(slices.Clone(subjects), func(s subject) bool { return c.What != s.name && c.What != "all" }))
}

// runAll measures subjects.
func (c benchCommand) runAll(ctx context.Context, e *environment, chosen []subject) error {
	b, err := c.open(e)
	if err != nil {
		return err
	}
	report := bench.Report{Machine: bench.ThisMachine(b.dir)}
	report.Sections, err = b.measureAll(ctx, chosen)
	b.screen.done()
	if err = errors.Join(err, os.RemoveAll(b.dir)); ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, c.tell(e, report))
}

// open makes a directory to measure in.
func (c benchCommand) open(e *environment) (*benchmark, error) {
	parent := c.Dir
	if parent == "" {
		parent = e.Data
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, usage("making the directory to measure in: %w", err)
	}
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return nil, err
	}
	b := &benchmark{
		effort: ordinary, dir: dir, screen: newBenchScreen(e),
		log: slog.New(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	if esdb.IsConnectionString(e.Ledger) {
		b.eventStoreDB = e.Ledger
	}
	switch {
	case c.Quick:
		b.effort = quick
	case c.Full:
		b.effort = thorough
	}
	if len(c.Events) > 0 {
		b.sizes = slices.Sorted(slices.Values(c.Events))
	}
	return b, nil
}

// measureAll measures subjects. Others go on where one has failed its check.
func (b *benchmark) measureAll(ctx context.Context, chosen []subject) (sections []bench.Section, err error) {
	var failed []error
	for i, s := range chosen {
		var left time.Duration
		for _, s := range chosen[i:] {
			left += s.takes(b)
		}
		b.screen.begin(s.name, left)
		section, err := s.measure(b, ctx)
		if err == nil {
			sections = append(sections, section)
			continue
		}
		failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
		if wrong := (*gateError)(nil); !errors.As(err, &wrong) {
			break
		}
	}
	return sections, errors.Join(failed...)
}

// tell prints a report.
func (c benchCommand) tell(e *environment, report bench.Report) error {
	if len(report.Sections) == 0 {
		return nil
	}
	if c.Plot != "" {
		var b strings.Builder
		if err := errors.Join(report.WritePlot(&b), os.WriteFile(c.Plot, []byte(b.String()), 0o644)); err != nil { //nolint:gosec // a picture for everybody
			return fmt.Errorf("drawing the plot: %w", err)
		}
	}
	if e.JSON {
		return e.printJSON(report)
	}
	return report.WriteTable(e.out)
}

// A subject is what can be measured.
type subject struct {
	name    string
	takes   func(*benchmark) time.Duration // roughly
	measure func(*benchmark, context.Context) (bench.Section, error)
}

// subjects are all of them, in the order in which they are measured.
var subjects = []subject{
	{"append", func(b *benchmark) time.Duration { return time.Duration(len(appendWriters)) * b.takesBeside() }, (*benchmark).measureAppend},
	{"submit", func(b *benchmark) time.Duration { return 2 * b.takesBeside() }, (*benchmark).measureSubmit},
	{"replay", func(b *benchmark) time.Duration { return 2 * time.Duration(b.rounds) * b.measure }, (*benchmark).measureReplay},
	{"rebuild", func(b *benchmark) time.Duration { return time.Duration(4+2*b.rounds) * folding(b.orders*benchLife) }, (*benchmark).measureRebuild},
	{"query", func(b *benchmark) time.Duration { return 2*b.takesBeside() + 2*folding(b.orders*benchLife) }, (*benchmark).measureQuery},
	{"lag", func(b *benchmark) time.Duration { return 10 * b.trial }, (*benchmark).measureLag},
	{"bus", func(b *benchmark) time.Duration { return 15*time.Duration(b.rounds)*b.measure + 3*b.trial }, (*benchmark).measureBus},
	{"regions", func(b *benchmark) time.Duration { return 12 * b.trial }, (*benchmark).measureRegions},
	{"growth", func(b *benchmark) time.Duration { return 6 * folding(slices.Max(b.sizes)) }, (*benchmark).measureGrowth},
}

// folding is roughly how long some events take to be folded into read models.
func folding(events int) time.Duration { return time.Duration(events) * 25 * time.Microsecond }

// A benchmark measures one subject after the other.
type benchmark struct {
	effort
	dir    string // holds what is measured; each subject begins with an empty part of it
	screen *benchScreen
	log    *slog.Logger

	eventStoreDB string // a ledger there, to which appends are measured as well; empty: there is none
}

// An effort is how long is measured, and on how much.
type effort struct {
	rounds  int
	warm    time.Duration // before the first round of each side
	measure time.Duration // of a round
	trial   time.Duration // for which lag must stay bounded
	orders  int           // of a ledger that is read
	sizes   []int         // events at which growth is measured, rising
}

var (
	quick    = effort{rounds: 1, warm: 20 * time.Millisecond, measure: 100 * time.Millisecond, trial: 200 * time.Millisecond, orders: 100, sizes: []int{500, 1_000}}
	ordinary = effort{rounds: 3, warm: time.Second, measure: 2 * time.Second, trial: 10 * time.Second, orders: 10_000, sizes: []int{10_000, 1_000_000}}
	thorough = effort{rounds: 5, warm: 2 * time.Second, measure: 5 * time.Second, trial: 60 * time.Second, orders: 50_000, sizes: []int{10_000, 1_000_000, 10_000_000}}
)

// A gateError tells that something was lost, doubled, changed or brought out of order. What was measured then counts for
// nothing.
type gateError struct{ err error }

func (e *gateError) Error() string { return "what was measured is wrong: " + e.err.Error() }
func (e *gateError) Unwrap() error { return e.err }

// scratch makes a directory and returns how to remove it.
func (b *benchmark) scratch(name string) (string, func(*error), error) {
	dir, err := os.MkdirTemp(b.dir, name+"-")
	return dir, func(err *error) { *err = errors.Join(*err, os.RemoveAll(dir)) }, err
}

// step tells what comes next.
func (b *benchmark) step(format string, args ...any) { b.screen.step(fmt.Sprintf(format, args...)) }

// besides is a subject beside its limit.
type besides struct {
	name, unit     string
	workers        int
	aim            *bench.Aim
	subject, limit bench.Op
	settle         func(context.Context) error // waits until the subject no longer works in the background; nil: it never does
}

// beside measures a subject and its limit in turns: at full speed, and then both at two fixed rates that the subject can
// bear.
func (b *benchmark) beside(ctx context.Context, s besides) ([]bench.Figure, error) {
	full := func(op bench.Op, d time.Duration) (bench.Run, error) { return bench.Closed(ctx, s.workers, d, op) }
	b.step("%s: warming up", s.name)
	for _, op := range []bench.Op{s.limit, s.subject} {
		if _, err := full(op, b.warm); err != nil {
			return nil, err
		}
	}
	subject, limit, err := b.inTurns(ctx, s, "at full speed", func(op bench.Op) (bench.Run, error) { return full(op, b.measure) })
	if err != nil {
		return nil, err
	}
	figures := []bench.Figure{
		{Name: s.name, Unit: s.unit, Value: spread(subject, bench.Run.Rate), Limit: new(spread(limit, bench.Run.Rate)), Aim: s.aim},
		{Name: s.name + ": CPU", Unit: "s/million", Value: spread(subject, cpuPerMillion), Limit: new(spread(limit, cpuPerMillion))},
	}
	peak := figures[0].Value.Median
	for _, percent := range []int{50, 80} {
		how := fmt.Sprintf("at %d %% of peak", percent)
		subject, limit, err := b.inTurns(ctx, s, how, func(op bench.Op) (bench.Run, error) {
			return bench.Open(ctx, s.workers, peak*float64(percent)/100, b.measure, op)
		})
		if err != nil {
			return nil, err
		}
		for _, q := range quantiles {
			figures = append(figures, bench.Figure{
				Name: s.name + ": " + q.name + " " + how, Unit: "ms", Value: spread(subject, q.of), Limit: new(spread(limit, q.of)),
			})
		}
	}
	return figures, nil
}

// takesBeside is how long beside takes.
func (b *benchmark) takesBeside() time.Duration {
	return 2*b.warm + 6*time.Duration(b.rounds)*b.measure
}

// inTurns runs limit and subject in turns.
func (b *benchmark) inTurns(ctx context.Context, s besides, how string, run func(bench.Op) (bench.Run, error)) (subject, limit []bench.Run, err error) {
	err = bench.Interleave(b.rounds,
		func() error {
			if s.settle != nil {
				if err := s.settle(ctx); err != nil {
					return err
				}
			}
			b.step("%s %s, round %d of %d: limit", s.name, how, len(limit)+1, b.rounds)
			r, err := run(s.limit)
			limit = append(limit, r)
			return err
		},
		func() error {
			b.step("%s %s, round %d of %d", s.name, how, len(subject)+1, b.rounds)
			r, err := run(s.subject)
			subject = append(subject, r)
			return err
		})
	return subject, limit, err
}

// quantiles are those that are shown of latencies.
var quantiles = []struct {
	name string
	of   func(bench.Run) float64
}{
	{"p50", func(r bench.Run) float64 { return bench.Milliseconds(r.Latency.Quantile(0.5)) }},
	{"p99", func(r bench.Run) float64 { return bench.Milliseconds(r.Latency.Quantile(0.99)) }},
	{"p99.9", func(r bench.Run) float64 { return bench.Milliseconds(r.Latency.Quantile(0.999)) }},
}

func cpuPerMillion(r bench.Run) float64 { return r.CPU.Seconds() * 1e6 / float64(max(r.Ops, 1)) }

// spread sums up something of several runs.
func spread(runs []bench.Run, of func(bench.Run) float64) bench.Spread {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	return bench.SpreadOf(values...)
}

// plainFigure is a figure that was measured once and has no limit.
func plainFigure(name, unit string, value float64) bench.Figure {
	return bench.Figure{Name: name, Unit: unit, Value: bench.SpreadOf(value)}
}

func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
