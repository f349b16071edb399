package domain

import "slices"

// Redo returns the action that leads to what the events of one command say, for another history of the order to be
// asked the same. Decided on the order before these events, under the same policy, it leads to equal ones. Where the
// command left something to the ledger, such as which quantities are all that is left, the action names what the ledger
// took. A personal section goes along as it was sealed.
//
// The action names fulfilments, holds, shipments and lines as they are called in the history of the events. Another may
// call something else so: see [MeansSame].
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

// MeansSame reports whether what an action names in an order is the same as in another history of that order: lines are
// of one article, fulfilments at one site, shipments of the same goods, holds for one reason. What only one of the
// histories has is not the same.
func MeansSame(a Action, there, here Order) bool {
	switch a := a.(type) {
	case Amend:
		return sameLines(a.Lines, func(c *LineChange) string { return c.Line }, &there, &here)
	case Release:
		return a.Hold == "" || sameHold(a.Hold, there, here)
	case Cancel:
		return sameQuantities(a.Lines, &there, &here)
	case Reroute:
		return sameFulfilment(a.Fulfilment, &there, &here)
	case Confirm:
		return sameFulfilment(a.Fulfilment, &there, &here) &&
			sameLines(a.Lines, func(c *LineConfirmation) string { return c.Line }, &there, &here)
	case StartFulfilment:
		return sameFulfilment(a.Fulfilment, &there, &here)
	case Ship:
		return sameFulfilment(a.Fulfilment, &there, &here) && sameQuantities(a.Lines, &there, &here)
	case Deliver:
		return sameFulfilment(a.Fulfilment, &there, &here) && sameQuantities(a.Lines, &there, &here) &&
			(a.Shipment == "" || sameShipment(a.Fulfilment, a.Shipment, &there, &here))
	case ReportFailure:
		return sameFulfilment(a.Fulfilment, &there, &here)
	case Return:
		return sameQuantities(a.Lines, &there, &here)
	}
	return true
}

func sameQuantities(list []LineQuantity, there, here *Order) bool {
	return sameLines(list, func(q *LineQuantity) string { return q.Line }, there, here)
}

func sameLines[T any](list []T, of func(*T) string, there, here *Order) bool {
	for i := range list {
		l, m := there.Line(of(&list[i])), here.Line(of(&list[i]))
		if l == nil || m == nil || l.SKU != m.SKU || l.BuyerSKU != m.BuyerSKU || l.GTIN != m.GTIN || l.Unit != m.Unit ||
			l.Configuration != m.Configuration {
			return false
		}
	}
	return true
}

func sameFulfilment(id string, there, here *Order) bool {
	f, g := there.Fulfilment(id), here.Fulfilment(id)
	return f != nil && g != nil && f.Site == g.Site
}

// sameShipment compares shipments of a fulfilment that both histories have.
func sameShipment(fulfilment, id string, there, here *Order) bool {
	f, g := there.Fulfilment(fulfilment), here.Fulfilment(fulfilment)
	i, j := f.shipment(id), g.shipment(id)
	return i >= 0 && j >= 0 && slices.Equal(f.Shipments[i].Lines, g.Shipments[j].Lines) &&
		f.Shipments[i].Carrier == g.Shipments[j].Carrier && f.Shipments[i].Tracking == g.Shipments[j].Tracking
}

func sameHold(id string, there, here Order) bool {
	named := func(h Hold) bool { return h.ID == id }
	i, j := slices.IndexFunc(there.Holds, named), slices.IndexFunc(here.Holds, named)
	return i >= 0 && j >= 0 && there.Holds[i].Reason == here.Holds[j].Reason && there.Holds[i].Role == here.Holds[j].Role
}
