package main

import (
	"context"
	"fmt"
	"time"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/bench"
)

// longOrders are the lengths of orders on which the next command is measured.
var longOrders = []int{10, 100, 1_000, 10_000}

const (
	nextOrders   = 50 // of a length
	nextCommands = 4  // on each
)

// measureLong measures commands on orders that have had many.
func (g *growth) measureLong(ctx context.Context, n *benchNode) error {
	m, err := newOrderMaker(ctx, n.ledger)
	if err != nil {
		return err
	}
	var base [2]*bench.Spread
	for _, length := range longOrders {
		if length > g.sizes[0] {
			break
		}
		g.step("next command on orders of %d events", length)
		first, next, err := g.nextCommands(ctx, n, m, fmt.Sprintf("long%d", length), length, max(nextOrders*10/length, 5))
		if err != nil {
			return err
		}
		for i, f := range []bench.Figure{
			plainFigure(fmt.Sprintf("first command on an order of %d events", length), "ms", first),
			plainFigure(fmt.Sprintf("next command on an order of %d events", length), "ms", next),
		} {
			if base[i] == nil {
				base[i] = &f.Value
			} else {
				f.Limit = base[i]
			}
			if i == 1 && f.Limit != nil {
				f.Aim = &bench.Aim{Value: growthAim, AtMost: true}
			}
			g.long = append(g.long, f)
		}
	}
	return nil
}

// nextCommands appends orders of a length and measures a few commands on each, one after the other. It returns the median
// of the first ones, when the server has nothing of the order at hand, and of those that follow at once, in milliseconds.
func (g *growth) nextCommands(ctx context.Context, n *benchNode, m *orderMaker, name string, length, orders int) (first, next float64, err error) {
	made := make([]domain.Order, orders)
	for i := range made {
		var events []eventstore.Event
		if made[i], events, err = m.held(name, i, length); err != nil {
			return 0, 0, err
		}
		for from := 0; from < length; from += 1_000 { // an append must not be too large
			expected := eventstore.NoStream
			if from > 0 {
				expected = eventstore.At(uint64(from - 1))
			}
			if _, err := n.ledger.Append(ctx, domain.Stream(made[i].ID), expected, events[from:min(from+1_000, length)]); err != nil {
				return 0, 0, err
			}
		}
		g.events += length
		g.orders++
	}
	if err := n.quiet(ctx); err != nil {
		return 0, 0, err
	}
	var took [2]bench.Histogram
	for _, order := range made {
		for k := range nextCommands {
			begun := time.Now()
			r, err := n.handler.Handle(ctx, nextCommand(order, k), domain.Personal{})
			if err != nil {
				return 0, 0, err
			}
			took[min(k, 1)].Record(time.Since(begun))
			g.events += len(r.Events)
			order = r.Order
		}
	}
	return bench.Milliseconds(took[0].Quantile(0.5)), bench.Milliseconds(took[1].Quantile(0.5)), nil
}

// nextCommand holds an order, or releases it where it is held.
func nextCommand(o domain.Order, k int) domain.Command {
	var do domain.Action = domain.PlaceHold{Reason: domain.Reason{Code: "credit_check"}}
	if len(o.Holds) > 0 {
		do = domain.Release{Hold: o.Holds[0].ID, Reason: domain.Reason{Code: "checked"}}
	}
	return domain.Command{
		ID: domain.CommandID(o.ID, localSubmitter, fmt.Sprint("next", k)), Order: o.ID, BusinessUnit: benchUnit,
		Actor: domain.Actor{Kind: "person", Issuer: "local", Subject: localSubmitter}, Do: do,
	}
}
