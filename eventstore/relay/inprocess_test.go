package relay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/eventstore/relay"
)

func subscribe(t *testing.T, ctx context.Context, b *relay.InProcess) <-chan *watermill.Message {
	t.Helper()
	messages, err := b.Subscribe(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// send publishes one message beside the test.
func send(ctx context.Context, b *relay.InProcess, id string) <-chan error {
	m := watermill.NewMessage(id, nil)
	m.SetContext(ctx)
	result := make(chan error, 1)
	go func() { result <- b.Publish("x", m) }()
	return result
}

func TestPublishWaitsForASubscriberAndItsAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := relay.NewInProcess()
		result := send(t.Context(), b, "1")
		time.Sleep(time.Hour)
		messages := subscribe(t, t.Context(), b)
		m := <-messages
		m.Nack()
		m = <-messages
		time.Sleep(time.Hour)
		if len(result) != 0 {
			t.Fatalf("Publish returned %v before the acknowledgement", <-result)
		}
		m.Ack()
		if err := <-result; err != nil {
			t.Error(err)
		}
		if err := b.Publish("x"); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestPublishKeepsTheOrderOfATopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := relay.NewInProcess()
		messages := subscribe(t, t.Context(), b)
		var sent, got []string
		var batch []*watermill.Message
		for i := range 100 {
			sent = append(sent, fmt.Sprint(i))
			batch = append(batch, watermill.NewMessage(sent[i], nil))
		}
		result := make(chan error, 1)
		go func() { result <- b.Publish("x", batch...) }()
		for range sent {
			m := <-messages
			got = append(got, m.UUID)
			m.Ack()
		}
		if err := <-result; err != nil || !slices.Equal(sent, got) {
			t.Errorf("error %v, got %v", err, got)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestMessagesOfOneCallTravelTogether has a subscriber take several messages before it acknowledges the first, and
// refuse one of them.
func TestMessagesOfOneCallTravelTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := relay.NewInProcess()
		messages := subscribe(t, t.Context(), b)
		result := make(chan error, 1)
		go func() {
			result <- b.Publish("x", watermill.NewMessage("1", nil), watermill.NewMessage("2", nil), watermill.NewMessage("3", nil))
		}()
		one, two, three := <-messages, <-messages, <-messages
		three.Ack()
		one.Ack()
		synctest.Wait()
		if len(result) != 0 {
			t.Fatalf("Publish returned %v before all acknowledgements", <-result)
		}
		two.Nack()
		for _, want := range []string{"2", "3"} {
			m := <-messages
			if m.UUID != want {
				t.Errorf("message %s came again, want %s", m.UUID, want)
			}
			m.Ack()
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestPublishFailsWhenASubscriberLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := relay.NewInProcess()
		ctx, leave := context.WithCancel(t.Context())
		leaving, staying := subscribe(t, ctx, b), subscribe(t, t.Context(), b)
		result := send(t.Context(), b, "1")
		(<-staying).Ack()
		<-leaving
		leave()
		if err := <-result; err == nil {
			t.Error("a message that one subscriber has not acknowledged counts as published")
		}
		synctest.Wait()
		result = send(t.Context(), b, "2")
		(<-staying).Ack()
		if err := <-result; err != nil {
			t.Errorf("without the one who left: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestPublishEndsWithTheContextOfTheMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := relay.NewInProcess()
		ctx, cancel := context.WithCancel(t.Context())
		result := send(ctx, b, "no subscriber")
		synctest.Wait()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("without a subscriber: %v", err)
		}
		messages := subscribe(t, t.Context(), b)
		ctx, cancel = context.WithCancel(t.Context())
		result = send(ctx, b, "no acknowledgement")
		m := <-messages
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("without an acknowledgement: %v", err)
		}
		m.Ack()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := relay.NewInProcess()
		waiting := send(t.Context(), b, "1")
		synctest.Wait()
		messages := subscribe(t, t.Context(), b)
		m := <-messages
		other := make(chan error, 1)
		go func() { other <- b.Publish("y", watermill.NewMessage("2", nil)) }() // nobody is there
		synctest.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := <-waiting; err == nil {
			t.Error("a message without acknowledgement counts as published")
		}
		if err := <-other; err == nil {
			t.Error("a message without subscriber counts as published")
		}
		m.Ack()
		if _, open := <-messages; open {
			t.Error("a subscription outlives the bus")
		}
		if err := b.Publish("x", watermill.NewMessage("3", nil)); err == nil {
			t.Error("published on a closed bus")
		}
		if _, err := b.Subscribe(t.Context(), "x"); err == nil {
			t.Error("subscribed to a closed bus")
		}
		if err := b.Close(); err != nil {
			t.Errorf("the second time: %v", err)
		}
	})
}
