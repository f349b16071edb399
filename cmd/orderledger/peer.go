package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/feed"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/eventstore/relay"
	"github.com/orderledger/orderledger/internal/retry"
	"github.com/orderledger/orderledger/internal/topology"
	"github.com/orderledger/orderledger/projections"
)

// A peer is a region whose ledger is mirrored.
type peer struct {
	name   string
	ledger uuid.UUID
	mirror *mirror.Mirror
}

// follow keeps a peer's mirror level with its ledger until ctx is done. Where the topology gives the peer another
// address, it goes on from there.
func (p *peers) follow(ctx context.Context, other *peer) {
	for ctx.Err() == nil {
		region, followed, changed := p.find(other.name)
		running, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if followed {
				other.follow(running, p, region)
			}
		}()
		for same := true; same; {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			now, still, next := p.find(other.name)
			same = ctx.Err() == nil && still == followed && now.API == region.API && now.Bus == region.Bus
			changed = next
		}
		stop()
		<-done
	}
}

// follow mirrors a region as it is reached now, until ctx is done.
func (o *peer) follow(ctx context.Context, p *peers, region topology.Region) {
	outage := retry.NewOutage(p.log.With("region", o.name), "following a region", 10*time.Second)
	for attempts := outage.Attempts(); ; {
		err := o.mirrorFrom(ctx, p, region)
		if ctx.Err() != nil || attempts.Failed(ctx, err) != nil {
			return
		}
	}
}

// mirrorFrom follows a region's ledger: over its bus, which the feed helps, or by its feed alone.
func (o *peer) mirrorFrom(ctx context.Context, p *peers, region topology.Region) error {
	source, err := feed.NewClient(feed.ClientConfig{URL: region.API + feedPath, Token: p.token, Ledger: o.ledger, HTTP: p.http, Logger: p.log})
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // it was only read
	bus, err := parseBus(region.Bus, p.here)
	if err != nil {
		return err
	}
	if bus == nil {
		return o.mirror.FollowFeed(ctx, source)
	}
	// How many lanes there are is known at the first contact.
	identity, known := o.mirror.Identity()
	if !known {
		head, err := source.Head(ctx)
		if err != nil {
			return err
		}
		identity = head.Identity
	}
	subscriber, err := bus.subscriber(identity.Lanes, p.log)
	if err != nil {
		return err
	}
	consumer, err := relay.NewConsumer(relay.ConsumerConfig{
		Bus: subscriber, Apply: o.mirror.Apply, Ledger: source, Source: o.ledger, Lanes: identity.Lanes, Log: p.log.With("region", o.name),
		Topic: func(int) string { return bus.topic }, Reject: reject, Shared: true,
	})
	if err != nil {
		return errors.Join(err, subscriber.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var healing sync.WaitGroup
	healing.Go(func() { _ = o.mirror.Follow(ctx, source) }) // ends with ctx
	err = consumer.Run(ctx)
	stop()
	healing.Wait()
	return errors.Join(err, subscriber.Close())
}

// project makes rows of what the mirror has, until ctx is done.
func (o *peer) project(ctx context.Context, n *node) {
	outage := retry.NewOutage(n.log.With("region", o.name), "making rows of a mirror", 10*time.Second)
	attempts := outage.Attempts()
	for followed := false; ctx.Err() == nil; {
		err := o.projectSome(ctx, n, &followed)
		switch {
		case err == nil:
			attempts.Succeeded(ctx)
		case projections.Final(err):
			n.giveUp(err)
			return
		case attempts.Failed(ctx, err) != nil:
			return
		}
	}
}

// projectSome brings the rows up to the mirror, and waits until there is more.
func (o *peer) projectSome(ctx context.Context, n *node, followed *bool) error {
	head, err := o.mirror.Head(ctx)
	if errors.Is(err, mirror.ErrUnreached) {
		if err := o.mirror.Wait(ctx, 0, 0); err != nil && !errors.Is(err, mirror.ErrBranched) {
			return err
		}
		head, err = o.mirror.Head(ctx)
	}
	if err != nil {
		return err
	}
	if !*followed {
		if err := n.projector.Follow(ctx, o.mirror); err != nil {
			return err
		}
		*followed = true
	}
	for more := true; more; {
		if more, err = n.projector.CatchUpSome(ctx, o.ledger); err != nil {
			return err
		}
	}
	if err := o.mirror.Wait(ctx, head.Incarnation, head.Position+1); err != nil && !errors.Is(err, mirror.ErrBranched) {
		return err
	}
	select { // what comes one by one goes into one transaction
	case <-ctx.Done():
	case <-time.After(gatherTime):
	}
	return nil
}

// gatherTime is how much later rows of other regions' orders come than their events, so that there are fewer
// transactions.
const gatherTime = 10 * time.Millisecond

// outgoing is the queue in which commands wait for another region.
func outgoing(b *busAddress, region string) string { return b.commands + "-" + region }

// sendCommands passes on the commands that wait for another region, until ctx is done.
func (p *peers) sendCommands(ctx context.Context, n *node, region string) {
	outage := retry.NewOutage(p.log.With("region", region), "receiving commands for a region", 10*time.Second)
	_ = outage.Do(ctx, func() (err error) { // ends with ctx
		bus, err := p.bus.queueSubscriber(eventstore.DefaultLanes, p.log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, bus.Close()) }()
		queue, err := commands.NewQueue(n.handler, commands.QueueConfig{
			Bus: bus, Topic: outgoing(p.bus, region), Routes: n.web, Home: region, Replies: p.sends, Reject: reject,
		})
		if err != nil {
			return err
		}
		return queue.Run(ctx)
	})
}
