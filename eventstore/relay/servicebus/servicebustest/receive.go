package servicebustest

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// A receiver is somebody to whom an entity hands messages, as many as it has given credit for.
type receiver struct {
	b       *broker
	home    *entity
	destroy bool // receive and delete: there are no locks
	wake    chan struct{}

	session   *session // whose messages it gets; nil without sessions, while it waits for one, and when it is lost
	sessionID *string  // of the session that it has or had
	credit    int
	waits     bool // it is in home.idle
	outbox    []*message
	holds     map[*message]struct{}
	ended     error // why it gets nothing any more
	closed    bool
}

// A delivery is a message that is handed to a receiver.
type delivery struct {
	Message
	wire    any
	changed bool
	size    int
	token   uuid.UUID // zero without a lock
}

func (m *message) delivery() delivery {
	return delivery{Message: m.look(), wire: m.wire, changed: m.changed, size: m.size, token: m.token}
}

// openReceiver starts to receive from an entity without sessions. Close the receiver when done.
func (b *broker) openReceiver(path string, destroy bool) (*receiver, error) {
	b.enter()
	defer b.exit()
	e, err := b.source(path)
	if err != nil {
		return nil, err
	}
	if e.limit.RequiresSession {
		return nil, errSessionRequired
	}
	return b.newReceiver(e, destroy), nil
}

func (b *broker) source(path string) (*entity, error) {
	e, err := b.lookup(path)
	if err != nil {
		return nil, err
	}
	if e.kind == topicKind {
		return nil, refuse(NotAllowed, "Messages cannot be received from the topic '%s'; receive from one of its subscriptions.", e.path)
	}
	if e.faults.busy() {
		return nil, errServerBusy
	}
	return e, nil
}

func (b *broker) newReceiver(e *entity, destroy bool) *receiver {
	r := &receiver{
		b:       b,
		home:    e,
		destroy: destroy,
		wake:    make(chan struct{}, 1),
		holds:   make(map[*message]struct{}),
	}
	e.receivers[r] = struct{}{}
	return r
}

// notify wakes whoever serves the receiver.
func (r *receiver) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// setCredit says how many messages the receiver would take now, those in its outbox included.
func (r *receiver) setCredit(n int) {
	r.b.enter()
	defer r.b.exit()
	r.credit = max(0, n-len(r.outbox))
	r.b.offerTo(r)
}

// take empties the outbox. After the receiver has ended it returns why.
func (r *receiver) take() ([]delivery, error) {
	r.b.enter()
	defer r.b.exit()
	if r.ended != nil {
		return nil, r.ended
	}
	out := make([]delivery, len(r.outbox))
	for i, m := range r.outbox {
		m.taken = true
		out[i] = m.delivery()
	}
	taken := r.outbox
	r.outbox = nil
	if !r.destroy {
		r.b.strikeLocks(r, taken)
	}
	return out, nil
}

// sent is told what the wire has taken: what is received and deleted is deleted now.
func (r *receiver) sent(deliveries []delivery) {
	if !r.destroy {
		return
	}
	r.b.enter()
	defer r.b.exit()
	for _, d := range deliveries {
		if m := r.home.locks[d.token]; m != nil {
			r.b.unlock(m)
			r.b.discard(m)
		}
	}
}

// untake takes back deliveries that the wire had no room for, and the credit with them.
func (r *receiver) untake(deliveries []delivery) {
	r.b.enter()
	defer r.b.exit()
	r.credit = 0
	for _, d := range deliveries {
		if m := r.home.locks[d.token]; m != nil {
			r.b.release(m)
		}
	}
	r.b.dispatch(r.home)
}

// close ends the receiver. What it has not taken goes back. Locks that it holds last until they lapse, except those of
// a session: the session is free at once, and no delivery counts.
func (r *receiver) close() {
	r.b.enter()
	defer r.b.exit()
	r.b.leave(r)
}

