package readapi

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

type conflictsInput struct {
	Freshness
	All    bool   `query:"all" doc:"Also those that somebody has settled"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Cursor string `query:"cursor" maxLength:"4096" doc:"Goes on where the list that answered it ended"`
}

type conflictsOutput struct {
	Seen
	Body ConflictList
}

// A ConflictList is a part of the list of conflicts.
type ConflictList struct {
	Conflicts []Conflict `json:"conflicts" doc:"The open ones first, of each kind the newest first"`
	Next      string     `json:"next,omitempty" doc:"Cursor for what follows; absent at the end"`
}

// A Conflict is something that one region has done with an order and that does not count where the order lives. People
// deal with it, and settle it.
type Conflict struct {
	Order  uuid.UUID `json:"order"`
	Number string    `json:"number" doc:"Of the order, for people"`
	Text   string    `json:"text" doc:"What is in conflict, as a sentence for people"`
	Region string    `json:"region,omitempty" doc:"The name of the region that has done it; absent where the topology does not know it"`
	domain.OrderConflict
	Found     time.Time  `json:"found" doc:"When the conflict was found"`
	SettledAt *time.Time `json:"settled_at,omitempty"`
	Source    uuid.UUID  `json:"source" doc:"The ledger that the order's events come from"`
}

// State says in a word whether somebody has to deal with it.
func (c Conflict) State() string {
	if c.Settled {
		return "settled"
	}
	return "open"
}

func (a *api) conflict(c projections.Conflict) Conflict {
	view := Conflict{
		Order: c.Order, Number: c.Number, Text: projections.ConflictSummary(c.Conflict).String(), Region: a.regionName(c.Ledger),
		OrderConflict: domain.OrderConflict{Conflict: c.Conflict, Settled: !c.Settled.IsZero(), Answer: c.Answer},
		Found:         c.Found, Source: c.Source,
	}
	if view.Settled {
		view.SettledAt = &c.Settled
	}
	return view
}

func (a *api) getConflicts(ctx context.Context, in *conflictsInput) (*conflictsOutput, error) {
	seen, err := a.freshen(ctx, in.Freshness, nil)
	if err != nil {
		return nil, err
	}
	list, err := a.conflicts(ctx, in.All, in.Limit, in.Cursor)
	if err != nil {
		return nil, err
	}
	return &conflictsOutput{seen, list}, nil
}

func (a *api) conflicts(ctx context.Context, all bool, limit int, cursor string) (ConflictList, error) {
	list := ConflictList{Conflicts: []Conflict{}}
	q := projections.ConflictQuery{BusinessUnit: web.BusinessUnit(ctx), All: all}
	name := "conflicts " + q.BusinessUnit
	if all {
		name = "all " + name
	}
	if cursor != "" {
		if err := a.server.Cursors.Open(name, cursor, &q.After); err != nil {
			return list, err
		}
	}
	q.Limit = min(limit+1, projections.MaxLimit) // one more tells whether there is more
	rows, err := a.Views.Conflicts(ctx, q)
	if err != nil {
		return list, err
	}
	if more := len(rows) > limit || len(rows) == projections.MaxLimit; more {
		rows = rows[:limit]
		list.Next = a.server.Cursors.Seal(name, rows[len(rows)-1].Cursor())
	}
	for _, row := range rows {
		list.Conflicts = append(list.Conflicts, a.conflict(row))
	}
	return list, nil
}

// A conflictsPage shows what somebody has to deal with.
type conflictsPage struct {
	page
	Open      uint64
	Conflicts []Conflict
	All       bool   // those too that are settled
	Other     string // link to the page that shows the settled ones too, or does not
	Next      string // link to what follows; empty: nothing does
}

// conflictsLimit is how many conflicts are on one page.
const conflictsLimit = 50

func (a *api) conflictsPage(w http.ResponseWriter, r *http.Request) {
	p, err := a.conflictsPageOf(r.Context(), r.URL.Query(), pageFreshness(r))
	a.render(w, r, "conflicts", p, err)
}

func (a *api) conflictsPageOf(ctx context.Context, query url.Values, f Freshness) (*conflictsPage, error) {
	seen, err := a.freshen(ctx, f, nil)
	if err != nil {
		return nil, err
	}
	p := &conflictsPage{page: a.page(ctx, "Conflicts", seen), All: query.Get("all") == "true"}
	places, err := a.Views.End(ctx)
	if err != nil {
		return nil, err
	}
	p.Events = p.query("/v1/notifications", url.Values{"after": {formatPlaces(places)}})
	if p.Open, err = a.Views.OpenConflicts(ctx, web.BusinessUnit(ctx)); err != nil {
		return nil, err
	}
	list, err := a.conflicts(ctx, p.All, conflictsLimit, query.Get("cursor"))
	if err != nil {
		return nil, err
	}
	p.Conflicts = list.Conflicts
	next, other := url.Values{"cursor": {list.Next}}, url.Values{"all": {"true"}}
	if p.All {
		next, other = url.Values{"cursor": {list.Next}, "all": {"true"}}, nil
	}
	p.Other = p.query("/conflicts", other)
	if list.Next != "" {
		p.Next = p.query("/conflicts", next)
	}
	return p, nil
}
