package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
)

// erp sends the commands of these tests over the bus.
var erp = web.Principal{Subject: "erp", Issuer: "bus", Kind: "service"}

// A courier is a server with a queue of commands before it. Its bus is in the process.
type courier struct {
	*server
	bus     *gochannel.GoChannel
	queue   *commands.Queue
	replies <-chan *watermill.Message

	mu       sync.Mutex // protects rejected
	rejected []string
}

func newCourier(t *testing.T) *courier {
	t.Helper()
	return newCourierBefore(t, newServer(t), nil)
}

// newCourierBefore starts a queue. Routes may stand in for the server; nil: they do not.
func newCourierBefore(t *testing.T, s *server, routes http.Handler) *courier {
	t.Helper()
	c := &courier{server: s, bus: gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 100, Persistent: true}, nil)}
	t.Cleanup(func() { _ = c.bus.Close() })
	if routes == nil {
		routes = s.handler
	}
	var err error
	if c.replies, err = c.bus.Subscribe(t.Context(), "replies"); err != nil {
		t.Fatal(err)
	}
	c.queue, err = commands.NewQueue(s.commands, commands.QueueConfig{
		Bus: c.bus, Topic: "order-commands", Routes: routes, Replies: c.bus, Reject: c.reject,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.queue)
	return c
}

// run runs a queue until the test ends.
func run(t *testing.T, q *commands.Queue) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the queue ended with %v", err)
		}
	})
}

func (c *courier) reject(_ context.Context, _ *watermill.Message, reason error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejected = append(c.rejected, reason.Error())
	return nil
}

// message makes a command of erp; more are keys and values of its metadata.
func message(path, key, body string, more ...string) *watermill.Message {
	m := watermill.NewMessage(uuid.NewString(), []byte(body))
	m.Metadata = watermill.Metadata{
		"path": path, "idempotency_key": key, "submitter": "erp", "content_type": "application/json", "reply_to": "replies",
	}
	for i := 0; i < len(more); i += 2 {
		m.Metadata[more[i]] = more[i+1]
	}
	return m
}

// ask sends a message and returns what it is told.
func (c *courier) ask(m *watermill.Message) commands.Outcome {
	c.t.Helper()
	if err := c.bus.Publish("order-commands", m); err != nil {
		c.t.Fatal(err)
	}
	select {
	case r := <-c.replies:
		r.Ack()
		if got := r.Metadata.Get("correlation_id"); got != m.UUID {
			c.t.Fatalf("the reply is to %s, not to %s", got, m.UUID)
		}
		return readOutcome(c.t, string(r.Payload))
	case <-time.After(10 * time.Second):
		c.t.Fatal("no reply has come")
	}
	return commands.Outcome{}
}

func readOutcome(t testing.TB, body string) commands.Outcome {
	t.Helper()
	var o commands.Outcome
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		t.Fatalf("reading the outcome %s: %v", body, err)
	}
	return o
}

// look asks the server what has become of a command.
func (s *server) look(id string, headers ...string) response {
	s.t.Helper()
	return s.as(erp).send(http.MethodGet, "/v1/commands/"+id, nil, headers...)
}

// as returns the server as a principal sees it.
func (s *server) as(p web.Principal) *server {
	other := *s
	other.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handler.ServeHTTP(w, r.WithContext(web.As(r.Context(), p)))
	})
	return &other
}

// submitted makes an order of erp by HTTP and returns its id.
func (c *courier) submitted(key string) string {
	c.t.Helper()
	return c.as(erp).submit(key, plain)
}

// outcomes counts what the ledger has recorded of commands.
func (s *server) outcomes() (n int) {
	s.t.Helper()
	for _, r := range s.stored() {
		if strings.HasPrefix(r.Stream, commands.OutcomePrefix) {
			if r.Type != commands.OutcomeType {
				s.t.Errorf("%s has an event of type %s", r.Stream, r.Type)
			}
			n++
		}
	}
	return n
}

// orderEvents counts the events of orders.
func (s *server) orderEvents() (n int) {
	s.t.Helper()
	for _, r := range s.stored() {
		if strings.HasPrefix(r.Stream, domain.StreamPrefix) {
			n++
		}
	}
	return n
}

