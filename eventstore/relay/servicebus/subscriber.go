package servicebus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/internal/retry"
)

// SubscriberConfig configures a [Subscriber]. Only the Connection is required: the others have defaults for a queue
// without sessions.
type SubscriberConfig struct {
	Connection
	// Subscription is the name of the subscription to receive from, the same at every topic. Empty: what Watermill calls
	// a topic is a queue.
	Subscription string
	// DeadLetters receives from the dead-letter queue, which has no sessions.
	DeadLetters bool
	// Sessions is the number of sessions to hold at once. 0: the queue or subscription has no sessions.
	Sessions int
	// MaxInFlight is the number of unanswered messages at once, in each session or, without sessions, in all; 0: 1.
	MaxInFlight int
	// SessionIdle is how long a session is held after its last message; 0: a minute.
	SessionIdle time.Duration
	// RenewEvery is the longest time between two renewals of a lock; 0: 20 seconds. Locks that last less than twice as
	// long are renewed more often. It needs a clock that is right to a few seconds.
	RenewEvery time.Duration
	// ReleasePause is how long a message is kept before it is given back, see [ReleaseOnNack]; 0: 5 seconds.
	ReleasePause time.Duration
	// MaxPause is the longest wait between two attempts to connect; 0: 30 seconds.
	MaxPause time.Duration
	// Unmarshal makes a Watermill message of what was received. A message for which it fails goes to the dead-letter
	// queue. Nil: [Unmarshal].
	Unmarshal func(*azservicebus.ReceivedMessage) (*message.Message, error)
	// Initialize is what SubscribeInitialize calls, so that tests can create what they subscribe to. Nil: nothing is
	// created. Service Bus wants that done by an administrator, with the rights for it.
	Initialize func(ctx context.Context, topic, subscription string) error
	// Log is told about failures and lost locks, an outage by a line at its beginning and one at its end; nil: nobody is. No payloads and no metadata are logged but message and
	// session ids.
	Log *slog.Logger
}

// A Subscriber receives messages from queues or from subscriptions of topics.
type Subscriber struct {
	config  SubscriberConfig
	client  *azservicebus.Client
	closing chan struct{}
	running sync.WaitGroup // the subscriptions

	mu     sync.Mutex // protects what follows
	closed bool
}

// NewSubscriber returns a subscriber. It connects at the first call of Subscribe. Close it when done.
func NewSubscriber(c SubscriberConfig) (*Subscriber, error) {
	if c.Sessions < 0 || c.MaxInFlight < 0 || c.SessionIdle < 0 || c.RenewEvery < 0 || c.ReleasePause < 0 || c.MaxPause < 0 {
		return nil, errors.New("making a subscriber: a number or a duration is negative")
	}
	if c.DeadLetters && c.Sessions > 0 {
		return nil, errors.New("making a subscriber: a dead-letter queue has no sessions")
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 1
	}
	if c.MaxInFlight > maxInFlight {
		return nil, fmt.Errorf("making a subscriber: at most %d messages in flight", maxInFlight)
	}
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&c.SessionIdle, time.Minute},
		{&c.RenewEvery, 20 * time.Second},
		{&c.ReleasePause, 5 * time.Second},
		{&c.MaxPause, 30 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	if c.Unmarshal == nil {
		c.Unmarshal = Unmarshal
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	client, err := c.client(c.retry())
	if err != nil {
		return nil, fmt.Errorf("making a subscriber: %w", err)
	}
	return &Subscriber{config: c, client: client, closing: make(chan struct{})}, nil
}

// maxInFlight is how much the SDK receives at once.
const maxInFlight = 5000

// retry says how the SDK recovers. Without sessions it does so quietly, as locks outlast a connection. With sessions it
// must not: it would accept the session anew behind the back of those who still work on messages of the old lock.
func (c *SubscriberConfig) retry() azservicebus.RetryOptions {
	if c.Sessions > 0 {
		return azservicebus.RetryOptions{MaxRetries: -1}
	}
	return azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 50 * time.Millisecond, MaxRetryDelay: time.Second}
}

// Subscribe receives from a queue, or from the subscription of a topic, until ctx is done or the subscriber is closed.
// Then it gives back what is in flight and closes the channel. It does not wait for the bus: it fails only after Close.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("subscribing to %s: %w", topic, ErrClosed)
	}
	log := s.config.Log.With("topic", topic, "subscription", s.config.Subscription)
	r := &subscription{
		SubscriberConfig: &s.config,
		client:           s.client,
		topic:            topic,
		out:              make(chan *message.Message),
		links:            make(map[string]*link),
		log:              log,
		away:             retry.NewOutage(log, "receiving", s.config.MaxPause),
	}
	ctx, cancel := context.WithCancel(ctx)
	s.running.Go(func() {
		select {
		case <-s.closing:
		case <-ctx.Done():
		}
		cancel()
	})
	s.running.Go(func() {
		defer close(r.out)
		r.run(ctx)
	})
	return r.out, nil
}

// SubscribeInitialize calls the Initialize function of the configuration, if there is one.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	if s.config.Initialize == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.config.Initialize(ctx, topic, s.config.Subscription); err != nil {
		return fmt.Errorf("initializing %s: %w", topic, err)
	}
	return nil
}

// Close ends all subscriptions: the contexts of unanswered messages end, and the messages are given back. It waits until
// that is done and all channels are closed, but not for those who handle messages, and for no more than some seconds for
// a bus that does not answer. Further calls of Subscribe fail with [ErrClosed], further calls of Close do nothing.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if !closed {
		close(s.closing)
	}
	s.running.Wait()
	if closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return s.client.Close(ctx)
}
