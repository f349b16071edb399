package servicebustest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// Outside tests a bus is started and closed by hand.
func ExampleStart() {
	bus, err := servicebustest.Start(servicebustest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()
	if err := bus.CreateQueue("orders", servicebustest.Queue{}); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	client, err := azservicebus.NewClientFromConnectionString(bus.ConnectionString(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close(ctx)
	sender, err := client.NewSender("orders", nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := sender.SendMessage(ctx, &azservicebus.Message{Body: []byte("hello")}, nil); err != nil {
		log.Fatal(err)
	}
	messages, err := bus.Messages("orders")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(messages[0].Body))
	// Output: hello
}
