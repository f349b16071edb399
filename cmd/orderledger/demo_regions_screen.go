package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A regionsScreen shows a tour in a terminal, or says little where nobody looks.
type regionsScreen struct {
	env     *environment
	tour    *tour
	metrics *prometheus.Registry // of the entry
	live    bool
	shown   time.Time
	lines   int      // drawn last time
	told    []string // the story so far
}

func newRegionsScreen(e *environment, d demoCommand, t *tour, metrics *prometheus.Registry, data string) *regionsScreen {
	s := &regionsScreen{env: e, tour: t, metrics: metrics, live: isTerminal(e.err) && !e.JSON && !d.Exit}
	if d.Exit {
		return s
	}
	e.note("An optics maker's orders, %d of them, seed %d, in %d regions.", d.Orders, d.Seed, d.Regions)
	e.note("")
	e.note("  the entry   %s/", t.crowd.entry)
	for _, m := range t.fleet.members {
		e.note("  %-10s  %s/regions", m.region.Name, m.region.API)
	}
	e.note("  the data    %s", data)
	e.note("")
	return s
}

// tell tells what has happened.
func (s *regionsScreen) tell(format string, args ...any) {
	line := fmt.Sprintf("%6.1f s  %s", time.Since(s.tour.begun).Seconds(), fmt.Sprintf(format, args...))
	s.told = append(s.told, line)
	switch {
	case s.live:
		s.shown = time.Time{} // at once
	case s.env.JSON:
		s.env.note("%s", line)
	default:
		s.env.printf("%s\n", line)
	}
}

// show draws how the tour stands, now and then.
func (s *regionsScreen) show(ctx context.Context) error {
	if !s.live || time.Since(s.shown) < screenInterval {
		return nil
	}
	s.shown = time.Now()
	return s.draw(ctx)
}

func (s *regionsScreen) draw(ctx context.Context) error {
	var b strings.Builder
	if s.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", s.lines)
	}
	drawn := b.Len()
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "  region\tat home\tbehind\tstate\n")
	for _, m := range s.tour.fleet.members {
		homes, err := m.views.Homes(ctx, demoUnit)
		if err != nil {
			return err
		}
		events, age, err := s.tour.fleet.behind(ctx, m)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "  %s\t%d\t%s\t%s\n", m.region.Name, homes[m.own], late(events, age), s.tour.state(m))
	}
	_ = w.Flush() // a builder takes everything
	n := s.tour.crowd.counts()
	again, err := s.resent()
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "\n  orders %d of %d   sent %d   acknowledged %d   answered elsewhere %d\n", n.Begun, s.tour.orders, n.Sent, n.Acknowledged, n.Elsewhere)
	fmt.Fprintf(&b, "  sent again: %d by the entry, %d by clients; %d twice on purpose\n", again, n.Again, n.Twice)
	fmt.Fprintf(&b, "  longest wait %.1f s, for a home that was cut off %.1f s; %d orders wait now\n\n", n.Longest.Seconds(), n.LongestHome.Seconds(), n.Waiting)
	for _, line := range s.told {
		b.WriteString(line + "\n")
	}
	text := b.String()
	s.lines = strings.Count(text[drawn:], "\n")
	fmt.Fprint(s.env.err, text)
	return nil
}

func late(events int, age time.Duration) string {
	if events == 0 {
		return "-"
	}
	return fmt.Sprintf("%d events, %.1f s", events, age.Seconds())
}

// state says how a region stands.
func (t *tour) state(m *member) string {
	switch {
	case t.fleet.network.isCut(m.region.Name):
		return "cut off"
	case m == t.away && !t.healed.IsZero() && t.level.IsZero():
		return "catches up"
	}
	return "takes orders"
}

// resent is how many requests the entry has sent again, to another region.
func (s *regionsScreen) resent() (int, error) {
	families, err := s.metrics.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == "orderledger_edge_retries_total" {
			return int(f.GetMetric()[0].GetCounter().GetValue()), nil
		}
	}
	return 0, nil
}

