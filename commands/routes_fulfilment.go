package commands

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
)

const tagSites = "sites"

// fulfilmentChange is the request of a route that changes one fulfilment.
type fulfilmentChange[B any] struct {
	ID         string `path:"id" doc:"The order's id, a UUID" example:"0d3ac5a5-9a4b-5a0c-8a55-3f8f5b6f2c11"`
	Fulfilment string `path:"fulfilment" doc:"The fulfilment" example:"f1"`
	Key        string `header:"Idempotency-Key" required:"true" doc:"Names the change of this order: the same key never makes it twice. 1 to 255 visible ASCII characters" example:"5b2f0c9e"`
	IfMatch    string `header:"If-Match" doc:"ETag of the version that the change is meant for; another one is answered 412" example:"\"0-3\""`
	Body       *web.Body[B]
}

// What sites report may have happened a while ago.
type (
	confirmReport struct {
		domain.Confirm
		Occurred time.Time `json:"occurred,omitzero" doc:"When it happened, if not just now"`
	}
	startReport struct {
		Occurred time.Time `json:"occurred,omitzero" doc:"When it happened, if not just now"`
	}
	shipReport struct {
		domain.Ship
		Occurred time.Time `json:"occurred,omitzero" doc:"When it happened, if not just now"`
	}
	deliverReport struct {
		domain.Deliver
		Occurred time.Time `json:"occurred,omitzero" doc:"When it happened, if not just now"`
	}
	failReport struct {
		domain.ReportFailure
		Occurred time.Time `json:"occurred,omitzero" doc:"When it happened, if not just now"`
	}
)

// changeFulfilment registers a route that changes a fulfilment.
func changeFulfilment[B any](r *routes, about route, asked func(fulfilment string, body B) ask) {
	op := about.operation(tagSites, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed)
	op.MaxBodyBytes = maxOrder
	huma.Register(r.api, op, func(ctx context.Context, in *fulfilmentChange[B]) (*changed, error) {
		return r.change(ctx, in.ID, in.Key, in.IfMatch, asked(in.Fulfilment, bodyOf(in.Body)))
	})
}

// fulfilments registers the routes of single fulfilments.
func (r *routes) fulfilments() {
	changeFulfilment(r, route{
		id: "confirm-fulfilment", path: "/v1/orders/{id}/fulfilments/{fulfilment}/confirm", summary: "Report a site's answer",
		description: "It may come again with other promises: the first one and the current one both stay visible. A refusal routes the fulfilment's rest to another site.",
		example: `{"outcome":"accepted_with_changes","reference":"SO-99","lines":[{"line":"1","promises":[` +
			`{"quantity":"2","kind":"ship","date":{"day":"2026-12-01"}}]}]}`,
	}, func(f string, b confirmReport) ask { b.Fulfilment = f; return ask{do: b.Confirm, occurred: b.Occurred} })

	changeFulfilment(r, route{
		id: "start-fulfilment", path: "/v1/orders/{id}/fulfilments/{fulfilment}/start", summary: "Report that a site has begun to work",
		description: "The body may be left out.",
		example:     `{"occurred":"2026-11-20T08:00:00Z"}`, optional: true,
	}, func(f string, b startReport) ask {
		return ask{do: domain.StartFulfilment{Fulfilment: f}, occurred: b.Occurred}
	})

	changeFulfilment(r, route{
		id: "ship-fulfilment", path: "/v1/orders/{id}/fulfilments/{fulfilment}/ship", summary: "Report that goods have left a site",
		description: "Without lines all that is left was shipped. Without an id the shipment gets one: s1, s2 and so on.",
		example:     `{"carrier":"DHL","tracking":"JD014600006001","lines":[{"line":"1","quantity":"2"}],"occurred":"2026-11-20T16:05:00Z"}`, optional: true,
	}, func(f string, b shipReport) ask { b.Fulfilment = f; return ask{do: b.Ship, occurred: b.Occurred} })

	changeFulfilment(r, route{
		id: "deliver-fulfilment", path: "/v1/orders/{id}/fulfilments/{fulfilment}/deliver", summary: "Report that goods have arrived",
		description: "The named quantities, those of the named shipment, or all that is under way.",
		example:     `{"shipment":"s1","occurred":"2026-11-22T09:30:00+01:00"}`, optional: true,
	}, func(f string, b deliverReport) ask { b.Fulfilment = f; return ask{do: b.Deliver, occurred: b.Occurred} })

	changeFulfilment(r, route{
		id: "fail-fulfilment", path: "/v1/orders/{id}/fulfilments/{fulfilment}/fail", summary: "Report that a site cannot fulfil what it has not shipped",
		description: "The rest goes to the next site that the rules find in the same step, or else the order is held with the reason no_site_left.",
		example:     `{"reason":{"code":"out_of_stock"}}`,
	}, func(f string, b failReport) ask {
		b.Fulfilment = f
		return ask{do: b.ReportFailure, occurred: b.Occurred}
	})

	changeFulfilment(r, route{
		id: "reroute-fulfilment", path: "/v1/orders/{id}/fulfilments/{fulfilment}/reroute", summary: "Move a fulfilment to another site",
		description: "What has not been shipped goes to the named site, or to the one that the rules choose next.",
		example:     `{"site":"PORTO-WH","reason":{"code":"capacity"}}`,
	}, func(f string, b domain.Reroute) ask { b.Fulfilment = f; return ask{do: b} })
}
