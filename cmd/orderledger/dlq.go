package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// dlqCommand looks after messages that nobody could read.
type dlqCommand struct {
	Bus      string `required:"" env:"ORDERLEDGER_BUS" placeholder:"URL" help:"The bus: servicebus://[NAME:KEY@]HOST/?topic=…&subscription=…&commands=… (${env})."`
	Region   string `default:"local" env:"ORDERLEDGER_REGION" placeholder:"NAME" help:"Whose subscription to the events is meant (${env}; default: ${default})."`
	Commands bool   `help:"The dead letters of the queue of commands, instead of those of the events."`

	List  dlqListCommand  `cmd:"" help:"List dead letters, the oldest first."`
	Show  dlqShowCommand  `cmd:"" help:"Show one with its body."`
	Retry dlqRetryCommand `cmd:"" help:"Send dead letters again, and take them away."`
	Drop  dlqDropCommand  `cmd:"" help:"Take dead letters away for good."`
}

type dlqListCommand struct {
	Limit int `default:"100" help:"How many at most (default: ${default})."`
}

type dlqShowCommand struct {
	Number int64 `arg:"" help:"Its sequence number, as list says."`
}

type dlqRetryCommand struct {
	Numbers []int64 `arg:"" optional:"" help:"Sequence numbers, as list says."`
	All     bool    `help:"All that are there now."`
}

type dlqDropCommand struct {
	Numbers []int64 `arg:"" help:"Sequence numbers, as list says."`
}

// A deadLetter is how a dead letter is shown.
type deadLetter struct {
	Number      int64     `json:"number"`
	ID          string    `json:"id"`
	Session     string    `json:"session,omitempty"`
	Subject     string    `json:"subject,omitempty"`
	Reason      string    `json:"reason"`
	Description string    `json:"description,omitempty"`
	Enqueued    time.Time `json:"enqueued"`
	Deliveries  uint32    `json:"deliveries"`
	Bytes       int       `json:"bytes"`
	Body        string    `json:"body,omitempty"`
}

func deadLetterOf(m *azservicebus.ReceivedMessage) deadLetter {
	d := deadLetter{ID: m.MessageID, Deliveries: m.DeliveryCount, Bytes: len(m.Body)}
	for to, from := range map[*string]*string{
		&d.Session: m.SessionID, &d.Subject: m.Subject, &d.Reason: m.DeadLetterReason, &d.Description: m.DeadLetterErrorDescription,
	} {
		if from != nil {
			*to = *from
		}
	}
	if m.SequenceNumber != nil {
		d.Number = *m.SequenceNumber
	}
	if m.EnqueuedTime != nil {
		d.Enqueued = m.EnqueuedTime.UTC()
	}
	return d
}

// dlqTimeout bounds a call of the bus that has no other bound.
const dlqTimeout = 30 * time.Second

// A deadLetterQueue is an open one.
type deadLetterQueue struct {
	client   *azservicebus.Client
	receiver *azservicebus.Receiver
	entity   string // where its messages came from: the topic, or the queue
}

func (d *dlqCommand) open() (*deadLetterQueue, error) {
	bus, err := parseBus(d.Bus, d.Region)
	if err != nil {
		return nil, err
	}
	if bus == nil {
		return nil, usage("a bus in the process keeps no dead letters: its server logs them")
	}
	bus.connection.Options = &azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: 1}}
	q := &deadLetterQueue{entity: bus.topic}
	if q.client, err = bus.connection.Client(); err != nil {
		return nil, &exitError{exitUnavailable, err}
	}
	options := &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter}
	if d.Commands {
		q.entity = bus.commands
		q.receiver, err = q.client.NewReceiverForQueue(bus.commands, options)
	} else {
		q.receiver, err = q.client.NewReceiverForSubscription(bus.topic, bus.subscription, options)
	}
	if err != nil {
		return nil, errors.Join(err, q.close())
	}
	return q, nil
}

func (q *deadLetterQueue) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), dlqTimeout)
	defer cancel()
	return q.client.Close(ctx)
}

// each calls f for dead letters in order, from a number on, until f says that it is enough.
func (q *deadLetterQueue) each(ctx context.Context, from int64, f func(*azservicebus.ReceivedMessage) (more bool, err error)) error {
	for {
		ctx, cancel := context.WithTimeout(ctx, dlqTimeout)
		messages, err := q.receiver.PeekMessages(ctx, 100, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
		cancel()
		if err != nil {
			return &exitError{exitUnavailable, fmt.Errorf("looking into the dead-letter queue: %w", err)}
		}
		for _, m := range messages {
			if more, err := f(m); err != nil || !more {
				return err
			}
			from = *m.SequenceNumber + 1
		}
		if len(messages) == 0 {
			return nil
		}
	}
}

func (l dlqListCommand) Run(ctx context.Context, e *environment, d *dlqCommand) (err error) {
	q, err := d.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	all := []deadLetter{}
	if err := q.each(ctx, 0, func(m *azservicebus.ReceivedMessage) (bool, error) {
		all = append(all, deadLetterOf(m))
		return len(all) < l.Limit, nil
	}); err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(all)
	}
	for _, m := range all {
		e.printf("%-8d %s  %-12s %d bytes  %s: %s\n", m.Number, m.Enqueued.Format(time.RFC3339), m.Session, m.Bytes, m.Reason, m.Description)
	}
	e.note("%d dead letters", len(all))
	return nil
}

