package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/internal/bench"
)

const (
	growthBase  = 1_000_000 // stored events; what it takes then, others are compared with
	growthAim   = 1.3       // times that, at most
	growthBytes = 2_500     // on disk for an event while read models are made anew
)

// measureGrowth measures how everything changes with the number of stored events, and what the next command on an order
// takes that has many.
func (b *benchmark) measureGrowth(ctx context.Context) (_ bench.Section, err error) {
	s := bench.Section{
		Name:  "growth",
		About: fmt.Sprintf("the whole server on a ledger that grows, in orders of %d events", benchLife),
		Limit: fmt.Sprintf("the figure at %s stored events, or at the fewest that are measured; of the next command, that of an order of ten", grouped(growthBase)),
	}
	largest := uint64(slices.Max(b.sizes))
	if free := bench.FreeSpace(b.dir); free > 0 && free < largest*growthBytes {
		return s, fmt.Errorf("%d events need about %d GB of disk, and %d GB are free in %s", largest, largest*growthBytes>>30, free>>30, b.dir)
	}
	dir, tidy, err := b.scratch("growth")
	if err != nil {
		return s, err
	}
	defer tidy(&err)
	g := &growth{benchmark: b, dir: dir, figures: make(map[string]map[int]grown)}
	for i, size := range b.sizes {
		if err := g.measureAt(ctx, size, i == 0); err != nil {
			return s, fmt.Errorf("%d events: %w", size, err)
		}
	}
	s.Figures = append(g.compared(b.sizes), g.long...)
	s.Checked = fmt.Sprintf("all %d acknowledged events form one chain, and the read models count all %d orders", g.events, g.orders)
	return s, nil
}

// A growth is a ledger that grows while it is measured.
type growth struct {
	*benchmark
	dir     string
	filled  int // closed orders
	orders  int // all orders
	events  int // that were acknowledged
	names   []string
	figures map[string]map[int]grown // by name and size
	long    []bench.Figure           // of the next command
}

// grown is a figure at a size.
type grown struct {
	figure bench.Figure
	rate   bool // more is better
}

func (g *growth) note(size int, rate bool, f bench.Figure) {
	if g.figures[f.Name] == nil {
		g.names = append(g.names, f.Name)
		g.figures[f.Name] = make(map[int]grown)
	}
	g.figures[f.Name][size] = grown{f, rate}
}

// compared sets all figures beside those at the base.
func (g *growth) compared(sizes []int) []bench.Figure {
	base := sizes[0]
	if slices.Contains(sizes, growthBase) {
		base = growthBase
	}
	var all []bench.Figure
	for _, name := range g.names {
		for _, size := range sizes {
			at, ok := g.figures[name][size]
			if !ok {
				continue
			}
			f := at.figure
			f.Name = fmt.Sprintf("%s, %s events", name, grouped(size))
			if size != base && f.Aim == nil {
				f.Limit = new(g.figures[name][base].figure.Value)
			}
			if size > base && f.Aim == nil {
				f.Aim = &bench.Aim{Value: growthAim, AtMost: true}
				if at.rate {
					f.Aim = &bench.Aim{Value: 1 / growthAim}
				}
			}
			all = append(all, f)
		}
	}
	return all
}

// grouped writes a count for people.
func grouped(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprintf("%d million", n/1_000_000)
	case n >= 1_000 && n%1_000 == 0:
		return fmt.Sprintf("%d thousand", n/1_000)
	}
	return fmt.Sprint(n)
}

