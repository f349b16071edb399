package rules

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// maxAttempts bounds how often an activation is tried while others activate at the same time.
const maxAttempts = 8

// An Activation asks that a rule set come into force for a business unit.
type Activation struct {
	BusinessUnit string
	Text         []byte
	Meta         domain.Meta // who, when and why; Command must be set
}

// Activated is the result of an activation.
type Activated struct {
	SHA256   string
	Revision uint64
	Position eventstore.Position // 0 where it is not known
	Repeated bool                // it was in force, or this command had activated it; nothing was stored
	Warnings []Problem
}

// Activate stores a rule set in the ledger, and returns when it is in force for every decision that begins afterwards in
// this process. The text in force is not stored again, nor is the text of a command that is repeated.
//
// A text that [Parse] refuses is refused with its [*Invalid]; whatever the error, the rules in force stay. Other errors
// are [ErrBusinessUnit], [ErrCommandReused], an [*eventstore.Conflict] when others activate all the time, and those
// of the ledger.
func (a *Active) Activate(ctx context.Context, want Activation) (Activated, error) {
	set, err := Parse(want.Text)
	if err != nil {
		return Activated{}, err
	}
	if want.Meta.Command == uuid.Nil {
		return Activated{}, fmt.Errorf("activating a rule set: the command has no id")
	}
	if _, err := a.load(ctx, want.BusinessUnit); err != nil {
		return Activated{}, err
	}
	return a.activate(ctx, set, want.BusinessUnit, want.Meta)
}

// activateDefault activates the default rule set unless another one has been activated meanwhile.
func (a *Active) activateDefault(ctx context.Context, businessUnit string) (*unit, error) {
	meta := domain.Meta{
		// The same in every process, so that two which start at once store it once.
		Command:      domain.CommandID(uuid.Nil, "rules", "default "+businessUnit),
		Actor:        domain.Actor{Kind: "system", Subject: "orderledger"},
		BusinessUnit: businessUnit,
		Occurred:     a.config.Now().UTC(),
	}
	event, err := a.event(a.config.Default, businessUnit, meta)
	if err != nil {
		return nil, err
	}
	_, err = a.store.Append(ctx, Stream(businessUnit), eventstore.NoStream, []eventstore.Event{event})
	if err != nil && !eventstore.IsConflict(err) {
		return nil, err
	}
	u, err := a.load(ctx, businessUnit)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, fmt.Errorf("%w: stream %s is empty after an append", eventstore.ErrCorrupt, Stream(businessUnit))
	}
	return u, nil
}

func (a *Active) activate(ctx context.Context, set *RuleSet, businessUnit string, meta domain.Meta) (Activated, error) {
	meta.BusinessUnit = businessUnit
	event, err := a.event(set, businessUnit, meta)
	if err != nil {
		return Activated{}, err
	}
	stream := Stream(businessUnit)
	for attempt := 1; ; attempt++ {
		expected, repeated, err := a.find(ctx, stream, set, event.ID)
		if err != nil {
			return Activated{}, err
		}
		result := Activated{SHA256: set.Hash(), Warnings: set.Warnings()}
		if repeated != nil {
			result.Revision, result.Position, result.Repeated = repeated.Revision, repeated.Position, true
			a.adopt(ctx, repeated)
			return result, nil
		}
		appended, err := a.store.Append(ctx, stream, expected, []eventstore.Event{event})
		if eventstore.IsConflict(err) && attempt < maxAttempts {
			continue
		}
		if err != nil {
			return Activated{}, fmt.Errorf("activating a rule set for business unit %q: %w", businessUnit, err)
		}
		a.adopt(ctx, &eventstore.Recorded{Event: event, Stream: stream, Revision: appended.Revision, Position: appended.Position})
		result.Revision, result.Position, result.Repeated = appended.Revision, appended.Position, appended.Repeated
		return result, nil
	}
}

// find returns at which revision a stream ends, and the activation that makes another one superfluous: the newest, if
// it is of the same text, or one that the same command has led to. People activate rules: a stream of them stays short.
func (a *Active) find(ctx context.Context, stream string, set *RuleSet, event uuid.UUID) (eventstore.Expected, *eventstore.Recorded, error) {
	expected := eventstore.NoStream
	for rec, err := range a.store.ReadStream(ctx, stream, eventstore.End, eventstore.Backward) {
		if err != nil {
			return 0, nil, fmt.Errorf("reading %s: %w", stream, err)
		}
		newest := expected == eventstore.NoStream
		if newest {
			expected = eventstore.At(rec.Revision)
		}
		if !newest && rec.ID != event {
			continue
		}
		e, err := activation(&rec)
		switch same := err == nil && e.SHA256 == set.Hash(); {
		case same:
			return 0, &rec, nil
		case rec.ID == event:
			return 0, nil, ErrCommandReused
		}
	}
	return expected, nil, nil
}

func (a *Active) event(set *RuleSet, businessUnit string, meta domain.Meta) (eventstore.Event, error) {
	activated := &domain.RuleSetActivated{BusinessUnit: businessUnit, SHA256: set.Hash(), Text: set.Text()}
	data, err := domain.EncodeEvent(activated)
	if err != nil {
		return eventstore.Event{}, err
	}
	metadata, err := domain.EncodeMeta(meta)
	if err != nil {
		return eventstore.Event{}, err
	}
	return eventstore.Event{
		ID:       domain.EventID(meta.Command, a.start.ID, 0),
		Type:     activated.Type(),
		Metadata: metadata,
		Data:     data,
	}, nil
}
