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
		o.promise(linesOf(e.Lines))
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
	o.void(e.Lines)
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

// ended leaves a fulfilment only what it has shipped.
func (o *Order) ended(id string, phase Phase, reason Reason) {
	var lines []string
	o.change(id, func(f *Fulfilment) {
		f.Phase, f.Reason = phase, reason
		lines = f.lines()
		for i := range f.Parts {
			f.Parts[i].Quantity = f.Parts[i].Shipped
		}
		f.Parts = slices.DeleteFunc(f.Parts, func(p Part) bool { return p.Quantity.IsZero() })
	})
	o.promise(lines)
}

func (o *Order) confirmed(e *Confirmed) {
	var lines []string
	o.change(e.Fulfilment, func(f *Fulfilment) {
		lines = f.lines()
		f.confirmed(e.Confirmation)
		if f.Phase == PhaseRouted && e.Confirmation.Outcome != Refuses {
			f.Phase = PhaseConfirmed
		}
	})
	// What the site cancels is taken from it by the event that follows. Until then, too, it need not be promised.
	after := *o
	after.cancelled(e.cancels())
	after.promise(lines)
	o.Lines = slices.Clone(o.Lines)
	for i := range o.Lines {
		l := &after.Lines[i]
		o.Lines[i].Promised, o.Lines[i].FirstPromised = l.Promised, l.FirstPromised
	}
}

// confirmed keeps a site's answer, and what the site said earlier of lines that the answer does not name. A refusal
// leaves nothing of that.
func (f *Fulfilment) confirmed(c Confirmation) {
	if f.Confirmation != nil && c.Outcome != Refuses {
		named := c.Lines
		c.Lines = slices.Clone(f.Confirmation.Lines)
		for _, l := range named {
			if old := c.line(l.Line); old != nil {
				*old = l
			} else {
				c.Lines = append(c.Lines, l)
			}
		}
	}
	f.Confirmation = &c
}

// void forgets what sites have promised of lines that the buyer changes.
func (o *Order) void(changes []LineChange) {
	o.Fulfilments = slices.Clone(o.Fulfilments)
	for i := range o.Fulfilments {
		f := &o.Fulfilments[i]
		if f.Confirmation == nil {
			continue
		}
		c := *f.Confirmation
		c.Lines = slices.Clone(c.Lines)
		for _, change := range changes {
			if l := c.line(change.Line); l != nil {
				l.Promises = nil
			}
		}
		f.Confirmation = &c
	}
}

// promise derives what is promised of lines from the rest of the order.
func (o *Order) promise(lines []string) {
	cloned := false
	for _, id := range lines {
		l := o.Line(id)
		if l == nil {
			continue
		}
		day := o.promised(l)
		if day == l.Promised {
			continue
		}
		if !cloned {
			o.Lines, cloned = slices.Clone(o.Lines), true
			l = o.Line(id)
		}
		l.Promised = day
		if l.FirstPromised == "" {
			l.FirstPromised = day
		}
	}
}

func linesOf(quantities []LineQuantity) []string {
	lines := make([]string, len(quantities))
	for i, q := range quantities {
		lines[i] = q.Line
	}
	return lines
}

// lines are those of which the fulfilment has a share.
func (f *Fulfilment) lines() []string {
	lines := make([]string, len(f.Parts))
	for i, p := range f.Parts {
		lines[i] = p.Line
	}
	return lines
}

// promised is what [OrderLine.Promised] says of a line.
func (o *Order) promised(l *OrderLine) string {
	if o.Allocated(l.ID).Less(l.Active()) {
		return ""
	}
	var last string
	live := false
	for i := range o.Fulfilments {
		f := &o.Fulfilments[i]
		p := f.part(l.ID)
		if p == nil || !p.Delivered.Less(p.Quantity) {
			continue
		}
		day := f.due(p)
		if p.Shipped.Less(p.Quantity) {
			live = true
			if day == "" {
				return ""
			}
		}
		last = max(last, day)
	}
	if !live {
		return l.Promised
	}
	return last
}

// due is the day on which a site has promised the last of what it has left to ship of a part. It is empty unless its
// newest answer promises all of that.
func (f *Fulfilment) due(p *Part) string {
	if f.Confirmation == nil {
		return ""
	}
	c := f.Confirmation.line(p.Line)
	if c == nil || c.Backordered.Sign() > 0 {
		return ""
	}
	var day string
	var promised Decimal
	for _, q := range c.Promises {
		promised = plus(promised, q.Quantity)
		day = max(day, q.Date.Day)
	}
	if promised.Less(less(p.Quantity, p.Shipped)) {
		return ""
	}
	return day
}

func (o *Order) shipped(e *Shipped) {
	o.change(e.Fulfilment, func(f *Fulfilment) {
		f.Shipments = append(slices.Clone(f.Shipments), e.Shipment)
		f.add(e.Shipment.Lines, func(p *Part) *Decimal { return &p.Shipped })
		if f.Phase == PhaseRouted || f.Phase == PhaseConfirmed {
			f.Phase = PhaseStarted
		}
	})
	o.promise(linesOf(e.Shipment.Lines))
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
	o.promise(linesOf(e.Lines))
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
