package servicebus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// deliveryCount fails the test unless a message says that it is delivered for the n-th time.
func (f *fixture) deliveryCount(m *message.Message, n int) {
	f.Helper()
	if got := m.Metadata[servicebus.KeyDeliveryCount]; got != fmt.Sprint(n) {
		f.Errorf("delivery count %s, want %d", got, n)
	}
}

// eachKind runs a test with a queue without sessions and with one that has some. The subscriber's configuration is for
// one session.
func eachKind(t *testing.T, test func(*fixture, servicebus.SubscriberConfig)) {
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		test(newFixture(t, servicebustest.Queue{}), servicebus.SubscriberConfig{})
	})
	t.Run("session", func(t *testing.T) {
		t.Parallel()
		test(newFixture(t, servicebustest.Queue{RequiresSession: true}), servicebus.SubscriberConfig{Sessions: 1})
	})
}

func TestNackAbandons(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		_, messages := f.subscribe(c)
		f.publish("s", "1", "2")
		first := f.next(messages, "1")
		first.Nack()
		f.ended(first)
		again := f.next(messages, "1")
		f.deliveryCount(again, 2)
		again.Ack()
		second := f.next(messages, "2")
		f.deliveryCount(second, 1)
		second.Ack()
		f.awaitEmpty()
	})
}

func TestDeadLetterOnNack(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		_, messages := f.subscribe(c)
		f.publish("s", "1", "2")
		bad := f.next(messages, "1")
		servicebus.DeadLetterOnNack(bad, "Unreadable", long(5000))
		bad.Nack()
		f.next(messages, "2").Ack()
		f.awaitEmpty()

		_, dead := f.subscribe(servicebus.SubscriberConfig{DeadLetters: true})
		got := f.next(dead, "1")
		if got.Metadata[servicebus.KeyDeadLetterReason] != "Unreadable" || got.Metadata[servicebus.KeyDeadLetterDescription] != long(4096) {
			f.Errorf("got %v", got.Metadata)
		}
		if _, ok := got.Metadata["DeadLetterReason"]; ok {
			f.Errorf("the reason is there twice: %v", got.Metadata)
		}
		got.Ack()
		f.await("the dead-letter queue is empty", func(c servicebustest.Counts) bool { return c.DeadLettered == 0 })
	})
}

func TestReleaseOnNack(t *testing.T) {
	t.Parallel()
	const pause = 200 * time.Millisecond
	for name, test := range map[string]struct {
		sessions, count int // the count of the second delivery
	}{
		"plain":   {0, 2},
		"session": {1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, servicebustest.Queue{RequiresSession: test.sessions > 0})
			_, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: test.sessions, ReleasePause: pause})
			f.publish("s", "1", "2")
			m := f.next(messages, "1")
			servicebus.ReleaseOnNack(m)
			m.Nack()
			released := time.Now()
			f.ended(m)
			again := f.next(messages, "1")
			if waited := time.Since(released); waited < pause*9/10 {
				f.Errorf("came again after %v", waited)
			}
			f.deliveryCount(again, test.count)
			again.Ack()
			f.next(messages, "2").Ack()
			f.awaitEmpty()
		})
	}
}

func TestCloseDoesNotWaitForAPause(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		c.ReleasePause = time.Hour
		s, messages := f.subscribe(c)
		f.publish("s", "1")
		m := f.next(messages, "1")
		servicebus.ReleaseOnNack(m)
		m.Nack()
		f.ended(m)
		f.succeed(s.Close())
		f.await("the message is given back", func(c servicebustest.Counts) bool { return c.Locked == 0 && c.Active == 1 })
	})
}

func TestLocksAreRenewed(t *testing.T) {
	t.Parallel()
	const lock = time.Second
	for name, sessions := range map[string]int{"plain": 0, "session": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, servicebustest.Queue{RequiresSession: sessions > 0, LockDuration: lock})
			_, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: sessions})
			f.publish("s", "1")
			m := f.next(messages, "1")
			select {
			case <-m.Context().Done():
				t.Error("the lock was lost")
			case again := <-messages:
				t.Errorf("%q came again", again.Payload)
			case <-time.After(5 * lock / 2):
			}
			f.deliveryCount(m, 1)
			m.Ack()
			f.awaitEmpty()
		})
	}
}

