package relay

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

var (
	errBusClosed      = errors.New("the bus is closed")
	errUnacknowledged = errors.New("the subscriber left before it acknowledged")
)

// InProcess is a bus within one process. It keeps nothing: Publish waits for a subscriber, and returns nil only after
// every subscriber that the topic had has acknowledged each message. It keeps the order within a topic, and need not
// have one message acknowledged before it hands over the next: what a subscriber gets together it can commit together.
type InProcess struct {
	closing chan struct{}
	calls   sync.WaitGroup // of Publish, and what ends subscriptions

	mu      sync.Mutex // protects what follows
	closed  bool
	topics  map[string][]*subscription
	arrived chan struct{} // closed, and replaced, at each subscription
}

// A subscription is somebody who receives the messages of a topic.
type subscription struct {
	messages chan *message.Message
	left     chan struct{} // closed when the subscriber wants no more
	sending  sync.RWMutex  // held for reading to send to messages, for writing to close it
}

// NewInProcess returns a bus without subscribers.
func NewInProcess() *InProcess {
	return &InProcess{
		closing: make(chan struct{}),
		topics:  make(map[string][]*subscription),
		arrived: make(chan struct{}),
	}
}

// Publish sends messages in order. It waits for a subscriber and for the acknowledgements until the context of the
// first message is done; after that, and when a subscriber has left, they may or may not have arrived. A message that
// was refused comes again, and so do those after it.
func (b *InProcess) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	ctx := messages[0].Context()
	subscribers, err := b.begin(ctx, topic)
	if err != nil {
		return err
	}
	defer b.calls.Done()
	errs := make([]error, len(subscribers))
	var delivering sync.WaitGroup
	for i, s := range subscribers[1:] {
		delivering.Go(func() { errs[i+1] = s.deliver(ctx, messages) })
	}
	errs[0] = subscribers[0].deliver(ctx, messages)
	delivering.Wait()
	return errors.Join(errs...)
}

// begin waits until a topic has subscribers and returns them. Close then waits for a call of calls.Done.
func (b *InProcess) begin(ctx context.Context, topic string) ([]*subscription, error) {
	for {
		b.mu.Lock()
		arrived, subscribers := b.arrived, live(b.topics[topic])
		ready := len(subscribers) > 0 && !b.closed
		if ready {
			b.calls.Add(1)
		}
		b.mu.Unlock()
		if ready {
			return subscribers, nil
		}
		select {
		case <-arrived:
		case <-b.closing:
			return nil, errBusClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// deliver hands messages over and waits until they are acknowledged.
func (s *subscription) deliver(ctx context.Context, messages []*message.Message) error {
	for len(messages) > 0 {
		copies := make([]*message.Message, len(messages))
		for i, m := range messages {
			copies[i] = m.Copy()
			if err := s.send(ctx, copies[i]); err != nil {
				return err
			}
		}
		taken, err := s.taken(ctx, copies)
		if err != nil {
			return err
		}
		messages = messages[taken:]
	}
	return nil
}

func (s *subscription) send(ctx context.Context, m *message.Message) error {
	s.sending.RLock()
	defer s.sending.RUnlock()
	if isDone(s.left) {
		return errUnacknowledged
	}
	select {
	case s.messages <- m:
		return nil
	case <-s.left:
		return errUnacknowledged
	case <-ctx.Done():
		return ctx.Err()
	}
}

// taken waits until messages are acknowledged and returns how many are, up to one that is refused.
func (s *subscription) taken(ctx context.Context, messages []*message.Message) (int, error) {
	for i, m := range messages {
		select {
		case <-m.Acked():
		case <-m.Nacked():
			return i, nil
		case <-s.left:
			return i, errUnacknowledged
		case <-ctx.Done():
			return i, ctx.Err()
		}
	}
	return len(messages), nil
}

// Subscribe receives the messages of a topic until ctx is done or the bus is closed.
func (b *InProcess) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errBusClosed
	}
	s := &subscription{messages: make(chan *message.Message, maxBatch), left: make(chan struct{})}
	b.calls.Go(func() {
		select {
		case <-ctx.Done():
		case <-b.closing:
		}
		close(s.left)
		s.sending.Lock()
		defer s.sending.Unlock()
		close(s.messages)
	})
	b.topics[topic] = append(live(b.topics[topic]), s)
	close(b.arrived)
	b.arrived = make(chan struct{})
	return s.messages, nil
}

// Close ends all subscriptions and calls of Publish and waits for them. It may be called twice.
func (b *InProcess) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}
	b.mu.Unlock()
	b.calls.Wait()
	return nil
}

// live returns the subscriptions whose subscribers have not left.
func live(all []*subscription) []*subscription {
	return slices.DeleteFunc(slices.Clone(all), func(s *subscription) bool { return isDone(s.left) })
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
