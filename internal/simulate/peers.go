package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

// askTimeout is how long a region that starts waits for another one that does not answer.
const askTimeout = 10 * time.Second

// askPeers has a region that has started ask all others.
func (w *world) askPeers(r *region) {
	for _, other := range w.regions {
		w.askPeer(r, other)
	}
}

// askPeer has a region that has started find out how far another one is, as long as it does not know.
func (w *world) askPeer(r, other *region) {
	p := r.process
	if p.asked[other.index] {
		return
	}
	err := p.mirrors[other.index].CatchUp(w.ctx, feed{road{w, r, other}})
	w.checkMirror(r, other)
	switch {
	case err == nil:
		w.note(r, "knows what %s knew when it started", other.name)
	case w.now.Sub(p.started) < askTimeout:
		return
	default:
		w.note(r, "goes on without asking %s", other.name)
	}
	p.asked[other.index] = true
}

// hasAsked reports whether the process knows what the others knew when it started.
func (p *process) hasAsked() bool { return !slices.Contains(p.asked, false) }

// reconcile has a region look at the orders of some events of another ledger or of its own. It reports whether there are
// more.
func (w *world) reconcile(r, of *region) (more bool) {
	p := r.process
	if r != of {
		if _, err := p.mirrors[of.index].Head(w.ctx); errors.Is(err, mirror.ErrUnreached) {
			return false
		}
	}
	before := len(r.disk.events)
	more, err := p.reconciler.Step(w.ctx, of.disk.identity.ID)
	if r.process != p {
		return false
	}
	if added := r.disk.events[before:]; len(added) > 0 {
		w.note(r, "reconciles with %s: %s", of.name, events(added))
	}
	switch {
	case err == nil:
	case w.passing(err):
		w.note(r, "reconciles with %s: %s", of.name, reasonOf(err))
		return false
	default:
		w.violated("%s cannot reconcile with %s: %v", r.name, of.name, err)
	}
	if !w.healing && w.chance.IntN(4) == 0 {
		if err := p.reconciler.Save(w.ctx); err != nil && r.process == p && !w.passing(err) {
			w.violated("%s cannot save how far it has reconciled: %v", r.name, err)
		}
	}
	return more && err == nil
}

// events names what was appended, for people.
func events(list []eventstore.Recorded) string {
	var names []string
	for i := range list {
		if order, ok := domain.StreamOrder(list[i].Stream); ok {
			names = append(names, fmt.Sprintf("%s of order %.8s", list[i].Type, order))
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// passing reports whether an error may be had while something is wrong.
func (w *world) passing(err error) bool {
	return eventstore.Unavailable(err) || errors.Is(err, commands.ErrOutcomeUnknown) || errors.Is(err, errNoAnswer) || errors.Is(err, commands.ErrAskingPeers) || errors.Is(err, commands.ErrBusy)
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, commands.ErrAskingPeers):
		return "it has not asked the others yet"
	case eventstore.Unavailable(err):
		return "the ledger takes nothing"
	}
	return "no answer"
}

// move has a region take over from another one, or give back what it has taken over.
func (w *world) move(op operation, r, other *region) {
	if r == other {
		return
	}
	dry := !w.healing && w.chance.IntN(6) == 0
	force := other.process == nil || w.chance.IntN(2) == 0
	path, what := "takeover", "takes over from"
	body := fmt.Sprintf(`{"dry_run":%t,"force":%t}`, dry, force)
	if op.kind == handOver {
		path, what = "return", "gives back to"
		body = fmt.Sprintf(`{"dry_run":%t}`, dry)
	}
	if dry {
		what += ", dry,"
	}
	request, err := http.NewRequestWithContext(w.ctx, http.MethodPost, fmt.Sprintf("http://%s/v1/regions/%s/%s", r.name, other.name, path), strings.NewReader(body))
	if err != nil {
		w.violated("no request can be made: %v", err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	before := len(r.disk.events)
	a, err := w.fetch(r, request, answered, routes)
	if err != nil {
		w.note(r, "%s %s: %s", what, other.name, problem(err))
		return
	}
	var progress commands.Progress
	switch code := codeOf(a.body); {
	case a.status == http.StatusOK && json.Unmarshal(a.body, &progress) == nil:
		w.note(r, "%s %s: %v", what, other.name, progress.Orders)
		if dry && len(w.inside) == 0 && len(r.disk.events) > before {
			w.note(r, "%s", events(r.disk.events[before:]))
		}
	case slices.Contains([]string{"region_answers", "asking_peers", "ledger_unavailable", "outcome_unknown", "order_busy", "mirror_unreadable"}, code):
		w.note(r, "%s %s: %d %s", what, other.name, a.status, code)
	default:
		w.violated("%s %s %s, and answers %d %s: %s", r.name, what, other.name, a.status, code, w.lastError)
	}
}

// settle has somebody deal with a conflict of an order, as a region shows it.
func (w *world) settle(op operation, r *region) {
	o := w.clients.orders[op.order]
	if o == nil {
		return
	}
	_, shown, err := r.process.views.Order(w.ctx, web.DefaultBusinessUnit, o.id)
	if errors.Is(err, projections.ErrNotFound) {
		return
	}
	if err != nil {
		w.violated("%s cannot show order %s: %v", r.name, o.id, err)
		return
	}
	for _, c := range shown.Conflicts {
		if !c.Settled {
			q := w.clients.request(op.id, o, "settle", "/v1/orders/"+o.id.String()+"/conflicts/"+c.ID+"/settle",
				fmt.Sprintf("settle-%d", op.id), `{"reason":{"code":"seen_to"}}`)
			w.trySome(q, r)
			return
		}
	}
}
