package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/internal/topology"
	"github.com/orderledger/orderledger/projections"
	"github.com/orderledger/orderledger/readapi"
)

// peers are the other regions as one region knows them. The topology says which there are; it may change while they are
// followed.
type peers struct {
	here  string
	token string
	http  *http.Client
	log   *slog.Logger
	dir   string              // of the mirrors
	bus   *busAddress         // the region's own
	sends watermill.Publisher // to it; nil: it is in the process

	topology atomic.Pointer[topology.Topology]
	commands atomic.Pointer[[]commands.Region] // the other regions for those who take commands
	asked    atomic.Bool                       // they were asked since the process began, see ask

	mu         sync.Mutex // protects the fields below
	byName     map[string]*peer
	forwarders map[string]*forwarder
	changed    chan struct{} // closed and replaced when the topology has changed
}

// A forwarder passes requests on to a region at an address.
type forwarder struct {
	*commands.Forwarder
	address string
}

// openPeers opens the mirrors of the regions that a region follows.
func openPeers(ctx context.Context, c nodeConfig, dir string, sends watermill.Publisher) (*peers, error) {
	if c.Network == nil {
		c.Network = newNetwork()
	}
	p := &peers{
		here: c.Region, token: c.Token, http: &http.Client{Transport: c.Network}, log: c.Log, dir: dir, bus: c.Bus, sends: sends,
		byName: make(map[string]*peer), forwarders: make(map[string]*forwarder), changed: make(chan struct{}),
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the mirrors: %w", err)
	}
	if err := p.use(ctx, c.Topology); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *peers) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, other := range p.byName {
		errs = append(errs, other.mirror.Close())
	}
	return errors.Join(errs...)
}

// use makes a topology the one that counts.
func (p *peers) use(ctx context.Context, t *topology.Topology) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range t.Followed(p.here) {
		if _, ok := p.byName[r.Name]; ok {
			continue
		}
		m, err := mirror.Open(ctx, filepath.Join(p.dir, r.Name+".db"), mirror.Config{Ledger: r.Ledger, Log: p.log.With("region", r.Name)})
		if err != nil {
			return fmt.Errorf("following region %s: %w", r.Name, err)
		}
		p.byName[r.Name] = &peer{name: r.Name, ledger: r.Ledger, mirror: m}
	}
	var all []commands.Region
	for _, r := range t.Next(p.here) {
		region, err := p.commandRegion(r)
		if err != nil {
			return err
		}
		all = append(all, region)
	}
	p.commands.Store(&all)
	p.topology.Store(t)
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// commandRegion is a region for those who take commands. It is called with mu held.
func (p *peers) commandRegion(r topology.Region) (commands.Region, error) {
	if f := p.forwarders[r.Name]; f == nil || f.address != r.API {
		to, err := commands.NewForwarder(commands.ForwarderConfig{Region: r.Name, URL: r.API, Token: p.token, From: p.here, Client: p.http, Logger: p.log})
		if err != nil {
			return commands.Region{}, err
		}
		p.forwarders[r.Name] = &forwarder{to, r.API}
	}
	region := commands.Region{Name: r.Name, Ledger: r.Ledger, API: p.forwarders[r.Name]}
	if other := p.byName[r.Name]; other != nil {
		region.Mirror = other.mirror
	}
	if p.bus.takesCommands() {
		region.Enqueue = func(m *watermill.Message) error { return p.sends.Publish(outgoing(p.bus, r.Name), m) }
	}
	return region, nil
}

// find returns the region of a name, if it is followed, and what tells that the topology has changed.
func (p *peers) find(name string) (r topology.Region, followed bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.topology.Load()
	r, followed = t.Region(name)
	own, _ := t.Region(p.here)
	return r, followed && slices.Contains(own.Follows, name), p.changed
}

// followed are all that are or were followed since the process began, in the order of their names.
func (p *peers) followed() []*peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*peer
	for _, other := range p.byName {
		all = append(all, other)
	}
	slices.SortFunc(all, func(a, b *peer) int { return strings.Compare(a.name, b.name) })
	return all
}

// mirrorOf returns the mirror of a ledger; nil: it is not followed.
func (p *peers) mirrorOf(ledger uuid.UUID) *mirror.Mirror {
	for _, other := range p.followed() {
		if other.ledger == ledger {
			return other.mirror
		}
	}
	return nil
}

