package mirror

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	pulse        = 50 * time.Millisecond // how often it is looked whether the ledger must be read
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
	finalPause   = time.Minute // after what only a person can mend
	ahead        = 64          // events of a subscription that wait
)

// Follow keeps the mirror level with its ledger, beside a bus that brings deliveries to Apply: it calls CatchUp whenever
// NeedsCatchUp says so, until ctx is done, whose error it returns, or the mirror is closed. It outlasts outages, which it
// logs once when they begin and once when they end. After what only a person can mend, it looks again each minute.
//
// At most one of Follow and FollowFeed may run.
func (m *Mirror) Follow(ctx context.Context, source eventstore.Reader) error {
	f := follower{mirror: m, source: source}
	return f.run(ctx)
}

// FollowFeed is Follow without a bus: it subscribes to the ledger.
func (m *Mirror) FollowFeed(ctx context.Context, source eventstore.Reader) error {
	f := follower{mirror: m, source: source, subscribes: true}
	return f.run(ctx)
}

// A follower drives CatchUp.
type follower struct {
	mirror     *Mirror
	source     eventstore.Reader
	subscribes bool

	failures int
	since    time.Time // when they began
}

func (f *follower) run(ctx context.Context) error {
	ticker := time.NewTicker(pulse)
	defer ticker.Stop()
	sub := subscription{}
	defer sub.stop()
	for {
		if f.mirror.NeedsCatchUp(f.mirror.now()) {
			if err := f.catchUp(ctx); err != nil {
				return err
			}
		}
		if f.subscribes && sub.events == nil {
			sub.start(ctx, f.mirror, f.source)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.mirror.closing:
			return eventstore.ErrClosed
		case <-ticker.C:
		case e, ok := <-sub.events:
			if !ok || f.take(ctx, &sub, e) != nil {
				sub.stop()
				f.mirror.ask() // reading the ledger tells what is wrong
				<-ticker.C     // should that be nothing, it is not found out all the time
			}
		}
	}
}

// catchUp reads the ledger until that succeeds. It returns only errors that end following.
func (f *follower) catchUp(ctx context.Context) error {
	for {
		err := f.mirror.CatchUp(ctx, f.source)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case f.mirror.alive(ctx) != nil:
			return eventstore.ErrClosed
		case err == nil:
			f.recovered(ctx)
			return nil
		}
		pause := f.failed(ctx, err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.mirror.closing:
			return eventstore.ErrClosed
		case <-time.After(pause):
		}
	}
}

// failed logs the first failure of an outage and returns how long to pause.
func (f *follower) failed(ctx context.Context, err error) time.Duration {
	level, pause := slog.LevelWarn, min(firstPause<<min(f.failures, 16), longestPause)
	if errors.Is(err, ErrForeign) || errors.Is(err, ErrOlder) || errors.Is(err, ErrAltered) {
		level, pause = slog.LevelError, finalPause
	}
	if f.failures == 0 {
		f.since = f.mirror.now()
		f.mirror.log.Log(ctx, level, "the mirror does not follow its ledger, and tries again", "error", err)
	}
	f.failures++
	return pause - rand.N(pause/2)
}

func (f *follower) recovered(ctx context.Context) {
	if f.failures == 0 {
		return
	}
	f.mirror.log.InfoContext(ctx, "the mirror follows its ledger again", "failures", f.failures, "outage", f.mirror.now().Sub(f.since))
	f.failures = 0
}

// take stores an event of the subscription with all others that are there already.
func (f *follower) take(ctx context.Context, sub *subscription, e eventstore.Recorded) error {
	batch := []eventstore.Recorded{e}
	size := eventstore.RecordSize(&e)
	for size < f.mirror.limits.batchBytes && len(batch) < f.mirror.limits.batch {
		select {
		case e, ok := <-sub.events:
			if ok {
				batch = append(batch, e)
				size += eventstore.RecordSize(&e)
				continue
			}
		default:
		}
		break
	}
	if err := f.mirror.extend(ctx, sub.incarnation, batch); err != nil {
		return err
	}
	f.mirror.noteHeard(f.mirror.now(), []eventstore.Delivery{{Incarnation: sub.incarnation, Position: batch[len(batch)-1].Position}})
	return nil
}

// A subscription is read in a goroutine.
type subscription struct {
	events      chan eventstore.Recorded // closed when it has ended; nil: there is none
	incarnation uint32
	cancel      context.CancelFunc
}

// start subscribes after the verified end.
func (s *subscription) start(ctx context.Context, m *Mirror, source eventstore.Reader) {
	from, _ := m.snapshot()
	ctx, s.cancel = context.WithCancel(ctx)
	events := make(chan eventstore.Recorded, ahead)
	s.events, s.incarnation = events, from.identity.Incarnation
	go func() { // stop waits for it
		defer close(events)
		for e, err := range source.Subscribe(ctx, from.end, eventstore.Filter{Public: true}) {
			if err != nil {
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// stop ends the subscription, if there is one.
func (s *subscription) stop() {
	if s.events == nil {
		return
	}
	s.cancel()
	for range s.events { // waits for the reader
	}
	s.events = nil
}
