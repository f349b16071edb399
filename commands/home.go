package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// A Region is another region of the same company, as this one sees it.
type Region struct {
	Name   string
	Ledger uuid.UUID // the id of its ledger
	// Mirror is what is known here of the region's ledger; nil: nothing yet. Like every reader it shows an append whole or
	// not at all: half of one would make half a first answer.
	Mirror eventstore.Reader
	// API passes a request on to the region and gives its answer back; nil: there is no way. See [Forwarder], whose method
	// Answers is asked before the region is taken over.
	API http.Handler
	// Enqueue puts a message into the queue of commands that are to be passed on to the region, and returns after the bus
	// has it, or when the message's context is done; nil: there is no such queue. The [Queue] that takes it up has the
	// region as its Home.
	Enqueue func(*watermill.Message) error
}

// Elsewhere tells that a command is for an order whose home is another region. It was not decided.
type Elsewhere struct {
	Order uuid.UUID
	Home  string // name of the region

	region Region
}

func (e *Elsewhere) Error() string {
	return fmt.Sprintf("the home of order %s is the region %s", e.Order, e.Home)
}

// errMirror is why nobody knows whether another region has an order.
var errMirror = errors.New("reading a mirror")

// regions are the other regions.
func (h *Handler) regions() []Region {
	if h.cfg.Regions == nil {
		return nil
	}
	return h.cfg.Regions()
}

// regionOf returns the region of a ledger. One that nobody knows any more has no way that leads to it.
func (h *Handler) regionOf(ledger uuid.UUID) Region {
	for _, region := range h.regions() {
		if region.Ledger == ledger {
			return region
		}
	}
	return Region{Name: ledger.String(), Ledger: ledger}
}

// A whereabouts is where an order lives, as far as a command is concerned.
type whereabouts struct {
	answered *Step     // over an order of another ledger where the command was done; nil: nobody knows of one
	home     uuid.UUID // the ledger in which the order lives; zero: no ledger has it
	region   Region    // of that ledger, if it is another one
	adopt    bool      // it has come home to this ledger, which has yet to take it in
}

// locate looks for an order in the mirrors too. The own order is that of the step, which may not exist. The error says
// which mirrors could not be read; the rest is true as far as the others know.
func (h *Handler) locate(ctx context.Context, own *Step) (whereabouts, error) {
	var at whereabouts
	var best *Step
	if own.order.Exists() {
		best = own
	}
	var failed error
	for _, region := range h.regions() {
		if region.Mirror == nil {
			continue
		}
		step, err := takeAll(ctx, region.Mirror, own.command, own.digest)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%w: region %s: %w", errMirror, region.Name, err))
		}
		if step.ledger.ID == uuid.Nil || step.foreign() {
			continue
		}
		if step.first != nil && (at.answered == nil || step.over(at.answered)) {
			at.answered = step
		}
		if best == nil || step.over(best) {
			best, at.region = step, region
		}
	}
	if best != nil {
		at.home = homeOf(best.order, best.ledger.ID)
		at.adopt = best != own && at.home == h.ledger.ID
		if at.home != best.ledger.ID {
			at.region = h.regionOf(at.home)
		}
	}
	return at, failed
}

// decidable finds out whether a command is to be decided here. It returns the first answer to a command that was done in
// another ledger, [*KeyReused], [*Elsewhere] or [ErrAskingPeers]. An order that has come home is taken in, which changes
// the own ledger: errCameHome. A new order is decided here if nobody is known to have it.
func (h *Handler) decidable(ctx context.Context, own *Step) (Result, bool, error) {
	if own.foreign() {
		return Result{}, false, nil
	}
	at, err := h.locate(ctx, own)
	switch {
	case at.answered != nil:
		return at.answered.Answered()
	case at.adopt:
		if err := h.adopt(ctx, own.command.Order); err != nil {
			return Result{}, false, err
		}
		return Result{}, false, errCameHome
	case at.home != uuid.Nil && at.home != h.ledger.ID:
		return Result{}, false, &Elsewhere{Order: own.command.Order, Home: at.region.Name, region: at.region}
	}
	if err != nil {
		if _, isNew := own.command.Do.(domain.Submit); ctx.Err() != nil || !isNew && !own.order.Exists() {
			return Result{}, false, err
		}
		// A mirror that is broken must not keep the region from its work. Should the order be in two ledgers, one gives way.
		h.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "deciding without knowing whether another region has the order",
			slog.Any("order_id", own.command.Order), slog.Any("error", err))
	}
	if own.order.Exists() {
		return Result{}, false, h.asked()
	}
	return Result{}, false, nil
}

// asked returns [ErrAskingPeers] until the other regions have been asked.
func (h *Handler) asked() error {
	if h.cfg.Asked != nil && !h.cfg.Asked() {
		return ErrAskingPeers
	}
	return nil
}

// takeAll returns the step of a command over a mirror's stream; its ledger is zero where there is no such stream. After an
// error, such as an event that a later version has written, it has no answer, and what came before the event.
func takeAll(ctx context.Context, mirror eventstore.Reader, c domain.Command, digest domain.Digest) (*Step, error) {
	step := NewStep(eventstore.Identity{}, c, digest)
	for e, err := range mirror.ReadStream(ctx, domain.Stream(c.Order), 0, eventstore.Forward) {
		if err == nil && step.ledger.ID == uuid.Nil {
			var head eventstore.Head
			head, err = mirror.Head(ctx)
			step.ledger = head.Identity
		}
		if err == nil {
			err = step.Take(e)
		}
		if err != nil {
			step.first = nil
			return step, err
		}
	}
	return step, nil
}

// over reports whether a step's order counts rather than that of another ledger.
func (s *Step) over(t *Step) bool {
	return s.order.Claim(s.ledger.ID).Over(t.order.Claim(t.ledger.ID), s.command.Order)
}

// ledgers are all ledgers that can be read here: the own one and the mirrors.
func (h *Handler) ledgers() []eventstore.Reader {
	all := []eventstore.Reader{h.store}
	for _, region := range h.regions() {
		if region.Mirror != nil {
			all = append(all, region.Mirror)
		}
	}
	return all
}
