// Package edge is the entry in front of the regions. It passes each request to the nearest region that is healthy, and
// to the next one when that fails:
//
//   - A read is sent again as long as nothing of an answer has been passed on, and a write with an idempotency key too,
//     with the same key and the same body. Any other write is sent once.
//   - How much is sent again is bounded, so that neither a failure nor the return of a region makes a storm, see [Policy].
//   - A stream of Server-Sent Events goes on in the next region behind the last event that the client has got, so that
//     nothing is missing and nothing comes twice.
//   - An answer that breaks off is never made to look whole: the client's connection is cut, too.
//
// The edge knows no orders and checks no tokens: the regions do.
package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderledger/orderledger/internal/topology"
)

// CountryHeader is the header that names the country of a request where [Config] names no other.
const CountryHeader = "Orderledger-Country"

// Config says how an [Edge] behaves. Only Topology is needed.
type Config struct {
	Topology      func() *topology.Topology // the one in force; it is called for every request
	CountryHeader string                    // names the country of a request, as ISO 3166-1 alpha-2; empty: [CountryHeader]
	Hosts         []string                  // names that the header Host may have beside loopback ones; in lower case, without port

	Transport http.RoundTripper    // nil: one of its own
	Metrics   *prometheus.Registry // takes the edge's metrics and is shown at /edge/metrics; nil: a new one
	Log       *slog.Logger         // nil: no log
	Now       func() time.Time     // nil: time.Now
	Seed      uint64               // of the policy's chance; 0: a random one
}

// An Edge passes requests to regions. It is an [http.Handler] and safe for concurrent use.
type Edge struct {
	cfg       Config
	log       *slog.Logger
	transport http.RoundTripper
	router    *chi.Mux
	proxy     *httputil.ReverseProxy
	metrics   metrics
	id        string        // what the header Via says of this process
	flying    chan struct{} // has an element for each request under way
	buffered  atomic.Int64  // bytes of bodies that are kept to be sent again
	stopped   chan struct{} // closed by Close

	mu     sync.Mutex // protects the fields below
	policy *Policy
	calls  map[*call]bool // those that regions have not answered whole
	ended  bool           // stopped is closed
}

// maxFlying bounds the requests that are under way, streams included.
const maxFlying = 16_384

// New makes an Edge. The caller runs its probes with [Edge.Run], and ends its streams with [Edge.Close].
func New(cfg Config) *Edge {
	if cfg.CountryHeader == "" {
		cfg.CountryHeader = CountryHeader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	if cfg.Transport == nil {
		cfg.Transport = newTransport()
	}
	e := &Edge{
		cfg:       cfg,
		log:       cfg.Log,
		transport: cfg.Transport,
		id:        fmt.Sprintf("orderledger-edge-%016x", rand.Uint64()),
		flying:    make(chan struct{}, maxFlying),
		policy:    NewPolicy(rand.New(rand.NewPCG(cfg.Seed, 0))),
		stopped:   make(chan struct{}),
		calls:     make(map[*call]bool),
	}
	e.metrics = newMetrics(cfg.Metrics, e)
	e.proxy = &httputil.ReverseProxy{
		Rewrite:      e.rewrite,
		Transport:    attempts{e},
		ErrorHandler: e.fail,
		ErrorLog:     slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug), // mostly clients that hang up
	}
	e.routes()
	return e
}

// newTransport connects to regions. Nothing is compressed or followed on the way.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		IdleConnTimeout:       30 * time.Second, // well before the regions close them
		MaxIdleConnsPerHost:   256,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
	}
}

func (e *Edge) routes() {
	e.router = chi.NewRouter()
	e.router.Use(e.guard)
	e.router.Route("/edge", func(r chi.Router) {
		r.Get("/healthz", e.serveHealth)
		r.With(onlyThisMachine).Get("/status", e.serveStatus)
		r.With(onlyThisMachine).Method(http.MethodGet, "/metrics", e.metrics.handler)
		r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
			writeProblem(w, problem(http.StatusNotFound, "not_found", "There is nothing at this path."), 0)
		})
	})
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions} {
		e.router.Method(method, "/*", http.HandlerFunc(e.pass))
	}
	e.router.MethodNotAllowed(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, problem(http.StatusMethodNotAllowed, "method_not_allowed", "The path does not take this method."), 0)
	})
}

func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.router.ServeHTTP(w, r) }

// Close ends all streams and long polls, so that a server that is stopped need not wait for them: those who read them
// come again. It may be called twice.
func (e *Edge) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended {
		e.ended = true
		close(e.stopped)
	}
	for c := range e.calls {
		if c.long {
			c.cancel(errStopping)
		}
	}
	if t, ok := e.transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

func (e *Edge) stopping() bool {
	select {
	case <-e.stopped:
		return true
	default:
		return false
	}
}

// pass hands a request on to a region.
func (e *Edge) pass(w http.ResponseWriter, r *http.Request) {
	select {
	case e.flying <- struct{}{}:
	default:
		writeProblem(w, problem(http.StatusServiceUnavailable, codeUnavailable, "Too many requests are being answered."), time.Second)
		return
	}
	defer func() { <-e.flying }()
	e.proxy.ServeHTTP(&patient{ResponseWriter: w}, r)
}

// rewrite makes the request to a region of one from outside: what only the edge or a region may say is taken away.
func (e *Edge) rewrite(p *httputil.ProxyRequest) {
	h := p.Out.Header
	for name := range h {
		if strings.HasPrefix(name, "X-Forwarded-") {
			delete(h, name)
		}
	}
	for _, name := range []string{
		"Orderledger-On-Behalf-Of", "Orderledger-Via", // what regions tell each other
		"X-Real-Ip", "Connection", "Upgrade", "Expect",
		"Origin", // checked here, where Host is the one that the client has named
	} {
		h.Del(name)
	}
	if strings.Contains(h.Get("Accept"), eventStream) {
		h.Del("Accept-Encoding") // events are looked at
	}
	p.SetXForwarded()
	h.Add("Via", "1.1 "+e.id)
}

// fail answers a request that no region has.
func (e *Edge) fail(w http.ResponseWriter, r *http.Request, err error) {
	var none *NoRegionError
	switch {
	case errors.Is(err, errStopping):
		writeProblem(w, problem(http.StatusServiceUnavailable, codeUnavailable, "The entry is stopping."), time.Second)
	case r.Context().Err() != nil, errors.Is(err, errRequestBody):
		panic(http.ErrAbortHandler) // nobody is there to be answered
	case errors.As(err, &none):
		writeProblem(w, problem(http.StatusServiceUnavailable, codeUnavailable,
			"No region answers at present. A write with the same idempotency key is safe to repeat."), none.RetryAfter)
	case errors.Is(err, errOutcomeUnknown):
		p := problem(http.StatusBadGateway, "outcome_unknown",
			"The region broke off before it answered, and the write has no idempotency key under which it could be repeated. It may have been done.")
		p.Type = "about:blank"
		writeProblem(w, p, 0)
	default:
		writeProblem(w, problem(http.StatusServiceUnavailable, codeUnavailable,
			"The region did not answer. A write with the same idempotency key is safe to repeat."), time.Second)
	}
}

// maxVia bounds how many proxies may have passed a request on before.
const maxVia = 8

// looped reports whether a request came by this process before, or by too many others.
func (e *Edge) looped(r *http.Request) bool {
	via := strings.Join(r.Header.Values("Via"), ",")
	return strings.Count(via, ",") >= maxVia || strings.Contains(via, e.id)
}
