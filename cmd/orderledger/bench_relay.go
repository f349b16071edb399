package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/relay"
	"github.com/orderledger/orderledger/internal/bench"
	"github.com/orderledger/orderledger/internal/message"
)

// relayWriters append at once while the relay's lag is measured.
const relayWriters = 64

// relaying measures how fast what stands in the ledger is relayed and received, and the lag at half of that.
func (m *busBench) relaying(ctx context.Context) (_ []bench.Figure, err error) {
	orders := max(m.busOrders()/benchLife, 1)
	m.step("appending %d orders of %d events", orders, benchLife)
	if err := errors.Join(m.empty(), m.maker.fill(ctx, m.ledger, "relay", 0, orders, nil)); err != nil {
		return nil, err
	}
	seen, end, err := m.watch(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end(), seen.err) }()
	r, err := relay.New(relay.Config{
		Name: "bus", Ledger: m.ledger, Bus: m.publisher, Topic: func(int) string { return m.address.topic }, Region: busRegion, Log: m.log,
	})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	m.step("relaying")
	var watch bench.Stopwatch
	watch.Start()
	go func() { stopped <- r.Run(running) }()
	defer func() {
		stop()
		if ended := <-stopped; !errors.Is(ended, context.Canceled) {
			err = errors.Join(err, ended)
		}
	}()
	if err := seen.await(ctx, orders*benchLife); err != nil {
		return nil, err
	}
	watch.Stop()
	seen.forget()
	peak := watch.Run(orders * benchLife)
	if err := m.appendAt(ctx, peak.Rate()/2, seen); err != nil {
		return nil, err
	}
	figures := []bench.Figure{
		plainFigure("relayed and received", "events/s", peak.Rate()),
		plainFigure("relayed and received: CPU, of the bus too", "s/million", cpuPerMillion(peak)),
	}
	for _, q := range quantiles {
		figures = append(figures, plainFigure(q.name+" of the relay's lag at 50 % of that", "ms", q.of(bench.Run{Latency: &seen.lag})))
	}
	return figures, nil
}

// watch receives what the relay sends, until end is called.
func (m *busBench) watch(ctx context.Context) (seen *lagWatch, end func() error, err error) {
	subscriber, err := m.address.subscriber(busLanes, m.log)
	if err != nil {
		return nil, nil, err
	}
	messages, err := subscriber.Subscribe(ctx, m.address.topic)
	if err != nil {
		return nil, nil, errors.Join(err, subscriber.Close())
	}
	seen = &lagWatch{first: make(map[uuid.UUID]time.Time)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		seen.receive(messages)
	}()
	return seen, func() error {
		err := subscriber.Close()
		<-done
		return err
	}, nil
}

// appendAt appends events at a rate, and returns when all of them were received.
func (m *busBench) appendAt(ctx context.Context, rate float64, seen *lagWatch) error {
	m.step("lag at %.0f events/s", rate)
	submission := benchLife - len(life) // the events of one
	var begun atomic.Int64
	_, err := bench.Open(ctx, relayWriters, rate/float64(submission), m.trial, func(ctx context.Context, _ int) error {
		n := int(begun.Add(1))
		order, events, err := m.maker.held("lag", n, submission)
		if err != nil {
			return err
		}
		if _, err := m.ledger.Append(ctx, domain.Stream(order.ID), eventstore.NoStream, events); err != nil {
			return err
		}
		seen.acknowledged(events)
		return nil
	})
	if err != nil {
		return err
	}
	return seen.await(ctx, 0)
}

// A lagWatch pairs what the ledger has acknowledged with what was received. Either may come first.
type lagWatch struct {
	lag bench.Histogram

	mu     sync.Mutex              // protects what follows
	first  map[uuid.UUID]time.Time // when one of the two came, of events of which the other has not
	want   int                     // how many of them somebody waits for
	waiter chan struct{}           // closed when there are so many; nil: nobody waits
	err    error                   // what was wrong with a message
}

func (l *lagWatch) acknowledged(events []eventstore.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		l.pair(events[i].ID, func(time.Time) time.Duration { return 0 }) // the message was faster than the answer
	}
}

// forget makes what has come so far count for nothing.
func (l *lagWatch) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.first)
}

// receive acknowledges messages until there are no more.
func (l *lagWatch) receive(messages <-chan *watermill.Message) {
	for w := range messages {
		d, _, err := message.Decode(w.Payload)
		l.mu.Lock()
		switch {
		case err != nil:
			l.err = errors.Join(l.err, &gateError{err})
		case d.Event != nil:
			l.pair(d.Event.ID, time.Since)
		}
		l.mu.Unlock()
		w.Ack()
	}
}

// pair notes one of the two and records the lag when the other has come. The caller holds mu.
func (l *lagWatch) pair(id uuid.UUID, lag func(time.Time) time.Duration) {
	if at, ok := l.first[id]; ok {
		delete(l.first, id)
		l.lag.Record(lag(at))
	} else {
		l.first[id] = time.Now()
	}
	if len(l.first) == l.want && l.waiter != nil {
		close(l.waiter)
		l.waiter = nil
	}
}

// await returns when there are so many events of which only one of the two has come.
func (l *lagWatch) await(ctx context.Context, want int) error {
	l.mu.Lock()
	waiter := make(chan struct{})
	if len(l.first) == want {
		close(waiter)
	} else {
		l.want, l.waiter = want, waiter
	}
	l.mu.Unlock()
	select {
	case <-waiter:
		return nil
	case <-time.After(2 * requestTimeout):
		l.mu.Lock()
		defer l.mu.Unlock()
		return &gateError{fmt.Errorf("%d events have come once where it should have been %d: some are missing, or came twice", len(l.first), want)}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A loopback is what the bus cannot be faster than: bytes that go through connections and are answered.
type loopback struct {
	conns   []net.Conn
	servers sync.WaitGroup
}

func newLoopback(connections int) (_ *loopback, err error) {
	l := new(loopback)
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there at once
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, listener.Close()) }()
	for range connections {
		conn, err := net.Dial("tcp", listener.Addr().String()) //nolint:noctx // it is there at once
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.conns = append(l.conns, conn)
		server, err := listener.Accept()
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.servers.Go(func() { echo(server) })
	}
	return l, nil
}

// echo answers each piece, which begins with its length, by one byte.
func echo(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, 64<<10)
	var head [4]byte
	for {
		if _, err := io.ReadFull(reader, head[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, reader, int64(binary.BigEndian.Uint32(head[:]))); err != nil {
			return
		}
		if _, err := conn.Write(head[:1]); err != nil {
			return
		}
	}
}

// send sends the bodies of messages by a connection and waits for the answer.
func (l *loopback) send(connection int, messages []*watermill.Message) error {
	pieces := make(net.Buffers, 1, len(messages)+1)
	size := 0
	for _, m := range messages {
		pieces = append(pieces, m.Payload)
		size += len(m.Payload)
	}
	pieces[0] = binary.BigEndian.AppendUint32(nil, uint32(size))
	if _, err := pieces.WriteTo(l.conns[connection]); err != nil {
		return err
	}
	var answer [1]byte
	_, err := io.ReadFull(l.conns[connection], answer[:])
	return err
}

func (l *loopback) close() error {
	var errs []error
	for _, conn := range l.conns {
		errs = append(errs, conn.Close())
	}
	l.servers.Wait()
	return errors.Join(errs...)
}
