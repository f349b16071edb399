package readapi

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

type countsOutput struct {
	Seen
	Body Counts
}

// Counts tell how many orders are in each status.
type Counts struct {
	Orders   uint64        `json:"orders" doc:"In all statuses together"`
	Statuses []StatusCount `json:"statuses" doc:"Every status, in the order in which orders pass them"`
}

// A StatusCount is how many orders are in a status.
type StatusCount struct {
	Status        domain.Status `json:"status"`
	Orders        uint64        `json:"orders"`
	Oldest        *time.Time    `json:"oldest,omitempty" doc:"Since when that order is in the status that has been longest"`
	OldestSeconds float64       `json:"oldest_seconds,omitempty" doc:"How long that is ago"`
}

func (a *api) getCounts(ctx context.Context, in *Freshness) (*countsOutput, error) {
	seen, err := a.freshen(ctx, *in, nil)
	if err != nil {
		return nil, err
	}
	counts, err := a.counts(ctx)
	if err != nil {
		return nil, err
	}
	return &countsOutput{seen, counts}, nil
}

func (a *api) counts(ctx context.Context) (Counts, error) {
	found, err := a.Views.Counts(ctx, web.BusinessUnit(ctx))
	if err != nil {
		return Counts{}, err
	}
	var counts Counts
	for _, status := range domain.Statuses() {
		c := StatusCount{Status: status}
		for _, f := range found {
			if f.Status == status && f.Orders > 0 {
				c.Orders, c.Oldest, c.OldestSeconds = f.Orders, &f.Oldest, max(0, a.Now().Sub(f.Oldest).Seconds())
			}
		}
		counts.Orders += c.Orders
		counts.Statuses = append(counts.Statuses, c)
	}
	return counts, nil
}

type statusOutput struct {
	Seen
	Body SystemStatus
}

// A SystemStatus tells how far the read models have come.
type SystemStatus struct {
	Sources []SourceStatus `json:"sources" doc:"The ledgers that are followed"`
	Parked  []ParkedOrder  `json:"parked" doc:"Orders of the business unit of which an event could not be applied, the longest first, at most 200; the log has the reasons"`
}

// A SourceStatus tells how far the read models have come with one ledger.
type SourceStatus struct {
	Ledger      uuid.UUID           `json:"ledger"`
	Incarnation uint32              `json:"incarnation"`
	Lanes       int                 `json:"lanes"`
	Passed      eventstore.Position `json:"passed" doc:"Every lane has come so far"`
	Newest      eventstore.Position `json:"newest" doc:"The lane that is ahead has come so far"`
	Lag         *LagStatus          `json:"lag,omitempty" doc:"Absent where this process cannot ask the ledger"`
}

// A LagStatus is how far the read models are behind a ledger.
type LagStatus struct {
	Head    eventstore.Position `json:"head" doc:"Where the ledger ends"`
	Events  int                 `json:"events" doc:"How many events were recorded and not yet seen, counted up to 10000"`
	Seconds float64             `json:"seconds" doc:"How long ago the oldest of them was recorded"`
	Parked  int                 `json:"parked" doc:"How many orders are parked, of all business units"`
}

// A ParkedOrder is an order of which an event could not be applied. It is shown as it was before.
type ParkedOrder struct {
	Order    uuid.UUID           `json:"order"`
	Source   uuid.UUID           `json:"source"`
	Revision uint64              `json:"revision" doc:"Of the first event that was not applied"`
	Position eventstore.Position `json:"position" doc:"Of that event"`
}

func (a *api) getStatus(ctx context.Context, in *Freshness) (*statusOutput, error) {
	seen, err := a.freshen(ctx, *in, nil)
	if err != nil {
		return nil, err
	}
	sources, err := a.Views.Sources(ctx)
	if err != nil {
		return nil, err
	}
	parked, err := a.Views.Parked(ctx, projections.MaxLimit)
	if err != nil {
		return nil, err
	}
	lags := a.lagStatus(ctx)
	out := &statusOutput{Seen: seen, Body: SystemStatus{Sources: make([]SourceStatus, len(sources)), Parked: []ParkedOrder{}}}
	for i, s := range sources {
		out.Body.Sources[i] = SourceStatus{s.Ledger, s.Incarnation, s.Lanes, s.Passed, s.Newest, lags[s.Ledger]}
	}
	for _, p := range parked {
		if p.BusinessUnit == "" || p.BusinessUnit == web.BusinessUnit(ctx) {
			out.Body.Parked = append(out.Body.Parked, ParkedOrder{p.Order, p.Source, p.Revision, p.Position})
		}
	}
	return out, nil
}
