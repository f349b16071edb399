package edge

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/orderledger/orderledger/internal/web"
)

// Status is how the edge sees the regions, as /edge/status shows it.
type Status struct {
	Regions []RegionStatus `json:"regions"`
	Retries int            `json:"retries"` // that may be made at once
}

// A RegionStatus is how the edge sees a region.
type RegionStatus struct {
	Name      string     `json:"name"`
	State     string     `json:"state"` // of the breaker: closed, open or half-open
	Ready     bool       `json:"ready"` // says the region itself
	Share     float64    `json:"share"` // of its requests that it gets: less than 1 after it has come back
	LatencyMS float64    `json:"latency_ms"`
	OpenUntil *time.Time `json:"open_until,omitempty"`
}

// Status returns how the edge sees the regions at present.
func (e *Edge) Status() Status {
	now := e.cfg.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.policy.Use(e.cfg.Topology())
	return e.policy.Status(now)
}

// Status returns what the policy knows.
func (p *Policy) Status(now time.Time) Status {
	s := Status{Retries: p.earned / retryPrice}
	for _, r := range p.topology.Regions {
		b := p.regions[r.Name]
		status := RegionStatus{
			Name: r.Name, State: b.state.String(), Ready: b.ready, Share: b.share(now),
			LatencyMS: float64(b.latency.Microseconds()) / 1000,
		}
		if b.state == open {
			until := b.until
			status.OpenUntil = &until
		}
		if b.state != closed {
			status.Share = 0
		}
		s.Regions = append(s.Regions, status)
	}
	return s
}

func (e *Edge) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if e.stopping() {
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "stopping"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "live"})
}

func (e *Edge) serveStatus(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, e.Status())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // callers pass plain structs
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
}

const codeUnavailable = "unavailable"

func problem(status int, code, detail string) *web.Problem {
	return &web.Problem{Type: "/problems/" + code, Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// writeProblem answers with an error of the edge itself.
func writeProblem(w http.ResponseWriter, p *web.Problem, retryAfter time.Duration) {
	body, err := json.Marshal(p)
	if err != nil { // a Problem holds nothing but strings and numbers
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", p.ContentType(""))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(retryAfter.Seconds())))))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
}
