package servicebus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

func TestMain(m *testing.M) {
	// Watermill's suite leaves behind a goroutine that notes what is published.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/pubsub/tests.TestReconnect.func2"))
}

// patience is how long to wait for what happens at once unless something is broken.
const patience = 30 * time.Second

// A fixture is a bus with the queue "orders" and a publisher.
type fixture struct {
	*testing.T
	bus        *servicebustest.Server
	connection servicebus.Connection
	publisher  *servicebus.Publisher
}

func newFixture(t *testing.T, q servicebustest.Queue) *fixture {
	t.Helper()
	return newFixtureAt(t, q, nil)
}

func newFixtureAt(t *testing.T, q servicebustest.Queue, config *servicebustest.Config) *fixture {
	t.Helper()
	bus := servicebustest.New(t, config)
	if err := bus.CreateQueue("orders", q); err != nil {
		t.Fatal(err)
	}
	connection := servicebus.Connection{ConnectionString: bus.ConnectionString()}
	publisher := newPublisher(t, servicebus.PublisherConfig{Connection: connection})
	return &fixture{T: t, bus: bus, connection: connection, publisher: publisher}
}

// publish sends messages of one session whose payloads and ids are the given texts.
func (f *fixture) publish(session string, texts ...string) {
	f.Helper()
	messages := make([]*message.Message, len(texts))
	for i, text := range texts {
		messages[i] = newMessage(session, text)
	}
	f.succeed(f.publisher.Publish("orders", messages...))
}

// subscribe receives from the queue. The connection of the configuration is set.
func (f *fixture) subscribe(c servicebus.SubscriberConfig) (*servicebus.Subscriber, <-chan *message.Message) {
	f.Helper()
	c.Connection = f.connection
	if c.MaxPause == 0 {
		c.MaxPause = 100 * time.Millisecond
	}
	s := newSubscriber(f.T, c)
	messages, err := s.Subscribe(f.Context(), "orders")
	f.succeed(err)
	return s, messages
}

// next returns the next message, which must be the one with this payload.
func (f *fixture) next(messages <-chan *message.Message, want string) *message.Message {
	f.Helper()
	select {
	case m, ok := <-messages:
		if !ok {
			f.Fatalf("the channel was closed instead of bringing %q", want)
		}
		if got := string(m.Payload); got != want {
			f.Fatalf("got %q, want %q", got, want)
		}
		return m
	case <-time.After(patience):
		f.Fatalf("%q has not come", want)
		return nil
	}
}

// ended waits for the end of a message's context.
func (f *fixture) ended(m *message.Message) {
	f.Helper()
	select {
	case <-m.Context().Done():
	case <-time.After(patience):
		f.Fatalf("the context of %q has not ended", m.Payload)
	}
}

// await waits until the counts of the queue are as wanted.
func (f *fixture) await(what string, ok func(servicebustest.Counts) bool) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	if err := f.bus.Await(ctx, "orders", ok); err != nil {
		counts, _ := f.bus.Counts("orders")
		f.Fatalf("waiting until %s: %v, %+v", what, err, counts)
	}
}

func (f *fixture) awaitEmpty() {
	f.Helper()
	f.await("the queue is empty", func(c servicebustest.Counts) bool { return c.Active == 0 })
}

func (f *fixture) succeed(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// client returns a client of the SDK, for what the package does not do.
func (f *fixture) client() *azservicebus.Client {
	f.Helper()
	client, err := f.connection.Client()
	f.succeed(err)
	f.Cleanup(func() { _ = client.Close(context.Background()) })
	return client
}

func newMessage(session, text string) *message.Message {
	m := message.NewMessage(text, []byte(text))
	if session != "" {
		m.Metadata.Set(servicebus.KeySessionID, session)
	}
	return m
}

// numbers returns n texts, in their order.
func numbers(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf("%04d", i)
	}
	return texts
}

func newPublisher(t *testing.T, c servicebus.PublisherConfig) *servicebus.Publisher {
	t.Helper()
	p, err := servicebus.NewPublisher(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newSubscriber(t *testing.T, c servicebus.SubscriberConfig) *servicebus.Subscriber {
	t.Helper()
	s, err := servicebus.NewSubscriber(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func ignoreExisting(err error) error {
	if e := (*servicebustest.Error)(nil); errors.As(err, &e) && e.Condition == servicebustest.EntityAlreadyExists {
		return nil
	}
	return err
}

func long(n int) string { return strings.Repeat("x", n) }