// Whatever a route answers over HTTP it answers over the bus.
func TestQueueServesEveryRoute(t *testing.T) {
	c := newCourier(t)
	o := c.ask(message("/v1/orders", "new", plain))
	if o.State != "done" || o.Status != http.StatusCreated || o.Order != domain.OrderID("main", "erp", "new").String() || o.Answer.ID != o.Order {
		t.Errorf("submit: %+v", o)
	}
	if r := c.as(erp).post("/v1/orders", "new", plain); r.header.Get("Idempotent-Replayed") != "true" || !cmp.Equal(r.answer(t), *o.Answer) {
		t.Errorf("over HTTP it is another order: %d %s", r.status, r.body)
	}
	for i, rc := range routeCases {
		id := c.submitted(fmt.Sprint("order", i))
		for j := 0; j < len(rc.before); j += 2 {
			c.mustPost(id, rc.before[j], fmt.Sprint("before", j), rc.before[j+1])
		}
		path := "/v1/orders/" + id + "/" + rc.path
		if o := c.ask(message(path, "malformed", rc.malformed)); o.State != "refused" || o.Status != http.StatusBadRequest || o.Code != rc.fault ||
			len(o.Errors) != 1 || o.Errors[0].Location != rc.location {
			t.Errorf("%s, malformed: %+v", rc.path, o)
		}
		good := c.ask(message(path, "good", rc.good))
		if good.State != "done" || good.Status != http.StatusOK || *good.Revision != good.Answer.Revision ||
			good.Answer.Status != rc.status || len(good.Answer.Events) != len(strings.Fields(rc.events)) {
			t.Errorf("%s: %+v", rc.path, good)
		}
		r := c.look(good.Command)
		if r.status != http.StatusOK || !cmp.Equal(readOutcome(t, r.body), good) {
			t.Errorf("%s, looked up: %d %s", rc.path, r.status, r.body)
		}
	}
}

func TestQueueTellsTheSameAgain(t *testing.T) {
	c := newCourier(t)
	id := c.submitted("k")
	m := message("/v1/orders/"+id+"/release", "r", "")
	refused := c.ask(m.Copy())
	if refused.State != "refused" || refused.Status != http.StatusConflict || refused.Code != "unknown_hold" || refused.Detail == "" {
		t.Fatalf("got %+v", refused)
	}
	// The acknowledgement was lost, and the command would be legal now.
	c.mustPost(id, "hold", "h", `{`+reason+`}`)
	events := c.orderEvents()
	if again := c.ask(m.Copy()); !cmp.Equal(again, refused) {
		t.Errorf("the second delivery: %+v", again)
	}
	if n := c.orderEvents(); n != events || c.outcomes() != 1 {
		t.Errorf("%d events, %d outcomes", n-events, c.outcomes())
	}
	if r := c.look(refused.Command); r.status != http.StatusOK || !cmp.Equal(readOutcome(t, r.body), refused) {
		t.Errorf("looked up: %d %s", r.status, r.body)
	}

	// The same key by another way is decided anew, and what the order says counts.
	if r := c.as(erp).post("/v1/orders/"+id+"/release", "r", ""); r.status != http.StatusOK {
		t.Fatalf("over HTTP: %d %s", r.status, r.body)
	}
	done := readOutcome(t, c.look(refused.Command).body)
	if done.State != "done" || done.Status != http.StatusOK || done.Code != "" || done.Answer == nil {
		t.Errorf("looked up: %+v", done)
	}
	if again := c.ask(m.Copy()); !cmp.Equal(again, done) {
		t.Errorf("the third delivery: %+v, want %+v", again, done)
	}
}

// Whoever carried out the command died before it said so.
func TestQueueAfterACrash(t *testing.T) {
	c := newCourier(t)
	id := c.submitted("k")
	if r := c.as(erp).post("/v1/orders/"+id+"/cancel", "c", `{`+reason+`}`); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if r := c.look(domain.CommandID(uuid.MustParse(id), "erp", "c").String()); r.status != http.StatusNotFound || r.code() != "unknown_command" {
		t.Errorf("before: %d %s", r.status, r.body)
	}
	events := c.orderEvents()
	past := now.Add(-time.Second).Format(time.RFC3339)
	o := c.ask(message("/v1/orders/"+id+"/cancel", "c", `{`+reason+`}`, "apply_until", past))
	if o.State != "done" || o.Answer.Status != domain.StatusCancelled || c.orderEvents() != events || c.outcomes() != 1 {
		t.Errorf("got %+v", o)
	}
}

