package readapi

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

// An Order is all that may be said about an order.
type Order struct {
	ID           uuid.UUID     `json:"id"`
	BusinessUnit string        `json:"business_unit"`
	Number       string        `json:"number" doc:"For people" example:"K7Q2-9FTM-3XWA-P"`
	Status       domain.Status `json:"status" doc:"Where the order stands, in one word"`
	StatusSince  time.Time     `json:"status_since,omitzero" doc:"When what led to the status happened"`
	Submitted    time.Time     `json:"submitted,omitzero" doc:"When it happened, not when the ledger took it"`
	Updated      time.Time     `json:"updated,omitzero" doc:"When the newest event happened"`
	Promised     string        `json:"promised,omitempty" doc:"Day on which all that is wanted is promised; absent while some of it is not"`
	domain.Details
	Lines       []OrderLine         `json:"lines"`
	Totals      domain.Totals       `json:"totals" doc:"Of what is not cancelled; exact"`
	Display     Amounts             `json:"display" doc:"The totals as people write them: rounded half to even to the currency's minor unit"`
	Fulfilments []domain.Fulfilment `json:"fulfilments,omitempty"`
	Holds       []domain.Hold       `json:"holds,omitempty" doc:"The open ones"`
	Verdict     domain.Verdict      `json:"verdict,omitempty"`
	Reason      domain.Reason       `json:"reason,omitzero" doc:"Of the rejection, cancellation or withdrawal"`
	Decision    domain.Decision     `json:"decision,omitzero" doc:"Why the order was accepted or rejected: rule set, row, and the facts it looked at"`

	Personal *domain.Personal `json:"personal" doc:"Names, addresses and free text; null where there are none or they cannot be opened"`
	Erased   bool             `json:"erased,omitempty" doc:"The order had personal data, and its key was destroyed"`

	Settled      bool                   `json:"settled,omitempty" doc:"Was fulfilled before the ledger knew it"`
	WithdrawnFor string                 `json:"withdrawn_for,omitempty" doc:"The ledger that has the order instead"`
	Conflicts    []domain.OrderConflict `json:"conflicts,omitempty" doc:"What other regions have done with the order and does not count here; people settle it"`
	Home         string                 `json:"home,omitempty" doc:"The ledger that the order lives in"`
	Region       string                 `json:"region,omitempty" doc:"The name of that ledger's region; absent where there is only one"`
	Revision     uint64                 `json:"revision" doc:"Of the newest event"`
	Epoch        uint32                 `json:"epoch" doc:"How often the order's home has moved"`
	Source       uuid.UUID              `json:"source" doc:"The ledger that the events come from"`
	Position     eventstore.Position    `json:"position" doc:"Of the newest event in that ledger"`
}

// TransformSchema documents that personal may be null, which huma's tags cannot say of an object.
func (Order) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	personal := s.Properties["personal"]
	s.Properties["personal"] = &huma.Schema{
		Description: personal.Description,
		AnyOf:       []*huma.Schema{{Ref: personal.Ref}, {Type: "null"}},
	}
	return s
}

// An OrderLine is a line and what became of it.
type OrderLine struct {
	domain.OrderLine
	Shipped   domain.Decimal `json:"shipped"`
	Delivered domain.Decimal `json:"delivered"`
	Display   string         `json:"display,omitempty" doc:"What the uncancelled quantity costs before adjustments and taxes, as people write it"`
}

// Amounts are totals as people write them.
type Amounts struct {
	Lines      string `json:"lines"`
	Allowances string `json:"allowances,omitempty"`
	Charges    string `json:"charges,omitempty"`
	Taxes      string `json:"taxes,omitempty"`
	Total      string `json:"total" example:"1 249.50 EUR"`
}

// view shows an order to somebody who may see all of it.
func (a *api) view(ctx context.Context, row projections.Order, o domain.Order) *Order {
	v := project(o)
	v.StatusSince, v.Submitted, v.Updated, v.Promised = row.StatusSince, row.Submitted, row.Updated, row.Promised
	v.Source, v.Position = row.Source, row.Position
	v.Home = cmp.Or(v.Home, row.Source.String())
	v.Region = a.regionName(v.Home)
	v.Personal, v.Erased = a.open(ctx, o)
	return v
}

// project shows what a folded order says without personal data.
func project(o domain.Order) *Order {
	v := &Order{
		ID: o.ID, BusinessUnit: o.BusinessUnit, Number: o.Number, Status: o.Status(), Details: o.Details,
		Lines: make([]OrderLine, len(o.Lines)), Totals: o.Totals, Fulfilments: o.Fulfilments, Holds: o.Holds,
		Verdict: o.Verdict, Reason: o.Reason, Decision: o.Decision,
		Settled: o.Settled, WithdrawnFor: o.WithdrawnFor, Conflicts: o.Conflicts, Home: o.Home, Epoch: o.Epoch,
	}
	if o.Exists() {
		v.Revision = o.Revision()
	}
	for i, l := range o.Lines {
		v.Lines[i] = OrderLine{OrderLine: l, Shipped: o.Shipped(l.ID), Delivered: o.Delivered(l.ID)}
		if amount, err := l.Price.AmountOf(l.Active()); err == nil {
			v.Lines[i].Display = domain.Money(amount, o.Currency)
		}
	}
	v.Display = Amounts{Lines: domain.Money(o.Totals.Lines, o.Currency), Total: domain.Money(o.Totals.Total, o.Currency)}
	for _, part := range []struct {
		to     *string
		amount domain.Decimal
	}{
		{&v.Display.Allowances, o.Totals.Allowances},
		{&v.Display.Charges, o.Totals.Charges},
		{&v.Display.Taxes, o.Totals.Taxes},
	} {
		if !part.amount.IsZero() {
			*part.to = domain.Money(part.amount, o.Currency)
		}
	}
	return v
}

// open puts the personal sections of an order over each other, the newest on top. Where the key of one was destroyed,
// the data is erased.
func (a *api) open(ctx context.Context, o domain.Order) (personal *domain.Personal, erased bool) {
	if a.Key == nil {
		return nil, false
	}
	for _, sealed := range o.Personal {
		key, ok := a.Key(sealed.Key)
		if !ok {
			erased = true
			continue
		}
		section, err := domain.Open(sealed, o.ID, key)
		if err != nil {
			a.Logger.ErrorContext(ctx, "personal section cannot be opened", slog.String("order_id", o.ID.String()), slog.Any("error", err))
			continue
		}
		if personal == nil {
			personal = new(domain.Personal)
		}
		*personal = personal.Overlay(section)
	}
	return personal, erased
}
