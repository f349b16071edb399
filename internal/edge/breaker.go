package edge

import (
	"math/rand/v2"
	"time"
)

// state is that of a breaker.
type state int

const (
	closed   state = iota // requests pass
	open                  // none does
	halfOpen              // one at a time does, to try
)

func (s state) String() string {
	return [...]string{"closed", "open", "half-open"}[s]
}

// A breaker is what the policy knows of a region.
type breaker struct {
	state    state
	ready    bool          // says the region itself
	failures int           // requests in a row that failed
	silences int           // probes in a row without an answer
	pause    time.Duration // how long it was last opened for, without jitter
	until    time.Time     // open: until when
	trying   bool          // half-open: a request is under way
	since    time.Time     // closed: since when; zero: from the start
	latency  time.Duration // of probes, smoothed; 0: not known
	probing  bool
	probeAt  time.Time
}

// open keeps requests away for a pause.
func (b *breaker) open(now time.Time, chance *rand.Rand, retryAfter time.Duration) {
	if held := b.state == closed && now.Sub(b.since) >= steadyAfter; held || b.pause == 0 {
		b.pause = firstPause
	} else {
		b.pause = min(2*b.pause, longestPause)
	}
	pause := max(b.pause, min(retryAfter, longestRest))
	b.until = now.Add(pause + upTo(chance, pause/2))
	b.probeAt = b.until
	b.state, b.trying = open, false
}

// close lets requests through again, few at first.
func (b *breaker) close(now time.Time) {
	b.state, b.since = closed, now
	b.failures, b.silences, b.trying = 0, 0, false
}

// share is which part of its requests a region gets.
func (b *breaker) share(now time.Time) float64 {
	if b.since.IsZero() {
		return 1
	}
	return min(max(float64(now.Sub(b.since))/float64(slowStart), smallestShare), 1)
}

// probed takes note of a probe and reports whether it opened the breaker.
func (b *breaker) probed(now time.Time, chance *rand.Rand, h Health) bool {
	if b.state == open && now.Before(b.until) {
		return false // it was sent before the breaker opened
	}
	if h == Silent {
		if b.silences++; b.state == closed && b.silences < silenceLimit {
			return false
		}
		lost := b.state != open
		b.open(now, chance, 0)
		return lost
	}
	b.silences = 0
	if b.state == open {
		b.state = halfOpen
	}
	if h == Ready && !b.ready {
		b.since = now // begin slowly
	}
	b.ready = h == Ready
	return false
}

// measured takes note of how long a probe took.
func (b *breaker) measured(latency time.Duration) {
	latency = max(latency, 1)
	if b.latency > 0 {
		latency = time.Duration(latencyWeight*float64(latency) + (1-latencyWeight)*float64(b.latency))
	}
	b.latency = latency
}

// upTo is a random duration below d.
func upTo(chance *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(chance.Int64N(int64(d)))
}
