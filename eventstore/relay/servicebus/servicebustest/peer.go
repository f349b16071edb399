package servicebustest

import (
	"strings"
	"sync"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

const (
	tokenAddress     = "$cbs"
	managementSuffix = "/$management"
)

// A peer is the client at the other end of a connection. Its fields are used only on the connection's goroutine.
type peer struct {
	server      *Server
	replies     map[string]*replyLink // by reply address
	outlets     map[string]*outlet    // by link name
	outletsDone sync.WaitGroup
}

// attach decides about a link.
func (p *peer) attach(link *amqp.Link) amqp.Handler {
	asked := link.Asked()
	if asked.Role == amqp.RoleReceiver {
		if asked.Source == nil || asked.Source.Address == nil {
			return p.refuse(link, refuse(InvalidField, "The receiver names no source."))
		}
		path := *asked.Source.Address
		if node, ok := requestNode(path); ok {
			return p.attachReplies(link, node)
		}
		return p.attachOutlet(link, path)
	}
	if asked.Target == nil || asked.Target.Address == nil {
		return p.refuse(link, refuse(InvalidField, "The sender names no target."))
	}
	path := *asked.Target.Address
	if node, ok := requestNode(path); ok {
		return p.attachRequests(link, node)
	}
	return p.attachInlet(link, path)
}

// requestNode says whether an address takes requests, and returns the entity that they concern, empty for tokens.
func requestNode(address string) (entity string, ok bool) {
	address = strings.TrimPrefix(address, "/")
	if strings.EqualFold(address, tokenAddress) {
		return "", true
	}
	at := len(address) - len(managementSuffix)
	if at > 0 && strings.EqualFold(address[at:], managementSuffix) {
		return address[:at], true
	}
	return "", false
}

func (p *peer) refuse(link *amqp.Link, why error) amqp.Handler {
	link.Detach(wireError(why))
	return amqp.Handler{}
}

// attachInlet lets the peer send to an entity.
func (p *peer) attachInlet(link *amqp.Link, path string) amqp.Handler {
	b := p.server.broker
	if err := b.sendable(path); err != nil {
		return p.refuse(link, err)
	}
	size := uint64(p.server.config.MaxMessageSize)
	_ = link.Accept(amqp.Reply{
		MaxMessageSize: size,
		Properties:     amqp.Map{{Key: amqp.Symbol("com.microsoft:max-message-batch-size"), Value: size}},
	})
	p.server.enter(link, path)
	return amqp.Handler{
		Delivery: func(d *amqp.Delivery) { d.Settle(receipt(p.send(path, d))) },
		Closed:   func(error) { p.server.leave(link) },
	}
}

func (p *peer) send(path string, d *amqp.Delivery) error {
	messages, err := decodeDelivery(d)
	if err != nil {
		return refuse(InvalidField, "The message cannot be read: %v", err)
	}
	return p.server.broker.send(path, messages)
}

// receipt is the answer to a delivery or to a settlement.
func receipt(err error) amqp.State {
	if err != nil {
		return amqp.Rejected{Error: wireError(err)}
	}
	return amqp.Accepted{}
}
