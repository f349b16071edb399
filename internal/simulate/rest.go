package simulate

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

// maxRounds is how often everybody does what is to be done before all must be at rest.
const maxRounds = 40

// rest mends everything, lets all processes do what they have to, and compares what they have come to.
func (w *world) rest() {
	w.healing = true
	defer func() { w.healing = false }()
	w.checkRemote()
	w.mend()
	w.settleDown()
	if w.broken == "" {
		w.checkRest()
	}
}

// lose takes a region away, has all others take over from it, and looks whether they have what was said to survive that.
func (w *world) lose(r *region) {
	w.healing = true
	defer func() { w.healing = false }()
	w.checkRemote()
	r.crash()
	w.lost = r
	w.note(r, "the region is lost for ever")
	w.mend()
	w.settleDown()
	for _, other := range w.living() {
		if w.broken == "" {
			w.move(operation{kind: takeOver}, other, r)
		}
	}
	w.settleDown()
	if w.broken != "" {
		return
	}
	held := make(map[uuid.UUID]bool)
	for _, h := range w.heldOrders() {
		held[h.id] = true
		w.checkHeld(h)
	}
	for _, q := range w.clients.sent {
		if q.survives && !held[q.order.id] {
			w.violated("%s was answered as remote, and nobody has the order", q)
			return
		}
	}
}

// checkRemote has two regions have whatever was answered as remote.
func (w *world) checkRemote() {
	for _, q := range w.clients.sent {
		if q.survives && len(w.havers(q)) < 2 {
			w.violated("%s was answered as remote, and only one region has it", q)
			return
		}
	}
}

// mend repairs everything and starts all processes.
func (w *world) mend() {
	w.mendAll()
	for _, r := range w.living() {
		r.disk.mu.Lock()
		r.disk.full = false
		r.disk.mu.Unlock()
		if r.process != nil {
			r.process.ledger.next = whole
		}
		w.start(r)
	}
	w.now = w.now.Add(4 * time.Hour) // no message takes longer
}

// settleDown has all processes do what they have to, until there is nothing left.
func (w *world) settleDown() {
	for round := 0; w.broken == ""; round++ {
		if round == maxRounds {
			w.violated("the regions do not come to rest")
			return
		}
		before := w.ends()
		w.round()
		w.now = w.now.Add(2 * time.Second)
		if slices.Equal(before, w.ends()) {
			return
		}
	}
}

// ends are the chains at which the ledgers end.
func (w *world) ends() []eventstore.Hash {
	var all []eventstore.Hash
	for _, r := range w.regions {
		all = append(all, r.disk.head.Chain)
	}
	return all
}

// round lets everybody do all that is to be done.
func (w *world) round() {
	for _, r := range w.living() {
		for range 2 {
			w.publish(r, 1<<20, lanes)
		}
	}
	for _, to := range w.living() {
		for _, from := range w.living() {
			w.deliver(to, from, lanes, 1<<20)
			if to != from {
				w.catchUp(to, from)
			}
		}
	}
	for _, r := range w.living() {
		w.askPeers(r)
		for _, of := range w.living() {
			for w.reconcile(r, of) && w.broken == "" {
			}
		}
	}
	for _, r := range w.living() {
		for _, of := range w.living() {
			w.project(r, of)
		}
	}
}

// checkRest checks what must be so when everything that was sent has arrived.
func (w *world) checkRest() {
	for _, r := range w.regions {
		for _, of := range w.regions {
			if r != of && r.process.mirrors[of.index].Status().Head.Chain != of.disk.head.Chain {
				w.violated("the mirror of %s in %s lacks events", of.name, r.name)
				return
			}
		}
	}
	held := w.heldOrders()
	w.checkHashes()
	for _, h := range held {
		w.checkHeld(h)
	}
	for _, r := range w.regions {
		w.checkList(r, held)
		w.checkNotifications(r, held)
	}
	if w.broken == "" {
		w.note(nil, "all is at rest: %d orders, and the regions agree", len(held))
	}
}

// checkHashes has all regions show the same rows, which are what the ledgers add up to.
func (w *world) checkHashes() {
	want, err := w.pureFold()
	if err != nil {
		w.violated("the ledgers cannot be folded: %v", err)
		return
	}
	for _, r := range w.regions {
		got, _, err := r.process.views.Hash(w.ctx)
		if err != nil || got != want {
			w.violated("the rows of %s are not what the ledgers add up to: their hash is %s, and should be %s (%v)",
				r.name, hex.EncodeToString(got[:4]), hex.EncodeToString(want[:4]), err)
			return
		}
	}
}

