package readapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
	"github.com/orderledger/orderledger/projections/history"
)

// A Region is one of those where orders have their home, as this one knows it.
type Region struct {
	Name                string
	Continent           string
	Latitude, Longitude float64
	API                 string // where it answers
	Ledger              uuid.UUID
	Here                bool // it is this one

	// Copy is what this region has of the ledger: the ledger itself, or the mirror of another region's; nil: nothing yet.
	Copy eventstore.Reader
	// Mirror is how far the mirror is; nil for the region itself.
	Mirror *Mirror
}

// A Mirror is how far the copy of another region's ledger is.
type Mirror struct {
	Position eventstore.Position // up to here it was compared with the chain
	Head     eventstore.Position // where the ledger ended when it was last heard of
	Events   int                 // that the copy lacks, as far as is known
	Age      time.Duration       // since the oldest of them was recorded, as far as is known
	Heard    time.Time           // when the other region was last heard of; zero: never
	Problem  string              // why nothing is copied; empty: it is
}

// regions are those that the configuration names.
func (a *api) regions() []Region {
	if a.Regions == nil {
		return nil
	}
	return a.Regions()
}

// copyOf returns the reader of an order's history: that of the ledger which counts, as far as the rows know, or else one
// that has the order.
func (a *api) copyOf(ctx context.Context, order uuid.UUID) (eventstore.Reader, error) {
	regions := a.regions()
	if len(regions) == 0 {
		return a.Ledger, nil
	}
	row, _, err := a.Views.Order(ctx, web.BusinessUnit(ctx), order)
	if errors.Is(err, projections.ErrNotFound) {
		if _, err := history.At(ctx, a.Ledger, order, history.Revision(0)); !errors.Is(err, history.ErrNotFound) {
			return a.Ledger, err // it knows more orders than the rows do
		}
		err = a.look(ctx, func() error {
			row, _, err = a.Views.Order(ctx, web.BusinessUnit(ctx), order)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	for _, r := range regions {
		if r.Ledger == row.Source && r.Copy != nil {
			return r.Copy, nil
		}
	}
	return a.Ledger, nil
}

// regionName returns the name of the region whose ledger has an id; empty: the topology knows none.
func (a *api) regionName(ledger string) string {
	for _, r := range a.regions() {
		if r.Ledger.String() == ledger {
			return r.Name
		}
	}
	return ""
}

// behind says how far a mark's ledger is ahead of what can be seen here.
func (a *api) behind(ctx context.Context, ledger uuid.UUID) string {
	for _, l := range a.lags(ctx) {
		if l.Ledger != ledger {
			continue
		}
		for _, r := range a.regions() {
			if r.Ledger == ledger && !r.Here {
				return fmt.Sprintf(" This region is %d events and %.1f s behind region %s.", l.Events, l.Age.Seconds(), r.Name)
			}
		}
		return fmt.Sprintf(" The read models are %d events and %.1f s behind.", l.Events, l.Age.Seconds())
	}
	return ""
}

type regionsOutput struct {
	Seen
	Body RegionList
}

// A RegionList tells where orders have their home.
type RegionList struct {
	Regions []RegionStatus `json:"regions" doc:"This region first; none where there is only one"`
}

// A RegionStatus is a region as this one knows it.
type RegionStatus struct {
	Name      string               `json:"name" example:"eu-west"`
	Continent string               `json:"continent,omitempty"`
	API       string               `json:"api,omitempty" doc:"Where it answers"`
	Ledger    uuid.UUID            `json:"ledger"`
	Here      bool                 `json:"here,omitempty" doc:"It is the region that answers this"`
	Orders    uint64               `json:"orders" doc:"Of the business unit, that have their home there and can be seen here"`
	Mirror    *MirrorStatus        `json:"mirror,omitempty" doc:"How far the copy of its ledger is; absent for the region itself"`
	Passed    *eventstore.Position `json:"passed,omitempty" doc:"How far the read models have come with its ledger; absent where they have not begun"`
	Lag       *LagStatus           `json:"lag,omitempty" doc:"How far the read models here are behind its ledger"`
}

// A MirrorStatus is how far the copy of a ledger is.
type MirrorStatus struct {
	Position eventstore.Position `json:"position" doc:"Up to here it was compared with the chain of the ledger"`
	Head     eventstore.Position `json:"head" doc:"Where the ledger ended when it was last heard of"`
	Events   int                 `json:"events" doc:"How many events the copy lacks, as far as is known"`
	Seconds  float64             `json:"seconds" doc:"How long ago the oldest of them was recorded, as far as is known"`
	Heard    *time.Time          `json:"heard,omitempty" doc:"When the region was last heard of; absent: never"`
	Problem  string              `json:"problem,omitempty" doc:"Why nothing is copied; absent: it is"`
}

func (a *api) getRegions(ctx context.Context, in *Freshness) (*regionsOutput, error) {
	seen, err := a.freshen(ctx, *in, nil)
	if err != nil {
		return nil, err
	}
	list, err := a.regionList(ctx)
	if err != nil {
		return nil, err
	}
	return &regionsOutput{seen, list}, nil
}

func (a *api) regionList(ctx context.Context) (RegionList, error) {
	list := RegionList{Regions: []RegionStatus{}}
	homes, err := a.Views.Homes(ctx, web.BusinessUnit(ctx))
	if err != nil {
		return list, err
	}
	sources, err := a.Views.Sources(ctx)
	if err != nil {
		return list, err
	}
	passed := make(map[uuid.UUID]*eventstore.Position)
	for i := range sources {
		passed[sources[i].Ledger] = &sources[i].Passed
	}
	lags := a.lagStatus(ctx)
	for _, r := range a.regions() {
		s := RegionStatus{
			Name: r.Name, Continent: r.Continent, API: r.API, Ledger: r.Ledger, Here: r.Here, Orders: homes[r.Ledger],
			Passed: passed[r.Ledger], Lag: lags[r.Ledger],
		}
		if m := r.Mirror; m != nil {
			s.Mirror = &MirrorStatus{Position: m.Position, Head: m.Head, Events: m.Events, Seconds: m.Age.Seconds(), Problem: m.Problem}
			if !m.Heard.IsZero() {
				s.Mirror.Heard = &m.Heard
			}
		}
		list.Regions = append(list.Regions, s)
	}
	return list, nil
}

// lagStatus is how far the read models are behind each ledger.
func (a *api) lagStatus(ctx context.Context) map[uuid.UUID]*LagStatus {
	lags := make(map[uuid.UUID]*LagStatus)
	for _, l := range a.lags(ctx) {
		lags[l.Ledger] = &LagStatus{Head: l.Head, Events: l.Events, Seconds: l.Age.Seconds(), Parked: l.Parked}
	}
	return lags
}

// A regionsPage shows where orders have their home and how far this region is behind each.
type regionsPage struct {
	page
	Regions   []regionView
	Conflicts uint64 // that are open
}

// A regionView is a region and its place on the map.
type regionView struct {
	RegionStatus
	X, Y float64 // in a map of 360 by 180 degrees
}

// State is what a region's dot on the map says.
func (v regionView) State() string {
	switch {
	case v.Here:
		return "here"
	case v.Mirror == nil || v.Mirror.Heard == nil:
		return "unknown"
	case v.Mirror.Problem != "":
		return "cut"
	case v.Lag != nil && v.Lag.Seconds > 10:
		return "late"
	}
	return "well"
}

func (a *api) regionsPage(w http.ResponseWriter, r *http.Request) {
	p, err := a.regionsPageOf(r.Context(), pageFreshness(r))
	a.render(w, r, "regions", p, err)
}

func (a *api) regionsPageOf(ctx context.Context, f Freshness) (*regionsPage, error) {
	seen, err := a.freshen(ctx, f, nil)
	if err != nil {
		return nil, err
	}
	p := &regionsPage{page: a.page(ctx, "Regions", seen)}
	places, err := a.Views.End(ctx)
	if err != nil {
		return nil, err
	}
	p.Events = p.query("/v1/notifications", url.Values{"after": {formatPlaces(places)}})
	if p.Conflicts, err = a.Views.OpenConflicts(ctx, web.BusinessUnit(ctx)); err != nil {
		return nil, err
	}
	list, err := a.regionList(ctx)
	if err != nil {
		return nil, err
	}
	for i, r := range a.regions() {
		if i < len(list.Regions) { // they may have been read again in between
			p.Regions = append(p.Regions, regionView{list.Regions[i], r.Longitude + 180, 90 - r.Latitude})
		}
	}
	return p, nil
}
