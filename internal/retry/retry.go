// Package retry does again what fails for a while, with ever longer pauses. Its log has two lines for an outage, however
// many meet it and however long it lasts: one when it begins and one when it is over.
//
// All methods of an [Outage] are safe for concurrent use. [Attempts] belong to one goroutine.
package retry

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// firstPause is the wait after a first failure.
const firstPause = 50 * time.Millisecond

// An Outage joins the failures of all who do the same.
type Outage struct {
	log     *slog.Logger
	doing   string
	longest time.Duration

	mu      sync.Mutex // protects what follows
	number  int        // of this outage, or of the next one
	failing int        // how many fail at present
	since   time.Time  // when the first of them began to
}

// NewOutage returns one that has not begun. Doing says in the log what fails; longest bounds the pauses.
func NewOutage(log *slog.Logger, doing string, longest time.Duration) *Outage {
	return &Outage{log: log, doing: doing, longest: longest}
}

// Do calls f until it succeeds, or until ctx is done, whose error it then returns.
func (o *Outage) Do(ctx context.Context, f func() error) error {
	a := o.Attempts()
	defer a.Leave()
	for {
		err := f()
		if err == nil {
			a.Succeeded(ctx)
			return nil
		}
		if err := a.Failed(ctx, err); err != nil {
			return err
		}
	}
}

// Attempts returns the attempts of one more who does it.
func (o *Outage) Attempts() *Attempts { return &Attempts{outage: o} }

// Over ends the outage for all, where one who succeeds shows that all can. Who fails after that begins another one.
func (o *Outage) Over(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failing > 0 {
		o.end(ctx)
	}
}

// end logs the end of the outage. The caller holds mu.
func (o *Outage) end(ctx context.Context) {
	o.number, o.failing = o.number+1, 0
	o.log.InfoContext(ctx, "goes on after an outage", "doing", o.doing, "lasted", time.Since(o.since).Round(time.Millisecond))
}

// join counts one more who fails in this outage, unless that one is counted already.
func (o *Outage) join(ctx context.Context, a *Attempts, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case a.failures > 0 && a.number == o.number:
		o.log.DebugContext(ctx, "failed again", "doing", o.doing, "error", err, "failures", a.failures+1)
		return
	case o.failing == 0:
		o.since = time.Now()
		o.log.WarnContext(ctx, "failed, trying again", "doing", o.doing, "error", err)
	}
	o.failing++
	a.number = o.number
}

// Attempts are those of one who may fail several times in a row.
type Attempts struct {
	outage   *Outage
	failures int // in a row
	number   int // of the outage to which the last one belongs
}

// Failed pauses: twice as long each time up to a bound, less a random part of up to a half, so that many who fail
// together do not return together. It returns the context's error as soon as that is done.
func (a *Attempts) Failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // that may be why
	}
	a.outage.join(ctx, a, err)
	pause := min(firstPause<<min(a.failures, 16), a.outage.longest)
	a.failures++
	timer := time.NewTimer(pause - rand.N(pause/2+1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Succeeded makes the next failure a first one. When all who failed have succeeded, the outage is over.
func (a *Attempts) Succeeded(ctx context.Context) { a.leave(func() { a.outage.end(ctx) }) }

// Leave is for who tries no more: the outage does not wait for it.
func (a *Attempts) Leave() { a.leave(func() {}) }

// leave takes one from the count of those who fail, and calls last if nobody is left.
func (a *Attempts) leave(last func()) {
	failed := a.failures > 0
	a.failures = 0
	if !failed {
		return
	}
	o := a.outage
	o.mu.Lock()
	defer o.mu.Unlock()
	if a.number != o.number {
		return // that outage is over
	}
	if o.failing--; o.failing == 0 {
		last()
	}
}
