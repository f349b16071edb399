package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/topology"
	"github.com/orderledger/orderledger/readapi"
)

// regionCommand moves the orders of a region to another one, and back.
type regionCommand struct {
	Takeover regionTakeoverCommand `cmd:"" help:"Let another region take over the orders of one that does not answer any more."`
	Return   regionReturnCommand   `cmd:"" help:"Give the orders that were taken over back to the region that had them."`
}

// moveFlags are what moving the orders of a region takes.
type moveFlags struct {
	Topology string `env:"ORDERLEDGER_TOPOLOGY" type:"path" placeholder:"FILE" help:"File that names the regions and their addresses (${env}; default: any server is asked for them)."`
	DryRun   bool   `help:"Only say what would move."`
}

type regionTakeoverCommand struct {
	Of string `required:"" placeholder:"REGION" help:"The region whose orders move."`
	By string `required:"" placeholder:"REGION" help:"The region in which they live from then on."`
	moveFlags
	Force bool `help:"Also while the region still answers: what it does in the meantime is offered to the other one, and some of it may be refused."`
}

func (t regionTakeoverCommand) Run(ctx context.Context, e *environment) error {
	return t.move(ctx, e, move{verb: takeover, region: t.Of, by: t.By, dry: t.DryRun, force: t.Force})
}

type regionReturnCommand struct {
	Of   string `required:"" placeholder:"REGION" help:"The region to which its orders return. It must be followed again."`
	From string `required:"" placeholder:"REGION" help:"The region that has taken them over."`
	moveFlags
}

func (r regionReturnCommand) Run(ctx context.Context, e *environment) error {
	return r.move(ctx, e, move{verb: giveBack, region: r.Of, by: r.From, dry: r.DryRun})
}

// The verbs of the API.
const (
	takeover = "takeover"
	giveBack = "return"
)

// A move is what is asked of a region: to take over the orders of another one, or to return them.
type move struct {
	verb       string
	region, by string // whose orders they are, and who does it
	dry, force bool
}

// A movement is what has become of an order.
type movement string

// movements are what people are told about them, in this order.
var movements = []struct {
	movement movement
	means    string
	stays    bool // though it should have moved
}{
	{"moved", "moved", false},
	{"already_here", "had moved before", false},
	{"elsewhere", "live in another region, and stay there", false},
	{"diverged", "stay: the two regions do not tell the same of them yet", true},
	{"too_large", "stay: their history is too large for one append", true},
	{"unreadable", "stay: a later version has written them", true},
}

// A movedSum is what has become of a region's orders.
type movedSum struct {
	Region  string           `json:"region"`
	By      string           `json:"by"`
	DryRun  bool             `json:"dry_run,omitempty"`
	Known   *knownOf         `json:"known,omitempty"` // of a region that is taken over
	Orders  map[movement]int `json:"orders"`
	Listed  []listedMove     `json:"listed"`
	Seconds float64          `json:"seconds"`
}

// A listedMove is an order that is told by its id.
type listedMove struct {
	Order    string   `json:"order"`
	Movement movement `json:"movement"`
}

// knownOf is what a region has of the one whose orders it takes over: the recovery point.
type knownOf struct {
	Position eventstore.Position `json:"position"`
	Missing  int                 `json:"missing"` // events that it is known to lack
	Heard    *time.Time          `json:"heard,omitempty"`
}

func (f moveFlags) move(ctx context.Context, e *environment, m move) error {
	if m.region == m.by {
		return usage("a region does that for another one: name two")
	}
	c, err := f.server(ctx, e, m.by)
	if err != nil {
		return err
	}
	sum := movedSum{Region: m.region, By: m.by, DryRun: m.dry, Orders: make(map[movement]int), Listed: []listedMove{}}
	if sum.Known, err = c.knows(ctx, m); err != nil {
		return err
	}
	begun := time.Now()
	err = c.moveAll(ctx, e, m, &sum)
	sum.Seconds = time.Since(begun).Seconds()
	if err != nil {
		if n := sum.seen(); n > 0 && !m.dry {
			e.note("stopped after %d orders. Run the same command again to go on: nothing moves twice.", n)
		}
		return err
	}
	if err := sum.print(e); err != nil || m.dry {
		return err
	}
	if n := sum.staying(); n > 0 {
		return &exitError{exitRefused, fmt.Errorf("%d orders could not be moved, and stay where they are", n)}
	}
	return nil
}

