package simulate

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
)

// What is checked as soon as it can be broken. See rest.go for what is checked when all is at rest.

// holders are the regions whose ledgers have an order.
func (w *world) holders(order uuid.UUID) []*region {
	var all []*region
	for _, r := range w.regions {
		if len(r.disk.streams[domain.Stream(order)]) > 0 {
			all = append(all, r)
		}
	}
	return all
}

// checkReply compares an answer that says that a command was done with what is stored, and with what was answered before.
func (w *world) checkReply(q *request, r *reply) {
	o := q.order
	switch {
	case r.answer.ID != o.id.String():
		w.violated("%s was answered with order %s", q, r.answer.ID)
	case o.number != "" && o.number != r.answer.Number:
		w.violated("%s was answered with the number %s, and the order had %s before", q, r.answer.Number, o.number)
	case !w.stored(q, r):
		w.violated("%s was answered before ledger %s had it at revision %d", q, w.ledgerName(r.mark.Ledger), r.mark.Revision)
	case r.remote && len(w.havers(q)) < 2:
		w.violated("%s was answered as remote, and no other region has it", q)
	}
	w.checkFirst(q, r)
}

// checkFirst compares an answer with the first one. Where ledgers differ over an order, a command may have been done in
// both: what they say of it comes to rest later.
func (w *world) checkFirst(q *request, r *reply) {
	alone := len(w.holders(q.order.id)) == 1
	for _, other := range w.clients.sent {
		switch {
		case other.order != q.order || other.command != q.command || other.first == nil || other.first == r:
		case other.body != q.body:
			if alone || other.first.mark.Ledger == r.mark.Ledger {
				w.violated("%s was answered with success, though the key had asked for something else before", q)
			}
		case (alone || q.action == "submit") && !bytes.Equal(other.first.body, r.body):
			w.violated("%s was answered with %s, and first with %s", q, r.body, other.first.body)
		}
	}
}

// stored reports whether the ledger of a mark has what a command led to.
func (w *world) stored(q *request, r *reply) bool {
	for _, region := range w.regions {
		if region.disk.identity.ID != r.mark.Ledger {
			continue
		}
		indexes := region.disk.streams[domain.Stream(q.order.id)]
		if r.mark.Revision >= uint64(len(indexes)) {
			return false
		}
		meta, err := domain.DecodeMeta(region.disk.events[indexes[r.mark.Revision]].Metadata)
		return err == nil && meta.Command == q.command
	}
	return false
}

// havers are the regions that have what a command led to, in their ledger or a mirror.
func (w *world) havers(q *request) []*region {
	var all []*region
	for _, r := range w.regions {
		if r.process == nil {
			all = append(all, r) // nobody can look; it is not held against it
			continue
		}
		if w.anyHas(r.readers(), q) {
			all = append(all, r)
		}
	}
	return all
}

// readers are all ledgers that can be read in a region; none while it is down.
func (r *region) readers() []eventstore.Reader {
	if r.process == nil {
		return nil
	}
	all := []eventstore.Reader{r.process.ledger}
	for _, m := range r.process.mirrors {
		if m != nil {
			all = append(all, m)
		}
	}
	return all
}

func (w *world) anyHas(readers []eventstore.Reader, q *request) bool {
	for _, reader := range readers {
		for e, err := range reader.ReadStream(w.ctx, domain.Stream(q.order.id), 0, eventstore.Forward) {
			if err != nil {
				break
			}
			if meta, err := domain.DecodeMeta(e.Metadata); err == nil && meta.Command == q.command {
				return true
			}
		}
	}
	return false
}

// checkFailure looks at an answer that says that a region could not do something.
func (w *world) checkFailure(q *request, to *region, status int, code string) {
	if (code == "home_unreachable" || code == "asking_peers") && !w.meddled && w.anyHas(to.readers(), q) && q.original == nil && !w.reused(q) {
		w.violated("%s was answered %d %s by %s, which knows the first answer", q, status, code, to.name)
	}
	if code == "order_busy" && !w.meddled {
		w.violated("%s was answered %d %s by %s, and nobody else has changed the order", q, status, code, to.name)
	}
	if status == http.StatusInternalServerError || code == "" {
		w.violated("%s was answered %d %s: %s", q, status, code, w.lastError)
	}
}

// checkRefusal looks at an answer that says that a command is not possible.
func (w *world) checkRefusal(q *request, to *region, status int, code string) {
	switch {
	case code == "idempotency_key_reused":
		if q.original == nil && !w.reused(q) {
			w.violated("%s was refused because of another one under its key, and there was none", q)
		}
	case q.first != nil && len(w.holders(q.order.id)) == 1:
		w.violated("%s was refused by %s with %d %s, and had been done before", q, to.name, status, code)
	case code == string(domain.CodeUnknownOrder) && q.order.answered && q.action != "submit":
		w.violated("%s was refused by %s: it says that there is no such order, which was acknowledged before", q, to.name)
	case q.action == "submit" && q.original == nil && status != http.StatusUnprocessableEntity:
		w.violated("%s was refused by %s with %d %s", q, to.name, status, code)
	}
}

