package domain

import (
	"slices"
	"strconv"
)

// What concerns fulfilments: routing, and what sites report.

func (d *decider) route(a Route) error {
	if err := firstOf(d.ended, d.under, d.accepted); err != nil {
		return err
	}
	if len(d.order.Unallocated()) == 0 {
		return refuse(CodeNothingToRoute, "every line has its site")
	}
	d.gather()
	return d.send(d.order.Unallocated(), a.Site, a.Reason)
}

// send gives what is open to a site, or to those that the policy finds.
func (d *decider) send(open []LineQuantity, site string, reason Reason, excluded ...string) error {
	var routing *Routed
	var err error
	if site != "" {
		routing, err = d.allocate([]Allocation{{Site: site, Lines: open}}, Decision{}, reason)
	} else {
		routing, _, err = d.find(open, excluded...)
	}
	if err != nil {
		return err
	}
	if routing == nil {
		return refuse(CodeNoSiteLeft, "the rules find no site for the order")
	}
	d.emit(routing)
	return nil
}

func (d *decider) reroute(a Reroute) error {
	if err := firstOf(d.ended, d.under); err != nil {
		return err
	}
	f, err := d.live(a.Fulfilment)
	if err != nil {
		return err
	}
	if a.Site == f.Site {
		return refuse(CodeNothingChanged, "%s is at %s already", f.ID, f.Site)
	}
	site := f.Site
	d.emit(&Unrouted{Fulfilment: f.ID, Reason: a.Reason})
	return d.send(d.order.Unallocated(), a.Site, a.Reason, site)
}

// live returns a fulfilment of which something is left to ship.
func (d *decider) live(id string) (*Fulfilment, error) {
	f := d.order.Fulfilment(id)
	switch {
	case f == nil:
		return nil, refuse(CodeUnknownFulfilment, "the order has no fulfilment %s", id)
	case f.Phase == PhaseFailed || f.Phase == PhaseUnrouted:
		return nil, refuse(CodeFulfilmentEnded, "fulfilment %s has ended (%s)", id, f.Phase)
	case !f.Live():
		return nil, refuse(CodeFulfilmentEnded, "nothing is left to ship of fulfilment %s", id)
	}
	return f, nil
}

func (d *decider) confirm(a Confirm) error {
	if err := d.ended(); err != nil {
		return err
	}
	f, err := d.live(a.Fulfilment)
	if err != nil {
		return err
	}
	if a.Outcome == Refuses {
		d.emit(&Confirmed{Fulfilment: f.ID, Confirmation: a.Confirmation})
		d.emit(&FulfilmentFailed{Fulfilment: f.ID, Reason: a.Reason})
		return d.place()
	}
	for _, l := range a.Lines {
		p := f.part(l.Line)
		if p == nil {
			return refuse(CodeUnknownLine, "fulfilment %s has no line %s", f.ID, l.Line)
		}
		answered, err := l.answered()
		if rest := less(p.Quantity, p.Shipped); err != nil || rest.Less(answered) {
			return refuse(CodeOverConfirmation, "line %s: the answer is for %v, and %v are left", l.Line, answered, rest)
		}
	}
	e := &Confirmed{Fulfilment: f.ID, Confirmation: a.Confirmation}
	d.emit(e)
	if cancelled := e.cancels(); len(cancelled.Lines) > 0 {
		return d.cancelled(cancelled)
	}
	return nil
}

// cancels is what follows from an answer by which a site cancels some of its lines.
func (e *Confirmed) cancels() *Cancelled {
	c := &Cancelled{Reason: Reason{Code: "cancelled_by_site"}}
	for _, l := range e.Confirmation.Lines {
		if l.Cancelled.Sign() > 0 {
			c.Lines = append(c.Lines, LineQuantity{l.Line, l.Cancelled})
			c.Taken = append(c.Taken, PartQuantity{e.Fulfilment, l.Line, l.Cancelled})
		}
	}
	return c
}

// answered is the quantity that a site's answer accounts for.
func (l LineConfirmation) answered() (Decimal, error) {
	sum, err := l.Backordered.Add(l.Cancelled)
	for _, p := range l.Promises {
		if err == nil {
			sum, err = sum.Add(p.Quantity)
		}
	}
	return sum, err
}

func (d *decider) start(a StartFulfilment) error {
	if err := firstOf(d.ended, d.under); err != nil {
		return err
	}
	f, err := d.live(a.Fulfilment)
	if err != nil {
		return err
	}
	if f.Phase == PhaseStarted {
		return refuse(CodeAlreadyStarted, "fulfilment %s has begun already", f.ID)
	}
	d.emit(&FulfilmentStarted{Fulfilment: f.ID})
	return nil
}

