package readapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

type listInput struct {
	Freshness
	Number        string   `query:"number" maxLength:"40" doc:"The order's number, in any spelling"`
	Reference     string   `query:"reference" maxLength:"200" doc:"The value of a reference of the order, or of a site's confirmation"`
	PurchaseOrder string   `query:"purchase_order" maxLength:"200" doc:"The buyer's own number"`
	Customer      string   `query:"customer" maxLength:"200" doc:"An identifier of the buyer"`
	Site          string   `query:"site" maxLength:"200" doc:"A site that fulfils a part of the order"`
	SKU           string   `query:"sku" maxLength:"200" doc:"An article of a line"`
	Tracking      string   `query:"tracking" maxLength:"200" doc:"A shipment's tracking number"`
	Status        []string `query:"status" maxItems:"13" enum:"submitted,rejected,on_hold,accepted,routed,confirmed,in_fulfilment,partially_shipped,shipped,delivered,closed,cancelled,withdrawn" doc:"Any of these, separated by commas"`
	Words         string   `query:"q" maxLength:"200" doc:"Up to eight words; each begins a number, reference, customer, site, article or tracking number"`
	Limit         int      `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Cursor        string   `query:"cursor" maxLength:"4096" doc:"Goes on where the list that answered it ended"`
}

type listOutput struct {
	Seen
	Body OrderList
}

// An OrderList is a part of a list of orders.
type OrderList struct {
	Orders []OrderSummary `json:"orders" doc:"The newest submission first"`
	Next   string         `json:"next,omitempty" doc:"Cursor for what follows; absent at the end"`
}

// An OrderSummary is what lists say about an order.
type OrderSummary struct {
	ID            uuid.UUID      `json:"id"`
	Number        string         `json:"number"`
	Status        domain.Status  `json:"status"`
	StatusSince   time.Time      `json:"status_since"`
	Kind          domain.Kind    `json:"kind"`
	Channel       string         `json:"channel,omitempty"`
	Customer      string         `json:"customer,omitempty" doc:"The identifier by which the buyer is known: that of the scheme customer, or else the first in order"`
	PurchaseOrder string         `json:"purchase_order,omitempty"`
	Country       string         `json:"country,omitempty" doc:"That the goods go to"`
	Currency      string         `json:"currency"`
	Total         domain.Decimal `json:"total"`
	Display       string         `json:"display" doc:"The total as people write it"`
	Promised      string         `json:"promised,omitempty"`
	Submitted     time.Time      `json:"submitted"`
	Updated       time.Time      `json:"updated"`
	Revision      uint64         `json:"revision"`
	Source        uuid.UUID      `json:"source"`
}

func summary(o projections.Order) OrderSummary {
	return OrderSummary{
		ID: o.ID, Number: o.Number, Status: o.Status, StatusSince: o.StatusSince, Kind: o.Kind, Channel: o.Channel,
		Customer: o.Customer, PurchaseOrder: o.PurchaseOrder, Country: o.Country,
		Currency: o.Currency, Total: o.Total, Display: domain.Money(o.Total, o.Currency), Promised: o.Promised,
		Submitted: o.Submitted, Updated: o.Updated, Revision: o.Revision, Source: o.Source,
	}
}

func (a *api) listOrders(ctx context.Context, in *listInput) (*listOutput, error) {
	q := projections.Query{
		BusinessUnit: web.BusinessUnit(ctx), Number: in.Number, Reference: in.Reference, PurchaseOrder: in.PurchaseOrder,
		Customer: in.Customer, Site: in.Site, SKU: in.SKU, Tracking: in.Tracking, Words: in.Words,
	}
	for _, s := range in.Status {
		q.Statuses = append(q.Statuses, domain.Status(s))
	}
	list := fmt.Sprintf("orders %+q", []any{q.BusinessUnit, q.Number, q.Reference, q.PurchaseOrder, q.Customer, q.Site, q.SKU,
		q.Tracking, q.Words, in.Status}) // a cursor belongs to one query
	if in.Cursor != "" {
		if err := a.server.Cursors.Open(list, in.Cursor, &q.After); err != nil {
			return nil, err
		}
	}
	seen, err := a.freshen(ctx, in.Freshness, nil)
	if err != nil {
		return nil, err
	}
	q.Limit = in.Limit + 1 // one more tells whether there is more
	if in.Limit == projections.MaxLimit {
		q.Limit = in.Limit
	}
	rows, err := a.Views.Orders(ctx, q)
	if err != nil {
		return nil, searchError(err)
	}
	out := &listOutput{Seen: seen, Body: OrderList{Orders: []OrderSummary{}}}
	if more := len(rows) > in.Limit || len(rows) == projections.MaxLimit; more {
		rows = rows[:in.Limit]
		out.Body.Next = a.server.Cursors.Seal(list, rows[len(rows)-1].Cursor())
	}
	for _, row := range rows {
		out.Body.Orders = append(out.Body.Orders, summary(row))
	}
	return out, nil
}

func searchError(err error) error {
	if errors.Is(err, projections.ErrTooManyWords) {
		return &web.Error{Status: http.StatusBadRequest, Code: "invalid_search", Detail: "A search has at most eight words."}
	}
	return err
}
