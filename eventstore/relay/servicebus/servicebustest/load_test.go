package servicebustest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// TestManyConnections publishes and receives over 120 connections at once.
func TestManyConnections(t *testing.T) {
	const (
		publishers = 100
		receivers  = 20
		each       = 10
	)
	bus, client := newQueue(t, servicebustest.Queue{MaxDeliveryCount: 2000})
	seen := make(map[string]int)
	var mu sync.Mutex // protects seen
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	var running sync.WaitGroup
	for range receivers {
		receiver := newReceiver(t, connect(t, bus), nil)
		running.Go(func() {
			for {
				messages, err := receiver.ReceiveMessages(ctx, 50, nil)
				if err != nil {
					return // done
				}
				for _, m := range messages {
					if err := receiver.CompleteMessage(ctx, m, nil); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
					mu.Lock()
					seen[m.MessageID]++
					mu.Unlock()
				}
			}
		})
	}
	var publishing sync.WaitGroup
	for p := range publishers {
		sender := newSender(t, connect(t, bus))
		publishing.Go(func() {
			for i := range each {
				m := &azservicebus.Message{MessageID: ptr(fmt.Sprintf("%d-%d", p, i))}
				if err := sender.SendMessage(ctx, m, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	succeed(t, bus.Await(ctx, "orders", func(c servicebustest.Counts) bool { return c.Active == 0 }))
	cancel()
	running.Wait()
	succeed(t, client.Close(bounded(t)))
	expect(t, "different messages", len(seen), publishers*each)
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was delivered %d times", id, n)
		}
	}
}