func TestQueueExpires(t *testing.T) {
	c := newCourier(t)
	late := message("/v1/orders", "late", plain, "apply_until", now.Add(-time.Second).Format(time.RFC3339))
	o := c.ask(late.Copy())
	if o.State != "expired" || o.Status != http.StatusGone || o.Code != "expired" || o.Revision != nil || c.orderEvents() != 0 {
		t.Errorf("got %+v", o)
	}
	if r := c.look(o.Command); !cmp.Equal(readOutcome(t, r.body), o) {
		t.Errorf("looked up: %d %s", r.status, r.body)
	}
	// The same key may be sent again, with more time.
	inTime := c.ask(message("/v1/orders", "late", plain, "apply_until", now.Format(time.RFC3339)))
	if inTime.State != "done" || inTime.Status != http.StatusCreated || inTime.Command != o.Command {
		t.Errorf("in time: %+v", inTime)
	}
	if r := c.look(o.Command); readOutcome(t, r.body).State != "done" {
		t.Errorf("looked up: %d %s", r.status, r.body)
	}
	if again := c.ask(late.Copy()); again.State != "done" {
		t.Errorf("the late one again: %+v", again)
	}
}

func TestQueueKeyReused(t *testing.T) {
	c := newCourier(t)
	id := c.submitted("k")
	done := c.ask(message("/v1/orders/"+id+"/hold", "key", `{`+reason+`}`))
	if done.State != "done" {
		t.Fatalf("got %+v", done)
	}
	if o := c.ask(message("/v1/orders/"+id+"/hold", "key", ` {`+reason+`}`)); !cmp.Equal(o, done) {
		t.Errorf("the same in other bytes: %+v", o)
	}
	if o := c.ask(message("/v1/orders/"+id+"/cancel", "key", `{`+reason+`}`)); o.State != "refused" || o.Status != http.StatusUnprocessableEntity || o.Code != "idempotency_key_reused" {
		t.Errorf("something else: %+v", o)
	}
	if o := readOutcome(t, c.look(done.Command).body); !cmp.Equal(o, done) {
		t.Errorf("looked up: %+v", o)
	}
}

// What was refused over the bus, too, may be sent again under its key: as another message, which is decided anew.
func TestQueueRefusedKeyAgain(t *testing.T) {
	c := newCourier(t)
	path := "/v1/orders/" + c.submitted("k") + "/hold"
	malformed := c.ask(message(path, "key", `{}`))
	if malformed.Code != "missing" {
		t.Fatalf("got %+v", malformed)
	}
	if o := c.ask(message(path, "key", `{}`, "apply_until", now.Format(time.RFC3339))); o.Code != "missing" || c.outcomes() != 2 {
		t.Errorf("with more time: %+v, %d outcomes", o, c.outcomes())
	}
	if o := readOutcome(t, c.look(malformed.Command).body); !o.ApplyUntil.Equal(now) {
		t.Errorf("the newest outcome is %+v", o)
	}
	if o := c.ask(message(path, "key", `{`+reason+`}`)); o.State != "done" || o.Command != malformed.Command {
		t.Errorf("mended: %+v", o)
	}
}

func TestQueueIfMatch(t *testing.T) {
	c := newCourier(t)
	id := c.submitted("k")
	if o := c.ask(message("/v1/orders/"+id+"/hold", "a", `{`+reason+`}`, "if_match", `"0-0"`)); o.Status != http.StatusPreconditionFailed || o.Code != "stale_revision" {
		t.Errorf("stale: %+v", o)
	}
	if o := c.ask(message("/v1/orders/"+id+"/hold", "b", `{`+reason+`}`, "if_match", `"0-2"`)); o.State != "done" {
		t.Errorf("current: %+v", o)
	}
}

