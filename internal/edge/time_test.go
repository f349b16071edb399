package edge_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderledger/orderledger/internal/edge"
	"github.com/orderledger/orderledger/internal/topology"
)

// The tests in this file run in bubbles, where time passes as fast as nothing happens. Their regions are handlers behind
// a transport in memory.

// silence is a handler that never answers.
var silence = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
})

// memory is a transport to handlers, by host.
type memory struct {
	mu       sync.Mutex // protects the fields below
	handlers map[string]http.Handler
	requests map[string]int // without probes
}

func (m *memory) set(host string, h http.Handler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handlers[host] = h
}

// taken returns how many requests a host has got since it was last asked.
func (m *memory) taken(host string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.requests[host]
	m.requests[host] = 0
	return n
}

func (m *memory) RoundTrip(r *http.Request) (*http.Response, error) {
	m.mu.Lock()
	h := m.handlers[r.URL.Host]
	if r.URL.Path != "/readyz" {
		m.requests[r.URL.Host]++
	}
	m.mu.Unlock()
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = http.NoBody
	}
	out, in := io.Pipe()
	w := &memoryWriter{header: make(http.Header), begun: make(chan int, 1), body: in}
	go func() {
		defer func() {
			if v := recover(); v != nil {
				_ = in.CloseWithError(io.ErrUnexpectedEOF)
				close(w.begun)
				return
			}
			if !w.wrote {
				w.WriteHeader(http.StatusOK)
			}
			_ = in.Close()
		}()
		h.ServeHTTP(w, r)
	}()
	stop := context.AfterFunc(r.Context(), func() { _ = out.CloseWithError(context.Cause(r.Context())) })
	select {
	case status, ok := <-w.begun:
		if !ok {
			stop()
			return nil, errors.New("the connection was cut")
		}
		return &http.Response{
			StatusCode: status, ProtoMajor: 2, ContentLength: -1, Request: r, Header: w.header,
			Body: struct {
				io.Reader
				io.Closer
			}{out, closer(func() { stop(); _ = out.Close() })},
		}, nil
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

type closer func()

func (c closer) Close() error {
	c()
	return nil
}

type memoryWriter struct {
	header http.Header
	begun  chan int
	body   *io.PipeWriter
	wrote  bool
}

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(status int) {
	if !w.wrote {
		w.wrote = true
		w.begun <- status
	}
}

func (w *memoryWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// A bubble is an edge in front of regions in memory, with its probes.
type bubble struct {
	testing.TB
	*memory
	edge *edge.Edge
}

// inBubble runs a test with regions a, b and c, which are all well.
func inBubble(t *testing.T, test func(b *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{handlers: make(map[string]http.Handler), requests: make(map[string]int)}
		for _, host := range []string{"a", "b", "c"} {
			m.set(host, says(200, jsonType, "{}"))
		}
		parsed := three(t)
		b := &bubble{t, m, edge.New(edge.Config{Topology: func() *topology.Topology { return parsed }, Transport: m, Seed: 1})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.edge.Run(ctx)
		}()
		time.Sleep(time.Second)
		test(b)
		cancel()
		<-done
	})
}

// ask sends a request from Germany and returns the region that has answered, or the status if none has.
func (b *bubble) ask(method, path string, header http.Header) string {
	r := httptest.NewRequest(method, "http://localhost"+path, nil)
	r.Header.Set("Orderledger-Country", "DE")
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	b.edge.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return w.Header().Get("Orderledger-Region") + http.StatusText(w.Code)
	}
	return w.Header().Get("Orderledger-Region")
}

func (b *bubble) state(region string) string {
	for _, r := range b.edge.Status().Regions {
		if r.Name == region && r.State == "closed" && !r.Ready {
			return "unready"
		} else if r.Name == region {
			return r.State
		}
	}
	return "unknown"
}

// A region that hangs is found by the probes, and what it was asked goes to the next one long before it would time out.
func TestRegionThatHangs(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.set("a", silence)
		begun := time.Now()
		var clients sync.WaitGroup
		for range 5 {
			clients.Go(func() {
				if got := b.ask(http.MethodGet, "/", nil); got != "b" {
					t.Errorf("a read is answered by %s", got)
				}
			})
		}
		clients.Go(func() {
			if got := b.ask(http.MethodPost, "/", nil); got != http.StatusText(http.StatusBadGateway) {
				t.Errorf("a write without a key is answered by %s", got)
			}
			between(t, "its time", time.Since(begun), 14*time.Second, 16*time.Second)
		})
		clients.Go(func() {
			b.ask(http.MethodPost, "/", http.Header{"Idempotency-Key": {"k"}})
			between(t, "the time of a keyed write", time.Since(begun), 3*time.Second, 6*time.Second)
		})
		clients.Wait()
		if got := b.state("a"); got != "open" {
			t.Errorf("the breaker is %s", got)
		}
		b.set("a", says(200, jsonType, "{}"))
		time.Sleep(time.Minute)
		for b.ask(http.MethodGet, "/", nil) != "a" {
		}
		if got := b.state("a"); got != "closed" {
			t.Errorf("the breaker is %s", got)
		}
	})
}

// A region whose probes are good and whose requests hang is found by these.
func TestRequestsThatHang(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.set("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				silence(w, r)
			}
		}))
		for range 3 {
			begun := time.Now()
			if got := b.ask(http.MethodGet, "/", nil); got != "b" {
				t.Errorf("%s answers", got)
			}
			between(t, "the time", time.Since(begun), 15*time.Second, 16*time.Second)
		}
		begun := time.Now()
		b.ask(http.MethodGet, "/?wait=30s", nil)
		between(t, "the time", time.Since(begun), 0, time.Second)
	})
}

