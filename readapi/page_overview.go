package readapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

// An overviewPage shows how many orders stand where, and those that are new or looked for.
type overviewPage struct {
	page
	Counts  Counts
	Words   string        // what is looked for
	Status  domain.Status // in which orders are; empty: any
	Orders  []OrderSummary
	Next    string // link to what follows; empty: nothing does
	Problem string // why nothing was found
}

// Search is the link to the orders in a status.
func (p *overviewPage) Search(s domain.Status) string {
	return p.query("/", url.Values{"status": {string(s)}})
}

// overviewLimit is how many orders are on one page.
const overviewLimit = 25

func (a *api) overviewPage(w http.ResponseWriter, r *http.Request) {
	p, err := a.overview(r.Context(), r.URL.Query(), pageFreshness(r))
	if err == nil && p.Words != "" && len(p.Orders) == 1 && p.Orders[0].Number == numberIn(p.Words) {
		http.Redirect(w, r, p.Link("/orders/", p.Orders[0].ID), http.StatusSeeOther)
		return
	}
	a.render(w, r, "overview", p, err)
}

// numberIn is the order number that somebody has typed, if it is one.
func numberIn(words string) string {
	number, _ := domain.ParseNumber(words)
	return number
}

func (a *api) overview(ctx context.Context, query url.Values, f Freshness) (*overviewPage, error) {
	seen, err := a.freshen(ctx, f, nil)
	if err != nil {
		return nil, err
	}
	p := &overviewPage{page: a.page(ctx, "Orders", seen), Words: query.Get("q")}
	places, err := a.Views.End(ctx)
	if err != nil {
		return nil, err
	}
	p.Events = p.query("/v1/notifications", url.Values{"after": {formatPlaces(places)}})
	if p.Counts, err = a.counts(ctx); err != nil {
		return nil, err
	}
	q := projections.Query{BusinessUnit: web.BusinessUnit(ctx), Words: p.Words, Limit: overviewLimit + 1}
	if s := domain.Status(query.Get("status")); slices.Contains(domain.Statuses(), s) {
		p.Status, q.Statuses = s, []domain.Status{s}
	}
	list := "overview " + q.BusinessUnit + "\n" + string(p.Status) + "\n" + p.Words
	if cursor := query.Get("cursor"); cursor != "" {
		if err := a.server.Cursors.Open(list, cursor, &q.After); err != nil {
			return nil, err
		}
	}
	rows, err := a.Views.Orders(ctx, q)
	if errors.Is(err, projections.ErrTooManyWords) {
		p.Problem = "A search has at most eight words."
	} else if err != nil {
		return nil, err
	}
	if len(rows) > overviewLimit {
		rows = rows[:overviewLimit]
		next := url.Values{"cursor": {a.server.Cursors.Seal(list, rows[len(rows)-1].Cursor())}}
		for _, name := range []string{"q", "status"} {
			if v := query.Get(name); v != "" {
				next.Set(name, v)
			}
		}
		p.Next = p.query("/", next)
	}
	for _, row := range rows {
		p.Orders = append(p.Orders, summary(row))
	}
	return p, nil
}