// measureAt lets the ledger grow to a size and measures there.
func (g *growth) measureAt(ctx context.Context, size int, first bool) error {
	if err := g.grow(ctx, size); err != nil {
		return err
	}
	debug.FreeOSMemory() // what filling took is not the server's
	g.step("%s events: starting", grouped(size))
	begun := time.Now()
	n, alive, err := g.startNode(ctx, g.dir, true)
	if err != nil {
		return err
	}
	err = n.ready(alive)
	start := plainFigure("start after a clean stop", "s", time.Since(begun).Seconds())
	start.Aim = &bench.Aim{Value: 2, AtMost: true}
	g.note(size, false, start)
	if err == nil {
		err = g.measureWork(alive, n, size)
	}
	if err == nil && first {
		err = g.measureLong(alive, n)
	}
	memory := plainFigure("memory, this load included", "MB", float64(bench.ResidentMemory())/1e6)
	memory.Aim = &bench.Aim{Value: 300, AtMost: true}
	g.note(size, false, memory)
	if err == nil {
		err = n.quiet(alive)
	}
	if err = errors.Join(err, n.end()); err != nil {
		return err
	}
	return g.check(ctx)
}

// grow fills the ledger up to a size and makes its read models.
func (g *growth) grow(ctx context.Context, size int) (err error) {
	ledger, err := pebblestore.Open(g.dir, &pebblestore.Config{Logger: g.log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	m, err := newOrderMaker(ctx, ledger)
	if err != nil {
		return err
	}
	if orders := g.filled + (size-g.events)/benchLife; orders > g.filled {
		told := time.Now()
		err = m.fill(ctx, ledger, "grow", g.filled, orders, func(orders int) {
			g.events += (orders - g.filled) * benchLife
			g.orders += orders - g.filled
			g.filled = orders
			if time.Since(told) > time.Second {
				told = time.Now()
				g.step("%s events: %d appended", grouped(size), g.events)
			}
		})
		if err != nil {
			return err
		}
	}
	used, err := bench.DiskUsage(filepath.Join(g.dir, "ledger"))
	if err != nil {
		return err
	}
	g.note(size, false, plainFigure("ledger on disk", "B/event", float64(used)/float64(g.events)))
	g.step("%s events: making the read models", grouped(size))
	var watch bench.Stopwatch
	watch.Start()
	if err := rebuilt(ctx, ledger, g.dir); err != nil {
		return err
	}
	watch.Stop()
	g.note(size, true, plainFigure("rebuild", "events/s", watch.Run(g.events).Rate()))
	if used, err = bench.DiskUsage(g.dir); err != nil {
		return err
	}
	g.note(size, false, plainFigure("everything on disk", "B/event", float64(used)/float64(g.events)))
	g.step("%s events: relaying them", grouped(size))
	if err := relayed(ctx, ledger); err != nil {
		return err
	}
	return emptyKeys(g.dir)
}

// measureWork measures what the server does at a size. What this adds to the ledger does not depend on the size.
func (g *growth) measureWork(ctx context.Context, n *benchNode, size int) (err error) {
	writers := 64
	appends := newAppendLoad(n.ledger, fmt.Sprint(size), writers)
	bodies, err := submissionBodies()
	if err != nil {
		return err
	}
	submits := newSubmitLoad(n.address, fmt.Sprintf("g%05d", len(g.figures["submit"])), bodies)
	queries := wires(n.address, queryClients)
	defer func() { err = errors.Join(err, closeWires(submits.wires), closeWires(queries)) }()

	// A round of each does so many operations.
	count := min(max(size/20, 20), 10_000)
	for _, w := range []struct {
		name, unit string
		workers    int
		ops        int
		events     int // of an operation
		orders     int
		do         bench.Op
	}{
		{"append", "events/s", writers, count, 1, 0, appends.append},
		{"submit", "orders/s", submitClients, max(count/10, 10), 3, 1, submits.submit},
		{"query over HTTP", "queries/s", queryClients, count, 0, 0, func(ctx context.Context, client int) error {
			return getClosed(ctx, &queries[client], benchOrder("grow", rand.IntN(g.filled)))
		}},
		{"replay of an order", "orders/s", 1, max(count/10, 10), 0, 0, func(ctx context.Context, _ int) error {
			return replayClosed(ctx, n.ledger, benchOrder("grow", rand.IntN(g.filled)))
		}},
	} {
		var runs []bench.Run
		for round := range g.rounds {
			g.step("%s events: %s, round %d of %d", grouped(size), w.name, round+1, g.rounds)
			r, err := bench.Counted(ctx, w.workers, w.ops, w.do)
			if err = errors.Join(err, n.quiet(ctx)); err != nil {
				return err
			}
			runs = append(runs, r)
			g.events += w.ops * w.events
			g.orders += w.ops * w.orders
		}
		g.note(size, true, bench.Figure{Name: w.name, Unit: w.unit, Value: spread(runs, bench.Run.Rate)})
	}
	return errors.Join(g.measureNext(ctx, n, size), g.measureLagAt(ctx, n, size))
}

// measureNext measures commands on orders that a ledger of this size was filled with, one after the other.
func (g *growth) measureNext(ctx context.Context, n *benchNode, size int) error {
	g.step("%s events: next command", grouped(size))
	m, err := newOrderMaker(ctx, n.ledger)
	if err != nil {
		return err
	}
	first, next, err := g.nextCommands(ctx, n, m, fmt.Sprintf("next%d", size), benchLife, nextOrders)
	if err != nil {
		return err
	}
	g.note(size, false, plainFigure("first command on an order of ten", "ms", first))
	g.note(size, false, plainFigure("next command on an order of ten", "ms", next))
	return nil
}

// measureLagAt measures lag at a modest rate, the same at every size.
func (g *growth) measureLagAt(ctx context.Context, n *benchNode, size int) error {
	const rate = 200
	g.step("%s events: lag at %d commands/s", grouped(size), rate)
	load := n.lagLoad(fmt.Sprintf("lag%d", size))
	t, err := load.try(ctx, rate, g.measure)
	g.events += 3 * int(load.acked.Load())
	g.orders += int(load.acked.Load())
	g.note(size, false, plainFigure(fmt.Sprintf("lag at %d commands/s, p99", rate), "ms", bench.Milliseconds(t.lag.Quantile(0.99))))
	return err
}

// check looks whether the ledger has what was acknowledged, and the read models show it.
func (g *growth) check(ctx context.Context) (err error) {
	g.step("checking the ledger")
	ledger, err := pebblestore.Open(g.dir, &pebblestore.Config{ReadOnly: true, Logger: g.log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	report, err := ledger.Verify(ctx, nil)
	if err != nil {
		return err
	}
	if report.Problem != "" {
		return &gateError{fmt.Errorf("position %d: %s", report.Bad, report.Problem)}
	}
	events := 0
	for _, err := range ledger.ReadAll(ctx, 0, eventstore.Filter{Prefixes: []string{domain.StreamPrefix, "bench-"}}) {
		if err != nil {
			return err
		}
		events++
	}
	if events != g.events {
		return &gateError{fmt.Errorf("%d events were acknowledged, and %d are in the ledger", g.events, events)}
	}
	orders, err := countOrders(ctx, filepath.Join(g.dir, "views.db"))
	if err != nil {
		return err
	}
	if orders != g.orders {
		return &gateError{fmt.Errorf("%d orders were acknowledged, and the read models count %d", g.orders, orders)}
	}
	return nil
}

// ready returns when the server says that it is.
func (n *benchNode) ready(ctx context.Context) error {
	w := wire{address: n.address}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		_, err := w.exchange(ctx, []byte("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), http.StatusOK)
		if err == nil {
			return w.conn.Close()
		}
		if w.conn == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// replayClosed reads the history of an order from the ledger and folds it.
func replayClosed(ctx context.Context, ledger eventstore.Reader, id uuid.UUID) error {
	var f domain.Folder
	for e, err := range ledger.ReadStream(ctx, domain.Stream(id), 0, eventstore.Forward) {
		if err == nil {
			err = f.Add(e.Type, e.Data)
		}
		if err != nil {
			return err
		}
	}
	if o := f.Order(); o.ID != id || o.Status() != domain.StatusClosed {
		return &gateError{fmt.Errorf("order %s was closed, and its history says that it is %q", id, o.Status())}
	}
	return nil
}
