package relay

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
)

var (
	errBusClosed      = errors.New("the bus is closed")
	errUnacknowledged = errors.New("the subscriber left before it acknowledged")
)

// InProcess is a bus within one process: Watermill's gochannel, made to keep the promise that a relay needs. It keeps
// nothing: Publish waits for a subscriber, and returns nil only after every subscriber that the topic had has
// acknowledged each message. It keeps the order within a topic.
type InProcess struct {
	closing chan struct{}
	calls   sync.WaitGroup

	mu      sync.Mutex // protects what follows
	closed  bool
	topics  map[string]*topic
	arrived chan struct{} // closed, and replaced, at each subscription
}

// A topic has a gochannel of its own, because in one gochannel a subscription waits for the messages under way in all
// topics.
type topic struct {
	channel     *gochannel.GoChannel
	subscribers []<-chan struct{} // the Done channels of the subscriptions' contexts
}

// NewInProcess returns a bus without subscribers.
func NewInProcess() *InProcess {
	return &InProcess{
		closing: make(chan struct{}),
		topics:  make(map[string]*topic),
		arrived: make(chan struct{}),
	}
}

// Publish sends messages in order. It waits for a subscriber and for the acknowledgements until the context of the
// first message is done; after that, and when a subscriber has left, they may or may not have arrived.
func (b *InProcess) Publish(name string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	ctx := messages[0].Context()
	result := make(chan error, 1)
	subscribers, err := b.begin(ctx, name, func(channel *gochannel.GoChannel) {
		result <- channel.Publish(name, messages...)
	})
	if err != nil {
		return err
	}
	select {
	case err = <-result:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	// The gochannel returns nil also when it has dropped the messages, but only if a subscription or it was ended.
	for _, done := range append(subscribers, b.closing) {
		if isDone(done) {
			return errUnacknowledged
		}
	}
	return nil
}

// begin waits until a topic has subscribers, starts f, and returns them. Close waits for f.
func (b *InProcess) begin(ctx context.Context, name string, f func(*gochannel.GoChannel)) ([]<-chan struct{}, error) {
	for {
		b.mu.Lock()
		arrived := b.arrived
		t := b.topics[name]
		if t != nil && !b.closed {
			if subscribers := t.live(); len(subscribers) > 0 {
				b.calls.Go(func() { f(t.channel) })
				b.mu.Unlock()
				return subscribers, nil
			}
		}
		b.mu.Unlock()
		select {
		case <-arrived:
		case <-b.closing:
			return nil, errBusClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Subscribe receives the messages of a topic until ctx is done or the bus is closed. It waits until messages that are
// under way to other subscribers of the topic are acknowledged.
func (b *InProcess) Subscribe(ctx context.Context, name string) (<-chan *message.Message, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, errBusClosed
	}
	t := b.topics[name]
	if t == nil {
		t = &topic{channel: gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, nil)}
		b.topics[name] = t
	}
	b.mu.Unlock()
	messages, err := t.channel.Subscribe(ctx, name)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t.subscribers = append(t.live(), ctx.Done())
	close(b.arrived)
	b.arrived = make(chan struct{})
	return messages, nil
}

// Close ends all subscriptions and calls of Publish and waits for them.
func (b *InProcess) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}
	b.mu.Unlock()
	var errs []error
	for _, t := range b.topics { // nobody adds one any more
		errs = append(errs, t.channel.Close())
	}
	b.calls.Wait()
	return errors.Join(errs...)
}

// live returns the subscriptions that have not ended.
func (t *topic) live() []<-chan struct{} {
	var live []<-chan struct{}
	for _, done := range t.subscribers {
		if !isDone(done) {
			live = append(live, done)
		}
	}
	return live
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
