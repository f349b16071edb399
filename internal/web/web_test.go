package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderledger/orderledger/internal/web"
)

// errTaken is an error of another package.
var errTaken = errors.New("taken")

type thing struct {
	Name  string   `json:"name" maxLength:"5"`
	Sizes []int    `json:"sizes,omitempty"`
	When  lenient  `json:"when,omitempty"`
	Words []string `json:"words,omitempty" minItems:"1"`
	Extra any      `json:"extra,omitempty"`
}

// lenient has a schema that takes more than its decoder does.
type lenient string

func (l *lenient) UnmarshalText(text []byte) error {
	if string(text) == "bad" {
		return errors.New("bad is no word")
	}
	*l = lenient(text)
	return nil
}

type thingInput struct {
	Body web.Body[thing]
}

type thingOutput struct {
	Location string `header:"Location"`
	Body     thing
}

// newServer makes a server with a few operations, and a log of what it does.
func newServer(t *testing.T, cfg web.Config) (*web.Server, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	cfg.Errors = append(cfg.Errors, func(err error) *web.Error {
		if errors.Is(err, errTaken) {
			return &web.Error{Status: http.StatusConflict, Code: "taken", Detail: "It is taken."}
		}
		return nil
	})
	cfg.Codes = append(cfg.Codes, web.Code{Code: "taken", Status: 409, Meaning: "Somebody else has it."})
	s := web.New(cfg)
	create := func(ctx context.Context, in *thingInput) (*thingOutput, error) {
		return &thingOutput{Location: "/v1/things/1", Body: in.Body.Value}, nil
	}
	huma.Register(s.API(), huma.Operation{OperationID: "create", Method: http.MethodPost, Path: "/v1/things",
		Summary: "Create", DefaultStatus: http.StatusCreated}, create)
	huma.Register(s.API(), huma.Operation{OperationID: "create-fast", Method: http.MethodPost, Path: "/v1/fast", SkipValidateBody: true}, create)
	huma.Register(s.API(), huma.Operation{OperationID: "create-small", Method: http.MethodPost, Path: "/v1/small", MaxBodyBytes: 20}, create)
	huma.Register(s.API(), huma.Operation{OperationID: "plain", Method: http.MethodPost, Path: "/v1/plain"},
		func(ctx context.Context, in *struct{ Body thing }) (*thingOutput, error) {
			return &thingOutput{Body: in.Body}, nil
		})
	huma.Register(s.API(), huma.Operation{OperationID: "optional", Method: http.MethodPost, Path: "/v1/optional"},
		func(ctx context.Context, in *struct{ Body *web.Body[thing] }) (*thingOutput, error) {
			out := &thingOutput{}
			if in.Body != nil {
				out.Body = in.Body.Value
			}
			return out, nil
		})
	huma.Register(s.API(), huma.Operation{OperationID: "keyed", Method: http.MethodPost, Path: "/v1/keyed"},
		func(ctx context.Context, in *struct {
			Key string `header:"Idempotency-Key" required:"true"`
		}) (*struct{}, error) {
			return nil, nil
		})
	type getInput struct {
		ID   string   `path:"id"`
		N    int      `query:"n" minimum:"1"`
		Tags []string `query:"tag,explode"`
	}
	huma.Register(s.API(), huma.Operation{OperationID: "get", Method: http.MethodGet, Path: "/v1/things/{id}", Summary: "Get",
		Errors: []int{404}},
		func(ctx context.Context, in *getInput) (*thingOutput, error) {
			switch in.ID {
			case "missing":
				return nil, &web.Error{Status: http.StatusNotFound, Code: "unknown_thing", Detail: "There is no such thing."}
			case "wrapped":
				return nil, fmt.Errorf("getting: %w", &web.Error{Status: http.StatusNotFound, Code: "unknown_thing"})
			case "taken":
				return nil, fmt.Errorf("getting: %w", errTaken)
			case "busy":
				return nil, &web.Error{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 1500 * time.Millisecond, Cause: errors.New("disk is full")}
			case "broken":
				return nil, errors.New("secret detail")
			case "late":
				return nil, fmt.Errorf("waiting: %w", context.DeadlineExceeded)
			case "gone":
				return nil, fmt.Errorf("waiting: %w", context.Canceled)
			case "same":
				return nil, huma.ErrorWithHeaders(huma.Status304NotModified(), http.Header{"Etag": {`"0-1"`}})
			case "huma":
				return nil, huma.Error404NotFound("nothing here")
			case "gateway":
				return nil, huma.Error504GatewayTimeout("too slow")
			case "panic":
				panic("secret panic")
			case "unit":
				return &thingOutput{Body: thing{Name: web.BusinessUnit(ctx)}}, nil
			case "trace":
				return &thingOutput{Body: thing{Name: web.Traceparent(ctx)}}, nil
			}
			return &thingOutput{Body: thing{Name: in.ID}}, nil
		})
	return s, log
}

