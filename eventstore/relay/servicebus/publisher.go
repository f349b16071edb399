package servicebus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/ThreeDotsLabs/watermill/message"
)

// PublisherConfig configures a [Publisher]. Only the Connection is required.
type PublisherConfig struct {
	Connection
	// Marshal makes the message that is sent to a queue or topic; nil: [Marshal].
	Marshal func(topic string, m *message.Message) (*azservicebus.Message, error)
	// Timeout bounds a call of Publish; 0: 30 seconds.
	Timeout time.Duration
}

// A Publisher sends messages to queues and topics.
type Publisher struct {
	config PublisherConfig
	client *azservicebus.Client
	calls  sync.WaitGroup

	mu      sync.Mutex // protects what follows
	closed  bool
	senders map[string]*azservicebus.Sender
}

// TooLargeError is the error of a message that the bus does not take because of its size. It unwraps to
// [azservicebus.ErrMessageTooLarge].
type TooLargeError struct {
	MessageID string // the message's UUID
	Size      int    // of its payload, in bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("message %s is too large with %d bytes", e.MessageID, e.Size)
}

func (e *TooLargeError) Unwrap() error { return azservicebus.ErrMessageTooLarge }

// NewPublisher returns a publisher. It connects at the first call of Publish. Close it when done.
func NewPublisher(c PublisherConfig) (*Publisher, error) {
	if c.Marshal == nil {
		c.Marshal = Marshal
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	retry := azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 100 * time.Millisecond, MaxRetryDelay: 2 * time.Second}
	if c.Options != nil && c.Options.RetryOptions != (azservicebus.RetryOptions{}) {
		retry = c.Options.RetryOptions
	}
	client, err := c.client(retry)
	if err != nil {
		return nil, fmt.Errorf("making a publisher: %w", err)
	}
	return &Publisher{config: c, client: client, senders: make(map[string]*azservicebus.Sender)}, nil
}

// Publish sends messages to a queue or topic, in order, and returns after the bus has stored them all. It gives up when
// the context of the first message is done, and after the configured timeout. After an error that a message itself has
// caused, as [TooLargeError], those before it may have been stored.
//
// If the queue or topic is partitioned, the messages of a call must agree in their session or partition key.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	sender, err := p.begin(topic)
	if err != nil {
		return fmt.Errorf("publishing to %s: %w", topic, err)
	}
	defer p.calls.Done()
	ctx, cancel := context.WithTimeout(messages[0].Context(), p.config.Timeout)
	defer cancel()
	if err := p.send(ctx, sender, topic, messages); err != nil {
		return fmt.Errorf("publishing to %s: %w", topic, err)
	}
	return nil
}

// begin returns the sender for a queue or topic. If there is no error, Close waits until calls is told that the call is
// done.
func (p *Publisher) begin(topic string) (*azservicebus.Sender, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	sender := p.senders[topic]
	if sender == nil {
		var err error
		if sender, err = p.client.NewSender(topic, nil); err != nil {
			return nil, err
		}
		p.senders[topic] = sender
	}
	p.calls.Add(1)
	return sender, nil
}

func (p *Publisher) send(ctx context.Context, sender *azservicebus.Sender, topic string, messages []*message.Message) error {
	for len(messages) > 0 {
		n, err := p.sendSome(ctx, sender, topic, messages)
		if errors.Is(err, azservicebus.ErrMessageTooLarge) {
			return &TooLargeError{MessageID: messages[0].UUID, Size: len(messages[0].Payload)}
		}
		if err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

// sendSome sends as many of the messages as one batch holds, and returns how many. ErrMessageTooLarge is about the first.
func (p *Publisher) sendSome(ctx context.Context, sender *azservicebus.Sender, topic string, messages []*message.Message) (int, error) {
	batch, err := sender.NewMessageBatch(ctx, nil)
	if err != nil {
		return 0, err
	}
	for n, m := range messages {
		outgoing, err := p.config.Marshal(topic, m)
		if err != nil {
			return 0, err
		}
		err = batch.AddMessage(outgoing, nil)
		switch {
		case errors.Is(err, azservicebus.ErrMessageTooLarge) && n == 0: // by itself it may be larger than a batch
			return 1, sender.SendMessage(ctx, outgoing, nil)
		case errors.Is(err, azservicebus.ErrMessageTooLarge):
			return n, sender.SendMessageBatch(ctx, batch, nil)
		case err != nil:
			return 0, err
		}
	}
	return len(messages), sender.SendMessageBatch(ctx, batch, nil)
}

// Close waits for calls of Publish and disconnects. Further calls of Publish fail with [ErrClosed], further calls of
// Close do nothing.
func (p *Publisher) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	p.calls.Wait()
	if closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return p.client.Close(ctx)
}
