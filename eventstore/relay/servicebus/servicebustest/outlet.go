package servicebustest

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

const (
	sessionFilter   = "com.microsoft:session-filter"
	timeoutProperty = "com.microsoft:timeout"
	lockedUntilUTC  = amqp.Symbol("com.microsoft:locked-until-utc")
	sessionPatience = time.Minute // how long a receiver that says nothing waits for a session
)

// An outlet carries the messages of a broker's receiver to the peer.
type outlet struct {
	peer     *peer
	link     *amqp.Link
	path     string
	receiver *receiver

	mu sync.Mutex // held while messages move from the receiver to the link
}

// attachOutlet lets the peer receive from an entity.
func (p *peer) attachOutlet(link *amqp.Link, path string) amqp.Handler {
	asked := link.Asked()
	destroy := asked.SenderSettleMode == amqp.SenderSettled
	var r *receiver
	var err error
	if filter, ok := askedSession(asked); ok {
		r, err = p.server.broker.acceptSession(path, filter, destroy)
	} else {
		r, err = p.server.broker.openReceiver(path, destroy)
	}
	if err != nil {
		return p.refuse(link, err)
	}
	o := &outlet{peer: p, link: link, path: path, receiver: r}
	p.outlets[asked.Name] = o
	p.server.enter(link, path)
	p.outletsDone.Go(o.run)
	return amqp.Handler{
		Credit:      o.pump,
		Disposition: o.settle,
		Closed: func(error) {
			r.close()
			p.server.leave(link)
			if p.outlets[asked.Name] == o {
				delete(p.outlets, asked.Name)
			}
		},
	}
}

// askedSession returns the session that a receiver asks for, nil for any; ok is false when it asks for none.
func askedSession(asked *amqp.Attach) (id *string, ok bool) {
	if !asked.Source.Filter.Has(sessionFilter) {
		return nil, false
	}
	v := asked.Source.Filter.Get(sessionFilter)
	if described, ok := v.(amqp.Described); ok {
		v = described.Value
	}
	if name, ok := v.(string); ok {
		return &name, true
	}
	return nil, true
}

// run serves the outlet until its link is gone.
func (o *outlet) run() {
	if !o.accept() {
		return
	}
	for {
		o.pump()
		select {
		case <-o.receiver.wake:
		case <-o.link.Done():
			return
		}
	}
}

// accept answers the attach, when there is a session for it if it asks for one, and reports whether it is attached.
func (o *outlet) accept() bool {
	asked := o.link.Asked()
	if _, ok := askedSession(asked); !ok {
		return o.link.Accept(amqp.Reply{}) == nil
	}
	patience := sessionPatience
	if ms, ok := asked.Properties.Get(timeoutProperty).(uint32); ok {
		patience = time.Duration(ms) * time.Millisecond
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		id, until, ok, err := o.receiver.accepted()
		if err != nil {
			o.link.Detach(wireError(err))
			return false
		}
		if ok {
			return o.link.Accept(amqp.Reply{
				Source:     answeredSession(asked.Source, id),
				Properties: amqp.Map{{Key: lockedUntilUTC, Value: ticks(until)}},
			}) == nil
		}
		select {
		case <-o.receiver.wake:
		case <-o.link.Done():
			return false
		case <-timer.C:
			o.link.Detach(wireError(refuse(Timeout, "The operation did not complete within the allotted time: no session of '%s' has messages.", o.path)))
			return false
		}
	}
}

// answeredSession returns the source that was asked for, with the session's id in the form in which it was asked: one
// client accepts only a described filter, another only a plain one.
func answeredSession(asked *amqp.Source, id string) *amqp.Source {
	source := *asked
	var answer any = id
	if described, ok := asked.Filter.Get(sessionFilter).(amqp.Described); ok {
		answer = amqp.Described{Descriptor: described.Descriptor, Value: id}
	}
	source.Filter = asked.Filter.With(sessionFilter, answer)
	return &source
}

// pump moves as many messages as the link has credit for.
func (o *outlet) pump() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		o.receiver.setCredit(o.link.Credit())
		deliveries, err := o.receiver.take()
		if err != nil {
			o.link.Detach(wireError(err))
			return
		}
		if len(deliveries) == 0 {
			return
		}
		n := o.transfer(deliveries)
		o.receiver.sent(deliveries[:n])
		if n < len(deliveries) {
			o.receiver.untake(deliveries[n:])
			return
		}
	}
}

// transfer sends deliveries in one burst, because clients return what comes late, and returns how many it sent.
func (o *outlet) transfer(deliveries []delivery) int {
	transfers := make([]amqp.Transfer, len(deliveries))
	for i, d := range deliveries {
		tag := deliveryTag(d.token)
		if o.receiver.destroy {
			d.token = uuid.UUID{}
			d.LockedUntil = time.Time{}
		}
		encoded, err := encodeMessage(d)
		if err != nil {
			o.link.Detach(wireError(err))
			return 0
		}
		transfers[i] = amqp.Transfer{Tag: tag, Message: encoded, Settled: o.receiver.destroy}
	}
	n, _ := o.link.Send(transfers...) // what is not sent goes back
	return n
}

// settle hears what the peer says about a delivery, and answers.
func (o *outlet) settle(d amqp.Disposition) {
	if d.State == nil || o.receiver.destroy {
		return
	}
	err := o.peer.server.broker.settle(o.path, lockToken(d.Tag), verdictOf(d.State))
	if !d.Settled {
		o.link.Settle(d.Tag, receipt(err))
	}
}

func verdictOf(state amqp.State) verdict {
	switch state := state.(type) {
	case amqp.Accepted:
		return verdict{verb: complete}
	case amqp.Modified:
		v := verdict{verb: abandon, properties: properties(state.Annotations)}
		if state.UndeliverableHere {
			v.verb = deferral
		}
		return v
	case amqp.Rejected:
		v := verdict{verb: deadLetter}
		if state.Error != nil {
			if state.Error.Condition != deadLetterCondition {
				v.reason, v.description = string(state.Error.Condition), state.Error.Description
			}
			v.properties = properties(state.Error.Info)
		}
		return v
	default:
		return verdict{verb: giveBack}
	}
}
