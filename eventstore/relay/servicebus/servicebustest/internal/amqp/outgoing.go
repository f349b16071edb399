package amqp

import (
	"errors"
	"slices"
)

// A Transfer is one message for the peer.
type Transfer struct {
	Tag     []byte // names the delivery, up to 32 bytes, unique among the unsettled ones of the link
	Message []byte // as Message.Encode made it; must not be changed afterwards
	Settled bool   // no word about it is expected; always so on a link with SenderSettled
}

// A Disposition is the peer's word about a delivery that was sent to it. Unless it is settled, [Link.Settle] answers it.
type Disposition struct {
	Tag     []byte
	State   State // nil when the peer only settled
	Settled bool  // the peer has forgotten the delivery and expects no answer
}

// outgoing waits in a session for the peer's window and for room in the buffer: a message, or the end of a drain.
type outgoing struct {
	link *Link
	Transfer
	begun int    // bytes of the message that are on their way
	id    uint32 // once begun
	drain uint32 // if there is no message, the credit that is given back
}

func (o *outgoing) isDrain() bool { return o.Tag == nil }

// Credit returns how many messages Send would take now.
func (l *Link) Credit() int {
	c := l.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(l.available())
}

// available returns how many messages the link takes now. If it would take more but for what the connection has to send, the
// broker is told when there is less.
func (l *Link) available() uint32 {
	c := l.session.conn
	switch {
	case l.state != attached || c.closing || l.left == 0:
		return 0
	case c.unsent < unsentMax:
		return l.left
	case !l.starved:
		l.starved = true
		c.starved = append(c.starved, l)
	}
	return 0
}

// Send takes over messages for the peer, in their order, and returns how many: if less than all, with ErrNoCredit or ErrClosed.
// They are written together.
func (l *Link) Send(messages ...Transfer) (int, error) {
	c := l.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.asked.Role != RoleReceiver {
		return 0, errors.New("amqp: the peer sends on this link")
	}
	defer l.session.pump()
	for i, m := range messages {
		if l.state != attached || c.closing {
			return i, ErrClosed
		}
		if l.available() == 0 {
			return i, ErrNoCredit
		}
		if len(m.Tag) == 0 || len(m.Tag) > 32 {
			return i, errors.New("amqp: a delivery tag has 1 to 32 bytes")
		}
		m.Settled = m.Settled || l.asked.SenderSettleMode == SenderSettled
		l.left--
		l.queued++
		c.unsent += len(m.Message)
		l.session.queue = append(l.session.queue, outgoing{link: l, Transfer: m})
	}
	return len(messages), nil
}

// Settle tells the peer the outcome of a delivery and forgets the delivery. Without effect if it is settled already or the link has
// gone.
func (l *Link) Settle(tag []byte, outcome State) {
	s := l.session
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	id, ok := l.tags[string(tag)]
	if !ok {
		return
	}
	s.settled(id)
	s.dispose(RoleSender, id, true, outcome)
}

// granted learns the credit that the peer gives.
func (l *Link) granted(p *flowFrame) {
	var seen uint32 // the count when the peer said this
	if p.deliveryCount != nil {
		seen = *p.deliveryCount
	}
	if p.linkCredit != nil {
		l.left = rest(*p.linkCredit, l.count+l.queued-seen)
	}
	l.drain = p.drain
	if l.state == attached && (l.left > 0 || l.drain) {
		l.wake()
	}
}

// wake makes the loop tell the broker that the link may send.
func (l *Link) wake() {
	c := l.session.conn
	if !slices.Contains(c.ready, l) {
		c.ready = append(c.ready, l)
	}
	notify(c.room)
}

