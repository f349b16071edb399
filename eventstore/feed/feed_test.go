package feed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/eventstoretest"
	"github.com/orderledger/orderledger/eventstore/feed"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A remote is a ledger whose reader is somewhere else.
type remote struct {
	*feed.Client
	ledger *pebblestore.Store
	server *httptest.Server
}

func (r *remote) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	return r.ledger.Append(ctx, stream, expected, events)
}

func (r *remote) Close() error {
	err := r.Client.Close()
	r.server.Close()
	return errors.Join(err, r.ledger.Close())
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openRemote(t *testing.T, fs vfs.FS, dir string, around func(http.Handler) http.Handler) *remote {
	t.Helper()
	ledger, err := pebblestore.Open(dir, &pebblestore.Config{FS: fs, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	var handler http.Handler = feed.NewHandler(feed.HandlerConfig{Ledger: ledger, Logger: silent()})
	if around != nil {
		handler = around(handler)
	}
	server := httptest.NewServer(http.StripPrefix("/v1/feed", handler))
	client, err := feed.NewClient(feed.ClientConfig{URL: server.URL + "/v1/feed", Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	return &remote{client, ledger, server}
}

func TestContract(t *testing.T) {
	fs := vfs.NewMem()
	eventstoretest.Run(t, eventstoretest.Implementation{Slow: true, Open: func(t *testing.T, dir string) eventstore.Store {
		return openRemote(t, fs, dir, nil)
	}})
}

// cutting ends every other answer after some bytes, and every fifth before it has begun. It spares what has failed four
// times already: a client that does not get on gives up after five.
func cutting(limit int) func(http.Handler) http.Handler {
	var mu sync.Mutex
	n, failed := 0, map[string]int{}
	chance := func(url string) int {
		mu.Lock()
		defer mu.Unlock()
		n++
		if n%5 != 0 && n%2 != 0 {
			return n
		}
		if failed[url]++; failed[url] > 4 {
			return 1
		}
		return n
	}
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch i := chance(r.URL.String()); {
			case i%5 == 0:
				w.WriteHeader(http.StatusServiceUnavailable)
			case i%2 == 0:
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				h.ServeHTTP(&cut{ResponseWriter: w, left: limit, stop: cancel}, r.WithContext(ctx))
				panic(http.ErrAbortHandler)
			default:
				h.ServeHTTP(w, r)
			}
		})
	}
}

type cut struct {
	http.ResponseWriter
	left int
	stop func()
}

func (c *cut) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		p = p[:c.left]
	}
	n, err := c.ResponseWriter.Write(p)
	if c.left -= n; c.left == 0 {
		c.stop()
		return n, io.ErrShortWrite
	}
	return n, err
}

func TestContractOverBreakingConnections(t *testing.T) {
	fs := vfs.NewMem()
	eventstoretest.Run(t, eventstoretest.Implementation{Slow: true, Open: func(t *testing.T, dir string) eventstore.Store {
		return openRemote(t, fs, dir, cutting(700))
	}})
}

func events(n int) []eventstore.Event {
	all := make([]eventstore.Event, n)
	for i := range all {
		all[i] = eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Data: fmt.Appendf(nil, `{"n":%d}`, i)}
	}
	return all
}