func TestQueueRejectsWhatNobodyCanRead(t *testing.T) {
	c := newCourier(t)
	id := c.submitted("k")
	before := len(c.stored())
	unreadable := []*watermill.Message{
		message("", "k", plain),
		message("/v1/orders", "", plain),
		message("/v1/orders", "key\n", plain),
		message("/v1/orders?x=1", "k", plain),
		message("/v1/orders/", "k", plain),
		message("/v1/import/orders", "k", plain),
		message("/v1/erasures", "k", `{}`),
		message("/v1/orders/"+id, "k", `{}`),
		message("/v1/orders/"+id+"/{id}", "k", `{}`),
		message("/v1/orders/"+id+"/fulfilments/f1/cancel", "k", `{}`),
		message("/v1/orders/"+id+"/parts/f1/ship", "k", `{}`),
		message("/v1/orders/not-an-id/cancel", "k", `{}`),
		message("http://elsewhere/v1/orders", "k", plain),
		message("/v1/orders", "k", plain, "content_type", "application/xml"),
		message("/v1/orders", "k", plain, "content_type", ""),
		message("/v1/orders", "k", plain, "business_unit", "A b"),
		message("/v1/orders", "k", plain, "submitter", ""),
		message("/v1/orders", "k", plain, "submitter", strings.Repeat("x", 201)),
		message("/v1/orders", "k", plain, "issuer", "a\x00b"),
		message("/v1/orders", "k", plain, "kind", "emperor"),
		message("/v1/orders", "k", plain, "apply_until", "tomorrow"),
	}
	for _, m := range unreadable {
		if err := c.bus.Publish("order-commands", m); err != nil {
			t.Fatal(err)
		}
	}
	for c.queue.Status().Rejected < uint64(len(unreadable)) {
		select {
		case r := <-c.replies:
			t.Fatalf("a reply came: %s", r.Payload)
		case <-time.After(time.Millisecond):
		}
	}
	if n := len(c.stored()); n != before {
		t.Errorf("%d events were stored", n-before)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rejected) != len(unreadable) {
		t.Errorf("%d were rejected", len(c.rejected))
	}
	for _, reason := range c.rejected {
		if !strings.HasPrefix(reason, "reading a command: ") || strings.Contains(reason, "emperor") || strings.Contains(reason, id) {
			t.Errorf("rejected because of %q", reason)
		}
	}
}

func TestQueueOutcomeIsForItsSender(t *testing.T) {
	c := newCourier(t)
	o := c.ask(message("/v1/orders", "k", plain, "business_unit", "north"))
	for _, tc := range []struct {
		name   string
		who    web.Principal
		unit   string
		path   string
		status int
	}{
		{"its sender", erp, "north", o.Command, http.StatusOK},
		{"its sender for another unit", erp, "main", o.Command, http.StatusNotFound},
		{"somebody else", web.Principal{Subject: "crm", Kind: "service"}, "north", o.Command, http.StatusNotFound},
		{"without authentication", web.Principal{Subject: "local", Kind: "local"}, "north", o.Command, http.StatusOK},
		{"unknown", erp, "north", uuid.NewString(), http.StatusNotFound},
		{"no id", erp, "north", "x", http.StatusBadRequest},
		{"capitals", erp, "north", strings.ToUpper(o.Command), http.StatusBadRequest},
	} {
		if r := c.as(tc.who).send(http.MethodGet, "/v1/commands/"+tc.path, nil, "Business-Unit", tc.unit); r.status != tc.status {
			t.Errorf("%s: %d %s", tc.name, r.status, r.body)
		}
	}
}

func TestQueueActor(t *testing.T) {
	c := newCourier(t)
	traceparent := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	o := c.ask(message("/v1/orders", "k", plain, "issuer", "azure", "kind", "user", "traceparent", traceparent))
	for r, err := range c.store.ReadStream(t.Context(), "order-"+o.Order, 0, eventstore.Forward) {
		if err != nil {
			t.Fatal(err)
		}
		meta, err := domain.DecodeMeta(r.Metadata)
		want := domain.Actor{Kind: "person", Issuer: "azure", Subject: "erp"}
		if err != nil || meta.Actor != want || meta.Command.String() != o.Command || !strings.HasPrefix(meta.Cause.Traceparent, traceparent[:36]) {
			t.Errorf("metadata %+v, %v", meta, err)
		}
	}
}

// A failingServer answers so often with a status, and then passes requests on.
type failingServer struct {
	status int
	times  atomic.Int64
	next   http.Handler
}

func (f *failingServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.times.Add(-1) < 0 {
		f.next.ServeHTTP(w, r)
		return
	}
	switch f.status {
	case 0:
		_, _ = w.Write([]byte(`{"id"`))
		panic(http.ErrAbortHandler)
	default:
		w.WriteHeader(f.status)
		_, _ = w.Write([]byte(`{"code":"failing"}`))
	}
}

