package commands

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
)

const tagOrders = "orders"

// newOrder is the request of a route that makes an order.
type newOrder[B any] struct {
	Key  string `header:"Idempotency-Key" required:"true" doc:"Names the order to be made: the same key never makes a second one. 1 to 255 visible ASCII characters" example:"po-4711-1"`
	Body *web.Body[B]
}

// orderChange is the request of a route that changes an order.
type orderChange[B any] struct {
	ID      string `path:"id" doc:"The order's id, a UUID" example:"0d3ac5a5-9a4b-5a0c-8a55-3f8f5b6f2c11"`
	Key     string `header:"Idempotency-Key" required:"true" doc:"Names the change of this order: the same key never makes it twice. 1 to 255 visible ASCII characters" example:"5b2f0c9e"`
	IfMatch string `header:"If-Match" doc:"ETag of the version that the change is meant for; another one is answered 412" example:"\"0-3\""`
	Body    *web.Body[B]
}

// A Submission is the body of a new order.
type Submission struct {
	domain.Details
	Lines    []domain.Line   `json:"lines" doc:"At least one. Their ids are given by the ledger: 1, 2, 3 and so on"`
	Personal domain.Personal `json:"personal,omitzero" doc:"What the order says about people. It is stored encrypted and never echoed"`
}

type amendment struct {
	domain.Amend
	Personal domain.Personal `json:"personal,omitzero" doc:"What changes about people. It is stored encrypted and never echoed"`
}

type returned struct {
	domain.Return
	Occurred time.Time `json:"occurred,omitzero" doc:"When it happened, if not just now"`
}

// makeOrder registers a route that makes orders.
func makeOrder[B any](r *routes, tag string, about route, asked func(B) (ask, error)) {
	op := about.operation(tag)
	op.DefaultStatus = http.StatusCreated
	op.MaxBodyBytes = maxOrder
	huma.Register(r.api, op, func(ctx context.Context, in *newOrder[B]) (*changed, error) {
		key, err := web.ParseIdempotencyKey(in.Key)
		if err != nil {
			return nil, err
		}
		a, err := asked(bodyOf(in.Body))
		if err != nil {
			return nil, err
		}
		order := domain.OrderID(web.BusinessUnit(ctx), web.PrincipalFrom(ctx).Subject, key)
		return r.do(ctx, command(ctx, order, key, a))
	})
}

// changeOrder registers a route that changes an order.
func changeOrder[B any](r *routes, about route, asked func(B) ask) {
	op := about.operation(tagOrders, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed)
	op.MaxBodyBytes = maxOrder
	huma.Register(r.api, op, func(ctx context.Context, in *orderChange[B]) (*changed, error) {
		return r.change(ctx, in.ID, in.Key, in.IfMatch, asked(bodyOf(in.Body)))
	})
}

// change handles a command on an existing order.
func (r *routes) change(ctx context.Context, id, key, ifMatch string, a ask) (*changed, error) {
	key, err := web.ParseIdempotencyKey(key)
	if err != nil {
		return nil, err
	}
	order, err := parseOrder(id, "path.id")
	if err != nil {
		return nil, err
	}
	q := command(ctx, order, key, a)
	if err := expect(&q, ifMatch); err != nil {
		return nil, err
	}
	return r.do(ctx, q)
}

// orders registers the routes of whole orders.
func (r *routes) orders() {
	makeOrder(r, tagOrders, route{
		id: "submit-order", path: "/v1/orders", summary: "Submit an order",
		description: "Answers 201 once the order is durable, also when the rules reject or hold it: its status says so. " +
			"The order's id follows from business unit, client and Idempotency-Key, so a repeated request gets the same answer and makes no second order.",
		example: `{"currency":"EUR","channel":"web","purchase_order":"PO-4711",` +
			`"parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"C-1001"}],"country":"DE"}},` +
			`"lines":[{"sku":"LENS-1.6-BLUE","quantity":"2","price":{"amount":"49.90"}}],` +
			`"personal":{"buyer":{"name":"Optik Sommer","city":"Bremen"}}}`,
	}, func(b Submission) (ask, error) {
		if b.Channel == domain.ChannelImport {
			return ask{}, &domain.Malformed{Field: "channel", Code: "unexpected",
				Detail: "orders of channel import are history from elsewhere: send them to /v1/import/orders"}
		}
		return ask{do: domain.Submit{Details: b.Details, Lines: b.Lines}, personal: b.Personal}, nil
	})

	changeOrder(r, route{
		id: "amend-order", path: "/v1/orders/{id}/amend", summary: "Change quantities, dates, prices, addresses or terms",
		description: "What the body does not name stays. The rules judge the order anew; an amendment that they reject is refused. A changed line's promise is void.",
		example:     `{"lines":[{"line":"1","quantity":"3"}],"reason":{"code":"customer_request"}}`,
	}, func(b amendment) ask { return ask{do: b.Amend, personal: b.Personal} })

	changeOrder(r, route{
		id: "hold-order", path: "/v1/orders/{id}/hold", summary: "Keep an order from going on",
		description: "Several holds may be open; each is released by itself. Nothing happens by itself at the day that until names. The role tells people who is to release the hold; it is not enforced until there is authentication.",
		example:     `{"reason":{"code":"credit_check","text":"first order above the limit"},"role":"credit"}`,
	}, func(b domain.PlaceHold) ask { return ask{do: b} })

	changeOrder(r, route{
		id: "release-order", path: "/v1/orders/{id}/release", summary: "End a hold",
		description: "Without a body the only open hold ends. An order that was held by the rules is accepted and routed then.",
		example:     `{"hold":"h1","reason":{"code":"paid"}}`, optional: true,
	}, func(b domain.Release) ask { return ask{do: b} })

	changeOrder(r, route{
		id: "cancel-order", path: "/v1/orders/{id}/cancel", summary: "Take back what has not been shipped",
		description: "Without lines all that has not been shipped is cancelled. An order of which a part has been shipped then counts as shipped.",
		example:     `{"reason":{"code":"customer_request"}}`,
	}, func(b domain.Cancel) ask { return ask{do: b} })

	changeOrder(r, route{
		id: "route-order", path: "/v1/orders/{id}/route", summary: "Find sites for what has none",
		description: "Without a site the rules choose.",
		example:     `{"site":"LYON-WH","reason":{"code":"capacity"}}`, optional: true,
	}, func(b domain.Route) ask { return ask{do: b} })

	changeOrder(r, route{
		id: "return-order", path: "/v1/orders/{id}/return", summary: "Report that goods came back",
		description: "Legal after the order was closed, too.",
		example:     `{"lines":[{"line":"1","quantity":"1"}],"reference":"RMA-77","reason":{"code":"damaged"}}`,
	}, func(b returned) ask { return ask{do: b.Return, occurred: b.Occurred} })

	changeOrder(r, route{
		id: "close-order", path: "/v1/orders/{id}/close", summary: "Close an order that has been shipped in full",
		description: "It need not have been delivered: ex works nobody tells. Afterwards only returns are taken.",
		example:     `{"reason":{"code":"paid"}}`, optional: true,
	}, func(b domain.Close) ask { return ask{do: b} })
}
