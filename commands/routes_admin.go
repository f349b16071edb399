package commands

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
)

const tagAdministration = "administration"

// imported is the body of an order from another system's history.
type imported struct {
	domain.Submit
	Personal domain.Personal `json:"personal,omitzero" doc:"What the order says about people. It is stored encrypted and never echoed"`
	Occurred time.Time       `json:"occurred,omitzero" doc:"When the order was placed, if not just now"`
}

type erasureRequest struct {
	Key  string `header:"Idempotency-Key" required:"true" doc:"Names the erasure: the same key gets the same answer. 1 to 255 visible ASCII characters" example:"gdpr-2026-17"`
	Body *web.Body[erasureBody]
}

type erasureBody struct {
	Subject domain.Identifier `json:"subject,omitzero" doc:"The first identifier of the buyer who is to be forgotten"`
	Order   string            `json:"order,omitempty" format:"uuid" doc:"An order whose buyer is not known"`
}

type erasureAnswer struct {
	Mark     string `header:"Orderledger-Mark" doc:"Send it with a read to see this write"`
	Replayed string `header:"Idempotent-Replayed" enum:"true" doc:"Present where the request had been answered before and this is the first answer"`
	Body     struct {
		Keys int `json:"keys" doc:"How many keys were destroyed; 0: the ledger holds nothing readable about the subject"`
	}
}

// administration registers the routes that are not for everyday's business.
func (r *routes) administration() {
	makeOrder(r, tagAdministration, route{
		id: "import-order", path: "/v1/import/orders", summary: "Take over an order from another system's history",
		description: "As a submission, and it may say when the order was placed. Orders of the channel import are not judged by any rules; " +
			"a settled one was fulfilled elsewhere and is closed at once.",
		example: `{"currency":"GBP","channel":"import","settled":true,"occurred":"2011-12-09T12:50:00Z",` +
			`"parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"12680"}],"country":"FR"}},` +
			`"lines":[{"sku":"22613","quantity":"12","price":{"amount":"0.85"}}]}`,
	}, func(b imported) (ask, error) {
		return ask{do: b.Submit, personal: b.Personal, occurred: b.Occurred}, nil
	})

	op := route{
		id: "erase", path: "/v1/erasures", summary: "Make what is known about a person unreadable for ever",
		description: "Destroys the key that seals the subject's personal data in all orders of the business unit. The act itself, without the subject's name, " +
			"is recorded in the ledger before. What is submitted for the same buyer afterwards is sealed with a new key.",
		example: `{"subject":{"scheme":"customer","value":"C-1001"}}`,
	}.operation(tagAdministration, http.StatusNotFound, http.StatusConflict)
	huma.Register(r.api, op, r.erase)
}

func (r *routes) erase(ctx context.Context, in *erasureRequest) (*erasureAnswer, error) {
	key, err := web.ParseIdempotencyKey(in.Key)
	if err != nil {
		return nil, err
	}
	body := bodyOf(in.Body)
	var order uuid.UUID
	if body.Order != "" {
		if order, err = parseOrder(body.Order, "/order"); err != nil {
			return nil, err
		}
	}
	unit := web.BusinessUnit(ctx)
	erased, err := r.handler.Erase(ctx, Erasure{
		Command:      domain.CommandID(uuid.Nil, web.PrincipalFrom(ctx).Subject, "erasure "+unit+" "+key),
		BusinessUnit: unit,
		Actor:        actor(ctx),
		Cause:        cause(ctx),
		Buyer:        body.Subject,
		Order:        order,
	})
	if err != nil {
		return nil, err
	}
	answer := &erasureAnswer{Mark: erased.Mark.String(), Replayed: replayed(erased.Repeated)}
	answer.Body.Keys = erased.Keys
	return answer, nil
}