// A bus that restarts has forgotten the locks, which is noticed when they are to be renewed.
func TestLostLockEndsTheContext(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		c.RenewEvery = 50 * time.Millisecond
		_, messages := f.subscribe(c)
		f.publish("s", "1")
		m := f.next(messages, "1")
		f.bus.Restart(f.Context(), 0)
		f.ended(m)
		again := f.next(messages, "1")
		m.Ack() // counts for nothing
		if again.Context().Err() != nil {
			f.Error("the second delivery has no time")
		}
		again.Ack()
		f.awaitEmpty()
	})
}

func TestAckAfterALostLockFails(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		c.RenewEvery = 50 * time.Millisecond // seems to succeed
		_, messages := f.subscribe(c)
		f.publish("s", "1")
		m := f.next(messages, "1")
		if n, err := f.bus.LoseLocks("orders"); err != nil || n == 0 {
			f.Fatalf("lost %d, %v", n, err)
		}
		m.Ack()
		f.next(messages, "1").Ack()
		f.awaitEmpty()
	})
}

func TestLogNamesMessagesAndQuotesNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	log := new(bytes.Buffer)
	s, messages := f.subscribe(servicebus.SubscriberConfig{Log: slog.New(slog.NewTextHandler(log, nil))})
	f.succeed(f.publisher.Publish("orders", message.NewMessage("the id", []byte("personal data"))))
	m := f.next(messages, "personal data")
	if _, err := f.bus.LoseLocks("orders"); err != nil {
		t.Fatal(err)
	}
	m.Ack()
	bad := f.next(messages, "personal data")
	servicebus.DeadLetterOnNack(bad, "Unreadable", "no number")
	bad.Nack()
	f.awaitEmpty()
	f.succeed(s.Close()) // after which nobody writes to the log
	for _, want := range []string{"topic=orders", `message_id="the id"`, "how=complete", "reason=Unreadable"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is missing in %s", want, log)
		}
	}
	if strings.Contains(log.String(), "personal") {
		t.Errorf("%s quotes a message", log)
	}
}

// A lock without session belongs to nobody's connection.
func TestAckAfterALostConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	_, messages := f.subscribe(servicebus.SubscriberConfig{})
	f.publish("", "1", "2")
	m := f.next(messages, "1")
	f.bus.DropConnections()
	m.Ack()
	f.next(messages, "2").Ack()
	f.awaitEmpty()
}

func TestSessionIsLostWithItsConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{RequiresSession: true})
	_, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: 1, MaxInFlight: 2})
	f.publish("s", "1")
	m := f.next(messages, "1")
	f.bus.DropConnections()
	f.ended(m) // at once, as the session was waiting for a second message
	again := f.next(messages, "1")
	f.deliveryCount(again, 1)
	again.Ack()
	f.awaitEmpty()
}

func TestSessionIsTakenOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{RequiresSession: true})
	s, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: 1})
	f.publish("s", "1", "2")
	m := f.next(messages, "1")
	_, others := f.subscribe(servicebus.SubscriberConfig{Sessions: 1})
	f.succeed(s.Close())
	f.ended(m)
	if _, open := <-messages; open {
		t.Error("the channel is open after Close")
	}
	taken := f.next(others, "1")
	f.deliveryCount(taken, 1)
	taken.Ack()
	f.next(others, "2").Ack()
}

func TestSessionIsTakenOverWhenDetached(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{RequiresSession: true})
	_, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: 1, MaxInFlight: 2})
	f.publish("s", "1")
	m := f.next(messages, "1")
	f.bus.DetachLinks("orders", &servicebustest.Error{Condition: servicebustest.SessionLockLost})
	f.ended(m)
	f.next(messages, "1").Ack()
	f.awaitEmpty()
}

// With a message in flight and none to wait for, nobody listens when the session is lost. It is noticed when the session
// comes again.
func TestSessionThatComesAgainEndsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{RequiresSession: true})
	_, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: 2})
	f.publish("s", "1")
	m := f.next(messages, "1")
	f.bus.DetachLinks("orders", &servicebustest.Error{Condition: servicebustest.DetachForced})
	again := f.next(messages, "1")
	if m.Context().Err() == nil {
		t.Error("the message is in flight twice")
	}
	m.Ack() // counts for nothing
	again.Nack()
	again = f.next(messages, "1")
	f.deliveryCount(again, 2)
	again.Ack()
	f.awaitEmpty()
}