// pureFold makes rows of the ledgers themselves and returns their hash.
func (w *world) pureFold() (sum [32]byte, err error) {
	path := filepath.Join(w.dir, "fold.db")
	views, err := projections.Open(w.ctx, path, nil)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, views.Close(), os.Remove(path)) }()
	var ledgers []eventstore.Reader
	for _, r := range w.regions {
		ledgers = append(ledgers, r.disk.open())
	}
	p, err := projections.NewProjector(w.ctx, views, ledgers, &projections.ProjectorConfig{Now: w.clock})
	if err != nil {
		return sum, err
	}
	if err := p.CatchUp(w.ctx); err != nil {
		return sum, err
	}
	sum, _, err = views.Hash(w.ctx)
	return sum, errors.Join(err, p.Close(context.WithoutCancel(w.ctx)))
}

// A heldOrder is an order in all ledgers that have it.
type heldOrder struct {
	id     uuid.UUID
	copies []holding
	winner *holding
}

// A holding is an order as one ledger has it.
type holding struct {
	region   *region
	events   []eventstore.Recorded
	commands []uuid.UUID // of the events
	order    domain.Order
}

// heldOrders reads all orders from all ledgers, in the order in which the ledgers have got them.
func (w *world) heldOrders() []*heldOrder {
	var all []*heldOrder
	known := make(map[uuid.UUID]*heldOrder)
	for _, r := range w.living() {
		for i := range r.disk.events {
			e := &r.disk.events[i]
			id, ok := domain.StreamOrder(e.Stream)
			if !ok || e.Revision > 0 {
				continue
			}
			h := known[id]
			if h == nil {
				h = &heldOrder{id: id}
				known[id] = h
				all = append(all, h)
			}
			held, err := r.holding(id)
			if err != nil {
				w.violated("order %s in ledger %s cannot be folded: %v", id, r.name, err)
				return nil
			}
			h.copies = append(h.copies, held)
		}
	}
	for _, h := range all {
		h.winner = &h.copies[0]
		for i := range h.copies {
			if c := &h.copies[i]; c.claim().Over(h.winner.claim(), h.id) {
				h.winner = c
			}
		}
	}
	return all
}

func (h *holding) claim() domain.Claim { return h.order.Claim(h.region.disk.identity.ID) }

func (r *region) holding(id uuid.UUID) (holding, error) {
	h := holding{region: r}
	for _, i := range r.disk.streams[domain.Stream(id)] {
		e := r.disk.events[i]
		event, err := domain.DecodeEvent(e.Type, e.Data)
		if err != nil {
			return h, err
		}
		meta, err := domain.DecodeMeta(e.Metadata)
		if err != nil {
			return h, err
		}
		h.order = domain.Evolve(h.order, event)
		h.events, h.commands = append(h.events, e), append(h.commands, meta.Command)
	}
	return h, nil
}

// checkHeld has an order count once, with every command that was acknowledged in it once, or among its conflicts.
func (w *world) checkHeld(h *heldOrder) {
	winner := h.winner
	seen := make(map[uuid.UUID]struct{})
	for i, c := range winner.commands {
		if i > 0 && winner.commands[i-1] == c {
			continue
		}
		if _, twice := seen[c]; twice {
			w.violated("order %s has command %s twice in ledger %s", h.id, c, winner.region.name)
			return
		}
		seen[c] = struct{}{}
	}
	conflicts := make(map[string]string) // code by command
	for _, c := range winner.order.Conflicts {
		conflicts[c.Command] = c.Code
	}
	for _, q := range w.clients.sent {
		if q.order.id != h.id || q.first == nil || q.action == "settle" || w.lost != nil && !q.survives {
			continue
		}
		_, done := seen[q.command]
		if _, listed := conflicts[q.command.String()]; !done && !listed {
			w.violated("%s was acknowledged by %s, and is neither in what counts, in ledger %s, nor among its conflicts", q, q.first.by.name, winner.region.name)
			return
		}
	}
	for i := range h.copies {
		c := &h.copies[i]
		if c == winner {
			continue
		}
		if !prefix(c, winner) && !c.claim().Withdrawn && !c.claim().Left {
			w.violated("order %s counts in ledger %s, and ledger %s has not given way", h.id, winner.region.name, c.region.name)
			return
		}
	}
	w.checkHome(h)
}

// checkHome has an order count where it has moved last.
func (w *world) checkHome(h *heldOrder) {
	winner := h.winner
	for i := range h.copies {
		if c := &h.copies[i]; !c.claim().Withdrawn && c.order.Epoch > winner.order.Epoch {
			w.violated("order %s counts in ledger %s, though it has moved to ledger %s since", h.id, winner.region.name, c.region.name)
			return
		}
	}
	last := uint32(0)
	for i := range winner.events {
		event, err := domain.DecodeEvent(winner.events[i].Type, winner.events[i].Data)
		if moved, ok := event.(*domain.HomeMoved); err == nil && ok {
			if moved.Epoch <= last {
				w.violated("order %s moved to epoch %d after %d", h.id, moved.Epoch, last)
				return
			}
			last = moved.Epoch
		}
	}
}

