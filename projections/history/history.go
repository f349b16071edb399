// Package history reads the life of one order from a ledger: each step with what it changed, who asked for it and why,
// the order at any moment, and what differs between two moments.
//
// It only reads. Nothing is stored, sent or told, however often a history is read. Personal sections stay sealed.
package history

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// ErrNotFound is returned for an order that the ledger does not have, or did not have at the moment asked for.
var ErrNotFound = errors.New("the ledger has no such order at that moment")

// A Step is an event of an order and what it led to.
type Step struct {
	Recorded eventstore.Recorded // id, revision, position and when the ledger took it
	Event    domain.Event
	Meta     domain.Meta // who asked, why, and when it happened
	After    domain.Order
	Changes  []Change // what differs from the step before
}

// Steps yields the steps of an order in the ledger, the first one first. It ends after an error: [ErrNotFound], one of
// the ledger, or [domain.ErrUnknownEvent] and its like at an event that cannot be read.
func Steps(ctx context.Context, ledger eventstore.Reader, order uuid.UUID) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		var before tree
		for step, err := range fold(ctx, ledger, order, Moment{}) {
			if err != nil {
				yield(Step{}, err)
				return
			}
			after, err := parse(step.After)
			if err != nil {
				yield(Step{}, err)
				return
			}
			step.Changes = compare(before, after)
			before = after
			if !yield(step, nil) {
				return
			}
		}
	}
}

// fold yields the steps that do not come after a moment, without their changes.
func fold(ctx context.Context, ledger eventstore.Reader, order uuid.UUID, m Moment) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		var o domain.Order
		for e, err := range ledger.ReadStream(ctx, domain.Stream(order), 0, eventstore.Forward) {
			if err != nil {
				yield(Step{}, fmt.Errorf("reading the history of order %s: %w", order, err))
				return
			}
			if m.recorded != nil && m.recorded(&e) {
				break
			}
			step := Step{Recorded: e}
			if step.Event, err = domain.DecodeEvent(e.Type, e.Data); err == nil {
				step.Meta, err = domain.DecodeMeta(e.Metadata)
			}
			if err != nil {
				yield(Step{}, fmt.Errorf("reading the history of order %s at revision %d: %w", order, e.Revision, err))
				return
			}
			if m.occurred != nil && m.occurred(step.Meta) {
				break
			}
			o = domain.Evolve(o, step.Event)
			step.After = o
			if !yield(step, nil) {
				return
			}
		}
		if !o.Exists() {
			yield(Step{}, fmt.Errorf("order %s: %w", order, ErrNotFound))
		}
	}
}

// A Moment is a point in an order's history. The zero Moment is now.
type Moment struct {
	// These say whether a step comes after the moment; nil: it does not.
	recorded func(*eventstore.Recorded) bool
	occurred func(domain.Meta) bool
	reached  *uint64 // the revision that the order must have come to
}

// Revision is the moment at which an order was at a revision, which it must have reached.
func Revision(n uint64) Moment {
	return Moment{recorded: func(e *eventstore.Recorded) bool { return e.Revision > n }, reached: &n}
}

// Position is the moment at which the ledger was at a position.
func Position(p eventstore.Position) Moment {
	return Moment{recorded: func(e *eventstore.Recorded) bool { return e.Position > p }}
}

// Recorded is a moment as the ledger saw it: what it had taken by then counts.
func Recorded(t time.Time) Moment {
	return Moment{recorded: func(e *eventstore.Recorded) bool { return e.Time.After(t) }}
}

// Occurred is a moment in the world: what had happened by then counts, also where the ledger learned of it later. An
// order's events count only together with all before them, so the first one that had not happened ends the history.
func Occurred(t time.Time) Moment {
	return Moment{occurred: func(m domain.Meta) bool { return m.Occurred.After(t) }}
}

// At returns the last step of an order that does not come after a moment; its Changes are not filled. It returns
// [ErrNotFound] where there is none. Events after the moment need not be readable.
func At(ctx context.Context, ledger eventstore.Reader, order uuid.UUID, m Moment) (Step, error) {
	var last Step
	for step, err := range fold(ctx, ledger, order, m) {
		if err != nil {
			return Step{}, err
		}
		last = step
	}
	if m.reached != nil && last.Recorded.Revision != *m.reached {
		return Step{}, fmt.Errorf("order %s: %w", order, ErrNotFound)
	}
	return last, nil
}
