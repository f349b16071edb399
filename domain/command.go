package domain

import (
	"time"

	"github.com/google/uuid"
)

// A Command asks for a change of one order.
type Command struct {
	ID           uuid.UUID // the same for every retry, see [CommandID]
	Order        uuid.UUID
	BusinessUnit string
	Actor        Actor
	Cause        Cause
	Expected     *uint64   // refuse unless this is the order's revision
	Occurred     time.Time // when it happened outside, where that is not now
	Do           Action
}

// A Cause ties a command to what led to it.
type Cause struct {
	Correlation string // the whole undertaking
	Causation   string // what directly led here
	Traceparent string // W3C trace context
}

// An Action is what a command asks for. The actions are the types of this file, as values.
type Action interface {
	// Name is the action's word in the API, the transition table and the logs.
	Name() string
	code(*coder)
}

// Submit asks for a new order.
type Submit struct {
	Details
	Lines    []Line `json:"lines"`
	Personal Sealed `json:"-"`
	// Settled says that the order was fulfilled before the ledger knew it: it is not routed, and closed at once.
	Settled bool `json:"settled,omitempty"`
}

// Amend asks for other lines, quantities, dates, addresses or terms. What it does not name stays.
type Amend struct {
	Lines    []LineChange `json:"lines,omitempty"`
	Add      []Line       `json:"add,omitempty"`
	ShipTo   *Party       `json:"ship_to,omitempty"`
	BillTo   *Party       `json:"bill_to,omitempty"`
	Terms    *Terms       `json:"terms,omitempty"`
	Personal Sealed       `json:"-"`
	Reason   Reason       `json:"reason,omitzero"`
}

// A LineChange changes one line. Quantity is what is wanted in all from now on, shipped goods included; 0 takes the
// line out.
type LineChange struct {
	Line      string   `json:"line"`
	Quantity  *Decimal `json:"quantity,omitempty"`
	Requested *Date    `json:"requested,omitempty"`
	Price     *Price   `json:"price,omitempty"`
}

// PlaceHold keeps the order from going on. Its action is called hold. The role is for people and is not enforced: see
// [Hold].
type PlaceHold struct {
	Reason Reason `json:"reason"`
	Role   string `json:"role,omitempty"`
	Until  Date   `json:"until,omitzero"`
}

// Release ends a hold, or the only one where none is named.
type Release struct {
	Hold   string `json:"hold,omitempty"`
	Reason Reason `json:"reason,omitzero"`
}

// Cancel takes back what has not been shipped: the named quantities, or all.
type Cancel struct {
	Lines  []LineQuantity `json:"lines,omitempty"`
	Reason Reason         `json:"reason"`
}

// Route finds sites for what has none: the named one, or those that the rules choose.
type Route struct {
	Site   string `json:"site,omitempty"`
	Reason Reason `json:"reason,omitzero"`
}

// Reroute takes what a fulfilment has not shipped away from its site and gives it to the named one, or to the one
// that the rules choose next.
type Reroute struct {
	Fulfilment string `json:"-"`
	Site       string `json:"site,omitempty"`
	Reason     Reason `json:"reason"`
}

// Confirm is a site's answer to a fulfilment. It may come again with other promises.
type Confirm struct {
	Fulfilment string `json:"-"`
	Confirmation
}

// StartFulfilment says that a site has begun to work. Its action is called start.
type StartFulfilment struct {
	Fulfilment string `json:"-"`
}

// Ship says that goods have left a site.
type Ship struct {
	Fulfilment string `json:"-"`
	Shipment
}

// Deliver says that goods have arrived: the named quantities, those of the named shipment, or all that is under way.
type Deliver struct {
	Fulfilment string         `json:"-"`
	Shipment   string         `json:"shipment,omitempty"`
	Lines      []LineQuantity `json:"lines,omitempty"`
	Proof      []Document     `json:"proof,omitempty"`
}

// ReportFailure says that a site cannot fulfil what it has not shipped. Its action is called fail.
type ReportFailure struct {
	Fulfilment string `json:"-"`
	Reason     Reason `json:"reason"`
}

// Return says that delivered goods came back.
type Return struct {
	Lines     []LineQuantity `json:"lines"`
	Reference string         `json:"reference,omitempty"` // the number of the return
	Reason    Reason         `json:"reason"`
}

// Close ends an order that has been shipped in full. It need not have been delivered: ex works, nobody tells.
type Close struct {
	Reason Reason `json:"reason,omitzero"`
}

// Withdraw gives an order up in favour of the same order in another ledger.
type Withdraw struct {
	Winner string `json:"winner"` // the ledger that keeps it
	Reason Reason `json:"reason,omitzero"`
}

// Move has the order live in another ledger from here on.
type Move struct {
	Home   string `json:"home"`   // that ledger
	Source string `json:"source"` // the ledger whose history goes on there
	Last   uint64 `json:"last"`   // the last revision of that history
	Epoch  uint32 `json:"epoch"`  // above the order's
}

// RecordConflict notes that another ledger's history of the order has something that this one does not take over. Its
// action is called record_conflict. The conflict comes without an id.
type RecordConflict struct {
	Conflict
}

// Settle says that somebody has dealt with a conflict, and how.
type Settle struct {
	Conflict string `json:"-"`
	Reason   Reason `json:"reason"`
}

// The names of the actions.
func (Submit) Name() string          { return "submit" }
func (Amend) Name() string           { return "amend" }
func (PlaceHold) Name() string       { return "hold" }
func (Release) Name() string         { return "release" }
func (Cancel) Name() string          { return "cancel" }
func (Route) Name() string           { return "route" }
func (Reroute) Name() string         { return "reroute" }
func (Confirm) Name() string         { return "confirm" }
func (StartFulfilment) Name() string { return "start" }
func (Ship) Name() string            { return "ship" }
func (Deliver) Name() string         { return "deliver" }
func (ReportFailure) Name() string   { return "fail" }
func (Return) Name() string          { return "return" }
func (Close) Name() string           { return "close" }
func (Withdraw) Name() string        { return "withdraw" }
func (Move) Name() string            { return "move" }
func (RecordConflict) Name() string  { return "record_conflict" }
func (Settle) Name() string          { return "settle" }
