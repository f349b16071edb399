package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	watermill "github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
)

// A busAddress says where the bus is, from a URL such as
//
//	servicebus://example.servicebus.windows.net/?topic=order-events&subscription=eu
//	servicebus://NAME:KEY@127.0.0.1:5672/?emulator=true
//
// With a name and a key it connects by those; without, by the credential that Azure's identity library finds.
type busAddress struct {
	connection   servicebus.Connection
	topic        string // of the events
	subscription string // of this region
	commands     string // queue of commands; empty: none is used
}

const (
	defaultTopic    = "order-events"
	defaultCommands = "order-commands"
)

// parseBus reads the address of a bus. An empty one means that the bus is in the process.
func parseBus(text, region string) (*busAddress, error) {
	if text == "" || text == "inprocess:" {
		return nil, nil
	}
	wrong := func(why string) error {
		return usage("a bus is inprocess: or servicebus://HOST/?topic=…&subscription=…&commands=…: %s", why)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "servicebus" || u.Host == "" || u.Path != "" && u.Path != "/" {
		return nil, wrong("this is none") // the text may hold a key
	}
	b := &busAddress{topic: defaultTopic, subscription: region, commands: defaultCommands}
	emulator := false
	for name, values := range u.Query() {
		value := values[0]
		switch name {
		case "topic":
			b.topic = value
		case "subscription":
			b.subscription = value
		case "commands":
			b.commands = value
		case "emulator":
			emulator = value == "true"
		default:
			return nil, wrong("it has no parameter " + name)
		}
	}
	switch key, ok := u.User.Password(); {
	case ok:
		b.connection.ConnectionString = fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=%s;SharedAccessKey=%s", u.Host, u.User.Username(), key)
		if emulator {
			b.connection.ConnectionString += ";UseDevelopmentEmulator=true"
		}
	case emulator:
		return nil, wrong("an emulator needs a name and a key, which may be any")
	case strings.Contains(u.Host, ":"):
		return nil, wrong("a namespace has no port")
	default:
		b.connection.Namespace = u.Host
	}
	return b, nil
}

func (b *busAddress) publisher() (watermill.Publisher, error) {
	return servicebus.NewPublisher(servicebus.PublisherConfig{Connection: b.connection})
}

// perLane is how many messages of a lane may be on their way into one transaction of the read models.
const perLane = 32

// strangers is how many sessions that are no lanes may be received from beside them. They bring only what cannot be read,
// for which no lane shall wait.
const strangers = 8

// subscriber receives what the relay has sent, lane by lane.
func (b *busAddress) subscriber(lanes int, log *slog.Logger) (watermill.Subscriber, error) {
	return servicebus.NewSubscriber(servicebus.SubscriberConfig{
		Connection: b.connection, Subscription: b.subscription, Sessions: lanes + strangers, MaxInFlight: perLane, Log: log,
	})
}

// takesCommands reports whether commands come over the bus.
func (b *busAddress) takesCommands() bool { return b != nil && b.commands != "" }

// queueSubscriber receives commands, one of each session at a time.
func (b *busAddress) queueSubscriber(lanes int, log *slog.Logger) (watermill.Subscriber, error) {
	return servicebus.NewSubscriber(servicebus.SubscriberConfig{Connection: b.connection, Sessions: lanes, Log: log})
}

// reject puts a message that cannot be read into the dead-letter queue.
func reject(_ context.Context, m *watermill.Message, reason error) error {
	servicebus.DeadLetterOnNack(m, "unreadable", reason.Error())
	m.Nack()
	return nil
}
