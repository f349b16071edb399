package servicebustest

import (
	"sort"
	"time"
)

// maxState is the largest state of a session, in bytes.
const maxState = 256 << 10

// A session is a group of messages that one receiver at a time gets, in order.
type session struct {
	id       string
	home     *entity
	state    []byte // never changed in place
	stateAt  time.Time
	messages int // of any state, locked ones included

	holder *receiver
	lapse  *alarm // at which the lock is lost; nil while nobody holds it

	ready pile[*message]
	free  int // its place in entity.free
}

// sessionOf returns the session of a message, made if need be, and nil in an entity without sessions.
func (e *entity) sessionOf(m *message) *session {
	if !e.limit.RequiresSession || m.SessionID == nil || e.kind == topicKind {
		return nil
	}
	return e.session(*m.SessionID)
}

func (e *entity) session(id string) *session {
	s := e.sessions[id]
	if s == nil {
		s = &session{id: id, home: e, ready: newReady()}
		e.sessions[id] = s
	}
	return s
}

func (e *entity) forgetIfEmpty(s *session) {
	if s.messages == 0 && s.holder == nil && s.state == nil {
		delete(e.sessions, s.id)
	}
}

// stir is called when the messages that a session has ready are others than before. The caller dispatches.
func (b *broker) stir(s *session) {
	if s.holder == nil {
		s.home.refile(s)
	} else {
		b.dispatchSession(s)
	}
}

// refile enters the session among the free ones, in its place, or takes it out.
func (e *entity) refile(s *session) {
	e.free.remove(s)
	if s.holder == nil && s.ready.len() > 0 && !s.ready.first().held {
		e.free.push(s)
	}
}

// acceptSession starts to receive the session of that name, or the next one that has something to receive when id is
// nil: then the receiver may have to wait, see accepted. Close the receiver when done, also when it still waits.
func (b *broker) acceptSession(path string, id *string, destroy bool) (*receiver, error) {
	b.enter()
	defer b.exit()
	e, err := b.source(path)
	if err != nil {
		return nil, err
	}
	if !e.limit.RequiresSession {
		return nil, refuse(NotAllowed, "A sessionful message receiver cannot be created on an entity that does not require sessions.")
	}
	if id == nil {
		r := b.newReceiver(e, destroy)
		e.acceptors = append(e.acceptors, r)
		b.dispatchSessions(e)
		return r, nil
	}
	if len(*id) > maxID {
		return nil, refuse(NotAllowed, "The SessionId has %d characters; the limit is %d.", len(*id), maxID)
	}
	s := e.session(*id)
	if s.holder != nil {
		return nil, refuse(SessionCannotBeLocked, "The requested session '%s' cannot be accepted. It may be locked by another receiver.", *id)
	}
	r := b.newReceiver(e, destroy)
	b.grant(r, s)
	return r, nil
}

// name returns the id of the session that the receiver has, or had before it lost it; nil if it never had one.
func (r *receiver) name() *string {
	r.b.enter()
	defer r.b.exit()
	return r.sessionID
}

// accepted returns the session of a receiver, once it has one, and until when it has it. While it waits for one ok is
// false.
func (r *receiver) accepted() (id string, until time.Time, ok bool, err error) {
	r.b.enter()
	defer r.b.exit()
	if r.ended != nil {
		return "", time.Time{}, false, r.ended
	}
	if r.session == nil {
		return "", time.Time{}, false, nil
	}
	return r.session.id, r.session.lapse.at, true, nil
}

func (b *broker) grant(r *receiver, s *session) {
	s.holder = r
	r.home.taken++
	s.lapse = b.after(r.home.limit.LockDuration, func() { b.loseSession(s) })
	r.session, r.sessionID = s, &s.id
	r.home.refile(s)
	r.notify()
}

// dispatchSessions gives free sessions to those who wait for any.
func (b *broker) dispatchSessions(e *entity) {
	for len(e.acceptors) > 0 && e.free.len() > 0 {
		r := e.acceptors[0]
		e.acceptors = e.acceptors[1:]
		b.grant(r, e.free.first())
	}
}

func (b *broker) dispatchSession(s *session) {
	for r := s.holder; r != nil && r.credit > 0 && s.ready.len() > 0 && !s.ready.first().held; {
		b.hand(r, s.ready.pop())
	}
}

// loseSession is called when the lock of a session has run out: what its holder had counts as failed.
func (b *broker) loseSession(s *session) {
	r := s.holder
	b.freeSession(s, true)
	b.fail(r, errSessionLockLost)
}

