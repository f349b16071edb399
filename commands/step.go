package commands

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// A Step decides one command over one order. It is given the events of the order's stream, in order, by [Step.Take];
// then either [Step.Answered] has the answer that the command got before, or [Step.Decide] says what to append.
//
// A Step does no I/O, looks at no clock and starts nothing. It belongs to one goroutine and is used once.
type Step struct {
	ledger  eventstore.Identity
	command domain.Command
	digest  domain.Digest

	order    domain.Order // as far as it was taken in
	commands []uuid.UUID  // that led to the events that were taken in, in order
	data     int          // bytes of those events
	first    *Result      // what this command has led to before; nil: nothing
	asked    domain.Digest
	refuse   error // what Decide says, whatever the order
}

// A Result is what a command has led to.
type Result struct {
	Order    domain.Order // as the command left it
	Revision uint64       // of the command's last event
	Mark     eventstore.Mark
	Events   []string // wire names of the command's events
	Repeated bool     // the command was done before, and this is its first answer
}

// An Append is what a command leads to, to be appended to the ledger as it is.
type Append struct {
	Stream   string
	Expected eventstore.Expected
	Events   []eventstore.Event

	result Result
}

// NewStep returns the step of a command that [domain.Command.Check] accepts. The digest is the command's.
func NewStep(ledger eventstore.Identity, c domain.Command, digest domain.Digest) *Step {
	return &Step{ledger: ledger, command: c, digest: digest}
}

// Take takes in the next event of the order's stream. It fails on an event that this version cannot read.
func (s *Step) Take(r eventstore.Recorded) error {
	event, err := domain.DecodeEvent(r.Type, r.Data)
	if err != nil {
		return fmt.Errorf("event %d of order %s: %w", r.Revision, s.command.Order, err)
	}
	meta, err := domain.DecodeMeta(r.Metadata)
	if err != nil {
		return fmt.Errorf("event %d of order %s: %w", r.Revision, s.command.Order, err)
	}
	s.order = domain.Evolve(s.order, event)
	if n := len(s.commands); n == 0 || s.commands[n-1] != meta.Command {
		s.commands = append(s.commands, meta.Command)
	}
	s.data += len(r.Data)
	if meta.Command != s.command.ID {
		return nil
	}
	if s.first == nil {
		s.first, s.asked = &Result{Repeated: true}, meta.Digest
	}
	s.first.Order, s.first.Revision, s.first.Mark = s.order, r.Revision, s.mark(r.Position, r.Revision)
	s.first.Events = append(s.first.Events, r.Type)
	return nil
}

// Answered returns the first answer to the command if it was done before. It returns a [*KeyReused] if something else
// was asked under its id then.
func (s *Step) Answered() (first Result, done bool, err error) {
	switch {
	case s.first == nil || s.foreign():
		return Result{}, false, nil
	case s.asked != s.digest:
		return Result{}, false, &KeyReused{Command: s.command.ID}
	}
	return *s.first, true, nil
}

// foreign reports whether the order is another business unit's, of which the command learns nothing.
func (s *Step) foreign() bool {
	return s.order.Exists() && s.order.BusinessUnit != s.command.BusinessUnit
}

// requireEpoch makes Decide refuse unless the order's home has moved so often.
func (s *Step) requireEpoch(epoch uint32) {
	if s.order.Exists() && !s.foreign() && s.order.Epoch != epoch {
		s.refuse = &domain.Refused{Code: domain.CodeStaleRevision, Detail: "the order has moved to another home since"}
	}
}

// Ruled reports whether the rules of the business unit have a say: the order exists or is to be submitted, and is no
// import from another system's history.
func (s *Step) Ruled() bool {
	if submit, ok := s.command.Do.(domain.Submit); ok {
		return !s.order.Exists() && submit.Channel != domain.ChannelImport
	}
	return s.order.Exists() && !s.foreign() && s.order.Channel != domain.ChannelImport
}

// Subject names whose key seals what the command says about people. It is empty where the command will be refused.
func (s *Step) Subject() string {
	buyer := s.order.Parties.Buyer
	if submit, ok := s.command.Do.(domain.Submit); ok {
		buyer = submit.Parties.Buyer
		if s.order.Exists() {
			return ""
		}
	} else if !s.order.Exists() || s.foreign() {
		return ""
	}
	return domain.Subject(s.command.BusinessUnit, s.command.Order, buyer)
}

// Decide returns what the command leads to, or the [*domain.Refused] or [*domain.Malformed] that it gets. Sealed is
// what it says about people, and may be zero.
func (s *Step) Decide(policy domain.Policy, sealed domain.Sealed, now time.Time) (Append, error) {
	if s.refuse != nil {
		return Append{}, s.refuse
	}
	c := s.command
	switch action := c.Do.(type) {
	case domain.Submit:
		action.Personal = sealed
		c.Do = action
	case domain.Amend:
		action.Personal = sealed
		c.Do = action
	}
	events, after, err := domain.DecideChecked(s.order, c, policy, now)
	if err != nil {
		return Append{}, err
	}
	return s.encode(events, after, now)
}

// encode makes an append of events, after which the order is as given.
func (s *Step) encode(events []domain.Event, after domain.Order, now time.Time) (Append, error) {
	c := s.command
	meta := domain.Meta{
		Command: c.ID, Digest: s.digest, Actor: c.Actor, BusinessUnit: c.BusinessUnit, Cause: c.Cause,
		Occurred: c.Occurred.UTC(), Epoch: s.order.Epoch,
	}
	if c.Occurred.IsZero() {
		meta.Occurred = now.UTC()
	}
	metadata, err := domain.EncodeMeta(meta)
	if err != nil {
		return Append{}, err
	}
	a := Append{
		Stream: domain.Stream(c.Order), Expected: eventstore.NoStream, Events: make([]eventstore.Event, 0, len(events)),
		result: Result{Order: after, Revision: after.Revision(), Mark: s.mark(0, after.Revision()), Events: make([]string, 0, len(events))},
	}
	if s.order.Exists() {
		a.Expected = eventstore.At(s.order.Revision())
	}
	for i, e := range events {
		data, err := domain.EncodeEvent(e)
		if err != nil {
			return Append{}, err
		}
		a.Events = append(a.Events, eventstore.Event{
			ID: domain.EventID(c.ID, s.ledger.ID, i), Type: e.Type(), Metadata: metadata, Data: data,
		})
		a.result.Events = append(a.result.Events, e.Type())
	}
	return a, nil
}

// Result is the answer to the command once the append is durable.
func (a Append) Result(done eventstore.Appended) Result {
	r := a.result
	r.Mark.Position = done.Position
	return r
}

func (s *Step) mark(position eventstore.Position, revision uint64) eventstore.Mark {
	return eventstore.Mark{Ledger: s.ledger.ID, Incarnation: s.ledger.Incarnation, Position: position, Revision: revision}
}
