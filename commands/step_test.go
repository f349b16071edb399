package commands_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// A streams is all that a simulator needs of a ledger.
type streams struct {
	identity eventstore.Identity
	events   map[string][]eventstore.Recorded
	position eventstore.Position
}

// step does one command at a moment, as a handler does over a real ledger.
func (l *streams) step(c domain.Command, at time.Time) (commands.Result, error) {
	digest, err := domain.DigestOf([]byte("key"), c, &domain.Personal{})
	if err != nil {
		return commands.Result{}, err
	}
	step := commands.NewStep(l.identity, c, digest)
	for _, r := range l.events[domain.Stream(c.Order)] {
		if err := step.Take(r); err != nil {
			return commands.Result{}, err
		}
	}
	if first, done, err := step.Answered(); done || err != nil {
		return first, err
	}
	decided, err := step.Decide(sites{"a", "b"}, domain.Sealed{}, at)
	if err != nil {
		return commands.Result{}, err
	}
	stream := l.events[decided.Stream]
	for _, e := range decided.Events {
		l.position++
		stream = append(stream, eventstore.Recorded{
			Event: e, Stream: decided.Stream, Revision: uint64(len(stream)), Position: l.position, Time: at,
		})
	}
	l.events[decided.Stream] = stream
	return decided.Result(eventstore.Appended{Revision: uint64(len(stream) - 1), Position: l.position}), nil
}

// TestStepsOfADay drives a day of orders through steps alone: no store, no clock, no goroutine. The same day gives the
// same events.
func TestStepsOfADay(t *testing.T) {
	day := func() *streams {
		l := &streams{identity: eventstore.Identity{ID: uuid.NameSpaceURL}, events: map[string][]eventstore.Recorded{}}
		for hour := range 24 {
			at := now.Add(time.Duration(hour) * time.Hour)
			submit := submission(fmt.Sprint(hour))
			life := []domain.Command{
				submit,
				command(submit.Order, "fail", domain.ReportFailure{Fulfilment: "f1", Reason: domain.Reason{Code: "fire"}}),
				command(submit.Order, "ship", domain.Ship{Fulfilment: "f2"}),
				command(submit.Order, "deliver", domain.Deliver{Fulfilment: "f2"}),
				command(submit.Order, "close", domain.Close{}),
			}
			for _, c := range life {
				if _, err := l.step(c, at); err != nil {
					t.Fatalf("%s: %v", c.Do.Name(), err)
				}
			}
			for _, c := range life {
				if r, err := l.step(c, at.Add(time.Hour)); err != nil || !r.Repeated || r.Mark.Position == 0 {
					t.Fatalf("%s again: %+v, %v", c.Do.Name(), r, err)
				}
			}
			_, err := l.step(command(submit.Order, "ship", domain.Close{}), at)
			var reused *commands.KeyReused
			if !errors.As(err, &reused) || reused.Error() == "" {
				t.Fatalf("under a used key: %v", err)
			}
			if _, err := l.step(command(submit.Order, "late", domain.Cancel{Reason: domain.Reason{Code: "x"}}), at); err == nil {
				t.Fatal("a closed order was cancelled")
			}
		}
		return l
	}
	first, second := day(), day()
	if first.position != 24*8 {
		t.Errorf("%d events", first.position)
	}
	for stream, events := range first.events {
		for i, e := range events {
			other := second.events[stream][i]
			if e.ID != other.ID || string(e.Data) != string(other.Data) || string(e.Metadata) != string(other.Metadata) {
				t.Fatalf("%s revision %d differs from one run to the next", stream, i)
			}
		}
	}
}
