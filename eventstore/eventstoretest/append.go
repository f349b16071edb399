package eventstoretest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

var appendTests = []test{
	{name: "events come back as they were written", f: func(t *testing.T, l *ledger) {
		events := newEvents(3)
		events[1].Metadata = nil
		before := time.Now()
		a := l.append("order-1", eventstore.NoStream, events...)
		if a.Revision != 2 || a.Position == 0 || a.Repeated {
			t.Errorf("Append = %+v, want revision 2 and a position", a)
		}
		got := l.stream("order-1")
		if d := diffWritten(recorded("order-1", 0, events...), got); d != "" {
			t.Fatalf("stream (-want +got):\n%s", d)
		}
		for _, e := range got {
			if e.Time.Location() != time.UTC || e.Time.Before(before.Add(-time.Hour)) || e.Time.After(time.Now().Add(time.Hour)) {
				t.Errorf("revision %d has time %v, want about now, in UTC", e.Revision, e.Time)
			}
		}
		if last := got[2]; last.Position != a.Position {
			t.Errorf("the last event has position %d, Append said %d", last.Position, a.Position)
		}
		if d := diff(got, l.all(0)); d != "" {
			t.Errorf("stream and ledger differ (-stream +ledger):\n%s", d)
		}
	}},
	{name: "revisions are gapless in each stream", f: func(t *testing.T, l *ledger) {
		for i := range 5 {
			for _, stream := range []string{"order-1", "order-2"} {
				a := l.append(stream, eventstore.Any, newEvents(2)...)
				if want := uint64(2*i + 1); a.Revision != want {
					t.Fatalf("%s: append %d ends at revision %d, want %d", stream, i, a.Revision, want)
				}
			}
		}
		for i, e := range l.stream("order-2") {
			if e.Revision != uint64(i) {
				t.Errorf("event %d has revision %d", i, e.Revision)
			}
		}
	}},
	{name: "positions rise over the whole ledger", f: func(t *testing.T, l *ledger) {
		var last eventstore.Position
		for _, stream := range []string{"order-2", "order-1", "relay-x", "order-2", "order-3"} {
			a := l.append(stream, eventstore.Any, newEvents(3)...)
			if a.Position <= last {
				t.Errorf("position %d follows %d", a.Position, last)
			}
			last = a.Position
		}
		checkRising(t, l.all(0))
	}},
	{name: "an append is taken if the stream is as expected", f: func(t *testing.T, l *ledger) {
		for i, expected := range []eventstore.Expected{eventstore.NoStream, eventstore.At(0), eventstore.StreamExists, eventstore.Any, eventstore.At(3)} {
			if a := l.append("order-1", expected, newEvent()); a.Revision != uint64(i) {
				t.Errorf("expecting %v: revision %d, want %d", expected, a.Revision, i)
			}
		}
		l.append("order-2", eventstore.Any, newEvent())
	}},
	{name: "an append is refused if the stream is not as expected", f: func(t *testing.T, l *ledger) {
		l.append("order-1", eventstore.NoStream, newEvents(3)...)
		for _, c := range []eventstore.Conflict{
			{Stream: "order-1", Expected: eventstore.NoStream, Actual: eventstore.At(2)},
			{Stream: "order-1", Expected: eventstore.At(0), Actual: eventstore.At(2)},
			{Stream: "order-1", Expected: eventstore.At(1), Actual: eventstore.At(2)},
			{Stream: "order-1", Expected: eventstore.At(3), Actual: eventstore.At(2)},
			{Stream: "order-1", Expected: eventstore.At(1 << 40), Actual: eventstore.At(2)},
			{Stream: "order-2", Expected: eventstore.At(0), Actual: eventstore.NoStream},
			{Stream: "order-2", Expected: eventstore.StreamExists, Actual: eventstore.NoStream},
		} {
			_, err := l.Append(l.ctx, c.Stream, c.Expected, newEvents(1))
			var got *eventstore.Conflict
			if !errors.As(err, &got) || *got != c {
				t.Errorf("error %v, want %v", err, &c)
			}
			if !eventstore.IsConflict(err) || eventstore.Unavailable(err) {
				t.Errorf("error %v is not told as a conflict", err)
			}
		}
		if n := len(l.all(0)); n != 3 {
			t.Errorf("the ledger holds %d events after the refusals, want 3", n)
		}
	}},
	{name: "a repeated append succeeds with the first result", f: func(t *testing.T, l *ledger) {
		testRepeats(t, l, func() {})
	}},
	{name: "a repeated append succeeds after a restart", f: func(t *testing.T, l *ledger) {
		testRepeats(t, l, l.reopen)
	}},
	{name: "an append is no repeat unless all its events stand there", f: func(t *testing.T, l *ledger) {
		first, second := newEvents(2), newEvents(2)
		l.append("order-1", eventstore.NoStream, first...)
		l.append("order-1", eventstore.At(1), second...)
		for name, c := range map[string]struct {
			expected eventstore.Expected
			events   []eventstore.Event
		}{
			"other events":           {eventstore.NoStream, newEvents(2)},
			"another last event":     {eventstore.NoStream, []eventstore.Event{first[0], newEvent()}},
			"another first event":    {eventstore.At(1), []eventstore.Event{newEvent(), second[1]}},
			"the other way round":    {eventstore.At(1), []eventstore.Event{second[1], second[0]}},
			"more events":            {eventstore.At(1), append(slices.Clone(second), newEvent())},
			"at another revision":    {eventstore.At(0), second},
			"earlier events":         {eventstore.At(1), first},
			"a revision not reached": {eventstore.At(7), second},
		} {
			if _, err := l.Append(l.ctx, "order-1", c.expected, c.events); !eventstore.IsConflict(err) {
				t.Errorf("%s: error %v, want a conflict", name, err)
			}
		}
		if n := len(l.all(0)); n != 4 {
			t.Errorf("the ledger holds %d events, want 4", n)
		}
	}},
	{name: "an invalid append stores nothing", f: func(t *testing.T, l *ledger) {
		twice, noID, noType, longType, badType := newEvents(2), newEvents(2), newEvents(2), newEvents(2), newEvents(2)
		twice[1].ID = twice[0].ID
		noID[1].ID = uuid.Nil
		noType[1].Type = ""
		longType[1].Type = strings.Repeat("x", eventstore.MaxTypeName+1)
		badType[1].Type = "\xff"
		for name, c := range map[string]struct {
			stream   string
			expected eventstore.Expected
			events   []eventstore.Event
		}{
			"no events":            {"order-1", eventstore.Any, nil},
			"an id twice":          {"order-1", eventstore.Any, twice},
			"no id":                {"order-1", eventstore.Any, noID},
			"no type":              {"order-1", eventstore.Any, noType},
			"a long type":          {"order-1", eventstore.Any, longType},
			"a type not in UTF-8":  {"order-1", eventstore.Any, badType},
			"no stream":            {"", eventstore.Any, newEvents(1)},
			"a long stream":        {strings.Repeat("x", eventstore.MaxStreamName+1), eventstore.Any, newEvents(1)},
			"a name not in UTF-8":  {"order-\xff", eventstore.Any, newEvents(1)},
			"an unknown condition": {"order-1", -3, newEvents(1)},
		} {
			if _, err := l.Append(l.ctx, c.stream, c.expected, c.events); !errors.Is(err, eventstore.ErrInvalid) {
				t.Errorf("%s: error %v, want ErrInvalid", name, err)
			}
		}
		if got := l.all(0); len(got) != 0 {
			t.Errorf("the ledger holds %d events", len(got))
		}
	}},
	{name: "the largest append is taken and a larger one is not", f: func(t *testing.T, l *ledger) {
		big := newEvents(2)
		size := 0
		for _, e := range big {
			size += len(e.ID) + len(e.Type) + len(e.Metadata) + len(e.Data)
		}
		// Blanks keep the data JSON.
		big[1].Data = append(big[1].Data, bytes.Repeat([]byte(" "), eventstore.MaxAppend-size)...)
		larger := slices.Clone(big)
		larger[1].Data = append(slices.Clone(big[1].Data), ' ')
		if _, err := l.Append(l.ctx, "order-1", eventstore.NoStream, larger); !errors.Is(err, eventstore.ErrTooLarge) {
			t.Errorf("%d bytes: error %v, want ErrTooLarge", eventstore.MaxAppend+1, err)
		}
		if _, err := l.Append(l.ctx, "order-2", eventstore.NoStream, newEvents(eventstore.MaxEvents+1)); !errors.Is(err, eventstore.ErrTooLarge) {
			t.Errorf("%d events: error %v, want ErrTooLarge", eventstore.MaxEvents+1, err)
		}
		if got := l.all(0); len(got) != 0 {
			t.Fatalf("the ledger holds %d events", len(got))
		}
		l.append("order-1", eventstore.NoStream, big...)
		if d := diffWritten(recorded("order-1", 0, big...), l.stream("order-1")); d != "" {
			t.Error("the largest append came back changed")
		}
		many := make([]eventstore.Event, eventstore.MaxEvents)
		for i := range many {
			many[i] = eventstore.Event{ID: uuid.New(), Type: "t.v1", Data: []byte("{}")}
		}
		l.append("order-2", eventstore.NoStream, many...)
		if d := diffWritten(recorded("order-2", 0, many...), l.stream("order-2")); d != "" {
			t.Error("the append of most events came back changed")
		}
	}},
	{name: "the longest names are taken", f: func(t *testing.T, l *ledger) {
		stream := "order-" + strings.Repeat("é", (eventstore.MaxStreamName-6)/2)
		e := newEvent()
		e.Type = strings.Repeat("x", eventstore.MaxTypeName)
		l.append(stream, eventstore.NoStream, e)
		if d := diffWritten(recorded(stream, 0, e), l.stream(stream)); d != "" {
			t.Errorf("stream (-want +got):\n%s", d)
		}
	}},
	{name: "the writer's slices are not kept", f: func(t *testing.T, l *ledger) {
		events := newEvents(2)
		want := recorded("order-1", 0, newEvents(0)...)
		for i, e := range events {
			e.Data, e.Metadata = bytes.Clone(e.Data), bytes.Clone(e.Metadata)
			want = append(want, recorded("order-1", uint64(i), e)...)
		}
		l.append("order-1", eventstore.NoStream, events...)
		for i := range events {
			clear(events[i].Data)
			clear(events[i].Metadata)
			events[i].Type = "changed"
		}
		if d := diffWritten(want, l.stream("order-1")); d != "" {
			t.Errorf("stream (-want +got):\n%s", d)
		}
	}},
	{name: "the writer may reuse its slices after a cancelled append", f: func(t *testing.T, l *ledger) {
		for range 50 {
			ctx, cancel := context.WithCancel(l.ctx)
			time.AfterFunc(100*time.Microsecond, cancel)
			events := newEvents(1)
			_, _ = l.Append(ctx, "order-1", eventstore.Any, events) // the outcome is unknown
			clear(events[0].Data)
		}
		for _, e := range l.stream("order-1") {
			if !bytes.HasPrefix(e.Data, []byte("{")) {
				t.Errorf("revision %d holds what the writer wrote later", e.Revision)
			}
		}
	}},
	{name: "a cancelled append fails with the context's error", f: func(t *testing.T, l *ledger) {
		ctx, cancel := context.WithCancel(l.ctx)
		cancel()
		_, err := l.Append(ctx, "order-1", eventstore.Any, newEvents(1))
		if !errors.Is(err, context.Canceled) || eventstore.Unavailable(err) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	}},
	{name: "of racing writers exactly one wins", f: func(t *testing.T, l *ledger) {
		const writers, rounds = 8, 10
		expected := eventstore.NoStream
		for round := range rounds {
			winners := l.race(writers, func(int) (eventstore.Appended, error) {
				return l.Append(l.ctx, "order-1", expected, newEvents(1))
			})
			if winners != 1 {
				t.Fatalf("round %d: %d writers won", round, winners)
			}
			expected = eventstore.At(uint64(round))
		}
		if n := len(l.stream("order-1")); n != rounds {
			t.Errorf("the stream holds %d events, want %d", n, rounds)
		}
	}},
	{name: "of racing repeats each succeeds and one writes", f: func(t *testing.T, l *ledger) {
		const writers = 8
		events := newEvents(3)
		var mu sync.Mutex
		repeated := 0
		winners := l.race(writers, func(int) (eventstore.Appended, error) {
			a, err := l.Append(l.ctx, "order-1", eventstore.NoStream, events)
			mu.Lock()
			defer mu.Unlock()
			if a.Repeated {
				repeated++
			}
			return a, err
		})
		if winners != writers || repeated > writers-1 {
			t.Errorf("%d of %d writers succeeded, %d as repeats", winners, writers, repeated)
		}
		if d := diffWritten(recorded("order-1", 0, events...), l.stream("order-1")); d != "" {
			t.Errorf("stream (-want +got):\n%s", d)
		}
	}},
	{name: "writers to different streams do not hinder each other", f: func(t *testing.T, l *ledger) {
		const writers, rounds = 8, 10
		streams := make([][]uuid.UUID, writers)
		l.race(writers, func(w int) (a eventstore.Appended, err error) {
			expected := eventstore.NoStream
			for range rounds {
				events := newEvents(1)
				if a, err = l.Append(l.ctx, name(w), expected, events); err != nil {
					t.Errorf("stream %s, expecting %v: %v", name(w), expected, err)
					return a, err
				}
				streams[w] = append(streams[w], events[0].ID)
				expected = eventstore.At(a.Revision)
			}
			return a, nil
		})
		for w, want := range streams {
			if d := cmp.Diff(want, ids(l.stream(name(w)))); d != "" {
				t.Errorf("stream %s (-want +got):\n%s", name(w), d)
			}
		}
		all := l.all(0)
		checkRising(t, all)
		if len(all) != writers*rounds {
			t.Errorf("the ledger holds %d events, want %d", len(all), writers*rounds)
		}
	}},
}

