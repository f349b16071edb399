// Package web is what the write side and the read side share over HTTP: one router with its OpenAPI document, problem
// details for every error, strict JSON, limits, and who asks.
//
// A [Server] answers /openapi.json, /openapi.yaml, /docs, /problems, /healthz, /readyz, /metrics and /version by
// itself; other packages register their operations under /v1 on [Server.API] and pages on [Server.Router]. All of
// that happens before the first request. Afterwards a Server is safe for concurrent use.
package web

import (
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	randv2 "math/rand/v2"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says how a [Server] behaves. The zero value is usable.
type Config struct {
	Title       string // of the OpenAPI document; empty: Order ledger
	Description string
	Version     string // of the program; empty: devel
	Tags        []*huma.Tag

	Logger    *slog.Logger         // nil: no log
	Metrics   *prometheus.Registry // takes the server's own metrics and is shown at /metrics; nil: a new one
	Random    func() uint64        // of the ids of traces, safe for concurrent use; nil: math/rand
	CursorKey []byte               // at least 16 bytes; empty: a random one, so that no cursor survives a restart

	MaxBody     int64    // bytes of a body where the operation says nothing else; 0: 1 MiB
	MaxInFlight int      // requests at once; 0: 1,024
	MaxLong     int      // streams and long polls at once; 0: 4,096
	Rate        int      // requests per second of one client; 0: 20,000; negative: no limit
	Hosts       []string // names that the header Host may have beside loopback ones; in lower case, without port

	// Tokens are who may use the server; nil: everybody who reaches it, which must be this machine only.
	Tokens *Tokens
	// Allowed are the roles that the routes of other packages need.
	Allowed []Allowed

	// Elsewhere, if it is not empty, is what a process that does only a part of the work says of paths that it lacks.
	Elsewhere string

	// Errors make an [*Error] of errors of other packages, or nil of those that they do not know. The first answer
	// counts.
	Errors []func(error) *Error
	// Codes document codes of other packages at /problems.
	Codes []Code
}

// A Server is the router with everything around it. It is an [http.Handler].
type Server struct {
	// Cursors seals and opens the cursors of lists.
	Cursors *Cursors

	cfg     Config
	log     *slog.Logger
	router  *chi.Mux
	scoped  chi.Router
	api     huma.API
	metrics metrics
	flying  chan struct{}
	allowed Allowed

	mu       sync.Mutex // protects the fields below
	checks   map[string]func(context.Context) error
	results  map[string]string               // of the checks, when they were last made
	long     map[*request]context.CancelFunc // ends each long request
	draining bool
}

// New makes a Server. It panics on a configuration that cannot work.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		Cursors: NewCursors(cfg.CursorKey),
		cfg:     cfg,
		log:     cfg.Logger,
		router:  chi.NewRouter(),
		metrics: newMetrics(cfg.Metrics),
		flying:  make(chan struct{}, cfg.MaxInFlight),
		checks:  make(map[string]func(context.Context) error),
		results: make(map[string]string),
		long:    make(map[*request]context.CancelFunc),
		allowed: ownRoutes(),
	}
	for _, allowed := range cfg.Allowed {
		maps.Copy(s.allowed, allowed)
	}
	s.router.Use(s.observe, s.recoverPanics, s.guard, s.limitRate(), s.limitFlying, s.authenticate, middleware.GetHead)
	s.router.NotFound(func(w http.ResponseWriter, r *http.Request) {
		missing := notFound()
		missing.Detail = strings.TrimSpace(missing.Detail + " " + cfg.Elsewhere)
		s.WriteProblem(w, r, missing)
	})
	s.router.MethodNotAllowed(s.methodNotAllowed)
	s.router.Group(func(r chi.Router) {
		r.Use(s.readScope)
		s.scoped = r
		s.api = newAPI(r, cfg)
		s.api.UseMiddleware(s.checkQuery)
	})
	s.serveHealth()
	s.serveCodes()
	s.serveDocs()
	return s
}

func (cfg Config) withDefaults() Config {
	if cfg.Title == "" {
		cfg.Title = "Order ledger"
	}
	if cfg.Version == "" {
		cfg.Version = "devel"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.Random == nil {
		cfg.Random = randv2.Uint64
	}
	if len(cfg.CursorKey) == 0 {
		cfg.CursorKey = make([]byte, 32)
		_, _ = rand.Read(cfg.CursorKey) // it never fails
	}
	cfg.MaxBody = orDefault(cfg.MaxBody, 1<<20)
	cfg.MaxInFlight = orDefault(cfg.MaxInFlight, 1024)
	cfg.MaxLong = orDefault(cfg.MaxLong, 4096)
	cfg.Rate = orDefault(cfg.Rate, 20_000)
	return cfg
}

func orDefault[T int | int64](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// API is where operations under /v1 are registered.
func (s *Server) API() huma.API { return s.api }

// Router is where pages and other routes outside the OpenAPI document are registered.
func (s *Server) Router() chi.Router { return s.router }

// Routes lists all routes, each with its method and pattern such as "GET /v1/orders/{id}".
func (s *Server) Routes() []string {
	var routes []string
	_ = chi.Walk(s.router, func(method, pattern string, _ http.Handler, _ ...func(http.Handler) http.Handler) error { // it returns what this does
		routes = append(routes, method+" "+pattern)
		return nil
	})
	return routes
}

// find returns the route of a request; empty if there is none.
func (s *Server) find(method, path string) string {
	if pattern := s.router.Find(chi.NewRouteContext(), method, path); pattern != "" {
		return method + " " + pattern
	}
	return ""
}

// Scoped is where pages are registered that are about one business unit, see [BusinessUnit].
func (s *Server) Scoped() chi.Router { return s.scoped }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.router.ServeHTTP(w, r) }

// Drain ends all long requests and makes /readyz answer 503, so that a stop need not wait for streams. It may be
// called twice.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for _, end := range s.long {
		end()
	}
}

// addLong takes a request among the long ones and reports whether there was room.
func (s *Server) addLong(q *request, end context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.long) >= s.cfg.MaxLong {
		return false
	}
	s.long[q] = end
	s.metrics.long.Inc()
	if s.draining {
		end()
	}
	return true
}

func (s *Server) removeLong(q *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.long[q]()
	delete(s.long, q)
	s.metrics.long.Dec()
}

func newAPI(r chi.Router, cfg Config) huma.API {
	setUpHuma()
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       cfg.Title,
				Description: cfg.Description,
				Version:     cfg.Version,
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Servers:    []*huma.Server{{URL: "/", Description: "This server"}},
			Tags:       cfg.Tags,
			Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)},
		},
		Formats:       map[string]huma.Format{"application/json": strictFormat, "json": strictFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{finishProblem},
	}
	config.OnAddOperation = []huma.AddOpFunc{func(_ *huma.OpenAPI, op *huma.Operation) { document(op, cfg) }}
	return humachi.New(r, config)
}
