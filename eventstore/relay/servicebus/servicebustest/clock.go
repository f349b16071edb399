package servicebustest

import (
	"sync"
	"time"
)

// A Clock tells the bus the time and wakes it. Locks, schedules, expiry and duplicate detection follow it; what
// concerns the peer on the wire (keep-alives, how long a receiver waits for a session) follows real time.
type Clock interface {
	Now() time.Time

	// AfterFunc calls f once, from any goroutine, when d has passed, unless stop is called before.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// FakeClock is a Clock that stands still until it is advanced. It is safe for concurrent use.
type FakeClock struct {
	mu     sync.Mutex // protects what follows
	now    time.Time
	alarms pile[*alarm]
}

// NewFakeClock returns a clock that shows now.
func NewFakeClock(now time.Time) *FakeClock {
	return &FakeClock{now: now, alarms: newAlarms()}
}

// Now returns the time at which the clock stands.
func (c *FakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc calls f from the Advance that reaches its time.
func (c *FakeClock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &alarm{at: c.now.Add(d), ring: f}
	c.alarms.push(a)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.alarms.remove(a)
	}
}

// Advance moves the clock on, and returns after everything that fell due has happened, each at its own time.
func (c *FakeClock) Advance(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for c.alarms.len() > 0 && !c.alarms.first().at.After(end) {
		a := c.alarms.pop()
		if a.at.After(c.now) {
			c.now = a.at
		}
		c.mu.Unlock()
		a.ring()
		c.mu.Lock()
	}
	c.now = end
	c.mu.Unlock()
}

// An alarm is something to do at a time.
type alarm struct {
	at    time.Time
	ring  func()
	place int
}

func newAlarms() pile[*alarm] {
	return pile[*alarm]{
		before: func(a, b *alarm) bool { return a.at.Before(b.at) },
		place:  func(a *alarm) *int { return &a.place },
	}
}
