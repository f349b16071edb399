package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/topology"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

// places are where the regions of a fleet are: the first three on three continents, and then a second one on each.
var places = []topology.Region{
	{Name: "eu-west", Continent: "europe", Latitude: 53.35, Longitude: -6.26, Countries: []string{"GB", "IE", "FR", "ES", "PT", "NL", "BE", "CH", "IT"}},
	{Name: "us-east", Continent: "america", Latitude: 39.04, Longitude: -77.49, Countries: []string{"US", "BR", "AR", "CO"}},
	{Name: "ap-south", Continent: "asia", Latitude: 19.08, Longitude: 72.88, Countries: []string{"IN", "SG", "MY", "TH", "ZA"}},
	{Name: "eu-north", Continent: "europe", Latitude: 59.33, Longitude: 18.07, Countries: []string{"SE", "NO", "DK", "FI", "DE", "PL", "AT", "CZ", "SK", "HU", "RO", "GR", "TR", "UA"}},
	{Name: "us-west", Continent: "america", Latitude: 45.84, Longitude: -119.7, Countries: []string{"CA", "MX", "CL"}},
	{Name: "ap-east", Continent: "asia", Latitude: 35.68, Longitude: 139.69, Countries: []string{"JP", "KR", "CN", "AU", "NZ"}},
}

// A fleet is several regions in this process, each with a data directory, an HTTP server and a bus of its own, that follow
// one another's feeds over a network that can be cut.
type fleet struct {
	topology *topology.Topology
	network  *network
	members  []*member
}

// A member is a region of a fleet.
type member struct {
	*node
	region   topology.Region
	listener net.Listener
	end      eventstore.Position // of the newest public event that was found in its ledger
}

// openFleet opens as many regions of places in a directory, which may hold them from an earlier time. It starts nothing.
// Neither does it limit anybody's rate: all clients have one address.
func openFleet(ctx context.Context, dir string, regions int, log *slog.Logger) (_ *fleet, err error) {
	if os.Getenv("GOMEMLIMIT") == "" { // as much as if each were a process of its own
		debug.SetMemoryLimit(int64(regions) * (memoryTarget + int64(regions-1)*peerMemory))
	}
	f := new(fleet)
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	secret, err := f.furnish(dir, places[:regions])
	if err != nil {
		return nil, err
	}
	f.network = newFleetNetwork(f.topology)
	for _, m := range f.members {
		m.node, err = openNode(ctx, nodeConfig{
			globals: globals{Data: filepath.Join(dir, m.region.Name)}, Log: log.With("region", m.region.Name), Rate: -1,
			Region: m.region.Name, Topology: f.topology, Network: f.network.from(m.region.Name), Secret: secret,
		})
		if err == nil {
			err = m.announce(m.listener)
		}
		if err != nil {
			return nil, fmt.Errorf("opening region %s: %w", m.region.Name, err)
		}
	}
	return f, nil
}

// furnish opens a port for each region, and leaves in the directory what all of them share: the topology, in which the
// ledgers stay the same and the ports do not, and the secret.
func (f *fleet) furnish(dir string, regions []topology.Region) (*[32]byte, error) {
	path := filepath.Join(dir, "topology.yaml")
	before, err := topology.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		before, err = new(topology.Topology), nil
	}
	if err == nil && len(before.Regions) > 0 && len(before.Regions) != len(regions) {
		err = usage("%s holds %d regions: play on as many, or name another directory with --data", dir, len(before.Regions))
	}
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	text.WriteString("regions:\n")
	for _, r := range regions {
		listener, err := web.Listen("127.0.0.1:0", false)
		if err != nil {
			return nil, err
		}
		f.members = append(f.members, &member{listener: listener})
		known, ok := before.Region(r.Name)
		if r.Ledger = known.Ledger; !ok {
			r.Ledger = uuid.New()
		}
		fmt.Fprintf(&text, "- {name: %s, continent: %s, latitude: %g, longitude: %g, api: 'http://%s', ledger: %s, countries: ['%s']}\n",
			r.Name, r.Continent, r.Latitude, r.Longitude, listener.Addr(), r.Ledger, strings.Join(r.Countries, "', '"))
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return nil, fmt.Errorf("writing the topology: %w", err)
	}
	if f.topology, err = topology.Parse([]byte(text.String())); err != nil {
		return nil, err
	}
	for i, r := range f.topology.Regions {
		f.members[i].region = r
	}
	path = filepath.Join(dir, "secret")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		var secret [32]byte
		_, _ = rand.Read(secret[:]) // it never fails
		if err := os.WriteFile(path, []byte(hex.EncodeToString(secret[:])+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("writing the shared secret: %w", err)
		}
	}
	return readSecret(path)
}

// run runs all regions until ctx is done, which is no error, or one of them cannot go on.
func (f *fleet) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(f.members))
	var running sync.WaitGroup
	for i, m := range f.members {
		running.Go(func() {
			defer stop()
			if err := m.run(ctx, m.listener); err != nil {
				errs[i] = fmt.Errorf("region %s: %w", m.region.Name, err)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

func (f *fleet) close() error {
	var errs []error
	for _, m := range f.members {
		if err := m.listener.Close(); !errors.Is(err, net.ErrClosed) { // its server has closed it, if it ran
			errs = append(errs, err)
		}
		if m.node != nil {
			errs = append(errs, m.close())
		}
	}
	return errors.Join(errs...)
}

// settle returns when every region shows all that the ledgers hold now.
func (f *fleet) settle(ctx context.Context) error {
	_, err := f.settled(ctx)
	return err
}

// settled settles and returns the newest events that every region shows then, in the order of the members.
func (f *fleet) settled(ctx context.Context) ([]eventstore.Mark, error) {
	marks, err := f.newest(ctx)
	if err != nil {
		return nil, err
	}
	for i, home := range f.members {
		for _, m := range f.members {
			if err := m.shows(ctx, marks[i]); err != nil {
				return nil, fmt.Errorf("waiting until region %s shows what region %s has: %w", m.region.Name, home.region.Name, err)
			}
		}
	}
	return marks, nil
}

// newest marks the newest public event of each member's ledger.
func (f *fleet) newest(ctx context.Context) ([]eventstore.Mark, error) {
	marks := make([]eventstore.Mark, len(f.members))
	for i, m := range f.members {
		var err error
		if marks[i], err = m.newest(ctx); err != nil {
			return nil, err
		}
	}
	return marks, nil
}

// newest marks the newest public event of the member's ledger.
func (m *member) newest(ctx context.Context) (eventstore.Mark, error) {
	head, err := m.head(ctx)
	if err != nil {
		return eventstore.Mark{}, err
	}
	for e, err := range m.ledger.ReadAll(ctx, m.end, eventstore.Filter{Public: true}) {
		if err != nil {
			return eventstore.Mark{}, err
		}
		m.end = e.Position
	}
	return eventstore.Mark{Ledger: head.ID, Incarnation: head.Incarnation, Position: m.end}, nil
}

// shows waits until the member shows what a mark marks, also if it has not heard of the ledger yet.
func (m *member) shows(ctx context.Context, mark eventstore.Mark) error {
	for {
		err := m.views.WaitFor(ctx, mark, nil)
		if !errors.Is(err, projections.ErrUnknownLedger) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
