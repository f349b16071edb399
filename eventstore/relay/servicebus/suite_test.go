package servicebus_test

import (
	"context"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// A mode is a way to use the bus.
type mode struct {
	sessions bool
	topics   bool
	delay    time.Duration // before what is published appears
}

// Watermill's own suite for every pub/sub, against each mode. What is not claimed:
//
//   - ExactlyOnceDelivery: Service Bus delivers at least once.
//   - GuaranteedOrder of a queue: several subscribers share it, and what one has abandoned the other gets.
//   - GuaranteedOrderWithSingleSubscriber is not an ability but a limit; that of topics without sessions.
//   - ConsumerGroups of a queue: there is one queue and who receives from it; groups are subscriptions of a topic.
//   - NewSubscriberReceivesOldMessages: what is acknowledged is gone, and a new subscription begins empty.
//   - ContextPreserved: a context does not travel.
//   - RequireSingleInstance: everything works with many.
func TestQueue(t *testing.T) {
	runSuite(t, mode{}, tests.Features{Persistent: true})
}

func TestTopic(t *testing.T) {
	runSuite(t, mode{topics: true}, tests.Features{
		ConsumerGroups: true, GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true, Persistent: true,
	})
}

func TestSessions(t *testing.T) {
	runSuite(t, mode{topics: true, sessions: true}, tests.Features{
		ConsumerGroups: true, GuaranteedOrder: true, Persistent: true,
	})
}

func runSuite(t *testing.T, m mode, features tests.Features) {
	t.Parallel()
	bus := servicebustest.New(t, &servicebustest.Config{ControlAddr: "127.0.0.1:0"})
	features.ForceShort = setting("-race") == "true" && os.Getenv("ORDERLEDGER_FULL") == ""
	connect := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return m.connect(t, bus, group)
	}
	any := func(t *testing.T) (message.Publisher, message.Subscriber) { return connect(t, "any") }
	if strings.Contains(setting("-tags"), "stress") {
		tests.TestPubSubStressTest(t, features, any, connect)
	} else {
		tests.TestPubSub(t, features, any, connect)
	}
	t.Run("Reconnect", func(t *testing.T) {
		// The suite notes what it has published after Publish has returned, and compares that with what has arrived. Here
		// a message may arrive earlier; so that the comparison is fair it is scheduled for a little later.
		features.RestartServiceCommand = []string{"curl", "-fsS", "-X", "POST", bus.ControlURL() + "/restart"}
		late := m
		late.delay = time.Second
		tests.TestReconnect(t, tests.TestContext{TestID: tests.NewTestID(), Features: features},
			func(t *testing.T) (message.Publisher, message.Subscriber) { return late.connect(t, bus, "any") })
	})
}

// setting returns with what a flag this test was built.
func setting(flag string) string {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == flag {
			return s.Value
		}
	}
	return ""
}

// connect returns a publisher and a subscriber. With sessions messages of equal payload are of one session, for that is
// the order that the suite expects.
func (m mode) connect(t *testing.T, bus *servicebustest.Server, group string) (message.Publisher, message.Subscriber) {
	t.Helper()
	connection := servicebus.Connection{ConnectionString: bus.ConnectionString()}
	publisher := newPublisher(t, servicebus.PublisherConfig{
		Connection: connection,
		Marshal: func(topic string, w *message.Message) (*azservicebus.Message, error) {
			out, err := servicebus.Marshal(topic, w)
			if err == nil && m.sessions {
				session := string(w.Payload)
				out.SessionID = &session
			}
			if err == nil && m.delay > 0 {
				at := time.Now().Add(m.delay)
				out.ScheduledEnqueueTime = &at
			}
			return out, err
		},
	})
	config := servicebus.SubscriberConfig{
		Connection: connection,
		// The suite refuses a message hundreds of times.
		Initialize: func(_ context.Context, topic, subscription string) error {
			queue := servicebustest.Queue{RequiresSession: m.sessions, MaxDeliveryCount: 2000, LockDuration: 5 * time.Second}
			if !m.topics {
				return ignoreExisting(bus.CreateQueue(topic, queue))
			}
			if err := ignoreExisting(bus.CreateTopic(topic, servicebustest.Topic{})); err != nil {
				return err
			}
			return ignoreExisting(bus.CreateSubscription(topic, subscription, servicebustest.Subscription{
				RequiresSession: queue.RequiresSession, MaxDeliveryCount: queue.MaxDeliveryCount, LockDuration: queue.LockDuration,
			}))
		},
		SessionIdle: 50 * time.Millisecond, // one of its tests has 100 sessions with a message each
		MaxPause:    time.Second,
	}
	if m.topics {
		config.Subscription = group
	}
	if m.sessions {
		config.Sessions = 16
	}
	return publisher, newSubscriber(t, config)
}
