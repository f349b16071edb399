package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/projections"
)

// do does what an operation is.
func (w *world) do(op operation) {
	r, other := w.regions[op.region], w.regions[op.other]
	switch op.kind {
	case submit, change, again, reuse:
		w.ask(op, r)
		return
	case crash:
		r.crash()
		return
	case start:
		w.start(r)
		return
	case fillDisk, emptyDisk:
		if r.disk.full == (op.kind == fillDisk) {
			return
		}
		w.note(r, "%s", map[kind]string{fillDisk: "the disk is full", emptyDisk: "the disk has room"}[op.kind])
		r.disk.mu.Lock()
		r.disk.full = op.kind == fillDisk
		r.disk.mu.Unlock()
		return
	case cut, flap, mend:
		w.change(op, r, other)
		return
	case mendAll:
		w.note(nil, "all links are whole")
		w.mendAll()
		return
	case skew:
		r.skew = time.Duration(w.chance.Int64N(int64(2*time.Hour))) - time.Hour
		w.note(r, "its clock is wrong by %v", r.skew.Round(time.Second))
		return
	case wait:
		w.now = w.now.Add(time.Duration(w.chance.Int64N(int64(4 * time.Hour))))
		w.note(nil, "hours pass")
		return
	case rest:
		w.rest()
		return
	case lose:
		w.lose(r)
		return
	}
	if r.process == nil {
		return
	}
	switch op.kind {
	case look:
		w.look(op, r)
	case publish:
		w.publish(r, 1+w.chance.IntN(40), 1+w.chance.IntN(lanes))
	case deliver:
		w.deliver(r, other, 1+w.chance.IntN(lanes), 1+w.chance.IntN(4))
	case catchUp:
		if r != other {
			w.catchUp(r, other)
		}
	case project:
		w.project(r, other)
	case reconcile:
		w.reconcile(r, other)
	case ask:
		w.askPeers(r)
	case takeOver, handOver:
		w.move(op, r, other)
	case settle:
		w.settle(op, r)
	case breakAppend:
		w.breakAppend(r)
	}
}

// ask has a client send something.
func (w *world) ask(op operation, first *region) {
	var q *request
	switch op.kind {
	case submit:
		q = w.submission(op)
	case change:
		q = w.changeOf(op)
	case again:
		q = w.clients.requests[op.ref]
	case reuse:
		q = w.otherThing(op)
	}
	if q == nil {
		return
	}
	if op.kind != again {
		q.remote = w.chance.IntN(5) == 0
	}
	w.trySome(q, first)
}

// otherThing asks for something else under the key of a request.
func (w *world) otherThing(op operation) *request {
	was := w.clients.requests[op.ref]
	if was == nil || was.original != nil {
		return nil
	}
	body := `{"reason":{"code":"something_else"}}`
	switch was.action {
	case "submit":
		body = strings.Replace(was.body, `"purchase_order":"`, `"purchase_order":"other-`, 1)
	case "hold", "cancel", "fail", "reroute":
	default:
		return nil
	}
	q := w.clients.request(op.id, was.order, was.action, was.path, was.key, body)
	q.original = was
	return q
}

// start starts a region that is down, or again one whose disk has failed.
func (w *world) start(r *region) {
	if r.process != nil && r.process.ledger.failed {
		r.crash()
	}
	if r.process != nil {
		return
	}
	w.note(r, "a process starts")
	if err := r.start(); err != nil {
		w.violated("region %s does not start: %v", r.name, err)
		return
	}
	w.askPeers(r)
}

// change changes the link between two regions, in one direction or both.
func (w *world) change(op operation, r, other *region) {
	if r == other {
		return
	}
	wanted := link{cut: op.kind == cut, flaps: op.kind == flap}
	there, back := w.links[r.index][other.index], w.links[other.index][r.index]
	what := map[kind]string{cut: "is cut", flap: "flaps", mend: "is whole"}[op.kind]
	switch both := w.chance.IntN(2) == 0; {
	case both && (!there.same(wanted) || !back.same(wanted)):
		*there, *back = wanted, wanted
		w.note(r, "the link to and from %s %s", other.name, what)
	case !both && !there.same(wanted):
		*there = wanted
		w.note(r, "the link to %s %s", other.name, what)
	}
}

func (w *world) mendAll() {
	for _, from := range w.links {
		for _, l := range from {
			*l = link{}
		}
	}
}

func (w *world) breakAppend(r *region) {
	var how []fault
	if w.may(Crashes) {
		how = append(how, crashedBefore, crashedAfter, crashedAfter)
	}
	if w.may(Disks) {
		how = append(how, unsureBefore, unsureAfter, failedSync)
	}
	r.process.ledger.next = how[w.chance.IntN(len(how))]
	w.note(r, "the next append %s", map[fault]string{
		crashedBefore: "ends the process before anything is stored", crashedAfter: "ends the process after everything was stored",
		unsureBefore: "gets no answer, and is not stored", unsureAfter: "gets no answer, and is stored", failedSync: "finds a disk that fails",
	}[r.process.ledger.next])
}

