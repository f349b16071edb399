package edge_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/internal/edge"
)

const jsonType = "application/json"

func TestPassesThrough(t *testing.T) {
	var got *http.Request
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Orderledger-Mark", "m2")
		w.Header().Set("Orderledger-Region", "elsewhere")
		w.Header().Set("Location", "/v1/orders/1")
		w.WriteHeader(http.StatusCreated)
	}))
	answer, err := w.ask(http.MethodPost, "/v1/orders?a=1", http.Header{
		"Host": {"orders.example"}, "Origin": {"http://orders.example"}, "Idempotency-Key": {"k"}, "Authorization": {"Bearer x"},
		"Orderledger-Mark": {"m1"}, "Orderledger-Durability": {"remote"}, "Business-Unit": {"main"}, "If-Match": {`"0-1"`},
		"Orderledger-On-Behalf-Of": {"boss"}, "Orderledger-Via": {"a"}, "Forwarded": {"for=1.2.3.4"}, "X-Forwarded-For": {"1.2.3.4"},
		"X-Forwarded-Proto": {"https"}, "X-Forwarded-Prefix": {"/x"}, "X-Real-Ip": {"1.2.3.4"}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"},
	}, "{}")
	check(t, err)
	if answer.status != http.StatusCreated || answer.header.Get("Orderledger-Mark") != "m2" || answer.region() != "a" || answer.header.Get("Location") != "/v1/orders/1" {
		t.Errorf("the answer is %+v", answer)
	}
	for name, want := range map[string]string{
		"Idempotency-Key": "k", "Authorization": "Bearer x", "Orderledger-Mark": "m1", "Orderledger-Durability": "remote", "Business-Unit": "main",
		"If-Match": `"0-1"`, "Orderledger-On-Behalf-Of": "", "Orderledger-Via": "", "Forwarded": "", "X-Forwarded-For": "127.0.0.1",
		"X-Forwarded-Host": "orders.example", "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": "", "X-Real-Ip": "", "Upgrade": "", "Origin": "",
	} {
		if value := strings.Join(got.Header.Values(name), "|"); value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	if got.URL.String() != "/v1/orders?a=1" || "http://"+got.Host != w.wires[0].url() {
		t.Errorf("the region was asked for %s at %s", got.URL, got.Host)
	}
}

func TestKeepsOut(t *testing.T) {
	region := &counted{Handler: says(200, jsonType, "{}")}
	w := newWorld(t, region)
	for _, c := range []struct {
		method string
		header http.Header
		status int
		code   string
	}{
		{http.MethodGet, http.Header{"Host": {"evil.example"}}, http.StatusMisdirectedRequest, "foreign_host"},
		{http.MethodPost, http.Header{"Origin": {"http://evil.example"}}, http.StatusForbidden, "cross_site"},
		{http.MethodPost, http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden, "cross_site"},
		{http.MethodGet, http.Header{"Via": {"1.1 a, 1.1 b, 1.1 c", "1.1 d, 1.1 e, 1.1 f, 1.1 g, 1.1 h, 1.1 i"}}, http.StatusLoopDetected, "loop"},
		{"BREW", nil, http.StatusMethodNotAllowed, "method_not_allowed"},
	} {
		answer, err := w.ask(c.method, "/", c.header, "")
		check(t, err)
		var p struct {
			Status int
			Code   string
		}
		check(t, json.Unmarshal([]byte(answer.body), &p))
		if answer.status != c.status || p.Status != c.status || p.Code != c.code || answer.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%v: %d %s", c.header, answer.status, answer.body)
		}
	}
	if n := region.n.Load(); n > 0 {
		t.Errorf("%d came through", n)
	}
}

// A topology may give a region the address of the edge.
func TestLoop(t *testing.T) {
	var self atomic.Pointer[edge.Edge]
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { self.Load().ServeHTTP(w, r) }))
	self.Store(w.edge)
	if answer := w.get("/"); answer.status != http.StatusLoopDetected {
		t.Errorf("%d %s", answer.status, answer.body)
	}
}

