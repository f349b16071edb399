package eventstoretest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
)

func testModel(t *testing.T, impl Implementation) {
	root := t.TempDir()
	run, failed := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		if run++; impl.Slow && run > 10 && !failed { // a failure is tried again, to make it small
			return
		}
		defer func() { failed = failed || rt.Failed() }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		m := &machine{
			ctx: ctx, t: t, impl: impl,
			dir:     filepath.Join(root, fmt.Sprint(run)),
			streams: make(map[string][]eventstore.Event),
		}
		m.store = impl.Open(t, m.dir)
		defer func() {
			if err := m.store.Close(); err != nil {
				rt.Errorf("Close: %v", err)
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"append":     m.append,
			"repeat":     m.repeat,
			"readStream": m.readStream,
			"readAll":    m.readAll,
			"subscribe":  m.subscribe,
			"reopen":     m.reopen,
			"":           m.check,
		})
	})
}

// A machine drives a ledger and plain maps and slices side by side.
type machine struct {
	ctx   context.Context
	t     *testing.T
	impl  Implementation
	dir   string
	store eventstore.Store

	streams map[string][]eventstore.Event // what each stream holds
	all     []eventstore.Recorded         // what the ledger holds, as far as a writer can know
	taken   []taken                       // appends that may be repeated
}

type taken struct {
	stream   string
	expected eventstore.Expected
	events   []eventstore.Event
	result   eventstore.Appended
}

var (
	anyStream    = rapid.SampledFrom([]string{"order-1", "order-2", "order-10", "command-1", "relay-1"})
	anyDirection = rapid.SampledFrom([]eventstore.Direction{eventstore.Forward, eventstore.Backward})
	anyFilter    = rapid.SampledFrom([]eventstore.Filter{
		{},
		{Public: true},
		{Prefixes: []string{"order-1"}},
		{Prefixes: []string{"order-", "command-"}},
		{Prefixes: []string{"relay-"}, Public: true},
	})
)

func (m *machine) append(t *rapid.T) {
	stream := anyStream.Draw(t, "stream")
	expected := eventstore.Expected(rapid.SampledFrom([]int64{int64(eventstore.NoStream), int64(eventstore.Any), int64(eventstore.StreamExists), 0, 1, m.last(stream)}).Draw(t, "expected"))
	events := newEvents(rapid.IntRange(1, 5).Draw(t, "events"))
	last := m.last(stream)
	fits := map[eventstore.Expected]bool{eventstore.Any: true, eventstore.StreamExists: last >= 0, eventstore.Expected(last): true}[expected]

	a, err := m.store.Append(m.ctx, stream, expected, events)
	if !fits {
		want := eventstore.Conflict{Stream: stream, Expected: expected, Actual: eventstore.Expected(last)}
		if err == nil || err.Error() != want.Error() || !eventstore.IsConflict(err) {
			t.Fatalf("error %v, want %v", err, &want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(last) + uint64(len(events)); a.Revision != want || a.Repeated {
		t.Fatalf("%+v, want revision %d", a, want)
	}
	m.all = append(m.all, recorded(stream, uint64(last+1), events...)...)
	m.streams[stream] = append(m.streams[stream], events...)
	if expected >= eventstore.NoStream {
		m.taken = append(m.taken, taken{stream, expected, events, a})
	}
}

func (m *machine) repeat(t *rapid.T) {
	if len(m.taken) == 0 {
		t.Skip("nothing to repeat")
	}
	was := rapid.SampledFrom(m.taken).Draw(t, "append")
	a, err := m.store.Append(m.ctx, was.stream, was.expected, was.events)
	if err != nil {
		t.Fatal(err)
	}
	if a.Revision != was.result.Revision || a.Position != 0 && a.Position != was.result.Position || !a.Repeated {
		t.Fatalf("%+v, at first %+v", a, was.result)
	}
}

func (m *machine) readStream(t *rapid.T) {
	stream := anyStream.Draw(t, "stream")
	dir := anyDirection.Draw(t, "direction")
	want := recorded(stream, 0, m.streams[stream]...)
	from := rapid.IntRange(0, len(want)).Draw(t, "from")
	start := uint64(from)
	switch {
	case dir == eventstore.Forward:
		want = want[from:]
	case from == len(want):
		start = eventstore.End
	default:
		want = want[:from+1]
	}
	if dir == eventstore.Backward {
		slices.Reverse(want)
	}
	got, err := gather(m.store.ReadStream(m.ctx, stream, start, dir))
	if err != nil {
		t.Fatal(err)
	}
	if d := diffWritten(want, got); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
}

func (m *machine) readAll(t *rapid.T) {
	filter := anyFilter.Draw(t, "filter")
	after, rest := m.somewhere(t)
	got, err := gather(m.store.ReadAll(m.ctx, after, filter))
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(rest, func(e eventstore.Recorded) bool { return !filter.Match(e.Stream) })
	if d := diffWritten(want, slices.DeleteFunc(got, foreign)); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
}

func (m *machine) subscribe(t *rapid.T) {
	after, want := m.somewhere(t)
	if len(want) == 0 {
		t.Skip("nothing to wait for")
	}
	var got []eventstore.Recorded
	for e, err := range m.store.Subscribe(m.ctx, after, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if foreign(e) {
			continue
		}
		if got = append(got, e); len(got) == len(want) {
			break
		}
	}
	if d := diffWritten(want, got); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
}

func (m *machine) reopen(t *rapid.T) {
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
	m.store = m.impl.Open(m.t, m.dir)
}

// check holds after every step.
func (m *machine) check(t *rapid.T) {
	got, err := gather(m.store.ReadAll(m.ctx, 0, eventstore.Filter{}))
	if err != nil {
		t.Fatal(err)
	}
	got = slices.DeleteFunc(got, foreign)
	if d := diffWritten(m.all, got); d != "" {
		t.Fatalf("ledger (-want +got):\n%s", d)
	}
	var last eventstore.Position
	for _, e := range got {
		if e.Position <= last {
			t.Fatalf("position %d follows %d", e.Position, last)
		}
		last = e.Position
	}
	head, err := m.store.Head(m.ctx)
	if err != nil || head.Position < last {
		t.Fatalf("the head is at %d, error %v; the last event at %d", head.Position, err, last)
	}
}

// last is the last revision of a stream, or -1.
func (m *machine) last(stream string) int64 { return int64(len(m.streams[stream])) - 1 }

// somewhere chooses a position and returns what stands after it.
func (m *machine) somewhere(t *rapid.T) (eventstore.Position, []eventstore.Recorded) {
	i := rapid.IntRange(0, len(m.all)).Draw(t, "after")
	if i == 0 {
		return 0, slices.Clone(m.all)
	}
	id := m.all[i-1].ID
	for e, err := range m.store.ReadAll(m.ctx, 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.ID == id {
			return e.Position, slices.Clone(m.all[i:])
		}
	}
	t.Fatalf("event %s is not in the ledger", id)
	return 0, nil
}