// What is not the command's fault is tried again, and uses up no delivery.
func TestQueueOutlastsFailures(t *testing.T) {
	for _, status := range []int{0, 302, 408, 425, 429, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := newServer(t)
			failing := &failingServer{status: status, next: s.handler}
			failing.times.Store(3)
			c := newCourierBefore(t, s, failing)
			if o := c.ask(message("/v1/orders", "k", plain)); o.State != "done" {
				t.Errorf("got %+v", o)
			}
			awaitAnswered(c.queue, 1)
			if got := c.queue.Status(); got.Failures != 3 || got.Answered != 1 || got.Rejected != 0 {
				t.Errorf("status %+v", got)
			}
		})
	}
}

// A command with which the server itself fails does not keep the others of its lane waiting for ever; an outage does.
func TestQueueGivesUpOnItsOwnFaults(t *testing.T) {
	for _, tc := range []struct {
		status   int
		rejected uint64
	}{{http.StatusInternalServerError, 1}, {http.StatusLoopDetected, 1}, {http.StatusServiceUnavailable, 0}} {
		t.Run(fmt.Sprint(tc.status), func(t *testing.T) {
			s := newServer(t) // before the bubble begins: the ledger has a life of its own
			synctest.Test(t, func(t *testing.T) {
				failing := &failingServer{status: tc.status, next: s.handler}
				failing.times.Store(1 << 40)
				bus := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil)
				q, err := commands.NewQueue(s.commands, commands.QueueConfig{Bus: bus, Topic: "q", Routes: failing})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); _ = q.Run(ctx) }()
				m := message("/v1/orders", "k", plain)
				if err := bus.Publish("q", m); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				if got := q.Status(); got.Rejected != tc.rejected || got.Answered != 0 || got.Failures < 7 {
					t.Errorf("status %+v", got)
				}
				cancel()
				<-ended
				_ = bus.Close()
			})
		})
	}
}

// A place that takes no replies keeps nobody waiting for ever.
func TestQueueReplyFails(t *testing.T) {
	s := newServer(t)
	c := newCourierBefore(t, s, nil)
	var tries atomic.Int64
	q, err := commands.NewQueue(s.commands, commands.QueueConfig{Bus: c.bus, Topic: "others", Routes: s.handler,
		Replies: publisher(func(string, ...*watermill.Message) error { tries.Add(1); return errors.New("no such queue") })})
	if err != nil {
		t.Fatal(err)
	}
	run(t, q)
	for _, to := range []string{"nowhere", "others"} {
		if err := c.bus.Publish("others", message("/v1/orders", "to "+to, plain, "idempotency_key", to, "reply_to", to)); err != nil {
			t.Fatal(err)
		}
	}
	awaitAnswered(q, 2)
	if c.outcomes() != 2 || tries.Load() != 6 {
		t.Errorf("%d outcomes, %d tries", c.outcomes(), tries.Load())
	}
}

// awaitAnswered waits until a queue has answered so many messages, which it does soon after its replies have come.
func awaitAnswered(q *commands.Queue, n uint64) {
	for q.Status().Answered < n {
		<-time.After(time.Millisecond)
	}
}

// A publisher publishes by a function.
type publisher func(string, ...*watermill.Message) error

func (p publisher) Publish(topic string, m ...*watermill.Message) error { return p(topic, m...) }
func (publisher) Close() error                                          { return nil }

// A subscriber fails a few times, and ends a few subscriptions.
type flakySubscriber struct {
	watermill.Subscriber
	failures atomic.Int64
}

func (f *flakySubscriber) Subscribe(ctx context.Context, topic string) (<-chan *watermill.Message, error) {
	switch n := f.failures.Add(-1); {
	case n < 0:
		return f.Subscriber.Subscribe(ctx, topic)
	case n%2 == 0:
		return nil, errors.New("not now")
	}
	ended := make(chan *watermill.Message)
	close(ended)
	return ended, nil
}

func TestQueueSubscribesAgain(t *testing.T) {
	c := newCourier(t)
	flaky := &flakySubscriber{Subscriber: c.bus}
	flaky.failures.Store(4)
	q, err := commands.NewQueue(c.commands, commands.QueueConfig{Bus: flaky, Topic: "flaky", Routes: c.handler, Replies: c.bus})
	if err != nil {
		t.Fatal(err)
	}
	run(t, q)
	if err := c.bus.Publish("flaky", message("/v1/orders", "k", plain)); err != nil {
		t.Fatal(err)
	}
	(<-c.replies).Ack()
	if got := q.Status(); got.Failures != 4 {
		t.Errorf("status %+v", got)
	}
}

