package servicebustest

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Faults says what goes wrong at one entity, and how often: each rate is between 0, never, and 1, always. Delaying some
// messages and not others reorders them; within a session the order stays.
type Faults struct {
	Busy      float64       `json:"busy,omitempty"`      // requests that are refused with ServerBusy
	Duplicate float64       `json:"duplicate,omitempty"` // messages that arrive twice, with the same message id
	Delayed   float64       `json:"delayed,omitempty"`   // messages that cannot be received until Delay has passed
	Delay     time.Duration `json:"delay,omitempty"`     // in nanoseconds, as JSON has it
	LoseLock  float64       `json:"lose_lock,omitempty"` // deliveries whose lock is lost at once, while its renewal seems to succeed
	Times     int           `json:"times,omitempty"`     // how many faults there will be; zero: no limit
	Seed      uint64        `json:"seed,omitempty"`      // the same seed, the same faults
}

// faults are the faults of an entity under way; nil means none.
type faults struct {
	Faults
	random *rand.Rand
	made   int
}

func newFaults(f Faults) *faults {
	return &faults{Faults: f, random: rand.New(rand.NewPCG(f.Seed, 0))}
}

func (f *faults) strike(rate float64) bool {
	if rate <= 0 || f.Times > 0 && f.made >= f.Times || f.random.Float64() >= rate {
		return false
	}
	f.made++
	return true
}

func (f *faults) busy() bool      { return f != nil && f.strike(f.Busy) }
func (f *faults) duplicate() bool { return f != nil && f.strike(f.Duplicate) }
func (f *faults) lose() bool      { return f != nil && f.strike(f.LoseLock) }

func (f *faults) delay() time.Duration {
	if f == nil || f.Delay <= 0 || !f.strike(f.Delayed) {
		return 0
	}
	return f.Delay
}

func (b *broker) setFaults(path string, f Faults) error {
	b.enter()
	defer b.exit()
	e, err := b.lookup(path)
	if err != nil {
		return err
	}
	e.faults = newFaults(f)
	return nil
}

// A mislaid lock is lost, and whoever had it does not know: it can be renewed, until a settlement fails.
type mislaid struct {
	tokens   []uuid.UUID
	lapse    *alarm
	receiver *receiver // of a session; nil without sessions
}

// strikeLocks mislays the locks of deliveries that a fault has struck.
func (b *broker) strikeLocks(r *receiver, taken []*message) {
	for _, m := range taken {
		if !r.home.faults.lose() {
			continue
		}
		if r.session != nil {
			b.mislaySession(r.session)
			break
		}
		b.mislay(m)
	}
	b.dispatch(r.home)
}

// loseLocks mislays every lock of an entity, and every session, and returns how many.
func (b *broker) loseLocks(path string) (int, error) {
	b.enter()
	defer b.exit()
	e, err := b.lookup(path)
	if err != nil {
		return 0, err
	}
	var taken []*session // first all, because a session that is lost may be granted anew at once
	for _, s := range e.sessions {
		if s.holder != nil {
			taken = append(taken, s)
		}
	}
	for _, s := range taken {
		b.mislaySession(s)
	}
	locked := slices.Collect(maps.Values(e.locks)) // those of sessions have gone already
	for _, m := range locked {
		b.mislay(m)
	}
	b.dispatch(e)
	return len(taken) + len(locked), nil
}

// mislay takes the lock of a message from its holder, as if it had lapsed. The caller dispatches.
func (b *broker) mislay(m *message) {
	e := m.home
	if !m.taken && m.holder != nil {
		b.recall(m)
		b.release(m)
		return
	}
	lost := &mislaid{tokens: []uuid.UUID{m.token}}
	b.remember(e, lost)
	b.giveUp(m)
}

// mislaySession takes a session from its holder, who keeps the link and hears of it at the next settlement, or at once if
// there is nothing to settle.
func (b *broker) mislaySession(s *session) {
	r := s.holder
	lost := &mislaid{receiver: r}
	for m := range r.holds {
		if m.taken {
			lost.tokens = append(lost.tokens, m.token)
		}
	}
	b.freeSession(s, true)
	if len(lost.tokens) == 0 {
		b.fail(r, errSessionLockLost)
		return
	}
	b.remember(r.home, lost)
}

func (b *broker) remember(e *entity, lost *mislaid) {
	for _, token := range lost.tokens {
		e.lost[token] = lost
	}
	lost.lapse = b.after(e.limit.LockDuration, func() { b.discover(e, lost) })
}

// discover ends the seeming.
func (b *broker) discover(e *entity, lost *mislaid) {
	b.cancel(lost.lapse)
	for _, token := range lost.tokens {
		delete(e.lost, token)
	}
	if lost.receiver != nil {
		b.fail(lost.receiver, errSessionLockLost)
	}
}

// mislaidBy returns the session that a receiver has lost without knowing it, nil if there is none.
func (e *entity) mislaidBy(r *receiver) *mislaid {
	if r == nil {
		return nil
	}
	for _, lost := range e.lost {
		if lost.receiver == r {
			return lost
		}
	}
	return nil
}

// releaseLocks gives back everything that anybody holds, with no delivery counted.
func (b *broker) releaseLocks() {
	b.enter()
	defer b.exit()
	for _, top := range b.entities {
		for _, e := range top.family() {
			for r := range e.receivers {
				b.fail(r, refuse(DetachForced, "The bus restarts."))
			}
			for _, m := range e.locks {
				b.release(m)
			}
			for _, lost := range e.lost {
				b.discover(e, lost)
			}
		}
	}
}
