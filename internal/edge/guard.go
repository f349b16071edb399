package edge

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// guard keeps out what the regions cannot recognise, because they see the edge's address and not the client's: pages of
// other origins, which a browser may have send requests here, and requests that go round in a circle.
func (e *Edge) guard(next http.Handler) http.Handler {
	crossSite := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !e.ownHost(r.Host):
			writeProblem(w, problem(http.StatusMisdirectedRequest, "foreign_host", "The header Host names a host that this entry does not answer for."), 0)
		case crossSite.Check(r) != nil:
			writeProblem(w, problem(http.StatusForbidden, "cross_site", "The write comes from a page of another origin."), 0)
		case e.looped(r):
			p := problem(http.StatusLoopDetected, "loop", "The request has been here before: the topology gives a region the address of this entry.")
			p.Type = "about:blank"
			writeProblem(w, p, 0)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (e *Edge) ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	return host == "localhost" || slices.Contains(e.cfg.Hosts, host) || isLoopback(host)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// onlyThisMachine hides what is for those who run the edge.
func onlyThisMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, err := net.SplitHostPort(r.RemoteAddr); err != nil || !isLoopback(host) {
			writeProblem(w, problem(http.StatusNotFound, "not_found", "There is nothing at this path."), 0)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// writeGrace is how long a client may take to accept a part of an answer.
const writeGrace = 30 * time.Second

// patient is a writer to a client that may take its time, but not for ever.
type patient struct{ http.ResponseWriter }

func (p *patient) Write(part []byte) (int, error) {
	_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Now().Add(writeGrace)) // recorders of tests know none
	return p.ResponseWriter.Write(part)
}

// Unwrap lets the proxy flush.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// HTTPServer returns a server for an Edge that bounds headers and times, and ends streams when it is shut down.
func HTTPServer(e *Edge) *http.Server {
	server := &http.Server{
		Handler:           e,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          e.proxy.ErrorLog,
	}
	server.RegisterOnShutdown(e.Close)
	return server
}
