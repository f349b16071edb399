package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// Reconciled is what [Handler.Reconcile] has done.
type Reconciled struct {
	Adopted   bool // the order has come home: what it did elsewhere stands in the own ledger now
	Withdrawn bool // the own ledger gave the order up in favour of another one
	Taken     int  // commands that were done in another ledger, and here now
	Conflicts int  // that were noted, because they could not be done here or a site has to be told
}

// Reconcile brings an order that several ledgers hold closer to what all of them come to in the end: one holding that
// counts, in which every command stands that was ever done, or a conflict that names it.
//
// It reads the mirrors and writes to the own ledger alone, one append after the other, each of which may be the last: what
// is left is done by the next call. It changes nothing where there is nothing to do. It returns [ErrAskingPeers],
// [ErrBusy], and the errors of the ledgers and of the policy.
func (h *Handler) Reconcile(ctx context.Context, order uuid.UUID) (Reconciled, error) {
	var done Reconciled
	err := h.untilSettled(ctx, order, func(x *holdings) (Append, deed, error) {
		if a, what, err := h.comeHome(x); what != nothing || err != nil {
			return a, what, err
		}
		if a, what, err := h.giveWay(x); what != nothing || err != nil {
			return a, what, err
		}
		if a, what, err := h.takeOffers(ctx, x); what != nothing || err != nil {
			return a, what, err
		}
		return h.testify(x)
	}, &done)
	return done, err
}

// adopt takes in an order that has come home.
func (h *Handler) adopt(ctx context.Context, order uuid.UUID) error {
	return h.untilSettled(ctx, order, h.comeHome, new(Reconciled))
}

// A deed is what an append of a reconciliation does.
type deed string

const (
	nothing  deed = ""
	adopted  deed = "an order has come home"
	withdrew deed = "an order was given up in favour of the same order in another ledger"
	took     deed = "a command that was done in another ledger was taken over"
	conflict deed = "something that was done in another ledger was not taken over, and stands among the order's conflicts"
	moved    deed = "an order has moved"

	witnessed deed = "what is known here of another region's order was written down for the region where it lives"
)

