package servicebus_test

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

func Example() {
	bus, err := servicebustest.Start(servicebustest.Config{}) // or a namespace in Azure, which has its queues already
	if err != nil {
		panic(err)
	}
	defer bus.Close()
	if err := bus.CreateQueue("orders", servicebustest.Queue{RequiresSession: true}); err != nil {
		panic(err)
	}
	connection := servicebus.Connection{ConnectionString: bus.ConnectionString()}

	publisher, err := servicebus.NewPublisher(servicebus.PublisherConfig{Connection: connection})
	if err != nil {
		panic(err)
	}
	defer publisher.Close()
	for _, text := range []string{"placed", "paid", "shipped"} {
		m := message.NewMessage("order-17-"+text, []byte(text))
		m.Metadata.Set(servicebus.KeySessionID, "order-17")
		if err := publisher.Publish("orders", m); err != nil {
			panic(err)
		}
	}

	subscriber, err := servicebus.NewSubscriber(servicebus.SubscriberConfig{Connection: connection, Sessions: 64})
	if err != nil {
		panic(err)
	}
	defer subscriber.Close()
	messages, err := subscriber.Subscribe(context.Background(), "orders")
	if err != nil {
		panic(err)
	}
	for range 3 {
		m := <-messages
		fmt.Println(m.Metadata.Get(servicebus.KeySessionID), string(m.Payload))
		m.Ack()
	}
	// Output:
	// order-17 placed
	// order-17 paid
	// order-17 shipped
}
