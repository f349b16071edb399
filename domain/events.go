package domain

import "fmt"

// events keeps one event of every type, for the next of its type to be read into.
type events struct {
	submitted         *Submitted
	accepted          *Accepted
	rejected          *Rejected
	held              *Held
	released          *Released
	amended           *Amended
	routed            *Routed
	unrouted          *Unrouted
	confirmed         *Confirmed
	fulfilmentStarted *FulfilmentStarted
	shipped           *Shipped
	delivered         *Delivered
	fulfilmentFailed  *FulfilmentFailed
	cancelled         *Cancelled
	returned          *Returned
	closed            *Closed
	withdrawn         *Withdrawn
	homeMoved         *HomeMoved
	conflictFound     *ConflictFound
	conflictSettled   *ConflictSettled
	ruleSetActivated  *RuleSetActivated
}

// read reads an event. It is good until the next of its type is read.
func (e *events) read(c *coder, typ, data string) (Event, error) {
	v := e.empty(typ)
	if v == nil {
		return nil, fmt.Errorf("%w %.80q", ErrUnknownEvent, typ)
	}
	if err := c.read(data, v); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", typ, err)
	}
	return v, nil
}

// empty returns an empty event of a type, or nil for a type that this version does not know.
func (e *events) empty(typ string) Event {
	switch typ {
	case "order.submitted.v1":
		return emptied(&e.submitted)
	case "order.accepted.v1":
		return emptied(&e.accepted)
	case "order.rejected.v1":
		return emptied(&e.rejected)
	case "order.held.v1":
		return emptied(&e.held)
	case "order.released.v1":
		return emptied(&e.released)
	case "order.amended.v1":
		return emptied(&e.amended)
	case "order.routed.v1":
		return emptied(&e.routed)
	case "order.unrouted.v1":
		return emptied(&e.unrouted)
	case "order.confirmed.v1":
		return emptied(&e.confirmed)
	case "order.fulfilment_started.v1":
		return emptied(&e.fulfilmentStarted)
	case "order.shipped.v1":
		return emptied(&e.shipped)
	case "order.delivered.v1":
		return emptied(&e.delivered)
	case "order.fulfilment_failed.v1":
		return emptied(&e.fulfilmentFailed)
	case "order.cancelled.v1":
		return emptied(&e.cancelled)
	case "order.returned.v1":
		return emptied(&e.returned)
	case "order.closed.v1":
		return emptied(&e.closed)
	case "order.withdrawn.v1":
		return emptied(&e.withdrawn)
	case "order.home_moved.v1":
		return emptied(&e.homeMoved)
	case "order.conflict_found.v1":
		return emptied(&e.conflictFound)
	case "order.conflict_settled.v1":
		return emptied(&e.conflictSettled)
	case "ruleset.activated.v1":
		return emptied(&e.ruleSetActivated)
	}
	return nil
}

func emptied[T any](v **T) *T {
	if *v == nil {
		*v = new(T)
	} else {
		var zero T
		**v = zero
	}
	return *v
}
