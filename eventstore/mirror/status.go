package mirror

import (
	"math/bits"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

// A Status tells how a mirror stands.
type Status struct {
	Head     eventstore.Head     // what readers see; but for the id zero before the first contact
	Known    bool                // there was a first contact
	Events   uint64              // that are verified, whether or not readers see them yet
	Held     int                 // deliveries that are durable, but do not link yet
	Source   eventstore.Position // of the ledger's head, as far as it was told
	Catching bool                // the ledger is being read

	// Lag is how many events readers do not see of those that the ledger was told to have. Positions may have gaps: unless
	// it is 0 it is an estimate, from how many positions an event has taken so far.
	Lag uint64
	// Behind is how long ago the mirror was told of something that readers do not see yet; 0: there is no such thing.
	Behind time.Duration
	// Heard is when something came from the ledger last, or when the mirror was opened. What the ledger did since then
	// is not in Source and Lag.
	Heard time.Time

	Err   error     // why the ledger cannot be read or nothing can be stored; nil: both went well last
	Since time.Time // when it began to fail
}

// Status returns how the mirror stands. It does no I/O.
func (m *Mirror) Status() Status {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	s, n := &m.state, &m.news
	status := Status{
		Head: s.head(), Known: s.known, Events: s.events, Held: s.held,
		Source: max(n.head, s.end), Catching: n.catching, Heard: n.heard,
	}
	if reached := n.reached(*s); status.Source > reached {
		status.Lag = max(estimate(s.events, reached, status.Source), uint64(s.held))
		if n.due.position > reached {
			status.Behind = max(0, now.Sub(n.due.at))
		}
	}
	for _, t := range []trouble{n.applying, n.following} { // the latter weighs more
		if t.err != nil {
			status.Err, status.Since = t.err, t.since
		}
	}
	return status
}

// estimate guesses how many events stand behind one position up to another, if up to the first there are so many.
func estimate(events uint64, from, to eventstore.Position) uint64 {
	distance := uint64(to - from)
	if events == 0 || from == 0 || uint64(from) <= events {
		return distance
	}
	high, low := bits.Mul64(distance, events)
	n, rest := bits.Div64(high, low, uint64(from)) // fits, as from is greater than events
	if rest > 0 {
		n++
	}
	return max(n, 1)
}
