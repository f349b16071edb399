package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/internal/web"
)

// serveAsync makes a server that sends commands to a queue.
func serveAsync(t *testing.T, enqueue func(*watermill.Message) error) *server {
	t.Helper()
	store, keys := openLedger(t), openKeys(t)
	h, err := commands.NewHandler(t.Context(), commands.Config{
		Ledger: store, Keys: keys, Enqueue: enqueue, Now: func() time.Time { return now }, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := web.New(web.Config{Rate: -1, Errors: []func(error) *web.Error{commands.WebError}, Codes: commands.Codes()})
	commands.Register(s, h, nil)
	return (&server{t: t, handler: s, store: store, keys: keys, commands: h}).as(erp)
}

// enqueued keeps what goes to a queue.
type enqueued struct{ messages []*watermill.Message }

func (e *enqueued) add(m *watermill.Message) error {
	e.messages = append(e.messages, m)
	return nil
}

// An acceptance is the body of an answer 202.
type acceptance struct {
	Command    string    `json:"command"`
	Order      string    `json:"order"`
	Number     string    `json:"number"`
	ApplyUntil time.Time `json:"apply_until"`
	Note       string    `json:"note"`
}

func TestAsync(t *testing.T) {
	var queue enqueued
	s := serveAsync(t, queue.add)
	r := s.post("/v1/orders", `"k"`, plain, "Prefer", "respond-async, wait=5", "Business-Unit", "north", "If-Match", "")
	order := domain.OrderID("north", "erp", "k")
	want := acceptance{
		Command: domain.CommandID(order, "erp", "k").String(), Order: order.String(), Number: domain.Number(order), ApplyUntil: now.Add(24 * time.Hour),
	}
	var got acceptance
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || got.Note == "" {
		t.Errorf("%v: %s", err, r.body)
	}
	want.Note = got.Note
	if r.status != http.StatusAccepted || !cmp.Equal(got, want) {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r.header.Get("Location") != "/v1/commands/"+want.Command || r.header.Get("Preference-Applied") != "respond-async" ||
		r.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", r.header)
	}
	if len(queue.messages) != 1 || len(s.stored()) != 0 {
		t.Fatalf("%d messages, %d events", len(queue.messages), len(s.stored()))
	}
	m := queue.messages[0]
	if string(m.Payload) != plain {
		t.Errorf("the message says %s", m.Payload)
	}
	meta := watermill.Metadata{
		servicebus.KeyMessageID: m.UUID, servicebus.KeySessionID: m.Metadata.Get(servicebus.KeySessionID),
		servicebus.KeySubject: want.Order, servicebus.KeyContentType: "application/json", "path": "/v1/orders", "idempotency_key": "k",
		"business_unit": "north", "submitter": "erp", "issuer": "bus", "kind": "service", "apply_until": "2026-11-23T12:00:00Z",
		"traceparent": m.Metadata.Get("traceparent"),
	}
	if diff := cmp.Diff(meta, m.Metadata); diff != "" || m.Metadata.Get("traceparent") == "" {
		t.Error(diff)
	}
	if lane := eventstore.Lane(domain.Stream(order), eventstore.DefaultLanes); m.Metadata.Get("session_id") != hex(lane) {
		t.Errorf("session %s, lane %d", m.Metadata.Get("session_id"), lane)
	}

	// What the queue makes of it.
	c := newCourierBefore(t, s, nil)
	m.Metadata.Set("reply_to", "replies")
	if o := c.ask(m); o.State != "done" || o.Command != want.Command || o.Order != want.Order || !o.ApplyUntil.Equal(want.ApplyUntil) {
		t.Errorf("outcome %+v", o)
	}
	if r := s.send(http.MethodGet, "/v1/commands/"+want.Command, nil, "Business-Unit", "north"); r.status != http.StatusOK {
		t.Errorf("looked up: %d %s", r.status, r.body)
	}
	// Another attempt under the same key has a message of its own, so that no detection of duplicates swallows it.
	s.post("/v1/orders", "k", plain, "Prefer", "respond-async", "Business-Unit", "north", "Apply-Until", "2026-11-22T13:00:00+01:00")
	s.post("/v1/orders", "k", plain, "Prefer", "respond-async", "Business-Unit", "north", "Apply-Until", "2026-11-22T15:00:00+01:00")
	if n := len(queue.messages); n != 2 || queue.messages[1].UUID == m.UUID || queue.messages[1].Metadata.Get("apply_until") != "2026-11-22T14:00:00Z" {
		t.Errorf("%d messages", n) // one o'clock in Berlin has passed
	}
}

func hex(lane int) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[lane/16], digits[lane%16]})
}

// Changes of orders can go to the queue, too.
func TestAsyncChange(t *testing.T) {
	var queue enqueued
	s := serveAsync(t, queue.add)
	id := s.submit("k", plain)
	for _, rc := range routeCases {
		before := len(queue.messages)
		r := s.post("/v1/orders/"+id+"/"+rc.path, "m", rc.malformed, "Prefer", "respond-async")
		if rc.fault == "in_future" { // only who carries it out knows what time it is then
			before++
		} else if r.status != http.StatusBadRequest || r.code() != rc.fault {
			t.Errorf("%s, malformed: %d %s", rc.path, r.status, r.body)
		}
		r = s.post("/v1/orders/"+id+"/"+rc.path, "k", rc.good, "Prefer", "respond-async", "If-Match", `"0-3"`)
		if r.status != http.StatusAccepted || len(queue.messages) != before+1 {
			t.Errorf("%s: %d %s", rc.path, r.status, r.body)
			continue
		}
		m := queue.messages[before]
		if m.Metadata.Get("path") != "/v1/orders/"+id+"/"+rc.path || string(m.Payload) != rc.good || m.Metadata.Get("if_match") != `"0-3"` {
			t.Errorf("%s: %s %v", rc.path, m.Payload, m.Metadata)
		}
	}
}