// deliver gives what the bus has of a region to another one, or to the region itself.
func (w *world) deliver(to, from *region, lanes, each int) {
	deliveries, settled := w.receive(from, to, lanes, each)
	if len(deliveries) == 0 {
		return
	}
	p := to.process
	var err error
	if to == from {
		err = p.projector.Apply(w.ctx, deliveries)
	} else {
		err = p.mirrors[from.index].Apply(w.ctx, deliveries)
		w.checkMirror(to, from)
	}
	if err != nil {
		w.violated("%s cannot apply %d deliveries of %s: %v", to.name, len(deliveries), from.name, err)
		return
	}
	if w.may(Duplicates) && w.chance.IntN(10) == 0 {
		w.note(to, "bus: %d messages of %s, and their lock is lost", len(deliveries), from.name)
		return
	}
	settled()
	w.note(to, "bus: %d messages of %s", len(deliveries), from.name)
}

// catchUp has a mirror read its ledger.
func (w *world) catchUp(r, other *region) {
	m := r.process.mirrors[other.index]
	before := m.Status().Head.Position
	err := m.CatchUp(w.ctx, feed{road{w, r, other}})
	w.checkMirror(r, other)
	switch {
	case err == nil:
		w.note(r, "mirror of %s: position %d, was %d", other.name, m.Status().Head.Position, before)
	case errors.Is(err, errNetwork), errors.Is(err, eventstore.ErrClosed):
		w.note(r, "mirror of %s: it cannot be reached", other.name)
	default:
		w.violated("the mirror of %s in %s fails: %v", other.name, r.name, err)
	}
}

// project makes rows of what is known of a region's ledger, up to a thousand events or so.
func (w *world) project(r, other *region) {
	p := r.process
	if r != other && !p.followed[other.index] {
		err := p.projector.Follow(w.ctx, p.mirrors[other.index])
		if errors.Is(err, mirror.ErrUnreached) {
			return
		}
		if err != nil {
			w.violated("%s cannot follow %s: %v", r.name, other.name, err)
			return
		}
		p.followed[other.index] = true
	}
	if _, err := p.projector.CatchUpSome(w.ctx, other.disk.identity.ID); err != nil {
		w.violated("%s cannot make rows of %s: %v", r.name, other.name, err)
		return
	}
	w.note(r, "rows: level with what is known of %s", other.name)
}

// look reads an order, as its client knows it.
func (w *world) look(op operation, r *region) {
	o := w.clients.orders[op.order]
	if o == nil || !o.answered {
		return
	}
	mark, err := eventstore.ParseMark(o.mark)
	if err != nil {
		w.violated("a mark cannot be read: %v", err)
		return
	}
	there := w.shows(r, o, mark)
	patience := "1ms" // what is not there does not come meanwhile
	if there {
		patience = "10s"
	}
	request, err := http.NewRequestWithContext(w.ctx, http.MethodGet, fmt.Sprintf("http://%s/v1/orders/%s?mark_wait=%s", r.name, o.id, patience), nil)
	if err != nil {
		w.violated("no request can be made: %v", err)
		return
	}
	request.Header.Set("Orderledger-Mark", o.mark)
	a, err := w.fetch(r, request, answered, routes)
	var view struct {
		Number   string
		Revision uint64
		Code     string
	}
	if err == nil {
		err = json.Unmarshal(a.body, &view)
	}
	switch {
	case err != nil:
		w.violated("reading order %.8s in %s fails: %v", o.id, r.name, err)
	case !there && a.status != http.StatusServiceUnavailable:
		w.violated("%s does not show what mark %s marks yet, and answers %d %s", r.name, mark, a.status, view.Code)
	case there && (a.status != http.StatusOK || view.Number != o.number):
		w.violated("%s shows what mark %s marks, and answers %d %s", r.name, mark, a.status, view.Code)
	}
	w.note(r, "read of order %.8s: %d %s", o.id, a.status, view.Code)
}

// shows reports whether the rows of a region show what a mark of an order marks.
func (w *world) shows(r *region, o *order, mark eventstore.Mark) bool {
	sources, err := r.process.views.Sources(w.ctx)
	w.fail("reading sources", err)
	for _, s := range sources {
		if s.Ledger == mark.Ledger && mark.Position > 0 && s.Passed >= mark.Position {
			return true
		}
	}
	entries, err := r.process.views.Timeline(w.ctx, "main", mark.Ledger, o.id, mark.Revision, 1)
	if errors.Is(err, projections.ErrNotFound) {
		err = nil
	}
	w.fail("reading a timeline", err)
	return len(entries) > 0
}
