package readapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

// A ParkedEvent is an order that is parked, and why.
type ParkedEvent struct {
	ParkedOrder
	BusinessUnit string `json:"business_unit,omitempty" doc:"Left out where no event said it"`
	Error        string `json:"error" doc:"Why the event could not be applied"`
	Skipped      bool   `json:"skipped" doc:"It was given up: it is not retried by itself"`
}

type parkedOutput struct {
	Seen
	Body struct {
		Parked []ParkedEvent `json:"parked" doc:"Of the business unit, or of none, the longest first, at most 200"`
	}
}

type parkedInput struct {
	ID string `path:"id" format:"uuid"`
}

type parkedDone struct {
	Body struct {
		Parked bool `json:"parked" doc:"Whether the order is parked still"`
	}
}

// registerParked adds the routes by which operators look after parked orders.
func (a *api) registerParked() {
	get(a.server, "list-parked", "/v1/parked", "Orders of which an event could not be applied", a.listParked)
	if a.Projector == nil {
		return
	}
	post := func(id, path, summary string, do func(context.Context, uuid.UUID) error) {
		op := operation(id, path, summary)
		op.Method = http.MethodPost
		huma.Register(a.server.API(), op, func(ctx context.Context, in *parkedInput) (*parkedDone, error) {
			return a.changeParked(ctx, in, do)
		})
	}
	post("retry-parked", "/v1/parked/{id}/retry", "Apply what a parked order lacks", func(ctx context.Context, order uuid.UUID) error {
		_, err := a.Projector.RetryParked(ctx, order)
		return err
	})
	post("skip-parked", "/v1/parked/{id}/skip", "Give a parked order up", a.Projector.SkipParked)
}

func (a *api) listParked(ctx context.Context, in *Freshness) (*parkedOutput, error) {
	seen, err := a.freshen(ctx, *in, nil)
	if err != nil {
		return nil, err
	}
	parked, err := a.ownParked(ctx)
	if err != nil {
		return nil, err
	}
	out := &parkedOutput{Seen: seen}
	out.Body.Parked = []ParkedEvent{}
	for _, p := range parked {
		out.Body.Parked = append(out.Body.Parked, ParkedEvent{
			ParkedOrder{p.Order, p.Source, p.Revision, p.Position}, p.BusinessUnit, p.Error, p.Skipped,
		})
	}
	return out, nil
}

// ownParked are the parked orders that the request's business unit may see.
func (a *api) ownParked(ctx context.Context) (own []projections.Parked, err error) {
	parked, err := a.Views.Parked(ctx, projections.MaxLimit)
	for _, p := range parked {
		if p.BusinessUnit == "" || p.BusinessUnit == web.BusinessUnit(ctx) {
			own = append(own, p)
		}
	}
	return own, err
}

func (a *api) changeParked(ctx context.Context, in *parkedInput, do func(context.Context, uuid.UUID) error) (*parkedDone, error) {
	order, err := uuid.Parse(in.ID)
	if err != nil {
		return nil, &web.Error{Status: http.StatusBadRequest, Code: "invalid_parameter", Detail: "An order is named by its id, a UUID."}
	}
	is := func() (bool, error) {
		parked, err := a.ownParked(ctx)
		for _, p := range parked {
			if p.Order == order {
				return true, err
			}
		}
		return false, err
	}
	switch parked, err := is(); {
	case err != nil:
		return nil, err
	case !parked:
		return nil, notParked()
	}
	switch err := do(ctx, order); {
	case errors.Is(err, projections.ErrNotParked):
		return nil, notParked()
	case errors.Is(err, eventstore.ErrClosed):
		return nil, &web.Error{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: "The ledger cannot be read now."}
	case err != nil:
		return nil, err
	}
	done := &parkedDone{}
	done.Body.Parked, err = is()
	return done, err
}

func notParked() *web.Error {
	return &web.Error{Status: http.StatusNotFound, Code: "not_parked", Detail: "The order is not parked, or is another business unit's."}
}
