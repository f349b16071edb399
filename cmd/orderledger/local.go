package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
	"github.com/orderledger/orderledger/internal/web"
)

// localCommand runs back ends of production on this machine, for this program and for others.
type localCommand struct {
	Bus     string   `default:"127.0.0.1:5672" env:"ORDERLEDGER_LOCAL_BUS" placeholder:"ADDR" help:"Loopback address of the Service Bus (${env}; default: ${default}; port 0: any)."`
	Control string   `default:"127.0.0.1:5300" env:"ORDERLEDGER_LOCAL_CONTROL" placeholder:"ADDR" help:"Loopback address where to make queues and topics, restart the bus, and make it fail (${env}; default: ${default}; port 0: any)."`
	Regions []string `default:"local" env:"ORDERLEDGER_LOCAL_REGIONS" placeholder:"NAME" help:"Regions that get a subscription to the events (${env}; default: ${default})."`
}

func (l localCommand) Run(ctx context.Context, e *environment) error {
	for _, address := range []string{l.Bus, l.Control} {
		free, err := web.Listen(address, false) // says what is wrong with it
		if err != nil {
			return &exitError{exitUsage, err}
		}
		if err := free.Close(); err != nil {
			return err
		}
	}
	bus, err := servicebustest.Start(servicebustest.Config{Addr: l.Bus, ControlAddr: l.Control, Logger: e.logger()})
	if err != nil {
		return err
	}
	if err := l.furnish(bus); err != nil {
		return errors.Join(err, bus.Close())
	}
	url := "servicebus://local:local@" + bus.Addr() + "/?emulator=true"
	if e.JSON {
		err = e.printJSON(map[string]string{"connection_string": bus.ConnectionString(), "bus": url, "control": bus.ControlURL()})
	} else {
		e.printf("Service Bus, in memory:\n")
		e.printf("  for SDKs         %s\n", bus.ConnectionString())
		e.printf("  for orderledger  --bus '%s'\n", url)
		e.printf("  control          %s\n", bus.ControlURL())
		e.printf("Ctrl-C ends it, and what it holds is gone.\n")
	}
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, bus.Close())
}

// maxDelivery is how often a message may be delivered: as often as Service Bus permits. What cannot be read goes to
// the dead-letter queue at once; a lock that is lost counts a delivery of everything that was in flight under it.
const maxDelivery = 2_000

// furnish makes what the product uses.
func (l localCommand) furnish(bus *servicebustest.Server) error {
	if err := bus.CreateTopic(defaultTopic, servicebustest.Topic{}); err != nil {
		return fmt.Errorf("making the topic: %w", err)
	}
	for _, region := range l.Regions {
		sub := servicebustest.Subscription{RequiresSession: true, MaxDeliveryCount: maxDelivery}
		if err := bus.CreateSubscription(defaultTopic, region, sub); err != nil {
			return fmt.Errorf("making the subscription of region %s: %w", region, err)
		}
	}
	if err := bus.CreateQueue(defaultCommands, servicebustest.Queue{RequiresSession: true, MaxDeliveryCount: maxDelivery}); err != nil {
		return fmt.Errorf("making the queue of commands: %w", err)
	}
	return nil
}
