package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	watermill "github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
	"github.com/orderledger/orderledger/internal/bench"
	"github.com/orderledger/orderledger/internal/message"
)

// busBatches are how many messages are published in one call.
var busBatches = []int{1, 10, 100, 1_000}

// busMemory is what the program may use with a bus in it, which keeps all that is published and not yet received. Within
// its usual memory it would mostly collect garbage.
const busMemory = 2 << 30

const (
	busRegion = "bench"
	busLanes  = eventstore.DefaultLanes
	busOrders = 65 // orders for each ten of other subjects: more than there are lanes, sessions and messages in flight
)

// measureBus measures the bus between the processes: both ends of it, and the relay behind one.
func (b *benchmark) measureBus(ctx context.Context) (_ bench.Section, err error) {
	s := bench.Section{
		Name: "bus",
		About: fmt.Sprintf("messages of %d orders in %d sessions are published and received by Azure's client, over a Service Bus in this process; "+
			"lag is from the answer of the ledger until the relay's message was received", b.busOrders(), busLanes),
		Limit: "the same bytes go through TCP connections of the loopback in the same pieces, each with an answer of one byte",
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(busMemory))
	dir, tidy, err := b.scratch("bus")
	if err != nil {
		return s, err
	}
	defer tidy(&err)
	m, err := b.newBusBench(ctx, dir)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	for _, size := range busBatches {
		f, err := m.publishing(ctx, size)
		if err != nil {
			return s, err
		}
		s.Figures = append(s.Figures, f...)
	}
	received, err := m.receiving(ctx)
	if err != nil {
		return s, err
	}
	s.Figures = append(s.Figures, received...)
	relayed, err := m.relaying(ctx)
	if err != nil {
		return s, err
	}
	s.Figures = append(s.Figures, relayed...)
	s.Checked = fmt.Sprintf("all messages of %d orders were received, once and each lane in order, and so was all that the relay has sent", b.busOrders())
	return s, nil
}

func (b *benchmark) busOrders() int { return b.orders * busOrders / 10 }

// A busBench is a bus with its two ends, and messages for it.
type busBench struct {
	*benchmark
	bus       *servicebustest.Server
	address   *busAddress
	publisher watermill.Publisher
	ledger    *pebblestore.Store
	maker     *orderMaker
	lanes     [][]eventstore.Delivery // one of each order, by its lane
}

func (b *benchmark) newBusBench(ctx context.Context, dir string) (_ *busBench, err error) {
	m := &busBench{benchmark: b, lanes: make([][]eventstore.Delivery, busLanes)}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.bus, err = servicebustest.Start(servicebustest.Config{}); err != nil {
		return nil, err
	}
	if err := (localCommand{Regions: []string{busRegion}}).furnish(m.bus); err != nil {
		return nil, err
	}
	if m.address, err = parseBus("servicebus://local:local@"+m.bus.Addr()+"/?emulator=true", busRegion); err != nil {
		return nil, err
	}
	if m.publisher, err = m.address.publisher(); err != nil {
		return nil, err
	}
	if m.ledger, err = pebblestore.Open(dir, &pebblestore.Config{Logger: b.log}); err != nil {
		return nil, err
	}
	if m.maker, err = newOrderMaker(ctx, m.ledger); err != nil {
		return nil, err
	}
	return m, m.make()
}

// make makes a delivery of each order.
func (m *busBench) make() error {
	m.step("making the messages of %d orders", m.busOrders())
	var newest [busLanes]eventstore.Position
	for i := range m.busOrders() {
		order, events, err := m.maker.held("bus", i, 1)
		if err != nil {
			return err
		}
		e := &eventstore.Recorded{Event: events[0], Stream: domain.Stream(order.ID), Position: eventstore.Position(i + 1), Time: m.maker.base}
		lane := eventstore.Lane(e.Stream, busLanes)
		m.lanes[lane] = append(m.lanes[lane], eventstore.Delivery{
			Source: m.maker.ledger, Lane: lane, Position: e.Position, Previous: newest[lane], Event: e,
		})
		newest[lane] = e.Position
	}
	return nil
}

func (m *busBench) close() error {
	var errs []error
	if m.publisher != nil {
		errs = append(errs, m.publisher.Close())
	}
	if m.ledger != nil {
		errs = append(errs, m.ledger.Close())
	}
	if m.bus != nil {
		errs = append(errs, m.bus.Close())
	}
	return errors.Join(errs...)
}

// empty takes everything off the bus.
func (m *busBench) empty() error {
	return errors.Join(
		m.bus.Delete(servicebustest.SubscriptionPath(m.address.topic, busRegion)),
		m.bus.CreateSubscription(m.address.topic, busRegion, servicebustest.Subscription{RequiresSession: true, MaxDeliveryCount: maxDelivery}))
}

