package readapi

import (
	"context"
	"iter"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/projections"
)

type watchInput struct {
	OrderPath
	LiveInput
}

// Progress is a part of what happened to an order.
type Progress struct {
	Events []TimelineEntry `json:"events"`
	After  string          `json:"after,omitempty" doc:"Send it back to get what follows"`
}

// watchOrder gives out all events of an order, those of the past first.
func (a *api) watchOrder(ctx context.Context, in *watchInput) (answer, error) {
	row, _, seen, err := a.find(ctx, in.ID, in.Freshness)
	if err != nil {
		return nil, err
	}
	var from uint64
	if after := in.after(); after != "" {
		p, err := parsePlace(after)
		if err != nil {
			return nil, err
		}
		same := p.source == row.Source
		if !same { // the order has moved, unless the two have nothing to do with each other
			if same, err = a.Views.Same(ctx, row.BusinessUnit, row.ID, p.source, row.Source, p.revision); err != nil {
				return nil, err
			}
		}
		if same {
			from = p.revision + 1
		}
	}
	return reply(a, &in.LiveInput, a.orderFeed(row, from), seen), nil
}

// orderFeed gives out an order's events from a revision on.
func (a *api) orderFeed(row projections.Order, from uint64) *feed[TimelineEntry] {
	f := &feed[TimelineEntry]{body: func(events []TimelineEntry, after string) any { return Progress{events, after} }}
	if from > 0 {
		f.at = place{row.Source, from - 1}.String()
	}
	advance := func(e projections.Entry) TimelineEntry {
		entry := a.timelineEntry(e)
		f.at, from, row.Source = entry.ID, e.Revision+1, e.Source
		return entry
	}
	f.ready = func(ctx context.Context, n int) ([]TimelineEntry, error) {
		entries := []TimelineEntry{}
		if n == 0 {
			return entries, nil
		}
		list, err := a.Views.Timeline(ctx, row.BusinessUnit, row.Source, row.ID, from, n)
		for _, e := range list {
			entries = append(entries, advance(e))
		}
		return entries, err
	}
	f.next = func(ctx context.Context) iter.Seq2[TimelineEntry, error] {
		return func(yield func(TimelineEntry, error) bool) {
			for e, err := range a.Views.WatchOrder(ctx, row.BusinessUnit, row.Source, row.ID, from) {
				if err != nil {
					yield(TimelineEntry{}, err)
					return
				}
				if !yield(advance(e), nil) {
					return
				}
			}
		}
	}
	return f
}

// A place is where somebody who follows an order has come to.
type place struct {
	source   uuid.UUID
	revision uint64
}

func (p place) String() string { return p.source.String() + ":" + strconv.FormatUint(p.revision, 10) }

func parsePlace(s string) (place, error) {
	ledger, revision, _ := strings.Cut(s, ":")
	source, err1 := uuid.Parse(ledger)
	n, err2 := strconv.ParseUint(revision, 10, 62)
	p := place{source, n}
	if err1 != nil || err2 != nil || p.String() != s {
		return place{}, invalidAfter()
	}
	return p, nil
}