// credited tells the broker that it may send, and gives back what it leaves if the peer drains.
func (l *Link) credited() {
	s := l.session
	s.conn.mu.Lock()
	ready := l.state == attached
	s.conn.mu.Unlock()
	if ready && l.handler.Credit != nil {
		l.handler.Credit()
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if l.state != attached || !l.drain {
		return
	}
	l.drain = false
	s.queue = append(s.queue, outgoing{link: l, drain: l.left})
	l.queued += l.left
	l.left = 0
	s.pump()
}

// pump sends what waits, as far as the peer's window and the buffer allow.
func (s *session) pump() {
	c := s.conn
	defer c.feed()
	for len(s.queue) > 0 {
		if len(c.out) >= fillTo {
			if !slices.Contains(c.waiting, s) {
				c.waiting = append(c.waiting, s)
			}
			return
		}
		o := &s.queue[0]
		switch {
		case o.isDrain():
			o.link.count += o.drain
			o.link.queued -= o.drain
			f := o.link.flow()
			f.drain = true
			s.send(f)
		case s.remoteWindow == 0:
			return
		case !s.transferNext(o):
			continue
		default:
			c.unsent -= len(o.Message)
		}
		*o = outgoing{} // lets go of the message
		if s.queue = s.queue[1:]; len(s.queue) == 0 {
			s.queue = nil
		}
	}
}

// transferNext sends one frame of a message and says whether it is the last.
func (s *session) transferNext(o *outgoing) bool {
	c, l := s.conn, o.link
	t := &transferFrame{handle: l.asked.Handle}
	if o.begun == 0 {
		o.id = s.nextDeliveryID
		s.nextDeliveryID++
		l.count++
		l.queued--
		t.deliveryID, t.tag, t.format, t.settled = new(o.id), o.Tag, new(uint32(0)), new(o.Settled)
		if !o.Settled {
			s.sent[o.id] = sent{l, o.Tag}
			l.tags[string(o.Tag)] = o.id
		}
	}
	// The performative with its descriptor takes less than this: a tag of 32 bytes, and numbers.
	const performative = 80
	room := int(min(c.peer.maxFrameSize, c.cfg.MaxFrameSize)) - frameHeader - performative
	payload := o.Message[o.begun:]
	t.more = len(payload) > room
	if t.more {
		payload = payload[:room]
	}
	o.begun += len(payload)
	s.remoteWindow--
	s.nextOutgoingID++
	_ = c.sendPayload(s.channel, t, payload)
	return !t.more
}

// feed tells links that wait for room once there is enough again.
func (c *Conn) feed() {
	if c.unsent > unsentMax/2 {
		return
	}
	for _, l := range c.starved {
		l.starved = false
		if l.state == attached {
			l.wake()
		}
	}
	c.starved = nil
}

// disposition learns what the peer says about deliveries.
func (s *session) disposition(p *dispositionFrame) {
	if p.last-p.first >= 1<<31 {
		s.fail(InvalidField, "a disposition from %d to %d", p.first, p.last)
		return
	}
	if p.role == RoleSender {
		for _, id := range within(s.received, p.first, p.last) {
			s.received[id].confirmed(p.settled)
		}
		return
	}
	for _, id := range within(s.sent, p.first, p.last) {
		d := s.sent[id]
		if p.settled {
			s.settled(id)
		}
		s.conn.later(func() {
			if d.link.handler.Disposition != nil {
				d.link.handler.Disposition(Disposition{d.tag, p.state, p.settled})
			}
		})
	}
}

// within returns the ids from first to last that are in m, in their order.
func within[T any](m map[uint32]T, first, last uint32) []uint32 {
	var ids []uint32
	if span := last - first; uint64(span) < uint64(len(m)) {
		for id := first; id != last+1; id++ {
			if _, ok := m[id]; ok {
				ids = append(ids, id)
			}
		}
		return ids
	}
	for id := range m {
		if id-first <= last-first {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b uint32) int { return int(int32(a - b)) })
	return ids
}

// settled forgets a delivery to the peer.
func (s *session) settled(id uint32) {
	d := s.sent[id]
	delete(s.sent, id)
	if d.link.tags[string(d.tag)] == id {
		delete(d.link.tags, string(d.tag))
	}
}

// forget lets go of everything that a link has on its way.
func (s *session) forget(l *Link) {
	for id, d := range s.sent {
		if d.link == l {
			delete(s.sent, id)
		}
	}
	l.tags = nil
	s.queue = slices.DeleteFunc(s.queue, func(o outgoing) bool {
		if o.link == l {
			s.conn.unsent -= len(o.Message)
		}
		return o.link == l
	})
	s.conn.feed()
	for id, d := range s.received {
		if d.Link == l {
			delete(s.received, id)
		}
	}
	l.partial = nil
}
