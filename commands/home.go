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
	Name string
	// Mirror is what is known here of the region's ledger; nil: nothing yet. Like every reader it shows an append whole or
	// not at all: half of one would make half a first answer.
	Mirror eventstore.Reader
	// API passes a request on to the region and gives its answer back; nil: there is no way. See [Forwarder].
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

// elsewhere looks in the mirrors for an order that this ledger does not have. It returns the first answer to a command
// that was done there, [*KeyReused] or [*Elsewhere]. A new order is decided here if nobody is known to have it.
func (h *Handler) elsewhere(ctx context.Context, c domain.Command, digest domain.Digest) (Result, bool, error) {
	step, region, err := h.mirrored(ctx, c, digest)
	switch {
	case step != nil:
		if first, done, err := step.Answered(); done || err != nil {
			return first, done, err
		}
		return Result{}, false, &Elsewhere{Order: c.Order, Home: region.Name, region: region}
	case err == nil:
		return Result{}, false, nil
	}
	if _, isNew := c.Do.(domain.Submit); isNew && ctx.Err() == nil {
		// A mirror that is broken must not keep the region from its work. Should the order be in two ledgers, one gives way.
		h.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "taking an order without knowing whether another region has it",
			slog.Any("order_id", c.Order), slog.Any("error", err))
		return Result{}, false, nil
	}
	return Result{}, false, err
}

// mirrored returns the step of a command over its order as another region has it, and that region. Where several have
// the order it is the one whose order counts, before that any which has done the command. The step is nil where no
// mirror has the order; with an error, where one that may have it cannot be read.
func (h *Handler) mirrored(ctx context.Context, c domain.Command, digest domain.Digest) (*Step, Region, error) {
	var best *Step
	var home Region
	var failed error
	for _, region := range h.cfg.Regions() {
		if region.Mirror == nil {
			continue
		}
		step, err := takeAll(ctx, region.Mirror, c, digest)
		switch {
		case step.ledger.ID == uuid.Nil: // there is no such stream, as far as one can see
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%w: region %s: %w", errMirror, region.Name, err))
			}
		case step.foreign():
		case best == nil || step.over(best):
			best, home = step, region
		}
	}
	if best != nil {
		return best, home, nil
	}
	return nil, Region{}, failed
}

// takeAll returns the step of a command over a mirror's stream; its ledger is zero where there is no such stream. After an
// error, such as an event that a later version has written, it has no answer.
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

// over reports whether a step's order counts rather than that of another ledger, as far as the command is concerned.
func (s *Step) over(t *Step) bool {
	if (s.first != nil) != (t.first != nil) {
		return s.first != nil
	}
	return s.claim().Over(t.claim(), s.command.Order)
}

func (s *Step) claim() domain.Claim {
	return domain.Claim{Ledger: s.ledger.ID, Epoch: s.order.Epoch, Withdrawn: s.order.Status() == domain.StatusWithdrawn}
}

// ledgers are all ledgers that can be read here: the own one and the mirrors.
func (h *Handler) ledgers() []eventstore.Reader {
	all := []eventstore.Reader{h.store}
	if h.cfg.Regions != nil {
		for _, region := range h.cfg.Regions() {
			if region.Mirror != nil {
				all = append(all, region.Mirror)
			}
		}
	}
	return all
}
