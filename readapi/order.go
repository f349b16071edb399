package readapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

// OrderPath names an order in a path.
type OrderPath struct {
	ID string `path:"id" maxLength:"40" doc:"The order's id, or its number in any spelling" example:"K7Q2-9FTM-3XWA-P"`
}

type orderInput struct {
	OrderPath
	Freshness
	IfNoneMatch string `header:"If-None-Match" doc:"ETags that the client has: the answer is 304 while the order is still one of them"`
	Wait        span   `query:"wait" doc:"With If-None-Match: wait this long for the order to change before answering 304"`
}

type orderOutput struct {
	Status int
	ETag   string `header:"ETag" doc:"Version of the order, for If-Match and If-None-Match"`
	Seen
	Body *Order
}

func (a *api) getOrder(ctx context.Context, in *orderInput) (*orderOutput, error) {
	condition, err := web.ParseIfNoneMatch(in.IfNoneMatch)
	if err != nil {
		return nil, err
	}
	row, order, seen, err := a.find(ctx, in.ID, in.Freshness)
	if err != nil {
		return nil, err
	}
	if condition.Present && condition.Matches(version(row)) && in.Wait.d > 0 {
		if err := a.awaitChange(ctx, row, in.Wait); err != nil {
			return nil, err
		}
		if row, order, seen, err = a.find(ctx, row.ID.String(), Freshness{}); err != nil {
			return nil, err
		}
	}
	out := &orderOutput{Status: http.StatusOK, ETag: version(row).ETag(), Seen: seen, Body: a.view(ctx, row, order)}
	// An erasure changes what an order says without giving it another version: who has the version may still have the
	// data.
	if condition.Present && condition.Matches(version(row)) && !out.Body.Erased {
		out.Status, out.Body = http.StatusNotModified, nil
	}
	return out, nil
}

func version(row projections.Order) web.Version {
	return web.Version{Epoch: uint64(row.Epoch), Revision: row.Revision}
}

// awaitChange returns when an order has an event that its row does not show yet, or when the time is up.
func (a *api) awaitChange(ctx context.Context, row projections.Order, wait span) error {
	ctx, err := a.linger(ctx, wait)
	if err != nil {
		return err
	}
	for _, err := range a.Views.WatchOrder(ctx, row.BusinessUnit, row.Source, row.ID, row.Revision+1) {
		if err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	}
	return nil
}

// find reads an order by its id or number, once the read models show what the request wants to see. An order of
// another business unit does not exist.
func (a *api) find(ctx context.Context, name string, f Freshness) (row projections.Order, order domain.Order, seen Seen, err error) {
	id, isID := parseID(name)
	var waitFor *uuid.UUID
	if isID {
		waitFor = &id
	}
	if seen, err = a.freshen(ctx, f, waitFor); err != nil {
		return row, order, seen, err
	}
	if !isID {
		if id, err = a.byNumber(ctx, name); err != nil {
			return row, order, seen, err
		}
	}
	err = a.look(ctx, func() error {
		row, order, err = a.Views.Order(ctx, web.BusinessUnit(ctx), id)
		return err
	})
	return row, order, seen, err
}

// parseID reads an order's id in its one canonical form.
func parseID(s string) (uuid.UUID, bool) {
	id, err := uuid.Parse(s)
	return id, err == nil && id.String() == strings.ToLower(s)
}

func (a *api) byNumber(ctx context.Context, name string) (uuid.UUID, error) {
	number, ok := domain.ParseNumber(name)
	if !ok {
		return uuid.Nil, unknownOrder()
	}
	var id uuid.UUID
	err := a.look(ctx, func() error {
		rows, err := a.Views.Orders(ctx, projections.Query{BusinessUnit: web.BusinessUnit(ctx), Number: number, Limit: 1})
		if err != nil {
			return fmt.Errorf("looking for an order number: %w", err)
		}
		if len(rows) == 0 {
			return projections.ErrNotFound
		}
		id = rows[0].ID
		return nil
	})
	return id, err
}