// server is the client of a region, wherever its address is known from.
func (f moveFlags) server(ctx context.Context, e *environment, region string) (*client, error) {
	if f.Topology != "" {
		t, err := topology.Load(f.Topology)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		r, ok := t.Region(region)
		if !ok {
			return nil, usage("there is no region %s in %s", region, f.Topology)
		}
		return e.clientOf(r.API)
	}
	c, err := e.client()
	if err != nil {
		return nil, err
	}
	list, err := c.regions(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		switch {
		case r.Name == region && r.Here:
			return c, nil
		case r.Name == region:
			return e.clientOf(r.API)
		}
	}
	return nil, usage("the server at %s knows no region %s", c.base, region)
}

// knows asks a region what it has of the one whose orders it takes over; nil where it returns them.
func (c *client) knows(ctx context.Context, m move) (*knownOf, error) {
	list, err := c.regions(ctx)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(list, func(r readapi.RegionStatus) bool { return r.Here }); i < 0 || list[i].Name != m.by {
		return nil, &exitError{exitUnavailable, fmt.Errorf("another region than %s answers at %s", m.by, c.base)}
	}
	i := slices.IndexFunc(list, func(r readapi.RegionStatus) bool { return r.Name == m.region })
	switch {
	case i < 0:
		return nil, usage("region %s knows no region %s", m.by, m.region)
	case m.verb != takeover:
		return nil, nil
	case list[i].Mirror == nil:
		return nil, &exitError{exitRefused, fmt.Errorf("region %s does not follow region %s, and knows none of its orders", m.by, m.region)}
	}
	known := list[i].Mirror
	return &knownOf{known.Position, known.Events, known.Heard}, nil
}

// moveAll asks for some orders after others until all have had their turn.
func (c *client) moveAll(ctx context.Context, e *environment, m move, sum *movedSum) error {
	bar := e.progress(m.verb, "orders")
	defer bar.done()
	var after eventstore.Position
	for {
		body := map[string]any{"after": after, "dry_run": m.dry}
		if m.force {
			body["force"] = true
		}
		var p struct {
			After  eventstore.Position `json:"after"`
			Head   eventstore.Position `json:"head"`
			Done   bool                `json:"done"`
			Orders map[movement]int    `json:"orders"`
			Listed []listedMove        `json:"listed"`
		}
		if _, err := c.write(ctx, "/v1/regions/"+url.PathEscape(m.region)+"/"+m.verb, "", nil, body, &p); err != nil {
			return err
		}
		for kind, n := range p.Orders {
			sum.Orders[kind] += n
		}
		sum.Listed = append(sum.Listed, p.Listed...)
		bar.set(int64(sum.seen()), float64(p.After)/float64(max(p.Head, p.After, 1)))
		if p.Done {
			return nil
		}
		after = p.After
	}
}

// seen is how many orders have had their turn.
func (s *movedSum) seen() (n int) {
	for _, orders := range s.Orders {
		n += orders
	}
	return n
}

// staying is how many orders should have moved and have not.
func (s *movedSum) staying() (n int) {
	for _, m := range movements {
		if m.stays {
			n += s.Orders[m.movement]
		}
	}
	return n
}

func (s *movedSum) print(e *environment) error {
	if e.JSON {
		return e.printJSON(s)
	}
	if k := s.Known; k != nil {
		heard := "never heard of"
		if k.Heard != nil {
			heard = fmt.Sprintf("last heard of %s, %v ago", local(*k.Heard), time.Since(*k.Heard).Round(time.Second))
		}
		e.printf("%s is known in %s up to position %d, %s\n", s.Region, s.By, k.Position, heard)
		if k.Missing > 0 {
			e.printf("%d events of %s are known to be missing: what they say is offered to %s when they come\n", k.Missing, s.Region, s.By)
		}
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	left := maps.Clone(s.Orders)
	for _, m := range movements {
		if n := left[m.movement]; n > 0 {
			fmt.Fprintf(w, "%d\t  %s\n", n, m.means)
		}
		delete(left, m.movement)
	}
	for _, kind := range slices.Sorted(maps.Keys(left)) {
		fmt.Fprintf(w, "%d\t  %s\n", left[kind], kind)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range s.Listed {
		e.printf("%s  %s\n", l.Order, l.Movement)
	}
	how := ""
	if s.DryRun {
		how = ", and nothing has been done"
	}
	e.printf("%d orders in %.1f s (%.0f/s)%s\n", s.seen(), s.Seconds, float64(s.seen())/max(s.Seconds, 0.001), how)
	return nil
}
