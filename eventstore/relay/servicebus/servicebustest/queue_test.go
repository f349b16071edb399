package servicebustest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

func ptr[T any](v T) *T { return &v }

func TestMessageKeepsWhatItsSenderSaid(t *testing.T) {
	_, client := newQueue(t, servicebustest.Queue{})
	sent := &azservicebus.Message{
		MessageID:        ptr("id"),
		SessionID:        ptr("session"),
		PartitionKey:     ptr("session"),
		CorrelationID:    ptr("correlation"),
		Subject:          ptr("subject"),
		ContentType:      ptr("application/json"),
		To:               ptr("to"),
		ReplyTo:          ptr("reply"),
		ReplyToSessionID: ptr("reply session"),
		TimeToLive:       ptr(time.Hour),
		Body:             []byte("body"),
		ApplicationProperties: map[string]any{
			"string": "s", "bool": true, "int32": int32(-7), "int64": int64(1 << 40), "double": 1.5,
			"bytes": []byte{1, 2}, "time": time.UnixMilli(1_800_000_000_123).UTC(),
		},
	}
	succeed(t, newSender(t, client).SendMessage(bounded(t), sent, nil))
	got := receive(t, newReceiver(t, client, nil), 1)[0]
	again := got.Message()
	if diff := cmp.Diff(sent, again); diff != "" {
		t.Error(diff)
	}
	expect(t, "sequence number", *got.SequenceNumber, int64(1))
	expect(t, "delivery count", got.DeliveryCount, uint32(1))
	expect(t, "state", got.State, azservicebus.MessageStateActive)
	if got.LockedUntil == nil || time.Until(*got.LockedUntil) > time.Minute || time.Until(*got.LockedUntil) < 50*time.Second {
		t.Errorf("locked until %v", got.LockedUntil)
	}
	if got.EnqueuedTime == nil || time.Since(*got.EnqueuedTime) > time.Minute {
		t.Errorf("enqueued at %v", got.EnqueuedTime)
	}
}

func TestMessageWithoutIDGetsOne(t *testing.T) {
	_, client := newQueue(t, servicebustest.Queue{})
	succeed(t, newSender(t, client).SendMessage(bounded(t), &azservicebus.Message{Body: []byte("x")}, nil))
	got := receive(t, newReceiver(t, client, nil), 1)[0]
	if got.MessageID == "" {
		t.Error("no message id")
	}
}

func TestBatchArrivesWholeAndInOrder(t *testing.T) {
	_, client := newQueue(t, servicebustest.Queue{})
	sender := newSender(t, client)
	batch, err := sender.NewMessageBatch(bounded(t), nil)
	succeed(t, err)
	var want []string
	for i := range 500 {
		want = append(want, fmt.Sprint(i))
		succeed(t, batch.AddMessage(&azservicebus.Message{Body: []byte(want[i])}, nil))
	}
	succeed(t, sender.SendMessageBatch(bounded(t), batch, nil))
	receiver := newReceiver(t, client, nil)
	expect(t, "messages", bodies(receive(t, receiver, 500)), fmt.Sprint(want))
}

func TestBatchIsLimited(t *testing.T) {
	_, client := newQueueAt(t, servicebustest.Queue{}, &servicebustest.Config{MaxMessageSize: 64 << 10})
	sender := newSender(t, client)
	batch, err := sender.NewMessageBatch(bounded(t), nil)
	succeed(t, err)
	big := &azservicebus.Message{Body: make([]byte, 40<<10)}
	succeed(t, batch.AddMessage(big, nil))
	if err := batch.AddMessage(big, nil); !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Errorf("a second message of 40 KiB in a batch of 64 KiB: %v", err)
	}
	succeed(t, sender.SendMessageBatch(bounded(t), batch, nil))
	err = sender.SendMessage(bounded(t), &azservicebus.Message{Body: make([]byte, 65<<10)}, nil)
	if !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Errorf("a message of 65 KiB: %v", err)
	}
}

func TestBatchWithOneBadMessageIsRefusedWhole(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	sender := newSender(t, client)
	batch, err := sender.NewMessageBatch(bounded(t), nil)
	succeed(t, err)
	succeed(t, batch.AddMessage(&azservicebus.Message{SessionID: ptr("a")}, nil))
	succeed(t, batch.AddMessage(&azservicebus.Message{}, nil))
	if err := sender.SendMessageBatch(bounded(t), batch, nil); err == nil || !strings.Contains(err.Error(), "SessionId was not set") {
		t.Errorf("a batch with a message without session: %v", err)
	}
	expect(t, "messages", counts(t, bus, "orders").Active, 0)
}

