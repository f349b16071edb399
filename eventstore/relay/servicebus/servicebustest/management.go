package servicebustest

import (
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

// Bounds of what one answer holds.
const (
	maxPeek      = 5000
	maxPeekBytes = 1 << 20
)

// manage does one operation on an entity.
func (r *request) manage() response {
	operation, _ := r.properties.Get("operation").(string)
	switch operation {
	case "com.microsoft:renew-lock":
		return r.renewLock()
	case "com.microsoft:renew-session-lock":
		return r.renewSessionLock()
	case "com.microsoft:get-session-state":
		return r.sessionState()
	case "com.microsoft:set-session-state":
		return r.setSessionState()
	case "com.microsoft:get-message-sessions":
		return r.messageSessions()
	case "com.microsoft:peek-message":
		return r.peek()
	case "com.microsoft:receive-by-sequence-number":
		return r.receiveBySequenceNumber()
	case "com.microsoft:update-disposition":
		return r.updateDisposition()
	case "com.microsoft:schedule-message":
		return r.schedule()
	case "com.microsoft:cancel-scheduled-message":
		return r.cancelScheduled()
	case "com.microsoft:add-rule":
		return r.addRule()
	case "com.microsoft:remove-rule":
		return r.removeRule()
	case "com.microsoft:enumerate-rules":
		return r.enumerateRules()
	default:
		return failure(refuse(NotImplemented, "The operation '%s' is not known.", operation))
	}
}

func (r *request) broker() *broker { return r.peer.server.broker }

// session returns the session that a request concerns, nil for none, and the receiver on whose behalf the client asks,
// nil if it does not say. The session is named, or it is that of the receiver.
func (r *request) session() (id *string, by *receiver) {
	link, _ := r.properties.Get("associated-link-name").(string)
	if o := r.peer.outlets[link]; o != nil && strings.EqualFold(o.path, r.entity) && o.receiver.home.limit.RequiresSession {
		id, by = o.receiver.name(), o.receiver
	}
	if named, ok := r.body.Get("session-id").(string); ok {
		id = &named
	}
	return id, by
}

func (r *request) renewLock() response {
	tokens, err := r.tokens()
	if err != nil {
		return failure(err)
	}
	times, err := r.broker().renew(r.entity, tokens)
	if err != nil {
		return failure(err)
	}
	return success(amqp.Map{{Key: "expirations", Value: times}})
}

func (r *request) renewSessionLock() response {
	id, by := r.session()
	until, err := r.broker().renewSession(r.entity, value(id), by)
	if err != nil {
		return failure(err)
	}
	return success(amqp.Map{{Key: "expiration", Value: until}})
}

func (r *request) sessionState() response {
	id, by := r.session()
	state, err := r.broker().sessionState(r.entity, value(id), by)
	if err != nil {
		return failure(err)
	}
	if state == nil {
		return success(amqp.Map{{Key: "session-state", Value: nil}})
	}
	return success(amqp.Map{{Key: "session-state", Value: state}})
}

func (r *request) setSessionState() response {
	id, by := r.session()
	state, _ := r.body.Get("session-state").([]byte)
	if err := r.broker().setSessionState(r.entity, value(id), by, state); err != nil {
		return failure(err)
	}
	return success(nil)
}

func (r *request) messageSessions() response {
	// The last moment that .NET knows stands for "all that have something".
	all := time.UnixMilli(253402300800000)
	after, ok := r.body.Get("last-updated-time").(time.Time)
	if !ok || !after.Before(all.Add(-time.Second)) {
		after = time.Time{}
	}
	skip, top := number(r.body.Get("skip")), number(r.body.Get("top"))
	ids, err := r.broker().listSessions(r.entity, after, int(skip), int(min(top, maxPeek)))
	switch {
	case err != nil:
		return failure(err)
	case len(ids) == 0:
		return response{code: http.StatusNoContent}
	}
	return success(amqp.Map{{Key: "skip", Value: int32(int(skip) + len(ids))}, {Key: "sessions-ids", Value: ids}})
}

func (r *request) peek() response {
	from, count := number(r.body.Get("from-sequence-number")), number(r.body.Get("message-count"))
	id, _ := r.session()
	found, err := r.broker().peek(r.entity, from, int(min(count, maxPeek)), id)
	if err != nil {
		return failure(err)
	}
	size := 0
	for i := range found {
		found[i].token = uuid.UUID{} // a look is no lock
		if size += found[i].size; size > maxPeekBytes && i > 0 {
			found = found[:i] // the client asks again for what follows
			break
		}
	}
	return messageList(found, r.body.Get("omit-message-body") == true)
}

func (r *request) receiveBySequenceNumber() response {
	numbers, err := r.numbers()
	if err != nil {
		return failure(err)
	}
	destroy := number(r.body.Get("receiver-settle-mode")) == 0
	id, by := r.session()
	found, err := r.broker().receiveDeferred(r.entity, numbers, destroy, id, by)
	if err != nil {
		return failure(err)
	}
	return messageList(found, false)
}

// messageList is the answer that carries messages. The token of a locked one stands beside it for one client, and in its
// annotations for another.
func messageList(deliveries []delivery, omitBody bool) response {
	if len(deliveries) == 0 {
		return response{code: http.StatusNoContent}
	}
	list := make(amqp.List, len(deliveries))
	for i, d := range deliveries {
		if wire, ok := d.wire.(amqp.Message); ok && omitBody {
			d.wire = wire.WithoutBody()
		}
		encoded, err := encodeMessage(d)
		if err != nil {
			return failure(err)
		}
		entry := amqp.Map{{Key: "message", Value: encoded}}
		if d.token != (uuid.UUID{}) {
			entry = entry.With("lock-token", d.token)
		}
		list[i] = entry
	}
	return success(amqp.Map{{Key: "messages", Value: list}})
}

func (r *request) updateDisposition() response {
	tokens, err := r.tokens()
	if err != nil {
		return failure(err)
	}
	changes, _ := r.body.Get("properties-to-modify").(amqp.Map)
	v := verdict{properties: properties(changes)}
	switch status := r.body.Get("disposition-status"); status {
	case "completed":
		v.verb = complete
	case "abandoned":
		v.verb = abandon
	case "defered": // sic
		v.verb = deferral
	case "suspended":
		v.verb = deadLetter
		v.reason, _ = r.body.Get("deadletter-reason").(string)
		v.description, _ = r.body.Get("deadletter-description").(string)
	default:
		return failure(refuse(InvalidField, "The disposition status '%v' is not known.", status))
	}
	if err := r.broker().settleAll(r.entity, tokens, v); err != nil {
		return failure(err)
	}
	return success(nil)
}

func (r *request) schedule() response {
	list, _ := r.body.Get("messages").(amqp.List)
	messages := make([]*message, len(list))
	for i, item := range list {
		entry, _ := item.(amqp.Map)
		encoded, _ := entry.Get("message").([]byte)
		var err error
		if messages[i], err = decodeMessage(encoded); err != nil {
			return failure(refuse(InvalidField, "The message %d cannot be read: %v", i, err))
		}
	}
	numbers, err := r.broker().schedule(r.entity, messages)
	if err != nil {
		return failure(err)
	}
	return success(amqp.Map{{Key: "sequence-numbers", Value: numbers}})
}

func (r *request) cancelScheduled() response {
	numbers, err := r.numbers()
	if err != nil {
		return failure(err)
	}
	if err := r.broker().cancelScheduled(r.entity, numbers); err != nil {
		return failure(err)
	}
	return success(nil)
}

func (r *request) tokens() ([]uuid.UUID, error) {
	tokens, ok := r.body.Get("lock-tokens").([]uuid.UUID)
	if !ok {
		return nil, refuse(InvalidField, "The lock-tokens are no array of UUIDs.")
	}
	return tokens, nil
}

func (r *request) numbers() ([]int64, error) {
	numbers, ok := r.body.Get("sequence-numbers").([]int64)
	if !ok {
		return nil, refuse(InvalidField, "The sequence-numbers are no array of longs.")
	}
	return numbers, nil
}

// number reads an integer of any type; not even JavaScript clients agree with themselves on one. Others are 0.
func number(v any) int64 {
	n, _ := integer(v)
	return n
}
