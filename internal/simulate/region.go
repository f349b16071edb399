package simulate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
	"github.com/orderledger/orderledger/readapi"
)

// A region is what outlasts its process.
type region struct {
	world   *world
	name    string
	index   int
	disk    *disk
	topic   *topic
	skew    time.Duration         // of its clock
	earlier []byte                // its rows at some time before
	seen    []eventstore.Position // by region: what its mirror has shown

	process *process // nil: it is down
}

// wall is what the region's clock shows.
func (r *region) wall() time.Time { return r.world.now.Add(r.skew) }

func (r *region) mirrorPath(other *region) string {
	return filepath.Join(r.world.dir, r.name+"-"+other.name+".db")
}

func (r *region) viewsPath() string { return filepath.Join(r.world.dir, r.name+"-views.db") }

// A process is what a crash takes away.
type process struct {
	ledger     *ledger
	handler    *commands.Handler
	server     *web.Server
	confirms   http.Handler     // tells how far the mirrors are
	mirrors    []*mirror.Mirror // by region; nil: the own one
	others     []commands.Region
	views      *projections.Views
	projector  *projections.Projector
	followed   []bool // by region: the projector follows its mirror
	publisher  *publisher
	reconciler *commands.Reconciler
	started    time.Time
	asked      []bool // by region: its mirror has come as far as the region was when this one started, or it does not answer
	heads      []eventstore.Position
}

// start starts the region's process.
func (r *region) start() error {
	w := r.world
	p := &process{
		ledger: r.disk.open(), mirrors: make([]*mirror.Mirror, len(w.regions)), followed: make([]bool, len(w.regions)),
		started: w.now, asked: make([]bool, len(w.regions)), heads: make([]eventstore.Position, len(w.regions)),
	}
	p.ledger.crash = r.crash
	p.ledger.before = func() { w.interrupt(r) }
	p.ledger.stored = func(stream string, events []eventstore.Event) { w.checkDecision(r, p, stream, events) }
	r.process = p
	for _, other := range append(slices.Clone(w.regions[r.index+1:]), w.regions[:r.index]...) {
		m, err := mirror.Open(w.ctx, r.mirrorPath(other), mirror.Config{Ledger: other.disk.identity.ID, Now: w.clock})
		if err != nil {
			return err
		}
		p.mirrors[other.index] = m
		to := road{w, r, other}
		forwarder, err := commands.NewForwarder(commands.ForwarderConfig{
			Region: other.name, URL: "http://" + other.name, From: r.name, Client: &http.Client{Transport: to}, Now: w.clock, Logger: silent,
		})
		if err != nil {
			return err
		}
		p.others = append(p.others, commands.Region{Name: other.name, Ledger: other.disk.identity.ID, Mirror: m, API: forwarder})
	}
	p.asked[r.index] = true
	var err error
	if p.handler, err = commands.NewHandler(w.ctx, r.handlerConfig(p)); err != nil {
		return err
	}
	if p.reconciler, err = commands.NewReconciler(w.ctx, p.handler); err != nil {
		return err
	}
	if p.views, err = projections.Open(w.ctx, r.viewsPath(), &projections.Config{Readers: 1}); err != nil {
		return err
	}
	p.projector, err = projections.NewProjector(w.ctx, p.views, []eventstore.Reader{p.ledger}, &projections.ProjectorConfig{Owner: r.name, Now: r.wall})
	if err != nil {
		return err
	}
	if p.publisher, err = newPublisher(w.ctx, p.ledger, w.now); err != nil {
		return err
	}
	p.confirms = http.StripPrefix("/mirrors", mirror.NewHandler(mirror.HandlerConfig{Mirror: p.mirrorOf}))
	p.server = web.New(web.Config{
		Rate: -1, Hosts: []string{r.name}, Random: func() uint64 { return w.chance.Uint64() }, CursorKey: make([]byte, 32), Logger: slog.New(complaints{w}),
		Errors: []func(error) *web.Error{commands.WebError}, Codes: append(commands.Codes(), readapi.Codes()...), Allowed: []web.Allowed{commands.Allowed(), readapi.Allowed()},
	})
	commands.Register(p.server, p.handler, nil)
	readapi.Register(p.server, readapi.Config{Views: p.views, Ledger: p.ledger, Regions: func() []readapi.Region { return r.forReaders(p) }, Now: r.wall})
	return nil
}

func (r *region) handlerConfig(p *process) commands.Config {
	w := r.world
	return commands.Config{
		Ledger: p.ledger, Keys: w.keys, Now: r.wall, Logger: silent,
		Policy:  func(context.Context, string) (domain.Policy, error) { return rules{}, nil },
		Regions: func() []commands.Region { return p.others },
		Asked:   p.hasAsked,
		Remote:  func(_ context.Context, m eventstore.Mark) error { return w.confirm(r, m) },
	}
}