func TestOwnPages(t *testing.T) {
	w := newWorld(t, says(200, jsonType, "{}"), says(200, jsonType, "{}"))
	w.get("/")
	if answer := w.get("/edge/healthz"); answer.status != 200 || !strings.Contains(answer.body, "live") {
		t.Errorf("%+v", answer)
	}
	var status edge.Status
	check(t, json.Unmarshal([]byte(w.get("/edge/status").body), &status))
	if len(status.Regions) != 2 || status.Regions[0].Name != "a" || status.Regions[0].State != "closed" || !status.Regions[0].Ready || status.Retries != 100 {
		t.Errorf("%+v", status)
	}
	metrics := w.get("/edge/metrics").body
	for _, line := range []string{
		`orderledger_edge_requests_total{outcome="answered",region="a"} 1`, `orderledger_edge_region_up{region="b"} 1`, "orderledger_edge_requests_in_flight 0",
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s:\n%s", line, metrics)
		}
	}
	if answer := w.get("/edge/nothing"); answer.status != http.StatusNotFound {
		t.Errorf("%+v", answer)
	}
	r, err := http.NewRequest(http.MethodGet, "http://localhost/edge/status", nil)
	check(t, err)
	r.RemoteAddr = "192.0.2.1:1234"
	recorder := &recorder{header: http.Header{}}
	w.edge.ServeHTTP(recorder, r)
	if recorder.status != http.StatusNotFound {
		t.Errorf("a stranger sees the status: %d", recorder.status)
	}
	w.edge.Close()
	w.edge.Close()
	if answer := w.get("/edge/healthz"); answer.status != http.StatusServiceUnavailable {
		t.Errorf("%+v", answer)
	}
}

type recorder struct {
	header http.Header
	status int
	bytes.Buffer
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }

func TestWhatIsSentAgain(t *testing.T) {
	key := http.Header{"Idempotency-Key": {"k"}}
	problem := func(status int, code string) http.Handler {
		return says(status, "application/problem+json", `{"code":"`+code+`"}`)
	}
	for _, c := range []struct {
		name   string
		region http.Handler
		method string
		header http.Header
		again  bool
	}{
		{"502", says(502, "text/plain", "bad"), http.MethodGet, nil, true},
		{"503", problem(503, "unavailable"), http.MethodGet, nil, true},
		{"503 HEAD", problem(503, "unavailable"), http.MethodHead, nil, true},
		{"504", says(504, "text/plain", "slow"), http.MethodGet, nil, true},
		{"503 of a long answer", says(503, "text/plain", strings.Repeat("x", 100_000)), http.MethodGet, nil, true},
		{"503 of a keyed write", problem(503, "unavailable"), http.MethodPost, key, true},
		{"503 of a write", problem(503, "unavailable"), http.MethodPost, nil, false},
		{"503 of a write with two keys", problem(503, "unavailable"), http.MethodPost, http.Header{"Idempotency-Key": {"k", "l"}}, false},
		{"an order that another region may have", problem(503, "not_known_yet"), http.MethodGet, nil, true},
		{"home", problem(503, "home_unreachable"), http.MethodGet, nil, false},
		{"a region that asks its peers", problem(503, "asking_peers"), http.MethodPost, key, false},
		{"home of a keyed write", problem(503, "home_unreachable"), http.MethodPost, key, false},
		{"home of a write", problem(503, "home_unreachable"), http.MethodPost, nil, false},
		{"400", problem(400, "malformed_body"), http.MethodPost, key, false},
		{"404", problem(404, "not_found"), http.MethodGet, nil, false},
		{"409", problem(409, "refused"), http.MethodPost, key, false},
		{"429", problem(429, "rate_limited"), http.MethodGet, nil, false},
		{"500", problem(500, "internal_error"), http.MethodGet, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, second := &counted{Handler: c.region}, &counted{Handler: says(200, jsonType, "{}")}
			w := newWorld(t, first, second)
			answer, err := w.ask(c.method, "/", c.header, "{}")
			check(t, err)
			want := map[bool]string{false: "a", true: "b"}[c.again]
			if answer.region() != want || first.n.Load() != 1 || second.n.Load() != int64(len(want)*strings.Count(want, "b")) {
				t.Errorf("region %s answers %d after %d and %d requests", answer.region(), answer.status, first.n.Load(), second.n.Load())
			}
			if !c.again && answer.status == 200 {
				t.Error("the answer has changed")
			}
		})
	}
}

