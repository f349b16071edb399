package history_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/projections/history"
)

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	rapid.TB
	Cleanup(func())
	Context() context.Context
}

func check(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newLedger makes a ledger in memory whose clock goes on by a minute whenever it is read.
func newLedger(t tester) *pebblestore.Store {
	t.Helper()
	var minutes atomic.Int64
	l, err := pebblestore.Open("ledger", &pebblestore.Config{FS: vfs.NewMem(), Lanes: 4, Now: func() time.Time {
		return domaintest.Start.Add(time.Duration(minutes.Add(1)) * time.Minute)
	}})
	check(t, err)
	t.Cleanup(func() { check(t, l.Close()) })
	return l
}

// record appends a history, one event after the other, and returns the order.
func record(t tester, l eventstore.Store, events ...domaintest.Recorded) uuid.UUID {
	t.Helper()
	order := events[0].Event.(*domain.Submitted).Order
	for i, r := range events {
		data, err := domain.EncodeEvent(r.Event)
		check(t, err)
		meta, err := domain.EncodeMeta(r.Meta)
		check(t, err)
		_, err = l.Append(t.Context(), domain.Stream(order), eventstore.Expected(i-1), []eventstore.Event{
			{ID: domain.EventID(order, uuid.Nil, i), Type: r.Event.Type(), Data: data, Metadata: meta},
		})
		check(t, err)
	}
	return order
}

// example is an order that is submitted, held, released, routed and shipped; the hold became known late.
func example() []domaintest.Recorded {
	at := func(hour int, e domain.Event) domaintest.Recorded {
		return domaintest.Recorded{Event: e, Meta: domain.Meta{
			Actor: domain.Actor{Kind: "person", Subject: "ann"}, BusinessUnit: "main",
			Occurred: domaintest.Start.Add(time.Duration(hour) * time.Hour),
		}}
	}
	q := domain.Whole
	return []domaintest.Recorded{
		at(0, &domain.Submitted{
			Order: domain.OrderID("main", "tester", "example"), BusinessUnit: "main", Number: "N",
			Details: domain.Details{Currency: "EUR", Parties: domain.Parties{Buyer: domain.Party{Country: "DE"}}},
			Lines:   []domain.Line{{ID: "1", SKU: "lens", Quantity: q(2)}, {ID: "2", SKU: "<frame>", Quantity: q(1)}},
		}),
		at(3, &domain.Held{Hold: domain.Hold{ID: "h1", Reason: domain.Reason{Code: "check"}}}),
		at(1, &domain.Released{Hold: "h1"}),
		at(4, &domain.Accepted{}),
		at(5, &domain.Routed{Fulfilments: []domain.Allocation{{ID: "f1", Site: "A", Lines: []domain.LineQuantity{{Line: "1", Quantity: q(2)}, {Line: "2", Quantity: q(1)}}}}}),
		at(6, &domain.Shipped{Fulfilment: "f1", Shipment: domain.Shipment{ID: "s1", Lines: []domain.LineQuantity{{Line: "2", Quantity: q(1)}}}}),
	}
}

func changes(list []history.Change) []string {
	var s []string
	for _, c := range list {
		s = append(s, c.Path+": "+string(c.Before)+" -> "+string(c.After))
	}
	return s
}

func TestSteps(t *testing.T) {
	l := newLedger(t)
	order := record(t, l, example()...)
	var got [][]string
	var o domain.Order
	for step, err := range history.Steps(t.Context(), l, order) {
		check(t, err)
		o = domain.Evolve(o, step.Event)
		r := step.Recorded
		if r.Revision != uint64(len(got)) || r.Type != step.Event.Type() || step.Meta.Actor.Subject != "ann" || r.Time.Before(domaintest.Start) {
			t.Errorf("step %d: revision %d, type %s, actor %s, recorded %s", len(got), r.Revision, r.Type, step.Meta.Actor.Subject, r.Time)
		}
		if step.After.Status() != o.Status() || step.After.Events != o.Events {
			t.Errorf("step %d leads to %s", len(got), step.After.Status())
		}
		got = append(got, changes(step.Changes))
	}
	want := [][]string{
		{
			`business_unit:  -> "main"`,
			`currency:  -> "EUR"`,
			`id:  -> "` + order.String() + `"`,
			`lines:  -> [{"id":"1","quantity":"2","sku":"lens"},{"id":"2","quantity":"1","sku":"<frame>"}]`,
			`number:  -> "N"`,
			`parties:  -> {"buyer":{"country":"DE"}}`,
			`totals:  -> {"lines":"0","total":"0"}`,
		},
		{`holds:  -> [{"id":"h1","reason":{"code":"check"}}]`, `holds_ever:  -> 1`},
		{`holds: [{"id":"h1","reason":{"code":"check"}}] -> `},
		{`verdict:  -> "accepted"`},
		{`fulfilments:  -> [{"id":"f1","parts":[{"line":"1","quantity":"2"},{"line":"2","quantity":"1"}],"phase":"routed","site":"A"}]`},
		{
			`fulfilments[f1].parts[2].shipped:  -> "1"`,
			`fulfilments[f1].phase: "routed" -> "started"`,
			`fulfilments[f1].shipments:  -> [{"id":"s1","lines":[{"line":"2","quantity":"1"}]}]`,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	for range history.Steps(t.Context(), l, order) {
		break
	}
}

func TestAt(t *testing.T) {
	l := newLedger(t)
	order := record(t, l, example()...)
	occurred := func(hours int) history.Moment {
		return history.Occurred(domaintest.Start.Add(time.Duration(hours) * time.Hour))
	}
	third, err := history.At(t.Context(), l, order, history.Revision(3))
	check(t, err)
	for name, test := range map[string]struct {
		at   history.Moment
		want int // revision; -1: not found
	}{
		"now":              {history.Moment{}, 5},
		"first":            {history.Revision(0), 0},
		"last":             {history.Revision(5), 5},
		"no such revision": {history.Revision(6), -1},
		"position":         {history.Position(third.Recorded.Position), 3},
		"before it":        {history.Position(third.Recorded.Position - 1), 2},
		"start":            {history.Position(0), -1},
		"recorded":         {history.Recorded(third.Recorded.Time), 3},
		"recorded between": {history.Recorded(third.Recorded.Time.Add(time.Second)), 3},
		"recorded before":  {history.Recorded(third.Recorded.Time.Add(-time.Second)), 2},
		"recorded early":   {history.Recorded(domaintest.Start), -1},
		"recorded late":    {history.Recorded(domaintest.Start.Add(time.Hour)), 5},
		"occurred":         {occurred(0), 0},
		"learned late":     {occurred(1), 0}, // the release was known only together with the hold
		"occurred all":     {occurred(3), 2},
		"occurred late":    {occurred(100), 5},
		"occurred early":   {occurred(-1), -1},
	} {
		step, err := history.At(t.Context(), l, order, test.at)
		if test.want < 0 {
			if !errors.Is(err, history.ErrNotFound) {
				t.Errorf("%s: got error %v, want %v", name, err, history.ErrNotFound)
			}
			continue
		}
		check(t, err)
		if step.Recorded.Revision != uint64(test.want) || step.After.Events != uint64(test.want)+1 {
			t.Errorf("%s: revision %d with %d events, want %d", name, step.Recorded.Revision, step.After.Events, test.want)
		}
	}
}

func TestDiff(t *testing.T) {
	l := newLedger(t)
	order := record(t, l, example()...)
	from, err := history.At(t.Context(), l, order, history.Revision(1))
	check(t, err)
	to, err := history.At(t.Context(), l, order, history.Revision(4))
	check(t, err)
	to.After.Lines = append([]domain.OrderLine{{Line: domain.Line{ID: "10", Quantity: domain.Whole(5)}}}, to.After.Lines...)
	to.After.Lines = to.After.Lines[:2] // without the second one
	to.After.References = []domain.Reference{{Kind: "a", Value: "b"}}
	from.After.References = []domain.Reference{{Kind: "a", Value: "c"}, {Kind: "d", Value: "e"}}
	got, err := history.Diff(from.After, to.After)
	check(t, err)
	want := []string{
		`fulfilments:  -> [{"id":"f1","parts":[{"line":"1","quantity":"2"},{"line":"2","quantity":"1"}],"phase":"routed","site":"A"}]`,
		`holds: [{"id":"h1","reason":{"code":"check"}}] -> `,
		`lines[2]: {"id":"2","quantity":"1","sku":"<frame>"} -> `,
		`lines[10]:  -> {"id":"10","quantity":"5"}`,
		`references[0].value: "c" -> "b"`,
		`references[1]: {"kind":"d","value":"e"} -> `,
		`verdict:  -> "accepted"`,
	}
	if diff := cmp.Diff(want, changes(got)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	back, err := history.Diff(to.After, from.After)
	check(t, err)
	if len(back) != len(got) || string(back[0].Before) != string(got[0].After) {
		t.Errorf("the way back: %v", changes(back))
	}
	broken := from.After
	broken.Number = "\xff"
	for _, pair := range [][2]domain.Order{{broken, to.After}, {to.After, broken}} {
		if _, err := history.Diff(pair[0], pair[1]); err == nil {
			t.Error("an order that cannot be written was compared")
		}
	}
}

func TestUnreadableHistory(t *testing.T) {
	l := newLedger(t)
	unknown := uuid.New()
	for _, err := range history.Steps(t.Context(), l, unknown) {
		if !errors.Is(err, history.ErrNotFound) {
			t.Errorf("got error %v, want %v", err, history.ErrNotFound)
		}
	}
	order := record(t, l, example()...)
	for i, e := range []eventstore.Event{
		{ID: uuid.New(), Type: "order.teleported.v1", Data: []byte("{}"), Metadata: []byte("{}")},
		{ID: uuid.New(), Type: "order.closed.v1", Data: []byte("{}"), Metadata: []byte("?")},
	} {
		stream := domain.Stream(order)
		_, err := l.Append(t.Context(), stream, eventstore.At(uint64(5+i)), []eventstore.Event{e})
		check(t, err)
	}
	steps := 0
	for _, err := range history.Steps(t.Context(), l, order) {
		if err == nil {
			steps++
		} else if !errors.Is(err, domain.ErrUnknownEvent) || !strings.Contains(err.Error(), "revision 6") {
			t.Errorf("got error %v, want %v", err, domain.ErrUnknownEvent)
		}
	}
	if steps != 6 {
		t.Errorf("%d steps before the event that cannot be read, not 6", steps)
	}
	if _, err := history.At(t.Context(), l, order, history.Moment{}); !errors.Is(err, domain.ErrUnknownEvent) {
		t.Errorf("got error %v, want %v", err, domain.ErrUnknownEvent)
	}
	_, err := history.At(t.Context(), l, order, history.Revision(5)) // what comes later does not matter
	check(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := history.At(ctx, l, order, history.Moment{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

// Changes are exactly what differs: none of an order with itself, and those of all steps name all that the last one has.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger(t)
		events := domaintest.History(t)
		order := record(t, l, events...)
		want := domain.Fold(domaintest.EventsOf(events))
		var before domain.Order
		for step, err := range history.Steps(t.Context(), l, order) {
			check(t, err)
			again, err := history.Diff(before, step.After)
			check(t, err)
			if diff := cmp.Diff(again, step.Changes); diff != "" {
				t.Fatalf("changes of step %d (-diff +step):\n%s", step.Recorded.Revision, diff)
			}
			same, err := history.Diff(step.After, step.After)
			check(t, err)
			if len(same) != 0 {
				t.Fatalf("an order differs from itself: %v", changes(same))
			}
			at, err := history.At(t.Context(), l, order, history.Revision(step.Recorded.Revision))
			check(t, err)
			if rest, err := history.Diff(at.After, step.After); err != nil || len(rest) != 0 {
				t.Fatalf("the order at revision %d is another one: %v, %v", step.Recorded.Revision, changes(rest), err)
			}
			before = step.After
		}
		if rest, err := history.Diff(before, want); err != nil || len(rest) != 0 || before.Events != want.Events {
			t.Fatalf("the last step is not the order: %v, %v", changes(rest), err)
		}
	})
}

func TestNames(t *testing.T) {
	id := func(member, name string) any { return map[string]any{member: name} }
	for _, tt := range []struct {
		list []any
		want []string
	}{
		{[]any{}, []string{}},
		{[]any{id("id", "2"), id("line", "1")}, []string{"2", "1"}},
		{[]any{id("line", "7"), id("line", "7")}, []string{"0", "1"}},
		{[]any{id("id", "7"), id("kind", "7")}, []string{"0", "1"}},
		{[]any{"a", "b"}, []string{"0", "1"}},
	} {
		if diff := cmp.Diff(tt.want, history.Names(tt.list)); diff != "" {
			t.Errorf("names of %v (-want +got):\n%s", tt.list, diff)
		}
	}
}
