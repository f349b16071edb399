package domain

import (
	"time"

	"github.com/google/uuid"
)

// An Event is something that happened to an order. The events are pointers to the types of this file; nobody changes
// one after it was made. Times, actor and cause stand in its [Meta].
type Event interface {
	// Type is the versioned wire name. It never changes: a new form of an event gets a new name.
	Type() string
	code(*coder)
}

// Submitted says that the order exists.
type Submitted struct {
	Order        uuid.UUID `json:"order"`
	BusinessUnit string    `json:"business_unit"`
	Number       string    `json:"number"`
	Details
	Lines    []Line `json:"lines"`
	Totals   Totals `json:"totals"`
	Settled  bool   `json:"settled,omitempty"`
	Personal Sealed `json:"personal,omitzero"`
}

// Accepted says that the rules, or whoever released the order, found it good.
type Accepted struct {
	Decision Decision `json:"decision,omitzero"`
}

// Rejected says that the rules refused the order. It ends here.
type Rejected struct {
	Reason   Reason   `json:"reason"`
	Decision Decision `json:"decision,omitzero"`
}

// Held says that the order waits for a release.
type Held struct {
	Hold Hold `json:"hold"`
}

// Released says that a hold has ended.
type Released struct {
	Hold   string `json:"hold"`
	Reason Reason `json:"reason,omitzero"`
}

// Amended says that the order says something else now. A changed line's promise is void.
type Amended struct {
	Lines    []LineChange   `json:"lines,omitempty"`
	Added    []Line         `json:"added,omitempty"`
	Taken    []PartQuantity `json:"taken,omitempty"` // what sites need no longer fulfil
	ShipTo   *Party         `json:"ship_to,omitempty"`
	BillTo   *Party         `json:"bill_to,omitempty"`
	Terms    *Terms         `json:"terms,omitempty"`
	Totals   Totals         `json:"totals"`
	Personal Sealed         `json:"personal,omitzero"`
	Reason   Reason         `json:"reason,omitzero"`
}

// A PartQuantity is some of a line in a fulfilment.
type PartQuantity struct {
	Fulfilment string  `json:"fulfilment"`
	Line       string  `json:"line"`
	Quantity   Decimal `json:"quantity"`
}

// Routed says that sites have been given their parts of the order.
type Routed struct {
	Fulfilments []Allocation `json:"fulfilments"`
	Decision    Decision     `json:"decision,omitzero"` // empty where a person chose
	Reason      Reason       `json:"reason,omitzero"`
}

// An Allocation is a new fulfilment.
type Allocation struct {
	ID    string         `json:"id"`
	Site  string         `json:"site"`
	Lines []LineQuantity `json:"lines"`
}

// Unrouted says that a fulfilment's rest was taken away from its site, to be routed anew.
type Unrouted struct {
	Fulfilment string `json:"fulfilment"`
	Reason     Reason `json:"reason"`
}

// Confirmed says that a site has answered.
type Confirmed struct {
	Fulfilment   string       `json:"fulfilment"`
	Confirmation Confirmation `json:"confirmation"`
}

// FulfilmentStarted says that a site has begun to work.
type FulfilmentStarted struct {
	Fulfilment string `json:"fulfilment"`
}

// Shipped says that goods have left a site.
type Shipped struct {
	Fulfilment string   `json:"fulfilment"`
	Shipment   Shipment `json:"shipment"`
}

// Delivered says that goods have arrived.
type Delivered struct {
	Fulfilment string         `json:"fulfilment"`
	Shipment   string         `json:"shipment,omitempty"`
	Lines      []LineQuantity `json:"lines"`
	Proof      []Document     `json:"proof,omitempty"`
}

// FulfilmentFailed says that a site cannot fulfil what it had not shipped.
type FulfilmentFailed struct {
	Fulfilment string `json:"fulfilment"`
	Reason     Reason `json:"reason"`
}

// Cancelled says that quantities are no longer wanted, or no longer to be had.
type Cancelled struct {
	Lines  []LineQuantity `json:"lines"`
	Taken  []PartQuantity `json:"taken,omitempty"` // what sites need no longer fulfil
	Totals Totals         `json:"totals"`
	Reason Reason         `json:"reason"`
}

// Returned says that delivered goods came back.
type Returned struct {
	Lines     []LineQuantity `json:"lines"`
	Reference string         `json:"reference,omitempty"`
	Reason    Reason         `json:"reason"`
}

// Closed says that nothing more is expected, but returns.
type Closed struct {
	Reason Reason `json:"reason,omitzero"`
}

// Withdrawn says that another ledger has the same order and keeps it.
type Withdrawn struct {
	Winner string `json:"winner"`
	Reason Reason `json:"reason,omitzero"`
}

// HomeMoved says that the order lives in another ledger from here on. It counts there even where it was withdrawn before.
type HomeMoved struct {
	Home   string `json:"home"`   // the ledger it lives in now
	Epoch  uint32 `json:"epoch"`  // above all that the order had before
	Source string `json:"source"` // the ledger it was copied from
	Last   uint64 `json:"last"`   // the last revision that was copied
}

// ConflictFound says that another ledger's history of the order has something that this one does not take over.
type ConflictFound struct {
	Conflict Conflict `json:"conflict"`
}

// ConflictSettled says that somebody has dealt with a conflict, and how.
type ConflictSettled struct {
	Conflict string `json:"conflict"`
	Reason   Reason `json:"reason"`
}

// RuleSetActivated says that a business unit's orders are judged by another rule set from here on. It belongs to no order, but
// to the stream of its business unit's rule sets.
type RuleSetActivated struct {
	BusinessUnit string `json:"business_unit"`
	SHA256       string `json:"sha256"` // of the text, hexadecimal
	Text         string `json:"text"`
}

// Wire names, stored for ever.
func (*Submitted) Type() string         { return "order.submitted.v1" }
func (*Accepted) Type() string          { return "order.accepted.v1" }
func (*Rejected) Type() string          { return "order.rejected.v1" }
func (*Held) Type() string              { return "order.held.v1" }
func (*Released) Type() string          { return "order.released.v1" }
func (*Amended) Type() string           { return "order.amended.v1" }
func (*Routed) Type() string            { return "order.routed.v1" }
func (*Unrouted) Type() string          { return "order.unrouted.v1" }
func (*Confirmed) Type() string         { return "order.confirmed.v1" }
func (*FulfilmentStarted) Type() string { return "order.fulfilment_started.v1" }
func (*Shipped) Type() string           { return "order.shipped.v1" }
func (*Delivered) Type() string         { return "order.delivered.v1" }
func (*FulfilmentFailed) Type() string  { return "order.fulfilment_failed.v1" }
func (*Cancelled) Type() string         { return "order.cancelled.v1" }
func (*Returned) Type() string          { return "order.returned.v1" }
func (*Closed) Type() string            { return "order.closed.v1" }
func (*Withdrawn) Type() string         { return "order.withdrawn.v1" }
func (*HomeMoved) Type() string         { return "order.home_moved.v1" }
func (*ConflictFound) Type() string     { return "order.conflict_found.v1" }
func (*ConflictSettled) Type() string   { return "order.conflict_settled.v1" }
func (*RuleSetActivated) Type() string  { return "ruleset.activated.v1" }

// A Meta is what stands beside every event: who asked, why, and when it happened.
type Meta struct {
	Command      uuid.UUID // the command that led to the event
	Digest       Digest    // of that command
	Actor        Actor
	BusinessUnit string
	Cause        Cause
	Occurred     time.Time // when it happened, which may be long before the ledger took it; UTC
	Epoch        uint32
}