// prefix reports whether one holding is the beginning of another.
func prefix(a, b *holding) bool {
	if len(a.events) > len(b.events) {
		return false
	}
	for i := range a.events {
		if a.events[i].ID != b.events[i].ID {
			return false
		}
	}
	return true
}

// checkList has a region list every order once, and no other.
func (w *world) checkList(r *region, held []*heldOrder) {
	listed := make(map[uuid.UUID]int)
	q := projections.Query{BusinessUnit: web.DefaultBusinessUnit, Limit: projections.MaxLimit}
	for {
		orders, err := r.process.views.Orders(w.ctx, q)
		if err != nil {
			w.violated("%s cannot list its orders: %v", r.name, err)
			return
		}
		for _, o := range orders {
			listed[o.ID]++
			if listed[o.ID] > 1 {
				w.violated("%s lists order %s more than once", r.name, o.ID)
				return
			}
		}
		if len(orders) < q.Limit {
			break
		}
		q.After = orders[len(orders)-1].Cursor()
	}
	if len(listed) != len(held) {
		w.violated("%s lists %d orders, and the ledgers have %d", r.name, len(listed), len(held))
		return
	}
	for _, q := range w.clients.sent {
		if q.first != nil && listed[q.order.id] == 0 {
			w.violated("%s was acknowledged by %s, and %s does not list the order", q, q.first.by.name, r.name)
			return
		}
	}
}

// checkNotifications has a region tell of every step of the history that counts once, in order, and of no other.
func (w *world) checkNotifications(r *region, held []*heldOrder) {
	told := make(map[uuid.UUID][]projections.Notification)
	for places := []projections.Place(nil); ; {
		list, err := r.process.views.Notifications(w.ctx, web.DefaultBusinessUnit, places, projections.MaxLimit)
		if err != nil {
			w.violated("%s cannot list its notifications: %v", r.name, err)
			return
		}
		for _, n := range list {
			told[n.Order] = append(told[n.Order], n)
			places = projections.Advance(places, n.Place)
		}
		if len(list) < projections.MaxLimit {
			break
		}
	}
	for _, h := range held {
		if problem := w.compareNotes(told[h.id], h.winner); problem != "" {
			w.violated("%s, of order %s: %s", r.name, h.id, problem)
			return
		}
	}
}

// silentEvents are no steps of an order: nobody is told of them. Of those behind them somebody may be.
var (
	silentEvents = []string{"order.unrouted.v1", "order.home_moved.v1"}
	maybeEvents  = []string{"order.conflict_found.v1", "order.conflict_settled.v1", "order.withdrawn.v1"}
)

// compareNotes says what is wrong with the notifications of an order.
func (w *world) compareNotes(notes []projections.Notification, winner *holding) string {
	at := make(map[uint64]bool)
	last := make(map[uuid.UUID]eventstore.Position)
	seen := make(map[[2]uint64]bool)
	for _, n := range notes {
		key := [2]uint64{n.Revision, uint64(n.Place.N)}
		switch e := w.eventAt(n.Place); {
		case e == nil || n.Revision >= uint64(len(winner.events)) || winner.events[n.Revision].ID != e.ID:
			return fmt.Sprintf("it tells of revision %d in ledger %s, which is not in what counts", n.Revision, w.ledgerName(n.Place.Source))
		case seen[key]:
			return fmt.Sprintf("it tells of revision %d twice", n.Revision)
		case n.Place.Position < last[n.Place.Source]:
			return fmt.Sprintf("it tells of revision %d too late", n.Revision)
		}
		seen[key], last[n.Place.Source], at[n.Revision] = true, n.Place.Position, true
	}
	for i := range winner.events {
		e := &winner.events[i]
		switch told := at[e.Revision]; {
		case slices.Contains(maybeEvents, e.Type):
		case told && slices.Contains(silentEvents, e.Type):
			return fmt.Sprintf("it tells of revision %d, which is no step", e.Revision)
		case !told && !slices.Contains(silentEvents, e.Type):
			return fmt.Sprintf("it does not tell of revision %d, %s", e.Revision, e.Type)
		}
	}
	return ""
}

// eventAt returns the event at a place; nil: there is none.
func (w *world) eventAt(p projections.Place) *eventstore.Recorded {
	for _, r := range w.regions {
		if r.disk.identity.ID != p.Source {
			continue
		}
		if i := r.disk.behind(p.Position) - 1; i >= 0 && r.disk.events[i].Position == p.Position {
			return &r.disk.events[i]
		}
	}
	return nil
}