// send sends one request; headers are name and value in turn.
func send(s http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "localhost:8080"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		switch headers[i] {
		case "Host":
			r.Host = headers[i+1]
		default:
			r.Header.Add(headers[i], headers[i+1])
		}
		if headers[i] == "Content-Type" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// What a handler does to the headers of its answer stays with that answer.
func TestHeadersAreNotShared(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	s.Router().Get("/own", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Referrer-Policy", "origin")
		w.Header().Set("X-Content-Type-Options", "other")
	})
	if got := send(s, "GET", "/own", "").Header(); len(got["Referrer-Policy"]) != 2 || got.Get("X-Content-Type-Options") != "other" {
		t.Errorf("headers %v", got)
	}
	if got := send(s, "GET", "/healthz", "").Header(); len(got["Referrer-Policy"]) != 1 || got.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", got)
	}
}

func TestAnswers(t *testing.T) {
	s, _ := newServer(t, web.Config{Hosts: []string{"ledger.example"}})
	w := send(s, "POST", "/v1/things", `{"name":"<ab>","sizes":[1]}`)
	if w.Code != 201 || w.Body.String() != "{\"name\":\"\\u003cab\\u003e\",\"sizes\":[1]}\n" || w.Header().Get("Location") != "/v1/things/1" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'self'") {
		t.Errorf("policy %q", w.Header().Get("Content-Security-Policy"))
	}

	accepted := [][]string{
		{"Content-Type", "application/json; charset=UTF-8"}, {"Content-Type", "application/vnd.order+json"}, {"Content-Encoding", "identity"},
		{"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "none"}, {"Origin", "http://localhost:8080"},
		{"Host", "127.0.0.1:1"}, {"Host", "[::1]:1"}, {"Host", "[::1]"}, {"Host", "LOCALHOST."}, {"Host", "127.1.2.3"}, {"Host", "ledger.example:443"},
	}
	for _, header := range accepted {
		if w := send(s, "POST", "/v1/things", `{"name":"x"}`, header...); w.Code != 201 {
			t.Errorf("%q: %d %s", header, w.Code, w.Body)
		}
	}
	if w := send(s, "POST", "/v1/small", `{"name":"x"        }`); w.Code != 200 {
		t.Errorf("a body of just the limit: %d %s", w.Code, w.Body)
	}
	if w := send(s, "POST", "/v1/optional", ""); w.Code != 200 {
		t.Errorf("no body where it is optional: %d %s", w.Code, w.Body)
	}
	if w := send(s, "POST", "/v1/optional", `{"name":"x"}`); w.Body.String() != "{\"name\":\"x\"}\n" {
		t.Errorf("an optional body: %d %s", w.Code, w.Body)
	}
	if w := send(s, "GET", "/v1/things/1?tag=a&tag=b&n=3", ""); w.Code != 200 {
		t.Errorf("a parameter that is a list: %d %s", w.Code, w.Body)
	}
	if w := send(s, "GET", "/v1/things/same", ""); w.Code != 304 || w.Header().Get("Etag") != `"0-1"` || w.Body.Len() != 0 {
		t.Errorf("not modified: %d %v %s", w.Code, w.Header(), w.Body)
	}
	if w := send(s, "POST", "/v1/things", "x", "Content-Type", "text/plain"); w.Header().Get("Accept-Post") != "application/json" {
		t.Errorf("Accept-Post %q", w.Header().Get("Accept-Post"))
	}
	// Reading from another origin is the browser's to refuse.
	if w := send(s, "GET", "/v1/things/1", "", "Sec-Fetch-Site", "cross-site"); w.Code != 200 {
		t.Errorf("cross-site read: %d", w.Code)
	}
}

