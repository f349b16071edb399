package eventstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
)

func TestExpectedString(t *testing.T) {
	for e, want := range map[eventstore.Expected]string{
		eventstore.NoStream:     "no stream",
		eventstore.Any:          "any",
		eventstore.StreamExists: "an existing stream",
		eventstore.At(0):        "revision 0",
		eventstore.At(41):       "revision 41",
	} {
		if got := e.String(); got != want {
			t.Errorf("%d is %q, want %q", e, got, want)
		}
	}
}

func TestFilterMatch(t *testing.T) {
	for _, c := range []struct {
		filter eventstore.Filter
		stream string
		want   bool
	}{
		{eventstore.Filter{}, "order-1", true},
		{eventstore.Filter{}, "$settings", true},
		{eventstore.Filter{Public: true}, "order-1", true},
		{eventstore.Filter{Public: true}, "$settings", false},
		{eventstore.Filter{Public: true}, "relay-1", false},
		{eventstore.Filter{Public: true}, "relayed", true},
		{eventstore.Filter{Prefixes: []string{"order-"}}, "order-1", true},
		{eventstore.Filter{Prefixes: []string{"order-"}}, "reorder-1", false},
		{eventstore.Filter{Prefixes: []string{"command-", "order-"}}, "order-1", true},
		{eventstore.Filter{Prefixes: []string{"relay-"}}, "relay-1", true},
		{eventstore.Filter{Prefixes: []string{"relay-"}, Public: true}, "relay-1", false},
	} {
		if got := c.filter.Match(c.stream); got != c.want {
			t.Errorf("%+v matches %q: %t, want %t", c.filter, c.stream, got, c.want)
		}
	}
}

func TestLane(t *testing.T) {
	// These never change: they are how running relays deal the orders.
	for stream, want := range map[string]int{
		"order-1":      28,
		"command-1":    28,
		"1":            28,
		"order-a-b":    lane("a-b"),
		"order-":       lane(""),
		"no separator": lane("no separator"),
	} {
		if got := eventstore.Lane(stream, eventstore.DefaultLanes); got != want {
			t.Errorf("%q is in lane %d, want %d", stream, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1000).Draw(t, "lanes")
		if got := eventstore.Lane(rapid.String().Draw(t, "stream"), n); got < 0 || got >= n {
			t.Fatalf("lane %d of %d", got, n)
		}
	})
}

// lane is FNV-1a, spelled out.
func lane(id string) int {
	h := uint32(2166136261)
	for _, b := range []byte(id) {
		h = (h ^ uint32(b)) * 16777619
	}
	return int(h % eventstore.DefaultLanes)
}

