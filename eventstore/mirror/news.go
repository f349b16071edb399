package mirror

import (
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	linkTime = 250 * time.Millisecond // how long deliveries may be held without any that links
	hideTime = 20 * time.Millisecond  // how long readers may see nothing new while something verified waits
	tickTime = time.Second            // how long readers may see less than the ledger was told to have
	silence  = 10 * time.Second       // how long nothing may be heard of the ledger
)

// news is what was heard of the ledger since the mirror was opened.
type news struct {
	catching bool // CatchUp runs
	asked    bool // it must run, for a reason that stays until it has

	heard  time.Time           // when something came from the ledger last
	stuck  time.Time           // since when deliveries are held and the verified end has not moved; zero: none are held
	hidden time.Time           // since when something verified is not shown and what is shown has not moved; zero: all is
	due    told                // what was told first of what is still missing
	latest told                // what was told last
	head   eventstore.Position // of the ledger, as far as it is known
	passed eventstore.Position // up to where the ledger was read last

	applying, following trouble
}

// told is how far somebody said that the ledger is.
type told struct {
	position eventstore.Position
	at       time.Time
}

// trouble is why something fails, and since when; a nil error: it does not.
type trouble struct {
	err   error
	since time.Time
}

func (t *trouble) set(err error, now time.Time) {
	if err == nil {
		*t = trouble{}
		return
	}
	if t.err == nil {
		t.since = now
	}
	t.err = err
}

func (n *news) begin(now time.Time, s state) {
	n.asked, n.heard, n.head = true, now, s.end
	n.move(now, s, s)
}

// move notes that the state is another one than before.
func (n *news) move(now time.Time, before, s state) {
	switch {
	case s.held == 0:
		n.stuck = time.Time{}
	case s.end != before.end || n.stuck.IsZero():
		n.stuck = now
	}
	switch {
	case s.shown == s.end:
		n.hidden = time.Time{}
	case s.shown != before.shown || n.hidden.IsZero():
		n.hidden = now
	}
	n.head = max(n.head, s.end)
	reached := n.reached(s)
	if n.due.position <= reached {
		if n.due = n.latest; n.due.position <= reached {
			n.due = told{}
		}
	}
}

// reached is the position up to which readers see everything.
func (n *news) reached(s state) eventstore.Position { return max(s.shown, n.passed) }

// tell notes that the ledger is at a position at least.
func (n *news) tell(now time.Time, s state, p eventstore.Position) {
	n.head = max(n.head, p)
	if p <= n.reached(s) {
		return
	}
	if p > n.latest.position {
		n.latest = told{p, now}
	}
	if n.due.position == 0 {
		n.due = told{p, now}
	}
}

// NeedsCatchUp reports whether the ledger must be read: CatchUp has not succeeded since the mirror was opened or has
// failed since, deliveries have come that do not link for a moment or contradict what is known, something verified may be
// half an append, readers see less than the ledger was told to have for a second, or nothing was heard of it for ten. It
// does no I/O.
func (m *Mirror) NeedsCatchUp(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &m.news
	switch {
	case n.asked:
		return true
	case !n.hidden.IsZero() && now.Sub(n.hidden) >= hideTime:
		return true
	case !n.stuck.IsZero() && now.Sub(n.stuck) >= linkTime:
		return true
	case n.due.position > n.reached(m.state) && now.Sub(n.due.at) >= tickTime:
		return true
	}
	return now.Sub(n.heard) >= silence
}

// noteStep notes what a transaction has found.
func (m *Mirror) noteStep(s *step, before state) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.overflow || s.forged > 0 && !s.feed {
		m.news.asked = true
	}
	m.news.move(now, before, s.state)
}

// noteApplied notes how Apply went.
func (m *Mirror) noteApplied(now time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.news.applying.set(err, now)
}

// noteHeard notes what deliveries tell of the ledger.
func (m *Mirror) noteHeard(now time.Time, deliveries []eventstore.Delivery) {
	if len(deliveries) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.news.heard = now
	for _, d := range deliveries {
		switch {
		case !m.state.known || d.Incarnation > m.state.identity.Incarnation:
			m.news.asked = true
		case d.Incarnation == m.state.identity.Incarnation:
			m.news.tell(now, m.state, d.Position)
		}
	}
}

// noteHead notes the ledger's own word.
func (m *Mirror) noteHead(head eventstore.Head) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if head.ID == m.ledger {
		m.news.tell(now, m.state, head.Position)
	}
}

// noteBegun notes that CatchUp begins.
func (m *Mirror) noteBegun() time.Time {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.news.catching, m.news.asked = true, false
	return now
}

// noteCaughtUp notes how CatchUp went, which began at some time and read the ledger up to a head.
func (m *Mirror) noteCaughtUp(begun time.Time, head eventstore.Head, err error) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &m.news
	n.catching = false
	n.following.set(err, now)
	if err != nil {
		n.asked = true
		return
	}
	n.heard, n.passed = now, head.Position
	// What was told before and is not there was never true.
	for _, t := range []*told{&n.due, &n.latest} {
		if !t.at.After(begun) {
			*t = told{}
		}
	}
	n.head = max(head.Position, m.state.end, n.due.position, n.latest.position)
	n.move(now, m.state, m.state)
}

// ask lets NeedsCatchUp be true.
func (m *Mirror) ask() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.news.asked = true
}
