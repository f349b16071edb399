package relay

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 10 * time.Second
)

// A backoff counts the failures in a row and tells how long to wait after each: twice as long each time up to a
// bound, less a random part of up to a half, so that many who fail together do not return together.
type backoff struct{ failures int }

// wait logs the failure of what was being done and pauses. It logs the 1st, 2nd, 4th, 8th failure and so on, so that
// an outage does not fill the log. It returns the context's error as soon as that is done.
func (b *backoff) wait(ctx context.Context, log *slog.Logger, doing string, err error) error {
	pause := min(firstPause<<min(b.failures, 16), longestPause)
	b.failures++
	if b.failures&(b.failures-1) == 0 {
		log.WarnContext(ctx, "failed, trying again", "doing", doing, "error", err, "failures", b.failures)
	}
	pause -= rand.N(pause / 2)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// retry calls f until it succeeds, or until ctx is done, whose error it then returns.
func retry(ctx context.Context, log *slog.Logger, doing string, f func() error) error {
	var pause backoff
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := pause.wait(ctx, log, doing, err); err != nil {
			return err
		}
	}
}