func TestMethods(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	w := send(s, "DELETE", "/v1/things/1", "")
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("DELETE: %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
	w = send(s, "OPTIONS", "/v1/things", "")
	if w.Code != 204 || w.Header().Get("Allow") != "OPTIONS, POST" || w.Body.Len() != 0 {
		t.Errorf("OPTIONS: %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
	server := httptest.NewServer(s)
	defer server.Close()
	response, err := server.Client().Head(server.URL + "/v1/things/1")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK || len(body) != 0 || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %d %v %q", response.StatusCode, response.Header, body)
	}
}

func TestPanicAfterTheAnswerHasBegun(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	s.Router().Get("/half", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic("half way")
	})
	s.Router().Get("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	server := httptest.NewServer(s)
	defer server.Close()
	for _, path := range []string{"/half", "/abort"} {
		response, err := server.Client().Get(server.URL + path)
		if err == nil {
			_, err = io.ReadAll(response.Body)
			_ = response.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: the answer seems whole", path)
		}
	}
}

func TestRequestContext(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	unit := func(target string, headers ...string) string {
		var out thing
		if err := json.Unmarshal(send(s, "GET", target, "", headers...).Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		return out.Name
	}
	for want, got := range map[string]string{
		"main":  unit("/v1/things/unit"),
		"shop":  unit("/v1/things/unit", "Business-Unit", "shop"),
		"b2-x":  unit("/v1/things/unit?business_unit=b2-x"),
		"twice": unit("/v1/things/unit?business_unit=twice", "Business-Unit", "twice"),
	} {
		if got != want {
			t.Errorf("business unit %q, want %q", got, want)
		}
	}

	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	form := regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)
	got := unit("/v1/things/trace", "Traceparent", parent)
	if !form.MatchString(got) || got[:36] != parent[:36] || got == parent || got[52:] != "-01" {
		t.Errorf("%q does not go on with %q in a span of its own", got, parent)
	}
	w := send(s, "GET", "/v1/things/1", "", "Traceparent", parent)
	if w.Header().Get("Request-Id") != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("Request-Id %q", w.Header().Get("Request-Id"))
	}
	seen := make(map[string]bool)
	for _, invalid := range []string{"", "00-0-0-00", "ff" + parent[2:], strings.ToUpper(parent), "00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-" + strings.Repeat("0", 16) + "-01", parent + "-x"} {
		got := unit("/v1/things/trace", "Traceparent", invalid)
		if !form.MatchString(got) || seen[got] || got[3:35] == parent[3:35] {
			t.Errorf("%q led to %q", invalid, got)
		}
		seen[got] = true
	}

	ctx := context.Background()
	if p := web.PrincipalFrom(ctx); p.Subject != "local" || p.BusinessUnits != nil || web.BusinessUnit(ctx) != "main" || web.RequestID(ctx) != "" || web.Traceparent(ctx) != "" {
		t.Error("outside a request the defaults are others")
	}
	s.Router().Get("/who", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, web.PrincipalFrom(r.Context()).Subject)
	})
	if got := send(s, "GET", "/who", "").Body.String(); got != "local" {
		t.Errorf("principal %q", got)
	}
}

