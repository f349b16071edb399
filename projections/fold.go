package projections

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// A state is an order's row together with the folded order that it is made from. The zero state is that of an order
// without events. States are values: nobody changes one that is shared.
type state struct {
	row    Order
	folded domain.Order
}

// A change is what an event adds to the rows, beside the order's own.
type change struct {
	entry    Entry
	notes    []Notification
	conflict *Conflict
	findable bool // what the order can be found by may have changed
}

// apply returns the state of an order after an event of a ledger, and what the event adds to the other rows. It is a pure
// function; an error means that the event cannot be applied, now or when it comes again.
func apply(s state, source, order uuid.UUID, e *eventstore.Recorded) (state, change, error) {
	event, err := domain.DecodeEvent(e.Type, e.Data)
	if err != nil {
		return state{}, change{}, err
	}
	meta, err := domain.DecodeMeta(e.Metadata)
	if err != nil {
		return state{}, change{}, err
	}
	if err := fits(s, order, event, meta); err != nil {
		return state{}, change{}, fmt.Errorf("%s: %w", e.Type, err)
	}
	before := s
	s.folded = domain.Evolve(s.folded, event)
	s.row.follow(&s.folded, meta, source, e)
	told, ok := tell(event, &before.folded, &s.folded)
	if !ok {
		return state{}, change{}, fmt.Errorf("%s belongs to no order", e.Type)
	}
	c := change{
		entry: Entry{
			BusinessUnit: s.row.BusinessUnit, Order: order, Source: source, Revision: e.Revision, Position: e.Position,
			EventID: e.ID, Type: e.Type, Occurred: meta.Occurred, Recorded: e.Time, Actor: meta.Actor, Status: s.row.Status,
			Summary: told.Summary, Reason: told.reason, RuleSet: told.decision.RuleSet, RuleRow: told.decision.Row,
		},
		findable: findable(event),
	}
	c.notes = notify(before, s, c.entry)
	c.conflict = conflicting(event, &c.entry, s.row.Number)
	return s, c, nil
}

// fits reports why an event cannot be the next one of an order.
func fits(s state, order uuid.UUID, e domain.Event, meta domain.Meta) error {
	submitted, first := e.(*domain.Submitted)
	switch {
	case first == s.folded.Exists():
		return errors.New("an order begins with its submission, and has no second one")
	case first && submitted.Order != order:
		return fmt.Errorf("it submits order %s", submitted.Order)
	case first && submitted.BusinessUnit != meta.BusinessUnit, !first && s.folded.BusinessUnit != meta.BusinessUnit:
		return fmt.Errorf("business unit %q is not that of the order", meta.BusinessUnit)
	}
	return nil
}

// follow brings an order's row up to the order after an event.
func (o *Order) follow(f *domain.Order, meta domain.Meta, source uuid.UUID, e *eventstore.Recorded) {
	if status := f.Status(); status != o.Status {
		o.Status, o.StatusSince = status, meta.Occurred
	}
	if e.Revision == 0 {
		o.Submitted = meta.Occurred
		// A copy of another ledger's history is on its way as long as nothing in it says that the order lives here.
		o.Left = e.ID != domain.EventID(meta.Command, source, 0)
	}
	if f.Home != "" {
		o.Left = f.Claim(source).Left
	}
	o.BusinessUnit, o.ID, o.Source, o.Number = f.BusinessUnit, f.ID, source, f.Number
	o.Kind, o.Channel, o.PurchaseOrder = f.Kind, f.Channel, f.PurchaseOrder
	if o.Kind == "" {
		o.Kind = domain.Standard
	}
	customer, _ := f.Parties.Buyer.Customer()
	o.Customer = customer.Value
	o.Country = f.ShipTo().Country
	o.Currency, o.Total = f.Currency, f.Totals.Total
	o.Updated, o.Revision, o.Position = meta.Occurred, e.Revision, e.Position
	o.Epoch, o.Promised = f.Epoch, promised(f)
}

// notify returns what there is to tell about an event.
func notify(before, after state, e Entry) []Notification {
	switch e.Summary.Code {
	case CodeUnrouted, CodeHomeMoved, CodeWithdrawn:
		return nil // no step of the order: another event, or another ledger, says where it goes on
	}
	note := Notification{
		BusinessUnit: e.BusinessUnit, Place: Place{Source: e.Source, Position: e.Position}, Order: e.Order, Revision: e.Revision,
		Number: after.row.Number, Customer: after.row.Customer, Kind: e.Summary.Code,
		Before: before.row.Status, Status: after.row.Status, Occurred: e.Occurred, Summary: e.Summary,
	}
	if before.row.Promised == "" || before.row.Promised == after.row.Promised {
		return []Notification{note}
	}
	changed := note
	changed.Place.N = 1
	changed.Kind = CodePromiseChanged
	changed.Before = note.Status
	changed.Summary = Summary{Code: CodePromiseChanged, PromisedBefore: before.row.Promised, Promised: after.row.Promised}
	return []Notification{note, changed}
}