// The body of an answer must go on, too; a slow one may take its time.
func TestBodyThatHangs(t *testing.T) {
	inBubble(t, func(b *bubble) {
		slow := func(pauses ...time.Duration) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", jsonType)
				for _, pause := range pauses {
					if r.URL.Path != "/readyz" {
						_, _ = io.WriteString(w, "x")
						time.Sleep(pause)
					}
				}
			})
		}
		b.set("a", slow(10*time.Second, 10*time.Second, 10*time.Second))
		if got := b.ask(http.MethodGet, "/", nil); got != "a" {
			t.Errorf("a slow region: %s answers", got)
		}
		b.set("a", slow(20*time.Second))
		if got := b.ask(http.MethodGet, "/", nil); got != "b" {
			t.Errorf("a region that hangs: %s answers", got)
		}
		b.set("a", slow(14*time.Second, 14*time.Second, 14*time.Second, 14*time.Second, 14*time.Second))
		if got := b.ask(http.MethodGet, "/", nil); got != "b" {
			t.Errorf("a region that takes for ever: %s answers", got)
		}
		time.Sleep(time.Minute) // the handlers end
	})
}

func TestRegionThatIsNotReady(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for _, host := range []string{"a", "b", "c"} {
			b.set(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/readyz" {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
			time.Sleep(2 * time.Second)
			if got, want := b.ask(http.MethodGet, "/", nil), map[string]string{"a": "b", "b": "c", "c": "a"}[host]; got != want {
				t.Errorf("when %s is not ready, %s answers", host, got)
			}
			if got := b.state(host); got != "unready" {
				t.Errorf("%s is %s", host, got)
			}
		}
	})
}

// A region that dies and returns under load makes no storm: together the regions get what the clients send and at most a
// fifth more, and one that returns gets its share little by little.
func TestNoStorm(t *testing.T) {
	inBubble(t, func(b *bubble) {
		const rate, clients = 200, 20 // requests in a second, all from the country of region a
		var failed atomic.Int64
		second := func() {
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for range rate / clients {
						time.Sleep(time.Second * clients / rate)
						if got := b.ask(http.MethodGet, "/", nil); len(got) != 1 {
							failed.Add(1)
						}
					}
				})
			}
			all.Wait()
		}
		second()
		if n := b.taken("a"); n != rate {
			t.Errorf("all is well, and region a gets %d of %d", n, rate)
		}
		for _, ill := range []http.Handler{says(503, "text/plain", ""), silence} {
			b.set("a", ill)
			_, _ = b.taken("b"), b.taken("c")
			sent, got := 0, 0
			for range 30 {
				second()
				sent += rate
				others := b.taken("b") + b.taken("c")
				got += b.taken("a") + others
				if others > rate*6/5+100 {
					t.Errorf("the others get %d in a second", others)
				}
			}
			if got > sent*6/5 {
				t.Errorf("the regions get %d requests, the clients sent %d", got, sent)
			}
			b.set("a", says(200, jsonType, "{}"))
			for seconds := 0; b.state("a") != "closed"; seconds++ {
				if seconds > 60 {
					t.Fatal("region a does not come back")
				}
				second()
			}
			b.taken("a")
			last := 0
			for i, most := range []int{70, 90, 110} {
				second()
				if last = b.taken("a"); last > most {
					t.Errorf("in second %d after its return region a gets %d of %d", i+1, last, rate)
				}
			}
			for range 10 {
				second()
			}
			b.taken("a")
			second()
			if n := b.taken("a"); n != rate {
				t.Errorf("at the end region a gets %d", n)
			}
		}
		if n := failed.Load(); n > 0 {
			t.Errorf("%d requests have failed", n)
		}
	})
}

// A long poll goes on in the next region, for as long as it has left.
func TestLongPoll(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var waits []string
		poll := func(then func()) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/readyz" {
					waits = append(waits, r.URL.RawQuery)
					time.Sleep(18 * time.Second)
					then()
				}
			})
		}
		b.set("a", poll(func() { panic(http.ErrAbortHandler) }))
		b.set("b", poll(func() {}))
		if got := b.ask(http.MethodGet, "/v1/notifications?after=7&wait=20s", nil); got != "b" {
			t.Errorf("%s answers", got)
		}
		if got := strings.Join(waits, " "); got != "after=7&wait=20s after=7&wait=2s" {
			t.Errorf("the regions were asked for %s", got)
		}
	})
}

// When nobody goes on with a stream the client is cut off in the end.
func TestStreamThatNobodyContinues(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.set("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" {
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "id: 1\ndata: x\n\n")
			b.set("a", says(404, jsonType, "{}"))
			silence(w, r) // nothing comes any more, not even a comment
		}))
		for _, host := range []string{"b", "c"} {
			b.set(host, says(404, jsonType, "{}"))
		}
		r := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
		r.Header.Set("Orderledger-Country", "DE")
		r = r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, new(http.Server)))
		w := httptest.NewRecorder()
		begun := time.Now()
		defer func() {
			if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				t.Errorf("the stream seems whole: %v", err)
			}
			between(t, "the time", time.Since(begun), 75*time.Second, 80*time.Second)
			if text := w.Body.String(); text != "id: 1\ndata: x\n\n" {
				t.Errorf("%q", text)
			}
		}()
		b.edge.ServeHTTP(w, r)
	})
}
