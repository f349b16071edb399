package amqp

import (
	"fmt"
	"maps"
	"slices"
)

const (
	incomingWindow = 5000 // frames of the peer that may be on their way
	handleMax      = 1023
)

// A session is one channel of a connection: windows, deliveries and links.
type session struct {
	conn    *Conn
	channel uint16 // the same in both directions
	links   map[uint32]*Link
	ended   bool // this side has ended it, the peer has not yet

	nextIncomingID uint32
	incomingWindow uint32
	received       map[uint32]*Delivery // unsettled

	nextOutgoingID uint32
	remoteWindow   uint32 // transfers that the peer takes
	nextDeliveryID uint32
	sent           map[uint32]sent // unsettled
	queue          []outgoing
}

// sent is a delivery that the peer has not settled yet.
type sent struct {
	link *Link
	tag  []byte
}

func (c *Conn) begin(channel uint16, p *beginFrame) {
	if channel > channelMax || c.sessions[channel] != nil || p.remoteChannel != nil {
		c.close(&Error{Condition: FramingError, Description: fmt.Sprintf("a begin on channel %d", channel)})
		return
	}
	s := &session{
		conn:           c,
		channel:        channel,
		links:          make(map[uint32]*Link),
		nextIncomingID: p.nextOutgoingID,
		incomingWindow: incomingWindow,
		received:       make(map[uint32]*Delivery),
		remoteWindow:   p.incomingWindow,
		sent:           make(map[uint32]sent),
	}
	c.sessions[channel] = s
	s.send(&beginFrame{
		remoteChannel:  &channel,
		incomingWindow: incomingWindow,
		outgoingWindow: incomingWindow,
		handleMax:      handleMax,
	})
}

// send sends a frame whose fields can all be encoded.
func (s *session) send(p performative) { _ = s.conn.send(s.channel, p) }

// receive works on a frame of the peer.
func (s *session) receive(f frame) {
	if e, ok := f.performative.(*endFrame); ok {
		s.end(nil)
		s.lose(e.err)
		delete(s.conn.sessions, s.channel)
		return
	}
	if s.ended {
		return
	}
	switch p := f.performative.(type) {
	case *Attach:
		s.attach(p)
	case *flowFrame:
		s.flow(p)
	case *transferFrame:
		s.transfer(p, f.payload)
	case *dispositionFrame:
		s.disposition(p)
	case *detachFrame:
		s.detach(p)
	}
}

// end ends the session on this side.
func (s *session) end(err *Error) {
	if s.ended {
		return
	}
	s.send(&endFrame{err})
	s.ended = true
}

// fail ends the session because of what the peer did, and with it the links.
func (s *session) fail(condition Symbol, format string, args ...any) {
	err := &Error{Condition: condition, Description: fmt.Sprintf(format, args...)}
	s.end(err)
	s.lose(err)
}

// lose lets go of the links, which learn err, or ErrClosed without one.
func (s *session) lose(err *Error) {
	for _, handle := range slices.Sorted(maps.Keys(s.links)) {
		if err != nil {
			s.links[handle].lose(err)
		} else {
			s.links[handle].lose(ErrClosed)
		}
	}
}

// attached returns the link of a handle; none if the peer must not use it, and then the session has ended, or if this side has
// detached it and the peer does not know yet.
func (s *session) attached(handle uint32) *Link {
	l := s.links[handle]
	if l == nil {
		s.fail(UnattachedHandle, "handle %d is not attached", handle)
		return nil
	}
	if l.state == detaching {
		return nil
	}
	return l
}

func (s *session) attach(a *Attach) {
	if a.Handle > handleMax {
		s.fail(NotAllowed, "handle %d is above %d", a.Handle, handleMax)
		return
	}
	if s.links[a.Handle] != nil {
		s.fail(HandleInUse, "handle %d is in use", a.Handle)
		return
	}
	l := &Link{session: s, asked: a, done: make(chan struct{}), tags: make(map[string]uint32)}
	s.links[a.Handle] = l
	if a.coordinator {
		l.detach(&Error{Condition: NotImplemented, Description: "there are no transactions"})
		return
	}
	s.conn.later(func() { l.handler = s.conn.cfg.Attach(l) })
}

func (s *session) detach(p *detachFrame) {
	l := s.links[p.handle]
	if l == nil {
		s.fail(UnattachedHandle, "handle %d is not attached", p.handle)
		return
	}
	switch l.state {
	case pending:
		l.detach(nil)
	case attached:
		s.send(&detachFrame{handle: p.handle, closed: p.closed})
	}
	if p.err != nil {
		l.lose(p.err)
	} else {
		l.lose(nil)
	}
}

// flow learns how much the peer takes, in the session and on a link.
func (s *session) flow(p *flowFrame) {
	var seen uint32 // how many transfers the peer had seen when it said this
	if p.nextIncomingID != nil {
		seen = *p.nextIncomingID
	}
	s.remoteWindow = rest(p.incomingWindow, s.nextOutgoingID-seen)
	defer s.pump()
	if p.handle == nil {
		if p.echo {
			s.send(s.window())
		}
		return
	}
	l := s.attached(*p.handle)
	if l == nil {
		return
	}
	if l.asked.Role == RoleReceiver {
		l.granted(p)
	} else {
		l.skipped(p)
	}
	if p.echo && !p.drain && l.state == attached {
		s.send(l.flow())
	}
}

// window returns a flow that says how much this side takes.
func (s *session) window() *flowFrame {
	return &flowFrame{
		nextIncomingID: new(s.nextIncomingID),
		incomingWindow: s.incomingWindow,
		nextOutgoingID: s.nextOutgoingID,
		outgoingWindow: incomingWindow,
	}
}

// rest returns what is left of a quantity.
func rest(all, used uint32) uint32 { return all - min(all, used) }