func (d *decider) ship(a Ship) error {
	if err := firstOf(d.ended, d.under); err != nil {
		return err
	}
	f := d.order.Fulfilment(a.Fulfilment)
	if f == nil || f.Phase == PhaseFailed || f.Phase == PhaseUnrouted {
		_, err := d.live(a.Fulfilment)
		return err
	}
	s := a.Shipment
	if len(s.Lines) == 0 {
		s.Lines = f.rest(func(p Part) Decimal { return less(p.Quantity, p.Shipped) })
		if len(s.Lines) == 0 {
			return refuse(CodeOverShipment, "all of fulfilment %s has been shipped", f.ID)
		}
	}
	for _, q := range s.Lines {
		p := f.part(q.Line)
		if p == nil {
			return refuse(CodeUnknownLine, "fulfilment %s has no line %s", f.ID, q.Line)
		}
		if rest := less(p.Quantity, p.Shipped); rest.Less(q.Quantity) {
			return refuse(CodeOverShipment, "line %s: %v cannot be shipped, only %v are left", q.Line, q.Quantity, rest)
		}
	}
	if s.ID == "" {
		s.ID = d.order.nextShipment()
	}
	if f.shipment(s.ID) >= 0 {
		return refuse(CodeShipmentExists, "fulfilment %s has a shipment %s already", f.ID, s.ID)
	}
	e := &Shipped{Fulfilment: f.ID, Shipment: s}
	if d.order.Terms.CompleteDelivery && !Evolve(d.order, e).movement().shipped {
		return refuse(CodeIncomplete, "the order is to be delivered at once, and this is not all of it")
	}
	d.emit(e)
	return nil
}

// rest lists those quantities of a fulfilment's parts that are above zero.
func (f *Fulfilment) rest(of func(Part) Decimal) []LineQuantity {
	var rest []LineQuantity
	for _, p := range f.Parts {
		if q := of(p); q.Sign() > 0 {
			rest = append(rest, LineQuantity{p.Line, q})
		}
	}
	return rest
}

// left lists what is still under way of a shipment.
func (f *Fulfilment) left(s Shipment) []LineQuantity {
	var left []LineQuantity
	underWay := f.underWay(s)
	for _, q := range s.Lines {
		if n := underWay[q.Line]; n.Sign() > 0 {
			left = append(left, LineQuantity{q.Line, n})
		}
	}
	return left
}

// nextShipment is an id for a shipment to which its site gave none: s1, s2, …, passing over what sites have taken.
func (o Order) nextShipment() string {
	n := 1
	for _, f := range o.Fulfilments {
		n += len(f.Shipments)
	}
	taken := func() bool {
		id := "s" + strconv.Itoa(n)
		return slices.ContainsFunc(o.Fulfilments, func(f Fulfilment) bool { return f.shipment(id) >= 0 })
	}
	for taken() {
		n++
	}
	return "s" + strconv.Itoa(n)
}

// shipment is the place of a shipment in the fulfilment, or −1. A site numbers its shipments by itself, so two sites
// may use one number.
func (f *Fulfilment) shipment(id string) int {
	return slices.IndexFunc(f.Shipments, func(s Shipment) bool { return s.ID == id })
}

// deliver may come after the order was closed: carriers report late, and billing does not wait for them.
func (d *decider) deliver(a Deliver) error {
	if err := d.ended(); err != nil && d.order.Status() != StatusClosed {
		return err
	}
	f := d.order.Fulfilment(a.Fulfilment)
	if f == nil {
		return refuse(CodeUnknownFulfilment, "the order has no fulfilment %s", a.Fulfilment)
	}
	underWay := f.rest(func(p Part) Decimal { return less(p.Shipped, p.Delivered) })
	if len(underWay) == 0 {
		if len(f.Shipments) == 0 {
			return refuse(CodeNotShipped, "nothing of fulfilment %s has been shipped", f.ID)
		}
		return refuse(CodeAlreadyDelivered, "all that was shipped of fulfilment %s has been delivered", f.ID)
	}
	lines := a.Lines
	if a.Shipment != "" {
		i := f.shipment(a.Shipment)
		if i < 0 {
			return refuse(CodeUnknownShipment, "fulfilment %s has no shipment %s", f.ID, a.Shipment)
		}
		if len(lines) == 0 {
			lines = f.left(f.Shipments[i])
			if len(lines) == 0 {
				return refuse(CodeAlreadyDelivered, "all that shipment %s held has been delivered", a.Shipment)
			}
		}
		shipment := f.underWay(f.Shipments[i])
		for _, q := range lines {
			switch rest := shipment[q.Line]; {
			case rest.IsZero():
				return refuse(CodeAlreadyDelivered, "shipment %s: all that it held of line %s has been delivered", a.Shipment, q.Line)
			case rest.Less(q.Quantity):
				return refuse(CodeOverDelivery, "shipment %s, line %s: %v cannot have arrived, only %v are under way", a.Shipment, q.Line, q.Quantity, rest)
			}
		}
	}
	if len(lines) == 0 {
		lines = underWay
	}
	for _, q := range lines {
		p := f.part(q.Line)
		if p == nil {
			return refuse(CodeUnknownLine, "fulfilment %s has no line %s", f.ID, q.Line)
		}
		rest := less(p.Shipped, p.Delivered)
		switch {
		case rest.IsZero() && p.Delivered.Sign() > 0:
			return refuse(CodeAlreadyDelivered, "line %s: all that was shipped has been delivered", q.Line)
		case rest.Less(q.Quantity):
			return refuse(CodeOverDelivery, "line %s: %v cannot have arrived, only %v are under way", q.Line, q.Quantity, rest)
		}
	}
	d.emit(&Delivered{Fulfilment: f.ID, Shipment: a.Shipment, Lines: lines, Proof: a.Proof})
	return nil
}

// fail replaces a site that cannot fulfil by the next one, in the same append.
func (d *decider) fail(a ReportFailure) error {
	if err := d.ended(); err != nil {
		return err
	}
	f, err := d.live(a.Fulfilment)
	if err != nil {
		return err
	}
	d.emit(&FulfilmentFailed{Fulfilment: f.ID, Reason: a.Reason})
	return d.place()
}
