package message_test

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/message"
)

// stream is a ledger that holds one stream.
type stream struct {
	eventstore.Reader
	events []eventstore.Recorded
	err    error
}

func (s stream) ReadStream(_ context.Context, name string, from uint64, _ eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if s.err != nil {
			yield(eventstore.Recorded{}, s.err)
			return
		}
		for _, e := range s.events {
			if e.Stream == name && e.Revision >= from && !yield(e, nil) {
				return
			}
		}
	}
}

func TestFetchChecksWhatTheLedgerHolds(t *testing.T) {
	d, whole, err := message.Decode(bodyOf(large(), ""))
	if err != nil || whole {
		t.Fatalf("whole %v, error %v", whole, err)
	}
	change := func(f func(*eventstore.Recorded)) []eventstore.Recorded {
		e := *large().Event
		f(&e)
		return []eventstore.Recorded{e}
	}
	broken := errors.New("broken")
	tests := map[string]struct {
		ledger stream
		err    error
	}{
		"it holds the event":    {stream{events: change(func(*eventstore.Recorded) {})}, nil},
		"it knows no chain":     {stream{events: change(func(e *eventstore.Recorded) { e.Chain = eventstore.Hash{} })}, nil},
		"nothing":               {stream{}, message.ErrMismatch},
		"only a later revision": {stream{events: change(func(e *eventstore.Recorded) { e.Revision++ })}, message.ErrMismatch},
		"another id":            {stream{events: change(func(e *eventstore.Recorded) { e.ID = uuid.New() })}, message.ErrMismatch},
		"another type":          {stream{events: change(func(e *eventstore.Recorded) { e.Type = "x" })}, message.ErrMismatch},
		"another chain":         {stream{events: change(func(e *eventstore.Recorded) { e.Chain[0]++ })}, message.ErrMismatch},
		"it cannot be read":     {stream{err: broken}, broken},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e, err := message.Fetch(t.Context(), tt.ledger, d.Event)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if tt.err != nil {
				return
			}
			if diff := cmp.Diff(large().Event, e); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
