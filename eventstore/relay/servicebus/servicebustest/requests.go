package servicebustest

import (
	"encoding/binary"
	"errors"
	"net/http"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

// maxReplies bounds the answers that wait for a peer that gives no credit.
const maxReplies = 1000

// A replyLink carries the answers to a peer's requests.
type replyLink struct {
	link    *amqp.Link
	count   uint64
	waiting []amqp.Transfer
}

// attachReplies opens the way for answers. Their address is whatever the peer says; a client that says nothing means the
// link's name.
func (p *peer) attachReplies(link *amqp.Link, node string) amqp.Handler {
	if err := p.requestable(node); err != nil {
		return p.refuse(link, err)
	}
	asked := link.Asked()
	address := asked.Name
	if asked.Target != nil && asked.Target.Address != nil {
		address = *asked.Target.Address
	}
	replies := &replyLink{link: link}
	p.replies[address] = replies
	_ = link.Accept(amqp.Reply{})
	return amqp.Handler{
		Credit: replies.flush,
		Closed: func(error) {
			if p.replies[address] == replies {
				delete(p.replies, address)
			}
		},
	}
}

func (p *peer) requestable(node string) error {
	if node == "" {
		return nil
	}
	return p.server.broker.exists(node)
}

func (r *replyLink) send(message []byte) {
	if len(r.waiting) >= maxReplies {
		r.link.Detach(&amqp.Error{Condition: amqp.ResourceLimitExceeded, Description: "too many answers wait for credit"})
		return
	}
	r.count++
	r.waiting = append(r.waiting, amqp.Transfer{
		Tag:     binary.BigEndian.AppendUint64(nil, r.count),
		Message: message,
		Settled: true,
	})
	r.flush()
}

func (r *replyLink) flush() {
	n, _ := r.link.Send(r.waiting...) // the rest waits for credit
	r.waiting = r.waiting[n:]
}

// A request is what a peer asks of $cbs or of the $management of an entity.
type request struct {
	peer       *peer
	entity     string
	properties amqp.Map
	body       amqp.Map
}

// A response is the answer to a request.
type response struct {
	code int32       // as of HTTP
	err  *amqp.Error // unless it succeeded
	body amqp.Map
}

// attachRequests takes requests to an entity, or tokens when node is empty.
func (p *peer) attachRequests(link *amqp.Link, node string) amqp.Handler {
	if err := p.requestable(node); err != nil {
		return p.refuse(link, err)
	}
	_ = link.Accept(amqp.Reply{MaxMessageSize: 2 * uint64(p.server.config.MaxMessageSize)})
	return amqp.Handler{
		Delivery: func(d *amqp.Delivery) {
			err := p.answer(node, d.Message)
			d.Settle(receipt(err))
		},
	}
}

// answer does what a message asks and sends the answer to where it says. The error says why there is no answer.
func (p *peer) answer(node string, encoded []byte) error {
	message, err := amqp.DecodeMessage(encoded)
	if err != nil {
		return refuse(InvalidField, "The request cannot be read: %v", err)
	}
	asked, _ := message.Properties()
	replies := p.replies[value(asked.ReplyTo)]
	if replies == nil {
		return refuse(InvalidField, "The request says no address for the answer.")
	}
	req := request{peer: p, entity: node, properties: message.ApplicationProperties()}
	if v, ok := message.Value(); ok {
		req.body, _ = v.(amqp.Map)
	}
	var res response
	names := managementNames
	if node == "" {
		names = tokenNames
		res = req.putToken()
	} else {
		res = req.manage()
	}
	answer, err := res.encode(asked.MessageID, names)
	if err != nil {
		return err
	}
	replies.send(answer)
	return nil
}

// putToken accepts any token: everybody may do everything.
func (r *request) putToken() response {
	if operation := r.properties.Get("operation"); operation != "put-token" {
		return failure(refuse(NotImplemented, "%v is no operation on tokens.", operation))
	}
	return response{code: http.StatusAccepted}
}

// responseNames are the names of the properties of an answer; they differ between nodes.
type responseNames struct{ code, description string }

var (
	tokenNames      = responseNames{"status-code", "status-description"}
	managementNames = responseNames{"statusCode", "statusDescription"}
)

func (r response) encode(correlation any, names responseNames) ([]byte, error) {
	description := http.StatusText(int(r.code))
	properties := amqp.Map{{Key: names.code, Value: r.code}}
	if r.err != nil {
		description = r.err.Description
		properties = properties.With("errorCondition", r.err.Condition)
	}
	properties = properties.With(names.description, description)
	var message amqp.Message
	err := errors.Join(
		message.SetProperties(amqp.Properties{CorrelationID: correlation}),
		message.SetApplicationProperties(properties),
		message.SetValue(r.body),
	)
	if err != nil {
		return nil, err
	}
	return message.Encode(), nil
}

func success(body amqp.Map) response { return response{code: http.StatusOK, body: body} }

func failure(err error) response {
	res := response{code: http.StatusBadRequest, err: wireError(err)}
	switch res.err.Condition {
	case NotFound, MessageNotFound:
		res.code = http.StatusNotFound
	case EntityAlreadyExists:
		res.code = http.StatusConflict
	case MessageLockLost, SessionLockLost:
		res.code = http.StatusGone
	case NotImplemented:
		res.code = http.StatusNotImplemented
	case ServerBusy:
		res.code = http.StatusServiceUnavailable
	case amqp.InternalError:
		res.code = http.StatusInternalServerError
	}
	return res
}
