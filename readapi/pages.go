package readapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/orderledger/orderledger/internal/web"
)

// A page is what every page has.
type page struct {
	Title  string
	Unit   string // business unit; empty: the usual one
	Events string // where the news come from that move the page; empty: it does not move
	Behind string // how far the read models are behind; empty: they are not
	Many   bool   // there are several regions
	Now    time.Time
}

func (a *api) page(ctx context.Context, title string, seen Seen) page {
	p := page{Title: title, Now: a.Now(), Many: a.Regions != nil}
	if unit := web.BusinessUnit(ctx); unit != web.DefaultBusinessUnit {
		p.Unit = unit
	}
	for _, lag := range seen.Lag {
		if events, seconds, _ := strings.Cut(lag, ";"); events != "0" {
			p.Behind = events + " events, " + seconds + " s behind the ledger"
		}
	}
	return p
}

// Link puts the parts of a path together, none of which may need escaping, and adds the business unit.
func (p page) Link(parts ...any) string {
	var path strings.Builder
	for _, part := range parts {
		fmt.Fprint(&path, part)
	}
	return p.query(path.String(), nil)
}

func (p page) query(path string, query url.Values) string {
	if query == nil {
		query = url.Values{}
	}
	if p.Unit != "" {
		query.Set("business_unit", p.Unit)
	}
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// pageFreshness is what a page has to show at least, from its query.
func pageFreshness(r *http.Request) Freshness {
	return Freshness{MarkInQuery: r.URL.Query().Get("mark")}
}

// A problemPage says what is wrong.
type problemPage struct {
	page
	Status int
	Detail string
}

// render answers with a page, or with one that says what is wrong.
func (a *api) render(w http.ResponseWriter, r *http.Request, name string, data any, err error) {
	status := http.StatusOK
	if err != nil {
		problem := a.server.Problem(r.Context(), err)
		name, status = "problem", problem.Status
		data = problemPage{a.page(r.Context(), problem.Title, Seen{}), problem.Status, problem.Detail}
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
	}
	var body bytes.Buffer // a failure must not end in half a page
	if err := a.pages.templates[name].ExecuteTemplate(&body, name+".html", data); err != nil {
		a.server.WriteProblem(w, r, fmt.Errorf("writing a page: %w", err))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // a client that has gone needs no page
}
