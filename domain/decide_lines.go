package domain

import "slices"

// What changes an order's lines: amending and cancelling.

func (d *decider) amend(a Amend) error {
	if err := firstOf(d.ended, d.unshipped); err != nil {
		return err
	}
	if len(a.Lines) == 0 && len(a.Add) == 0 && a.ShipTo == nil && a.BillTo == nil && a.Terms == nil && a.Personal.IsZero() {
		return refuse(CodeNothingChanged, "the amendment changes nothing")
	}
	if len(d.order.Lines)+len(a.Add) > MaxLines {
		return refuse(CodeTooManyLines, "an order has at most %d lines", MaxLines)
	}
	e := &Amended{
		Lines: a.Lines, Added: numbered(a.Add, len(d.order.Lines)),
		ShipTo: a.ShipTo, BillTo: a.BillTo, Terms: a.Terms, Personal: a.Personal, Reason: a.Reason,
	}
	for _, change := range a.Lines {
		l := d.order.Line(change.Line)
		if l == nil {
			return refuse(CodeUnknownLine, "the order has no line %s", change.Line)
		}
		if change.Quantity == nil {
			continue
		}
		if shipped := d.order.Shipped(l.ID); change.Quantity.Less(shipped) {
			return refuse(CodeBelowShipped, "line %s: %v have been shipped, which is more than %v", l.ID, shipped, *change.Quantity)
		}
		e.Taken = append(e.Taken, d.surplus(l.ID, *change.Quantity)...)
	}
	amended := Evolve(d.order, e)
	totals, err := totalsOf(&amended.Details, amended.Lines)
	if err != nil {
		return inexact()
	}
	e.Totals = totals
	d.emit(e)
	if d.order.Verdict == "" || d.order.Status() == StatusCancelled {
		return nil // whoever releases the order judges the amendment; nobody judges what is not wanted
	}
	switch j := d.policy.Validate(&d.order); j.Verdict {
	case VerdictAccepted:
	case VerdictRejected:
		return refuse(CodeAmendmentRejected, "the rules reject the amended order: %s (%s)", j.Reason.Text, j.Reason.Code)
	default:
		if !slices.ContainsFunc(d.order.Holds, func(h Hold) bool { return h.Reason.Code == j.Reason.Code }) {
			d.putOnHold(j.Reason, j.Role, Date{}, j.Decision)
		}
	}
	return d.place()
}

func (d *decider) cancel(a Cancel) error {
	if err := firstOf(d.ended, d.unshipped); err != nil {
		return err
	}
	lines := a.Lines
	if len(lines) == 0 {
		lines = d.order.open()
	}
	e := &Cancelled{Lines: lines, Reason: a.Reason}
	for _, q := range lines {
		l := d.order.Line(q.Line)
		if l == nil {
			return refuse(CodeUnknownLine, "the order has no line %s", q.Line)
		}
		rest := less(l.Active(), d.order.Shipped(l.ID))
		if rest.Less(q.Quantity) {
			return refuse(CodeOverCancel, "line %s: %v cannot be cancelled, only %v have not been shipped", l.ID, q.Quantity, rest)
		}
		e.Taken = append(e.Taken, d.surplus(l.ID, less(l.Active(), q.Quantity))...)
	}
	return d.cancelled(e)
}

// cancelled completes the event with the totals that it leads to.
func (d *decider) cancelled(e *Cancelled) error {
	after := Evolve(d.order, e)
	totals, err := totalsOf(&after.Details, after.Lines)
	if err != nil {
		return inexact()
	}
	e.Totals = totals
	d.emit(e)
	return nil
}

func inexact() error {
	return malformed("lines", "amount_inexact", "the order's total cannot be computed exactly: quantities, prices or base quantities have too many digits")
}

// open is what is wanted and not shipped yet.
func (o Order) open() []LineQuantity {
	var open []LineQuantity
	for _, l := range o.Lines {
		if q := less(l.Active(), o.Shipped(l.ID)); q.Sign() > 0 {
			open = append(open, LineQuantity{l.ID, q})
		}
	}
	return open
}

// surplus is what sites need no longer fulfil when only the given quantity of a line is wanted. What was given to a
// site last is taken first, and what has been shipped never.
func (d *decider) surplus(line string, wanted Decimal) []PartQuantity {
	surplus := less(d.order.Allocated(line), wanted)
	var taken []PartQuantity
	for _, f := range slices.Backward(d.order.Fulfilments) {
		if surplus.Sign() <= 0 {
			break
		}
		p := f.part(line)
		if p == nil {
			continue
		}
		q := minDecimal(surplus, less(p.Quantity, p.Shipped))
		if q.Sign() <= 0 {
			continue
		}
		taken = append(taken, PartQuantity{Fulfilment: f.ID, Line: line, Quantity: q})
		surplus = less(surplus, q)
	}
	return taken
}
