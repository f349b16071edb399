package web

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/httprate"
)

// always are headers that every answer has. Their values belong to all answers and are never changed.
var always = http.Header{
	"X-Content-Type-Options":       {"nosniff"},
	"Content-Security-Policy":      {"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Referrer-Policy":              {"no-referrer"},
}

// observe surrounds every request: it gives it an id, sets the headers that every answer has, and when it is over
// counts and logs it.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		wrapped := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		q := &request{server: s, writer: wrapped, unit: DefaultBusinessUnit, principal: local(), finish: func() {}}
		q.traceID, q.traceparent = trace(r.Header.Values("Traceparent"), s.cfg.Random)
		h := w.Header()
		h.Set("Request-Id", q.traceID)
		maps.Copy(h, always)
		r = r.WithContext(withRequest(r.Context(), q))
		defer func() {
			q.finish()
			s.record(r, q, wrapped, time.Since(start))
		}()
		next.ServeHTTP(wrapped, r)
	})
}

func (s *Server) record(r *http.Request, q *request, w middleware.WrapResponseWriter, took time.Duration) {
	route := chi.RouteContext(r.Context()).RoutePattern()
	if route == "" {
		route = "none"
	}
	method := r.Method
	if !slices.Contains(methods, method) {
		method = "other"
	}
	status := w.Status()
	if status == 0 {
		status = http.StatusOK
	}
	s.metrics.observe(route, method, status, took, q.long)
	// The metrics count what goes well, and the checks of /readyz say by themselves what does not.
	level := slog.LevelDebug
	if status >= http.StatusInternalServerError && route != "/readyz" {
		level = slog.LevelWarn
	}
	s.log.LogAttrs(r.Context(), level, "request",
		slog.String("request_id", q.traceID), slog.String("method", method), slog.String("route", route),
		slog.Int("status", status), slog.Duration("duration", took), slog.Int("bytes", w.BytesWritten()))
}

// recoverPanics answers 500 for a handler that panics, and logs the stack.
func (s *Server) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			s.metrics.panics.Inc()
			s.log.LogAttrs(r.Context(), slog.LevelError, "panic in a handler",
				slog.String("request_id", RequestID(r.Context())), slog.String("stack", string(debug.Stack())))
			if w.(middleware.WrapResponseWriter).Status() != 0 {
				panic(http.ErrAbortHandler) // part of the answer is on its way: cut it off rather than let it seem whole
			}
			s.WriteProblem(w, r, &Error{Status: http.StatusInternalServerError, Code: codeInternal,
				Detail: "The server failed. Its log tells why, under the request's id.", Cause: fmt.Errorf("panic: %T", v)})
		}()
		next.ServeHTTP(w, r)
	})
}

// guard keeps out pages of other origins, since a browser on this machine can reach the server without any
// authentication: the header Host must name this server, which defeats DNS rebinding, and writes must not come from
// another origin.
func (s *Server) guard(next http.Handler) http.Handler {
	crossSite := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.ownHost(r.Host) {
			s.WriteProblem(w, r, &Error{Status: http.StatusMisdirectedRequest, Code: "foreign_host",
				Detail: "The header Host names a host that this server does not answer for."})
			return
		}
		if err := crossSite.Check(r); err != nil {
			s.WriteProblem(w, r, &Error{Status: http.StatusForbidden, Code: "cross_site",
				Detail: "The write comes from a page of another origin."})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || slices.Contains(s.cfg.Hosts, host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// exempt are the paths that tell how the server is, so they answer also when it is overloaded.
var exempt = []string{"/healthz", "/readyz", "/metrics"}

func (s *Server) limitRate() func(http.Handler) http.Handler {
	if s.cfg.Rate < 0 {
		return func(next http.Handler) http.Handler { return next }
	}
	byClient := func(r *http.Request) (string, error) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		return httprate.CanonicalizeIP(host), nil
	}
	limit := httprate.LimitBy(s.cfg.Rate, time.Second, byClient,
		httprate.WithResponseHeaders(httprate.ResponseHeaders{}),
		httprate.WithLimitHandler(func(w http.ResponseWriter, r *http.Request) {
			s.WriteProblem(w, r, &Error{Status: http.StatusTooManyRequests, Code: "rate_limited",
				Detail: "This client sends too many requests.", RetryAfter: time.Second})
		}))
	return func(next http.Handler) http.Handler {
		limited := limit(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if slices.Contains(exempt, r.URL.Path) {
				next.ServeHTTP(w, r)
				return
			}
			limited.ServeHTTP(w, r)
		})
	}
}

// limitFlying bounds the requests that are answered at once.
func (s *Server) limitFlying(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(exempt, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		select {
		case s.flying <- struct{}{}:
		default:
			s.WriteProblem(w, r, &Error{Status: http.StatusServiceUnavailable, Code: codeUnavailable,
				Detail: "Too many requests are being answered.", RetryAfter: time.Second})
			return
		}
		s.metrics.flying.Inc()
		q := requestFrom(r.Context())
		q.finish = func() {
			<-s.flying
			s.metrics.flying.Dec()
		}
		next.ServeHTTP(w, r)
	})
}

// readScope prepares a request to the API: business unit, media type of the body, no caching.
func (s *Server) readScope(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		unit, refused := businessUnit(r)
		if refused == nil {
			refused = checkMediaType(r)
		}
		if refused != nil {
			if refused.Status == http.StatusUnsupportedMediaType {
				w.Header().Set("Accept-Post", "application/json")
			}
			s.WriteProblem(w, r, refused)
			return
		}
		q := requestFrom(r.Context())
		if !q.principal.mayActFor(unit) {
			s.WriteProblem(w, r, &Error{Status: http.StatusForbidden, Code: "foreign_business_unit",
				Detail: "The token may not act for this business unit. The header Business-Unit names another one."})
			return
		}
		q.unit = unit
		next.ServeHTTP(w, r)
	})
}

// checkMediaType refuses a body that does not say that it is JSON. Forms and plain text, which a page of another
// origin may send unasked, are among them.
func checkMediaType(r *http.Request) *Error {
	if r.ContentLength == 0 {
		return nil
	}
	const usual = "application/json"
	if r.Header.Get("Content-Type") == usual && r.Header["Content-Encoding"] == nil {
		return nil
	}
	refused := &Error{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type",
		Detail: "Bodies are application/json in UTF-8, without content encoding."}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return refused
	}
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	kind, isApplication := strings.CutPrefix(mediaType, "application/")
	isText := kind == "yaml" && r.Method == http.MethodPut // no page of another origin can send it unasked
	if err != nil || !isApplication || kind != "json" && !strings.HasSuffix(kind, "+json") && !isText {
		return refused
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return refused
	}
	return nil
}

var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

// methodNotAllowed answers for a path that has other methods; OPTIONS asks which.
func (s *Server) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	allow := []string{http.MethodOptions}
	for _, method := range methods {
		if s.router.Match(chi.NewRouteContext(), method, path) {
			allow = append(allow, method)
			if method == http.MethodGet {
				allow = append(allow, http.MethodHead)
			}
		}
	}
	slices.Sort(allow)
	w.Header().Set("Allow", strings.Join(slices.Compact(allow), ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.WriteProblem(w, r, &Error{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
		Detail: "The path does not take this method; the header Allow lists those that it takes."})
}