// batch is the next messages of a lane, which begin again after the last.
func (m *busBench) batch(lane int, from *int, size int) []*watermill.Message {
	all := m.lanes[lane]
	messages := make([]*watermill.Message, size)
	for i := range messages {
		messages[i] = message.New(all[*from%len(all)], busRegion)
		*from++
	}
	return messages
}

// publishing measures calls of Publish with so many messages, one at a time in each lane, as the relay makes them.
func (m *busBench) publishing(ctx context.Context, size int) ([]bench.Figure, error) {
	name := fmt.Sprintf("published by %d", size)
	loop, err := newLoopback(busLanes)
	if err != nil {
		return nil, err
	}
	var next [busLanes]int
	var subject, limit []bench.Run
	run := func(op func(lane int, batch []*watermill.Message) error) (bench.Run, error) {
		r, err := bench.Closed(ctx, busLanes, m.measure, func(_ context.Context, lane int) error {
			if len(m.lanes[lane]) == 0 {
				return nil
			}
			return op(lane, m.batch(lane, &next[lane], size))
		})
		r.Ops *= size
		return r, err
	}
	err = bench.Interleave(m.rounds,
		func() (err error) {
			m.step("%s, round %d of %d: limit", name, len(limit)+1, m.rounds)
			var r bench.Run
			r, err = run(func(lane int, batch []*watermill.Message) error { return loop.send(lane, batch) })
			limit = append(limit, r)
			return err
		},
		func() error {
			m.step("%s, round %d of %d", name, len(subject)+1, m.rounds)
			r, err := run(func(_ int, batch []*watermill.Message) error { return m.publisher.Publish(m.address.topic, batch...) })
			subject = append(subject, r)
			return errors.Join(err, m.empty())
		})
	if err = errors.Join(err, loop.close()); err != nil {
		return nil, err
	}
	return []bench.Figure{
		{Name: name, Unit: "messages/s", Value: spread(subject, bench.Run.Rate), Limit: new(spread(limit, bench.Run.Rate))},
		{Name: name + ": CPU, of the bus too", Unit: "s/million", Value: spread(subject, cpuPerMillion), Limit: new(spread(limit, cpuPerMillion))},
	}, nil
}

// receiving measures how fast all orders are received, from a bus that has them.
func (m *busBench) receiving(ctx context.Context) ([]bench.Figure, error) {
	loop, err := newLoopback(busLanes)
	if err != nil {
		return nil, err
	}
	var subject, limit []bench.Run
	err = bench.Interleave(m.rounds,
		func() error {
			m.step("received, round %d of %d: limit", len(limit)+1, m.rounds)
			var watch bench.Stopwatch
			watch.Start()
			err := bench.Each(ctx, busLanes, busLanes, func(_ context.Context, lane int) error {
				var from int
				for range m.lanes[lane] {
					if err := loop.send(lane, m.batch(lane, &from, 1)); err != nil {
						return err
					}
				}
				return nil
			})
			watch.Stop()
			limit = append(limit, watch.Run(m.busOrders()))
			return err
		},
		func() error {
			m.step("received, round %d of %d", len(subject)+1, m.rounds)
			r, err := m.receiveAll(ctx)
			subject = append(subject, r)
			return err
		})
	if err = errors.Join(err, loop.close()); err != nil {
		return nil, err
	}
	return []bench.Figure{
		{Name: "received", Unit: "messages/s", Value: spread(subject, bench.Run.Rate), Limit: new(spread(limit, bench.Run.Rate))},
		{Name: "received: CPU, of the bus too", Unit: "s/million", Value: spread(subject, cpuPerMillion), Limit: new(spread(limit, cpuPerMillion))},
	}, nil
}

// receiveAll puts a message of each order on the bus and measures how long it takes to receive and to acknowledge them.
func (m *busBench) receiveAll(ctx context.Context) (r bench.Run, err error) {
	if err := m.empty(); err != nil {
		return r, err
	}
	if err := bench.Each(ctx, busLanes, busLanes, func(_ context.Context, lane int) error {
		var from int
		for left := len(m.lanes[lane]); left > 0; left -= 100 {
			if err := m.publisher.Publish(m.address.topic, m.batch(lane, &from, min(left, 100))...); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return r, err
	}
	subscriber, err := m.address.subscriber(busLanes, m.log)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, subscriber.Close()) }()
	var watch bench.Stopwatch
	watch.Start()
	messages, err := subscriber.Subscribe(ctx, m.address.topic)
	if err != nil {
		return r, err
	}
	var newest [busLanes]eventstore.Position
	for range m.busOrders() {
		select {
		case w := <-messages:
			d, _, err := message.Decode(w.Payload)
			if err != nil {
				return r, err
			}
			if d.Previous != newest[d.Lane] {
				return r, &gateError{fmt.Errorf("lane %d goes on at position %d after %d", d.Lane, d.Position, newest[d.Lane])}
			}
			newest[d.Lane] = d.Position
			w.Ack()
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
	watch.Stop()
	return watch.Run(m.busOrders()), nil
}
