package commands

import (
	"sync"
	"time"
)

// A breaker keeps requests from a server that does not answer. After some failures in a row it lets nobody through for a
// while, and then one at a time until one succeeds.
type breaker struct {
	mu       sync.Mutex // protects the fields below
	failures int        // in a row
	until    time.Time  // nobody gets through before
	trying   bool       // somebody is through who tries
}

const (
	maxFailures  = 3
	shortestRest = time.Second
	longestRest  = 10 * time.Second
)

// enter reports whether one may go through, who has to call succeeded, failed or leave then; if not, when to come again.
func (b *breaker) enter(now time.Time) (pause time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failures < maxFailures:
		return 0, true
	case now.Before(b.until):
		return b.until.Sub(now), false
	case b.trying:
		return shortestRest, false
	}
	b.trying = true
	return 0, true
}

// succeeded reports whether the server had not answered before.
func (b *breaker) succeeded() (again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	again = b.failures >= maxFailures
	b.failures, b.trying = 0, false
	return again
}

// failed reports whether the server had answered before.
func (b *breaker) failed(now time.Time) (first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	b.trying = false
	if b.failures >= maxFailures {
		b.until = now.Add(min(shortestRest<<min(b.failures-maxFailures, 10), longestRest))
	}
	return b.failures == maxFailures
}

// leave is for one who has learned nothing about the server.
func (b *breaker) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

func (b *breaker) closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures < maxFailures
}