func TestIdleSessionMakesRoom(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{RequiresSession: true})
	_, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: 1, MaxInFlight: 3, SessionIdle: 50 * time.Millisecond})
	f.publish("a", "1")
	held := f.next(messages, "1")
	f.publish("b", "2")
	select {
	case m := <-messages:
		t.Errorf("got %q although the session is in use", m.Payload)
	case <-time.After(200 * time.Millisecond):
	}
	held.Ack()
	f.next(messages, "2").Ack()
}

func TestEmptySessionID(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{RequiresSession: true})
	_, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: 1})
	m := newMessage("", "1")
	m.Metadata.Set(servicebus.KeySessionID, "")
	f.succeed(f.publisher.Publish("orders", m))
	got := f.next(messages, "1")
	if id, ok := got.Metadata[servicebus.KeySessionID]; !ok || id != "" {
		t.Errorf("got session %q, %v", id, ok)
	}
}

func TestSeveralInFlightComeInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{RequiresSession: true})
	_, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: 1, MaxInFlight: 3})
	f.publish("s", "1", "2", "3", "4", "5")
	first, second, third := f.next(messages, "1"), f.next(messages, "2"), f.next(messages, "3")
	select {
	case m := <-messages:
		t.Fatalf("%q is one too many", m.Payload)
	case <-time.After(100 * time.Millisecond):
	}
	third.Ack()
	f.await("one is gone", func(c servicebustest.Counts) bool { return c.Active == 4 })
	fourth := f.next(messages, "4")
	first.Nack()
	for _, m := range []*message.Message{first, second, fourth} {
		f.ended(m)
	}
	first, second, fourth = f.next(messages, "1"), f.next(messages, "2"), f.next(messages, "4")
	f.deliveryCount(first, 2)
	f.deliveryCount(second, 1) // it was not to blame
	f.deliveryCount(fourth, 1)
	servicebus.DeadLetterOnNack(second, "Unreadable", "")
	second.Nack() // disturbs nobody
	fifth := f.next(messages, "5")
	for _, m := range []*message.Message{fifth, fourth, first} {
		if m.Context().Err() != nil {
			t.Errorf("%q was given up", m.Payload)
		}
		m.Ack()
	}
	f.await("all are settled", func(c servicebustest.Counts) bool { return c.Active == 0 && c.DeadLettered == 1 })
}

func TestSeveralInFlightWithoutSessions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	s, messages := f.subscribe(servicebus.SubscriberConfig{MaxInFlight: 3})
	f.publish("", "1", "2", "3", "4")
	first, second, third := f.next(messages, "1"), f.next(messages, "2"), f.next(messages, "3")
	second.Ack()
	fourth := f.next(messages, "4")
	first.Nack()
	f.ended(first)
	first = f.next(messages, "1")
	f.deliveryCount(first, 2)
	if third.Context().Err() != nil || fourth.Context().Err() != nil {
		t.Error("Nack has ended others")
	}
	f.succeed(s.Close())
	for _, m := range []*message.Message{first, third, fourth} {
		f.ended(m)
	}
	f.await("all are given back", func(c servicebustest.Counts) bool { return c.Active == 3 && c.Locked == 0 })
}

func TestSubscriptionOutlastsAnOutage(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		_, messages := f.subscribe(c)
		f.publish("s", "1", "2")
		f.next(messages, "1").Ack()
		m := f.next(messages, "2")
		f.await("the first is gone", func(c servicebustest.Counts) bool { return c.Active == 1 })
		f.bus.Restart(f.Context(), 500*time.Millisecond)
		m.Nack()
		f.next(messages, "2").Ack()
		f.awaitEmpty()
	})
}

// However many sessions are lost in an outage, and however often they are asked for, the log has two lines.
func TestAnOutageIsTwoLinesInTheLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{RequiresSession: true})
	log := new(bytes.Buffer)
	const sessions = 64
	s, messages := f.subscribe(servicebus.SubscriberConfig{
		Sessions: sessions, MaxInFlight: 2, MaxPause: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	for i := range sessions {
		f.publish(fmt.Sprint(i), "1", "2")
	}
	var held []*message.Message
	for range 2 * sessions {
		held = append(held, <-messages)
	}
	f.bus.Restart(f.Context(), time.Second)
	for _, m := range held {
		m.Ack() // too late
	}
	for range 2 * sessions {
		(<-messages).Ack()
	}
	f.awaitEmpty()
	f.succeed(s.Close()) // after which nobody writes to the log
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `level=WARN msg="failed, trying again"`) || !strings.Contains(lines[1], `level=INFO msg="goes on after an outage"`) {
		t.Errorf("the log is\n%s", log)
	}
}

