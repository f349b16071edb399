package domain

import (
	"slices"
	"strconv"
	"time"
)

// The codes of reasons that Decide gives by itself.
const (
	ReasonNoSiteLeft       = "no_site_left"      // of the hold on an order that no site can fulfil
	ReasonCompleteDelivery = "complete_delivery" // of taking parts away from sites so that one site gets them all
)

// Decide returns the events that a command leads to, at least one, or a [*Refused] or [*Malformed] that says why
// there are none. It is pure: the same order, command, policy and time give the same answer. It looks at no personal
// data. The time serves to tell what cannot have happened yet; order comes from revisions alone.
func Decide(o Order, c Command, p Policy, now time.Time) ([]Event, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	events, _, err := DecideChecked(o, c, p, now)
	return events, err
}

// DecideChecked is Decide for a command that [Command.Check] has accepted. It also returns the order as the events leave
// it.
func DecideChecked(o Order, c Command, p Policy, now time.Time) ([]Event, Order, error) {
	d := &decider{order: o, policy: p}
	if err := d.decide(c, now); err != nil {
		return nil, o, err
	}
	return d.events, d.order, nil
}

// A decider gathers events, and the order as they leave it.
type decider struct {
	order  Order
	policy Policy
	events []Event
}

func (d *decider) emit(e Event) {
	d.events = append(d.events, e)
	d.order = Evolve(d.order, e)
}

func (d *decider) decide(c Command, now time.Time) error {
	if c.Occurred.After(now.Add(24 * time.Hour)) {
		return malformed("occurred", "in_future", "%s has not happened yet", c.Occurred.Format(time.RFC3339))
	}
	if submit, ok := c.Do.(Submit); ok {
		return d.submit(c, submit)
	}
	if !d.order.Exists() || d.order.BusinessUnit != c.BusinessUnit {
		return refuse(CodeUnknownOrder, "there is no order %s", c.Order)
	}
	if c.Expected != nil && *c.Expected != d.order.Revision() {
		return refuse(CodeStaleRevision, "the order has changed: it is at revision %d, not %d", d.order.Revision(), *c.Expected)
	}
	return d.do(c.Do)
}

func (d *decider) do(a Action) error {
	switch a := a.(type) {
	case Amend:
		return d.amend(a)
	case PlaceHold:
		return d.hold(a)
	case Release:
		return d.release(a)
	case Cancel:
		return d.cancel(a)
	case Route:
		return d.route(a)
	case Reroute:
		return d.reroute(a)
	case Confirm:
		return d.confirm(a)
	case StartFulfilment:
		return d.start(a)
	case Ship:
		return d.ship(a)
	case Deliver:
		return d.deliver(a)
	case ReportFailure:
		return d.fail(a)
	case Return:
		return d.takeBack(a)
	case Close:
		return d.close(a)
	case Withdraw:
		return d.withdraw(a)
	case Move:
		return d.move(a)
	case RecordConflict:
		return d.recordConflict(a)
	case Settle:
		return d.settle(a)
	}
	return malformed("", "unknown_action", "%T is no action", a)
}

func (d *decider) submit(c Command, a Submit) error {
	if d.order.Exists() {
		return refuse(CodeOrderExists, "order %s exists already", d.order.Number)
	}
	if a.Settled && a.Channel != ChannelImport {
		return malformed("settled", "unexpected", "only an order of channel %s was fulfilled elsewhere", ChannelImport)
	}
	e := &Submitted{
		Order: c.Order, BusinessUnit: c.BusinessUnit, Number: Number(c.Order),
		Details: a.Details, Lines: numbered(a.Lines, 0), Settled: a.Settled, Personal: a.Personal,
	}
	if e.Kind == "" {
		e.Kind = Standard
	}
	totals, err := totalsAsked(&e.Details, e.Lines)
	if err != nil {
		return inexact()
	}
	e.Totals = totals
	d.emit(e)
	if a.Settled {
		d.emit(&Accepted{})
		d.emit(&Closed{Reason: Reason{Code: "settled"}})
		return nil
	}
	switch j := d.policy.Validate(&d.order); j.Verdict {
	case VerdictAccepted:
		d.emit(&Accepted{Decision: j.Decision})
		return d.place()
	case VerdictRejected:
		d.emit(&Rejected{Reason: j.Reason, Decision: j.Decision})
	default:
		d.putOnHold(j.Reason, j.Role, Date{}, j.Decision)
	}
	return nil
}

