package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/edge"
	"github.com/orderledger/orderledger/internal/topology"
	"github.com/orderledger/orderledger/internal/web"
)

// runRegions plays orders on several regions behind one entry, cuts one region off in the middle, and checks at the end
// that all regions agree.
func (d demoCommand) runRegions(ctx context.Context, e *environment) error {
	data, tidy, err := d.directory(e)
	defer tidy()
	if err == nil {
		err = os.MkdirAll(data, 0o700)
	}
	if err != nil {
		return err
	}
	// That a region does not reach others is what the demo shows, and no news.
	log := slog.New(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: slog.LevelError}))
	f, err := openFleet(ctx, data, d.Regions, log)
	if err != nil {
		return err
	}
	err = d.playOn(ctx, e, f, data, log)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // Ctrl-C is how a demo ends
	}
	return errors.Join(err, f.close())
}

// playOn plays on a fleet, which it runs.
func (d demoCommand) playOn(ctx context.Context, e *environment, f *fleet, data string, log *slog.Logger) error {
	for _, m := range f.members {
		if err := foreign(ctx, m.node, data); err != nil {
			return err
		}
	}
	base, err := d.base(data)
	if err != nil {
		return err
	}
	listener, err := web.Listen(d.Listen, false)
	if taken := (*net.OpError)(nil); errors.As(err, &taken) {
		listener, err = web.Listen("127.0.0.1:0", false)
	}
	if err != nil {
		return usage("%w", err)
	}
	metrics := prometheus.NewRegistry()
	entry := edge.New(edge.Config{
		Topology: func() *topology.Topology { return f.topology }, Transport: f.network.from("entry"), Metrics: metrics, Log: log,
	})
	crowd, err := newCrowd(d, "http://"+listener.Addr().String(), f.topology, base)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var work sync.WaitGroup
	work.Go(func() { stop(f.run(running)) })
	work.Go(func() { entry.Run(running) })
	work.Go(func() { stop(serveHTTP(running, edge.HTTPServer(entry), listener, entry.Close)) })

	t := &tour{fleet: f, crowd: crowd, orders: d.Orders, away: f.members[min(2, d.Regions-1)], least: leastOutage, begun: time.Now()}
	if d.Exit {
		t.least = leastOutage / 5
	}
	screen := newRegionsScreen(e, d, t, metrics, data)
	err = t.play(running, screen)
	if err == nil {
		err = screen.sum(running)
	}
	if err == nil && !d.Exit {
		e.note("All orders have been played. The regions go on; Ctrl-C ends them.")
		<-running.Done()
	}
	stop(nil)
	work.Wait()
	if cause := context.Cause(running); !errors.Is(cause, context.Canceled) {
		return cause // what else has failed has failed because of that
	}
	return err
}

// leastOutage is how long a region is cut off at least.
const leastOutage = 5 * time.Second

// A tour is what somebody sees who looks at regions while one of them is cut off.
type tour struct {
	fleet  *fleet
	crowd  *crowd
	orders int
	away   *member       // the one that is cut off
	least  time.Duration // for so long
	begun  time.Time

	cut, healed, level time.Time // when the region was cut off, came back, and had caught up; zero: not yet
	missed             int       // events that it lacked when it came back
	goal               []eventstore.Mark
}

// play lets the crowd play while the tour takes its course.
func (t *tour) play(ctx context.Context, s *regionsScreen) error {
	if err := t.fleet.settle(ctx); err != nil { // all have heard of one another
		return fmt.Errorf("starting the regions: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	var err error // of the crowd
	played := make(chan struct{})
	go func() {
		defer close(played)
		err = t.crowd.run(ctx)
	}()
	defer func() { <-played }()
	defer stop()
	tick := time.NewTicker(tourInterval)
	defer tick.Stop()
	over := (<-chan struct{})(played)
	for over != nil || t.level.IsZero() {
		select {
		case <-over:
			if err != nil && ctx.Err() == nil {
				return &exitError{exitDifferent, err}
			}
			if err != nil {
				return err
			}
			over = nil
		case <-tick.C:
		}
		if err := t.goOn(ctx, s.tell); err != nil {
			return err
		}
		if err := s.show(ctx); err != nil {
			return err
		}
	}
	return nil
}

const tourInterval = 50 * time.Millisecond

// goOn does what is to be done next, and tells about it.
func (t *tour) goOn(ctx context.Context, tell func(string, ...any)) error {
	name, now := t.away.region.Name, time.Now()
	begun := t.crowd.counts().Begun
	switch {
	case t.cut.IsZero():
		if 3*begun >= t.orders {
			t.cut = now
			t.fleet.network.cutOff(name)
			tell("%s is cut off: %s stands in for it", name, t.fleet.topology.Next(name)[0].Name)
		}
	case t.healed.IsZero():
		if 3*begun >= 2*t.orders && now.Sub(t.cut) >= t.least {
			return t.heal(ctx, tell)
		}
	case t.level.IsZero():
		there, err := t.away.passed(ctx, t.goal)
		if there {
			t.level = now
			tell("%s has caught up %.1f s after it came back", name, now.Sub(t.healed).Seconds())
		}
		return err
	}
	return ctx.Err()
}

// heal brings the region back.
func (t *tour) heal(ctx context.Context, tell func(string, ...any)) (err error) {
	if t.missed, _, err = t.fleet.behind(ctx, t.away); err != nil {
		return err
	}
	t.goal = nil
	for _, m := range t.fleet.members {
		mark, err := m.newest(ctx)
		if err != nil {
			return err
		}
		t.goal = append(t.goal, mark)
	}
	t.healed = time.Now()
	t.fleet.network.heal(t.away.region.Name)
	tell("%s is back after %.1f s and catches up: %d events behind", t.away.region.Name, t.healed.Sub(t.cut).Seconds(), t.missed)
	return nil
}
