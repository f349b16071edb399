package main

import (
	"context"
	"sync"
	"time"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/feed"
	"github.com/orderledger/orderledger/internal/retry"
)

// askTimeout is how long a region that starts waits for a peer from which nothing comes.
const askTimeout = 10 * time.Second

// ask finds out what has become of the region's orders while it was away: another region may have taken them over. It
// returns when the mirror of each peer has what the peer's ledger had at the call, or nothing comes from there, and lets
// commands on orders be decided from then on.
func (p *peers) ask(ctx context.Context) {
	begun := time.Now()
	var asking sync.WaitGroup
	for _, other := range p.followed() {
		region, followed, _ := p.find(other.name)
		if !followed {
			continue
		}
		asking.Go(func() {
			log := p.log.With("region", other.name)
			source, err := feed.NewClient(feed.ClientConfig{URL: region.API + feedPath, Token: p.token, Ledger: other.ledger, HTTP: p.http, Logger: p.log})
			if err == nil {
				err = other.ask(ctx, source, retry.NewOutage(log, "asking a region what it knows", time.Second))
			}
			if err != nil && ctx.Err() == nil {
				log.WarnContext(ctx, "a region has not said what it knows: its orders and those that it took over are decided on without it", "error", err)
			}
		})
	}
	asking.Wait()
	if ctx.Err() == nil {
		p.asked.Store(true)
		p.log.InfoContext(ctx, "has asked the other regions", "took", time.Since(begun).Round(time.Millisecond))
	}
}

// ask brings a peer's mirror to where the peer's ledger is now, however far that is. It gives up when nothing has come
// from there for askTimeout.
func (o *peer) ask(ctx context.Context, source eventstore.Reader, outage *retry.Outage) error {
	for before := o.mirror.Status().Events; ; {
		attempt, stop := context.WithTimeout(ctx, askTimeout)
		err := outage.Do(attempt, func() error { return o.mirror.CatchUp(attempt, source) })
		stop()
		now := o.mirror.Status().Events
		if err == nil || ctx.Err() != nil || now == before {
			return err
		}
		before = now
	}
}
