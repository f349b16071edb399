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
		for step, err := range fold(ctx, ledger, order) {
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

// fold yields steps without their changes.
func fold(ctx context.Context, ledger eventstore.Reader, order uuid.UUID) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		var o domain.Order
		for e, err := range ledger.ReadStream(ctx, domain.Stream(order), 0, eventstore.Forward) {
			if err != nil {
				yield(Step{}, fmt.Errorf("reading the history of order %s: %w", order, err))
				return
			}
			step := Step{Recorded: e}
			if step.Event, err = domain.DecodeEvent(e.Type, e.Data); err == nil {
				step.Meta, err = domain.DecodeMeta(e.Metadata)
			}
			if err != nil {
				yield(Step{}, fmt.Errorf("reading the history of order %s at revision %d: %w", order, e.Revision, err))
				return
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
	after func(Step) bool // the step comes after the moment; nil: none does
	exact bool            // the moment's own step must exist
	at    uint64
}

// Revision is the moment at which an order was at a revision, which it must have reached.
func Revision(n uint64) Moment {
	return Moment{after: func(s Step) bool { return s.Recorded.Revision > n }, exact: true, at: n}
}

// Position is the moment at which the ledger was at a position.
func Position(p eventstore.Position) Moment {
	return Moment{after: func(s Step) bool { return s.Recorded.Position > p }}
}

// Recorded is a moment as the ledger saw it: what it had taken by then counts.
func Recorded(t time.Time) Moment {
	return Moment{after: func(s Step) bool { return s.Recorded.Time.After(t) }}
}

// Occurred is a moment in the world: what had happened by then counts, also where the ledger learned of it later. An
// order's events count only together with all before them, so the first one that had not happened ends the history.
func Occurred(t time.Time) Moment {
	return Moment{after: func(s Step) bool { return s.Meta.Occurred.After(t) }}
}

// At returns the last step of an order that does not come after a moment; its Changes are not filled. It returns
// [ErrNotFound] where there is none.
func At(ctx context.Context, ledger eventstore.Reader, order uuid.UUID, m Moment) (Step, error) {
	var last Step
	for step, err := range fold(ctx, ledger, order) {
		if err != nil {
			return Step{}, err
		}
		if m.after != nil && m.after(step) {
			break
		}
		last = step
	}
	if !last.After.Exists() || m.exact && last.Recorded.Revision != m.at {
		return Step{}, fmt.Errorf("order %s: %w", order, ErrNotFound)
	}
	return last, nil
}
