package web_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/internal/web"
)

// problem reads an answer that must be a problem.
func problem(t *testing.T, w *httptest.ResponseRecorder) web.Problem {
	t.Helper()
	var p web.Problem
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("status %d has content type %q: %s", w.Code, got, w.Body)
	}
	if err := web.DecodeStrict(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	switch {
	case p.Status != w.Code:
		t.Errorf("the problem says %d, the answer %d", p.Status, w.Code)
	case p.Type != "/problems/"+p.Code, p.Title == "", p.Code == "":
		t.Errorf("type %q, title %q, code %q", p.Type, p.Title, p.Code)
	case p.Instance == "" || p.Instance != w.Header().Get("Request-Id"):
		t.Errorf("instance %q, Request-Id %q", p.Instance, w.Header().Get("Request-Id"))
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("a problem may be cached: %q", w.Header().Get("Cache-Control"))
	}
	return p
}

func TestProblems(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	big := `{"name":"` + strings.Repeat("x", 1<<20) + `"}`
	tests := []struct {
		name         string
		method, path string
		body         string
		headers      []string
		status       int
		code         string
		location     string // of the first violation
	}{
		{name: "no such path", method: "GET", path: "/nothing", status: 404, code: "not_found"},
		{name: "no such path under /v1", method: "GET", path: "/v1/nothing", status: 404, code: "not_found"},
		{name: "method", method: "DELETE", path: "/v1/things", status: 405, code: "method_not_allowed"},
		{name: "unheard-of method", method: "BREW", path: "/v1/things", status: 405, code: "method_not_allowed"},

		{name: "our error", method: "GET", path: "/v1/things/missing", status: 404, code: "unknown_thing"},
		{name: "our error, wrapped", method: "GET", path: "/v1/things/wrapped", status: 404, code: "unknown_thing"},
		{name: "an error of another package", method: "GET", path: "/v1/things/taken", status: 409, code: "taken"},
		{name: "an error of huma", method: "GET", path: "/v1/things/huma", status: 404, code: "not_found"},
		{name: "another error of huma", method: "GET", path: "/v1/things/gateway", status: 504, code: "gateway_timeout"},
		{name: "unavailable", method: "GET", path: "/v1/things/busy", status: 503, code: "unavailable"},
		{name: "late", method: "GET", path: "/v1/things/late", status: 503, code: "unavailable"},
		{name: "given up", method: "GET", path: "/v1/things/gone", status: 503, code: "unavailable"},
		{name: "internal", method: "GET", path: "/v1/things/broken", status: 500, code: "internal_error"},
		{name: "panic", method: "GET", path: "/v1/things/panic", status: 500, code: "internal_error"},

		{name: "parameter of another type", method: "GET", path: "/v1/things/1?n=x", status: 400, code: "invalid_parameter", location: "query.n"},
		{name: "parameter out of range", method: "GET", path: "/v1/things/1?n=0", status: 400, code: "invalid_parameter", location: "query.n"},
		{name: "unknown parameter", method: "GET", path: "/v1/things/1?m=1", status: 400, code: "unknown_parameter", location: "query.m"},
		{name: "parameter twice", method: "GET", path: "/v1/things/1?n=1&n=2", status: 400, code: "duplicate_parameter", location: "query.n"},
		{name: "malformed query", method: "GET", path: "/v1/things/1?n=%zz", status: 400, code: "invalid_parameter"},
		{name: "missing header", method: "POST", path: "/v1/keyed", status: 400, code: "missing_idempotency_key", location: "header.Idempotency-Key"},

		{name: "no body", method: "POST", path: "/v1/things", status: 400, code: "empty_body"},
		{name: "blank body", method: "POST", path: "/v1/things", body: " ", status: 400, code: "empty_body"},
		{name: "malformed", method: "POST", path: "/v1/things", body: `{"name":`, status: 400, code: "malformed_body", location: "/name"},
		{name: "trailing data", method: "POST", path: "/v1/things", body: `{"name":"x"}{}`, status: 400, code: "malformed_body"},
		{name: "not UTF-8", method: "POST", path: "/v1/things", body: "{\"name\":\"\xff\"}", status: 400, code: "invalid_utf8", location: "/name"},
		{name: "duplicate", method: "POST", path: "/v1/things", body: `{"name":"x","name":"y"}`, status: 400, code: "duplicate_field", location: "/name"},
		{name: "too deep", method: "POST", path: "/v1/things", body: `{"extra":` + strings.Repeat("[", 100_000), status: 400, code: "too_deep", location: "/extra" + strings.Repeat("/0", 15)},
		{name: "unknown field", method: "POST", path: "/v1/things", body: `{"name":"x","colour":1}`, status: 400, code: "unknown_field", location: "/colour"},
		{name: "another case", method: "POST", path: "/v1/things", body: `{"name":"x","Name":"x"}`, status: 400, code: "unknown_field", location: "/Name"},
		{name: "missing field", method: "POST", path: "/v1/things", body: `{}`, status: 400, code: "missing_field"},
		{name: "wrong type", method: "POST", path: "/v1/things", body: `{"name":1}`, status: 400, code: "wrong_type", location: "/name"},
		{name: "wrong type in an array", method: "POST", path: "/v1/things", body: `{"name":"x","sizes":[1,"2"]}`, status: 400, code: "wrong_type", location: "/sizes/1"},
		{name: "too long", method: "POST", path: "/v1/things", body: `{"name":"abcdef"}`, status: 400, code: "invalid_value", location: "/name"},
		{name: "a fraction", method: "POST", path: "/v1/things", body: `{"name":"x","sizes":[0.5]}`, status: 400, code: "inexact_number", location: "/sizes/0"},
		{name: "what the type refuses", method: "POST", path: "/v1/things", body: `{"name":"x","when":"bad"}`, status: 400, code: "invalid_value", location: "/when"},

		{name: "malformed, no validation", method: "POST", path: "/v1/fast", body: `{"name"`, status: 400, code: "malformed_body", location: "/name"},
		{name: "unknown field, no validation", method: "POST", path: "/v1/fast", body: `{"colour":1}`, status: 400, code: "unknown_field", location: "/colour"},
		{name: "wrong type, no validation", method: "POST", path: "/v1/fast", body: `{"sizes":[true]}`, status: 400, code: "wrong_type", location: "/sizes/0"},
		{name: "duplicate, huma's own body", method: "POST", path: "/v1/plain", body: `{"name":"x","name":"y"}`, status: 400, code: "duplicate_field", location: "/name"},
		{name: "unknown field, huma's own body", method: "POST", path: "/v1/plain", body: `{"name":"x","NAME":1}`, status: 400, code: "unknown_field", location: "/NAME"},
		{name: "malformed, optional body", method: "POST", path: "/v1/optional", body: `{"name":"\ud800"}`, status: 400, code: "lone_surrogate", location: "/name"},
		{name: "unknown field, optional body", method: "POST", path: "/v1/optional", body: `{"name":"x","words":["w"],"x":[]}`, status: 400, code: "unknown_field", location: "/x"},

		{name: "too large", method: "POST", path: "/v1/things", body: big, status: 413, code: "body_too_large"},
		{name: "too large for the route", method: "POST", path: "/v1/small", body: `{"name":"x","sizes":[]}`, status: 413, code: "body_too_large"},

		{name: "text", method: "POST", path: "/v1/things", body: `{"name":"x"}`, headers: []string{"Content-Type", "text/plain"}, status: 415, code: "unsupported_media_type"},
		{name: "no media type", method: "POST", path: "/v1/things", body: `{"name":"x"}`, headers: []string{"Content-Type", ""}, status: 415, code: "unsupported_media_type"},
		{name: "a form", method: "POST", path: "/v1/things", body: `name=x`, headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415, code: "unsupported_media_type"},
		{name: "another character set", method: "POST", path: "/v1/things", body: `{"name":"x"}`, headers: []string{"Content-Type", "application/json; charset=utf-16"}, status: 415, code: "unsupported_media_type"},
		{name: "compressed", method: "POST", path: "/v1/things", body: `{"name":"x"}`, headers: []string{"Content-Encoding", "gzip"}, status: 415, code: "unsupported_media_type"},

		{name: "foreign host", method: "GET", path: "/v1/things/1", headers: []string{"Host", "evil.example:8080"}, status: 421, code: "foreign_host"},
		{name: "host that begins like ours", method: "GET", path: "/v1/things/1", headers: []string{"Host", "localhost.evil.example"}, status: 421, code: "foreign_host"},
		{name: "foreign host, page", method: "GET", path: "/docs", headers: []string{"Host", "192.168.1.2"}, status: 421, code: "foreign_host"},
		{name: "foreign origin", method: "POST", path: "/v1/things", body: `{"name":"x"}`, headers: []string{"Origin", "https://evil.example"}, status: 403, code: "cross_site"},
		{name: "origin on another port", method: "POST", path: "/v1/things", body: `{"name":"x"}`, headers: []string{"Origin", "http://localhost:3000"}, status: 403, code: "cross_site"},
		{name: "no origin", method: "POST", path: "/v1/things", body: `{"name":"x"}`, headers: []string{"Origin", "null"}, status: 403, code: "cross_site"},
		{name: "cross-site", method: "POST", path: "/v1/things", body: `{"name":"x"}`, headers: []string{"Sec-Fetch-Site", "cross-site"}, status: 403, code: "cross_site"},
		{name: "same site, other origin", method: "POST", path: "/v1/things", body: `{"name":"x"}`, headers: []string{"Sec-Fetch-Site", "same-site"}, status: 403, code: "cross_site"},

		{name: "business unit", method: "GET", path: "/v1/things/1", headers: []string{"Business-Unit", "Main"}, status: 400, code: "invalid_business_unit"},
		{name: "empty business unit", method: "GET", path: "/v1/things/1?business_unit=", status: 400, code: "invalid_business_unit"},
		{name: "long business unit", method: "GET", path: "/v1/things/1?business_unit=" + strings.Repeat("a", 33), status: 400, code: "invalid_business_unit"},
		{name: "two business units", method: "GET", path: "/v1/things/1?business_unit=a", headers: []string{"Business-Unit", "b"}, status: 400, code: "ambiguous_business_unit"},
		{name: "the second header too", method: "GET", path: "/v1/things/1", headers: []string{"Business-Unit", "a", "Business-Unit", "b"}, status: 400, code: "ambiguous_business_unit"},
		{name: "a problem without documentation", method: "GET", path: "/problems/nonesuch", status: 404, code: "not_found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := send(s, tt.method, tt.path, tt.body, tt.headers...)
			p := problem(t, w)
			if p.Status != tt.status || p.Code != tt.code {
				t.Fatalf("got %d %s, want %d %s: %+v", p.Status, p.Code, tt.status, tt.code, p)
			}
			if tt.location != "" && (len(p.Errors) == 0 || p.Errors[0].Location != tt.location || p.Errors[0].Code != tt.code) {
				t.Errorf("got %+v, want %s first at %s", p.Errors, tt.code, tt.location)
			}
			if w.Body.Len() != 0 && len(w.Body.Bytes()) > 4096 {
				t.Errorf("the problem has %d bytes", w.Body.Len())
			}
			if (tt.status == 503 || tt.status == 429) && w.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
}

// Routes outside huma answer with the same problems.
func TestWriteProblem(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{&http.MaxBytesError{Limit: 5}, 413, "body_too_large"},
		{web.CheckJSON([]byte("[[]]"), web.Limits{Bytes: 3}), 413, "body_too_large"},
		{fmt.Errorf("line 3: %w", web.CheckJSON([]byte("[[]"), web.Limits{})), 400, "malformed_body"},
		{fmt.Errorf("asking: %w", huma.Error503ServiceUnavailable("later")), 503, "unavailable"},
		{huma.Error415UnsupportedMediaType("no"), 415, "unsupported_media_type"},
		{huma.Error422UnprocessableEntity("no"), 400, "invalid_request"},
		{huma.Error500InternalServerError("secret"), 500, "internal_error"},
		{&web.Error{Status: 409, Code: "taken", Detail: "It is taken.", Cause: errTaken}, 409, "taken"},
		{errTaken, 409, "taken"},
	} {
		path := fmt.Sprintf("/%p", &tt)
		s.Router().Get(path, func(w http.ResponseWriter, r *http.Request) { s.WriteProblem(w, r, tt.err) })
		w := send(s, "GET", path, "")
		if p := problem(t, w); p.Status != tt.status || p.Code != tt.code || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%v became %+v", tt.err, p)
		}
	}
	err := &web.Error{Status: 409, Code: "taken", Detail: "It is taken.", Cause: errTaken}
	if err.Error() != "taken: It is taken.: taken" || !errors.Is(err, errTaken) {
		t.Errorf("%v", err)
	}
}

