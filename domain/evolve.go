package domain

import "slices"

// Evolve returns the order after an event. It never fails and decides nothing: what Decide let happen, happened. An
// event that does not fit the order, which only a foreign writer could have stored, changes what it can.
// An event that belongs to no order changes nothing but the count.
//
// The order that was passed in stays as it was.
func Evolve(o Order, e Event) Order {
	o.Events++
	switch e := e.(type) {
	case *Submitted:
		o.submitted(e)
	case *Accepted:
		o.Verdict, o.Decision = VerdictAccepted, e.Decision
	case *Rejected:
		o.Verdict, o.Decision, o.Reason = VerdictRejected, e.Decision, e.Reason
	case *Held:
		o.Holds = append(slices.Clone(o.Holds), e.Hold)
		o.HoldsEver++
	case *Released:
		o.Holds = slices.DeleteFunc(slices.Clone(o.Holds), func(h Hold) bool { return h.ID == e.Hold })
	case *Amended:
		o.amended(e)
	case *Routed:
		o.routed(e)
	case *Unrouted:
		o.ended(e.Fulfilment, PhaseUnrouted, e.Reason)
	case *FulfilmentFailed:
		o.ended(e.Fulfilment, PhaseFailed, e.Reason)
	case *Confirmed:
		o.confirmed(e)
	case *FulfilmentStarted:
		o.change(e.Fulfilment, func(f *Fulfilment) { f.Phase = PhaseStarted })
	case *Shipped:
		o.shipped(e)
	case *Delivered:
		o.change(e.Fulfilment, func(f *Fulfilment) { f.delivered(e) })
	case *Cancelled:
		o.cancelled(e)
	case *Returned:
		o.Lines = slices.Clone(o.Lines)
		for _, q := range e.Lines {
			if l := o.Line(q.Line); l != nil {
				l.Returned = plus(l.Returned, q.Quantity)
			}
		}
	case *Closed:
		o.Closed = true
	case *Withdrawn:
		o.WithdrawnFor, o.Reason = e.Winner, e.Reason
	case *HomeMoved:
		o.Home, o.Epoch = e.Home, e.Epoch
	}
	return o
}

// Fold returns the order that events add up to.
func Fold(events []Event) Order {
	var o Order
	for _, e := range events {
		o = Evolve(o, e)
	}
	return o
}

func (o *Order) submitted(e *Submitted) {
	o.ID, o.BusinessUnit, o.Number = e.Order, e.BusinessUnit, e.Number
	o.Details, o.Totals, o.Settled = e.Details, e.Totals, e.Settled
	o.Lines = make([]OrderLine, len(e.Lines))
	for i, l := range e.Lines {
		o.Lines[i] = OrderLine{Line: l}
	}
	if !e.Personal.IsZero() {
		o.Personal = []Sealed{e.Personal}
	}
}

func (o *Order) amended(e *Amended) {
	o.Lines = slices.Clone(o.Lines)
	for _, change := range e.Lines {
		l := o.Line(change.Line)
		if l == nil {
			continue
		}
		if change.Quantity != nil {
			l.Quantity = plus(*change.Quantity, l.Cancelled)
		}
		if change.Requested != nil {
			l.Requested = *change.Requested
		}
		if change.Price != nil {
			l.Price = *change.Price
		}
		l.Promised = ""
	}
	for _, l := range e.Added {
		o.Lines = append(o.Lines, OrderLine{Line: l})
	}
	o.take(e.Taken)
	if e.ShipTo != nil {
		o.Parties.ShipTo = *e.ShipTo
	}
	if e.BillTo != nil {
		o.Parties.BillTo = *e.BillTo
	}
	if e.Terms != nil {
		o.Terms = *e.Terms
	}
	o.Totals = e.Totals
	if !e.Personal.IsZero() {
		o.Personal = append(slices.Clone(o.Personal), e.Personal)
	}
}

func (o *Order) routed(e *Routed) {
	o.Fulfilments = slices.Clone(o.Fulfilments)
	for _, a := range e.Fulfilments {
		f := Fulfilment{ID: a.ID, Site: a.Site, Phase: PhaseRouted, Decision: e.Decision}
		for _, q := range a.Lines {
			f.Parts = append(f.Parts, Part{Line: q.Line, Quantity: q.Quantity})
		}
		o.Fulfilments = append(o.Fulfilments, f)
	}
}

// ended leaves a fulfilment only what it has shipped. What was promised of the rest is void.
func (o *Order) ended(id string, phase Phase, reason Reason) {
	o.Lines = slices.Clone(o.Lines)
	o.change(id, func(f *Fulfilment) {
		f.Phase, f.Reason = phase, reason
		for i := range f.Parts {
			p := &f.Parts[i]
			if l := o.Line(p.Line); l != nil && p.Shipped.Less(p.Quantity) {
				l.Promised = ""
			}
			p.Quantity = p.Shipped
		}
		f.Parts = slices.DeleteFunc(f.Parts, func(p Part) bool { return p.Quantity.IsZero() })
	})
}

