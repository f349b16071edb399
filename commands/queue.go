package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
)

// A QueueConfig says where a [Queue] gets commands and who carries them out. Bus, Topic and Routes are required.
type QueueConfig struct {
	// Bus brings the messages. It hands out the next one of a session after the one before was acknowledged. The queue
	// does not close it.
	Bus   watermill.Subscriber
	Topic string
	// Routes is the server that [Register] was called with.
	Routes http.Handler
	// Home is the region to which the commands of this queue are to be passed on, see [Region]; empty: they are for this
	// one. A command that turns out to be for another region is moved to the queue of that one.
	Home string
	// Replies takes outcomes to where the senders of commands want them; nil: only the ledger tells them.
	Replies watermill.Publisher
	// Reject takes a message that cannot be read, with the reason, which quotes nothing from it. The message is
	// acknowledged after it has returned nil. Nil: the message is logged by its id, and counted.
	Reject func(ctx context.Context, m *watermill.Message, reason error) error
}

// A Queue carries out the commands that come over the bus. Each is a request to one of the routes that change orders,
// and gets what the route answers: as an [Outcome] in the ledger, and in a message if its sender wants one.
type Queue struct {
	cfg     QueueConfig
	handler *Handler
	log     *slog.Logger

	answered, moved, rejected, failures atomic.Uint64
}

// QueueStatus counts what a [Queue] has done since it was made.
type QueueStatus struct {
	Answered uint64 // messages, refused and repeated commands included
	Moved    uint64 // messages that were put into the queue of another region
	Rejected uint64 // messages that could not be read, or not be carried out at all
	Failures uint64 // attempts that were made again
}

// NewQueue returns a queue of commands for a handler. It receives nothing until Run.
func NewQueue(h *Handler, cfg QueueConfig) (*Queue, error) {
	if cfg.Bus == nil || cfg.Topic == "" || cfg.Routes == nil {
		return nil, errors.New("a queue of commands needs a bus, a topic and routes")
	}
	return &Queue{cfg: cfg, handler: h, log: h.cfg.Logger}, nil
}

// Status returns what the queue has done so far. It may be called concurrently with Run.
func (q *Queue) Status() QueueStatus {
	return QueueStatus{Answered: q.answered.Load(), Moved: q.moved.Load(), Rejected: q.rejected.Load(), Failures: q.failures.Load()}
}

const (
	maxAtOnce   = 256 // messages, each of another session
	maxInternal = 8   // attempts at a command with which the server itself fails
	maxReplies  = 6   // attempts to send a reply

	replyTimeout = 15 * time.Second // for all of them

	firstPause   = 50 * time.Millisecond
	longestPause = 10 * time.Second
)

// Run receives until ctx is done and returns its error. It outlasts failures of the bus and of the ledger: meanwhile it
// holds messages, neither acknowledged nor refused, so that an outage uses up no delivery counts. Messages that it
// holds at the end will be delivered again. A message is acknowledged after its outcome is durable.
//
// Run may be called once.
func (q *Queue) Run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	room := make(chan struct{}, maxAtOnce)
	for failures := 0; ; failures++ {
		messages, err := q.cfg.Bus.Subscribe(ctx, q.cfg.Topic)
		if err == nil {
			err = errors.New("the subscription has ended")
			for m := range messages {
				failures = 0
				select {
				case room <- struct{}{}:
				case <-ctx.Done():
					return ctx.Err()
				}
				working.Go(func() {
					defer func() { <-room }()
					q.take(ctx, m)
				})
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := q.again(ctx, failures, "receiving commands", "", err); err != nil {
			return err
		}
	}
}

// take sees to a message until it is answered, or until it is no longer this queue's.
func (q *Queue) take(ctx context.Context, m *watermill.Message) {
	own, cancel := context.WithCancel(m.Context())
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	c, err := readQueued(m)
	if err != nil {
		q.reject(own, m, err)
		return
	}
	internal := 0
	for failures := 0; ; failures++ {
		o, err := q.carryOut(own, c)
		if err == nil {
			q.reply(own, m, c, o)
			if own.Err() != nil {
				return // it comes again, and is replied to then
			}
			q.answered.Add(1)
			q.log.LogAttrs(ctx, slog.LevelDebug, "command answered", slog.String("message_id", m.UUID),
				slog.Any("order_id", c.order), slog.String("state", o.State), slog.String("code", o.Code))
			m.Ack()
			return
		}
		var there *Elsewhere
		if errors.As(err, &there) {
			if err = q.move(own, m, there); err == nil {
				return
			}
		}
		var failed *serverError
		if errors.As(err, &failed) && (failed.status == http.StatusInternalServerError || failed.status == http.StatusLoopDetected) {
			if internal++; internal == maxInternal { // it would keep the others of its session waiting for ever
				q.reject(own, m, err)
				return
			}
		}
		if q.again(own, failures, "carrying out a command", m.UUID, err) != nil {
			return
		}
	}
}

// move puts a message into the queue of the region that is to carry it out, from where it is passed on.
func (q *Queue) move(ctx context.Context, m *watermill.Message, there *Elsewhere) error {
	moved := m.Copy()
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	moved.SetContext(ctx)
	if err := there.region.Enqueue(moved); err != nil {
		return fmt.Errorf("moving a command to the queue of region %s: %w", there.Home, err)
	}
	q.moved.Add(1)
	q.log.LogAttrs(ctx, slog.LevelDebug, "command moved", slog.String("message_id", m.UUID),
		slog.Any("order_id", there.Order), slog.String("region", there.Home))
	m.Ack()
	return nil
}

// reject hands over a message that nothing can be done with.
func (q *Queue) reject(ctx context.Context, m *watermill.Message, reason error) {
	q.log.LogAttrs(ctx, slog.LevelError, "command rejected", slog.String("message_id", m.UUID), slog.Any("reason", reason))
	for failures := 0; q.cfg.Reject != nil; failures++ {
		err := q.cfg.Reject(ctx, m, reason)
		if err == nil {
			break
		}
		if q.again(ctx, failures, "rejecting a command", m.UUID, err) != nil {
			return
		}
	}
	q.rejected.Add(1)
	m.Ack()
}

// again waits before the next attempt, longer after each failure. It logs the 1st, 2nd, 4th, 8th failure and so on, so
// that an outage does not fill the log. It returns the context's error as soon as that is done.
func (q *Queue) again(ctx context.Context, failures int, doing, message string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failures&(failures+1) == 0 {
		q.log.LogAttrs(ctx, slog.LevelWarn, "failed, trying again", slog.String("doing", doing),
			slog.String("message_id", message), slog.Int("failures", failures+1), slog.Any("error", err))
	}
	q.failures.Add(1)
	pause := min(firstPause<<min(failures, 16), longestPause)
	timer := time.NewTimer(pause - rand.N(pause/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