func TestAllViolationsAreListed(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	p := problem(t, send(s, "POST", "/v1/things", `{"sizes":["a","b"],"x":1,"words":[]}`))
	got := make(map[string]string)
	for _, v := range p.Errors {
		got[v.Location] = v.Code
	}
	want := map[string]string{"": "missing_field", "/sizes/0": "wrong_type", "/sizes/1": "wrong_type", "/x": "unknown_field", "/words": "invalid_value"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	p = problem(t, send(s, "POST", "/v1/things", `{"name":"x","sizes":[`+strings.Repeat(`"a",`, 1000)+`1]}`))
	if len(p.Errors) != 20 {
		t.Errorf("%d violations", len(p.Errors))
	}
}

// Every code that a test above has met is documented, and so are those of other packages.
func TestProblemsAreDocumented(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	var codes []web.Code
	if err := json.Unmarshal(send(s, "GET", "/problems", "").Body.Bytes(), &codes); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(codes, func(a, b web.Code) int { return strings.Compare(a.Code, b.Code) }) {
		t.Error("the codes are not sorted")
	}
	for _, c := range codes {
		if c.Title == "" || c.Meaning == "" || c.Status < 400 || c.Status > 599 {
			t.Errorf("%+v is incomplete", c)
		}
	}
	var c web.Code
	w := send(s, "GET", "/problems/taken", "")
	if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || c.Title != "Taken" || c.Status != 409 {
		t.Errorf("%v: %s", err, w.Body)
	}
	for _, sample := range []string{"empty_body", "malformed_body", "wrong_type", "cross_site", "invalid_cursor", "request_timeout", "invalid_request"} {
		if w := send(s, "GET", "/problems/"+sample, ""); w.Code != 200 {
			t.Errorf("%s is not documented", sample)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	if got := send(s, "GET", "/v1/things/busy", "").Header().Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After %q, want 1.5 s rounded up", got)
	}
	if got := send(s, "GET", "/v1/things/missing", "").Header().Get("Retry-After"); got != "" {
		t.Errorf("a 404 says Retry-After %q", got)
	}
}

// What happened inside is in the log under the request's id, once, and not in the answer.
func TestInternalErrorsStayInside(t *testing.T) {
	for _, tt := range []struct{ id, secret, logged string }{
		{"broken", "secret detail", "secret detail"},
		{"panic", "secret panic", "web_test.newServer"},
		{"busy", "disk is full", "disk is full"},
	} {
		s, log := newServer(t, web.Config{})
		w := send(s, "GET", "/v1/things/"+tt.id, "")
		if strings.Contains(w.Body.String(), tt.secret) {
			t.Errorf("%s: the answer tells %s", tt.id, w.Body)
		}
		lines := 0
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, tt.logged) && strings.Contains(line, w.Header().Get("Request-Id")) {
				lines++
			}
		}
		if lines != 1 {
			t.Errorf("%s: logged %d times:\n%s", tt.id, lines, log)
		}
	}
}
