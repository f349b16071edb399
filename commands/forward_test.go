package commands_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/internal/web"
)

// A tripper is what stands for the network.
type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func newForwarder(t testing.TB, client *http.Client, log *slog.Logger) *commands.Forwarder {
	t.Helper()
	f, err := commands.NewForwarder(commands.ForwarderConfig{
		Region: "b", URL: "http://b.example/base/", Token: "olt_secret", From: "a", Client: client, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// forward passes a command on; headers are names and values.
func forward(ctx context.Context, f http.Handler, headers ...string) response {
	r := httptest.NewRequestWithContext(web.As(ctx, erp), http.MethodPost, "http://localhost/v1/orders/%C3%BC/hold", strings.NewReader("{}"))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return response{w.Code, w.Header(), w.Body.String()}
}

// says makes an answer.
func says(status int, contentType, body string, headers ...string) *http.Response {
	r := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func TestForwarder(t *testing.T) {
	const problem = "application/problem+json"
	for _, tc := range []struct {
		name   string
		answer *http.Response
		err    error
		status int
		code   string // empty: the answer comes as it is
	}{
		{"done", says(200, "application/json", `{"id":"x"}`), nil, 200, ""},
		{"made", says(201, "application/json", `{"id":"x"}`), nil, 201, ""},
		{"on its way", says(202, "application/json", `{"command":"x"}`), nil, 202, ""},
		{"refused", says(409, problem, `{"code":"order_shipped"}`), nil, 409, ""},
		{"unknown", says(404, problem, `{"code":"unknown_order"}`), nil, 404, ""},
		{"failed", says(500, problem, `{"code":"internal_error"}`), nil, 500, ""},
		{"overloaded", says(429, problem, `{"code":"rate_limited"}`), nil, 429, ""},
		{"full", says(503, problem, `{"code":"ledger_unavailable"}`), nil, 503, ""},
		{"no token", says(401, problem, `{"code":"unauthenticated"}`), nil, 503, "home_unreachable"},
		{"no peer", says(403, problem, `{"code":"forbidden"}`), nil, 503, "home_unreachable"},
		{"another host", says(421, problem, `{"code":"foreign_host"}`), nil, 503, "home_unreachable"},
		{"no such route", says(404, problem, `{"code":"not_found"}`), nil, 503, "home_unreachable"},
		{"no such method", says(405, problem, `{"code":"method_not_allowed"}`), nil, 503, "home_unreachable"},
		{"a gateway", says(502, "text/html", `<html>`), nil, 503, "outcome_unknown"},
		{"a page", says(200, "text/html", `<html>`), nil, 503, "outcome_unknown"},
		{"elsewhere", says(307, "text/html", ``, "Location", "http://evil.example/"), nil, 503, "outcome_unknown"},
		{"another's problem", says(404, "application/json", `{"error":"x"}`), nil, 503, "outcome_unknown"},
		{"too much", says(200, "application/json", `"`+strings.Repeat("x", 4<<20)+`"`), nil, 503, "outcome_unknown"},
		{"half", &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(io.MultiReader(strings.NewReader("{}"), broken{}))}, nil, 503, "outcome_unknown"},
		{"the network fails", nil, io.ErrUnexpectedEOF, 503, "outcome_unknown"},
		{"the connection is reset", nil, &net.OpError{Op: "read", Err: errors.New("reset")}, 503, "outcome_unknown"},
		{"nobody there", nil, &net.OpError{Op: "dial", Err: errors.New("refused")}, 503, "home_unreachable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var want string
			if tc.err == nil && tc.code == "" {
				body, err := io.ReadAll(tc.answer.Body)
				if err != nil {
					t.Fatal(err)
				}
				want, tc.answer.Body = string(body), io.NopCloser(bytes.NewReader(body))
				tc.answer.Header.Set("Orderledger-Mark", "m")
				tc.answer.Header.Set("Set-Cookie", "c")
			}
			asked := 0
			f := newForwarder(t, &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
				asked++
				if r.URL.String() != "http://b.example/base/v1/orders/%C3%BC/hold" || r.Header.Get("Authorization") != "Bearer olt_secret" ||
					r.Header.Get("Orderledger-On-Behalf-Of") != `service;issuer=%"bus";subject=%"erp"` {
					t.Errorf("%s %v", r.URL, r.Header)
				}
				return tc.answer, tc.err
			})}, quiet)
			r := forward(t.Context(), f, "Authorization", "Bearer own", "Orderledger-On-Behalf-Of", "x")
			if r.status != tc.status || asked != 1 || r.header.Get("Set-Cookie") != "" {
				t.Fatalf("%d %s %v, asked %d times", r.status, r.body, r.header, asked)
			}
			if tc.code != "" {
				if r.code() != tc.code || r.header.Get("Retry-After") == "" || strings.Contains(r.body, "olt_") {
					t.Errorf("%s %v", r.body, r.header)
				}
				return
			}
			if r.body != want || r.header.Get("Orderledger-Mark") != "m" || f.Status().Answered != 1 {
				t.Errorf("%s %v", r.body, r.header)
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestForwarderConfig(t *testing.T) {
	good := commands.ForwarderConfig{Region: "b", URL: "https://b.example", From: "a"}
	if _, err := commands.NewForwarder(good); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*commands.ForwarderConfig){
		func(c *commands.ForwarderConfig) { c.URL = "" },
		func(c *commands.ForwarderConfig) { c.URL = "b.example" },
		func(c *commands.ForwarderConfig) { c.URL = "ftp://b.example" },
		func(c *commands.ForwarderConfig) { c.URL = "https://name:password@b.example" },
		func(c *commands.ForwarderConfig) { c.URL = "https://b.example?x=1" },
		func(c *commands.ForwarderConfig) { c.URL = "https://b.example/%zz" },
		func(c *commands.ForwarderConfig) { c.Region = "B" },
		func(c *commands.ForwarderConfig) { c.From = "a,b" },
		func(c *commands.ForwarderConfig) { c.From = "b" },
	} {
		bad := good
		change(&bad)
		if _, err := commands.NewForwarder(bad); err == nil || strings.Contains(err.Error(), "password") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A request that comes back, or has come through too many, is given up.
func TestRoutingLoop(t *testing.T) {
	var via []string
	f := newForwarder(t, &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		via = append(via, r.Header.Get("Orderledger-Via"))
		return says(200, "application/json", "{}"), nil
	})}, quiet)
	for _, tc := range []struct {
		via    []string
		status int
		sent   string
	}{
		{nil, 200, "a"},
		{[]string{"c"}, 200, "c, a"},
		{[]string{"c, d"}, 200, "c, d, a"},
		{[]string{"c", "d"}, 200, "c, d, a"},
		{[]string{"c,d,e"}, 508, ""},
		{[]string{"c", "d", "e"}, 508, ""},
		{[]string{"c, a"}, 508, ""},
		{[]string{""}, 400, ""},
		{[]string{"C"}, 400, ""},
		{[]string{"c;d"}, 400, ""},
		{[]string{"c, "}, 400, ""},
	} {
		var headers []string
		for _, v := range tc.via {
			headers = append(headers, "Orderledger-Via", v)
		}
		via = nil
		r := forward(t.Context(), f, headers...)
		if r.status != tc.status || strings.Join(via, "|") != tc.sent || tc.status == 508 && r.code() != "routing_loop" || tc.status == 400 && r.code() != "invalid_parameter" {
			t.Errorf("via %q: %d %s, sent via %q", tc.via, r.status, r.body, via)
		}
	}

	// Two regions each of which takes the other one for the order's home.
	w := newWorld(t, "a", "b")
	third := newWorld(t, "x").regions["x"]
	id := third.erp().submit("k", plain)
	for _, r := range w.regions {
		for _, m := range r.mirrors {
			m.Reader = third.store
		}
	}
	r := w.regions["a"].erp().post("/v1/orders/"+id+"/hold", "h", `{`+reason+`}`)
	if r.status != http.StatusLoopDetected || r.code() != "routing_loop" || r.header.Get("Retry-After") != "1" {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	if n := w.regions["a"].links["b"].requests() + w.regions["b"].links["a"].requests(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// A region that is silent costs those who wait for it ten seconds, and the others nothing.
func TestSilentRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up sync.Mutex // locked: the region is silent
		up.Lock()
		asked := make(chan struct{}, 1000)
		var log bytes.Buffer
		f := newForwarder(t, &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			asked <- struct{}{}
			if up.TryLock() {
				up.Unlock()
				return says(200, "application/json", "{}"), nil
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}, slog.New(slog.NewTextHandler(&log, nil)))
		began := time.Now()
		var waiting sync.WaitGroup
		for range 64 {
			waiting.Go(func() {
				if r := forward(t.Context(), f); r.code() != "outcome_unknown" || time.Since(began) != 10*time.Second {
					t.Errorf("%d %s after %v", r.status, r.body, time.Since(began))
				}
			})
		}
		synctest.Wait()
		if r := forward(t.Context(), f); r.code() != "home_unreachable" || time.Since(began) != 0 || !strings.Contains(r.body, "too many") {
			t.Errorf("%d %s after %v", r.status, r.body, time.Since(began))
		}
		waiting.Wait()
		if s := f.Status(); s != (commands.ForwarderStatus{Failed: 64, Refused: 1}) {
			t.Errorf("%+v", s)
		}
		// Now that it is known nobody waits, except for one who tries.
		if r := forward(t.Context(), f); r.code() != "home_unreachable" || r.header.Get("Retry-After") != "10" || len(asked) != 64 {
			t.Errorf("%d %s %v", r.status, r.body, r.header)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		tries := time.Now()
		waiting.Go(func() { forward(t.Context(), f) })
		synctest.Wait()
		if r := forward(t.Context(), f); r.code() != "home_unreachable" || len(asked) != 65 || time.Now() != tries {
			t.Errorf("%d %s, asked %d times", r.status, r.body, len(asked))
		}
		waiting.Wait()
		// It is back.
		up.Unlock()
		time.Sleep(10 * time.Second)
		for range 5 {
			if r := forward(t.Context(), f); r.status != http.StatusOK {
				t.Errorf("%d %s", r.status, r.body)
			}
		}
		if s := f.Status(); !s.Reachable || s.Answered != 5 || s.Passing != 0 {
			t.Errorf("%+v", s)
		}
		if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "does not answer") || !strings.Contains(got, "answers again") || strings.Contains(got, "olt_") {
			t.Errorf("the log says\n%s", got)
		}
	})
}

// Clients that are in a hurry say nothing about the region, unless it lets them wait.
func TestHastyClients(t *testing.T) {
	for after, reachable := range map[time.Duration]bool{100 * time.Millisecond: true, 2 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			f := newForwarder(t, &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})}, quiet)
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), after)
				forward(ctx, f)
				cancel()
			}
			if got := f.Status().Reachable; got != reachable {
				t.Errorf("clients that wait %v: reachable %v", after, got)
			}
		})
	}
}

// Over a real connection: one that nobody takes, and one that is closed after the request is there.
func TestForwarderConnects(t *testing.T) {
	s := newServer(t).as(erp)
	listening := httptest.NewServer(s.handler)
	defer listening.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	cut.Config.ErrorLog = slog.NewLogLogger(quiet.Handler(), slog.LevelError)
	defer cut.Close()
	gone := httptest.NewServer(s.handler)
	gone.Close()
	for url, code := range map[string]string{listening.URL: "unknown_order", cut.URL: "outcome_unknown", gone.URL: "home_unreachable"} {
		f, err := commands.NewForwarder(commands.ForwarderConfig{Region: "b", URL: url, From: "a", Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/orders/7c9e6679-7425-50de-944b-e07fc1f90ae7/close", nil)
		r.Header.Set("Idempotency-Key", "k")
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if got := (response{w.Code, w.Header(), w.Body.String()}); got.code() != code {
			t.Errorf("%d %s, want %s", got.status, got.body, code)
		}
	}
}