func (r *region) forReaders(p *process) []readapi.Region {
	all := []readapi.Region{{Name: r.name, Here: true, Ledger: r.disk.identity.ID, Copy: p.ledger}}
	for _, other := range r.world.regions {
		if other == r {
			continue
		}
		region := readapi.Region{Name: other.name, Ledger: other.disk.identity.ID}
		m := p.mirrors[other.index]
		s := m.Status()
		region.Mirror = &readapi.Mirror{Position: s.Head.Position, Head: s.Source, Events: int(min(s.Lag, projections.MaxLag)), Age: s.Behind}
		if s.Known {
			region.Copy, region.Mirror.Heard = m, s.Heard
		}
		all = append(all, region)
	}
	return all
}

func (p *process) mirrorOf(ledger uuid.UUID) *mirror.Mirror {
	for _, m := range p.mirrors {
		if m == nil {
			continue
		}
		if id := m.Status().Head.ID; id == ledger {
			return m
		}
	}
	return nil
}

// crash ends the region's process. Of its rows an older copy may be left, or none.
func (r *region) crash() {
	p := r.process
	if p == nil {
		return
	}
	r.process = nil
	r.world.note(r, "the process dies")
	r.world.fail("closing what a process had open", p.close())
	if r.world.config.defect == forgetful {
		r.disk.forget()
	}
	r.loseRows()
}

func (p *process) close() error {
	errs := []error{p.ledger.Close()}
	for _, m := range p.mirrors {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	if p.views != nil {
		errs = append(errs, p.views.Close())
	}
	return errors.Join(errs...)
}

// loseRows puts an older copy of the rows in the place of the newest, sometimes, or none.
func (r *region) loseRows() {
	w := r.world
	now, err := os.ReadFile(r.viewsPath())
	if err != nil {
		w.fail("reading rows", err)
		return
	}
	switch w.chance.IntN(6) {
	case 0:
		w.note(r, "its rows are gone")
		w.fail("removing rows", os.Remove(r.viewsPath()))
	case 1:
		if r.earlier != nil {
			w.note(r, "its rows are an older copy")
			w.fail("restoring rows", os.WriteFile(r.viewsPath(), r.earlier, 0o600))
		}
	}
	r.earlier = now
}

// confirm asks the other regions whether one of them has what a mark marks.
func (w *world) confirm(r *region, mark eventstore.Mark) error {
	for _, other := range w.regions {
		if other == r {
			continue
		}
		if p := other.process; p != nil && w.chance.IntN(3) > 0 { // else nothing has moved yet
			w.catchUp(other, r)
		}
		address := fmt.Sprintf("http://%s/mirrors/%s?incarnation=%d&position=%d&wait=0s", other.name, mark.Ledger, mark.Incarnation, mark.Position)
		request, err := http.NewRequestWithContext(w.ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		a, err := w.fetch(other, request, w.fate(r, other), func(p *process) http.Handler { return p.confirms })
		if err == nil && a.status == http.StatusOK {
			return nil
		}
	}
	return errNetwork
}

// rules are those of the business: purchase orders say what becomes of an order, and the first site that has not failed
// gets everything.
type rules struct{}

func (rules) Validate(o *domain.Order) domain.Judgement {
	switch {
	case strings.HasPrefix(o.PurchaseOrder, "reject"):
		return domain.Judgement{Verdict: domain.VerdictRejected, Reason: domain.Reason{Code: "unwanted"}}
	case strings.HasPrefix(o.PurchaseOrder, "hold"):
		return domain.Judgement{Reason: domain.Reason{Code: "credit_check"}}
	}
	return domain.Judgement{Verdict: domain.VerdictAccepted}
}

func (rules) Route(_ *domain.Order, open []domain.LineQuantity, excluded []string) domain.Routing {
	for _, site := range []string{"LYON", "PORTO", "GDANSK"} {
		if !slices.Contains(excluded, site) {
			return domain.Routing{Allocations: []domain.Allocation{{Site: site, Lines: open}}}
		}
	}
	return domain.Routing{}
}

// complaints keep the last error that a server has logged.
type complaints struct{ world *world }

func (c complaints) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError
}
func (c complaints) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c complaints) WithGroup(string) slog.Handler      { return c }

func (c complaints) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" || a.Key == "stack" {
			c.world.lastError = a.Value.String()
		}
		return true
	})
	return nil
}

var silent = slog.New(slog.DiscardHandler)