// A stillSubscriber has the same messages for everybody.
type stillSubscriber chan *watermill.Message

func (s stillSubscriber) Subscribe(context.Context, string) (<-chan *watermill.Message, error) {
	return s, nil
}
func (stillSubscriber) Close() error { return nil }

// A queue that is stopped while it replies leaves the message to others.
func TestQueueStopsWhileItReplies(t *testing.T) {
	s := newServer(t)
	bus := make(stillSubscriber, 1)
	replying := make(chan struct{})
	q, err := commands.NewQueue(s.commands, commands.QueueConfig{Bus: bus, Topic: "q", Routes: s.handler,
		Replies: publisher(func(_ string, m ...*watermill.Message) error {
			close(replying)
			<-m[0].Context().Done()
			return m[0].Context().Err()
		})})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m := message("/v1/orders", "k", plain)
	bus <- m
	go func() {
		<-replying
		cancel()
		close(bus)
	}()
	if err := q.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the queue ended with %v", err)
	}
	select {
	case <-m.Acked():
		t.Error("the message was acknowledged")
	default:
	}
	if s.outcomes() != 1 || q.Status().Answered != 0 {
		t.Errorf("%d outcomes, status %+v", s.outcomes(), q.Status())
	}
}

func TestNewQueue(t *testing.T) {
	c := newCourier(t)
	for _, cfg := range []commands.QueueConfig{
		{}, {Bus: c.bus, Topic: "t"}, {Bus: c.bus, Routes: c.handler}, {Topic: "t", Routes: c.handler},
	} {
		if _, err := commands.NewQueue(c.commands, cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

// A store hands its appends to a function first.
type rivalStore struct {
	eventstore.Store
	before func(stream string) error
}

func (r *rivalStore) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	if err := r.before(stream); err != nil {
		return eventstore.Appended{}, err
	}
	return r.Store.Append(ctx, stream, expected, events)
}

// A message is not acknowledged before its outcome is durable.
func TestQueueRecordsBeforeItAcknowledges(t *testing.T) {
	failures := 3
	c := newCourierBefore(t, serve(t, &rivalStore{openLedger(t), func(stream string) error {
		if strings.HasPrefix(stream, commands.OutcomePrefix) && failures > 0 {
			failures--
			return eventstore.ErrFull
		}
		return nil
	}}, openKeys(t), nil), nil)
	o := c.ask(message("/v1/orders", "k", plain))
	if o.State != "done" || failures != 0 || c.outcomes() != 1 || c.orderEvents() != 3 {
		t.Errorf("%+v, %d failures to come, %d outcomes, %d events", o, failures, c.outcomes(), c.orderEvents())
	}
	awaitAnswered(c.queue, 1)
	if got := c.queue.Status(); got.Failures != 3 {
		t.Errorf("status %+v", got)
	}
}

// Two have the same message at once, because one of them has lost the lock and does not know it. In between the order
// changes, so that one finds the command refused and the other one does it.
func TestQueueTwiceAtOnce(t *testing.T) {
	for _, doneFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("done first ", doneFirst), func(t *testing.T) {
			store, keys := openLedger(t), openKeys(t)
			rival := newCourierBefore(t, serve(t, store, keys, nil), nil)
			id := rival.submitted("k")
			m := message("/v1/orders/"+id+"/release", "r", "")
			if doneFirst {
				rival.mustPost(id, "hold", "h", `{`+reason+`}`)
			}
			var once sync.Once
			var other commands.Outcome
			c := newCourierBefore(t, serve(t, &rivalStore{store, func(stream string) error {
				if strings.HasPrefix(stream, commands.OutcomePrefix) {
					once.Do(func() {
						if !doneFirst {
							rival.mustPost(id, "hold", "h", `{`+reason+`}`)
						}
						other = rival.ask(m.Copy())
					})
				}
				return nil
			}}, keys, nil), nil)
			o := c.ask(m.Copy())
			if o.State != "done" || other.State != "done" {
				t.Errorf("%+v and %+v", o, other)
			}
			if looked := readOutcome(t, c.look(o.Command).body); looked.State != "done" {
				t.Errorf("looked up: %+v", looked)
			}
			if !slices.ContainsFunc(c.stored(), func(r eventstore.Recorded) bool { return r.Type == "order.released.v1" }) {
				t.Error("nothing was released")
			}
		})
	}
}
