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

	EventStore       bool   `name:"eventstore" env:"ORDERLEDGER_LOCAL_EVENTSTORE" help:"Serve the embedded ledger of the data directory, as well, to clients of EventStoreDB (${env})."`
	EventStoreListen string `name:"eventstore-listen" default:"127.0.0.1:2113" env:"ORDERLEDGER_LOCAL_EVENTSTORE_LISTEN" placeholder:"ADDR" help:"Loopback address for that (${env}; default: ${default}; port 0: any)."`
}

func (l localCommand) Run(ctx context.Context, e *environment) error {
	addresses := []string{l.Bus, l.Control}
	if l.EventStore {
		addresses = append(addresses, l.EventStoreListen)
	}
	for _, address := range addresses {
		free, err := web.Listen(address, false) // says what is wrong with it
		if err != nil {
			return &exitError{exitUsage, err}
		}
		if err := free.Close(); err != nil {
			return err
		}
	}
	store, err := l.openEventStore(ctx, e)
	if err != nil {
		return err
	}
	return errors.Join(l.run(ctx, e, store), store.close())
}

// run runs the bus, and tells how to reach it and what else there is.
func (l localCommand) run(ctx context.Context, e *environment, store *localEventStore) error {
	bus, err := servicebustest.Start(servicebustest.Config{Addr: l.Bus, ControlAddr: l.Control, Logger: e.logger()})
	if err != nil {
		return err
	}
	if err := l.furnish(bus); err != nil {
		return errors.Join(err, bus.Close())
	}
	url := "servicebus://local:local@" + bus.Addr() + "/?emulator=true"
	if e.JSON {
		shown := map[string]string{"connection_string": bus.ConnectionString(), "bus": url, "control": bus.ControlURL()}
		if store != nil {
			shown["ledger"] = store.server.ConnectionString()
		}
		err = e.printJSON(shown)
	} else {
		e.printf("Service Bus, in memory:\n")
		e.printf("  for SDKs         %s\n", bus.ConnectionString())
		e.printf("  for orderledger  --bus '%s'\n", url)
		e.printf("  control          %s\n", bus.ControlURL())
		if store != nil {
			e.printf("EventStoreDB, with the ledger in %s:\n", store.where)
			e.printf("  for SDKs         %s\n", store.server.ConnectionString())
			e.printf("  for orderledger  --ledger '%s', with a data directory of its own\n", store.server.ConnectionString())
		}
		e.printf("Ctrl-C ends it, and what the bus holds is gone.\n")
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
	queues := []string{defaultCommands}
	for _, region := range l.Regions { // for commands that wait for another region
		queues = append(queues, defaultCommands+"-"+region)
	}
	for _, name := range queues {
		if err := bus.CreateQueue(name, servicebustest.Queue{RequiresSession: true, MaxDeliveryCount: maxDelivery}); err != nil {
			return fmt.Errorf("making the queue %s: %w", name, err)
		}
	}
	return nil
}