// ChannelImport is the channel of orders that come from another system's history.
const ChannelImport = "import"

// numbered returns lines with our ids, which go on after the first n.
func numbered(lines []Line, n int) []Line {
	lines = slices.Clone(lines)
	for i := range lines {
		lines[i].ID = strconv.Itoa(n + i + 1)
	}
	return lines
}

// place finds sites for what has none, and holds the order where there are none. An order that is on hold waits.
func (d *decider) place() error {
	if len(d.order.Holds) > 0 {
		return nil
	}
	d.gather()
	open := d.order.Unallocated()
	if len(open) == 0 {
		return nil
	}
	routing, deferred, err := d.find(open)
	switch {
	case err != nil:
		return err
	case routing != nil:
		d.emit(routing)
	case !deferred:
		d.putOnHold(Reason{Code: ReasonNoSiteLeft, Text: "no site is left that can fulfil the order"}, "", Date{}, Decision{})
	}
	return nil
}

// gathering is why gather takes parts away from sites.
var gathering = Reason{Code: ReasonCompleteDelivery, Text: "one site is to deliver the whole order"}

// gather takes an order that is to be delivered at once away from its sites where it would be fulfilled by more than
// one: an amendment added to it, or asked for complete delivery only now.
func (d *decider) gather() {
	if !d.order.Terms.CompleteDelivery {
		return
	}
	var live []string
	for _, f := range d.order.Fulfilments {
		if f.Live() {
			live = append(live, f.ID)
		}
	}
	if len(live) == 0 || len(live) == 1 && len(d.order.Unallocated()) == 0 {
		return
	}
	for _, id := range live {
		d.emit(&Unrouted{Fulfilment: id, Reason: gathering})
	}
}

// find asks the policy for sites. It returns nil where none are left, or where the policy defers the matter.
func (d *decider) find(open []LineQuantity, excluded ...string) (routed *Routed, deferred bool, err error) {
	excluded = append(d.order.FailedSites(), excluded...)
	routing := d.policy.Route(&d.order, open, excluded)
	split := d.order.Terms.CompleteDelivery && len(routing.Allocations) > 1
	if routing.Deferred || split || !covers(routing.Allocations, open, excluded) {
		return nil, routing.Deferred, nil
	}
	routed, err = d.allocate(routing.Allocations, routing.Decision, Reason{})
	return routed, false, err
}

// covers reports whether allocations give away exactly what is open, and nothing to a site that is excluded.
func covers(allocations []Allocation, open []LineQuantity, excluded []string) bool {
	rest := make(map[string]Decimal, len(open))
	for _, q := range open {
		rest[q.Line] = q.Quantity
	}
	for _, a := range allocations {
		if a.Site == "" || len(a.Lines) == 0 || slices.Contains(excluded, a.Site) {
			return false
		}
		named := make(map[string]bool, len(a.Lines))
		for _, q := range a.Lines {
			if named[q.Line] || q.Quantity.Sign() <= 0 || rest[q.Line].Less(q.Quantity) {
				return false
			}
			named[q.Line] = true
			rest[q.Line] = less(rest[q.Line], q.Quantity)
		}
	}
	for _, q := range rest {
		if !q.IsZero() {
			return false
		}
	}
	return true
}

// allocate makes new fulfilments.
func (d *decider) allocate(allocations []Allocation, decision Decision, reason Reason) (*Routed, error) {
	n := len(d.order.Fulfilments)
	if n+len(allocations) > MaxFulfilments {
		return nil, refuse(CodeTooManyFulfilments, "the order has had %d fulfilments, and %d is the most", n, MaxFulfilments)
	}
	allocations = slices.Clone(allocations)
	for i := range allocations {
		allocations[i].ID = "f" + strconv.Itoa(n+i+1)
	}
	return &Routed{Fulfilments: allocations, Decision: decision, Reason: reason}, nil
}

func (d *decider) putOnHold(reason Reason, role string, until Date, decision Decision) {
	id := "h" + strconv.Itoa(d.order.HoldsEver+1)
	d.emit(&Held{Hold: Hold{ID: id, Reason: reason, Role: role, Until: until, Decision: decision}})
}

