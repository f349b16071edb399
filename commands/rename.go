package commands

import (
	"slices"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
)

// A kind is one of the kinds of things in an order that are numbered one after the other.
type kind int

const (
	aLine kind = iota
	aHold
	aFulfilment
	aShipment
)

// A thing is a part of an order, as a history calls it.
type thing struct {
	kind kind
	id   string
}

// An origin is what a thing is, in whatever history: the n-th of its kind that a command has made, for a site if it is for
// one.
type origin struct {
	command uuid.UUID
	digest  domain.Digest
	kind    kind
	site    string
	n       int
}

// things are all parts of an order that a holding has named, and where each comes from.
func (h *holding) things() map[thing]origin {
	all := make(map[thing]origin)
	made := make(map[origin]int) // how many, by origin without n
	for i := range h.events {
		e := &h.events[i]
		add := func(k kind, id, site string) {
			o := origin{command: e.meta.Command, digest: e.meta.Digest, kind: k, site: site}
			made[o]++
			o.n = made[o]
			all[thing{k, id}] = o
		}
		switch event := e.event.(type) {
		case *domain.Submitted:
			for i := range event.Lines {
				add(aLine, event.Lines[i].ID, "")
			}
		case *domain.Amended:
			for i := range event.Added {
				add(aLine, event.Added[i].ID, "")
			}
		case *domain.Held:
			add(aHold, event.Hold.ID, "")
		case *domain.Routed:
			for _, a := range event.Fulfilments {
				add(aFulfilment, a.ID, a.Site)
			}
		case *domain.Shipped:
			add(aShipment, event.Shipment.ID, "")
		}
	}
	return all
}

// A renamer says what the things of one history are called in another one, where one number may stand for something else.
type renamer struct {
	there map[thing]origin
	here  map[origin]string
	code  domain.Code // why something has no name here; empty: all had
}

func newRenamer(there, here *holding) *renamer {
	r := &renamer{there: there.things(), here: make(map[origin]string)}
	for thing, origin := range here.things() {
		r.here[origin] = thing.id
	}
	return r
}

// missing are the codes of what has no name.
var missing = map[kind]domain.Code{
	aLine: domain.CodeUnknownLine, aHold: domain.CodeUnknownHold, aFulfilment: domain.CodeUnknownFulfilment, aShipment: domain.CodeUnknownShipment,
}

// name puts the name here in place of the one there. The empty name stays.
func (r *renamer) name(k kind, id *string) {
	if *id == "" {
		return
	}
	origin, known := r.there[thing{k, *id}]
	name, ok := r.here[origin]
	switch {
	case known && ok:
		*id = name
	case r.code == "":
		r.code = missing[k]
	}
}

func (r *renamer) quantities(lines []domain.LineQuantity) []domain.LineQuantity {
	return renamed(r, lines, func(q *domain.LineQuantity) *string { return &q.Line })
}

// renamed returns a list with its lines as they are called here.
func renamed[T any](r *renamer, list []T, line func(*T) *string) []T {
	list = slices.Clone(list)
	for i := range list {
		r.name(aLine, line(&list[i]))
	}
	return list
}

// action returns an action for the history here, or the code of why what it names is not known.
func (r *renamer) action(a domain.Action) (domain.Action, domain.Code) {
	switch b := a.(type) {
	case domain.Amend:
		b.Lines = renamed(r, b.Lines, func(c *domain.LineChange) *string { return &c.Line })
		a = b
	case domain.Release:
		r.name(aHold, &b.Hold)
		a = b
	case domain.Cancel:
		b.Lines = r.quantities(b.Lines)
		a = b
	case domain.Reroute:
		r.name(aFulfilment, &b.Fulfilment)
		a = b
	case domain.Confirm:
		r.name(aFulfilment, &b.Fulfilment)
		b.Lines = renamed(r, b.Lines, func(c *domain.LineConfirmation) *string { return &c.Line })
		a = b
	case domain.StartFulfilment:
		r.name(aFulfilment, &b.Fulfilment)
		a = b
	case domain.Ship:
		r.name(aFulfilment, &b.Fulfilment)
		b.Lines = r.quantities(b.Lines)
		a = b
	case domain.Deliver:
		r.name(aFulfilment, &b.Fulfilment)
		r.name(aShipment, &b.Shipment)
		b.Lines = r.quantities(b.Lines)
		a = b
	case domain.ReportFailure:
		r.name(aFulfilment, &b.Fulfilment)
		a = b
	case domain.Return:
		b.Lines = r.quantities(b.Lines)
		a = b
	}
	return a, r.code
}
