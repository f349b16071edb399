package servicebustest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

func newTimed(t *testing.T, q servicebustest.Queue) (*servicebustest.FakeClock, *servicebustest.Server, *azservicebus.Client) {
	t.Helper()
	clock := servicebustest.NewFakeClock(time.Now().Truncate(time.Millisecond))
	bus, client := newQueueAt(t, q, &servicebustest.Config{Clock: clock})
	return clock, bus, client
}

func lockLost(err error) bool {
	var sdk *azservicebus.Error
	return errors.As(err, &sdk) && sdk.Code == azservicebus.CodeLockLost
}

func TestLockLapses(t *testing.T) {
	clock, bus, client := newTimed(t, servicebustest.Queue{LockDuration: 30 * time.Second})
	send(t, newSender(t, client), "1")
	receiver := newReceiver(t, client, nil)
	message := receive(t, receiver, 1)[0]
	expect(t, "locked until", message.LockedUntil.UTC(), clock.Now().Add(30*time.Second).UTC())
	clock.Advance(20 * time.Second)
	succeed(t, receiver.RenewMessageLock(bounded(t), message, nil))
	expect(t, "locked until", message.LockedUntil.UTC(), clock.Now().Add(30*time.Second).UTC())
	clock.Advance(20 * time.Second)
	expect(t, "locked", counts(t, bus, "orders").Locked, 1)
	clock.Advance(10 * time.Second)
	expect(t, "locked", counts(t, bus, "orders").Locked, 0)
	if err := receiver.RenewMessageLock(bounded(t), message, nil); !lockLost(err) {
		t.Errorf("renewing a lapsed lock: %v", err)
	}
	if err := receiver.CompleteMessage(bounded(t), message, nil); !lockLost(err) {
		t.Errorf("settling with a lapsed lock: %v", err)
	}
	again := receive(t, receiver, 1)[0]
	expect(t, "delivery count", again.DeliveryCount, uint32(2))
}

func TestScheduled(t *testing.T) {
	clock, bus, client := newTimed(t, servicebustest.Queue{})
	sender := newSender(t, client)
	due := clock.Now().Add(time.Hour)
	numbers, err := sender.ScheduleMessages(bounded(t), []*azservicebus.Message{
		{MessageID: ptr("a"), Body: []byte("a")}, {Body: []byte("b")}, {Body: []byte("c")},
	}, due, nil)
	succeed(t, err)
	succeed(t, sender.SendMessage(bounded(t), &azservicebus.Message{Body: []byte("d"), ScheduledEnqueueTime: &due}, nil))
	succeed(t, sender.SendMessage(bounded(t), &azservicebus.Message{Body: []byte("past"), ScheduledEnqueueTime: ptr(due.Add(-2 * time.Hour))}, nil))
	expect(t, "scheduled", counts(t, bus, "orders").Scheduled, 4)
	expect(t, "active", counts(t, bus, "orders").Active, 1)

	succeed(t, sender.CancelScheduledMessages(bounded(t), numbers[1:2], nil))
	if err := sender.CancelScheduledMessages(bounded(t), numbers[:2], nil); err == nil {
		t.Error("a cancelled message was cancelled")
	}
	clock.Advance(time.Hour - time.Second)
	expect(t, "scheduled just before", counts(t, bus, "orders").Scheduled, 3)
	clock.Advance(time.Second)
	receiver := newReceiver(t, client, nil)
	messages := receive(t, receiver, 4)
	expect(t, "messages", bodies(messages), "[past a c d]")
	expect(t, "enqueued", messages[1].EnqueuedTime.UTC(), due.UTC())
	expect(t, "scheduled for", messages[1].ScheduledEnqueueTime.UTC(), due.UTC())
	expect(t, "sequence number while scheduled", *messages[1].EnqueuedSequenceNumber, numbers[0])
	if err := sender.CancelScheduledMessages(bounded(t), numbers[:1], nil); err == nil {
		t.Error("a message that had come was cancelled")
	}
}