// reused reports whether a client has asked for something else under a request's key.
func (w *world) reused(q *request) bool {
	for _, other := range w.clients.sent {
		if other.original == q {
			return true
		}
	}
	return false
}

// checkMirror has a mirror show what its ledger holds, no less than before, and end where its chain does.
func (w *world) checkMirror(r, of *region) {
	head, err := r.process.mirrors[of.index].Head(w.ctx)
	if errors.Is(err, mirror.ErrUnreached) {
		return
	}
	if err != nil {
		w.violated("the mirror of %s in %s cannot be read: %v", of.name, r.name, err)
		return
	}
	if head.Position < r.seen[of.index] {
		w.violated("the mirror of %s in %s ends at position %d, and showed %d before", of.name, r.name, head.Position, r.seen[of.index])
		return
	}
	r.seen[of.index] = head.Position
	if head.Position == 0 {
		return
	}
	i := of.disk.behind(head.Position) - 1
	if i < 0 || of.disk.events[i].Position != head.Position || of.disk.events[i].Chain != head.Chain {
		w.violated("the mirror of %s in %s ends at position %d with a chain that the ledger does not have there", of.name, r.name, head.Position)
		return
	}
	if i+1 < len(of.disk.events) && of.disk.events[i+1].Stream == of.disk.events[i].Stream && sameCommand(&of.disk.events[i], &of.disk.events[i+1]) {
		w.violated("the mirror of %s in %s shows half of what a command led to, up to position %d", of.name, r.name, head.Position)
	}
}

func sameCommand(a, b *eventstore.Recorded) bool {
	x, err1 := domain.DecodeMeta(a.Metadata)
	y, err2 := domain.DecodeMeta(b.Metadata)
	return err1 == nil && err2 == nil && x.Command == y.Command && a.Revision+1 == b.Revision
}

// maxAppends is how many appends to one stream an operation leads to at most.
const maxAppends = 100

// checkDecision has nobody decide over an order that, as the region knows by its mirrors, another ledger has or counts
// for. What is appended to bring ledgers together is no decision.
func (w *world) checkDecision(r *region, p *process, stream string, events []eventstore.Event) {
	if w.appends[stream]++; w.appends[stream] == maxAppends {
		w.violated("%s appends to %s again and again, and comes to no end", r.name, stream)
		w.fail("closing a ledger", p.ledger.Close())
	}
	id, ok := domain.StreamOrder(stream)
	if !ok || w.meddled || r.process != p {
		return
	}
	for _, e := range events {
		switch e.Type {
		case "order.home_moved.v1", "order.withdrawn.v1":
			return
		}
	}
	own, err := r.holding(id)
	if err != nil {
		w.violated("order %s in ledger %s cannot be folded: %v", id, r.name, err)
		return
	}
	switch n := len(own.events); {
	case n == 0 || own.events[n-1].ID != events[len(events)-1].ID: // it was not stored
		return
	case n > len(events) && !p.hasAsked():
		w.violated("%s decided over order %s (%s) before it had asked what became of its orders", r.name, id, events[0].Type)
	}
	if len(w.holders(id)) < 2 || events[0].Type == "order.conflict_found.v1" {
		return
	}
	for i, m := range p.mirrors {
		if m == nil {
			continue
		}
		var there domain.Order
		for e, err := range m.ReadStream(w.ctx, stream, 0, eventstore.Forward) {
			if err != nil {
				return
			}
			event, err := domain.DecodeEvent(e.Type, e.Data)
			if err != nil {
				w.violated("order %s in the mirror of %s cannot be folded: %v", id, w.regions[i].name, err)
				return
			}
			there = domain.Evolve(there, event)
		}
		if there.Exists() && there.Claim(w.regions[i].disk.identity.ID).Over(own.claim(), id) {
			w.violated("%s decided over order %s (%s), which by its mirror counts in ledger %s", r.name, id, events[0].Type, w.regions[i].name)
			return
		}
	}
	if own.order.Events == uint64(len(events)) {
		for i, m := range p.mirrors {
			if m != nil && w.regions[i].has(m, id) {
				w.violated("%s made order %s, which by its mirror is in ledger %s", r.name, id, w.regions[i].name)
			}
		}
	}
}

// has reports whether a reader shows an order.
func (r *region) has(reader eventstore.Reader, order uuid.UUID) bool {
	for _, err := range reader.ReadStream(r.world.ctx, domain.Stream(order), 0, eventstore.Forward) {
		return err == nil
	}
	return false
}
