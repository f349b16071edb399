package domain

import "slices"

// Evolve returns the order after an event. It never fails and decides nothing: what Decide let happen, happened. An
// event that does not fit the order, which only a foreign writer could have stored, changes what it can.
// An event that belongs to no order changes nothing but the count.
//
// The order that was passed in stays as it was.
func Evolve(o Order, e Event) Order {
	draft{&o, false, new(room)}.evolve(e)
	return o
}

// Fold returns the order that events add up to.
func Fold(events []Event) Order {
	var o Order
	d := draft{&o, true, new(room)}
	for _, e := range events {
		d.evolve(e)
	}
	return o
}

// A draft is an order that is being changed.
type draft struct {
	*Order
	own  bool  // its lists are in nobody else's hands, those apart that events brought along
	room *room // for new lists
}

// change returns a list that may be changed and that n elements may be added to.
func change[T any](d draft, list []T, n int, area *area[T]) []T {
	if n == 0 && list == nil || d.own && cap(list)-len(list) >= n {
		return list
	}
	if d.own {
		n = max(n, len(list)) // so that a list that goes on growing is not copied each time
	}
	return append(area.take(len(list)+n), list...)
}

func (o draft) evolve(e Event) {
	o.Events++
	switch e := e.(type) {
	case *Submitted:
		o.submitted(e)
	case *Accepted:
		o.Verdict, o.Decision = VerdictAccepted, e.Decision
	case *Rejected:
		o.Verdict, o.Decision, o.Reason = VerdictRejected, e.Decision, e.Reason
	case *Held:
		o.Holds = append(change(o, o.Holds, 1, o.room.holds), e.Hold)
		o.HoldsEver++
	case *Released:
		o.Holds = slices.DeleteFunc(change(o, o.Holds, 0, o.room.holds), func(h Hold) bool { return h.ID == e.Hold })
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
		if f := o.fulfilment(e.Fulfilment); f != nil {
			f.Phase = PhaseStarted
		}
	case *Shipped:
		o.shipped(e)
	case *Delivered:
		o.delivered(e)
	case *Cancelled:
		o.cancelled(e)
	case *Returned:
		o.Lines = change(o, o.Lines, 0, o.room.lines)
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
		if o.WithdrawnFor != "" {
			o.WithdrawnFor, o.Reason = "", Reason{}
		}
	case *ConflictFound:
		o.Conflicts = append(change(o, o.Conflicts, 1, nil), OrderConflict{Conflict: e.Conflict})
	case *ConflictSettled:
		o.Conflicts = change(o, o.Conflicts, 0, nil)
		if c := o.Conflict(e.Conflict); c != nil {
			c.Settled, c.Answer = true, e.Reason
		}
	}
}

func (o draft) submitted(e *Submitted) {
	o.ID, o.BusinessUnit, o.Number = e.Order, e.BusinessUnit, e.Number
	o.Details, o.Totals, o.Settled = e.Details, e.Totals, e.Settled
	o.Lines = o.room.lines.take(len(e.Lines))[:len(e.Lines)]
	for i, l := range e.Lines {
		o.Lines[i] = OrderLine{Line: l}
	}
	if !e.Personal.IsZero() {
		o.Personal = []Sealed{e.Personal}
	}
}

