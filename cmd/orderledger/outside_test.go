package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/realdata"
)

// outside is a running node, seen from the other end of a socket.
type outside struct {
	t       *testing.T
	node    *node
	address string
	log     *bytes.Buffer // may be read after stop
	stop    func()
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{t: t, log: new(bytes.Buffer)}
	e := &environment{globals: globals{LogLevel: "info"}, streams: streams{err: o.log}}
	var err error
	o.node, err = openNode(t.Context(), nodeConfig{globals: globals{Data: t.TempDir()}, Log: e.logger()})
	check(t, err)
	listener, err := o.node.listen("127.0.0.1:0")
	check(t, err)
	o.address = listener.Addr().String()
	running, stop := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- o.node.run(running, listener) }()
	o.stop = func() {
		if stopped == nil {
			return
		}
		stop()
		check(t, <-stopped)
		check(t, o.node.close())
		stopped = nil
	}
	t.Cleanup(o.stop)
	return o
}

// stored counts the events that clients have led to.
func (o *outside) stored() int {
	o.t.Helper()
	n := 0
	for _, err := range o.node.ledger.ReadAll(o.t.Context(), 0, eventstore.Filter{Public: true}) {
		check(o.t, err)
		n++
	}
	return n
}

// send makes a request; headers are names and values, and an empty value removes one.
func (o *outside) send(method, path, body string, headers ...string) (*http.Response, []byte) {
	o.t.Helper()
	r, err := http.NewRequestWithContext(o.t.Context(), method, "http://"+o.address+path, strings.NewReader(body))
	check(o.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPost {
		r.Header.Set("Idempotency-Key", "key")
	}
	for i := 0; i < len(headers); i += 2 {
		switch name, value := headers[i], headers[i+1]; {
		case name == "Host":
			r.Host = value
		case value == "":
			r.Header.Del(name)
		default:
			r.Header.Set(name, value)
		}
	}
	response, err := http.DefaultClient.Do(r)
	check(o.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	check(o.t, err)
	return response, answer
}

// submit makes an order and returns its id.
func (o *outside) submit(key string) string {
	o.t.Helper()
	response, body := o.send(http.MethodPost, "/v1/orders", plainOrder, "Idempotency-Key", key)
	var a commands.Answer
	check(o.t, json.Unmarshal(body, &a))
	if response.StatusCode != http.StatusCreated {
		o.t.Fatalf("submitting: %s %s", response.Status, body)
	}
	return a.ID
}

const plainOrder = `{"currency":"EUR","parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"C1"}],"country":"DE"}},` +
	`"lines":[{"sku":"A","quantity":"2","price":{"amount":"10"}}]}`

// order returns a plain order with one text in place of another.
func order(old, text string) string {
	if !strings.Contains(plainOrder, old) {
		panic("the order has no " + old)
	}
	return strings.Replace(plainOrder, old, text, 1)
}

// TestBadInput sends what is wrong over a real socket. Each is answered with a problem that has a stable code, and
// leaves nothing behind.
func TestBadInput(t *testing.T) {
	o := newOutside(t)
	id := o.submit("first")
	shipped := o.submit("second")
	var mark string
	for _, action := range []string{"confirm", "start", "ship"} {
		body := `{}`
		if action == "confirm" {
			body = `{"outcome":"accepted"}`
		}
		response, answer := o.send(http.MethodPost, "/v1/orders/"+shipped+"/fulfilments/f1/"+action, body, "Idempotency-Key", action)
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s", action, response.Status, answer)
		}
		mark = response.Header.Get("Orderledger-Mark")
	}
	_, list := o.send(http.MethodGet, "/v1/orders?limit=1", "", "Orderledger-Mark", mark)
	var page struct{ Next string }
	check(t, json.Unmarshal(list, &page))
	if page.Next == "" {
		t.Fatalf("a list of two orders has no second page: %s", list)
	}

	const orders = "/v1/orders"
	one := orders + "/" + id
	for _, c := range []struct {
		name         string
		method, path string // GET, unless there is a body
		body         string
		headers      []string
		status       int
		code         string
	}{
		{name: "no JSON", path: orders, body: `{"currency":`, status: 400, code: "malformed_body"},
		{name: "two values", path: orders, body: plainOrder + `{}`, status: 400, code: "malformed_body"},
		{name: "no body", method: "POST", path: orders, status: 400, code: "empty_body"},
		{name: "a list", path: orders, body: `[]`, status: 400, code: "wrong_type"},
		{name: "deep", path: orders, body: strings.Repeat(`{"extensions":`, 5_000), status: 400},
		{name: "twice the same field", path: orders, body: order(`"currency":"EUR"`, `"currency":"EUR","currency":"USD"`), status: 400, code: "duplicate_field"},
		{name: "an unknown field", path: orders, body: order(`"sku":"A"`, `"sku":"A","tenant":"x"`), status: 400, code: "unknown_field"},
		{name: "a field in capitals", path: orders, body: order(`"currency"`, `"Currency"`), status: 400, code: "unknown_field"},
		{name: "an object for a text", path: orders, body: order(`"EUR"`, `{}`), status: 400, code: "wrong_type"},
		{name: "a number for a text", path: orders, body: order(`"sku":"A"`, `"sku":1`), status: 400, code: "wrong_type"},
		{name: "half a character", path: orders, body: order(`"sku":"A"`, `"sku":"\ud800"`), status: 400, code: "lone_surrogate"},
		{name: "bytes that are no UTF-8", path: orders, body: order(`"sku":"A"`, "\"sku\":\"\xff\xfe\""), status: 400, code: "invalid_utf8"},
		{name: "a control character", path: orders, body: order(`"sku":"A"`, `"sku":"A\u0000"`), status: 400, code: "control_character"},
		{name: "a large body", path: orders, body: `{"currency":"` + strings.Repeat("E", 2<<20) + `"}`, status: 413, code: "body_too_large"},
		{name: "a long text", path: orders, body: order(`"sku":"A"`, `"sku":"`+strings.Repeat("A", 10_000)+`"`), status: 400, code: "too_long"},
		{name: "no lines", path: orders, body: `{"currency":"EUR"}`, status: 400, code: "missing"},
		{name: "a negative quantity", path: orders, body: order(`"2"`, `"-2"`), status: 400, code: "negative"},
		{name: "nothing of an article", path: orders, body: order(`"2"`, `"0"`), status: 400, code: "zero"},
		{name: "an absurd quantity", path: orders, body: order(`"2"`, `"1e400"`), status: 400},
		{name: "a quantity without end", path: orders, body: order(`"2"`, `"`+strings.Repeat("9", 400)+`"`), status: 400},
		{name: "no number", path: orders, body: order(`"2"`, `"NaN"`), status: 400},
		{name: "a negative price", path: orders, body: order(`"10"`, `"-10"`), status: 400, code: "negative"},
		{name: "an absurd price", path: orders, body: order(`"10"`, `"99999999999999999999999999"`), status: 400},
		{name: "no currency of this world", path: orders, body: order(`EUR`, `ZZZ`), status: 400, code: "unknown_currency"},
		{name: "no country of this world", path: orders, body: order(`DE`, `ZZ`), status: 400, code: "unknown_country"},
		{name: "another's channel", path: orders, body: order(`"currency"`, `"channel":"import","currency"`), status: 400, code: "unexpected"},

		{name: "no key", path: orders, body: plainOrder, headers: []string{"Idempotency-Key", ""}, status: 400, code: "missing_idempotency_key"},
		{name: "a key with blanks", path: orders, body: plainOrder, headers: []string{"Idempotency-Key", "a b"}, status: 400, code: "invalid_idempotency_key"},
		{name: "a long key", path: orders, body: plainOrder, headers: []string{"Idempotency-Key", strings.Repeat("k", 256)}, status: 400, code: "invalid_idempotency_key"},
		{name: "a used key", path: orders, body: order(`"2"`, `"3"`), headers: []string{"Idempotency-Key", "first"}, status: 422, code: "idempotency_key_reused"},
		{name: "a form", path: orders, body: "currency=EUR", headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415, code: "unsupported_media_type"},
		{name: "no type", path: orders, body: plainOrder, headers: []string{"Content-Type", ""}, status: 415, code: "unsupported_media_type"},
		{name: "another character set", path: orders, body: plainOrder, headers: []string{"Content-Type", "application/json; charset=latin1"}, status: 415, code: "unsupported_media_type"},
		{name: "a packed body", path: orders, body: plainOrder, headers: []string{"Content-Encoding", "gzip"}, status: 415, code: "unsupported_media_type"},
		{name: "another's page", path: orders, body: plainOrder, headers: []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, status: 403, code: "cross_site"},
		{name: "another's origin", path: orders, body: plainOrder, headers: []string{"Origin", "https://evil.example"}, status: 403, code: "cross_site"},
		{name: "another's host", path: orders, body: plainOrder, headers: []string{"Host", "evil.example"}, status: 421, code: "foreign_host"},
		{name: "another's host, reading", path: one, headers: []string{"Host", "evil.example"}, status: 421, code: "foreign_host"},
		{name: "no business unit", path: orders, body: plainOrder, headers: []string{"Business-Unit", "../etc"}, status: 400, code: "invalid_business_unit"},

		{name: "an unknown order", path: orders + "/00000000-0000-4000-8000-000000000000/cancel", body: `{"reason":{"code":"x"}}`, status: 404, code: "unknown_order"},
		{name: "another unit's order", path: one + "/cancel", body: `{"reason":{"code":"x"}}`, headers: []string{"Business-Unit", "other"}, status: 404, code: "unknown_order"},
		{name: "no id", path: orders + "/7/cancel", body: `{"reason":{"code":"x"}}`, status: 400, code: "invalid_parameter"},
		{name: "an unknown fulfilment", path: one + "/fulfilments/f9/ship", body: `{}`, status: 409, code: "unknown_fulfilment"},
		{name: "too many shipped", path: one + "/fulfilments/f1/ship", body: `{"lines":[{"line":"1","quantity":"3"}]}`, status: 409, code: "over_shipment"},
		{name: "delivered before it was shipped", path: one + "/fulfilments/f1/deliver", body: `{}`, status: 409},
		{name: "cancelled after it was shipped", path: orders + "/" + shipped + "/cancel", body: `{"reason":{"code":"x"}}`, status: 409, code: "order_shipped"},
		{name: "closed before it was shipped", path: one + "/close", body: `{}`, status: 409, code: "not_shipped"},
		{name: "released without a hold", path: one + "/release", body: `{}`, status: 409, code: "unknown_hold"},
		{name: "no reason", path: one + "/cancel", body: `{}`, status: 400, code: "missing"},
		{name: "an old version", path: one + "/cancel", body: `{"reason":{"code":"x"}}`, headers: []string{"If-Match", `"0-1"`}, status: 412, code: "stale_revision"},
		{name: "a version that cannot be", path: one + "/cancel", body: `{"reason":{"code":"x"}}`, headers: []string{"If-Match", `"9-2"`}, status: 412, code: "stale_revision"},
		{name: "no version", path: one + "/cancel", body: `{"reason":{"code":"x"}}`, headers: []string{"If-Match", `0-2`}, status: 400, code: "invalid_etag"},
		{name: "bad rules", method: "PUT", path: "/v1/rules", body: "version: 7", headers: []string{"Idempotency-Key", "r", "Content-Type", "application/yaml"}, status: 400, code: "invalid_rules"},
		{name: "large rules", method: "PUT", path: "/v1/rules", body: strings.Repeat("#", 300<<10), headers: []string{"Idempotency-Key", "r", "Content-Type", "application/yaml"}, status: 413, code: "body_too_large"},
		{name: "nobody to erase", path: "/v1/erasures", body: `{}`, status: 400},

		{name: "an unknown order, reading", path: orders + "/00000000-0000-4000-8000-000000000000", status: 404, code: "unknown_order"},
		{name: "no cursor of ours", path: orders + "?cursor=AAAA", status: 400, code: "invalid_cursor"},
		{name: "another list's cursor", path: orders + "?limit=1&status=closed&cursor=" + page.Next, status: 400, code: "invalid_cursor"},
		{name: "no mark", path: one, headers: []string{"Orderledger-Mark", "soon"}, status: 400, code: "invalid_mark"},
		{name: "another ledger's mark", path: one, headers: []string{"Orderledger-Mark", "00000000-0000-4000-8000-000000000000.1.1.1"}, status: 400, code: "unknown_mark"},
		{name: "no event", path: one + "/events", headers: []string{"Last-Event-ID", "yesterday"}, status: 400, code: "invalid_after"},
		{name: "no notification", path: "/v1/notifications?after=yesterday", status: 400, code: "invalid_after"},
		{name: "no moment", path: "/v1/history/orders/" + id + "/state?at=yesterday", status: 400, code: "invalid_moment"},
		{name: "no such revision", path: "/v1/history/orders/" + id + "/state?revision=99", status: 404, code: "unknown_moment"},
		{name: "no limit", path: orders + "?limit=-1", status: 400, code: "invalid_parameter"},
		{name: "an unknown parameter", path: orders + "?nonsense=1", status: 400, code: "unknown_parameter"},
		{name: "a parameter twice", path: orders + "?limit=1&limit=2", status: 400, code: "duplicate_parameter"},
		{name: "an unknown method", method: "DELETE", path: one, status: 405, code: "method_not_allowed"},
		{name: "a method that nobody knows", method: "BREW", path: one, status: 405, code: "method_not_allowed"},
		{name: "nothing there", path: "/v1/nothing", status: 404, code: "not_found"},
		{name: "a path that climbs", path: "/assets/../../etc/passwd", status: 404, code: "not_found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &outside{t: t, node: o.node, address: o.address}
			method := c.method
			if method == "" {
				method = http.MethodGet
				if c.body != "" {
					method = http.MethodPost
				}
			}
			before := o.stored()
			response, body := o.send(method, c.path, c.body, c.headers...)
			var problem struct {
				Type, Title, Code string
				Status            int
			}
			if kind := response.Header.Get("Content-Type"); kind != "application/problem+json" {
				t.Fatalf("%s with a body of type %q: %.300s", response.Status, kind, body)
			}
			check(t, json.Unmarshal(body, &problem))
			if response.StatusCode != c.status || c.code != "" && problem.Code != c.code {
				t.Errorf("%d %s, want %d %s: %s", response.StatusCode, problem.Code, c.status, c.code, body)
			}
			if problem.Status != response.StatusCode || problem.Title == "" || problem.Type != "/problems/"+problem.Code {
				t.Errorf("an incomplete problem: %s", body)
			}
			if explained, _ := o.send(http.MethodGet, problem.Type, ""); explained.StatusCode != http.StatusOK {
				t.Errorf("nobody explains %s", problem.Type)
			}
			if after := o.stored(); after != before {
				t.Errorf("%d events were stored", after-before)
			}
		})
	}
	o.wellAfterAll()
}