// A regionsReport is what a tour has come to.
type regionsReport struct {
	Orders       int           `json:"orders"`
	Regions      []regionCount `json:"regions"`
	Requests     int           `json:"requests"`     // that clients have sent
	Acknowledged int           `json:"acknowledged"` // commands
	Elsewhere    int           `json:"elsewhere"`    // of them that another region than the nearest has answered
	Resent       int           `json:"resent"`       // by the entry
	Again        int           `json:"again"`        // by clients
	Twice        int           `json:"twice"`        // commands that were sent twice on purpose
	Refused      int           `json:"refused"`
	MadeTwice    int           `json:"made_twice"` // orders, of which one counts
	Longest      float64       `json:"longest_wait_seconds"`
	LongestHome  float64       `json:"longest_wait_for_home_seconds"`
	CutOff       string        `json:"cut_off"`
	Outage       float64       `json:"outage_seconds"`
	Missed       int           `json:"missed_events"`
	CatchUp      float64       `json:"catch_up_seconds"`
	Rows         int           `json:"rows"`
	Hash         string        `json:"hash"`
	Seconds      float64       `json:"seconds"`
}

type regionCount struct {
	Name   string `json:"name"`
	API    string `json:"api"`
	Orders uint64 `json:"orders"` // that have their home there and count
}

// sum waits for all regions and says whether they agree, and show what was acknowledged.
func (s *regionsScreen) sum(ctx context.Context) error {
	t := s.tour
	if s.live {
		if err := s.draw(ctx); err != nil {
			return err
		}
	}
	settling, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := t.fleet.settle(settling); err != nil {
		return err
	}
	n := t.crowd.counts()
	r := regionsReport{
		Orders: len(t.crowd.known), Requests: n.Sent, Acknowledged: n.Acknowledged, Elsewhere: n.Elsewhere, Again: n.Again, Twice: n.Twice, Refused: n.Refused,
		Longest: n.Longest.Seconds(), LongestHome: n.LongestHome.Seconds(), CutOff: t.away.region.Name, Missed: t.missed,
		Outage: t.healed.Sub(t.cut).Seconds(), CatchUp: t.level.Sub(t.healed).Seconds(), Seconds: time.Since(t.begun).Seconds(),
	}
	var err error
	if r.Resent, err = s.resent(); err != nil {
		return err
	}
	twice, err := t.fleet.twice(ctx)
	if err != nil {
		return err
	}
	r.MadeTwice = len(twice)
	for _, m := range t.fleet.members {
		homes, err := m.views.Homes(ctx, demoUnit)
		if err != nil {
			return err
		}
		r.Regions = append(r.Regions, regionCount{m.region.Name, m.region.API, homes[m.own]})
		if err := m.showsAll(ctx, t.crowd.known, twice); err != nil {
			return &exitError{exitDifferent, err}
		}
	}
	if r.Hash, r.Rows, err = t.fleet.same(ctx); err != nil {
		return err
	}
	return s.report(r)
}

func (s *regionsScreen) report(r regionsReport) error {
	if s.env.JSON {
		return s.env.printJSON(r)
	}
	if !s.live {
		s.env.printf("%d orders played with %d commands in %.1f s, %d of them answered elsewhere; sent again by the entry %d, by clients %d; %d sent twice on purpose\n",
			r.Orders, r.Acknowledged, r.Seconds, r.Elsewhere, r.Resent, r.Again, r.Twice)
		s.env.printf("longest wait of a client %.1f s, and %.1f s for a home that was cut off\n", r.Longest, r.LongestHome)
		for _, region := range r.Regions {
			s.env.printf("  %-10s %6d\n", region.Name, region.Orders)
		}
	}
	if r.MadeTwice > 0 {
		s.env.printf("%s made in two regions, because the first did not answer: one counts.\n", were(r.MadeTwice))
	}
	s.env.printf("It adds up: all %d regions show the %d orders that were acknowledged, each once, in the same %d rows (SHA-256 %s…).\n",
		len(r.Regions), r.Orders, r.Rows, r.Hash[:16])
	return nil
}

func were(orders int) string {
	if orders == 1 {
		return "1 order was"
	}
	return fmt.Sprintf("%d orders were", orders)
}
