package readapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/projections/history"
)

// A historyPage shows one step of an order.
type historyPage struct {
	page
	Step       Step
	Number, Of uint64 // of the step, from 1, and of all
	Rows       []changeRow
	Prev, Next string // links; empty: there is none
	Steps      []stepLink
}

// A changeRow is a field that a step changed, as a person reads it.
type changeRow struct {
	Path, Before, After string
	Sealed              bool
}

// A stepLink leads to a step.
type stepLink struct {
	Link     string
	Revision uint64
	EventID  uuid.UUID
	Text     string
	Status   domain.Status
	Occurred time.Time
}

// maxStepLinks bounds how many steps a page lists, of those around its own.
const maxStepLinks = 100

func (a *api) historyPage(w http.ResponseWriter, r *http.Request) {
	p, err := a.historyPageOf(r.Context(), chi.URLParam(r, "id"), r.URL.Query().Get("revision"), pageFreshness(r))
	a.render(w, r, "history", p, err)
}

// historyPageOf shows the step of a revision, or the newest where none is named.
func (a *api) historyPageOf(ctx context.Context, name, revision string, f Freshness) (*historyPage, error) {
	id, seen, err := a.locate(ctx, name, f)
	if err != nil {
		return nil, err
	}
	var m history.Moment
	if revision != "" {
		if m, err = revisionMoment(revision); err != nil {
			return nil, err
		}
	}
	step, err := a.at(ctx, id, m)
	if err != nil {
		return nil, err
	}
	p := &historyPage{page: a.page(ctx, "History of order "+step.After.Number, seen), Number: step.Recorded.Revision + 1}
	return p, a.fill(ctx, p, id, step.Recorded.Revision)
}

// fill adds the step of a revision, and those around it.
func (a *api) fill(ctx context.Context, p *historyPage, id uuid.UUID, revision uint64) error {
	link := func(revision uint64) string {
		return p.query("/orders/"+id.String()+"/history", url.Values{"revision": {strconv.FormatUint(revision, 10)}})
	}
	ledger, err := a.copyOf(ctx, id)
	if err != nil {
		return err
	}
	for s, err := range history.Steps(ctx, ledger, id) {
		if err != nil {
			return historyError(err)
		}
		p.Of++
		n := s.Recorded.Revision
		switch {
		case n == revision:
			p.Step = a.step(s)
		case n+1 == revision:
			p.Prev = link(n)
		case n == revision+1:
			p.Next = link(n)
		}
		if max(n, revision)-min(n, revision) <= maxStepLinks/2 {
			p.Steps = append(p.Steps, stepLink{link(n), n, s.Recorded.ID, plainType(s.Recorded.Type), s.After.Status(), s.Meta.Occurred})
		}
	}
	texts, err := a.sentences(ctx, id, p.Steps[0].Revision, len(p.Steps))
	if err != nil {
		return err
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		s.Text = cmp.Or(texts[s.EventID], s.Text)
		if s.Revision == revision {
			p.Step.Text = s.Text
		}
	}
	for _, c := range p.Step.Changes {
		p.Rows = append(p.Rows, rowsOf(c)...)
	}
	return nil
}

// rowsOf gives each field of what was added or removed as a whole a row of its own.
func rowsOf(c Change) []changeRow {
	if c.Sealed {
		return []changeRow{{Path: c.Path, Sealed: true}}
	}
	before, after := leaves(c.Path, c.Before), leaves(c.Path, c.After)
	paths := slices.Sorted(maps.Keys(before))
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if _, both := before[path]; !both {
			paths = append(paths, path)
		}
	}
	rows := make([]changeRow, len(paths))
	for i, path := range paths {
		rows[i] = changeRow{Path: path, Before: before[path], After: after[path]}
	}
	return rows
}

// leaves returns the values within a JSON value by their paths.
func leaves(path string, value json.RawMessage) map[string]string {
	found := make(map[string]string)
	if len(value) == 0 {
		return found
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		found[path] = string(value)
		return found
	}
	addLeaves(found, path, v)
	return found
}

func addLeaves(found map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			addLeaves(found, path+"."+name, member)
		}
	case []any:
		names := history.Names(v)
		for i, entry := range v {
			addLeaves(found, path+"["+names[i]+"]", entry)
		}
	case string:
		found[path] = v
	case json.Number:
		found[path] = v.String()
	case bool:
		found[path] = strconv.FormatBool(v)
	}
}