// TestRawBytes sends what no client of HTTP would send.
func TestRawBytes(t *testing.T) {
	o := newOutside(t)
	head := "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: raw\r\nContent-Type: application/json\r\n"
	before := o.stored()
	for name, bytes := range map[string]string{
		"noise":                     "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"no version":                "POST /v1/orders\r\n\r\n",
		"no host":                   "GET /v1/orders HTTP/1.1\r\n\r\n",
		"two hosts":                 "GET /v1/orders HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
		"two lengths":               head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
		"a length and chunks":       head + "Content-Length: 4\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
		"a negative length":         head + "Content-Length: -1\r\n\r\n",
		"a broken chunk":            head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		"a header with a line feed": head + "X-A: b\nEvil : c\r\nContent-Length: 2\r\n\r\n{}",
		"a large header":            head + "X-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
		"a path with a zero byte":   "GET /v1/orders/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"a bad escape":              "GET /v1/orders/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"an escaped zero byte":      "GET /v1/orders/%00%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		"a body that ends early":    head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(plainOrder)+1) + plainOrder,
		"a chunk that ends early":   head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", len(plainOrder)+1) + plainOrder,
	} {
		t.Run(name, func(t *testing.T) {
			connection, err := net.Dial("tcp", o.address)
			check(t, err)
			defer connection.Close()
			check(t, connection.SetDeadline(time.Now().Add(20*time.Second)))
			_, err = io.WriteString(connection, bytes)
			check(t, err)
			if strings.HasSuffix(name, "ends early") {
				check(t, connection.(*net.TCPConn).CloseWrite())
			}
			line, err := bufio.NewReader(connection).ReadString('\n')
			if err == nil && !regexp.MustCompile(`^HTTP/1\.[01] (4\d\d|501) `).MatchString(line) {
				t.Errorf("the answer is %q", line)
			}
		})
	}
	if after := o.stored(); after != before {
		t.Errorf("%d events were stored", after-before)
	}
	o.wellAfterAll()
}

