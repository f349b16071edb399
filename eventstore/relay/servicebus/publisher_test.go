package servicebus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

func TestPublishSplitsWhatIsTooLargeForABatch(t *testing.T) {
	t.Parallel()
	f := newFixtureAt(t, servicebustest.Queue{RequiresSession: true}, &servicebustest.Config{MaxMessageSize: 8 << 10})
	large := make([]*message.Message, 100)
	for i, text := range numbers(100) {
		large[i] = newMessage("s", text)
		large[i].Payload = append(large[i].Payload, long(1<<10)...)
	}
	f.succeed(f.publisher.Publish("orders", large...))
	_, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: 1})
	for _, m := range large {
		f.next(messages, string(m.Payload)).Ack()
	}
	f.awaitEmpty()
}

func TestPublishOfATooLargeMessageNamesIt(t *testing.T) {
	t.Parallel()
	f := newFixtureAt(t, servicebustest.Queue{}, &servicebustest.Config{MaxMessageSize: 8 << 10})
	large := message.NewMessage("large", []byte(long(9<<10)))
	err := f.publisher.Publish("orders", newMessage("", "before"), large, newMessage("", "after"))
	var tooLarge *servicebus.TooLargeError
	if !errors.As(err, &tooLarge) || tooLarge.MessageID != "large" || tooLarge.Size != 9<<10 {
		t.Errorf("got %v", err)
	}
	if !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Errorf("%v is not the SDK's error", err)
	}
	if err == nil || !strings.Contains(err.Error(), "message large is too large with 9216 bytes") {
		t.Errorf("got %v", err)
	}
	_, messages := f.subscribe(servicebus.SubscriberConfig{})
	f.next(messages, "before").Ack()
	f.awaitEmpty()
}

func TestPublishWithoutMessagesDoesNothing(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, servicebus.PublisherConfig{Connection: servicebus.Connection{Namespace: "nowhere.invalid"}})
	if err := p.Publish("orders"); err != nil {
		t.Error(err)
	}
}

func TestPublishFailsWhileTheBusIsDown(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	f.publish("", "1")
	f.bus.Stop()
	if err := f.publisher.Publish("orders", newMessage("", "lost")); err == nil {
		t.Error("published to a bus that is down")
	}
	f.bus.Resume()
	f.publish("", "2")
	_, messages := f.subscribe(servicebus.SubscriberConfig{})
	f.next(messages, "1").Ack()
	f.next(messages, "2").Ack()
}

func TestPublishOutlastsALostConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	f.publish("", "1")
	f.bus.DropConnections()
	f.publish("", "2")
}

func TestPublishGivesUpWithTheContextOfTheMessage(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	m := newMessage("", "late")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.SetContext(ctx)
	if err := f.publisher.Publish("orders", m); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPublishGivesUpAfterItsTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	f.succeed(f.bus.SetFaults("orders", servicebustest.Faults{Busy: 1}))
	p := newPublisher(t, servicebus.PublisherConfig{
		Connection: servicebus.Connection{
			ConnectionString: f.bus.ConnectionString(),
			Options: &azservicebus.ClientOptions{
				RetryOptions: azservicebus.RetryOptions{MaxRetries: 1000, RetryDelay: time.Millisecond, MaxRetryDelay: time.Millisecond},
			},
		},
		Timeout: 100 * time.Millisecond,
	})
	if err := p.Publish("orders", newMessage("", "1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestPublishToNowhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	err := f.publisher.Publish("nowhere", newMessage("", "1"))
	if err == nil || !strings.Contains(err.Error(), "publishing to nowhere") {
		t.Errorf("got %v", err)
	}
	f.succeed(f.bus.CreateQueue("nowhere", servicebustest.Queue{}))
	f.succeed(f.publisher.Publish("nowhere", newMessage("", "1")))
}

func TestClosedPublisher(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	f.publish("", "1")
	f.succeed(f.publisher.Close())
	f.succeed(f.publisher.Close())
	if err := f.publisher.Publish("orders", newMessage("", "2")); !errors.Is(err, servicebus.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestPublisherCloseWaitsForPublish(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	marshalling, proceed := make(chan struct{}), make(chan struct{})
	p := newPublisher(t, servicebus.PublisherConfig{
		Connection: f.connection,
		Marshal: func(topic string, m *message.Message) (*azservicebus.Message, error) {
			close(marshalling)
			<-proceed
			return servicebus.Marshal(topic, m)
		},
	})
	published := make(chan error, 1)
	go func() { published <- p.Publish("orders", newMessage("", "1")) }()
	<-marshalling
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	select {
	case err := <-closed:
		t.Fatalf("Close has not waited: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(proceed)
	f.succeed(<-published)
	f.succeed(<-closed)
}

// refuser is a credential that nobody has.
type refuser struct{}

func (refuser) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, fmt.Errorf("no token for you")
}

func TestConnection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]servicebus.Connection{
		"nothing": {},
		"both":    {ConnectionString: "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=secret", Namespace: "x"},
		"garbage": {ConnectionString: "Endpoint=sb://x/;SharedAccessKey=secret;SharedAccessKey"},
	} {
		_, err := servicebus.NewPublisher(servicebus.PublisherConfig{Connection: c})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := servicebus.NewSubscriber(servicebus.SubscriberConfig{Connection: c}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	p := newPublisher(t, servicebus.PublisherConfig{
		Connection: servicebus.Connection{Namespace: "127.0.0.1:1", Credential: refuser{}},
		Timeout:    time.Second,
	})
	if err := p.Publish("orders", newMessage("", "1")); err == nil {
		t.Error("published with neither bus nor credential")
	}
}