func TestAccessLog(t *testing.T) {
	s, log := newServer(t, web.Config{})
	w := send(s, "GET", "/v1/things/private-name?n=1&tag=private-tag", "", "Business-Unit", "private-unit")
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	if strings.Contains(log.String(), "private") {
		t.Errorf("the log tells what the client sent: %s", log)
	}
	if line["level"] != "DEBUG" || line["method"] != "GET" || line["route"] != "/v1/things/{id}" || line["status"] != 200.0 ||
		line["request_id"] != w.Header().Get("Request-Id") || line["bytes"] != float64(w.Body.Len()) || line["duration"] == nil {
		t.Errorf("logged %v", line)
	}
	log.Reset()
	send(s, "SECRET", "/private-path", "")
	if strings.Contains(log.String(), "private") || strings.Contains(log.String(), "SECRET") {
		t.Errorf("the log tells what the client sent: %s", log)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	s, _ := newServer(t, web.Config{Metrics: registry})
	send(s, "GET", "/v1/things/1", "")
	send(s, "GET", "/v1/things/2", "")
	send(s, "GET", "/v1/things/panic", "")
	send(s, "GET", "/nothing/at/all", "")
	text := send(s, "GET", "/metrics", "").Body.String()
	for _, want := range []string{
		`orderledger_http_requests_total{method="GET",route="/v1/things/{id}",status="200"} 2`,
		`orderledger_http_requests_total{method="GET",route="none",status="404"} 1`,
		`orderledger_http_request_duration_seconds_count{method="GET",route="/v1/things/{id}"} 3`,
		`orderledger_http_requests_in_flight 0`,
		`orderledger_http_panics_total 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "/nothing") {
		t.Error("the metrics have a raw path")
	}
}

func TestRate(t *testing.T) {
	s, _ := newServer(t, web.Config{Rate: 3})
	codes := make(map[int]int)
	for range 10 {
		w := send(s, "GET", "/v1/things/1", "")
		codes[w.Code]++
		if w.Code == 429 {
			if p := problem(t, w); p.Code != "rate_limited" || w.Header().Get("Retry-After") != "1" {
				t.Errorf("%+v, Retry-After %q", p, w.Header().Get("Retry-After"))
			}
		}
	}
	// A second may begin between two requests.
	if codes[200] < 3 || codes[429] == 0 {
		t.Errorf("answers by status: %v", codes)
	}
	if w := send(s, "GET", "/healthz", ""); w.Code != 200 {
		t.Errorf("/healthz: %d", w.Code)
	}
	s, _ = newServer(t, web.Config{Rate: -1})
	for range 10 {
		if w := send(s, "GET", "/v1/things/1", ""); w.Code != 200 {
			t.Fatalf("without a limit: %d", w.Code)
		}
	}
}

func TestInFlight(t *testing.T) {
	s, _ := newServer(t, web.Config{MaxInFlight: 2})
	entered, leave := make(chan struct{}), make(chan struct{})
	s.Router().Get("/slow", func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-leave
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { send(s, "GET", "/slow", "") })
		<-entered
	}
	w := send(s, "GET", "/v1/things/1", "")
	if p := problem(t, w); p.Status != 503 || p.Code != "unavailable" || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%+v", p)
	}
	if w := send(s, "GET", "/metrics", ""); !strings.Contains(w.Body.String(), "orderledger_http_requests_in_flight 2") {
		t.Errorf("/metrics: %d", w.Code)
	}
	close(leave)
	wg.Wait()
	if w := send(s, "GET", "/v1/things/1", ""); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}
}

func TestReadiness(t *testing.T) {
	s, log := newServer(t, web.Config{Version: "1.2.3"})
	if w := send(s, "GET", "/healthz", ""); w.Code != 200 || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("/healthz: %d", w.Code)
	}
	var broken error
	s.AddCheck("ledger", func(ctx context.Context) error {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a check has no deadline")
		}
		return broken
	})
	s.AddCheck("views", func(context.Context) error { return nil })
	if w := send(s, "GET", "/readyz", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"ledger": "ok"`) {
		t.Errorf("/readyz: %d %s", w.Code, w.Body)
	}
	broken = errors.New("a disk failed")
	w := send(s, "GET", "/readyz", "")
	if w.Code != 503 || !strings.Contains(w.Body.String(), `"ledger": "failing"`) || !strings.Contains(w.Body.String(), `"views": "ok"`) ||
		strings.Contains(w.Body.String(), "disk") || w.Header().Get("Retry-After") == "" {
		t.Errorf("/readyz: %d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "a disk failed") {
		t.Errorf("not logged: %s", log)
	}
	log.Reset()
	if w := send(s, "GET", "/readyz", ""); w.Code != 503 || strings.Contains(log.String(), "a disk failed") {
		t.Errorf("/readyz again: %d, and the log says it again: %s", w.Code, log)
	}
	broken = fmt.Errorf("%w: half a disk", web.ErrDegraded)
	if w := send(s, "GET", "/readyz", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"ledger": "degraded"`) ||
		!strings.Contains(w.Body.String(), `"status": "ready"`) || !strings.Contains(log.String(), "half a disk") {
		t.Errorf("/readyz: %d %s, and the log has %s", w.Code, w.Body, log)
	}
	broken = nil
	if w := send(s, "GET", "/readyz", ""); w.Code != 200 || !strings.Contains(log.String(), `"result":"ok"`) {
		t.Errorf("/readyz: %d %s, and the log has %s", w.Code, w.Body, log)
	}
	s.Drain()
	s.Drain()
	if w := send(s, "GET", "/readyz", ""); w.Code != 503 || !strings.Contains(w.Body.String(), "draining") {
		t.Errorf("/readyz while draining: %d %s", w.Code, w.Body)
	}
	var v struct{ Version, Go string }
	if err := json.Unmarshal(send(s, "GET", "/version", "").Body.Bytes(), &v); err != nil || v.Version != "1.2.3" || !strings.HasPrefix(v.Go, "go1.") {
		t.Errorf("/version: %+v, %v", v, err)
	}
}

// A slow or broken body is the client's fault.
func TestBrokenBody(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	r := httptest.NewRequest(http.MethodPost, "/v1/things", io.MultiReader(strings.NewReader(`{"name":`), broken{}))
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if p := problem(t, w); p.Code != "malformed_body" || p.Status != 400 {
		t.Errorf("%+v", p)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestNewPanicsOnAShortCursorKey(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	web.New(web.Config{CursorKey: []byte("short")})
}
