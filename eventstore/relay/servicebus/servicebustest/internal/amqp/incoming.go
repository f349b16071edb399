package amqp

import "fmt"

// A Delivery is a message that the peer has sent.
type Delivery struct {
	Link    *Link
	Tag     []byte
	Format  uint32 // of the message: 0, or BatchFormat
	Settled bool   // the peer expects no answer
	Message []byte // belongs to whoever got the delivery

	id      uint32
	settled bool // by the broker
	dropped bool // by the peer
}

// Settle tells the peer the outcome and gives it back its credit. Each delivery that did not come settled must be settled. Later
// calls are without effect, as are all once the link has gone.
func (d *Delivery) Settle(outcome State) {
	s := d.Link.session
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.received[d.id] != d || d.settled {
		return
	}
	d.settled = true
	second := d.Link.asked.ReceiverSettleMode == ReceiverSecond && !d.dropped
	if !d.dropped {
		s.dispose(RoleReceiver, d.id, !second, outcome)
	}
	if !second {
		d.forget()
	}
}

// confirmed learns that the peer has settled.
func (d *Delivery) confirmed(settled bool) {
	if !settled {
		return
	}
	d.dropped = true
	if d.settled {
		d.forget()
	}
}

func (d *Delivery) forget() {
	delete(d.Link.session.received, d.id)
	d.Link.held--
	d.Link.renew()
}

// renew gives the peer the credit that deliveries have freed, once it is worth a frame.
func (l *Link) renew() {
	if l.state != attached {
		return
	}
	on := l.held + l.left
	if l.partial != nil {
		on++
	}
	free := rest(l.reply.Credit, on)
	if free > 0 && (l.left == 0 || free >= (l.reply.Credit+1)/2) {
		l.left += free
		l.session.send(l.flow())
	}
}

// skipped learns that the peer has gone on in its count without sending.
func (l *Link) skipped(p *flowFrame) {
	if p.deliveryCount == nil || l.state != attached {
		return
	}
	if n := *p.deliveryCount - l.count; n <= l.left {
		l.count, l.left = l.count+n, l.left-n
		l.renew()
	}
}

// transfer takes one frame of a message.
func (s *session) transfer(p *transferFrame, payload []byte) {
	s.nextIncomingID++
	if s.incomingWindow--; s.incomingWindow <= incomingWindow/2 { // what bounds the peer is the credit of its links
		s.incomingWindow = incomingWindow
		s.send(s.window())
	}
	l := s.attached(p.handle)
	if l == nil {
		return
	}
	if l.asked.Role != RoleSender || p.resume {
		s.fail(NotAllowed, "a transfer that receives or resumes on handle %d", p.handle)
		return
	}
	d := l.partial
	if d == nil {
		if d = l.begin(p); d == nil {
			return
		}
		d.Message = payload
	} else {
		if p.deliveryID != nil && *p.deliveryID != d.id {
			s.fail(InvalidField, "delivery %d begins before the end of delivery %d", *p.deliveryID, d.id)
			return
		}
		d.Message = append(d.Message, payload...)
	}
	if p.settled != nil && *p.settled {
		d.Settled = true
	}
	l.partial = d
	switch {
	case uint64(len(d.Message)) > l.reply.MaxMessageSize:
		l.detach(&Error{Condition: MessageSizeExceeded, Description: fmt.Sprintf(
			"The received message (delivery-id:%d, size:%d bytes) exceeds the limit (%d bytes) currently allowed on the link.",
			d.id, len(d.Message), l.reply.MaxMessageSize)})
	case p.aborted:
		l.partial = nil
		l.renew()
	case !p.more:
		l.partial = nil
		l.deliver(d)
	}
}

// begin takes the first frame of a delivery; it returns nil if the peer must not send it.
func (l *Link) begin(p *transferFrame) *Delivery {
	if p.deliveryID == nil || p.tag == nil {
		l.session.fail(InvalidField, "a delivery without id or tag")
		return nil
	}
	if l.left == 0 {
		l.detach(&Error{Condition: TransferLimitExceeded, Description: "there is no credit for this delivery"})
		return nil
	}
	if l.session.received[*p.deliveryID] != nil {
		l.session.fail(InvalidField, "delivery %d is not settled yet", *p.deliveryID)
		return nil
	}
	l.left--
	l.count++
	d := &Delivery{Link: l, Tag: p.tag, id: *p.deliveryID}
	if p.format != nil {
		d.Format = *p.format
	}
	return d
}

// deliver hands a whole message to the broker.
func (l *Link) deliver(d *Delivery) {
	if d.Settled {
		l.renew()
	} else {
		l.held++
		l.session.received[d.id] = d
	}
	l.session.conn.later(func() {
		if l.handler.Delivery == nil {
			d.Settle(Released{})
			return
		}
		l.handler.Delivery(d)
	})
}