func TestValidate(t *testing.T) {
	event := func(change func(*eventstore.Event)) eventstore.Event {
		e := eventstore.Event{ID: uuid.New(), Type: "t", Data: []byte("{}")}
		if change != nil {
			change(&e)
		}
		return e
	}
	one := event(nil)
	sized := func(n int) []eventstore.Event {
		a := event(func(e *eventstore.Event) { e.Metadata = bytes.Repeat([]byte("x"), 1000) })
		b := event(func(e *eventstore.Event) { e.Data = bytes.Repeat([]byte("x"), n-2*(16+1)-1000-2) })
		return []eventstore.Event{a, b}
	}
	many := func(n int) []eventstore.Event {
		events := make([]eventstore.Event, n)
		for i := range events {
			events[i] = event(nil)
		}
		return events
	}
	for name, c := range map[string]struct {
		stream   string
		expected eventstore.Expected
		events   []eventstore.Event
		want     error
	}{
		"one event":             {"s", eventstore.NoStream, []eventstore.Event{one}, nil},
		"any":                   {"s", eventstore.Any, []eventstore.Event{one}, nil},
		"an existing stream":    {"s", eventstore.StreamExists, []eventstore.Event{one}, nil},
		"a revision":            {"s", eventstore.At(7), []eventstore.Event{one}, nil},
		"the longest name":      {strings.Repeat("s", eventstore.MaxStreamName), 0, []eventstore.Event{one}, nil},
		"the largest":           {"s", 0, sized(eventstore.MaxAppend), nil},
		"the most":              {"s", 0, many(eventstore.MaxEvents), nil},
		"too large":             {"s", 0, sized(eventstore.MaxAppend + 1), eventstore.ErrTooLarge},
		"too many":              {"s", 0, many(eventstore.MaxEvents + 1), eventstore.ErrTooLarge},
		"no name":               {"", 0, []eventstore.Event{one}, eventstore.ErrInvalid},
		"a long name":           {strings.Repeat("s", eventstore.MaxStreamName+1), 0, []eventstore.Event{one}, eventstore.ErrInvalid},
		"a name not in UTF-8":   {"\xff", 0, []eventstore.Event{one}, eventstore.ErrInvalid},
		"an unknown condition":  {"s", -3, []eventstore.Event{one}, eventstore.ErrInvalid},
		"another one":           {"s", -5, []eventstore.Event{one}, eventstore.ErrInvalid},
		"nothing":               {"s", 0, nil, eventstore.ErrInvalid},
		"an id twice":           {"s", 0, []eventstore.Event{one, one}, eventstore.ErrInvalid},
		"no id":                 {"s", 0, []eventstore.Event{event(func(e *eventstore.Event) { e.ID = uuid.Nil })}, eventstore.ErrInvalid},
		"no type":               {"s", 0, []eventstore.Event{event(func(e *eventstore.Event) { e.Type = "" })}, eventstore.ErrInvalid},
		"a type not in UTF-8":   {"s", 0, []eventstore.Event{event(func(e *eventstore.Event) { e.Type = "\xff" })}, eventstore.ErrInvalid},
		"the longest type name": {"s", 0, []eventstore.Event{event(func(e *eventstore.Event) { e.Type = strings.Repeat("t", eventstore.MaxTypeName) })}, nil},
		"a long type name":      {"s", 0, []eventstore.Event{event(func(e *eventstore.Event) { e.Type = strings.Repeat("t", eventstore.MaxTypeName+1) })}, eventstore.ErrInvalid},
	} {
		if err := eventstore.Validate(c.stream, c.expected, c.events); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, err := range []error{eventstore.ErrClosed, eventstore.ErrFailed, eventstore.ErrFull, eventstore.ErrReadOnly, eventstore.ErrUnreachable} {
		if !eventstore.Unavailable(fmt.Errorf("wrapped: %w", err)) {
			t.Errorf("%v is not told as unavailable", err)
		}
	}
	conflict := error(&eventstore.Conflict{Stream: "order-1", Expected: eventstore.NoStream, Actual: eventstore.At(2)})
	for _, err := range []error{eventstore.ErrCorrupt, eventstore.ErrInvalid, eventstore.ErrTooLarge, conflict, nil} {
		if eventstore.Unavailable(err) {
			t.Errorf("%v is told as unavailable", err)
		}
	}
	if !eventstore.IsConflict(fmt.Errorf("wrapped: %w", conflict)) || eventstore.IsConflict(eventstore.ErrFull) {
		t.Error("conflicts are not told from other errors")
	}
	for want, err := range map[string]error{
		`stream "order-1": expected no stream, found revision 2`:                                                   conflict,
		"the ledger in d is open in another process: use that one, or stop it first":                               &eventstore.LockedError{Dir: "d"},
		"the ledger in d is open in another process (pid 7): use that one, or stop it first":                       &eventstore.LockedError{Dir: "d", PID: 7},
		"the ledger in d is open in another process (pid 7, serving 127.0.0.1:80): use that one, or stop it first": &eventstore.LockedError{Dir: "d", PID: 7, Address: "127.0.0.1:80"},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}
