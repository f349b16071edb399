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
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// TestOutgoingQueues sends commands over the bus of a region whose orders have their homes in two others. One of these is
// away: its commands wait, and nobody else's do. When it is back they are done, or have expired, each once.
func TestOutgoingQueues(t *testing.T) {
	bus := servicebustest.New(t, nil)
	for _, name := range []string{"order-commands", "order-commands-a", "order-commands-c"} {
		if err := bus.CreateQueue(name, servicebustest.Queue{RequiresSession: true, MaxDeliveryCount: 2000, LockDuration: 2 * time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	if err := bus.CreateQueue("replies", servicebustest.Queue{}); err != nil {
		t.Fatal(err)
	}
	connection := servicebus.Connection{ConnectionString: bus.ConnectionString()}
	publisher, err := servicebus.NewPublisher(servicebus.PublisherConfig{Connection: connection})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = publisher.Close() })

	w := newWorld(t, "a", "b", "c")
	a, b, c := w.regions["a"], w.regions["b"], w.regions["c"]
	into := func(topic string) func(*watermill.Message) error {
		return func(m *watermill.Message) error { return publisher.Publish(topic, m) }
	}
	b.enqueue[""], b.enqueue["a"], b.enqueue["c"] = into("order-commands"), into("order-commands-a"), into("order-commands-c")
	replies := collectReplies(t, connection)
	queues := map[string]*commands.Queue{
		"order-commands": nil, "order-commands-a": nil, "order-commands-c": nil,
	}
	for topic := range queues {
		queues[topic] = startRegionQueue(t, b, connection, publisher, topic)
	}

	atA, atC, here := a.erp().submit("a", plain), c.erp().submit("c", plain), b.erp().submit("b", plain)
	b.links["a"].set(refused)
	ask := func(id, key string, headers ...string) (command string) {
		t.Helper()
		r := b.erp().post("/v1/orders/"+id+"/hold", key, `{`+reason+`}`, append(headers, "Prefer", "respond-async")...)
		var got acceptance
		if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != http.StatusAccepted || got.Order != id {
			t.Fatalf("%d %s", r.status, r.body)
		}
		return got.Command
	}
	waits, twice := ask(atA, "waits"), ask(atA, "twice")
	next := ask(atC, "next")
	own := ask(here, "own")
	m := message("/v1/orders/"+atA+"/hold", "told", `{`+reason+`}`, "apply_until", "2026-11-22T11:59:59Z", servicebus.KeySessionID, "00")
	if err := publish(t.Context(), publisher, m); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	await := func(topic string, active int) {
		t.Helper()
		if err := bus.Await(ctx, topic, func(c servicebustest.Counts) bool { return c.Active == active }); err != nil {
			t.Fatal(err)
		}
	}
	await("order-commands", 0)
	await("order-commands-c", 0)
	await("order-commands-a", 2)
	for id, want := range map[string]int{waits: 404, twice: 404, next: 200, own: 200} {
		if r := b.look(id); r.status != want {
			t.Errorf("command %s: %d %s", id, r.status, r.body)
		}
	}
	if s := queues["order-commands"].Status(); s.Moved != 3 || s.Answered != 2 || s.Rejected != 0 {
		t.Errorf("%+v", s) // what is late on the way in has expired
	}
	// One has come by another way meanwhile.
	first := a.erp().post("/v1/orders/"+atA+"/hold", "twice", `{`+reason+`}`)
	if first.status != http.StatusOK {
		t.Fatalf("%d %s", first.status, first.body)
	}
	b.links["a"].set(whole, lostAfter)
	await("order-commands-a", 0)
	for _, id := range []string{waits, twice, next, own} {
		r := b.look(id)
		o := readOutcome(t, r.body)
		if r.status != http.StatusOK || o.State != "done" || o.Answer == nil || id == twice && !cmp.Equal(*o.Answer, first.answer(t)) {
			t.Errorf("command %s: %d %s", id, r.status, r.body)
		}
	}
	holds := 0
	for _, r := range a.stored() {
		if r.Type == "order.held.v1" {
			holds++
		}
	}
	if holds != 2 || a.outcomes() != 0 || b.outcomes() != 5 {
		t.Errorf("%d holds, %d outcomes at home, %d here", holds, a.outcomes(), b.outcomes())
	}
	replies.check(ctx, t, map[string]string{commandOf(atA, "told"): "expired"})
	// Elsewhere the mirror tells the same, once it has it.
	if r := c.look(waits); r.status != http.StatusOK || readOutcome(t, r.body).State != "done" {
		t.Errorf("in another region: %d %s", r.status, r.body)
	}
}

// startRegionQueue starts a queue of a region.
func startRegionQueue(t *testing.T, r *region, connection servicebus.Connection, replies watermill.Publisher, topic string) *commands.Queue {
	t.Helper()
	subscriber, err := servicebus.NewSubscriber(servicebus.SubscriberConfig{
		Connection: connection, Sessions: eventstore.DefaultLanes, SessionIdle: 200 * time.Millisecond, MaxPause: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = subscriber.Close() })
	home, _ := strings.CutPrefix(strings.TrimPrefix(topic, "order-commands"), "-")
	q, err := commands.NewQueue(r.commands, commands.QueueConfig{Bus: subscriber, Topic: topic, Routes: r.handler, Home: home, Replies: replies})
	if err != nil {
		t.Fatal(err)
	}
	run(t, q)
	return q
}

// What waits for a home that stays away expires when its time has come, unless the mirror tells that it was done.
func TestOutgoingCommandExpires(t *testing.T) {
	for how, state := range map[fault]string{refused: "expired", lostAfter: "done"} {
		w := newWorld(t, "a", "b")
		a, b := w.regions["a"], w.regions["b"]
		atA := a.erp().submit("k", plain)
		b.links["a"].set(how)
		b.clock = func() time.Time { return now.Add(time.Duration(b.links["a"].requests()) * time.Minute) }
		bus := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil)
		t.Cleanup(func() { _ = bus.Close() })
		q, err := commands.NewQueue(b.commands, commands.QueueConfig{Bus: bus, Topic: "order-commands-a", Routes: b.handler, Home: "a"})
		if err != nil {
			t.Fatal(err)
		}
		run(t, q)
		m := message("/v1/orders/"+atA+"/hold", "h", `{`+reason+`}`, "apply_until", now.Add(150*time.Second).Format(time.RFC3339))
		delete(m.Metadata, "reply_to")
		if err := bus.Publish("order-commands-a", m); err != nil {
			t.Fatal(err)
		}
		awaitAnswered(q, 1)
		r := b.look(commandOf(atA, "h"))
		if o := readOutcome(t, r.body); o.State != state || q.Status().Rejected != 0 {
			t.Errorf("%d %s, %+v", r.status, r.body, q.Status())
		}
		if n := b.links["a"].requests(); state == "expired" && n != 3 || state == "done" && n != 1 {
			t.Errorf("%s after %d requests", state, n)
		}
	}
}