func TestExpiry(t *testing.T) {
	clock, bus, client := newTimed(t, servicebustest.Queue{DefaultTimeToLive: time.Hour, DeadLetterOnExpiry: true})
	sender := newSender(t, client)
	send(t, sender, "default", "locked", "deferred")
	succeed(t, sender.SendMessage(bounded(t), &azservicebus.Message{Body: []byte("short"), TimeToLive: ptr(time.Second)}, nil))
	succeed(t, sender.SendMessage(bounded(t), &azservicebus.Message{Body: []byte("long"), TimeToLive: ptr(100 * time.Hour)}, nil))
	clock.Advance(time.Second)
	expect(t, "dead letters after a second", counts(t, bus, "orders").DeadLettered, 1)

	clock.Advance(time.Hour - 10*time.Second)
	receiver := newReceiver(t, client, nil)
	messages := receive(t, receiver, 3)
	succeed(t, receiver.AbandonMessage(bounded(t), messages[0], nil))
	succeed(t, receiver.DeferMessage(bounded(t), messages[2], nil))
	clock.Advance(10 * time.Second)
	expect(t, "what has not expired", counts(t, bus, "orders").Active, 1)
	expect(t, "locked", counts(t, bus, "orders").Locked, 1)
	clock.Advance(10 * time.Second)
	succeed(t, receiver.AbandonMessage(bounded(t), messages[1], nil))
	expect(t, "dead letters in the end", counts(t, bus, "orders").DeadLettered, 5)

	listed, err := bus.Messages(servicebustest.DeadLetterPath("orders"))
	succeed(t, err)
	for _, m := range listed {
		expect(t, "reason", m.ApplicationProperties["DeadLetterReason"], any("TTLExpiredException"))
	}
	clock.Advance(1000 * time.Hour)
	expect(t, "dead letters, which do not expire", counts(t, bus, "orders").DeadLettered, 5)
}

func TestExpiredMessagesVanishByDefault(t *testing.T) {
	clock, bus, client := newTimed(t, servicebustest.Queue{DefaultTimeToLive: time.Minute})
	send(t, newSender(t, client), "1")
	clock.Advance(time.Minute)
	expect(t, "counts", counts(t, bus, "orders"), servicebustest.Counts{})
}

func TestDuplicatesAreDroppedWithinTheWindow(t *testing.T) {
	clock, bus, client := newTimed(t, servicebustest.Queue{DuplicateWindow: time.Minute})
	sender := newSender(t, client)
	send(t, sender, "1", "2", "1")
	expect(t, "messages", counts(t, bus, "orders").Active, 2)
	receiver := newReceiver(t, client, nil)
	for _, m := range receive(t, receiver, 2) {
		succeed(t, receiver.CompleteMessage(bounded(t), m, nil))
	}
	send(t, sender, "1")
	expect(t, "messages when the first is done", counts(t, bus, "orders").Active, 0)
	_, err := sender.ScheduleMessages(bounded(t), []*azservicebus.Message{{MessageID: ptr("1")}}, clock.Now().Add(time.Hour), nil)
	succeed(t, err)
	expect(t, "scheduled", counts(t, bus, "orders").Scheduled, 0)
	clock.Advance(time.Minute)
	send(t, sender, "1")
	expect(t, "messages after the window", counts(t, bus, "orders").Active, 1)
}

func TestRealClockWakesTheBus(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{LockDuration: 20 * time.Millisecond})
	send(t, newSender(t, client), "1")
	receive(t, newReceiver(t, client, nil), 1)
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool { return c.Locked == 0 }))
	messages, err := bus.Messages("orders")
	succeed(t, err)
	expect(t, "failed deliveries", messages[0].DeliveryCount, 1)
}

func TestExpiryWithinASession(t *testing.T) {
	clock, bus, client := newTimed(t, servicebustest.Queue{RequiresSession: true})
	sender := newSender(t, client)
	for _, life := range []time.Duration{time.Second, time.Hour} {
		succeed(t, sender.SendMessage(bounded(t), &azservicebus.Message{SessionID: ptr("a"), TimeToLive: &life, Body: []byte(life.String())}, nil))
	}
	clock.Advance(time.Minute)
	expect(t, "messages", bodies(receive(t, acceptNext(t, client), 1)), "[1h0m0s]")
	clock.Advance(time.Hour)
	expect(t, "counts", counts(t, bus, "orders").Active, 0)
}
