package servicebustest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// connect returns a client of the official SDK.
func connect(t *testing.T, bus *servicebustest.Server) *azservicebus.Client {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(bus.ConnectionString(), &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 5, RetryDelay: 5 * time.Millisecond, MaxRetryDelay: 20 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = client.Close(ctx)
	})
	return client
}

func newQueue(t *testing.T, q servicebustest.Queue) (*servicebustest.Server, *azservicebus.Client) {
	t.Helper()
	return newQueueAt(t, q, nil)
}

func newQueueAt(t *testing.T, q servicebustest.Queue, config *servicebustest.Config) (*servicebustest.Server, *azservicebus.Client) {
	t.Helper()
	bus := servicebustest.New(t, config)
	if err := bus.CreateQueue("orders", q); err != nil {
		t.Fatal(err)
	}
	return bus, connect(t, bus)
}

func newSender(t *testing.T, client *azservicebus.Client) *azservicebus.Sender {
	t.Helper()
	sender, err := client.NewSender("orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

func newReceiver(t *testing.T, client *azservicebus.Client, options *azservicebus.ReceiverOptions) *azservicebus.Receiver {
	t.Helper()
	receiver, err := client.NewReceiverForQueue("orders", options)
	if err != nil {
		t.Fatal(err)
	}
	return receiver
}

// bounded is a context for calls that come back at once unless something is broken.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func send(t *testing.T, sender *azservicebus.Sender, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		message := &azservicebus.Message{MessageID: &body, Body: []byte(body)}
		if err := sender.SendMessage(bounded(t), message, nil); err != nil {
			t.Fatal(err)
		}
	}
}

type takes interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

// receive returns exactly n messages. It waits longer than the client would, which gives back what comes 20 ms after the
// first, and so breaks the order on a slow machine.
func receive(t *testing.T, receiver takes, n int) []*azservicebus.ReceivedMessage {
	t.Helper()
	options := &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: 10 * time.Second}
	var all []*azservicebus.ReceivedMessage
	for len(all) < n {
		messages, err := receiver.ReceiveMessages(bounded(t), n-len(all), options)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(all), err)
		}
		all = append(all, messages...)
	}
	return all
}

func bodies(messages []*azservicebus.ReceivedMessage) string {
	out := make([]string, len(messages))
	for i, m := range messages {
		out[i] = string(m.Body)
	}
	return fmt.Sprint(out)
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// succeed takes the error of a call that has to succeed.
func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func counts(t *testing.T, bus *servicebustest.Server, path string) servicebustest.Counts {
	t.Helper()
	c, err := bus.Counts(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
