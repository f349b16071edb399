// Package faultnet stands between clients and servers in tests and does what networks do: it cuts connections, closes
// one half of them, keeps silent, and is gone for a while.
package faultnet

import (
	"context"
	"net"
	"sync"
	"testing"
)

// A Proxy passes TCP connections on to a server. Its address stays the same whatever happens. All methods are safe for
// concurrent use.
type Proxy struct {
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex // protects what follows
	target string
	down   bool // whoever connects is cut off
	left   int  // bytes that pass before it goes down; negative: it does not
	closed bool
	pairs  map[*pair]struct{}
	gate   chan struct{} // closed: what comes is passed on
}

type pair struct{ client, server *net.TCPConn }

func (p *pair) close() {
	_ = p.client.Close()
	_ = p.server.Close()
}

// New returns a proxy that passes connections on to a target, such as 127.0.0.1:8080, until the test ends.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, target: target, left: -1, pairs: make(map[*pair]struct{}), gate: make(chan struct{})}
	close(p.gate)
	p.work.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		_ = l.Close()
		p.Thaw()
		p.Cut()
		p.work.Wait()
	})
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target, down := p.target, p.down
		p.mu.Unlock()
		var s net.Conn
		if !down {
			s, err = new(net.Dialer).DialContext(context.Background(), "tcp", target)
		}
		if down || err != nil {
			_ = c.Close()
			continue
		}
		made := &pair{c.(*net.TCPConn), s.(*net.TCPConn)}
		p.mu.Lock()
		if p.closed || p.down || p.target != target {
			made.close()
		}
		p.pairs[made] = struct{}{}
		p.mu.Unlock()
		p.work.Go(func() { p.pass(made, made.server, made.client) })
		p.work.Go(func() { p.pass(made, made.client, made.server) })
	}
}

func (p *Proxy) pass(of *pair, to, from *net.TCPConn) {
	defer func() {
		of.close()
		p.mu.Lock()
		delete(p.pairs, of)
		p.mu.Unlock()
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		gate := p.gate
		p.mu.Unlock()
		<-gate
		pass, last := p.spend(n)
		if _, err := to.Write(b[:pass]); err != nil {
			return
		}
		if last {
			p.Cut()
		}
		if err != nil || last {
			return
		}
	}
}

// spend says how many of n bytes may pass. If they are the last ones, it is down from now on.
func (p *Proxy) spend(n int) (pass int, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.left < 0:
		return n, false
	case p.left > n:
		p.left -= n
		return n, false
	}
	pass, p.left, p.down = p.left, -1, true
	return pass, true
}

// Point leads new connections to another server.
func (p *Proxy) Point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Down breaks every connection and cuts off whoever connects, until Up.
func (p *Proxy) Down() {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.Cut()
}

// DownAfter lets so many more bytes pass, from either side, and does what Down does in the middle of what comes then.
func (p *Proxy) DownAfter(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = bytes
}

// IsDown reports whether it is cut off.
func (p *Proxy) IsDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// Up ends what Down or DownAfter began.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.left = false, -1
}

// Cut breaks every connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		c.close()
		delete(p.pairs, c)
	}
}

// Half closes one half of every connection: what clients send, or what the server does.
func (p *Proxy) Half(client bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		if client {
			_ = c.client.CloseWrite()
		} else {
			_ = c.server.CloseWrite()
		}
	}
}

// Freeze holds back everything until Thaw.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
		p.gate = make(chan struct{})
	default: // it holds back already
	}
}

// Thaw ends what Freeze began.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}