func TestSubscriptionOutlastsAMissingQueue(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		f.succeed(f.bus.Delete("orders"))
		_, messages := f.subscribe(c)
		select {
		case <-messages:
			f.Fatal("got something from nowhere")
		case <-time.After(100 * time.Millisecond):
		}
		f.succeed(f.bus.CreateQueue("orders", servicebustest.Queue{RequiresSession: c.Sessions > 0}))
		f.publish("s", "1")
		f.next(messages, "1").Ack()
	})
}

func TestSubscribeUntilTheContextIsDone(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		s, others := f.subscribe(c)
		ctx, cancel := context.WithCancel(f.Context())
		cancel()
		messages, err := s.Subscribe(ctx, "orders")
		f.succeed(err)
		for range messages {
			f.Error("got a message after the context was done")
		}
		f.publish("s", "1")
		f.next(others, "1").Ack()
	})
}

func TestClosedSubscriber(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	s, messages := f.subscribe(servicebus.SubscriberConfig{})
	f.succeed(s.Close())
	f.succeed(s.Close())
	if _, open := <-messages; open {
		t.Error("the channel is open after Close")
	}
	if _, err := s.Subscribe(t.Context(), "orders"); !errors.Is(err, servicebus.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestAckJustBeforeCloseCounts(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		texts := numbers(10)
		f.publish("s", texts...)
		for _, text := range texts { // each comes once
			s, messages := f.subscribe(c)
			f.next(messages, text).Ack()
			f.succeed(s.Close())
		}
		f.awaitEmpty()
	})
}

func TestCloseWhileTheBusIsDown(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		s, messages := f.subscribe(c)
		f.publish("s", "1")
		m := f.next(messages, "1")
		f.bus.Stop()
		f.succeed(s.Close())
		f.ended(m)
	})
}

func TestSubscribeInitialize(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	plain := newSubscriber(t, servicebus.SubscriberConfig{Connection: f.connection})
	f.succeed(plain.SubscribeInitialize("anything"))
	fails := errors.New("no rights")
	s := newSubscriber(t, servicebus.SubscriberConfig{
		Connection:   f.connection,
		Subscription: "eu",
		Initialize: func(_ context.Context, topic, subscription string) error {
			if topic != "t" || subscription != "eu" {
				t.Errorf("got %s, %s", topic, subscription)
			}
			return fails
		},
	})
	if err := s.SubscribeInitialize("t"); !errors.Is(err, fails) {
		t.Errorf("got %v", err)
	}
}

func TestSubscriberConfigIsChecked(t *testing.T) {
	t.Parallel()
	connection := servicebus.Connection{Namespace: "nowhere.invalid"}
	for _, c := range []servicebus.SubscriberConfig{
		{Connection: connection, Sessions: -1},
		{Connection: connection, MaxInFlight: -1},
		{Connection: connection, MaxInFlight: 5001},
		{Connection: connection, RenewEvery: -1},
		{Connection: connection, Sessions: 1, DeadLetters: true},
	} {
		if _, err := servicebus.NewSubscriber(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestUnreadableMessageIsDeadLettered(t *testing.T) {
	t.Parallel()
	eachKind(t, func(f *fixture, c servicebus.SubscriberConfig) {
		c.Unmarshal = func(r *azservicebus.ReceivedMessage) (*message.Message, error) {
			if string(r.Body) == "1" {
				return nil, errors.New("one is no number")
			}
			return servicebus.Unmarshal(r)
		}
		_, messages := f.subscribe(c)
		f.publish("s", "1", "2")
		f.next(messages, "2").Ack()
		f.awaitEmpty()
		dead, err := f.bus.Messages(servicebustest.DeadLetterPath("orders"))
		f.succeed(err)
		if len(dead) != 1 || string(dead[0].Body) != "1" {
			f.Errorf("got %+v", dead)
		}
	})
}
