package commands

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
)

// regionMove is the request of a route that moves the orders of a region.
type regionMove[B any] struct {
	Region string `path:"region" doc:"The other region" example:"eu"`
	Body   *web.Body[B]
}

type takeoverBody struct {
	After  eventstore.Position `json:"after,omitempty" doc:"Where to go on, as the last answer says"`
	DryRun bool                `json:"dry_run,omitempty" doc:"Only say what would move"`
	Force  bool                `json:"force,omitempty" doc:"Also while the region still answers"`
}

type returnBody struct {
	After  eventstore.Position `json:"after,omitempty" doc:"Where to go on, as the last answer says"`
	DryRun bool                `json:"dry_run,omitempty" doc:"Only say what would move"`
}

type regionMoved struct {
	Body RegionProgress
}

// RegionProgress is a [Progress] under a name that nothing else has in the API.
type RegionProgress Progress

// movements registers the routes by which orders move from one region to another.
func (r *routes) movements() {
	op := route{
		id: "take-over-region", path: "/v1/regions/{region}/takeover", summary: "Let the orders of another region live in this one",
		description: "For a region that does not come back soon. Each request moves some hundred orders, as far as they are known here: send it again with after " +
			"until it answers done. An order that has moved stays moved, whoever asks how often. What the region has done that is not known here is found when it comes back: " +
			"it is done here too where it can be, and stands among the order's conflicts where it cannot.",
		example: `{"after":0,"dry_run":true}`, optional: true,
	}.operation(tagAdministration, http.StatusNotFound, http.StatusConflict)
	huma.Register(r.api, op, r.takeOver)

	op = route{
		id: "return-region", path: "/v1/regions/{region}/return", summary: "Let the orders that came from another region live there again",
		description: "For a region that is back. Each request moves some hundred orders: send it again with after until it answers done. An order stays as long as " +
			"the region has done something with it that is not known here, or is not settled.",
		example: `{"after":0}`, optional: true,
	}.operation(tagAdministration, http.StatusNotFound)
	huma.Register(r.api, op, r.handOver)
}

func (r *routes) takeOver(ctx context.Context, in *regionMove[takeoverBody]) (*regionMoved, error) {
	body := bodyOf(in.Body)
	region, err := r.handler.followed(in.Region)
	if err != nil {
		return nil, err
	}
	if !body.DryRun && !body.Force && region.answers(ctx) {
		return nil, &web.Error{Status: http.StatusConflict, Code: codeRegionAnswers, Detail: fmt.Sprintf("The region %s still answers: "+
			"stop it first, or insist.", region.Name)}
	}
	p, err := r.handler.TakeOverSome(ctx, in.Region, body.After, actor(ctx), body.DryRun)
	return &regionMoved{RegionProgress(p)}, err
}

func (r *routes) handOver(ctx context.Context, in *regionMove[returnBody]) (*regionMoved, error) {
	body := bodyOf(in.Body)
	p, err := r.handler.HandOverSome(ctx, in.Region, body.After, actor(ctx), body.DryRun)
	return &regionMoved{RegionProgress(p)}, err
}

// answers reports whether a region answers. One that cannot be asked is taken to.
func (r *Region) answers(ctx context.Context) bool {
	asked, ok := r.API.(interface{ Answers(context.Context) bool })
	return !ok || asked.Answers(ctx)
}

// conflictChange is the request of a route that changes a conflict.
type conflictChange struct {
	ID       string `path:"id" doc:"The order's id, a UUID" example:"0d3ac5a5-9a4b-5a0c-8a55-3f8f5b6f2c11"`
	Conflict string `path:"conflict" doc:"The conflict" example:"c1"`
	Key      string `header:"Idempotency-Key" required:"true" doc:"Names the change of this order: the same key never makes it twice. 1 to 255 visible ASCII characters" example:"5b2f0c9e"`
	IfMatch  string `header:"If-Match" doc:"ETag of the version that the change is meant for; another one is answered 412" example:"\"0-3\""`
	Body     *web.Body[domain.Settle]
}

// conflicts registers the routes of an order's conflicts.
func (r *routes) conflicts() {
	op := route{
		id: "settle-conflict", path: "/v1/orders/{id}/conflicts/{conflict}/settle", summary: "Say how a conflict was settled",
		description: "What was done in one region with an order that lives in another one, and could not be done there, stands among the order's conflicts until somebody has dealt with it. " +
			"Nothing else happens: what has to be done with the order is asked for like everything else.",
		example: `{"reason":{"code":"site_told","text":"Lyon has stopped"}}`,
	}.operation(tagOrders, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed)
	op.MaxBodyBytes = maxOrder
	huma.Register(r.api, op, func(ctx context.Context, in *conflictChange) (*changed, error) {
		settle := bodyOf(in.Body)
		settle.Conflict = in.Conflict
		return r.change(ctx, in.ID, in.Key, in.IfMatch, ask{do: settle})
	})
}