// TestTheLedgerMayRestart has a subscription go on when its server comes back, on the same address.
func TestTheLedgerMayRestart(t *testing.T) {
	fs := vfs.NewMem()
	ledger, err := pebblestore.Open("data", &pebblestore.Config{FS: fs, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	serve := func() *httptest.Server {
		s := httptest.NewUnstartedServer(feed.NewHandler(feed.HandlerConfig{Ledger: ledger, Logger: silent()}))
		s.Listener.Close()
		s.Listener = listener
		s.Start()
		return s
	}
	server := serve()
	client, err := feed.NewClient(feed.ClientConfig{URL: "http://" + address, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := make(chan eventstore.Position)
	var wg sync.WaitGroup
	wg.Go(func() {
		for e, err := range client.Subscribe(ctx, 0, eventstore.Filter{}) {
			if err != nil {
				if !errors.Is(err, eventstore.ErrClosed) {
					t.Error(err)
				}
				return
			}
			seen <- e.Position
		}
	})
	last := eventstore.Position(0)
	for round := range 3 {
		if _, err := ledger.Append(ctx, fmt.Sprint("order-", round), eventstore.NoStream, events(5)); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if p := <-seen; p != last+1 {
				t.Fatalf("position %d after %d", p, last)
			}
			last++
		}
		server.CloseClientConnections()
		server.Close()
		if listener, err = net.Listen("tcp", address); err != nil {
			t.Fatal(err)
		}
		server = serve()
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	server.Close()
	if err := ledger.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnotherLedgerIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	a, b := openRemote(t, fs, "a", nil), openRemote(t, fs, "b", nil)
	defer b.Close()
	defer a.Close()
	head, err := a.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := feed.NewClient(feed.ClientConfig{URL: b.server.URL + "/v1/feed", Ledger: head.ID, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Head(t.Context()); !errors.Is(err, feed.ErrWrongLedger) {
		t.Errorf("Head: %v, want ErrWrongLedger", err)
	}
	for _, err := range client.Subscribe(t.Context(), 0, eventstore.Filter{}) {
		if !errors.Is(err, feed.ErrWrongLedger) {
			t.Errorf("Subscribe: %v, want ErrWrongLedger", err)
		}
	}
}

func TestWhatIsNoFeed(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"not found":      {http.NotFound, feed.ErrRefused},
		"no token":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, feed.ErrRefused},
		"something else": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, feed.ErrRefused},
		"not yet":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, feed.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.answer)
			defer server.Close()
			client, err := feed.NewClient(feed.ClientConfig{URL: server.URL, Logger: silent()})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Head(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
	for _, address := range []string{"", "host", "ftp://host/", "http://"} {
		if _, err := feed.NewClient(feed.ClientConfig{URL: address}); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
}

func TestBadRequests(t *testing.T) {
	r := openRemote(t, vfs.NewMem(), "data", nil)
	defer r.Close()
	for _, path := range []string{
		"/events?after=x", "/events?after=-1", "/events?until=1.5", "/events?public=perhaps", "/events?follow=1",
		"/streams/order-1?from=x", "/streams/order-1?direction=up", "/streams/order-1?limit=-3",
	} {
		response, err := http.Get(r.server.URL + "/v1/feed" + path)
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
}

// TestAnswersAreCompressed compares sizes with and without gzip, which Go's client asks for by itself.
func TestAnswersAreCompressed(t *testing.T) {
	var compressed, plain atomic.Int64
	count := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			into := &plain
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				into = &compressed
			}
			h.ServeHTTP(&counted{w, into}, r)
		})
	}
	r := openRemote(t, vfs.NewMem(), "data", count)
	defer r.Close()
	for range 10 {
		if _, err := r.Append(t.Context(), "order-1", eventstore.Any, events(100)); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range r.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.server.URL+"/v1/feed/events?after=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", "identity")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if n < 100_000 || compressed.Load() > n*2/3 || compressed.Load() == 0 {
		t.Errorf("%d bytes compressed, %d plain", compressed.Load(), n)
	}
}

type counted struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// TestDamageIsTold has the ledger's own words arrive where it cannot read on.
func TestDamageIsTold(t *testing.T) {
	fs := vfs.NewMem()
	ledger, err := pebblestore.Open("data", &pebblestore.Config{FS: fs, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := ledger.Append(t.Context(), "order-1", eventstore.Any, events(1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ledger.Close(); err != nil {
		t.Fatal(err)
	}
	name := "data/ledger/00000001.log"
	b, err := fs.UnsafeGetFileDataBuffer(name)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte(`{"n":0}`))] ^= 1
	r := openRemote(t, fs, "data", nil)
	defer r.Close()
	var last error
	for _, last = range r.ReadAll(t.Context(), 0, eventstore.Filter{}) {
	}
	if !errors.Is(last, eventstore.ErrCorrupt) || !strings.Contains(last.Error(), "checksum") {
		t.Errorf("error %v, want ErrCorrupt", last)
	}
}
