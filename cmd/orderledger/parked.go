package main

import (
	"context"
	"fmt"
	"net/http"
)

// parkedCommand looks after orders of which an event could not be applied to the read models.
type parkedCommand struct {
	List  parkedListCommand  `cmd:"" help:"List parked orders, the longest parked first."`
	Show  parkedShowCommand  `cmd:"" help:"Show why an order is parked."`
	Retry parkedRetryCommand `cmd:"" help:"Apply what a parked order lacks."`
	Skip  parkedSkipCommand  `cmd:"" help:"Give a parked order up: it stays as it is, is not retried by itself, and nobody is warned of it."`
}

type parkedListCommand struct{}

type parkedShowCommand struct {
	Order string `arg:"" help:"Id or number."`
}

type parkedRetryCommand struct {
	Order string `arg:"" help:"Id or number."`
}

type parkedSkipCommand struct {
	Order string `arg:"" help:"Id or number."`
}

// parkedOrder is a parked order, as the server shows it.
type parkedOrder struct {
	Order    string `json:"order"`
	Source   string `json:"source"`
	Revision uint64 `json:"revision"`
	Position uint64 `json:"position"`
	Error    string `json:"error"`
	Skipped  bool   `json:"skipped"`
}

func (c *client) parked(ctx context.Context) ([]parkedOrder, error) {
	var answer struct {
		Parked []parkedOrder `json:"parked"`
	}
	_, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/parked"}, &answer)
	return answer.Parked, err
}

func (parkedListCommand) Run(ctx context.Context, e *environment) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	parked, err := c.parked(ctx)
	if err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(parked)
	}
	for _, p := range parked {
		skipped := ""
		if p.Skipped {
			skipped = "  (skipped)"
		}
		e.printf("%s  revision %d  %s%s\n", p.Order, p.Revision, p.Error, skipped)
	}
	e.note("%d parked orders", len(parked))
	return nil
}

func (s parkedShowCommand) Run(ctx context.Context, e *environment) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	order, err := c.orderID(ctx, s.Order)
	if err != nil {
		return err
	}
	parked, err := c.parked(ctx)
	if err != nil {
		return err
	}
	for _, p := range parked {
		if p.Order != order {
			continue
		}
		if e.JSON {
			return e.printJSON(p)
		}
		e.printf("order     %s\nledger    %s\nrevision  %d, the first that was not applied\nposition  %d\nskipped   %t\nerror     %s\n",
			p.Order, p.Source, p.Revision, p.Position, p.Skipped, p.Error)
		return nil
	}
	return &exitError{exitNotFound, fmt.Errorf("order %s is not parked", s.Order)}
}

func (r parkedRetryCommand) Run(ctx context.Context, e *environment) error {
	still, err := e.changeParked(ctx, r.Order, "retry")
	if err == nil && still {
		err = &exitError{exitRefused, fmt.Errorf("order %s is parked still: 'orderledger parked show %s' says why", r.Order, r.Order)}
	}
	return err
}

func (s parkedSkipCommand) Run(ctx context.Context, e *environment) error {
	_, err := e.changeParked(ctx, s.Order, "skip")
	return err
}

func (e *environment) changeParked(ctx context.Context, order, do string) (still bool, err error) {
	c, err := e.client()
	if err != nil {
		return false, err
	}
	id, err := c.orderID(ctx, order)
	if err != nil {
		return false, err
	}
	var answer struct {
		Parked bool `json:"parked"`
	}
	_, err = c.call(ctx, request{method: http.MethodPost, path: "/v1/parked/" + id + "/" + do}, &answer)
	if err != nil {
		return false, err
	}
	if e.JSON {
		return answer.Parked, e.printJSON(answer)
	}
	return answer.Parked, nil
}
