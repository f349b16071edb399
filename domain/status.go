package domain

// A Status is an order's state in one word. It is never stored in an event: it follows from the order's quantities,
// its fulfilments' phases and its holds.
type Status string

// The statuses, in the order in which an order that meets no trouble passes them.
const (
	StatusSubmitted        Status = "submitted"
	StatusRejected         Status = "rejected"
	StatusOnHold           Status = "on_hold"
	StatusAccepted         Status = "accepted"
	StatusRouted           Status = "routed"
	StatusConfirmed        Status = "confirmed"
	StatusInFulfilment     Status = "in_fulfilment"
	StatusPartiallyShipped Status = "partially_shipped"
	StatusShipped          Status = "shipped"
	StatusDelivered        Status = "delivered"
	StatusClosed           Status = "closed"
	StatusCancelled        Status = "cancelled"
	StatusWithdrawn        Status = "withdrawn"
)

// Statuses lists every status.
func Statuses() []Status {
	return []Status{
		StatusSubmitted, StatusRejected, StatusOnHold, StatusAccepted, StatusRouted, StatusConfirmed, StatusInFulfilment,
		StatusPartiallyShipped, StatusShipped, StatusDelivered, StatusClosed, StatusCancelled, StatusWithdrawn,
	}
}

// Final reports whether no work is left to do on an order: what follows, such as a return, is an afterthought.
func (s Status) Final() bool {
	switch s {
	case StatusRejected, StatusClosed, StatusCancelled, StatusWithdrawn:
		return true
	}
	return false
}

// Status derives the order's state. The empty Status is that of an order that does not exist.
func (o Order) Status() Status {
	switch {
	case !o.Exists():
		return ""
	case o.WithdrawnFor != "":
		return StatusWithdrawn
	case o.Verdict == VerdictRejected:
		return StatusRejected
	case o.Closed:
		return StatusClosed
	}
	moved := o.movement()
	switch {
	case !moved.active:
		return StatusCancelled
	case moved.delivered:
		return StatusDelivered
	case moved.shipped:
		return StatusShipped
	case len(o.Holds) > 0:
		return StatusOnHold
	case o.Verdict == "":
		return StatusSubmitted
	case moved.begun:
		return StatusPartiallyShipped
	case len(o.Unallocated()) > 0:
		return StatusAccepted
	}
	return o.phase()
}

// movement sums up an order's quantities.
type movement struct {
	active    bool // something is wanted
	begun     bool // something of that has been shipped
	shipped   bool // all of it has been shipped
	delivered bool // all of it has been delivered
}

func (o Order) movement() movement {
	m := movement{shipped: true, delivered: true}
	shares := o.shares(len(o.Lines))
	for i := range o.Lines {
		l := &o.Lines[i]
		active := l.Active()
		if active.Sign() <= 0 {
			continue
		}
		m.active = true
		var shipped, delivered Decimal
		at := shares.of(l.ID)
		for f, p := shares.next(l.ID, &at); f != nil; f, p = shares.next(l.ID, &at) {
			shipped, delivered = plus(shipped, p.Shipped), plus(delivered, p.Delivered)
		}
		m.begun = m.begun || shipped.Sign() > 0
		m.shipped = m.shipped && !shipped.Less(active)
		m.delivered = m.delivered && !delivered.Less(active)
	}
	return m
}

// phase is the status of an order whose whole quantity has a site and of which nothing has been shipped: work has
// begun when one site has begun, and an order is confirmed when all its sites have confirmed.
func (o Order) phase() Status {
	confirmed := true
	for _, f := range o.Fulfilments {
		if !f.Live() {
			continue
		}
		if f.Phase == PhaseStarted {
			return StatusInFulfilment
		}
		confirmed = confirmed && f.Phase == PhaseConfirmed
	}
	if confirmed {
		return StatusConfirmed
	}
	return StatusRouted
}

// Progress is how far a fulfilment has come: in the words of an order's status, or failed or unrouted where it ended
// early.
func (f Fulfilment) Progress() string {
	shipped, delivered, begun := true, true, false
	for _, p := range f.Parts {
		shipped = shipped && !p.Shipped.Less(p.Quantity)
		delivered = delivered && !p.Delivered.Less(p.Quantity)
		begun = begun || p.Shipped.Sign() > 0
	}
	switch {
	case f.Phase == PhaseFailed || f.Phase == PhaseUnrouted:
		return string(f.Phase)
	case begun && delivered:
		return string(StatusDelivered)
	case begun && shipped:
		return string(StatusShipped)
	case begun:
		return string(StatusPartiallyShipped)
	case f.Phase == PhaseStarted:
		return string(StatusInFulfilment)
	}
	return string(f.Phase)
}
