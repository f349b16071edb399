package servicebustest

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

type verb int

const (
	complete verb = iota
	abandon
	deferral
	deadLetter
	giveBack // as if it had never been delivered
)

// A verdict is what a receiver says about a message.
type verdict struct {
	verb                verb
	properties          map[string]any // to be merged into the application properties
	reason, description string         // of a dead letter
}

// What the bus itself writes on dead letters.
const (
	reasonProperty      = "DeadLetterReason"
	descriptionProperty = "DeadLetterErrorDescription"
	deliveryReason      = "MaxDeliveryCountExceeded"
	expiryReason        = "TTLExpiredException"
)

// settle ends the lock of a message with a verdict. The entity is named because a lock is good for one entity only.
func (b *broker) settle(path string, token uuid.UUID, v verdict) error {
	b.enter()
	defer b.exit()
	e, err := b.lookup(path)
	if err != nil {
		return err
	}
	return b.judge(e, token, v)
}

// settleAll ends the locks of several messages, of all or of none.
func (b *broker) settleAll(path string, tokens []uuid.UUID, v verdict) error {
	b.enter()
	defer b.exit()
	e, err := b.lookup(path)
	if err != nil {
		return err
	}
	for _, token := range tokens {
		if e.locks[token] == nil {
			return errMessageLockLost
		}
	}
	for _, token := range tokens {
		if err := b.judge(e, token, v); err != nil {
			return err
		}
	}
	return nil
}

func (b *broker) judge(e *entity, token uuid.UUID, v verdict) error {
	m := e.locks[token]
	if m == nil {
		if lost := e.lost[token]; lost != nil {
			b.discover(e, lost)
		}
		return errMessageLockLost
	}
	switch v.verb {
	case complete:
		b.unlock(m)
		b.discard(m)
	case abandon:
		m.change(v.properties)
		b.giveUp(m)
	case deferral:
		m.change(v.properties)
		b.unlock(m)
		e.states[m.State]--
		m.State = Deferred
		e.states[m.State]++
		b.expireIfDue(m)
	case deadLetter:
		m.change(v.properties)
		b.unlock(m)
		b.bury(m, v.reason, v.description)
	case giveBack:
		b.release(m)
	}
	b.dispatch(e)
	return nil
}

// release unlocks a message whose delivery does not count.
func (b *broker) release(m *message) {
	b.unlock(m)
	b.restore(m)
}

// giveUp unlocks a message whose delivery has failed.
func (b *broker) giveUp(m *message) {
	b.unlock(m)
	e := m.home
	if e.kind == deadLetterKind {
		b.restore(m)
		return
	}
	m.DeliveryCount++
	if m.DeliveryCount >= e.limit.MaxDeliveryCount {
		b.bury(m, deliveryReason, fmt.Sprintf("Message could not be consumed after %d delivery attempts.", m.DeliveryCount))
		return
	}
	b.restore(m)
}

// restore puts an unlocked message back into its place.
func (b *broker) restore(m *message) {
	if b.expireIfDue(m) || m.State == Deferred {
		return
	}
	b.offer(m)
}

// expire is called when a message's time has run out. While it is locked it may still be settled.
func (b *broker) expire(m *message) {
	m.expiry = nil
	if m.locked() {
		return
	}
	b.withdraw(m)
	b.pass(m)
	b.dispatch(m.home)
}

// expireIfDue lets an unlocked message that is not offered expire, if its time ran out while it was locked.
func (b *broker) expireIfDue(m *message) bool {
	if m.ExpiresAt.IsZero() || m.ExpiresAt.After(b.clock.Now()) {
		return false
	}
	b.pass(m)
	return true
}

// pass ends the life of an expired message.
func (b *broker) pass(m *message) {
	if m.home.limit.DeadLetterOnExpiry {
		b.bury(m, expiryReason, "The message expired and was dead lettered.")
		return
	}
	b.discard(m)
}

// withdraw takes back the offer of a message.
func (b *broker) withdraw(m *message) {
	e := m.home
	if s := e.sessionOf(m); s != nil {
		s.ready.remove(m)
		b.stir(s)
		return
	}
	e.ready.remove(m)
}

// discard ends a message that is neither locked nor offered.
func (b *broker) discard(m *message) {
	b.cancel(m.alarm)
	b.cancel(m.expiry)
	m.alarm, m.expiry = nil, nil
	m.home.drop(m)
}

// bury moves a message that is neither locked nor offered to the dead-letter queue, where nothing expires. A dead
// letter that is buried again stays where it is.
func (b *broker) bury(m *message, reason, description string) {
	notes := make(map[string]any, 2)
	if reason != "" {
		notes[reasonProperty] = reason
	}
	if description != "" {
		notes[descriptionProperty] = description
	}
	m.change(notes)
	e := m.home
	if e.dead == nil {
		b.restore(m)
		return
	}
	b.discard(m)
	letter := &message{
		Message: m.Message,
		wire:    m.wire,
		changed: m.changed,
		size:    m.size,
	}
	letter.State = Active
	letter.ExpiresAt = time.Time{}
	e.dead.keep(letter)
	b.offer(letter)
	b.dispatch(e.dead)
}