func (s dlqShowCommand) Run(ctx context.Context, e *environment, d *dlqCommand) (err error) {
	q, err := d.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	found := false
	err = q.each(ctx, s.Number, func(m *azservicebus.ReceivedMessage) (bool, error) {
		if found = *m.SequenceNumber == s.Number; !found {
			return false, nil
		}
		shown := deadLetterOf(m)
		shown.Body = string(m.Body)
		if e.JSON {
			return false, e.printJSON(shown)
		}
		e.printf("number       %d\nmessage id   %s\nsession      %s\nsubject      %s\nenqueued     %s\ndeliveries   %d\nreason       %s\n             %s\n\n%s\n",
			shown.Number, shown.ID, shown.Session, shown.Subject, shown.Enqueued.Format(time.RFC3339), shown.Deliveries, shown.Reason, shown.Description, shown.Body)
		return false, nil
	})
	if err == nil && !found {
		err = &exitError{exitNotFound, fmt.Errorf("there is no dead letter %d", s.Number)}
	}
	return err
}

func (r dlqRetryCommand) Run(ctx context.Context, e *environment, d *dlqCommand) error {
	if r.All == (len(r.Numbers) > 0) {
		return usage("name the dead letters, or --all")
	}
	return d.take(ctx, e, r.Numbers, "sent again", func(ctx context.Context, q *deadLetterQueue, m *azservicebus.ReceivedMessage) error {
		sender, err := q.client.NewSender(q.entity, nil)
		if err != nil {
			return err
		}
		defer func() { _ = sender.Close(ctx) }() // what it has sent is sent
		again := m.Message()
		delete(again.ApplicationProperties, "DeadLetterReason")
		delete(again.ApplicationProperties, "DeadLetterErrorDescription")
		return sender.SendMessage(ctx, again, nil)
	})
}

func (r dlqDropCommand) Run(ctx context.Context, e *environment, d *dlqCommand) error {
	return d.take(ctx, e, r.Numbers, "dropped", func(context.Context, *deadLetterQueue, *azservicebus.ReceivedMessage) error { return nil })
}

// take does something with dead letters and takes each away once it is done. No numbers mean all that are there. What is
// sent twice, because taking it away has failed, changes nothing.
func (d *dlqCommand) take(ctx context.Context, e *environment, numbers []int64, done string, do func(context.Context, *deadLetterQueue, *azservicebus.ReceivedMessage) error) (err error) {
	q, err := d.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	wanted := make(map[int64]bool)
	if err := q.each(ctx, 0, func(m *azservicebus.ReceivedMessage) (bool, error) {
		wanted[*m.SequenceNumber] = len(numbers) == 0
		return true, nil
	}); err != nil {
		return err
	}
	for _, n := range numbers {
		if _, ok := wanted[n]; !ok {
			return &exitError{exitNotFound, fmt.Errorf("there is no dead letter %d", n)}
		}
		wanted[n] = true
	}
	var left []*azservicebus.ReceivedMessage // received on the way to the others
	defer func() {
		for _, m := range left {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dlqTimeout)
			err = errors.Join(err, q.receiver.AbandonMessage(ctx, m, nil))
			cancel()
		}
	}()
	count := 0
	for n := len(wanted); n > 0; {
		within, cancel := context.WithTimeout(ctx, dlqTimeout)
		messages, err := q.receiver.ReceiveMessages(within, min(n, 100), nil)
		cancel()
		if err != nil {
			return &exitError{exitUnavailable, fmt.Errorf("receiving dead letters, after %d were %s: %w", count, done, err)}
		}
		for _, m := range messages {
			n--
			if !wanted[*m.SequenceNumber] {
				left = append(left, m)
				continue
			}
			within, cancel := context.WithTimeout(ctx, dlqTimeout)
			err := do(within, q, m)
			if err == nil {
				err = q.receiver.CompleteMessage(within, m, nil)
			}
			cancel()
			if err != nil {
				return fmt.Errorf("dead letter %s, after %d were %s: %w", strconv.FormatInt(*m.SequenceNumber, 10), count, done, err)
			}
			count++
		}
	}
	if e.JSON {
		return e.printJSON(map[string]int{"count": count})
	}
	e.printf("%d %s\n", count, done)
	return nil
}
