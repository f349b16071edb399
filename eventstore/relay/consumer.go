package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/message"
	"github.com/orderledger/orderledger/internal/retry"
)

// ConsumerConfig says what a [Consumer] receives and what becomes of it.
type ConsumerConfig struct {
	// Bus brings the messages. The consumer does not close it.
	Bus watermill.Subscriber
	// Apply takes what has arrived: deliveries of many lanes, those of one lane in order, perhaps some that it has
	// had before. They are acknowledged after it has returned nil; after an error it is called again with the same.
	// It is not called concurrently, and may keep the deliveries.
	Apply func(ctx context.Context, deliveries []eventstore.Delivery) error
	// Reject takes a message that cannot be read, with the reason, which quotes nothing from it. The message is
	// acknowledged after it has returned nil. Nil: the message is logged by its id, and counted.
	Reject func(ctx context.Context, m *watermill.Message, reason error) error
	// Ledger is where events are fetched that are too large for a message; nil: such messages are rejected.
	Ledger eventstore.Reader
	// Source is the ledger whose deliveries are meant: messages of others are rejected. The zero Source: there are none.
	Source uuid.UUID
	// Shared says that others than the relay may be able to send to the bus. Then what a message says is taken for true
	// only as far as Ledger has come, which is asked whenever one says that it has come farther: what stands behind
	// its end is rejected. While the ledger cannot be asked, such messages wait.
	Shared bool
	// Suspect reports whether an error of Apply may be the fault of a delivery that the ledger knows nothing of. Then
	// the deliveries are compared with Ledger, and those that it does not have are rejected, so that the others need
	// not wait for them. Nil: no error is.
	Suspect func(error) bool
	// Lanes is the number of lanes of the ledger; 0: eventstore.DefaultLanes.
	Lanes int
	// Topic names the topic of a lane; nil: LaneTopic. Lanes of one topic share one subscription.
	Topic func(lane int) string
	// Log is told about failures; nil: nobody is.
	Log *slog.Logger
}

// A Consumer hands the deliveries of all lanes to Apply.
type Consumer struct {
	config ConsumerConfig

	receiving, applying, fetching, rejecting, asking *retry.Outage

	head eventstore.Head // the newest that is known; belongs to Run

	applied, rejected, failures atomic.Uint64
}

// ConsumerStatus counts what a [Consumer] has done since it was made.
type ConsumerStatus struct {
	Applied  uint64 // deliveries, ticks included
	Rejected uint64 // messages that could not be read
	Failures uint64 // calls of Apply that have failed
}

