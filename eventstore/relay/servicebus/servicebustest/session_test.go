package servicebustest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// sendTo sends messages "session:body".
func sendTo(t *testing.T, sender *azservicebus.Sender, messages ...string) {
	t.Helper()
	for _, m := range messages {
		session, body, _ := strings.Cut(m, ":")
		succeed(t, sender.SendMessage(bounded(t), &azservicebus.Message{SessionID: &session, Body: []byte(body)}, nil))
	}
}

func accept(t *testing.T, client *azservicebus.Client, session string) *azservicebus.SessionReceiver {
	t.Helper()
	receiver, err := client.AcceptSessionForQueue(bounded(t), "orders", session, nil)
	if err != nil {
		t.Fatalf("accepting session %q: %v", session, err)
	}
	return receiver
}

func acceptNext(t *testing.T, client *azservicebus.Client) *azservicebus.SessionReceiver {
	t.Helper()
	receiver, err := client.AcceptNextSessionForQueue(bounded(t), "orders", nil)
	if err != nil {
		t.Fatalf("accepting the next session: %v", err)
	}
	return receiver
}

func TestSessionIsFirstInFirstOut(t *testing.T) {
	_, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	sendTo(t, newSender(t, client), "a:1", "b:2", "a:3", "b:4", "a:5", ":6")
	a, b, empty := accept(t, client, "a"), accept(t, client, "b"), accept(t, client, "")
	expect(t, "session", a.SessionID(), "a")
	messages := receive(t, a, 3)
	expect(t, "a", bodies(messages), "[1 3 5]")
	expect(t, "session of a message", *messages[0].SessionID, "a")
	expect(t, "b", bodies(receive(t, b, 2)), "[2 4]")
	expect(t, "the session without a name", bodies(receive(t, empty, 1)), "[6]")

	succeed(t, a.AbandonMessage(bounded(t), messages[1], nil))
	succeed(t, a.AbandonMessage(bounded(t), messages[0], nil))
	again := receive(t, a, 2)
	if got := bodies(again); got != "[3 1]" && got != "[1 3]" { // an outstanding credit takes 3 before 1 is back
		t.Errorf("abandoned: got %v", got)
	}
	expect(t, "delivery count", again[0].DeliveryCount, uint32(2))
}

func TestSessionsAreTakenByOne(t *testing.T) {
	_, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	sendTo(t, newSender(t, client), "a:1")
	a := accept(t, client, "a")
	_, err := client.AcceptSessionForQueue(bounded(t), "orders", "a", nil)
	if err == nil || !strings.Contains(err.Error(), "session-cannot-be-locked") {
		t.Errorf("accepting a session that is taken: %v", err)
	}
	succeed(t, a.Close(bounded(t)))
	expect(t, "message", bodies(receive(t, accept(t, client, "a"), 1)), "[1]")
}

func TestClosedSessionIsFreeAtOnceAndNoDeliveryCounts(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	sendTo(t, newSender(t, client), "a:1", "a:2")
	for range 20 {
		a := acceptNext(t, client)
		messages := receive(t, a, 2)
		expect(t, "messages", bodies(messages), "[1 2]")
		expect(t, "delivery count", messages[0].DeliveryCount, uint32(1))
		succeed(t, a.Close(bounded(t)))
	}
	expect(t, "dead letters", counts(t, bus, "orders").DeadLettered, 0)
}

func TestAcceptNextWaitsForAMessage(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	type accepted struct {
		receiver *azservicebus.SessionReceiver
		err      error
	}
	results := make(chan accepted)
	const waiting = 8 // on one connection, which has to stay usable
	for range waiting {
		go func() {
			receiver, err := client.AcceptNextSessionForQueue(bounded(t), "orders", nil)
			results <- accepted{receiver, err}
		}()
	}
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool { return c.Receivers == waiting }))
	sender := newSender(t, client)
	seen := make(map[string]bool)
	for i := range waiting {
		sendTo(t, sender, fmt.Sprintf("s%d:x", i))
		got := <-results
		succeed(t, got.err)
		seen[got.receiver.SessionID()] = true
	}
	expect(t, "sessions", len(seen), waiting)
}

func TestAcceptNextCanBeGivenUp(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := client.AcceptNextSessionForQueue(ctx, "orders", nil)
		done <- err
	}()
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool { return c.Receivers == 1 }))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled accept: %v", err)
	}
	succeed(t, client.Close(bounded(t)))
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool { return c.Receivers == 0 }))
	client = connect(t, bus)
	sendTo(t, newSender(t, client), "a:1")
	expect(t, "message", bodies(receive(t, acceptNext(t, client), 1)), "[1]")
}

func TestSessionState(t *testing.T) {
	_, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	a := accept(t, client, "a")
	state, err := a.GetSessionState(bounded(t), nil)
	succeed(t, err)
	if state != nil {
		t.Errorf("a new session has the state %q", state)
	}
	succeed(t, a.SetSessionState(bounded(t), []byte("half way"), nil))
	succeed(t, a.Close(bounded(t)))
	a = accept(t, client, "a")
	state, err = a.GetSessionState(bounded(t), nil)
	succeed(t, err)
	expect(t, "state", string(state), "half way")
	if err := a.SetSessionState(bounded(t), make([]byte, 256<<10+1), nil); err == nil {
		t.Error("a state of more than 256 KiB was kept")
	}
	succeed(t, a.SetSessionState(bounded(t), nil, nil))
	state, err = a.GetSessionState(bounded(t), nil)
	succeed(t, err)
	if state != nil {
		t.Errorf("a cleared session has the state %q", state)
	}
}

