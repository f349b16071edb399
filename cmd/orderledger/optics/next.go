package optics

import (
	"time"

	"github.com/orderledger/orderledger/domain"
)

// Next returns what happens next to the order as it stands, and false at the end of its life.
func (l *Life) Next(o domain.Order) (Step, bool) {
	switch o.Status() {
	case domain.StatusOnHold:
		return l.onHold(o)
	case domain.StatusAccepted:
		return l.after(l.between(hour, 5*hour), person("dispatcher"), domain.Route{Site: "JENA-PLANT", Reason: domain.Reason{Code: "by_hand"}})
	case domain.StatusDelivered:
		return l.afterDelivery(o)
	case domain.StatusClosed:
		if l.plan == regretted && l.once("returned") {
			return l.giveBack(o)
		}
		return Step{}, false
	case domain.StatusRejected, domain.StatusCancelled:
		return Step{}, false
	}
	if s, ok := l.trouble(o); ok {
		return s, true
	}
	for i := range o.Fulfilments {
		if s, ok := l.work(&o.Fulfilments[i]); ok {
			return s, true
		}
	}
	return Step{}, false
}

func (l *Life) onHold(o domain.Order) (Step, bool) {
	h := o.Holds[0]
	switch {
	case l.plan == stuck:
		return Step{}, false
	case l.plan == unprescribed && l.once("prescription"):
		line := o.Lines[len(o.Lines)-1]
		return l.after(l.between(4*hour, day), person("optician"), domain.Amend{
			Lines:  []domain.LineChange{{Line: line.ID, Quantity: new(domain.Decimal)}},
			Reason: domain.Reason{Code: "no_prescription", Text: "The customer orders the prescription lenses anew."},
		})
	}
	role := h.Role
	if role == "" {
		role = "dispatcher"
	}
	return l.after(l.between(3*hour, day), person(role), domain.Release{Hold: h.ID, Reason: domain.Reason{Code: "checked"}})
}

// trouble is what a plan brings before the goods have left.
func (l *Life) trouble(o domain.Order) (Step, bool) {
	if len(o.Fulfilments) == 0 {
		return Step{}, false
	}
	first := &o.Fulfilments[0]
	confirmed := first.Phase == domain.PhaseConfirmed
	customer := person("customer")
	switch {
	case l.plan == questioned && l.once("held"):
		return l.after(l.between(hour, 4*hour), person("order_desk"), domain.PlaceHold{
			Reason: domain.Reason{Code: "address_check", Text: "The carrier does not know the address."}, Role: "order_desk",
		})
	case l.plan == amended && confirmed && l.once("amended"):
		more, err := o.Lines[0].Active().Add(domain.Whole(2))
		if err != nil {
			return Step{}, false
		}
		return l.after(l.between(hour, 6*hour), customer, domain.Amend{
			Lines:  []domain.LineChange{{Line: o.Lines[0].ID, Quantity: &more}},
			Reason: domain.Reason{Code: "customer_request", Text: "Two more, please."},
		})
	case l.plan == shrunk && confirmed && len(o.Lines) > 1 && l.once("amended"):
		return l.after(l.between(hour, 6*hour), customer, domain.Amend{
			Lines:  []domain.LineChange{{Line: o.Lines[1].ID, Quantity: new(domain.Decimal)}},
			Reason: domain.Reason{Code: "customer_request", Text: "Not needed any more."},
		})
	case l.plan == cancelled && confirmed && l.once("cancelled"):
		return l.after(l.between(hour, day), customer, domain.Cancel{Reason: domain.Reason{Code: "customer_request"}})
	case l.plan == failing && confirmed && l.once("failed"):
		return l.after(l.between(6*hour, day), site(first.Site), domain.ReportFailure{
			Fulfilment: first.ID, Reason: domain.Reason{Code: "machine_down", Text: "The coating line is down for a week."},
		})
	case l.plan == moved && confirmed && l.once("moved"):
		return l.after(l.between(2*hour, 10*hour), person("dispatcher"), domain.Reroute{
			Fulfilment: first.ID, Site: "ROCHESTER-PLANT", Reason: domain.Reason{Code: "capacity", Text: "Another site has room this week."},
		})
	}
	return Step{}, false
}

