package servicebustest

import (
	"context"
	"fmt"
)

// Counts says how much is in an entity.
type Counts struct {
	Active         int `json:"active"` // those that are locked included
	Deferred       int `json:"deferred"`
	Scheduled      int `json:"scheduled"`
	Locked         int `json:"locked"`
	DeadLettered   int `json:"dead_lettered"`   // in its dead-letter queue
	Sessions       int `json:"sessions"`        // that have a message, a state or a receiver
	LockedSessions int `json:"locked_sessions"` // that have a receiver
	Receivers      int `json:"receivers"`       // those that wait for a session included
}

func (e *entity) tally() Counts {
	c := Counts{
		LockedSessions: e.taken,
		Active:         e.states[Active],
		Deferred:       e.states[Deferred],
		Scheduled:      e.states[Scheduled],
		Locked:         len(e.locks),
		Sessions:       len(e.sessions),
		Receivers:      len(e.receivers),
	}
	if e.dead != nil {
		c.DeadLettered = e.dead.live()
	}
	return c
}

func (b *broker) counts(path string) (Counts, error) {
	b.enter()
	defer b.exit()
	e, err := b.lookup(path)
	if err != nil {
		return Counts{}, err
	}
	return e.tally(), nil
}

// await returns as soon as ok says so of the counts of an entity.
func (b *broker) await(ctx context.Context, path string, ok func(Counts) bool) error {
	for {
		c, changed, err := b.watch(path)
		if err != nil {
			return err
		}
		if ok(c) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("awaiting %s, which stands at %+v: %w", path, c, ctx.Err())
		}
	}
}

func (b *broker) watch(path string) (Counts, <-chan struct{}, error) {
	b.enter()
	defer b.mu.Unlock() // not exit: looking is no change
	b.arrangeWake()
	e, err := b.lookup(path)
	if err != nil {
		return Counts{}, nil, err
	}
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return e.tally(), b.changed, nil
}

// peek returns up to n messages from a sequence number on, of one session unless it is nil; locked, deferred and
// scheduled ones too.
func (b *broker) peek(path string, from int64, n int, sessionID *string) ([]delivery, error) {
	b.enter()
	defer b.exit()
	e, err := b.lookup(path)
	if err != nil {
		return nil, err
	}
	var out []delivery
	for _, m := range e.messages[e.from(from):] {
		if len(out) >= n {
			break
		}
		if m.gone || sessionID != nil && (m.SessionID == nil || *m.SessionID != *sessionID) {
			continue
		}
		out = append(out, m.delivery())
	}
	return out, nil
}
