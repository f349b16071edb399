package projections

import (
	"context"
	"time"
)

// pollInterval is how often the database is asked whether another process has committed.
const pollInterval = 50 * time.Millisecond

// Poll wakes who waits for rows or watches them when another process has changed the database, until ctx is done, whose
// error it returns. It is not needed where the projector is in the same process.
func (v *Views) Poll(ctx context.Context) error {
	conn, err := v.reader.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last := int64(-1)
	for {
		var version int64
		// It changes on a connection when another one has committed.
		if err := conn.QueryRowContext(ctx, `PRAGMA data_version`).Scan(&version); err != nil {
			return err
		}
		if version != last {
			v.bell.ringAll()
			last = version
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// ringAll tells of a commit that may have touched any order.
func (b *bell) ringAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, listeners := range b.listeners {
		for c := range listeners {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}
