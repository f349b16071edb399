package edge_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/orderledger/orderledger/internal/edge"
	"github.com/orderledger/orderledger/internal/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A wire is a TCP proxy in front of a region. It can be cut at any byte of what the region sends.
type wire struct {
	listener net.Listener
	target   string
	budget   atomic.Int64 // bytes until it cuts; negative: it does not
	down     atomic.Bool  // it cuts every connection at once

	mu    sync.Mutex // protects the field below
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

func newWire(t testing.TB, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	w := &wire{listener: l, target: target, conns: make(map[net.Conn]bool)}
	w.budget.Store(-1)
	w.all.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		w.all.Wait()
	})
	return w
}

func (w *wire) url() string { return "http://" + w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.target)
		if err != nil || w.down.Load() {
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		w.mu.Lock()
		w.conns[client], w.conns[server] = true, true
		w.mu.Unlock()
		hangUp := func() {
			_ = client.Close()
			_ = server.Close()
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.conns, client)
			delete(w.conns, server)
		}
		w.all.Go(func() {
			defer hangUp()
			_, _ = io.Copy(server, client)
		})
		w.all.Go(func() {
			defer hangUp()
			w.back(client, server)
		})
	}
}

// back passes on what the region sends, as far as the budget goes.
func (w *wire) back(client, server net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		left := w.budget.Load()
		for left >= 0 && !w.budget.CompareAndSwap(left, max(left-int64(n), 0)) {
			left = w.budget.Load()
		}
		if left >= 0 && left <= int64(n) {
			_, _ = client.Write(buf[:left])
			return
		}
		if _, werr := client.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// cutAfter lets so many bytes pass, and then cuts every connection that sends more.
func (w *wire) cutAfter(n int) { w.budget.Store(int64(n)) }

// cut cuts what is connected now.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
}

// A world is an edge in front of regions, each behind a wire.
type world struct {
	testing.TB
	edge     *edge.Edge
	topology *topology.Topology
	handler  atomic.Pointer[edge.Edge]
	server   *httptest.Server
	wires    []*wire
	client   *http.Client
}

// newWorld starts an edge in front of handlers. Nothing is probed.
func newWorld(t testing.TB, handlers ...http.Handler) *world {
	t.Helper()
	w := &world{TB: t}
	var apis []string
	for _, h := range handlers {
		region := httptest.NewServer(h)
		t.Cleanup(region.Close)
		wire := newWire(t, region.Listener.Addr().String())
		w.wires = append(w.wires, wire)
		apis = append(apis, wire.url())
	}
	w.topology = regions(t, apis...)
	w.renew()
	w.server = httptest.NewUnstartedServer(nil)
	w.server.Config = edge.HTTPServer(w.edge)
	w.server.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.handler.Load().ServeHTTP(rw, r) })
	w.server.Start()
	w.client = &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	t.Cleanup(func() {
		w.edge.Close()
		w.server.Close()
	})
	return w
}

// renew gives the world an edge that knows nothing.
func (w *world) renew() {
	if w.edge != nil {
		w.edge.Close()
	}
	w.edge = edge.New(edge.Config{
		Topology: func() *topology.Topology { return w.topology }, Hosts: []string{"orders.example"}, Seed: 1,
		Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true},
	})
	w.handler.Store(w.edge)
}

// A reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

func (r reply) region() string { return r.header.Get("Orderledger-Region") }

// ask sends a request from Germany, so region a is the first choice.
func (w *world) ask(method, path string, header http.Header, body string) (reply, error) {
	r, err := http.NewRequest(method, w.server.URL+path, bytes.NewReader([]byte(body)))
	check(w, err)
	r.Header.Set("Orderledger-Country", "DE")
	for name, values := range header {
		r.Header[name] = values
		if name == "Host" {
			r.Host = values[0]
		}
	}
	answer, err := w.client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, string(text), err}, nil
}

// get reads a path, which must go well.
func (w *world) get(path string) reply {
	w.Helper()
	answer, err := w.ask(http.MethodGet, path, nil, "")
	if err = errors.Join(err, answer.err); err != nil {
		w.Fatal(err)
	}
	return answer
}

func (w *world) region(name string) edge.RegionStatus {
	for _, r := range w.edge.Status().Regions {
		if r.Name == name {
			return r
		}
	}
	w.Fatalf("there is no region %s", name)
	return edge.RegionStatus{}
}

// poll waits until something holds, and reports whether it did in time.
func poll(holds func() bool) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 5_000 {
		if holds() {
			return true
		}
		<-tick.C
	}
	return false
}

// says answers everything with a text.
func says(status int, contentType, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})
}

// A counted handler counts the requests that reach it.
type counted struct {
	http.Handler
	n atomic.Int64
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.n.Add(1)
	c.Handler.ServeHTTP(w, r)
}