// level is that of a deed in the log. Orders move by the thousand.
func (d deed) level() slog.Level {
	switch d {
	case moved, adopted:
		return slog.LevelDebug
	case conflict:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// untilSettled does what next says, until that is nothing.
func (h *Handler) untilSettled(ctx context.Context, order uuid.UUID, next func(*holdings) (Append, deed, error), done *Reconciled) error {
	for failures := 0; ; {
		x, err := h.holdings(ctx, order)
		if err != nil {
			return err
		}
		a, what, err := next(x)
		if what == nothing || err != nil {
			return err
		}
		switch err := h.commit(ctx, order, a, what); {
		case errors.Is(err, errChanged):
			if failures++; failures == maxAttempts {
				return fmt.Errorf("order %s: %w", order, ErrBusy)
			}
			continue
		case err != nil:
			return err
		}
		failures = 0
		done.count(what)
	}
}

func (r *Reconciled) count(what deed) {
	switch what {
	case adopted:
		r.Adopted = true
	case withdrew:
		r.Withdrawn = true
	case took:
		r.Taken++
	case conflict:
		r.Conflicts++
	}
}

// commit appends to the own ledger. It returns errChanged if the order has changed since it was read.
func (h *Handler) commit(ctx context.Context, order uuid.UUID, a Append, what deed) error {
	done, err := h.store.Append(ctx, a.Stream, a.Expected, a.Events)
	switch {
	case eventstore.IsConflict(err):
		return errChanged
	case refusedAppend(err):
		return fmt.Errorf("appending to order %s: %w", order, err)
	case err != nil:
		return fmt.Errorf("appending to order %s: %w", order, errors.Join(ErrOutcomeUnknown, err))
	}
	h.cfg.Logger.LogAttrs(ctx, what.level(), "an order of several ledgers was brought on", slog.String("what", string(what)), slog.Any("order_id", order),
		slog.Uint64("revision", done.Revision), slog.Uint64("position", uint64(done.Position)))
	return nil
}

// comeHome takes in an order that another ledger has handed over to this one: what it did there, and last that it has
// come here. If this ledger has events that the other one did not know, it keeps its own history and takes the order by
// moving it once more; what the other one did is offered to it then.
func (h *Handler) comeHome(x *holdings) (Append, deed, error) {
	w := x.winner()
	if w == nil || w == &x.own || w.home() != h.ledger.ID {
		return Append{}, nothing, nil
	}
	if n := common(&x.own, w); n == len(x.own.events) && !w.claim().Withdrawn {
		return Append{Stream: domain.Stream(x.order), Expected: x.own.end(), Events: copies(fitting(w.events[n:]))}, adopted, nil
	}
	a, err := h.move(x, w, h.ledger.ID, h.itself())
	return a, adopted, err
}

// fitting returns as many events as fit into one append, and whole commands: half of one would make half a first answer.
func fitting(events []held) []held {
	size, whole := 0, 0
	for i := range events {
		if i > 0 && events[i].meta.Command != events[i-1].meta.Command {
			whole = i
		}
		size += eventSize(events[i].Event)
		if size > eventstore.MaxAppend || i == eventstore.MaxEvents {
			return events[:whole]
		}
	}
	return events
}

func eventSize(e eventstore.Event) int {
	return len(e.ID) + len(e.Type) + len(e.Metadata) + len(e.Data)
}

// giveWay withdraws the order in favour of another ledger that counts and does not have all that this one has.
func (h *Handler) giveWay(x *holdings) (Append, deed, error) {
	w := x.winner()
	if w == nil || w == &x.own || x.own.claim().Withdrawn || common(&x.own, w) == len(x.own.events) {
		return Append{}, nothing, nil
	}
	a, err := h.bySystem(x, x.own.order, fmt.Sprint("withdraw ", x.own.order.Epoch), h.itself(), domain.Withdraw{Winner: w.home().String()})
	return a, withdrew, err
}

// itself is who asks for what a ledger does by itself.
func (h *Handler) itself() domain.Actor {
	return domain.Actor{Kind: "system", Issuer: h.ledger.ID.String(), Subject: "orderledger"}
}

// bySystem decides a command that nobody sent from outside. Its name is its own in the order's stream.
func (h *Handler) bySystem(x *holdings, order domain.Order, name string, by domain.Actor, do domain.Action) (Append, error) {
	c := domain.Command{
		ID: uuid.NewSHA1(h.ledger.ID, fmt.Append(nil, name, " ", x.order)), Order: x.order, BusinessUnit: order.BusinessUnit, Actor: by, Do: do,
	}
	if err := c.Check(); err != nil {
		return Append{}, err
	}
	digest, err := domain.DigestOf(h.keys.Digest(), c, &domain.Personal{})
	if err != nil {
		return Append{}, err
	}
	step := NewStep(h.ledger, c, digest)
	step.order = order
	return step.Decide(domain.Unruled{}, domain.Sealed{}, h.cfg.Now())
}

// takeOffers takes over the first command that another ledger has and this one does not, or notes the first conflict that
// is not known, if the order counts as it is here.
func (h *Handler) takeOffers(ctx context.Context, x *holdings) (Append, deed, error) {
	if w := x.winner(); w != &x.own || w.home() != h.ledger.ID {
		return Append{}, nothing, nil
	}
	known := x.own.commands()
	for _, other := range x.others {
		for _, o := range offers(other, common(&x.own, other)) {
			digest, had := known[o.meta.Command]
			if had && digest == o.meta.Digest || x.own.noted(o.meta.Command) {
				continue
			}
			if err := h.asked(); err != nil {
				return Append{}, nothing, err
			}
			code, a, err := domain.ConflictKeyReused, Append{}, error(nil)
			if !had {
				code, a, err = h.redo(ctx, x, other, o)
			}
			if err != nil || code == "" {
				return a, took, err
			}
			return h.note(x, o.conflict(other.ledger, code))
		}
	}
	if c := heardOf(x, known); c != nil {
		return h.note(x, *c)
	}
	for _, other := range x.others {
		for _, c := range sitesReached(&x.own, other) {
			if slices.ContainsFunc(x.own.order.Conflicts, func(known domain.OrderConflict) bool { return known.Ledger == c.Ledger && known.Site == c.Site }) {
				continue
			}
			if err := h.asked(); err != nil {
				return Append{}, nothing, err
			}
			return h.note(x, c)
		}
	}
	return Append{}, nothing, nil
}

// commands are all that were done in a ledger.
func (h *holding) commands() map[uuid.UUID]domain.Digest {
	all := make(map[uuid.UUID]domain.Digest, len(h.events))
	for i := range h.events {
		m := &h.events[i].meta
		all[m.Command] = m.Digest
	}
	return all
}

// noted reports whether a ledger knows of a conflict over a command, settled or not.
func (h *holding) noted(command uuid.UUID) bool {
	return slices.ContainsFunc(h.order.Conflicts, func(c domain.OrderConflict) bool { return c.Command == command.String() })
}

// heardOf returns the first conflict that another ledger has noted over a command of which this one knows nothing, because
// the ledger that has done it is lost.
func heardOf(x *holdings, known map[uuid.UUID]domain.Digest) *domain.Conflict {
	for _, other := range x.others {
		for _, c := range other.order.Conflicts {
			command, err := uuid.Parse(c.Command)
			if err != nil {
				continue
			}
			if _, had := known[command]; !had && !x.own.noted(command) {
				c.ID = ""
				return &c.Conflict
			}
		}
	}
	return nil
}

// sitesReached are conflicts over the sites that another ledger has given parts of the order since the two have gone
// different ways, and that may be at work, while the own order does not use them.
func sitesReached(own, other *holding) []domain.Conflict {
	var all []domain.Conflict
	for i := common(own, other); i < len(other.events); i++ {
		routed, ok := other.events[i].event.(*domain.Routed)
		if !ok {
			continue
		}
		for _, a := range routed.Fulfilments {
			f := other.order.Fulfilment(a.ID)
			if f == nil || idle(*f) || slices.ContainsFunc(own.order.Fulfilments, func(f domain.Fulfilment) bool { return f.Site == a.Site && !idle(f) }) {
				continue
			}
			all = append(all, domain.Conflict{
				Ledger: other.ledger.String(), Site: a.Site, Fulfilment: a.ID, Revision: other.events[i].Revision,
			})
		}
	}
	return all
}

// idle reports whether a site was told, or has said itself, that it is to do nothing, and has shipped nothing.
func idle(f domain.Fulfilment) bool {
	return (f.Phase == domain.PhaseFailed || f.Phase == domain.PhaseUnrouted) && len(f.Shipments) == 0
}

// An offer is a command that was done in another ledger.
type offer struct {
	meta     domain.Meta
	revision uint64 // of its first event there
	events   []domain.Event
}

// offers are the commands of a holding behind its first n events, but for what concerns that ledger alone.
func offers(of *holding, n int) []offer {
	var all []offer
	for i := n; i < len(of.events); i++ {
		e := &of.events[i]
		if len(all) == 0 || all[len(all)-1].meta.Command != e.meta.Command {
			all = append(all, offer{meta: e.meta, revision: e.Revision})
		}
		last := &all[len(all)-1]
		last.events = append(last.events, e.event)
	}
	return slices.DeleteFunc(all, func(o offer) bool {
		switch o.events[0].(type) {
		case *domain.Withdrawn, *domain.HomeMoved, *domain.ConflictFound, *domain.ConflictSettled:
			return true
		}
		return false
	})
}

// conflict says that an offer of a ledger is not taken.
func (o *offer) conflict(ledger uuid.UUID, code string) domain.Conflict {
	return domain.Conflict{Ledger: ledger.String(), Command: o.meta.Command.String(), Action: o.action(), Code: code, Revision: o.revision}
}

// action is the word for what was asked for.
func (o *offer) action() string {
	if _, ok := o.events[0].(*domain.Submitted); ok {
		return domain.Submit{}.Name()
	}
	if action, ok := domain.Redo(o.events); ok {
		return action.Name()
	}
	return o.events[0].Type()
}

// redo decides a command here that was done elsewhere, as if it had come here. The code says why that cannot be.
func (h *Handler) redo(ctx context.Context, x *holdings, of *holding, o offer) (code string, a Append, err error) {
	action, ok := domain.Redo(o.events)
	if !ok {
		return domain.ConflictNotRepeatable, Append{}, nil
	}
	action, unknown := newRenamer(of, &x.own).action(action)
	if unknown != "" {
		return string(unknown), Append{}, nil
	}
	c := domain.Command{
		ID: o.meta.Command, Order: x.order, BusinessUnit: o.meta.BusinessUnit, Actor: o.meta.Actor, Cause: o.meta.Cause,
		Occurred: o.meta.Occurred, Do: action,
	}
	step := NewStep(h.ledger, c, o.meta.Digest)
	step.order = x.own.order
	policy, err := h.policy(ctx, step)
	if err != nil {
		return "", Append{}, err
	}
	var sealed domain.Sealed
	if amend, ok := action.(domain.Amend); ok {
		sealed = amend.Personal
	}
	if err = c.Check(); err == nil {
		a, err = step.Decide(policy, sealed, h.cfg.Now())
	}
	if err == nil {
		err = eventstore.Validate(a.Stream, a.Expected, a.Events)
	}
	var refused *domain.Refused
	var malformed *domain.Malformed
	switch {
	case errors.As(err, &refused):
		return string(refused.Code), Append{}, nil
	case errors.As(err, &malformed):
		return malformed.Code, Append{}, nil
	case errors.Is(err, eventstore.ErrTooLarge):
		return codeAppendTooLarge, Append{}, nil
	}
	return "", a, err
}

// note records a conflict.
func (h *Handler) note(x *holdings, c domain.Conflict) (Append, deed, error) {
	name := fmt.Sprint("conflict ", c.Ledger, " ", c.Command, " ", c.Site)
	a, err := h.bySystem(x, x.own.order, name, h.itself(), domain.RecordConflict{Conflict: c})
	return a, conflict, err
}
