package web

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// checkTimeout bounds a check of /readyz.
const checkTimeout = 2 * time.Second

// ErrDegraded is what the error of a check wraps where the server can answer all the same, with less than it should.
var ErrDegraded = errors.New("degraded")

// AddCheck makes /readyz answer 503 while the function returns an error, unless that is [ErrDegraded]. The text of the
// error is not shown, and logged when the result of the check changes. A check of the same name is replaced.
func (s *Server) AddCheck(name string, check func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks[name] = check
}

// readiness is the body of /readyz.
type readiness struct {
	Status string            `json:"status"` // ready or unready
	Checks map[string]string `json:"checks"` // ok, degraded or failing, by name
}

// ready runs all checks, one after the other.
func (s *Server) ready(ctx context.Context) readiness {
	s.mu.Lock()
	checks := make(map[string]func(context.Context) error, len(s.checks))
	for name, check := range s.checks {
		checks[name] = check
	}
	draining := s.draining
	s.mu.Unlock()
	answer := readiness{Status: "ready", Checks: make(map[string]string, len(checks)+1)}
	if draining {
		answer.Status = "unready"
		answer.Checks["draining"] = checkFailing
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	for name, check := range checks {
		result := checkOK
		err := check(ctx)
		switch {
		case errors.Is(err, ErrDegraded):
			result = checkDegraded
		case err != nil:
			result = checkFailing
			answer.Status = "unready"
		}
		answer.Checks[name] = result
		s.tell(ctx, name, result, err)
	}
	return answer
}

// Results of checks.
const (
	checkOK       = "ok"
	checkDegraded = "degraded"
	checkFailing  = "failing"
)

// tell logs the result of a check, unless that is what it was the last time.
func (s *Server) tell(ctx context.Context, name, result string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, ok := s.results[name]
	s.results[name] = result
	switch {
	case result == before:
	case err != nil:
		s.log.WarnContext(ctx, "readiness check", "check", name, "result", result, "error", err)
	case ok:
		s.log.InfoContext(ctx, "readiness check", "check", name, "result", result)
	}
}

// version is the body of /version.
type version struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Revision string `json:"revision,omitempty"` // of the source
	Modified bool   `json:"modified,omitempty"` // the source had changes beside the revision
}

func (s *Server) version() version {
	v := version{Version: s.cfg.Version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			v.Revision = setting.Value
		case "vcs.modified":
			v.Modified = setting.Value == "true"
		}
	}
	return v
}

func (s *Server) serveHealth() {
	uncached := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Cache-Control", "no-store")
		writeJSON(w, status, v)
	}
	s.router.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		uncached(w, http.StatusOK, map[string]string{"status": "live"})
	})
	s.router.Get("/readyz", func(w http.ResponseWriter, r *http.Request) {
		answer := s.ready(r.Context())
		status := http.StatusOK
		if answer.Status != "ready" {
			status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "1")
		}
		uncached(w, status, answer)
	})
	s.router.Get("/version", func(w http.ResponseWriter, _ *http.Request) {
		uncached(w, http.StatusOK, s.version())
	})
	s.router.Method(http.MethodGet, "/metrics", promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{}))
}
