package servicebus

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/ThreeDotsLabs/watermill/message"
)

// Why a session is ended before the subscription is. These are causes of its context.
var (
	errLost     = errors.New("the link to the bus is lost")
	errRefused  = errors.New("a message was refused")
	errReleased = errors.New("a message was released")
	errIdle     = errors.New("the session is idle")
)

// A receiver receives from a session, or from a queue or subscription without sessions.
type receiver interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	CompleteMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.CompleteMessageOptions) error
	AbandonMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.AbandonMessageOptions) error
	DeadLetterMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.DeadLetterOptions) error
}

// A link hands out what a receiver receives.
type link struct {
	*subscription
	receiver receiver
	plain    *azservicebus.Receiver  // the same if there are no sessions, else nil
	end      context.CancelCauseFunc // ends the session; nil without sessions
	log      *slog.Logger
	slots    chan struct{}  // one is taken for each message in flight
	held     sync.WaitGroup // those who wait for an answer
	done     chan struct{}  // of a session, closed when held is empty and stays so
}

// A delivery is a message in flight.
type delivery struct {
	received *azservicebus.ReceivedMessage
	message  *message.Message
	cancel   context.CancelFunc // ends the message's context
}

func newLink(s *subscription, r receiver, log *slog.Logger) *link {
	return &link{subscription: s, receiver: r, log: log, slots: make(chan struct{}, s.MaxInFlight), done: make(chan struct{})}
}

// receiveAll receives from a queue or subscription without sessions until ctx is done.
func (l *link) receiveAll(ctx context.Context) {
	attempts := l.away.Attempts()
	defer attempts.Leave()
	for {
		n := l.takeSlots(ctx)
		if ctx.Err() != nil {
			return
		}
		received, err := l.receiver.ReceiveMessages(ctx, n, nil)
		for range n - len(received) {
			<-l.slots
		}
		l.handOut(ctx, received)
		switch {
		case ctx.Err() != nil:
			return
		case len(received) > 0:
			attempts.Succeeded(ctx)
		case attempts.Failed(ctx, cmp.Or(err, errLost)) != nil:
			return
		}
	}
}

// takeSlots waits for a slot and returns how many it has taken, which are all that are free.
func (l *link) takeSlots(ctx context.Context) int {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; ; n++ {
		select {
		case l.slots <- struct{}{}:
		default:
			return n
		}
	}
}

// receiveOrdered receives from a session until ctx is done, and ends it when it is idle or lost.
//
// It asks for one message at a time, however many slots are free. Of several some might arrive between two calls of
// ReceiveMessages. The SDK gives these back, and so they would come again after their successors.
func (l *link) receiveOrdered(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		attempt, cancel := context.WithTimeout(ctx, l.SessionIdle)
		received, err := l.receiver.ReceiveMessages(attempt, 1, nil)
		cancel()
		switch {
		case len(received) > 0:
			l.handOut(ctx, received)
			continue
		case ctx.Err() != nil:
		case !errors.Is(err, context.DeadlineExceeded): // nil as well: so the SDK puts it when the link is lost
			l.lose(ctx, cmp.Or(err, errLost))
		case len(l.slots) == 1: // its own: nothing is in flight
			l.end(errIdle)
		}
		<-l.slots
	}
}

// lose ends a session that is lost. Where the bus is away all are, and whoever accepts the next one tells it.
func (l *link) lose(ctx context.Context, err error) {
	level := slog.LevelDebug
	if lost(err) {
		level = slog.LevelWarn
	}
	l.log.Log(ctx, level, "session lost", "error", err)
	l.end(errLost)
}

// handOut offers messages to the application, in order. Each has a slot, which is freed when it has been answered or
// given back.
func (l *link) handOut(ctx context.Context, received []*azservicebus.ReceivedMessage) {
	deliveries := make([]*delivery, 0, len(received))
	for _, r := range received {
		m, err := l.Unmarshal(r)
		if err != nil {
			l.held.Go(func() {
				defer func() { <-l.slots }()
				l.deadLetter(ctx, r, "Unreadable", err.Error())
			})
			continue
		}
		own, cancel := context.WithCancel(ctx)
		m.SetContext(own)
		d := &delivery{received: r, message: m, cancel: cancel}
		deliveries = append(deliveries, d)
		// Locks are kept from now on: the last may have to wait until the others are taken.
		l.held.Go(func() { l.await(ctx, d) })
	}
	for _, d := range deliveries {
		own := d.message.Context()
		if own.Err() != nil {
			continue
		}
		select {
		case l.out <- d.message:
		case <-own.Done():
		}
	}
}

// await keeps the lock of a message until it is answered or ctx is done, and settles it.
func (l *link) await(ctx context.Context, d *delivery) {
	defer func() { <-l.slots }()
	defer d.cancel()
	lost, stop := l.keepMessage(ctx, d.received)
	defer stop()
	select {
	case <-d.message.Acked():
	case <-d.message.Nacked():
	case <-ctx.Done():
	case err := <-lost:
		l.log.WarnContext(ctx, "message lost", "message_id", d.received.MessageID, "error", err)
		return
	}
	switch { // an answer counts also if it has come as the last thing
	case isDone(d.message.Acked()):
		l.complete(ctx, d.received)
	case isDone(d.message.Nacked()):
		l.refuse(ctx, d)
	default:
		l.giveBack(ctx, d.received)
	}
}

// keepMessage keeps the lock of a message without session until stop is called. It tells if it is lost.
func (l *link) keepMessage(ctx context.Context, r *azservicebus.ReceivedMessage) (lost <-chan error, stop context.CancelFunc) {
	if l.plain == nil || r.LockedUntil == nil {
		return nil, func() {} // the lock is that of the session
	}
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	failed := make(chan error, 1)
	until := *r.LockedUntil
	l.held.Go(func() {
		err := l.keep(keeping, until, func(ctx context.Context) (time.Time, error) {
			err := l.plain.RenewMessageLock(ctx, r, nil)
			return *r.LockedUntil, err
		})
		if err != nil {
			failed <- err
		}
	})
	return failed, stop
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