// What is in the queue of a home comes there also while the mirror has not got so far, and goes elsewhere if the order's
// home is another one by now.
func TestOutgoingCommandsFindTheirHome(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b := w.regions["a"], w.regions["b"]
	b.mirrors["a"].cut(t)
	atA, atC, here := a.erp().submit("a", plain), w.regions["c"].erp().submit("c", plain), b.erp().submit("b", plain)
	c := newCourierBefore(t, b.server, nil) // brings the replies
	moved := make(chan *watermill.Message, 1)
	b.enqueue["c"] = func(m *watermill.Message) error { moved <- m; return nil }
	q, err := commands.NewQueue(b.commands, commands.QueueConfig{Bus: c.bus, Topic: "order-commands-a", Routes: b.handler, Home: "a", Replies: c.bus})
	if err != nil {
		t.Fatal(err)
	}
	run(t, q)
	for id, key := range map[string]string{atA: "behind", here: "own", atC: "moved"} {
		m := message("/v1/orders/"+id+"/hold", key, `{`+reason+`}`)
		if err := c.bus.Publish("order-commands-a", m); err != nil {
			t.Fatal(err)
		}
		if id == atC {
			if got := <-moved; got.UUID != m.UUID {
				t.Errorf("message %s was moved", got.UUID)
			}
			continue
		}
		r := <-c.replies
		r.Ack()
		if o := readOutcome(t, string(r.Payload)); o.State != "done" || o.Order != id {
			t.Errorf("%s: %s", key, r.Payload)
		}
	}
	if o := c.ask(message("/v1/orders/"+atA+"/close", "elsewhere", ``)); o.Code != "not_shipped" {
		t.Errorf("%+v", o)
	}
}

// A command that cannot be moved is held, and passed on by those who have no queue for the home.
func TestMovingCommands(t *testing.T) {
	w := newWorld(t, "a", "b")
	b := w.regions["b"]
	id := w.regions["a"].erp().submit("k", plain)
	c := newCourierBefore(t, b.server, nil)
	if o := c.ask(message("/v1/orders/"+id+"/hold", "passed", `{`+reason+`}`)); o.State != "done" {
		t.Errorf("passed on: %+v", o)
	}
	tries := 0
	moved := make(chan *watermill.Message, 1)
	b.enqueue["a"] = func(m *watermill.Message) error {
		if deadline, ok := m.Context().Deadline(); !ok || time.Until(deadline) > 5*time.Second {
			t.Errorf("the bus may take until %v", deadline)
		}
		if tries++; tries < 3 {
			return errors.New("the bus is down")
		}
		moved <- m
		return nil
	}
	m := message("/v1/orders/"+id+"/release", "moved", ``, "if_match", `"0-3"`)
	if err := c.bus.Publish("order-commands", m); err != nil {
		t.Fatal(err)
	}
	got := <-moved
	if d := cmp.Diff(m.Metadata, got.Metadata); d != "" || got.UUID != m.UUID || string(got.Payload) != string(m.Payload) {
		t.Errorf("it has become another message:\n%s", d)
	}
	// Here nothing is known of it: the queue that it has gone to says what becomes of it.
	if r := b.look(commandOf(id, "moved")); r.status != http.StatusNotFound || b.outcomes() != 1 {
		t.Errorf("%d %s, %d outcomes", r.status, r.body, b.outcomes())
	}
}
