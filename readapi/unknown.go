package readapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

const codeUnknownOrder = "unknown_order" // also a refusal of the write side

func unknownOrder() error {
	return &web.Error{Status: http.StatusNotFound, Code: codeUnknownOrder, Detail: "There is no such order."}
}

// levelWait bounds how long an answer waits until it is sure that there is no order.
const levelWait = time.Second

// awayRetry is when to ask again for an order that a region may have which cannot be reached.
const awayRetry = 10 * time.Second

// look looks for an order in the rows. Where there are other regions it looks again when the rows have all that they are
// known to have had meanwhile; so there is no order where it returns unknown_order. It does not wait for long: where the
// rows are late, or nobody knows what a region has, it returns not_known_yet.
func (a *api) look(ctx context.Context, find func() error) error {
	err := find()
	if !errors.Is(err, projections.ErrNotFound) {
		return err
	}
	ends, err := a.ends(ctx)
	if err != nil {
		return err
	}
	if len(ends) == 0 {
		return unknownOrder()
	}
	if err := a.awaitEnds(ctx, ends); err != nil {
		return err
	}
	if err = find(); errors.Is(err, projections.ErrNotFound) {
		return unknownOrder()
	}
	return err
}

// ends returns where the ledgers of other regions ended when they were last heard of, by the names of the regions.
func (a *api) ends(ctx context.Context) (map[string]eventstore.Mark, error) {
	ends := make(map[string]eventstore.Mark)
	for _, r := range a.regions() {
		m := r.Mirror
		switch {
		case m == nil:
			continue
		case m.Heard.IsZero():
			return nil, notKnownYet("Region "+r.Name+" was not heard of yet.", awayRetry)
		case m.Problem != "":
			return nil, notKnownYet("Region "+r.Name+" was last heard of at "+m.Heard.UTC().Format(time.RFC3339)+".", awayRetry)
		}
		end := eventstore.Mark{Ledger: r.Ledger, Position: m.Position}
		if m.Events > 0 { // else nothing that rows are made of stands behind what the mirror has
			end.Position = max(m.Position, m.Head)
		}
		ends[r.Name] = end
	}
	if len(ends) == 0 {
		return nil, nil
	}
	sources, err := a.Views.Sources(ctx)
	for name, end := range ends {
		for _, s := range sources {
			if s.Ledger == end.Ledger {
				end.Incarnation = s.Incarnation
				ends[name] = end
			}
		}
	}
	return ends, err
}

// awaitEnds waits until the rows have come to the ends of ledgers.
func (a *api) awaitEnds(ctx context.Context, ends map[string]eventstore.Mark) error {
	waiting, cancel := context.WithTimeout(ctx, levelWait)
	defer cancel()
	for region, end := range ends {
		err := a.Views.WaitFor(waiting, end, nil)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case waiting.Err() != nil, errors.Is(err, projections.ErrUnknownLedger), errors.Is(err, projections.ErrLostBranch):
			return notKnownYet("This region is behind region "+region+".", time.Second)
		default:
			return fmt.Errorf("waiting for all of region %s: %w", region, err)
		}
	}
	return nil
}

func notKnownYet(why string, retry time.Duration) error {
	return &web.Error{
		Status: http.StatusServiceUnavailable, Code: "not_known_yet", RetryAfter: retry,
		Detail: "No order of that name is known here, but another region may have it. " + why,
	}
}