// What is wrong whatever the ledger holds is told at once, and what cannot go to the queue is done at once.
func TestAsyncAnsweredAtOnce(t *testing.T) {
	large := plain + strings.Repeat(" ", 201<<10)
	broken := func(*watermill.Message) error { return errors.New("the bus is down") }
	for _, tc := range []struct {
		name    string
		enqueue func(*watermill.Message) error
		path    string
		key     string
		body    string
		headers []string
		status  int
		code    string
	}{
		{"no key", nil, "/v1/orders", "", plain, nil, 400, "missing_idempotency_key"},
		{"a bad key", nil, "/v1/orders", "a b", plain, nil, 400, "invalid_idempotency_key"},
		{"no JSON", nil, "/v1/orders", "k", `{`, nil, 400, "malformed_body"},
		{"an unknown member", nil, "/v1/orders", "k", with(plain, "x", 1), nil, 400, "unknown_field"},
		{"malformed", nil, "/v1/orders", "k", with(plain, "currency", "XXX"), nil, 400, "unknown_currency"},
		{"malformed personal data", nil, "/v1/orders", "k", with(plain, "personal", map[string]any{"buyer": map[string]string{"name": strings.Repeat("x", 10_000)}}), nil, 400, "too_long"},
		{"a bad unit", nil, "/v1/orders", "k", plain, []string{"Business-Unit", "A"}, 400, "invalid_business_unit"},
		{"a bad order", nil, "/v1/orders/x/cancel", "k", `{` + reason + `}`, nil, 400, "invalid_parameter"},
		{"a bad tag", nil, "/v1/orders/" + domain.OrderID("a", "b", "c").String() + "/cancel", "k", `{` + reason + `}`, []string{"If-Match", "x"}, 400, "invalid_etag"},
		{"a late time", nil, "/v1/orders", "k", plain, []string{"Apply-Until", "2026-11-22T12:00:00Z"}, 400, "invalid_parameter"},
		{"a far time", nil, "/v1/orders", "k", plain, []string{"Apply-Until", "2026-11-29T12:00:01Z"}, 400, "invalid_parameter"},
		{"no time", nil, "/v1/orders", "k", plain, []string{"Apply-Until", "soon"}, 400, "invalid_parameter"},
		{"no preference", nil, "/v1/orders", "k", plain, []string{"Prefer", `wait=10, x="a, respond-async, b"`}, 201, ""},
		{"too large for a message", nil, "/v1/orders", "k", large, nil, 201, ""},
		{"too large for the route", nil, "/v1/orders", "k", plain + strings.Repeat(" ", 2<<20), nil, 413, "body_too_large"},
		{"the bus is down", broken, "/v1/orders", "k", plain, nil, 201, ""},
		{"an import", broken, "/v1/import/orders", "k", with(plain, "channel", "import", "settled", true), nil, 201, ""},
		{"an erasure", broken, "/v1/erasures", "k", `{}`, nil, 400, "missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var queue enqueued
			if tc.enqueue == nil {
				tc.enqueue = queue.add
			}
			s := serveAsync(t, tc.enqueue)
			r := s.post(tc.path, tc.key, tc.body, append([]string{"Prefer", "Respond-Async"}, tc.headers...)...)
			if r.status != tc.status || r.code() != tc.code || r.header.Get("Preference-Applied") != "" || len(queue.messages) != 0 {
				t.Errorf("%d %.300s, %d messages", r.status, r.body, len(queue.messages))
			}
		})
	}
}

// Without a queue the preference is one that the server does not know.
func TestAsyncWithoutQueue(t *testing.T) {
	s := newServer(t)
	if r := s.post("/v1/orders", "k", plain, "Prefer", "respond-async"); r.status != http.StatusCreated {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// A bus that hangs keeps the client waiting for seconds, not for ever.
func TestAsyncBoundsTheBus(t *testing.T) {
	s := serveAsync(t, func(m *watermill.Message) error {
		deadline, ok := m.Context().Deadline()
		if !ok || time.Until(deadline) > 10*time.Second {
			t.Errorf("the deadline is %v", deadline)
		}
		return context.DeadlineExceeded
	})
	if r := s.post("/v1/orders", "k", plain, "Prefer", "respond-async"); r.status != http.StatusCreated {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// The document tells about the queue where there is one.
func TestAsyncDocumented(t *testing.T) {
	var queue enqueued
	r := serveAsync(t, queue.add).send(http.MethodGet, "/openapi.json", nil)
	var doc struct {
		Paths map[string]map[string]struct {
			Responses  map[string]any
			Parameters []struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(r.body), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			_, has := op.Responses["202"]
			if want := commands.Allowed()[strings.ToUpper(method)+" "+path] == web.RoleSubmit && method == "post"; has != want {
				t.Errorf("%s %s: answers 202: %v", method, path, has)
			}
		}
	}
}
