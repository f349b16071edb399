package domain

// A Policy is what the business decides and may change: which orders are good, and which sites fulfil them. It must
// be pure: the same order gives the same answer, and stays as it is.
type Policy interface {
	// Validate judges an order that was submitted or amended.
	Validate(o *Order) Judgement
	// Route deals what is open to sites, none of which is excluded. A routing that leaves some of it out is taken
	// for none.
	Route(o *Order, open []LineQuantity, excluded []string) Routing
}

// A Judgement is what validation says.
type Judgement struct {
	Verdict  Verdict // accepted or rejected; empty: to be held
	Reason   Reason  // of a rejection or hold
	Role     string  // who is to release the hold, for people: see [Hold]
	Decision Decision
}

// A Routing is which sites get what. Without allocations, no site is left and the order is held.
type Routing struct {
	Allocations []Allocation // without ids
	Decision    Decision
	Deferred    bool // there is nothing to be found: leave the order unrouted, and do not hold it
}

// Unruled is the policy of orders that no rules apply to, such as history from another system: all are accepted, and
// none is routed.
type Unruled struct{}

// Validate accepts.
func (Unruled) Validate(*Order) Judgement { return Judgement{Verdict: VerdictAccepted} }

// Route leaves orders unrouted.
func (Unruled) Route(*Order, []LineQuantity, []string) Routing { return Routing{Deferred: true} }