func (o *Order) confirmed(e *Confirmed) {
	o.change(e.Fulfilment, func(f *Fulfilment) {
		confirmation := e.Confirmation
		f.Confirmation = &confirmation
		if f.Phase == PhaseRouted && e.Confirmation.Outcome != Refuses {
			f.Phase = PhaseConfirmed
		}
	})
	o.Lines = slices.Clone(o.Lines)
	for i := range e.Confirmation.Lines {
		c := &e.Confirmation.Lines[i]
		l := o.Line(c.Line)
		if l == nil {
			continue
		}
		l.Promised = o.promised(l, e.Fulfilment, c)
		if l.FirstPromised == "" {
			l.FirstPromised = l.Promised
		}
	}
}

// promised is the day on which a line will be there in full, after a site's answer: the latest of what the sites that
// share the line have promised. It is empty where the answer leaves some of it open, or another promise is void.
func (o *Order) promised(l *OrderLine, fulfilment string, c *LineConfirmation) string {
	if c.Backordered.Sign() > 0 || len(c.Promises) == 0 {
		return ""
	}
	day := c.lastDay()
	for i := range o.Fulfilments {
		f := &o.Fulfilments[i]
		p := f.part(l.ID)
		if f.ID == fulfilment || p == nil || !p.Shipped.Less(p.Quantity) || f.Confirmation == nil || l.Promised == "" {
			continue
		}
		for j := range f.Confirmation.Lines {
			if other := &f.Confirmation.Lines[j]; other.Line == l.ID {
				day = max(day, other.lastDay())
			}
		}
	}
	return day
}

// lastDay is the day on which the last of a line's promised quantities is due.
func (c *LineConfirmation) lastDay() string {
	var last string
	for _, p := range c.Promises {
		last = max(last, p.Date.Day)
	}
	return last
}

func (o *Order) shipped(e *Shipped) {
	o.change(e.Fulfilment, func(f *Fulfilment) {
		f.Shipments = append(slices.Clone(f.Shipments), e.Shipment)
		f.add(e.Shipment.Lines, func(p *Part) *Decimal { return &p.Shipped })
		if f.Phase == PhaseRouted || f.Phase == PhaseConfirmed {
			f.Phase = PhaseStarted
		}
	})
}

// delivered notes what has arrived. What names no shipment is taken to come from the oldest one under way.
func (f *Fulfilment) delivered(e *Delivered) {
	f.add(e.Lines, func(p *Part) *Decimal { return &p.Delivered })
	f.Arrived = slices.Clone(f.Arrived)
	rest := slices.Clone(e.Lines)
	for _, s := range f.Shipments {
		if e.Shipment != "" && e.Shipment != s.ID {
			continue
		}
		underWay := f.underWay(s)
		for i := range rest {
			q := &rest[i]
			if n := minDecimal(q.Quantity, underWay[q.Line]); n.Sign() > 0 {
				f.Arrived = append(f.Arrived, Arrival{Shipment: s.ID, Line: q.Line, Quantity: n})
				q.Quantity = less(q.Quantity, n)
			}
		}
	}
}

func (o *Order) cancelled(e *Cancelled) {
	o.Lines = slices.Clone(o.Lines)
	for _, q := range e.Lines {
		if l := o.Line(q.Line); l != nil {
			l.Cancelled = plus(l.Cancelled, q.Quantity)
		}
	}
	o.take(e.Taken)
	o.Totals, o.Reason = e.Totals, e.Reason
}

// take lowers what sites have to fulfil.
func (o *Order) take(taken []PartQuantity) {
	byFulfilment := make(map[string][]PartQuantity, 1)
	for _, t := range taken {
		byFulfilment[t.Fulfilment] = append(byFulfilment[t.Fulfilment], t)
	}
	for id, parts := range byFulfilment {
		o.change(id, func(f *Fulfilment) {
			for _, t := range parts {
				if p := f.part(t.Line); p != nil {
					p.Quantity = less(p.Quantity, t.Quantity)
				}
			}
		})
	}
}

// change lets set change a copy of a fulfilment and of its parts.
func (o *Order) change(id string, set func(*Fulfilment)) {
	i := slices.IndexFunc(o.Fulfilments, func(f Fulfilment) bool { return f.ID == id })
	if i < 0 {
		return
	}
	o.Fulfilments = slices.Clone(o.Fulfilments)
	f := &o.Fulfilments[i]
	f.Parts = slices.Clone(f.Parts)
	set(f)
}

// add raises one of the quantities of a fulfilment's parts.
func (f *Fulfilment) add(lines []LineQuantity, which func(*Part) *Decimal) {
	for _, q := range lines {
		if p := f.part(q.Line); p != nil {
			v := which(p)
			*v = plus(*v, q.Quantity)
		}
	}
}
