package servicebus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/internal/retry"
)

// acceptTimeout is how long the bus is asked to wait for a session that has messages.
const acceptTimeout = 30 * time.Second

// A subscription is what a call of Subscribe has started.
type subscription struct {
	*SubscriberConfig
	client *azservicebus.Client
	topic  string
	out    chan *message.Message
	log    *slog.Logger
	away   *retry.Outage

	mu    sync.Mutex       // protects what follows
	links map[string]*link // the newest of each session
}

// run receives until ctx is done, and returns after everything has been answered or given back.
func (s *subscription) run(ctx context.Context) {
	if s.Sessions > 0 {
		s.acceptSessions(ctx)
		return
	}
	receiver, err := s.open()
	if err != nil {
		s.log.ErrorContext(ctx, "opening a receiver failed", "error", err)
		return
	}
	l := newLink(s, receiver, s.log)
	l.plain = receiver
	l.receiveAll(ctx)
	l.held.Wait()
	shut(receiver)
}

// open makes a receiver for a queue or subscription without sessions. It does not connect.
func (s *subscription) open() (*azservicebus.Receiver, error) {
	var options azservicebus.ReceiverOptions
	if s.DeadLetters {
		options.SubQueue = azservicebus.SubQueueDeadLetter
	}
	if s.Subscription == "" {
		return s.client.NewReceiverForQueue(s.topic, &options)
	}
	return s.client.NewReceiverForSubscription(s.topic, s.Subscription, &options)
}

// maxAccepting is how many sessions are asked for at once: to accept one takes several round trips.
const maxAccepting = 8

// acceptSessions serves sessions, each as long as it has messages, and takes others that are free as long as there is room.
func (s *subscription) acceptSessions(ctx context.Context) {
	var sessions sync.WaitGroup
	room := make(chan struct{}, s.Sessions)
	for range min(s.Sessions, maxAccepting) {
		sessions.Go(func() {
			attempts := s.away.Attempts()
			defer attempts.Leave()
			for {
				select {
				case room <- struct{}{}:
				case <-ctx.Done():
					return
				}
				receiver, err := s.accept(ctx, attempts)
				if err != nil {
					return
				}
				sessions.Go(func() {
					defer func() { <-room }()
					s.serve(ctx, receiver)
				})
			}
		})
	}
	sessions.Wait()
}

// accept waits until there is a session to receive from. It returns only errors of ctx.
func (s *subscription) accept(ctx context.Context, attempts *retry.Attempts) (*azservicebus.SessionReceiver, error) {
	for {
		receiver, err := s.acceptNext(ctx)
		if err == nil {
			attempts.Succeeded(ctx)
			s.away.Over(ctx) // the others may have to wait for a session
			return receiver, nil
		}
		if ctx.Err() == nil && (has(err, azservicebus.CodeTimeout) || errors.Is(err, context.DeadlineExceeded)) {
			attempts.Succeeded(ctx) // there is none with a message
			continue
		}
		if err := attempts.Failed(ctx, err); err != nil {
			return nil, err
		}
	}
}

func (s *subscription) acceptNext(ctx context.Context) (*azservicebus.SessionReceiver, error) {
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	if s.Subscription == "" {
		return s.client.AcceptNextSessionForQueue(ctx, s.topic, nil)
	}
	return s.client.AcceptNextSessionForSubscription(ctx, s.topic, s.Subscription, nil)
}

// serve receives from a session until it is idle, lost or given up, or ctx is done.
func (s *subscription) serve(ctx context.Context, receiver *azservicebus.SessionReceiver) {
	log := s.log.With("session_id", receiver.SessionID())
	until := receiver.LockedUntil()
	session, end := context.WithCancelCause(ctx)
	l := newLink(s, receiver, log)
	l.end = end
	s.replace(receiver.SessionID(), l)

	// The lock is kept beyond the end of the session's context, until everything is settled.
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() {
		err := s.keep(keeping, until, func(ctx context.Context) (time.Time, error) {
			err := receiver.RenewSessionLock(ctx, nil)
			return receiver.LockedUntil(), err
		})
		if err != nil {
			l.lose(ctx, err)
		}
	})

	l.receiveOrdered(session)
	end(nil)
	l.held.Wait()
	close(l.done)
	if errors.Is(context.Cause(session), errReleased) {
		_ = sleep(ctx, s.ReleasePause) // or until the subscription ends
	}
	stop()
	keeper.Wait()
	shut(receiver) // which gives back what is unanswered
	s.forget(receiver.SessionID(), l)
}

// replace makes l the link of a session. If there is another it was lost, perhaps without noticing as it had all the
// messages it may have: then nothing is received before those who handle these have been told.
func (s *subscription) replace(session string, l *link) {
	s.mu.Lock()
	old := s.links[session]
	s.links[session] = l
	s.mu.Unlock()
	if old != nil {
		old.end(errLost)
		<-old.done
	}
}

func (s *subscription) forget(session string, l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links[session] == l {
		delete(s.links, session)
	}
}

// keep renews a lock until ctx is done, and then returns nil. It returns an error when the lock is lost.
func (s *subscription) keep(ctx context.Context, until time.Time, renew func(context.Context) (time.Time, error)) error {
	for sleep(ctx, s.renewIn(until)) == nil {
		attempt, cancel := context.WithTimeout(ctx, settleTimeout)
		next, err := renew(attempt)
		cancel()
		if err == nil {
			until = next
			continue
		}
		gone := lost(err) || s.Sessions > 0 && has(err, azservicebus.CodeConnectionLost) || time.Now().After(until)
		if gone && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// renewIn returns how long to wait before the next renewal of a lock: half of what is left, within bounds that keep a
// wrong clock from doing harm.
func (s *subscription) renewIn(until time.Time) time.Duration {
	return min(max(time.Until(until)/2, s.RenewEvery/100), s.RenewEvery)
}

// shut closes a receiver. It is called when nothing else uses the receiver any more: the SDK would reopen it for those.
func shut(r interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = r.Close(ctx) // the link may have gone before; nothing is left to be done
}

// sleep returns the context's error if that is done before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// has reports whether an error of the SDK has a code.
func has(err error, code azservicebus.Code) bool {
	var e *azservicebus.Error
	return errors.As(err, &e) && e.Code == code
}

// lost reports whether an error says that a lock is lost.
func lost(err error) bool { return has(err, azservicebus.CodeLockLost) }
