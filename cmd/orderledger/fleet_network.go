package main

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"

	"github.com/orderledger/orderledger/internal/topology"
)

// A network lies between regions and those who call them. A region can be cut off from it: then nothing goes in or out,
// and whoever tries is told at once that there is no way. It is safe for concurrent use.
type network struct {
	names map[string]string // of the regions, by their addresses

	mu    sync.Mutex // protects what follows
	cut   map[string]bool
	calls map[*call]struct{}
}

// A call is a connection from somebody to a region.
type call struct {
	net.Conn
	network  *network
	from, to string
}

func newFleetNetwork(t *topology.Topology) *network {
	n := &network{names: make(map[string]string), cut: make(map[string]bool), calls: make(map[*call]struct{})}
	for _, r := range t.Regions {
		if u, err := url.Parse(r.API); err == nil { // the topology has checked it
			n.names[u.Host] = r.Name
		}
	}
	return n
}

// from is how a region, or somebody outside of all regions ("edge"), reaches others.
func (n *network) from(name string) *http.Transport {
	t := newNetwork()
	t.Proxy = nil
	t.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) { return n.dial(ctx, name, address) }
	return t
}

// dial connects, unless one of the two ends is cut off. In one machine nobody is far away.
func (n *network) dial(ctx context.Context, from, address string) (net.Conn, error) {
	c := &call{network: n, from: from, to: n.names[address]}
	if c.isCut() {
		return nil, errCutOff
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c.Conn = conn
	n.mu.Lock()
	n.calls[c] = struct{}{}
	n.mu.Unlock()
	if c.isCut() { // meanwhile
		_ = c.Close()
		return nil, errCutOff
	}
	return c, nil
}

// errCutOff is what a network says when there is no way.
var errCutOff = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}

func (c *call) isCut() bool {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	return c.network.cut[c.from] || c.network.cut[c.to]
}

func (c *call) Close() error {
	c.network.mu.Lock()
	delete(c.network.calls, c)
	c.network.mu.Unlock()
	return c.Conn.Close()
}

// cutOff cuts a region off. What is under way breaks.
func (n *network) cutOff(region string) {
	n.mu.Lock()
	n.cut[region] = true
	var broken []*call
	for c := range n.calls {
		if c.from == region || c.to == region {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

// heal ends what cutOff began.
func (n *network) heal(region string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, region)
}

func (n *network) isCut(region string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[region]
}