func (b *broker) leave(r *receiver) {
	if r.closed {
		return
	}
	r.closed = true
	r.credit = 0
	e := r.home
	delete(e.receivers, r)
	if r.waits {
		e.idle = slices.DeleteFunc(e.idle, func(other *receiver) bool { return other == r })
	}
	if r.sessionID == nil {
		e.acceptors = slices.DeleteFunc(e.acceptors, func(other *receiver) bool { return other == r })
	}
	if s := r.session; s != nil {
		b.freeSession(s, false)
	}
	for _, m := range r.outbox {
		b.release(m)
	}
	r.outbox = nil
	for m := range r.holds {
		m.holder = nil
	}
	r.holds = nil
	b.dispatch(e)
}

// fail ends a receiver from this side.
func (b *broker) fail(r *receiver, why error) {
	if r.ended == nil {
		r.ended = why
	}
	b.leave(r)
	r.notify()
}

// offer makes a message receivable, unless it is held back. The caller dispatches.
func (b *broker) offer(m *message) {
	e := m.home
	if s := e.sessionOf(m); s != nil {
		s.ready.push(m)
		b.stir(s)
		return
	}
	if !m.held {
		e.ready.push(m)
	}
}

// offerTo hands out what waits for a receiver that has credit.
func (b *broker) offerTo(r *receiver) {
	if r.closed {
		return
	}
	if r.session != nil {
		b.dispatchSession(r.session)
		return
	}
	if r.credit > 0 && !r.waits && !r.home.limit.RequiresSession {
		r.waits = true
		r.home.idle = append(r.home.idle, r)
	}
	b.dispatch(r.home)
}

// dispatch hands out what can be received, to the receivers in turn.
func (b *broker) dispatch(e *entity) {
	if e.limit.RequiresSession {
		b.dispatchSessions(e)
		return
	}
	for e.ready.len() > 0 && len(e.idle) > 0 {
		r := e.idle[0]
		e.idle = e.idle[1:]
		r.waits = false
		if r.credit == 0 {
			continue
		}
		b.hand(r, e.ready.pop())
		if r.credit > 0 {
			r.waits = true
			e.idle = append(e.idle, r)
		}
	}
}

// hand locks a message for a receiver.
func (b *broker) hand(r *receiver, m *message) {
	r.credit--
	b.lock(m, r)
	r.outbox = append(r.outbox, m)
	r.notify()
}

// lock gives m a lock; r is nil when the message was received by its sequence number.
func (b *broker) lock(m *message, r *receiver) {
	e := m.home
	m.token = uuid.New()
	m.holder = r
	m.taken = false
	e.locks[m.token] = m
	if r != nil {
		r.holds[m] = struct{}{}
	}
	if r == nil || r.session == nil {
		m.lapse = b.after(e.limit.LockDuration, func() { b.lapsed(m) })
	}
}

// unlock takes the lock away and says nothing about what becomes of the message.
func (b *broker) unlock(m *message) {
	delete(m.home.locks, m.token)
	b.cancel(m.lapse)
	if r := m.holder; r != nil {
		delete(r.holds, m)
	}
	m.token, m.lapse, m.holder = uuid.UUID{}, nil, nil
}

// lapsed is called when a lock has run out.
func (b *broker) lapsed(m *message) {
	e := m.home
	if !m.taken && m.holder != nil {
		b.recall(m)
		b.release(m)
	} else {
		b.giveUp(m)
	}
	b.dispatch(e)
}

// recall takes a message out of an outbox.
func (b *broker) recall(m *message) {
	r := m.holder
	for i, other := range r.outbox {
		if other == m {
			r.outbox = append(r.outbox[:i:i], r.outbox[i+1:]...)
			return
		}
	}
}

// renew prolongs the locks of messages, all or none, and returns until when.
func (b *broker) renew(path string, tokens []uuid.UUID) ([]time.Time, error) {
	now := b.enter()
	defer b.exit()
	e, err := b.source(path)
	if err != nil {
		return nil, err
	}
	until := now.Add(e.limit.LockDuration)
	for _, token := range tokens {
		m := e.locks[token]
		if e.lost[token] == nil && (m == nil || m.lapse == nil) {
			return nil, errMessageLockLost
		}
	}
	times := make([]time.Time, len(tokens))
	for i, token := range tokens {
		times[i] = until
		if lost := e.lost[token]; lost != nil {
			b.postpone(lost.lapse, until)
		} else {
			b.postpone(e.locks[token].lapse, until)
		}
	}
	return times, nil
}
