package servicebus_test

import (
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// BenchmarkReceive measures messages of 1 KiB from a bus in the same process, so both sides of the wire.
func BenchmarkReceive(b *testing.B) {
	for _, c := range []struct{ sessions, inFlight int }{{0, 1}, {0, 100}, {1, 1}, {1, 16}, {64, 1}, {64, 16}} {
		b.Run(fmt.Sprintf("sessions=%d/inflight=%d", c.sessions, c.inFlight), func(b *testing.B) {
			bus := servicebustest.New(b, nil)
			if err := bus.CreateQueue("orders", servicebustest.Queue{RequiresSession: c.sessions > 0}); err != nil {
				b.Fatal(err)
			}
			connection := servicebus.Connection{ConnectionString: bus.ConnectionString()}
			publisher, err := servicebus.NewPublisher(servicebus.PublisherConfig{Connection: connection})
			if err != nil {
				b.Fatal(err)
			}
			defer publisher.Close()
			batch := make([]*message.Message, b.N)
			for i := range batch {
				batch[i] = newMessage(fmt.Sprint(i%max(c.sessions, 1)), fmt.Sprint(i))
				batch[i].Payload = []byte(long(1 << 10))
			}
			if err := publisher.Publish("orders", batch...); err != nil {
				b.Fatal(err)
			}
			subscriber, err := servicebus.NewSubscriber(servicebus.SubscriberConfig{
				Connection: connection, Sessions: c.sessions, MaxInFlight: c.inFlight,
			})
			if err != nil {
				b.Fatal(err)
			}
			defer subscriber.Close()
			b.ReportAllocs()
			b.ResetTimer()
			messages, err := subscriber.Subscribe(b.Context(), "orders")
			if err != nil {
				b.Fatal(err)
			}
			for range b.N {
				(<-messages).Ack()
			}
		})
	}
}

// BenchmarkPublish measures messages of 1 KiB in calls of 64 publishers at once, to a bus in the same process that has
// nobody who receives.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{1, 10, 100, 1_000} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			bus := servicebustest.New(b, nil)
			if err := bus.CreateTopic("events", servicebustest.Topic{}); err != nil {
				b.Fatal(err)
			}
			publisher, err := servicebus.NewPublisher(servicebus.PublisherConfig{Connection: servicebus.Connection{ConnectionString: bus.ConnectionString()}})
			if err != nil {
				b.Fatal(err)
			}
			defer publisher.Close()
			batch := make([]*message.Message, size)
			for i := range batch {
				batch[i] = newMessage("session", fmt.Sprint(i))
				batch[i].Payload = []byte(long(1 << 10))
			}
			b.SetParallelism(64)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := publisher.Publish("events", batch...); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
