package readapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/projections"
)

// An orderPage shows where an order is.
type orderPage struct {
	page
	Order    *Order
	Customer string
	Walk     []walkStep
	Ended    bool            // rejected, cancelled or withdrawn
	Moving   bool            // something is still to come
	Entries  []TimelineEntry // the newest first
	Parties  []partyView

	Conflicts []Conflict
	Open      int    // how many of them are
	Keeper    string // the region that keeps a withdrawn order; empty: its name is not known
}

// A partyView is a party with what is known of it in the clear and, where it may be seen, in person.
type partyView struct {
	Role   string
	Party  domain.Party
	Person domain.Person
}

func (a *api) orderPage(w http.ResponseWriter, r *http.Request) {
	p, err := a.orderPageOf(r.Context(), chi.URLParam(r, "id"), pageFreshness(r))
	a.render(w, r, "order", p, err)
}

func (a *api) orderPageOf(ctx context.Context, name string, f Freshness) (*orderPage, error) {
	row, o, seen, err := a.find(ctx, name, f)
	if err != nil {
		return nil, err
	}
	var from uint64
	if row.Revision >= projections.MaxLimit {
		from = row.Revision - projections.MaxLimit + 1
	}
	list, err := a.Views.Timeline(ctx, row.BusinessUnit, row.Source, row.ID, from, projections.MaxLimit)
	if err != nil {
		return nil, err
	}
	p := &orderPage{
		page: a.page(ctx, "Order "+row.Number, seen), Order: a.view(ctx, row, o), Customer: row.Customer,
		Walk: walk(o, list),
	}
	p.Ended = p.Order.Status.Final() && p.Order.Status != domain.StatusClosed
	p.Moving = !p.Order.Status.Final() && p.Order.Status != domain.StatusDelivered
	p.Parties = parties(p.Order)
	p.Keeper = a.regionName(o.WithdrawnFor)
	for _, c := range o.Conflicts {
		p.Conflicts = append(p.Conflicts, Conflict{Region: a.regionName(c.Ledger), OrderConflict: c})
		if !c.Settled {
			p.Open++
		}
	}
	for _, e := range list {
		p.Entries = append(p.Entries, a.timelineEntry(e))
	}
	slices.Reverse(p.Entries)
	// The page is read again when something happens after what it shows.
	p.Events = p.query("/v1/orders/"+row.ID.String()+"/events", url.Values{"after": {place{row.Source, row.Revision}.String()}})
	return p, nil
}

func parties(o *Order) []partyView {
	var personal domain.Personal
	if o.Personal != nil {
		personal = *o.Personal
	}
	var views []partyView
	for _, v := range []partyView{
		{"Buyer", o.Parties.Buyer, personal.Buyer},
		{"Ship to", o.Parties.ShipTo, personal.ShipTo},
		{"Bill to", o.Parties.BillTo, personal.BillTo},
		{"Payer", o.Parties.Payer, personal.Payer},
		{"End customer", o.Parties.EndCustomer, personal.EndCustomer},
	} {
		if v.Party.Country != "" || len(v.Party.Identifiers) > 0 || !v.Person.IsZero() {
			views = append(views, v)
		}
	}
	return views
}

// A walkStep is one of the stations that an order passes which meets no trouble.
type walkStep struct {
	Name  string
	State string    // done, now, half, todo or off
	At    time.Time // when the order came there last; zero: not known
}

// stations are the statuses of the walk. An order that is partially shipped is half way to the station shipped.
var stations = []domain.Status{
	domain.StatusSubmitted, domain.StatusAccepted, domain.StatusRouted, domain.StatusConfirmed, domain.StatusInFulfilment,
	domain.StatusShipped, domain.StatusDelivered,
}

// walk tells how far an order has come: as far as it would stand without the holds on it, or as far as it had come
// before it ended.
func walk(o domain.Order, entries []projections.Entry) []walkStep {
	came := make(map[domain.Status]time.Time)
	furthest := 0
	var before domain.Status
	for _, e := range entries {
		status := e.Status
		if status == domain.StatusPartiallyShipped {
			status = domain.StatusShipped
		}
		if i := slices.Index(stations, status); i >= 0 && e.Status != before {
			came[status] = e.Occurred
			furthest = max(furthest, i)
		}
		before = e.Status
	}
	ended := o.Status().Final() && !o.Closed
	o.Holds, o.Closed = nil, false
	status := o.Status()
	here := slices.Index(stations, status)
	switch {
	case ended || here < 0 && status != domain.StatusPartiallyShipped:
		here = furthest
	case here < 0:
		here = slices.Index(stations, domain.StatusShipped)
	}
	steps := make([]walkStep, len(stations))
	for i, station := range stations {
		s := walkStep{Name: sentence(string(station)), State: "todo"}
		switch {
		case i < here:
			s.State = "done"
		case i > here && ended:
			s.State = "off"
		case i == here && ended:
			s.State = "last"
		case i == here && status == domain.StatusPartiallyShipped:
			s.State, s.Name = "half", "Partly shipped"
		case i == here && i == len(stations)-1:
			s.State = "done"
		case i == here:
			s.State = "now"
		}
		if i <= here {
			s.At = came[station]
		}
		steps[i] = s
	}
	return steps
}