// run follows all peers until ctx is done. Those that the topology names later are followed from then on.
func (p *peers) run(ctx context.Context, n *node) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		p.topology.Load().Watch(ctx, p.log, func(t *topology.Topology) {
			if err := p.use(ctx, t); err != nil {
				p.log.ErrorContext(ctx, "the topology is as before", "error", err)
			}
		})
	})
	reconciling := newReconciliation()
	running.Go(func() {
		p.ask(ctx)
		reconciling.run(ctx, n)
	})
	running.Go(func() { reconciling.tell(ctx, n) })
	following, sending := make(map[string]bool), make(map[string]bool)
	for {
		_, _, changed := p.find(p.here)
		for _, other := range p.followed() {
			if !following[other.name] {
				following[other.name] = true
				running.Go(func() { p.follow(ctx, other) })
				running.Go(func() { other.project(ctx, n) })
				running.Go(func() { other.tell(ctx, reconciling) })
			}
		}
		for _, r := range p.topology.Load().Next(p.here) {
			if p.bus.takesCommands() && !sending[r.Name] {
				sending[r.Name] = true
				running.Go(func() { p.sendCommands(ctx, n, r.Name) })
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// forCommands are the other regions for those who take commands, the ones that stand in for this one first.
func (p *peers) forCommands() []commands.Region { return *p.commands.Load() }

// forReaders are all regions for those who ask, this one first.
func (p *peers) forReaders(own eventstore.Reader) []readapi.Region {
	t := p.topology.Load()
	here, _ := t.Region(p.here)
	all := []readapi.Region{regionOf(here)}
	all[0].Here, all[0].Copy = true, own
	for _, r := range t.Regions {
		if r.Name == p.here {
			continue
		}
		region := regionOf(r)
		if m := p.mirrorOf(r.Ledger); m != nil {
			s := m.Status()
			region.Mirror = &readapi.Mirror{
				Position: s.Head.Position, Head: s.Source, Events: int(min(s.Lag, projections.MaxLag)), Age: s.Behind,
			}
			if s.Known {
				region.Copy, region.Mirror.Heard = m, s.Heard
			}
			if s.Err != nil {
				region.Mirror.Problem = problemOf(s.Err)
				region.Mirror.Age = max(s.Behind, time.Since(s.Since))
			}
		}
		all = append(all, region)
	}
	return all
}

// problemOf says in a few words why a mirror stands still.
func problemOf(err error) string {
	var unreachable net.Error
	switch {
	case errors.Is(err, mirror.ErrForeign):
		return "another ledger answers at its address"
	case errors.Is(err, mirror.ErrOlder):
		return "its ledger ends before what was seen of it"
	case errors.Is(err, mirror.ErrAltered):
		return "its history was altered"
	case errors.As(err, &unreachable), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "cannot be reached"
	}
	return err.Error()
}

func regionOf(r topology.Region) readapi.Region {
	return readapi.Region{
		Name: r.Name, Continent: r.Continent, Latitude: r.Latitude, Longitude: r.Longitude, API: r.API, Ledger: r.Ledger,
	}
}

// behind adds how far the mirrors are behind their ledgers to how far the read models are behind the mirrors.
func (p *peers) behind(lags []projections.Lag) {
	for i := range lags {
		m := p.mirrorOf(lags[i].Ledger)
		if m == nil {
			continue
		}
		s := m.Status()
		lags[i].Head = max(lags[i].Head, s.Source)
		lags[i].Events = min(lags[i].Events+int(min(s.Lag, projections.MaxLag)), projections.MaxLag)
		lags[i].Age = max(lags[i].Age, s.Behind)
		if s.Err != nil { // nobody knows what it has done since
			lags[i].Age = max(lags[i].Age, time.Since(s.Since))
		}
	}
}

// confirmTimeout bounds how long a region is asked whether it has an event.
const confirmTimeout = 5 * time.Second

// confirm returns nil as soon as one of the regions that follow this one has an event on its disk.
func (p *peers) confirm(ctx context.Context, mark eventstore.Mark) error {
	followers := p.topology.Load().Followers(p.here)
	switch {
	case len(followers) == 0:
		return errors.New("no region follows this one")
	case mark.Position == 0: // of a repeated append, of which not every ledger says where it stands
		return errors.New("it is not known where the events stand")
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	answers := make(chan error, len(followers))
	for _, r := range followers {
		client := mirror.Client{URL: r.API + mirrorsPath, Token: p.token, HTTP: p.http}
		go func() { answers <- client.Wait(ctx, mark.Ledger, mark.Incarnation, mark.Position) }() // ends with ctx
	}
	var errs []error
	for range followers {
		err := <-answers
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// newNetwork reaches other regions. It keeps more connections than usual, because requests are passed on and confirmed
// one by one.
func newNetwork() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		TLSHandshakeTimeout:   2 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   128,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: time.Minute,
	}
}
