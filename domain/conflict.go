package domain

// A Conflict is something that one ledger's history of an order has and another's does not take over: a command that was
// done there, or a site that was reached from there. People deal with it.
type Conflict struct {
	ID         string `json:"id"`                   // c1, c2, … in the order
	Ledger     string `json:"ledger"`               // whose history has it
	Command    string `json:"command,omitempty"`    // what was done there; empty: a site was reached
	Action     string `json:"action,omitempty"`     // what the command asked for
	Code       string `json:"code,omitempty"`       // why it was not taken here: of a refusal, or one of those below
	Site       string `json:"site,omitempty"`       // was reached from there
	Fulfilment string `json:"fulfilment,omitempty"` // there
	Revision   uint64 `json:"revision"`             // there, of the first event
}

// The codes of conflicts over commands that were not even decided here.
const (
	ConflictNotRepeatable = "not_repeatable" // no action leads to what the command did, see [Redo], or it would mean something else here
	ConflictKeyReused     = "key_reused"     // a command of the same id asked for something else here
	ConflictHeardOf       = "heard_of"       // the ledger that has done it is lost, and another one knows only of it
)

// An OrderConflict is a conflict and what became of it.
type OrderConflict struct {
	Conflict
	Settled bool   `json:"settled,omitempty"`
	Answer  Reason `json:"answer,omitzero"` // how it was settled
}

// same reports whether a known conflict is over the same thing.
func (c Conflict) same(known OrderConflict) bool {
	return c.Ledger == known.Ledger && c.Command == known.Command && c.Site == known.Site
}

// Conflict returns a conflict by its id, or nil.
func (o *Order) Conflict(id string) *OrderConflict {
	for i := range o.Conflicts {
		if o.Conflicts[i].ID == id {
			return &o.Conflicts[i]
		}
	}
	return nil
}