// work is what a site does next with its fulfilment.
func (l *Life) work(f *domain.Fulfilment) (Step, bool) {
	shipped, arriving := false, false
	for _, p := range f.Parts {
		shipped = shipped || p.Shipped.Sign() > 0
		arriving = arriving || p.Delivered.Less(p.Shipped)
	}
	actor := site(f.Site)
	switch {
	case f.Live() && f.Phase == domain.PhaseRouted:
		return l.confirm(f)
	case f.Live() && f.Phase == domain.PhaseConfirmed:
		return l.after(l.between(3*hour, 20*hour), actor, domain.StartFulfilment{Fulfilment: f.ID})
	case l.plan == abandoned && shipped && l.once("abandoned") && f.Live():
		return l.after(l.between(day, 2*day), person("customer"), domain.Cancel{Reason: domain.Reason{Code: "customer_request", Text: "The rest comes too late."}})
	case f.Live():
		return l.after(l.between(4*hour, 30*hour), actor, domain.Ship{Fulfilment: f.ID, Shipment: l.shipment(f, shipped)})
	case arriving:
		wait := l.between(day, 4*day)
		if l.plan == late {
			wait += 8 * day
		}
		return l.after(wait, domain.Actor{Kind: "system", Issuer: "demo", Subject: "carrier"}, domain.Deliver{Fulfilment: f.ID})
	}
	return Step{}, false
}

func (l *Life) confirm(f *domain.Fulfilment) (Step, bool) {
	if l.plan == refused && l.once("refused") {
		return l.after(l.between(2*hour, 8*hour), site(f.Site), domain.Confirm{Fulfilment: f.ID, Confirmation: domain.Confirmation{
			Outcome: domain.Refuses, Reason: domain.Reason{Code: "out_of_stock", Text: "The article is out of stock until next month."},
		}})
	}
	c := domain.Confirmation{Outcome: domain.Accepts, Reference: f.Site[:3] + "-" + l.key[5:] + "-" + f.ID}
	due := domain.Date{Day: l.day(l.now + 5*day)}
	for _, p := range f.Parts {
		if rest, err := p.Quantity.Sub(p.Shipped); err == nil && rest.Sign() > 0 {
			c.Lines = append(c.Lines, domain.LineConfirmation{
				Line: p.Line, Promises: []domain.Promise{{Quantity: rest, Kind: "deliver", Date: due}},
			})
		}
	}
	return l.after(l.between(2*hour, 10*hour), site(f.Site), domain.Confirm{Fulfilment: f.ID, Confirmation: c})
}

// shipment is all that is left, or a first part of it.
func (l *Life) shipment(f *domain.Fulfilment, second bool) domain.Shipment {
	s := domain.Shipment{
		Carrier:  []string{"Northern Parcel", "Blue Crane", "Continental Freight"}[l.rand.IntN(3)],
		Tracking: "TR" + l.key[5:] + "-" + f.ID,
	}
	part := l.plan == abandoned || l.plan == plain && l.rand.IntN(12) == 0
	if p := f.Parts[0]; !second && part && domain.Whole(1).Less(p.Quantity) && p.Shipped.IsZero() {
		s.Lines = []domain.LineQuantity{{Line: p.Line, Quantity: domain.Whole(1)}}
	}
	return s
}

func (l *Life) afterDelivery(o domain.Order) (Step, bool) {
	last := o.Fulfilments[len(o.Fulfilments)-1]
	switch {
	case l.plan == doubled && l.once("doubled"):
		s, ok := l.after(l.between(hour, 5*hour), domain.Actor{Kind: "system", Issuer: "demo", Subject: "carrier"}, domain.Deliver{Fulfilment: last.ID})
		s.Refuse = true
		return s, ok
	case l.plan == returned && l.once("returned"):
		return l.giveBack(o)
	case l.plan == delivered:
		return Step{}, false
	}
	return l.after(l.between(day, 3*day), domain.Actor{Kind: "system", Issuer: "demo", Subject: "billing"}, domain.Close{Reason: domain.Reason{Code: "invoiced"}})
}

func (l *Life) giveBack(o domain.Order) (Step, bool) {
	for _, line := range o.Lines {
		if o.Delivered(line.ID).Sign() > 0 {
			return l.after(l.between(2*day, 5*day), person("customer"), domain.Return{
				Lines:  []domain.LineQuantity{{Line: line.ID, Quantity: domain.Whole(1)}},
				Reason: domain.Reason{Code: "damaged", Text: "Scratched on arrival."},
			})
		}
	}
	return Step{}, false
}

// Span is how long lives may take after the last one has begun.
const Span = 60 * 24 * time.Hour
