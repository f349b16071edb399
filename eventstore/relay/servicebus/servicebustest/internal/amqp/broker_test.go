package amqp_test

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

// A broker is the least that can stand behind connections: queues in memory, which take what senders send and give it to
// whoever has credit. It calls the package with its own lock held, from whatever goroutine there is.
type broker struct {
	t *testing.T
	// attach, unless nil, is asked first about each link; it returns whether it has dealt with it.
	attach func(*amqp.Link) (amqp.Handler, bool)
	reply  amqp.Reply

	mu       sync.Mutex
	queues   map[string]*queue
	outcomes []amqp.State // that receivers have sent
	tags     []uint64     // of the deliveries that they were about
	closed   []error      // what links ended with
	links    []*amqp.Link
	nextTag  uint64
}

type queue struct {
	waiting [][]byte
	links   []*amqp.Link
}

func newBroker(t *testing.T) *broker { return &broker{t: t, queues: make(map[string]*queue)} }

func (b *broker) queue(name string) *queue {
	if b.queues[name] == nil {
		b.queues[name] = &queue{}
	}
	return b.queues[name]
}

// put gives messages to a queue.
func (b *broker) put(name string, messages ...[]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(name)
	q.waiting = append(q.waiting, messages...)
	b.deliver(q)
}

func (b *broker) deliver(q *queue) {
	for _, l := range q.links {
		var burst []amqp.Transfer
		for _, m := range q.waiting[:min(l.Credit(), len(q.waiting))] {
			b.nextTag++
			burst = append(burst, amqp.Transfer{Tag: binary.BigEndian.AppendUint64(nil, b.nextTag), Message: m})
		}
		n, _ := l.Send(burst...)
		q.waiting = q.waiting[n:]
	}
}

func (b *broker) onAttach(l *amqp.Link) amqp.Handler {
	if b.attach != nil {
		if h, ok := b.attach(l); ok {
			return h
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.links = append(b.links, l)
	if err := l.Accept(b.reply); err != nil {
		b.t.Errorf("accept: %v", err)
	}
	h := amqp.Handler{Closed: func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.closed = append(b.closed, err)
	}}
	if l.Asked().Role == amqp.RoleSender {
		h.Delivery = func(d *amqp.Delivery) {
			b.put(*l.Asked().Target.Address, d.Message)
			d.Settle(amqp.Accepted{})
		}
		return h
	}
	q := b.queue(*l.Asked().Source.Address)
	q.links = append(q.links, l)
	h.Credit = func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.deliver(q)
	}
	h.Disposition = func(d amqp.Disposition) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.outcomes = append(b.outcomes, d.State)
		b.tags = append(b.tags, binary.BigEndian.Uint64(d.Tag))
		if !d.Settled {
			l.Settle(d.Tag, d.State)
		}
	}
	return h
}

// link returns the i-th link that the broker has accepted.
func (b *broker) link(i int) *amqp.Link {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.links[i]
}

// serve listens on loopback and returns the address and a function that waits for the next connection's end.
func (b *broker) serve(cfg amqp.Config) (addr string, ended func() error) {
	b.t.Helper()
	cfg.Attach = b.onAttach
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ends := make(chan error, 16)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { ends <- amqp.Serve(ctx, nc, cfg) })
		}
	})
	b.t.Cleanup(func() {
		cancel()
		l.Close()
		running.Wait()
	})
	return "amqp://" + l.Addr().String(), func() error { return <-ends }
}

func diff(t *testing.T, what string, got, want any, opts ...cmp.Option) {
	t.Helper()
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}
