package amqp

// linkState is how far a link has come.
type linkState uint8

const (
	pending   linkState = iota // the peer waits for the broker's answer
	attached                   // by both sides
	detaching                  // by this side, the peer has to answer
	gone
)

// A Link is one link that the peer has attached.
type Link struct {
	session *session
	asked   *Attach
	handler Handler // only used by the loop
	done    chan struct{}

	// Below, protected by the connection's mutex.
	state linkState
	count uint32 // deliveries since the attach, in either direction
	left  uint32 // how many more the receiving side has allowed

	// If the peer receives.
	queued  uint32            // how far the count goes on with what waits in the session's queue
	tags    map[string]uint32 // ids of the unsettled deliveries
	drain   bool              // the peer wants its credit used up, or back
	starved bool              // to be told when there is room again

	// If the peer sends.
	reply   Reply
	held    uint32    // deliveries that the broker or the peer has not settled
	partial *Delivery // whose frames have not all come
}

// Conn returns the connection of the link.
func (l *Link) Conn() *Conn { return l.session.conn }

// Asked returns what the peer asked for. Its Role is the peer's: a link with RoleReceiver is one to Send on. It must not
// be changed.
func (l *Link) Asked() *Attach { return l.asked }

// Done is closed as soon as the link has gone or is going, also while it waits to be accepted.
func (l *Link) Done() <-chan struct{} { return l.done }

// A Reply is how a broker accepts a link. The zero value accepts what the peer asked for.
type Reply struct {
	Source     *Source // unless nil, instead of the source that the peer asked for
	Target     *Target // unless nil, instead of the target that the peer asked for
	Properties Map
	// MaxMessageSize bounds the messages of the peer. Larger ones detach the link with amqp:link:message-size-exceeded.
	// 1 MiB when 0.
	MaxMessageSize uint64
	// Credit is how many deliveries of the peer may be on their way or unsettled. It is renewed as they are settled. 1,000 when 0.
	Credit uint32
}

// Accept attaches the link on this side too, with the settle modes that the peer asked for. It returns ErrClosed if the
// link has gone in the meantime or is answered already, and another error if the reply cannot be encoded: then the link still waits.
func (l *Link) Accept(r Reply) error {
	c := l.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.state != pending || c.closing {
		return ErrClosed
	}
	if r.Source == nil {
		r.Source = l.asked.Source
	}
	if r.Target == nil {
		r.Target = l.asked.Target
	}
	if r.MaxMessageSize == 0 {
		r.MaxMessageSize = 1 << 20
	}
	if r.Credit == 0 {
		r.Credit = 1000
	}
	a := l.answer()
	a.Source, a.Target, a.Properties = r.Source, r.Target, r.Properties
	if a.Role == RoleReceiver {
		a.MaxMessageSize = r.MaxMessageSize
	}
	if err := c.send(l.session.channel, a); err != nil {
		return err
	}
	l.state, l.reply = attached, r
	if a.Role == RoleReceiver {
		l.count = l.asked.InitialDelivery
		l.renew()
	} else if l.left > 0 || l.drain {
		l.wake()
	}
	return nil
}

// answer returns an attach in answer to the peer's, without source and target: so it refuses the link.
func (l *Link) answer() *Attach {
	return &Attach{
		Name:               l.asked.Name,
		Handle:             l.asked.Handle,
		Role:               !l.asked.Role,
		SenderSettleMode:   l.asked.SenderSettleMode,
		ReceiverSettleMode: l.asked.ReceiverSettleMode,
	}
}

// Detach closes the link, with an error unless err is nil; a link that is not accepted yet it refuses. Messages that still wait
// to be sent are dropped. Without effect on a link that has gone.
func (l *Link) Detach(err *Error) {
	l.session.conn.mu.Lock()
	defer l.session.conn.mu.Unlock()
	l.detach(err)
}

func (l *Link) detach(err *Error) {
	switch l.state {
	case pending:
		// The side that refuses leaves out its own end of the link.
		a := l.answer()
		if a.Role == RoleReceiver {
			a.Source = l.asked.Source
		} else {
			a.Target = l.asked.Target
		}
		l.session.send(a)
	case attached:
	default:
		return
	}
	l.session.send(&detachFrame{handle: l.asked.Handle, closed: true, err: err})
	l.leave(detaching)
}

// leave ends the use of the link, but not yet of its handle.
func (l *Link) leave(state linkState) {
	if l.state < detaching {
		close(l.done)
		l.session.forget(l)
	}
	l.state = state
}

// lose lets go of the link and its handle.
func (l *Link) lose(err error) {
	l.leave(gone)
	delete(l.session.links, l.asked.Handle)
	l.session.conn.later(func() {
		if l.handler.Closed != nil {
			l.handler.Closed(err)
		}
	})
}

// flow returns a flow that says how far the link has come.
func (l *Link) flow() *flowFrame {
	f := l.session.window()
	f.handle, f.deliveryCount, f.linkCredit = new(l.asked.Handle), new(l.count), new(l.left+l.queued)
	return f
}
