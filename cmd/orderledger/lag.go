package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/internal/retry"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

const (
	// readyAge is how old the oldest event that the read models lack may be in a node that is ready.
	readyAge = 10 * time.Second
	// lagTimeout bounds the question to another process how far its ledger is, for which requests wait.
	lagTimeout = time.Second
	// lagAgain is how long after a question without an answer there is no other.
	lagAgain = 2 * time.Second
)

// A lastLag is what a ledger that is not in this process has let know last.
type lastLag struct {
	mu    sync.Mutex // protects what follows, and keeps two from asking at once
	lags  []projections.Lag
	known time.Time // when that was so
	asked time.Time // when the question was last without an answer
	err   error     // why; nil: it was answered
}

// lag returns how far the read models are behind. While a ledger that is not in this process cannot be asked, it
// says that they lack what they lacked last, and that this is older by the time that has passed since.
func (n *node) lag(ctx context.Context) ([]projections.Lag, error) {
	lags, since, _, err := n.lastKnownLag(ctx)
	if since > 0 {
		lags = slices.Clone(lags)
		for i := range lags {
			lags[i].Age += since
		}
	}
	return lags, err
}

// lastKnownLag returns what is known of the lag, how long ago that was, and why nothing newer is known. It returns an error if
// nothing is.
func (n *node) lastKnownLag(ctx context.Context) (lags []projections.Lag, since time.Duration, unreached, err error) {
	if !n.distant {
		lags, err = n.projector.Lag(ctx)
		if n.peers != nil {
			n.peers.behind(lags)
		}
		return lags, 0, nil, err
	}
	l := &n.lastLag
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil || time.Since(l.asked) >= lagAgain {
		asking, cancel := context.WithTimeout(ctx, lagTimeout)
		defer cancel()
		lags, err := n.projector.Lag(asking)
		if ctx.Err() != nil {
			return nil, 0, nil, ctx.Err() // whoever asked has left
		}
		if l.err = err; err == nil {
			l.lags, l.known = lags, time.Now()
			return lags, 0, nil, nil
		}
		l.asked = time.Now()
	}
	if l.known.IsZero() {
		return nil, 0, nil, l.err
	}
	return l.lags, time.Since(l.known), l.err, nil
}

// projectorReady fails while the read models are too far behind. That the process which has the ledger cannot be asked
// is no reason to answer nothing from them.
func (n *node) projectorReady(ctx context.Context) error {
	lags, since, unreached, err := n.lastKnownLag(ctx)
	if err != nil {
		return err
	}
	for _, l := range lags {
		if l.Age > readyAge && l.Ledger == n.own { // what other regions do is shown as late as it comes
			return fmt.Errorf("the read models are %d events and %v behind", l.Events, l.Age.Round(time.Second))
		}
	}
	switch {
	case len(lags) == 0:
		return errors.New("the read models follow no ledger yet")
	case unreached != nil:
		return fmt.Errorf("%w: the read models may be %v old: %w", web.ErrDegraded, since.Round(time.Second), unreached)
	}
	return nil
}

// How often it is looked whether the bus brings what it should, and for how long it may not: in time for the node to
// stay ready.
const (
	relieveEvery = 2 * time.Second
	overdueAge   = readyAge / 2
)

// relieve reads the ledger of another process where the bus does not bring in time what stands in it, be it that the bus is
// away. What the bus brings later is known by then.
func (n *node) relieve(ctx context.Context) error {
	attempts := retry.NewOutage(n.log, "reading what the bus does not bring", readyAge).Attempts()
	defer attempts.Leave()
	relieving := false
	for {
		behind, err := n.overdue(ctx)
		if err == nil && len(behind) > 0 && !relieving {
			n.log.WarnContext(ctx, "the bus does not bring what is in the ledger: reading it there")
		}
		relieving = len(behind) > 0
		for _, ledger := range behind {
			for more := true; more && err == nil; {
				more, err = n.projector.CatchUpSome(ctx, ledger)
			}
		}
		switch {
		case projections.Final(err):
			return err
		case err != nil:
			if err := attempts.Failed(ctx, err); err != nil {
				return err
			}
		default:
			attempts.Succeeded(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(relieveEvery):
		}
	}
}

// overdue are the ledgers of which the read models lack what should long be there. Of one that does not answer it is not
// known.
func (n *node) overdue(ctx context.Context) (ledgers []uuid.UUID, err error) {
	lags, _, unreached, err := n.lastKnownLag(ctx)
	if err != nil || unreached != nil {
		return nil, ctx.Err()
	}
	for _, l := range lags {
		if l.Age > overdueAge {
			ledgers = append(ledgers, l.Ledger)
		}
	}
	return ledgers, nil
}