func TestListSessions(t *testing.T) {
	_, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	pages := func(options *azservicebus.ListSessionsOptions) (ids []string) {
		pager := client.NewListSessionsForQueuePager("orders", options)
		for pager.More() {
			page, err := pager.NextPage(bounded(t))
			succeed(t, err)
			ids = append(ids, page.Sessions...)
		}
		return ids
	}
	expect(t, "sessions at first", len(pages(nil)), 0)
	sender := newSender(t, client)
	batch, err := sender.NewMessageBatch(bounded(t), nil)
	succeed(t, err)
	for i := range 150 {
		succeed(t, batch.AddMessage(&azservicebus.Message{SessionID: ptr(fmt.Sprintf("s%03d", i))}, nil))
	}
	succeed(t, sender.SendMessageBatch(bounded(t), batch, nil))
	s := accept(t, client, "only a state")
	succeed(t, s.SetSessionState(bounded(t), []byte("x"), nil))
	ids := pages(nil)
	expect(t, "sessions", len(ids), 151)
	expect(t, "first", ids[0], "only a state")
	expect(t, "last", ids[150], "s149")
	changed := pages(&azservicebus.ListSessionsOptions{SessionStateUpdatedAfter: ptr(time.Now().Add(-time.Hour))})
	expect(t, "sessions whose state changed", fmt.Sprint(changed), "[only a state]")
}

func TestSessionLockLapses(t *testing.T) {
	clock, bus, client := newTimed(t, servicebustest.Queue{RequiresSession: true, LockDuration: 30 * time.Second})
	sendTo(t, newSender(t, client), "a:1")
	a := accept(t, client, "a")
	expect(t, "locked until", a.LockedUntil().UTC(), clock.Now().Add(30*time.Second).UTC())
	message := receive(t, a, 1)[0]
	expect(t, "message locked until", message.LockedUntil.UTC(), a.LockedUntil().UTC())
	clock.Advance(20 * time.Second)
	succeed(t, a.RenewSessionLock(bounded(t), nil))
	expect(t, "locked until", a.LockedUntil().UTC(), clock.Now().Add(30*time.Second).UTC())
	clock.Advance(20 * time.Second)
	expect(t, "locked", counts(t, bus, "orders").LockedSessions, 1)
	clock.Advance(10 * time.Second)
	expect(t, "locked", counts(t, bus, "orders").LockedSessions, 0)
	other := connect(t, bus)
	again := receive(t, acceptNext(t, other), 1)[0]
	expect(t, "delivery count", again.DeliveryCount, uint32(2))
	if messages, _ := a.ReceiveMessages(bounded(t), 1, nil); len(messages) != 0 {
		t.Error("received from a session that is another's")
	}
	if err := a.CompleteMessage(bounded(t), message, nil); err == nil {
		t.Error("settled in a session that is another's")
	}
}

func TestSessionDeferralAndPeek(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	sender := newSender(t, client)
	sendTo(t, sender, "b:0", "a:1", "a:2")
	a := accept(t, client, "a")
	first := receive(t, a, 1)[0]
	succeed(t, a.DeferMessage(bounded(t), first, nil))
	peeked, err := a.PeekMessages(bounded(t), 10, nil)
	succeed(t, err)
	expect(t, "what there is in the session", bodies(peeked), "[1 2]")
	deferred, err := a.ReceiveDeferredMessages(bounded(t), []int64{*first.SequenceNumber}, nil)
	succeed(t, err)
	expect(t, "deferred", bodies(deferred), "[1]")
	expect(t, "lock", deferred[0].LockedUntil.UTC(), a.LockedUntil().UTC())
	succeed(t, a.CompleteMessage(bounded(t), deferred[0], nil))
	expect(t, "left", counts(t, bus, "orders").Active, 2)

	b := accept(t, client, "b")
	if _, err := b.ReceiveDeferredMessages(bounded(t), []int64{*first.SequenceNumber}, nil); err == nil {
		t.Error("received a message of another session")
	}
	succeed(t, a.DeadLetterMessage(bounded(t), receive(t, a, 1)[0], nil))
	dead := newReceiver(t, client, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	letter := receive(t, dead, 1)[0]
	expect(t, "session of the dead letter", *letter.SessionID, "a")
	numbers, err := sender.ScheduleMessages(bounded(t), []*azservicebus.Message{{SessionID: ptr("c")}}, time.Now().Add(time.Hour), nil)
	succeed(t, err)
	expect(t, "scheduled", len(numbers), 1)
}

func TestSessionsOverASubscription(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateTopic("events", servicebustest.Topic{}))
	succeed(t, bus.CreateSubscription("events", "eu", servicebustest.Subscription{RequiresSession: true}))
	client := connect(t, bus)
	sender, err := client.NewSender("events", nil)
	succeed(t, err)
	sendTo(t, sender, "00:1", "3f:2", "00:3")
	receiver, err := client.AcceptNextSessionForSubscription(bounded(t), "events", "eu", nil)
	succeed(t, err)
	expect(t, "session", receiver.SessionID(), "00")
	expect(t, "messages", bodies(receive(t, receiver, 2)), "[1 3]")
	if err := sender.SendMessage(bounded(t), &azservicebus.Message{}, nil); err == nil {
		t.Error("a message without session was taken for a subscription that requires one")
	}
}

func TestSessionReceiveAndDelete(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	sendTo(t, newSender(t, client), "a:1", "a:2")
	receiver, err := client.AcceptSessionForQueue(bounded(t), "orders", "a", &azservicebus.SessionReceiverOptions{
		ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete,
	})
	succeed(t, err)
	expect(t, "messages", bodies(receive(t, receiver, 2)), "[1 2]")
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool { return c.Active == 0 }))
}
