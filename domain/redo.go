package domain

import "slices"

// Redo returns the action that leads to what the events of one command say, for another history of the order to be
// asked the same. Decided on the order before these events, under the same policy, it leads to equal ones. Where the
// command left something to the ledger, such as which quantities are all that is left, the action names what the ledger
// took. A personal section goes along as it was sealed.
//
// The action names fulfilments, holds, shipments and lines as they are called in the history of the events. Another may
// call something else so, or nothing.
//
// Redo returns false for what no other history is to be asked for: a submission, a withdrawal, a move, what is known of
// conflicts.
func Redo(events []Event) (Action, bool) {
	if len(events) == 0 {
		return nil, false
	}
	switch e := events[0].(type) {
	case *Held:
		return PlaceHold{Reason: e.Hold.Reason, Role: e.Hold.Role, Until: e.Hold.Until}, true
	case *Released:
		return Release{Hold: e.Hold, Reason: e.Reason}, true
	case *Amended:
		return e.redo(), true
	case *Routed:
		return Route{Site: e.chosen(), Reason: e.Reason}, true
	case *Unrouted:
		return e.redo(events)
	case *Confirmed:
		return Confirm{Fulfilment: e.Fulfilment, Confirmation: e.Confirmation}, true
	case *FulfilmentStarted:
		return StartFulfilment{Fulfilment: e.Fulfilment}, true
	case *Shipped:
		return Ship{Fulfilment: e.Fulfilment, Shipment: e.Shipment}, true
	case *Delivered:
		return Deliver{Fulfilment: e.Fulfilment, Shipment: e.Shipment, Lines: e.Lines, Proof: e.Proof}, true
	case *FulfilmentFailed:
		return ReportFailure{Fulfilment: e.Fulfilment, Reason: e.Reason}, true
	case *Cancelled:
		return Cancel{Lines: e.Lines, Reason: e.Reason}, true
	case *Returned:
		return Return{Lines: e.Lines, Reference: e.Reference, Reason: e.Reason}, true
	case *Closed:
		return Close{Reason: e.Reason}, true
	}
	return nil, false
}

func (e *Amended) redo() Amend {
	a := Amend{
		Lines: e.Lines, Add: slices.Clone(e.Added), ShipTo: e.ShipTo, BillTo: e.BillTo, Terms: e.Terms,
		Personal: e.Personal, Reason: e.Reason,
	}
	for i := range a.Add {
		a.Add[i].ID = ""
	}
	return a
}

// redo tells a fulfilment that was rerouted from those that a routing took away from their sites so that one site gets
// everything.
func (e *Unrouted) redo(events []Event) (Action, bool) {
	routed, ok := events[len(events)-1].(*Routed)
	switch {
	case !ok:
		return nil, false
	case e.Reason == gathering:
		return Route{Site: routed.chosen(), Reason: routed.Reason}, true
	}
	return Reroute{Fulfilment: e.Fulfilment, Site: routed.chosen(), Reason: e.Reason}, true
}

// chosen is the site that somebody named, empty where the rules found the sites.
func (e *Routed) chosen() string {
	if len(e.Fulfilments) != 1 || !e.Decision.IsZero() {
		return ""
	}
	return e.Fulfilments[0].Site
}