func (o draft) amended(e *Amended) {
	o.void(e.Lines)
	o.Lines = change(o, o.Lines, len(e.Added), o.room.lines)
	for _, c := range e.Lines {
		l := o.Line(c.Line)
		if l == nil {
			continue
		}
		if c.Quantity != nil {
			l.Quantity = plus(*c.Quantity, l.Cancelled)
		}
		if c.Requested != nil {
			l.Requested = *c.Requested
		}
		if c.Price != nil {
			l.Price = *c.Price
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
		o.Personal = append(change(o, o.Personal, 1, o.room.personal), e.Personal)
	}
}

func (o draft) routed(e *Routed) {
	o.Fulfilments = change(o, o.Fulfilments, len(e.Fulfilments), o.room.fulfilments)
	for _, a := range e.Fulfilments {
		f := Fulfilment{ID: a.ID, Site: a.Site, Phase: PhaseRouted, Decision: e.Decision}
		if len(a.Lines) > 0 {
			f.Parts = o.room.parts.take(len(a.Lines))[:len(a.Lines)]
		}
		for i, q := range a.Lines {
			f.Parts[i] = Part{Line: q.Line, Quantity: q.Quantity}
		}
		o.Fulfilments = append(o.Fulfilments, f)
	}
}

// fulfilment returns a fulfilment that may be changed, its parts included, or nil.
func (o draft) fulfilment(id string) *Fulfilment {
	if o.Fulfilment(id) == nil {
		return nil
	}
	o.Fulfilments = change(o, o.Fulfilments, 0, o.room.fulfilments)
	f := o.Fulfilment(id)
	f.Parts = change(o, f.Parts, 0, o.room.parts)
	return f
}

// ended leaves a fulfilment only what it has shipped.
func (o draft) ended(id string, phase Phase, reason Reason) {
	f := o.fulfilment(id)
	if f == nil {
		return
	}
	f.Phase, f.Reason = phase, reason
	lines := make([]string, len(f.Parts))
	for i := range f.Parts {
		lines[i] = f.Parts[i].Line
		f.Parts[i].Quantity = f.Parts[i].Shipped
	}
	f.Parts = slices.DeleteFunc(f.Parts, func(p Part) bool { return p.Quantity.IsZero() })
	o.promise(len(lines), func(i int) string { return lines[i] })
}

func (o draft) confirmed(e *Confirmed) {
	f := o.fulfilment(e.Fulfilment)
	if f != nil {
		o.answered(f, e.Confirmation)
		if f.Phase == PhaseRouted && e.Confirmation.Outcome != Refuses {
			f.Phase = PhaseConfirmed
		}
	}
	if !slices.ContainsFunc(e.Confirmation.Lines, func(l LineConfirmation) bool { return l.Cancelled.Sign() > 0 }) {
		if f != nil {
			o.promise(len(f.Parts), func(i int) string { return f.Parts[i].Line })
		}
		return
	}
	// What the site cancels is taken from it by the event that follows. Until then, too, it need not be promised.
	copied := *o.Order
	after := draft{&copied, false, o.room}
	after.cancelled(e.cancels())
	if f != nil {
		after.promise(len(f.Parts), func(i int) string { return f.Parts[i].Line })
	}
	o.Lines = change(o, o.Lines, 0, o.room.lines)
	for i := range o.Lines {
		l := &after.Lines[i]
		o.Lines[i].Promised, o.Lines[i].FirstPromised = l.Promised, l.FirstPromised
	}
}

// answered keeps a site's answer, and what the site said earlier of lines that the answer does not name. A refusal
// leaves nothing of that.
func (o draft) answered(f *Fulfilment, c Confirmation) {
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
	f.Confirmation = &append(o.room.confirmations.take(1), c)[0]
}

// void forgets what sites have promised of lines that the buyer changes.
func (o draft) void(changes []LineChange) {
	o.Fulfilments = change(o, o.Fulfilments, 0, o.room.fulfilments)
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

// promise derives what is promised of n lines from the rest of the order.
func (o draft) promise(n int, line func(int) string) {
	shares := o.shares(n)
	changed := false
	for k := range n {
		i := o.line(line(k))
		if i < 0 {
			continue
		}
		day := promised(&o.Lines[i], &shares)
		if day == o.Lines[i].Promised {
			continue
		}
		if !changed {
			o.Lines, changed = change(o, o.Lines, 0, o.room.lines), true
		}
		l := &o.Lines[i]
		l.Promised = day
		if l.FirstPromised == "" {
			l.FirstPromised = day
		}
	}
}

// promised is what [OrderLine.Promised] says of a line.
func promised(l *OrderLine, shares *shares) string {
	var allocated Decimal
	last, live, silent := "", false, false
	at := shares.of(l.ID)
	for f, p := shares.next(l.ID, &at); f != nil; f, p = shares.next(l.ID, &at) {
		allocated = plus(allocated, p.Quantity)
		if !p.Delivered.Less(p.Quantity) {
			continue
		}
		day := f.due(p)
		if p.Shipped.Less(p.Quantity) {
			live = true
			silent = silent || day == ""
		}
		if day > last {
			last = day
		}
	}
	switch {
	case silent, allocated.Less(less(l.Quantity, l.Cancelled)):
		return ""
	case !live:
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
	for i := range c.Promises {
		q := &c.Promises[i]
		promised = plus(promised, q.Quantity)
		if q.Date.Day > day {
			day = q.Date.Day
		}
	}
	if promised.Less(less(p.Quantity, p.Shipped)) {
		return ""
	}
	return day
}

func (o draft) shipped(e *Shipped) {
	if f := o.fulfilment(e.Fulfilment); f != nil {
		f.Shipments = append(change(o, f.Shipments, 1, o.room.shipments), e.Shipment)
		f.add(e.Shipment.Lines, func(p *Part) *Decimal { return &p.Shipped })
		if f.Phase == PhaseRouted || f.Phase == PhaseConfirmed {
			f.Phase = PhaseStarted
		}
	}
	o.promise(len(e.Shipment.Lines), func(i int) string { return e.Shipment.Lines[i].Line })
}

// delivered notes what has arrived. What names no shipment is taken to come from the oldest one under way.
func (o draft) delivered(e *Delivered) {
	if f := o.fulfilment(e.Fulfilment); f != nil {
		f.add(e.Lines, func(p *Part) *Decimal { return &p.Delivered })
		f.Arrived = change(o, f.Arrived, len(e.Lines), o.room.arrivals)
		f.arrive(e)
	}
	o.promise(len(e.Lines), func(i int) string { return e.Lines[i].Line })
}

func (f *Fulfilment) arrive(e *Delivered) {
	rest := append(make([]LineQuantity, 0, few), e.Lines...)
	var byShipment map[string][]Arrival // made where there are many
	if len(f.Arrived) > few {
		byShipment = make(map[string][]Arrival, len(f.Shipments))
		for _, a := range f.Arrived {
			byShipment[a.Shipment] = append(byShipment[a.Shipment], a)
		}
	}
	for i := range f.Shipments {
		s := &f.Shipments[i]
		if e.Shipment != "" && e.Shipment != s.ID {
			continue
		}
		arrived := f.Arrived
		if byShipment != nil {
			arrived = byShipment[s.ID]
		}
		var byLine map[string]Decimal
		if len(rest) > few {
			byLine = s.underWay(arrived)
		}
		for j := range rest {
			q := &rest[j]
			var left Decimal
			if byLine != nil {
				left = byLine[q.Line]
			} else if !q.Quantity.IsZero() {
				left = s.left(q.Line, arrived)
			}
			if n := minDecimal(q.Quantity, left); n.Sign() > 0 {
				a := Arrival{Shipment: s.ID, Line: q.Line, Quantity: n}
				f.Arrived = append(f.Arrived, a)
				if byShipment != nil {
					byShipment[s.ID] = append(byShipment[s.ID], a)
				}
				q.Quantity = less(q.Quantity, n)
			}
		}
	}
}

func (o draft) cancelled(e *Cancelled) {
	o.Lines = change(o, o.Lines, 0, o.room.lines)
	for _, q := range e.Lines {
		if l := o.Line(q.Line); l != nil {
			l.Cancelled = plus(l.Cancelled, q.Quantity)
		}
	}
	o.take(e.Taken)
	o.Totals, o.Reason = e.Totals, e.Reason
	o.promise(len(e.Lines), func(i int) string { return e.Lines[i].Line })
}

// take lowers what sites have to fulfil.
func (o draft) take(taken []PartQuantity) {
	if len(taken) == 0 {
		return
	}
	byFulfilment := make(map[string][]PartQuantity, 1)
	for _, t := range taken {
		byFulfilment[t.Fulfilment] = append(byFulfilment[t.Fulfilment], t)
	}
	for id, parts := range byFulfilment {
		f := o.fulfilment(id)
		if f == nil {
			continue
		}
		for _, t := range parts {
			if p := f.part(t.Line); p != nil {
				p.Quantity = less(p.Quantity, t.Quantity)
			}
		}
	}
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