// TestNaughtyStrings submits orders whose texts are known to break programs. They are refused, or come back as they are.
func TestNaughtyStrings(t *testing.T) {
	text, err := os.ReadFile(realdata.Path(t, "hostile", "blns.json"))
	check(t, err)
	var naughty []string
	check(t, json.Unmarshal(text, &naughty))
	o := newOutside(t)
	taken := 0
	for i := 0; i < len(naughty); i += 7 {
		quoted, err := json.Marshal(naughty[i])
		check(t, err)
		body := order(`"parties"`, fmt.Sprintf(`"instructions":%s,"purchase_order":%[1]s,"parties"`, quoted))
		response, answer := o.send(http.MethodPost, "/v1/orders", body, "Idempotency-Key", fmt.Sprint("naughty-", i))
		switch response.StatusCode {
		case http.StatusBadRequest:
			continue
		case http.StatusCreated:
		default:
			t.Errorf("%q was answered %s: %s", naughty[i], response.Status, answer)
			continue
		}
		taken++
		_, read := o.send(http.MethodGet, response.Header.Get("Location"), "", "Orderledger-Mark", response.Header.Get("Orderledger-Mark"))
		var shown struct {
			PurchaseOrder string `json:"purchase_order"`
		}
		check(t, json.Unmarshal(read, &shown))
		if shown.PurchaseOrder != naughty[i] {
			t.Errorf("%q came back as %q", naughty[i], shown.PurchaseOrder)
		}
		if page, body := o.send(http.MethodGet, "/orders/"+response.Header.Get("Location")[len("/v1/orders/"):], ""); page.StatusCode != http.StatusOK || strings.Contains(string(body), "<script>alert") {
			t.Errorf("the page of the order with %q: %s", naughty[i], page.Status)
		}
	}
	t.Logf("%d taken", taken)
	o.wellAfterAll()
}

// wellAfterAll checks that the node still takes orders, that nothing has panicked, and that the log tells no secrets
// of failures.
func (o *outside) wellAfterAll() {
	o.t.Helper()
	o.submit("after-all")
	_, metrics := o.send(http.MethodGet, "/metrics", "")
	if !strings.Contains(string(metrics), "orderledger_http_panics_total 0\n") {
		o.t.Error("a request has panicked")
	}
	o.stop()
	if log := o.log.String(); faulty(log) {
		o.t.Errorf("the log has\n%s", log)
	}
}