// freeSession takes a session from its holder, and gives back what the holder had. The caller dispatches.
func (b *broker) freeSession(s *session, failed bool) {
	r := s.holder
	e := r.home
	held := make([]*message, 0, len(r.holds))
	for m := range r.holds {
		held = append(held, m)
	}
	b.cancel(s.lapse)
	s.holder, s.lapse = nil, nil
	e.taken--
	r.session, r.outbox = nil, nil
	for _, m := range held {
		if failed && m.taken {
			b.giveUp(m)
		} else {
			b.release(m)
		}
	}
	e.refile(s)
	e.forgetIfEmpty(s)
}

// held returns a session that is locked: by r, unless r is nil because the caller does not say who it is.
func (e *entity) held(id string, r *receiver) (*session, error) {
	s := e.sessions[id]
	if s == nil || s.holder == nil || r != nil && s.holder != r {
		return nil, errSessionLockLost
	}
	return s, nil
}

// renewSession prolongs the lock of a session and returns until when. As in all calls that need the lock of a session,
// by is who asks, nil for somebody.
func (b *broker) renewSession(path, id string, by *receiver) (time.Time, error) {
	now := b.enter()
	defer b.exit()
	e, err := b.source(path)
	if err != nil {
		return time.Time{}, err
	}
	until := now.Add(e.limit.LockDuration)
	if lost := e.mislaidBy(by); lost != nil {
		b.postpone(lost.lapse, until)
		return until, nil
	}
	s, err := e.held(id, by)
	if err != nil {
		return time.Time{}, err
	}
	b.postpone(s.lapse, until)
	return until, nil
}

// sessionState returns the state of a session; nil when it has none.
func (b *broker) sessionState(path, id string, by *receiver) ([]byte, error) {
	b.enter()
	defer b.exit()
	e, err := b.source(path)
	if err != nil {
		return nil, err
	}
	s, err := e.held(id, by)
	if err != nil {
		return nil, err
	}
	return s.state, nil
}

// setSessionState replaces the state of a session; an empty one clears it.
func (b *broker) setSessionState(path, id string, by *receiver, state []byte) error {
	now := b.enter()
	defer b.exit()
	e, err := b.source(path)
	if err != nil {
		return err
	}
	s, err := e.held(id, by)
	if err != nil {
		return err
	}
	if len(state) > maxState {
		return refuse(NotAllowed, "The state has %d bytes; the limit is %d.", len(state), maxState)
	}
	if len(state) == 0 {
		state = nil
	}
	s.state, s.stateAt = state, now
	return nil
}

// listSessions returns the ids of up to n sessions, in order, after the first skip of them: those with messages
// or a state, or those whose state changed after a time unless it is zero.
func (b *broker) listSessions(path string, changedAfter time.Time, skip, n int) ([]string, error) {
	b.enter()
	defer b.exit()
	e, err := b.source(path)
	if err != nil {
		return nil, err
	}
	if !e.limit.RequiresSession {
		return nil, refuse(NotAllowed, "The messaging entity '%s' has no sessions.", e.path)
	}
	var ids []string
	for id, s := range e.sessions {
		if changedAfter.IsZero() && (s.messages > 0 || s.state != nil) || !changedAfter.IsZero() && s.stateAt.After(changedAfter) {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	ids = ids[min(max(skip, 0), len(ids)):]
	return ids[:min(max(n, 0), len(ids))], nil
}

// receiveDeferred locks deferred messages, all or none, and returns them; with destroy it removes them. In an entity
// with sessions they are those of a session that is locked; otherwise id is nil.
func (b *broker) receiveDeferred(path string, numbers []int64, destroy bool, id *string, by *receiver) ([]delivery, error) {
	b.enter()
	defer b.exit()
	e, err := b.source(path)
	if err != nil {
		return nil, err
	}
	var holder *receiver
	if e.limit.RequiresSession {
		if id == nil {
			return nil, errSessionRequired
		}
		s, err := e.held(*id, by)
		if err != nil {
			return nil, err
		}
		holder = s.holder
	}
	found := make([]*message, len(numbers))
	for i, n := range numbers {
		m := e.find(n)
		if m == nil || m.State != Deferred || m.locked() || holder != nil && *m.SessionID != *id {
			return nil, refuse(MessageNotFound, "Failed to lock one or more specified messages: there is no deferred message with the sequence number %d.", n)
		}
		found[i] = m
	}
	out := make([]delivery, 0, len(found))
	for _, m := range found {
		if m.locked() || m.gone { // a number may be given twice
			continue
		}
		if destroy {
			out = append(out, m.delivery())
			b.discard(m)
			continue
		}
		b.lock(m, holder)
		m.taken = true
		out = append(out, m.delivery())
	}
	return out, nil
}
