package projections_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/projections"
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

// newLedger makes a ledger in memory with few lanes, so that orders share them.
func newLedger(t tester) *pebblestore.Store {
	t.Helper()
	l, err := pebblestore.Open("ledger", &pebblestore.Config{FS: vfs.NewMem(), Lanes: 4})
	check(t, err)
	t.Cleanup(func() { check(t, l.Close()) })
	return l
}

func newViews(t tester) *projections.Views {
	t.Helper()
	dir, err := os.MkdirTemp("", "views")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	v, err := projections.OpenUnsynced(t.Context(), filepath.Join(dir, "views.db"))
	check(t, err)
	t.Cleanup(func() { check(t, v.Close()) })
	return v
}

func newProjector(t tester, v *projections.Views, ledgers ...eventstore.Reader) *projections.Projector {
	t.Helper()
	p, err := projections.NewProjector(t.Context(), v, ledgers, nil)
	check(t, err)
	t.Cleanup(func() { _ = p.Close(context.WithoutCancel(t.Context())) }) // a test may have closed the views before
	return p
}

// caughtUp returns views of all that stands in ledgers.
func caughtUp(t tester, ledgers ...eventstore.Reader) (*projections.Views, *projections.Projector) {
	t.Helper()
	v := newViews(t)
	p := newProjector(t, v, ledgers...)
	check(t, p.CatchUp(t.Context()))
	return v, p
}

// record appends events of one order.
func record(t tester, l eventstore.Store, order uuid.UUID, revision uint64, history ...domaintest.Recorded) eventstore.Appended {
	t.Helper()
	expected := eventstore.NoStream
	if revision > 0 {
		expected = eventstore.At(revision - 1)
	}
	head, err := l.Head(context.Background())
	check(t, err)
	events := make([]eventstore.Event, len(history))
	n := 0 // among the events of its command
	for i, h := range history {
		if i > 0 && h.Meta.Command != history[i-1].Meta.Command {
			n = 0
		}
		data, err := domain.EncodeEvent(h.Event)
		check(t, err)
		meta, err := domain.EncodeMeta(h.Meta)
		check(t, err)
		events[i] = eventstore.Event{ID: domain.EventID(h.Meta.Command, head.ID, n), Type: h.Event.Type(), Metadata: meta, Data: data}
		n++
	}
	appended, err := l.Append(context.Background(), domain.Stream(order), expected, events)
	check(t, err)
	return appended
}

// A customer's order, step by step as domaintest.Policy judges it.
type life struct {
	t     tester
	l     eventstore.Store
	now   time.Time
	order domain.Order
	mark  eventstore.Appended
}

func newLife(t tester, l eventstore.Store, name string, details func(*domain.Submit)) *life {
	t.Helper()
	x := &life{t: t, l: l, now: domaintest.Start, order: domain.Order{ID: domain.OrderID(domaintest.BusinessUnit, "tester", name)}}
	s := domain.Submit{
		Details: domain.Details{
			Channel: "web", Currency: "EUR",
			Parties: domain.Parties{Buyer: domain.Party{Identifiers: []domain.Identifier{{Scheme: "customer", Value: "C-4711"}}, Country: "DE"}},
		},
		Lines: []domain.Line{
			{SKU: "lens", Quantity: domain.Whole(2), Price: domain.Price{Amount: domain.MustDecimal("12.50")}},
			{SKU: "frame", Quantity: domain.Whole(1), Price: domain.Price{Amount: domain.MustDecimal("80")}},
		},
	}
	if details != nil {
		details(&s)
	}
	x.do(s)
	return x
}

// do decides and appends.
func (x *life) do(a domain.Action) *life {
	x.t.Helper()
	c := domain.Command{
		ID: domain.CommandID(x.order.ID, "tester", strconv.FormatUint(x.order.Events, 10)), Order: x.order.ID,
		BusinessUnit: domaintest.BusinessUnit, Actor: domain.Actor{Kind: "person", Subject: "tester"}, Do: a,
	}
	x.now = x.now.Add(time.Hour)
	events, err := domain.Decide(x.order, c, domaintest.Policy{}, x.now)
	check(x.t, err)
	history := make([]domaintest.Recorded, len(events))
	revision := x.order.Events
	for i, e := range events {
		history[i] = domaintest.Recorded{Event: e, Meta: domaintest.MetaOf(c, x.now)}
		x.order = domain.Evolve(x.order, e)
	}
	x.mark = record(x.t, x.l, x.order.ID, revision, history...)
	return x
}

// deliver takes an order from its first site to the customer.
func (x *life) deliver() *life {
	x.t.Helper()
	x.do(domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{
		Outcome: domain.Accepts, Reference: "SITE 9/" + x.order.Number[:4],
		Lines: []domain.LineConfirmation{
			{Line: "1", Promises: []domain.Promise{{Quantity: domain.Whole(2), Kind: "ship", Date: domain.Date{Day: "2026-03-09"}}}},
			{Line: "2", Promises: []domain.Promise{{Quantity: domain.Whole(1), Kind: "ship", Date: domain.Date{Day: "2026-03-08"}}}},
		},
	}})
	x.do(domain.StartFulfilment{Fulfilment: "f1"})
	x.do(domain.Ship{Fulfilment: "f1", Shipment: domain.Shipment{Carrier: "DHL", Tracking: "TRACK-" + x.order.Number[:4]}})
	return x.do(domain.Deliver{Fulfilment: "f1"})
}

// deliveries returns what a relay sends of a ledger: all public events, and ticks at the end.
func deliveries(t tester, l eventstore.Reader) []eventstore.Delivery {
	t.Helper()
	head, err := l.Head(context.Background())
	check(t, err)
	previous := make([]eventstore.Position, head.Lanes)
	var list []eventstore.Delivery
	add := func(lane int, p eventstore.Position, e *eventstore.Recorded) {
		list = append(list, eventstore.Delivery{
			Source: head.ID, Incarnation: head.Incarnation, Lane: lane, Previous: previous[lane], Position: p, Event: e,
		})
	}
	for e, err := range l.ReadAll(context.Background(), 0, eventstore.Filter{Public: true}) {
		check(t, err)
		lane := eventstore.Lane(e.Stream, head.Lanes)
		add(lane, e.Position, &e)
		previous[lane] = e.Position
	}
	for lane := range previous {
		add(lane, head.Position, nil)
	}
	return list
}

func wantSame(t tester, is, should *projections.Views) {
	t.Helper()
	difference, err := projections.Differ(context.Background(), is, should)
	check(t, err)
	if difference != nil {
		t.Fatalf("not what a fold from the ledger gives: %v", difference)
	}
}
