package edge

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/orderledger/orderledger/internal/topology"
)

// probeTimeout bounds a probe.
const probeTimeout = 2 * time.Second

// Run probes the regions until ctx is done, and returns when the last probe has ended.
func (e *Edge) Run(ctx context.Context) {
	var probes sync.WaitGroup
	defer probes.Wait()
	for {
		due, wait := e.due()
		for _, region := range due {
			probes.Go(func() { e.probe(ctx, region) })
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (e *Edge) due() ([]topology.Region, time.Duration) {
	now := e.cfg.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.policy.Use(e.cfg.Topology())
	return e.policy.Probes(now)
}

// probe asks a region whether it is ready.
func (e *Edge) probe(ctx context.Context, region topology.Region) {
	begun := e.cfg.Now()
	health := e.ask(ctx, region)
	if ctx.Err() != nil {
		return // nobody chooses any more
	}
	now := e.cfg.Now()
	e.change(region.Name, func() {
		if e.policy.Probed(now, region.Name, health, now.Sub(begun)) {
			e.abandon(region.Name)
		}
	})
}

func (e *Edge) ask(ctx context.Context, region topology.Region) Health {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, region.API+"/readyz", nil)
	if err != nil { // the topology was checked
		return Silent
	}
	answer, err := e.transport.RoundTrip(r)
	if err != nil {
		return Silent
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(answer.Body, maxKept)); err != nil {
		return Silent
	}
	if answer.StatusCode != http.StatusOK {
		return Unready
	}
	return Ready
}