// A home that cannot be reached, or that is not known yet, is no fault of the region that says so.
func TestHomeUnreachableOpensNoBreaker(t *testing.T) {
	for _, code := range []string{"home_unreachable", "asking_peers"} {
		w := newWorld(t, says(503, "application/problem+json", `{"code":"`+code+`","detail":"wait"}`), says(200, jsonType, "{}"))
		for range 20 {
			if answer := w.get("/"); answer.status != 503 || answer.region() != "a" || !strings.Contains(answer.body, `"detail":"wait"`) {
				t.Fatalf("%s: %+v", code, answer)
			}
		}
	}
}

// Nor is it a fault of a region that it does not know yet what another one has.
func TestNotKnownYetOpensNoBreaker(t *testing.T) {
	unknown := &counted{Handler: says(503, "application/problem+json", `{"code":"not_known_yet"}`)}
	w := newWorld(t, unknown, says(200, jsonType, "{}"))
	for range 20 {
		if answer := w.get("/"); answer.status != 200 || answer.region() != "b" {
			t.Fatalf("%+v", answer)
		}
	}
	if n := unknown.n.Load(); n != 20 {
		t.Errorf("the region was asked %d times, want 20", n)
	}
}

// The last answer is passed on when all regions fail, and the edge's own when none is left to be asked.
func TestAllRegionsFail(t *testing.T) {
	down := func(region string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, region)
		})
	}
	w := newWorld(t, down("a"), down("b"), down("c"), down("d"))
	if answer := w.get("/"); answer.status != 503 || answer.body != "c" || answer.header.Get("Retry-After") != "7" {
		t.Errorf("%+v", answer)
	}
	for range 3 {
		w.get("/")
		r, err := w.ask(http.MethodGet, "/", http.Header{"Orderledger-Country": {"CA"}}, "")
		check(t, err)
		_ = r
	}
	answer := w.get("/")
	var p struct{ Type, Code, Detail string }
	check(t, json.Unmarshal([]byte(answer.body), &p))
	seconds, err := strconv.Atoi(answer.header.Get("Retry-After"))
	if answer.status != 503 || p.Code != "unavailable" || p.Type != "/problems/unavailable" || err != nil || seconds < 6 || seconds > 11 || answer.region() != "" {
		t.Errorf("%+v", answer)
	}
}

// A client gets a whole answer wherever the first region's connection is cut, and a cut connection where that cannot be.
func TestAnswerCutAtAnyByte(t *testing.T) {
	text := `{"order":"` + strings.Repeat("0123456789", 4) + `"}`
	for _, kind := range []string{"length", "chunked", "stream of bytes"} {
		t.Run(kind, func(t *testing.T) {
			region := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", jsonType)
				if kind == "stream of bytes" {
					w.Header().Set("Content-Type", "application/octet-stream")
				}
				if kind == "length" {
					w.Header().Set("Content-Length", strconv.Itoa(len(text)))
				}
				_, _ = io.WriteString(w, text[:20])
				_ = http.NewResponseController(w).Flush()
				_, _ = io.WriteString(w, text[20:])
			})
			w := newWorld(t, region, region)
			whole := make(map[string]int)
			for at := 0; ; at++ {
				w.renew()
				w.wires[0].cutAfter(at)
				answer, err := w.ask(http.MethodGet, "/", nil, "")
				switch {
				case err == nil && answer.err == nil && answer.body == text:
					whole[answer.region()]++
				case kind != "stream of bytes":
					t.Fatalf("cut at %d: %v %+v", at, err, answer)
				case err == nil && answer.err == nil:
					t.Fatalf("cut at %d: %q looks whole", at, answer.body)
				case err == nil && !strings.HasPrefix(text, answer.body):
					t.Fatalf("cut at %d: %q", at, answer.body)
				}
				if answer.region() == "a" && answer.err == nil && err == nil {
					break
				}
			}
			if whole["b"] == 0 {
				t.Error("the second region was never asked")
			}
		})
	}
}