// testRepeats appends, does something, and appends the same again.
func testRepeats(t *testing.T, l *ledger, between func()) {
	type step struct {
		expected eventstore.Expected
		events   []eventstore.Event
		first    eventstore.Appended
	}
	steps := []step{
		{expected: eventstore.NoStream, events: newEvents(2)},
		{expected: eventstore.At(1), events: newEvents(1)},
		{expected: eventstore.At(2), events: newEvents(3)},
	}
	for i, s := range steps {
		steps[i].first = l.append("order-1", s.expected, s.events...)
	}
	before := l.all(0)
	between()
	for _, s := range steps {
		again := l.append("order-1", s.expected, s.events...)
		if again.Revision != s.first.Revision || again.Position != s.first.Position && again.Position != 0 {
			t.Errorf("expecting %v: %+v, at first %+v", s.expected, again, s.first)
		}
		if !again.Repeated {
			t.Errorf("expecting %v: the repeat is not told", s.expected)
		}
	}
	if d := diff(before, l.all(0)); d != "" {
		t.Errorf("the repeats changed the ledger (-before +after):\n%s", d)
	}
	l.append("order-1", eventstore.At(5), newEvent())
}

// race runs f in goroutines at once and returns how many succeeded. The others must have had a conflict.
func (l *ledger) race(n int, f func(i int) (eventstore.Appended, error)) (winners int) {
	l.t.Helper()
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			_, errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		switch {
		case err == nil:
			winners++
		case !eventstore.IsConflict(err):
			l.t.Errorf("a loser got %v, want a conflict", err)
		}
	}
	return winners
}

func name(i int) string { return "order-" + string(rune('a'+i)) }

func checkRising(t *testing.T, events []eventstore.Recorded) {
	t.Helper()
	var last eventstore.Position
	for _, e := range events {
		if e.Position <= last {
			t.Errorf("revision %d of %s has position %d, after %d", e.Revision, e.Stream, e.Position, last)
		}
		last = e.Position
	}
}