func TestAbandonedMessageComesBackFirst(t *testing.T) {
	_, client := newQueue(t, servicebustest.Queue{})
	send(t, newSender(t, client), "1", "2", "3")
	receiver := newReceiver(t, client, nil)
	first := receive(t, receiver, 1)[0]
	succeed(t, receiver.AbandonMessage(bounded(t), first, &azservicebus.AbandonMessageOptions{
		PropertiesToModify: map[string]any{"tried": int64(1)},
	}))
	messages := receive(t, receiver, 3)
	expect(t, "messages", bodies(messages), "[1 2 3]")
	expect(t, "delivery count", messages[0].DeliveryCount, uint32(2))
	expect(t, "property", messages[0].ApplicationProperties["tried"], any(int64(1)))
}

func TestTooManyDeliveriesMakeADeadLetter(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{MaxDeliveryCount: 3})
	send(t, newSender(t, client), "poison")
	receiver := newReceiver(t, client, nil)
	for range 3 {
		succeed(t, receiver.AbandonMessage(bounded(t), receive(t, receiver, 1)[0], nil))
	}
	expect(t, "dead letters", counts(t, bus, "orders").DeadLettered, 1)
	dead := newReceiver(t, client, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	for range 5 { // does not count there
		letter := receive(t, dead, 1)[0]
		expect(t, "reason", *letter.DeadLetterReason, "MaxDeliveryCountExceeded")
		expect(t, "delivery count", letter.DeliveryCount, uint32(4))
		succeed(t, dead.AbandonMessage(bounded(t), letter, nil))
	}
}

func TestDeadLetter(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{})
	send(t, newSender(t, client), "bad")
	receiver := newReceiver(t, client, nil)
	succeed(t, receiver.DeadLetterMessage(bounded(t), receive(t, receiver, 1)[0], &azservicebus.DeadLetterOptions{
		Reason:             ptr("unreadable"),
		ErrorDescription:   ptr("no JSON"),
		PropertiesToModify: map[string]any{"by": "test"},
	}))
	listed, err := bus.Messages(servicebustest.DeadLetterPath("orders"))
	succeed(t, err)
	expect(t, "reason seen from inside", listed[0].ApplicationProperties["DeadLetterReason"], any("unreadable"))

	dead := newReceiver(t, client, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	letter := receive(t, dead, 1)[0]
	expect(t, "body", string(letter.Body), "bad")
	expect(t, "reason", *letter.DeadLetterReason, "unreadable")
	expect(t, "description", *letter.DeadLetterErrorDescription, "no JSON")
	expect(t, "property", letter.ApplicationProperties["by"], any("test"))
	succeed(t, dead.RenewMessageLock(bounded(t), letter, nil))
	succeed(t, dead.CompleteMessage(bounded(t), letter, nil))
	expect(t, "dead letters", counts(t, bus, "orders").DeadLettered, 0)

	transfer := newReceiver(t, client, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueTransfer})
	peeked, err := transfer.PeekMessages(bounded(t), 1, nil)
	succeed(t, err)
	expect(t, "transfer dead letters", len(peeked), 0)
}

func TestDeferral(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{})
	send(t, newSender(t, client), "later", "now")
	receiver := newReceiver(t, client, nil)
	later := receive(t, receiver, 1)[0]
	succeed(t, receiver.DeferMessage(bounded(t), later, &azservicebus.DeferMessageOptions{
		PropertiesToModify: map[string]any{"why": "waits"},
	}))
	expect(t, "what comes instead", bodies(receive(t, receiver, 1)), "[now]")
	expect(t, "deferred", counts(t, bus, "orders").Deferred, 1)

	number := []int64{*later.SequenceNumber}
	deferred, err := receiver.ReceiveDeferredMessages(bounded(t), number, nil)
	succeed(t, err)
	expect(t, "deferred message", bodies(deferred), "[later]")
	expect(t, "state", deferred[0].State, azservicebus.MessageStateDeferred)
	expect(t, "property", deferred[0].ApplicationProperties["why"], any("waits"))
	if _, err := receiver.ReceiveDeferredMessages(bounded(t), number, nil); err == nil {
		t.Error("a locked message was received again")
	}

	succeed(t, receiver.RenewMessageLock(bounded(t), deferred[0], nil))
	succeed(t, receiver.AbandonMessage(bounded(t), deferred[0], nil))
	deferred, err = receiver.ReceiveDeferredMessages(bounded(t), number, nil)
	succeed(t, err)
	expect(t, "delivery count", deferred[0].DeliveryCount, uint32(2))
	succeed(t, receiver.DeferMessage(bounded(t), deferred[0], nil))
	deferred, err = receiver.ReceiveDeferredMessages(bounded(t), number, nil)
	succeed(t, err)
	succeed(t, receiver.DeadLetterMessage(bounded(t), deferred[0], &azservicebus.DeadLetterOptions{Reason: ptr("old")}))
	listed, err := bus.Messages(servicebustest.DeadLetterPath("orders"))
	succeed(t, err)
	expect(t, "dead letters", len(listed), 1)
	expect(t, "reason", listed[0].ApplicationProperties["DeadLetterReason"], any("old"))
}