// A long answer of which a part was passed on is cut off.
func TestLongAnswerIsCutOff(t *testing.T) {
	long := strings.Repeat("0123456789", 100_000)
	w := newWorld(t, says(200, jsonType, long), says(200, jsonType, "{}"))
	w.wires[0].cutAfter(300_000)
	answer, err := w.ask(http.MethodGet, "/", nil, "")
	if err != nil || answer.err == nil || answer.region() != "a" || len(answer.body) >= len(long) || !strings.HasPrefix(long, answer.body) {
		t.Errorf("%v %v: %d bytes", err, answer.err, len(answer.body))
	}
	w.wires[0].cutAfter(-1)
	if answer := w.get("/"); answer.body != long {
		t.Errorf("%d bytes", len(answer.body))
	}
}

// An answer that ends with its connection could be cut without anybody's noticing.
func TestAnswerWithoutAnEnd(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"half\":")
		_ = conn.Close()
	}), says(200, jsonType, "{}"))
	if answer := w.get("/"); answer.body != "{}" || answer.region() != "b" {
		t.Errorf("%+v", answer)
	}
}

// What a region got: every request as far as it came.
type received struct {
	mu  sync.Mutex // protects the field below
	all []string
}

func (r *received) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, s)
}

// take returns what has come since it was last called.
func (r *received) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

// However regions fail, a keyed write is never sent with another key or body, a write without a key once at most, and the
// client gets the whole answer of a region that has the write, or an error.
func TestWrites(t *testing.T) {
	var got received
	var faults [3]atomic.Int32
	region := func(i int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fault := faults[i].Load()
			if fault == 1 { // it dies before it has read the body
				got.add("?")
				panic(http.ErrAbortHandler)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			got.add(r.Header.Get("Idempotency-Key") + "=" + string(body))
			switch fault {
			case 2: // it dies before it answers
				panic(http.ErrAbortHandler)
			case 3:
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			case 4: // it dies while it answers
				w.Header().Set("Content-Length", "100")
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprintf(w, "done by %c", 'a'+i)
		})
	}
	w := newWorld(t, region(0), region(1), region(2))
	rapid.Check(t, func(t *rapid.T) {
		w.renew()
		got.take()
		key := rapid.SampledFrom([]string{"", "k1", `"k2"`}).Draw(t, "key")
		body := rapid.SampledFrom([]string{"", "{}", strings.Repeat("x", 100_000)}).Draw(t, "body")
		down := make([]bool, 3)
		fault := make([]int, 3)
		for i := range faults {
			fault[i] = rapid.IntRange(0, 5).Draw(t, "fault")
			faults[i].Store(int32(fault[i]))
			down[i] = fault[i] == 5
			w.wires[i].down.Store(down[i])
		}
		header := http.Header{}
		if key != "" {
			header.Set("Idempotency-Key", key)
		}
		answer, err := w.ask(http.MethodPost, "/v1/orders", header, body)
		all := got.take()
		for _, one := range all {
			if one != "?" && one != key+"="+body {
				t.Fatalf("a region got %.50q", one)
			}
		}
		limit := 1
		if key != "" {
			limit = 3
		}
		if len(all) > limit {
			t.Fatalf("it was sent %d times", len(all))
		}
		done := err == nil && answer.err == nil && answer.status == 201
		switch {
		case done && !strings.HasPrefix(answer.body, "done by "):
			t.Fatalf("%q looks whole", answer.body)
		case done && answer.body != "done by "+answer.region():
			t.Fatalf("region %s has answered %q", answer.region(), answer.body)
		case !done && key != "" && (fault[0] == 0 || fault[1] == 0 || fault[2] == 0):
			t.Fatalf("faults %v: %v %+v", fault, err, answer)
		case done && key == "" && fault[0] != 0:
			t.Fatalf("faults %v: a write without a key was sent elsewhere", fault)
		}
	})
}

