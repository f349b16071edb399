// Package eventstoretest is the contract of a ledger in tests: every implementation of [eventstore.Store], local or
// remote, passes [Run]. A Reader of its own kind is tested together with the Appender behind it.
package eventstoretest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// An Implementation is what [Run] tests.
type Implementation struct {
	// Open opens the ledger that belongs to a directory, which the suite has made and nobody else uses. A directory
	// seen for the first time stands for a new ledger, one seen again for a ledger that was closed. A ledger may hold
	// events of its own in streams whose names begin with '$': the suite writes none there and passes them over.
	Open func(t *testing.T, dir string) eventstore.Store
	// Unchained is set if events do not carry the hash of [eventstore.Chain].
	Unchained bool
	// Slow is set if opening or writing takes long: fewer random commands are tried.
	Slow bool
}

// Run tests an implementation: one sub-test for each promise of package eventstore, and at the end random commands
// against a model.
func Run(t *testing.T, impl Implementation) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"append", appendTests},
		{"read", readTests},
		{"subscribe", subscribeTests},
		{"close", closeTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					if test.chained && impl.Unchained {
						t.Skip("events carry no hash")
					}
					test.f(t, open(t, impl))
				})
			}
		})
	}
	t.Run("it behaves like plain maps under random commands", func(t *testing.T) {
		t.Parallel()
		testModel(t, impl)
	})
}

type test struct {
	name    string
	f       func(t *testing.T, l *ledger)
	chained bool
}

// A ledger is one that a test has for itself.
type ledger struct {
	eventstore.Store
	ctx  context.Context // bounds every call of the test
	t    *testing.T
	impl Implementation
	dir  string
}

func open(t *testing.T, impl Implementation) *ledger {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	dir := t.TempDir()
	l := &ledger{Store: impl.Open(t, dir), ctx: ctx, t: t, impl: impl, dir: dir}
	t.Cleanup(l.close)
	return l
}

func (l *ledger) close() {
	l.t.Helper()
	if err := l.Close(); err != nil {
		l.t.Errorf("Close: %v", err)
	}
}

// reopen closes the ledger and opens it again.
func (l *ledger) reopen() {
	l.t.Helper()
	l.close()
	l.Store = l.impl.Open(l.t, l.dir)
}

// append appends events that must be taken.
func (l *ledger) append(stream string, expected eventstore.Expected, events ...eventstore.Event) eventstore.Appended {
	l.t.Helper()
	a, err := l.Append(l.ctx, stream, expected, events)
	if err != nil {
		l.t.Fatalf("Append(%q, %v): %v", stream, expected, err)
	}
	return a
}

// stream reads a stream forward.
func (l *ledger) stream(stream string) []eventstore.Recorded {
	l.t.Helper()
	return l.collect(l.ReadStream(l.ctx, stream, 0, eventstore.Forward))
}

// all reads the ledger after a position, without what others wrote.
func (l *ledger) all(after eventstore.Position) []eventstore.Recorded {
	l.t.Helper()
	return slices.DeleteFunc(l.collect(l.ReadAll(l.ctx, after, eventstore.Filter{})), foreign)
}

func foreign(e eventstore.Recorded) bool { return strings.HasPrefix(e.Stream, "$") }

// collect reads a sequence that must end without an error.
func (l *ledger) collect(seq iter.Seq2[eventstore.Recorded, error]) []eventstore.Recorded {
	l.t.Helper()
	events, err := gather(seq)
	if err != nil {
		l.t.Fatal(err)
	}
	return events
}

// gather reads a sequence to its end.
func gather(seq iter.Seq2[eventstore.Recorded, error]) (events []eventstore.Recorded, err error) {
	for e, e2 := range seq {
		if err != nil {
			return events, fmt.Errorf("the sequence went on after the error %w", err)
		}
		if err = e2; err == nil {
			events = append(events, e)
		}
	}
	return events, err
}

// newEvents makes events that differ in everything.
func newEvents(n int) []eventstore.Event {
	events := make([]eventstore.Event, n)
	for i := range events {
		id := uuid.New()
		events[i] = eventstore.Event{ID: id, Type: fmt.Sprintf("test.happened.v%d", i+1), Data: payload("data", id), Metadata: payload("metadata", id)}
	}
	return events
}

func newEvent() eventstore.Event { return newEvents(1)[0] }

func payload(name string, id uuid.UUID) []byte {
	b, err := json.Marshal(map[string]string{name: id.String()})
	if err != nil {
		panic(err) // never: these are strings
	}
	return b
}

// ids are those of events, in order.
func ids(events []eventstore.Recorded) []uuid.UUID {
	ids := make([]uuid.UUID, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	return ids
}

// recorded is how a reader must find events that were appended from a revision on, as far as the writer can know.
func recorded(stream string, first uint64, events ...eventstore.Event) []eventstore.Recorded {
	r := make([]eventstore.Recorded, len(events))
	for i, e := range events {
		r[i] = eventstore.Recorded{Event: e, Stream: stream, Revision: first + uint64(i)}
	}
	return r
}

// diff compares whole events. An empty slice is as good as none.
func diff(want, got []eventstore.Recorded) string {
	if slices.EqualFunc(want, got, same) {
		return "" // cmp is slow
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}

func same(a, b eventstore.Recorded) bool {
	return a.ID == b.ID && a.Type == b.Type && bytes.Equal(a.Metadata, b.Metadata) && bytes.Equal(a.Data, b.Data) &&
		a.Stream == b.Stream && a.Revision == b.Revision && a.Position == b.Position && a.Time.Equal(b.Time) && a.Chain == b.Chain
}

// diffWritten compares what the writer knows of events.
func diffWritten(want, got []eventstore.Recorded) string {
	got = slices.Clone(got)
	for i := range got {
		got[i].Position, got[i].Time, got[i].Chain = 0, time.Time{}, eventstore.Hash{}
	}
	return diff(want, got)
}
