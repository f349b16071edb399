// Package domaintest makes orders for tests: believable commands in any state, whole histories, a policy that decides
// by marks, and examples in which every field is set. Like the domain it starts nothing and reads no clock; the same
// draws give the same orders.
package domaintest

import (
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
)

// BusinessUnit is the business unit of all orders that this package makes.
const BusinessUnit = "main"

// Start is when the first command of a history was sent.
var Start = time.Date(2026, time.March, 2, 7, 0, 0, 0, time.UTC)

// Key is the key of the digests in histories.
var Key = []byte("an example of a key, 32 bytes in")

// A Recorded is an event of a history and what stands beside it.
type Recorded struct {
	Event domain.Event
	Meta  domain.Meta
}

// History draws an order's life: the events of up to thirty commands as [Policy] decides them, refused ones among
// them that left no trace, and now and then a move to another ledger. It has at least one event, its first one is a
// submission, and its times rise.
func History(t *rapid.T) []Recorded {
	var history []Recorded
	var o domain.Order
	add := func(m domain.Meta, events ...domain.Event) {
		for _, e := range events {
			o = domain.Evolve(o, e)
			history = append(history, Recorded{e, m})
		}
	}
	steps := rapid.IntRange(1, 30).Draw(t, "commands")
	for i := range steps {
		c := Command(t, o)
		if i == 0 {
			c = Submission(t)
		}
		now := Start.Add(time.Duration(i) * time.Hour)
		meta := MetaOf(c, now)
		meta.Epoch = o.Epoch
		events, err := domain.Decide(o, c, Policy{}, now)
		if refused := new(domain.Refused); err != nil && !errors.As(err, &refused) {
			t.Fatalf("%s: %v", c.Do.Name(), err)
		}
		add(meta, events...)
		if rapid.IntRange(0, 49).Draw(t, "move") == 49 {
			meta.Command, meta.Digest, meta.Epoch = domain.CommandID(o.ID, "region", strconv.Itoa(i)), domain.Digest{}, o.Epoch+1
			add(meta, &domain.HomeMoved{
				Home:   uuid.NewSHA1(uuid.Nil, []byte("new"+strconv.Itoa(i))).String(),
				Epoch:  o.Epoch + 1,
				Source: uuid.NewSHA1(uuid.Nil, []byte("old"+strconv.Itoa(i))).String(),
				Last:   o.Revision(),
			})
		}
	}
	return history
}

// EventsOf returns the events of a history.
func EventsOf(history []Recorded) []domain.Event {
	events := make([]domain.Event, len(history))
	for i, r := range history {
		events[i] = r.Event
	}
	return events
}

// MetaOf returns what stands beside the events of a command that was taken at a time.
func MetaOf(c domain.Command, now time.Time) domain.Meta {
	digest, err := domain.DigestOf(Key, c, &domain.Personal{})
	if err != nil {
		panic(err)
	}
	occurred := c.Occurred
	if occurred.IsZero() {
		occurred = now
	}
	return domain.Meta{
		Command: c.ID, Digest: digest, Actor: c.Actor, BusinessUnit: c.BusinessUnit, Cause: c.Cause, Occurred: occurred,
	}
}