// NewConsumer returns a consumer. It receives nothing until Run.
func NewConsumer(c ConsumerConfig) (*Consumer, error) {
	if c.Bus == nil || c.Apply == nil {
		return nil, errors.New("a consumer needs a bus and what to do with the deliveries")
	}
	if c.Lanes == 0 {
		c.Lanes = eventstore.DefaultLanes
	}
	if c.Lanes < 0 || c.Lanes > message.MaxLanes {
		return nil, fmt.Errorf("a ledger has 1 to %d lanes, not %d", message.MaxLanes, c.Lanes)
	}
	if c.Topic == nil {
		c.Topic = LaneTopic
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	outage := func(doing string) *retry.Outage { return retry.NewOutage(c.Log, doing, longestPause) }
	return &Consumer{
		config:    c,
		receiving: outage("receiving"), applying: outage("applying deliveries"),
		fetching: outage("fetching an event"), rejecting: outage("rejecting a message"),
		asking: outage("asking the ledger how far it is"),
	}, nil
}

// Status returns what the consumer has done so far. It may be called concurrently with Run.
func (c *Consumer) Status() ConsumerStatus {
	return ConsumerStatus{Applied: c.applied.Load(), Rejected: c.rejected.Load(), Failures: c.failures.Load()}
}

// maxHeld is how many messages are applied together at most, and how many more may wait for that.
const maxHeld = 1_000

// Run receives until ctx is done and returns its error. It outlasts failures of the bus and of Apply: meanwhile it
// holds messages, at most a few thousand, neither acknowledged nor refused, so that an outage uses up no
// delivery counts. Messages that it holds at the end will be delivered again.
//
// Run may be called once.
func (c *Consumer) Run(ctx context.Context) error {
	arrived := make(chan *watermill.Message, maxHeld)
	var receivers sync.WaitGroup
	defer receivers.Wait()
	topics := make(map[string]struct{}, c.config.Lanes)
	for lane := range c.config.Lanes {
		topic := c.config.Topic(lane)
		if _, ok := topics[topic]; ok {
			continue
		}
		topics[topic] = struct{}{}
		receivers.Go(func() { c.receive(ctx, topic, arrived) })
	}
	for {
		batch, err := next(ctx, arrived)
		if err != nil {
			return err
		}
		if err := c.apply(ctx, batch); err != nil {
			return err
		}
	}
}

// receive passes on the messages of a topic, and subscribes again when the subscription fails or ends.
func (c *Consumer) receive(ctx context.Context, topic string, arrived chan<- *watermill.Message) {
	attempts := c.receiving.Attempts()
	defer attempts.Leave()
	for ctx.Err() == nil {
		messages, err := c.config.Bus.Subscribe(ctx, topic)
		if err == nil {
			err = errors.New("the subscription has ended")
			for m := range messages {
				attempts.Succeeded(ctx)
				select {
				case arrived <- m:
				case <-ctx.Done():
					return
				}
			}
		}
		if attempts.Failed(ctx, fmt.Errorf("from %s: %w", topic, err)) != nil {
			return
		}
	}
}

// next waits for a message and returns it with all others that are there.
func next(ctx context.Context, arrived <-chan *watermill.Message) ([]*watermill.Message, error) {
	var batch []*watermill.Message
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case m := <-arrived:
		batch = append(batch, m)
	}
	for len(batch) < cap(arrived) {
		select {
		case m := <-arrived:
			batch = append(batch, m)
			continue
		default:
		}
		break
	}
	return batch, nil
}

