package relay

import (
	"context"
	"errors"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	// takeOverAfter is how long the active relay may make no progress while there is something to relay. A healthy one
	// saves a checkpoint each 10 s, and is left time to try again where that fails.
	takeOverAfter = 30 * time.Second
	watchEvery    = time.Second
)

// standBy returns nil when the other relay has made no progress for 30 s although events wait. That bounds how often
// two relays publish the same, but does not prevent it: the other may still be at it, until it saves its next checkpoint
// and learns that it was relieved.
func (r *Relay) standBy(ctx context.Context) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	j := &journal{ledger: r.config.Ledger, stream: streamOf(r.config.Name)}
	seen, since := eventstore.NoStream, time.Time{} // the other's last checkpoint; since when it makes no progress, zero: it does
	for {
		checkpoint, err := j.load(ctx)
		waits := false
		if err == nil {
			waits, err = r.waits(ctx, checkpoint.Position)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, eventstore.ErrClosed) || errors.Is(err, eventstore.ErrCorrupt):
			return err
		case err != nil:
			r.config.Log.WarnContext(ctx, "watching the active relay failed", "error", err)
			since = time.Time{}
		case j.expected != seen || !waits:
			seen, since = j.expected, time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= takeOverAfter:
			r.config.Log.InfoContext(ctx, "the active relay makes no progress, taking over", "position", checkpoint.Position)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// waits reports whether there is an event to relay after a position.
func (r *Relay) waits(ctx context.Context, after eventstore.Position) (bool, error) {
	for _, err := range r.config.Ledger.ReadAll(ctx, after, eventstore.Filter{Public: true}) {
		return err == nil, err
	}
	return false, nil
}