// Where no connection comes about nothing was sent, so that any write may go elsewhere.
func TestWriteToARegionThatRefusesConnections(t *testing.T) {
	w := newWorld(t, says(201, jsonType, "{}"), says(201, jsonType, "{}"))
	check(t, w.wires[0].listener.Close())
	for _, key := range []string{"", "k"} {
		header := http.Header{}
		if key != "" {
			header.Set("Idempotency-Key", key)
		}
		answer, err := w.ask(http.MethodPost, "/", header, "{}")
		check(t, err)
		if answer.status != 201 || answer.region() != "b" {
			t.Errorf("key %q: %+v", key, answer)
		}
	}
}

func TestWriteOfUnknownOutcome(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), says(201, jsonType, "{}"))
	answer, err := w.ask(http.MethodPost, "/", nil, "{}")
	check(t, err)
	if answer.status != http.StatusBadGateway || !strings.Contains(answer.body, `"outcome_unknown"`) {
		t.Errorf("%+v", answer)
	}
}

// A body that is too large to be kept is passed on, and sent once.
func TestLargeBodies(t *testing.T) {
	for _, declared := range []bool{true, false} {
		size := atomic.Int64{}
		first := &counted{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				t.Error(err)
			}
			size.Store(n)
			w.WriteHeader(http.StatusServiceUnavailable)
		})}
		w := newWorld(t, first, says(201, jsonType, "{}"))
		for _, c := range []struct {
			bytes int
			again bool
		}{{2 << 20, true}, {2<<20 + 1, false}} {
			var body io.Reader = bytes.NewReader(make([]byte, c.bytes))
			if !declared {
				body = struct{ io.Reader }{body}
			}
			r, err := http.NewRequest(http.MethodPost, w.server.URL, body)
			check(t, err)
			r.Header.Set("Idempotency-Key", "k")
			r.Header.Set("Orderledger-Country", "DE")
			answer, err := w.client.Do(r)
			check(t, err)
			check(t, answer.Body.Close())
			if size.Load() != int64(c.bytes) || (answer.StatusCode == http.StatusCreated) != c.again {
				t.Errorf("%d of %d bytes have come, and the answer is %d", size.Load(), c.bytes, answer.StatusCode)
			}
		}
	}
}

// Wherever a client's connection is cut, no region is blamed or takes what has come for all, and nothing stays behind.
func TestClientCutAtAnyByte(t *testing.T) {
	const whole = `{"customer":"47110"}`
	region := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && string(body) != whole {
			t.Errorf("a region gets %q, and no sign that it was cut off", body)
		}
		says(201, jsonType, `{"order":"1"}`).ServeHTTP(w, r)
	})
	w := newWorld(t, region, region)
	message := "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nOrderledger-Country: DE\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n" + whole
	for at := range len(message) + 1 {
		conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
		check(t, err)
		_, err = io.WriteString(conn, message[:at])
		check(t, err)
		check(t, conn.Close())
	}
	if !poll(func() bool {
		return strings.Contains(w.get("/edge/metrics").body, "orderledger_edge_requests_in_flight 0")
	}) {
		t.Error("requests are under way for ever")
	}
	if r := w.region("a"); r.State != "closed" || strings.Contains(w.get("/edge/metrics").body, `outcome="failed"`) {
		t.Errorf("the region is blamed: %+v\n%s", r, w.get("/edge/metrics").body)
	}
}

// Of a body that breaks off while its connection holds, no region gets a part.
func TestBodyThatBreaksOff(t *testing.T) {
	region := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		t.Errorf("a region gets %q (%v)", body, err)
		w.WriteHeader(http.StatusCreated)
	})
	w := newWorld(t, region, region)
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	check(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nOrderledger-Country: DE\r\nIdempotency-Key: k\r\n"+
		"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{\"a\":1\r\nno chunk\r\n")
	check(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil && answer.StatusCode < http.StatusBadRequest {
		t.Errorf("the answer is %s", answer.Status)
	}
}