// apply reads messages, applies what they bring, and acknowledges them. It returns only errors of ctx.
func (c *Consumer) apply(ctx context.Context, batch []*watermill.Message) error {
	deliveries := make([]eventstore.Delivery, 0, len(batch))
	readable := make([]*watermill.Message, 0, len(batch))
	for _, m := range batch {
		d, err := c.read(ctx, m)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if err := c.reject(ctx, m, err); err != nil {
				return err
			}
		default:
			deliveries = append(deliveries, d)
			readable = append(readable, m)
		}
	}
	deliveries, readable, err := c.believe(ctx, deliveries, readable)
	if err != nil || len(deliveries) == 0 {
		return err
	}
	err = c.applying.Do(ctx, func() error {
		err := c.config.Apply(ctx, deliveries)
		if err == nil {
			return nil
		}
		c.failures.Add(1)
		if c.config.Ledger != nil && c.config.Suspect != nil && c.config.Suspect(err) {
			var sifted error
			deliveries, readable, sifted = c.sift(ctx, deliveries, readable)
			err = errors.Join(err, sifted)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.applied.Add(uint64(len(deliveries)))
	for _, m := range readable {
		m.Ack()
	}
	return nil
}

// read returns the delivery of a message, or why it cannot be read.
func (c *Consumer) read(ctx context.Context, m *watermill.Message) (eventstore.Delivery, error) {
	d, whole, err := message.Decode(m.Payload)
	if err != nil {
		return d, err
	}
	if c.config.Source != (uuid.UUID{}) && d.Source != c.config.Source {
		return d, errors.New("reading a message: it is of another ledger")
	}
	if d.Lane >= c.config.Lanes || d.Event != nil && d.Lane != eventstore.Lane(d.Event.Stream, c.config.Lanes) {
		return d, errors.New("reading a message: lane is not that of the stream")
	}
	if whole {
		return d, nil
	}
	if c.config.Ledger == nil {
		return d, errors.New("reading a message: no ledger to fetch its event from")
	}
	var wrong error
	err = c.fetching.Do(ctx, func() error {
		e, err := message.Fetch(ctx, c.config.Ledger, d.Event)
		if errors.Is(err, message.ErrMismatch) {
			wrong = err
			return nil
		}
		if err == nil {
			d.Event = e
		}
		return err
	})
	return d, errors.Join(err, wrong)
}

// believe rejects the deliveries that stand behind the end of the ledger, if the bus is shared, and returns the others.
// It returns only errors of ctx.
func (c *Consumer) believe(ctx context.Context, deliveries []eventstore.Delivery, messages []*watermill.Message) ([]eventstore.Delivery, []*watermill.Message, error) {
	beyond := func(d eventstore.Delivery) bool { return isBeyond(d, c.head) }
	if !c.config.Shared || c.config.Ledger == nil || !slices.ContainsFunc(deliveries, beyond) {
		return deliveries, messages, nil
	}
	if err := c.asking.Do(ctx, func() (err error) {
		c.head, err = c.config.Ledger.Head(ctx) // what a relay has sent was in the ledger before
		return err
	}); err != nil {
		return nil, nil, err
	}
	return c.keep(ctx, deliveries, messages, func(d eventstore.Delivery) error {
		if beyond(d) {
			return errBeyond
		}
		return nil
	})
}

var errBeyond = errors.New("the ledger has not come as far as the message says")

// isBeyond reports whether a delivery tells of something that has not happened by the time of a head. What is said to
// have happened in an earlier incarnation may have.
func isBeyond(d eventstore.Delivery, head eventstore.Head) bool {
	return d.Incarnation > head.Incarnation || d.Incarnation == head.Incarnation && d.Position > head.Position
}

// keep rejects the deliveries with which something is wrong, and returns the others.
func (c *Consumer) keep(ctx context.Context, deliveries []eventstore.Delivery, messages []*watermill.Message, wrong func(eventstore.Delivery) error) ([]eventstore.Delivery, []*watermill.Message, error) {
	kept := make([]eventstore.Delivery, 0, len(deliveries))
	keptMessages := make([]*watermill.Message, 0, len(messages))
	for i, d := range deliveries {
		reason := wrong(d)
		if reason == nil {
			kept, keptMessages = append(kept, d), append(keptMessages, messages[i])
			continue
		}
		if err := c.reject(ctx, messages[i], reason); err != nil {
			return deliveries, messages, err
		}
	}
	return kept, keptMessages, nil
}

// sift rejects the deliveries that the ledger does not have, and returns the others. Those that it cannot judge stay.
func (c *Consumer) sift(ctx context.Context, deliveries []eventstore.Delivery, messages []*watermill.Message) ([]eventstore.Delivery, []*watermill.Message, error) {
	head, err := c.config.Ledger.Head(ctx) // what a relay has sent was in the ledger before
	if err != nil {
		return deliveries, messages, fmt.Errorf("reading the ledger's head: %w", err)
	}
	return c.keep(ctx, deliveries, messages, func(d eventstore.Delivery) error {
		if isBeyond(d, head) {
			return errBeyond
		}
		if d.Event != nil && d.Incarnation == head.Incarnation {
			if _, err := message.Fetch(ctx, c.config.Ledger, d.Event); errors.Is(err, message.ErrMismatch) {
				return err
			}
		}
		return nil
	})
}

func (c *Consumer) reject(ctx context.Context, m *watermill.Message, reason error) error {
	if c.config.Reject != nil {
		err := c.rejecting.Do(ctx, func() error { return c.config.Reject(ctx, m, reason) })
		if err != nil {
			return err
		}
	} else {
		c.config.Log.ErrorContext(ctx, "message rejected", "message_id", m.UUID, "reason", reason)
	}
	c.rejected.Add(1)
	m.Ack()
	return nil
}