func TestPeekLooksAtEverythingAndLocksNothing(t *testing.T) {
	_, client := newQueue(t, servicebustest.Queue{})
	sender := newSender(t, client)
	send(t, sender, "1", "2", "3")
	receiver := newReceiver(t, client, nil)
	receive(t, receiver, 1)
	_, err := sender.ScheduleMessages(bounded(t), []*azservicebus.Message{{Body: []byte("4")}}, time.Now().Add(time.Hour), nil)
	succeed(t, err)

	peeked, err := receiver.PeekMessages(bounded(t), 3, nil)
	succeed(t, err)
	expect(t, "first look", bodies(peeked), "[1 2 3]")
	peeked, err = receiver.PeekMessages(bounded(t), 3, nil)
	succeed(t, err)
	expect(t, "second look", bodies(peeked), "[4]")
	expect(t, "state", peeked[0].State, azservicebus.MessageStateScheduled)
	peeked, err = receiver.PeekMessages(bounded(t), 3, &azservicebus.PeekMessagesOptions{FromSequenceNumber: ptr(int64(2))})
	succeed(t, err)
	expect(t, "from the second", bodies(peeked), "[2 3 4]")
	expect(t, "what can be received", bodies(receive(t, receiver, 2)), "[2 3]")
}

func TestReceiveAndDelete(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{})
	send(t, newSender(t, client), "1", "2")
	receiver := newReceiver(t, client, &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	expect(t, "messages", bodies(receive(t, receiver, 2)), "[1 2]")
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool { return c.Active == 0 }))
}

func TestReleasedDeliveryDoesNotCount(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{})
	receiver := newReceiver(t, client, nil)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() {
		_, err := receiver.ReceiveMessages(ctx, 1, nil) // leaves its credit behind
		waiting <- err
	}()
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool { return c.Receivers == 1 }))
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled receive: %v", err)
	}
	send(t, newSender(t, client), "1")
	got := receive(t, newReceiver(t, client, nil), 1)[0]
	expect(t, "delivery count", got.DeliveryCount, uint32(1))
}

func TestReceiversTakeTurns(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{})
	results := make(chan int)
	for range 2 {
		receiver := newReceiver(t, client, nil)
		go func() {
			messages, err := receiver.ReceiveMessages(bounded(t), 1, nil)
			if err != nil {
				t.Error(err)
			}
			results <- len(messages)
		}()
	}
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool { return c.Receivers == 2 }))
	send(t, newSender(t, client), "1", "2")
	expect(t, "messages", <-results+<-results, 2)
}

func TestSettlementThroughAnotherReceiver(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{})
	send(t, newSender(t, client), "1")
	receiver := newReceiver(t, client, nil)
	message := receive(t, receiver, 1)[0]
	succeed(t, receiver.Close(bounded(t)))
	expect(t, "locked", counts(t, bus, "orders").Locked, 1)
	succeed(t, newReceiver(t, client, nil).CompleteMessage(bounded(t), message, nil))
	expect(t, "messages", counts(t, bus, "orders").Active, 0)
}

func TestPeekAnswersInPieces(t *testing.T) {
	_, client := newQueue(t, servicebustest.Queue{})
	sender := newSender(t, client)
	for range 8 {
		succeed(t, sender.SendMessage(bounded(t), &azservicebus.Message{Body: make([]byte, 200<<10)}, nil))
	}
	receiver := newReceiver(t, client, nil)
	total := 0
	for _, want := range []int{5, 3, 0} {
		peeked, err := receiver.PeekMessages(bounded(t), 100, nil)
		succeed(t, err)
		expect(t, "messages in one piece", len(peeked), want)
		total += len(peeked)
	}
	expect(t, "messages", total, 8)
}