// ended refuses what may not be done to an order that has come to its end.
func (d *decider) ended() error {
	switch d.order.Status() {
	case StatusWithdrawn:
		return refuse(CodeWithdrawn, "the order was withdrawn: ledger %s has it", d.order.WithdrawnFor)
	case StatusRejected:
		return refuse(CodeRejected, "the order was rejected")
	case StatusCancelled:
		return refuse(CodeCancelled, "the order was cancelled")
	case StatusClosed:
		return refuse(CodeClosed, "the order is closed")
	}
	return nil
}

// under refuses what may not be done while the order is on hold.
func (d *decider) under() error {
	if len(d.order.Holds) > 0 {
		h := d.order.Holds[0]
		return refuse(CodeOnHold, "the order is on hold (%s: %s)", h.ID, h.Reason.Code)
	}
	return nil
}

// accepted refuses what may only be done once the order has been found good.
func (d *decider) accepted() error {
	if d.order.Verdict != VerdictAccepted {
		return refuse(CodeNotAccepted, "the order has not been accepted yet")
	}
	return nil
}

// unshipped refuses what may only be done while something is left to ship.
func (d *decider) unshipped() error {
	if d.order.movement().shipped {
		return refuse(CodeShipped, "the whole order has been shipped")
	}
	return nil
}

func (d *decider) hold(a PlaceHold) error {
	if err := firstOf(d.ended, d.unshipped); err != nil {
		return err
	}
	if len(d.order.Holds) >= MaxHolds {
		return refuse(CodeTooManyHolds, "%d holds are open, and that is the most", MaxHolds)
	}
	d.putOnHold(a.Reason, a.Role, a.Until, Decision{})
	return nil
}

func (d *decider) release(a Release) error {
	if err := d.ended(); err != nil {
		return err
	}
	id := a.Hold
	if id == "" && len(d.order.Holds) > 1 {
		return refuse(CodeAmbiguousHold, "%d holds are open: name the one to release", len(d.order.Holds))
	}
	if id == "" && len(d.order.Holds) == 1 {
		id = d.order.Holds[0].ID
	}
	if !slices.ContainsFunc(d.order.Holds, func(h Hold) bool { return h.ID == id }) {
		return refuse(CodeUnknownHold, "no such hold is open")
	}
	d.emit(&Released{Hold: id, Reason: a.Reason})
	if len(d.order.Holds) > 0 {
		return nil
	}
	if d.order.Verdict == "" {
		d.emit(&Accepted{})
	}
	// Where no site is found the order stays accepted rather than be held again at once: somebody will route it.
	d.gather()
	if open := d.order.Unallocated(); len(open) > 0 {
		routing, _, err := d.find(open)
		if err != nil {
			return err
		}
		if routing != nil {
			d.emit(routing)
		}
	}
	return nil
}

func (d *decider) takeBack(a Return) error {
	switch d.order.Status() {
	case StatusWithdrawn, StatusRejected, StatusCancelled:
		return d.ended()
	}
	for _, q := range a.Lines {
		l := d.order.Line(q.Line)
		if l == nil {
			return refuse(CodeUnknownLine, "the order has no line %s", q.Line)
		}
		rest := less(d.returnable(l), l.Returned)
		if rest.Less(q.Quantity) {
			return refuse(CodeOverReturn, "line %s: %v cannot come back, only %v", q.Line, q.Quantity, rest)
		}
	}
	d.emit(&Returned{Lines: a.Lines, Reference: a.Reference, Reason: a.Reason})
	return nil
}

// returnable is how much of a line the buyer has had: what was delivered, or all that was shipped once the order is
// closed, because of an order ex works nobody tells that it arrived.
func (d *decider) returnable(l *OrderLine) Decimal {
	switch {
	case d.order.Settled:
		return l.Active()
	case d.order.Closed:
		return d.order.Shipped(l.ID)
	}
	return d.order.Delivered(l.ID)
}

func (d *decider) close(a Close) error {
	if err := d.ended(); err != nil {
		return err
	}
	if !d.order.movement().shipped {
		return refuse(CodeNotShipped, "the order has not been shipped in full: ship or cancel the rest first")
	}
	d.emit(&Closed{Reason: a.Reason})
	return nil
}

func firstOf(refusals ...func() error) error {
	for _, refusal := range refusals {
		if err := refusal(); err != nil {
			return err
		}
	}
	return nil
}
