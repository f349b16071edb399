package commands_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// patience is how long to wait for what happens soon unless something is broken.
const patience = 60 * time.Second

// TestQueueOverServiceBus sends commands over a bus that doubles messages, loses locks and connections, and is away for
// a while. Two processes carry them out. Every command is done once, and everybody is told.
func TestQueueOverServiceBus(t *testing.T) {
	const orders = 40
	bus := servicebustest.New(t, nil)
	for name, q := range map[string]servicebustest.Queue{
		"order-commands": {RequiresSession: true, MaxDeliveryCount: 2000, LockDuration: 2 * time.Second}, "replies": {},
	} {
		if err := bus.CreateQueue(name, q); err != nil {
			t.Fatal(err)
		}
	}
	connection := servicebus.Connection{ConnectionString: bus.ConnectionString()}
	publisher, err := servicebus.NewPublisher(servicebus.PublisherConfig{Connection: connection})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = publisher.Close() })
	if err := bus.SetFaults("order-commands", servicebustest.Faults{LoseLock: 0.3, Duplicate: 0.3, Seed: 1}); err != nil {
		t.Fatal(err)
	}

	store, keys := openLedger(t), openKeys(t)
	s := serve(t, store, keys, nil)
	for range 2 {
		startQueue(t, s, connection, publisher)
	}
	replies := collectReplies(t, connection)

	want := map[string]string{} // command: code
	send := func(order uuid.UUID, path, key, body, code string) {
		t.Helper()
		m := message(path, key, body)
		m.Metadata.Set(servicebus.KeySessionID, fmt.Sprintf("%02x", eventstore.Lane(domain.Stream(order), eventstore.DefaultLanes)))
		if err := publish(t.Context(), publisher, m); err != nil {
			t.Fatal(err)
		}
		if code != "unreadable" {
			want[domain.CommandID(order, "erp", key).String()] = code
		}
	}
	for i := range orders {
		key := fmt.Sprint(i)
		order := domain.OrderID("main", "erp", key)
		path := "/v1/orders/" + order.String()
		send(order, "/v1/orders", key, plain, "")
		send(order, path+"/hold", "hold", `{`+reason+`}`, "")
		send(order, path+"/release", "no key", ``, "unreadable")
		send(order, path+"/release", "other", `{"hold":"h9"}`, "unknown_hold")
		send(order, path+"/release", "release", ``, "")
		send(order, path+"/fulfilments/f1/ship", "ship", `{}`, "")
		switch i {
		case orders / 3:
			bus.DropConnections()
		case orders / 2:
			bus.Restart(t.Context(), 300*time.Millisecond)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := bus.Await(ctx, "order-commands", func(c servicebustest.Counts) bool { return c.Active == 0 }); err != nil {
		t.Fatal(err)
	}
	dead, err := bus.Messages(servicebustest.DeadLetterPath("order-commands"))
	if err != nil || len(dead) < orders {
		t.Errorf("%d dead letters, %v", len(dead), err)
	}
	for _, m := range dead {
		if reason := m.ApplicationProperties["DeadLetterReason"]; reason != "unreadable" {
			t.Errorf("a dead letter because of %q", reason)
		}
	}
	for i := range orders {
		checkOrder(t, store, domain.OrderID("main", "erp", fmt.Sprint(i)))
	}
	if got := s.outcomes(); got != len(want) {
		t.Errorf("%d outcomes of %d commands", got, len(want))
	}
	replies.check(ctx, t, want)
	for id, code := range want {
		if o := readOutcome(t, s.look(id).body); o.Code != code {
			t.Errorf("command %s has the code %q, want %q", id, o.Code, code)
		}
	}
}

// publish sends a message until the bus has taken it.
func publish(ctx context.Context, p watermill.Publisher, m *watermill.Message) error {
	m.SetContext(ctx)
	for {
		err := p.Publish("order-commands", m)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// startQueue starts a process that carries out commands.
func startQueue(t *testing.T, s *server, connection servicebus.Connection, replies watermill.Publisher) {
	t.Helper()
	subscriber, err := servicebus.NewSubscriber(servicebus.SubscriberConfig{
		Connection: connection, Sessions: eventstore.DefaultLanes, SessionIdle: 200 * time.Millisecond, MaxPause: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = subscriber.Close() })
	q, err := commands.NewQueue(s.commands, commands.QueueConfig{
		Bus: subscriber, Topic: "order-commands", Routes: s.handler, Replies: replies,
		Reject: func(_ context.Context, m *watermill.Message, reason error) error {
			servicebus.DeadLetterOnNack(m, "unreadable", reason.Error())
			m.Nack()
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, q)
}

// checkOrder tests that each command on an order was done once, in order.
func checkOrder(t *testing.T, store eventstore.Reader, order uuid.UUID) {
	t.Helper()
	var types []string
	for r, err := range store.ReadStream(t.Context(), domain.Stream(order), 0, eventstore.Forward) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, r.Type)
	}
	want := "[order.submitted.v1 order.accepted.v1 order.routed.v1 order.held.v1 order.released.v1 order.shipped.v1]"
	if got := fmt.Sprint(types); got != want {
		t.Errorf("order %s has %s", order, got)
	}
}

// told are the replies that have come.
type told struct {
	mu    sync.Mutex // protects the field below
	codes map[string]string
	more  chan struct{}
}

// collectReplies keeps what senders are told, and complains about one who is told different things.
func collectReplies(t *testing.T, connection servicebus.Connection) *told {
	t.Helper()
	subscriber, err := servicebus.NewSubscriber(servicebus.SubscriberConfig{Connection: connection, MaxInFlight: 100, MaxPause: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	replies, err := subscriber.Subscribe(t.Context(), "replies")
	if err != nil {
		t.Fatal(err)
	}
	all := &told{codes: map[string]string{}, more: make(chan struct{}, 1)}
	var collecting sync.WaitGroup
	collecting.Go(func() {
		for m := range replies {
			o := readOutcome(t, string(m.Payload))
			m.Ack()
			all.mu.Lock()
			if code, ok := all.codes[o.Command]; ok && code != o.Code {
				t.Errorf("command %s was told %q, then %q", o.Command, code, o.Code)
			}
			all.codes[o.Command] = o.Code
			all.mu.Unlock()
			select {
			case all.more <- struct{}{}:
			default:
			}
		}
	})
	t.Cleanup(func() {
		_ = subscriber.Close()
		collecting.Wait()
	})
	return all
}

// check waits until everybody was told what they should be.
func (r *told) check(ctx context.Context, t *testing.T, want map[string]string) {
	t.Helper()
	for {
		r.mu.Lock()
		n := len(r.codes)
		r.mu.Unlock()
		if n >= len(want) {
			break
		}
		select {
		case <-r.more:
		case <-ctx.Done():
			t.Fatalf("%d of %d replies have come", n, len(want))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, code := range want {
		if got, ok := r.codes[id]; !ok || got != code {
			t.Errorf("command %s was told %q, %v, want %q", id, got, ok, code)
		}
	}
}
