package servicebus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	// settleTimeout bounds a call that settles a message or renews a lock. It is shorter than the wait after which the
	// SDK would begin to recover a settlement by itself, and accept a lost session anew.
	settleTimeout = 3 * time.Second
	// secondTimeout bounds the second attempt to settle a message without session.
	secondTimeout = 10 * time.Second
	// maxReason is the longest reason or description that the bus keeps, in bytes.
	maxReason = 4096
)

// complete tells the bus that a message is done with.
func (l *link) complete(ctx context.Context, r *azservicebus.ReceivedMessage) {
	l.settle(ctx, "complete", r, func(ctx context.Context, r *azservicebus.ReceivedMessage) error {
		return l.receiver.CompleteMessage(ctx, r, nil)
	})
}

func (l *link) abandon(ctx context.Context, r *azservicebus.ReceivedMessage) {
	l.settle(ctx, "abandon", r, func(ctx context.Context, r *azservicebus.ReceivedMessage) error {
		return l.receiver.AbandonMessage(ctx, r, nil)
	})
}

func (l *link) deadLetter(ctx context.Context, r *azservicebus.ReceivedMessage, reason, description string) {
	reason, description = reason[:min(len(reason), maxReason)], description[:min(len(description), maxReason)]
	options := &azservicebus.DeadLetterOptions{Reason: &reason, ErrorDescription: &description}
	l.log.InfoContext(ctx, "message goes to the dead-letter queue", "message_id", r.MessageID, "reason", reason)
	l.settle(ctx, "dead-letter", r, func(ctx context.Context, r *azservicebus.ReceivedMessage) error {
		return l.receiver.DeadLetterMessage(ctx, r, options)
	})
}

// refuse does what the metadata of a message wants after Nack.
func (l *link) refuse(ctx context.Context, d *delivery) {
	m := d.message.Metadata
	switch m.Get(KeyNack) {
	case NackDeadLetter:
		l.deadLetter(ctx, d.received, m.Get(KeyDeadLetterReason), m.Get(KeyDeadLetterDescription))
	case NackRelease:
		l.release(ctx, d)
	default:
		if l.plain == nil && l.MaxInFlight > 1 {
			l.end(errRefused) // so that nothing that follows is taken for answered
		}
		l.abandon(ctx, d.received)
	}
}

// release gives a message back after a pause.
func (l *link) release(ctx context.Context, d *delivery) {
	if l.plain == nil {
		l.end(errReleased) // the session gives it back
		return
	}
	d.cancel()
	_ = sleep(ctx, l.ReleasePause) // or until the subscription ends
	l.abandon(ctx, d.received)
}

// giveBack returns an unanswered message when its session or the subscription has ended.
func (l *link) giveBack(ctx context.Context, r *azservicebus.ReceivedMessage) {
	if l.plain != nil { // else closing the session does it, and counts no delivery
		l.abandon(ctx, r)
	}
}

// settle settles a message, also after ctx is done, unless its session is lost. If that fails the message comes again.
func (l *link) settle(ctx context.Context, how string, r *azservicebus.ReceivedMessage, do func(context.Context, *azservicebus.ReceivedMessage) error) {
	err := attempt(ctx, settleTimeout, func(ctx context.Context) error { return do(ctx, r) })
	if err != nil && l.plain != nil && !lost(err) {
		// The link is gone, perhaps with its connection; the lock is not, and can be settled by its token. Renewing it
		// makes the SDK connect again.
		bare := &azservicebus.ReceivedMessage{LockToken: r.LockToken}
		err = attempt(ctx, secondTimeout, func(ctx context.Context) error {
			if err := l.plain.RenewMessageLock(ctx, bare, nil); err != nil {
				return err
			}
			return do(ctx, bare)
		})
	}
	if err == nil || errors.Is(context.Cause(ctx), errLost) { // that was told when it happened, once for all messages
		return
	}
	if l.plain == nil {
		l.lose(ctx, fmt.Errorf("message %s cannot be settled (%s) and will come again: %w", r.MessageID, how, err))
		return
	}
	l.log.WarnContext(ctx, "message cannot be settled and will come again", "message_id", r.MessageID, "how", how, "error", err)
}

// attempt calls do with a context that outlasts ctx, but not the session.
func attempt(ctx context.Context, timeout time.Duration, do func(context.Context) error) error {
	if errors.Is(context.Cause(ctx), errLost) {
		return errLost // the SDK would connect anew for it
	}
	outlasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errLost) {
			cancel()
		}
	})
	defer stop()
	return do(outlasting)
}
