package domain_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

// Whatever was done to an order, the action that is made of its stored events does it again, with all that follows from
// it. Only what no other history is to be asked for cannot be made.
func TestRedo(t *testing.T) {
	redone := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		var o domain.Order
		for range 100 {
			if o.Status().Final() && rapid.Bool().Draw(t, "the next order") {
				o = domain.Order{}
			}
			c := domaintest.Command(t, o)
			events, err := domain.Decide(o, c, domaintest.Policy{}, now)
			if err != nil {
				continue
			}
			stored := read(t, events)
			a, ok := domain.Redo(stored)
			wantSame(t, events, stored) // which Redo leaves as they are
			if ok != redoable(c.Do) {
				t.Fatalf("%s was made into %+v, %v", c.Do.Name(), a, ok)
			}
			if ok {
				redone[a.Name()] = true
				again, err := domain.Decide(o, asked(o, a), domaintest.Policy{}, now)
				if err != nil || a.Name() != c.Do.Name() {
					t.Fatalf("%+v was made into %+v: %v", c.Do, a, err)
				}
				wantSame(t, events, again)
			}
			for _, e := range events {
				o = domain.Evolve(o, e)
			}
		}
	})
	for _, a := range domaintest.Actions() {
		if redoable(a) && !redone[a.Name()] {
			t.Errorf("no %s was done again", a.Name())
		}
	}
	for _, events := range [][]domain.Event{nil, {&domain.HomeMoved{}}, {&domain.RuleSetActivated{}}, {&domain.Unrouted{}}, {&domain.Accepted{}}} {
		if a, ok := domain.Redo(events); ok || a != nil {
			t.Errorf("%v were made into %+v", typesOf(events), a)
		}
	}
}

func redoable(a domain.Action) bool {
	switch a.(type) {
	case domain.Submit, domain.Withdraw, domain.Move, domain.RecordConflict, domain.Settle:
		return false
	}
	return true
}

// read returns events as they come back from a ledger.
func read(t rapid.TB, events []domain.Event) []domain.Event {
	t.Helper()
	back := make([]domain.Event, len(events))
	for i, e := range events {
		data, err := domain.EncodeEvent(e)
		if err == nil {
			back[i], err = domain.DecodeEvent(e.Type(), data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return back
}

// An action that is made of events says all that they say. What had been left to the ledger is named: another history must
// not be asked for more than was done.
func TestRedoSaysAll(t *testing.T) {
	plain := after(t, order(article("lens", "10"), article("frame", "5")))
	part := going(t, plain, shipLines("f1", of("1", "4")))
	all := []domain.LineQuantity{of("1", "6"), of("2", "5")}
	site := order(article(domaintest.Nowhere, "1"))
	why := domain.Reason{Code: "asked", Text: "by the buyer"}
	files := []domain.Document{{Name: "note.pdf", SHA256: strings.Repeat("ab", 32), Size: 1}}
	some := []domain.LineQuantity{of("1", "1")}
	added := []domain.Line{article("case", "1"), article("cloth", "2")}
	q, price := num("9"), domain.Price{Amount: num("3")}
	full := []struct {
		o  domain.Order
		do domain.Action
	}{
		{plain, domain.PlaceHold{Reason: why, Role: "finance", Until: *onDay("2026-04-01")}},
		{plain, domain.Amend{
			Lines: []domain.LineChange{{Line: "1", Quantity: &q, Requested: onDay("2026-04-01"), Price: &price}}, Add: added,
			ShipTo: &domain.Party{Country: "AT"}, BillTo: &domain.Party{Country: "CH"}, Terms: &domain.Terms{Priority: 1},
			Personal: domain.Sealed{Key: "key-1", Data: []byte("sealed")}, Reason: why,
		}},
		{going(t, plain, domain.PlaceHold{Reason: why}), domain.Release{Hold: "h1", Reason: why}},
		{part, domain.Cancel{Lines: some, Reason: why}},
		{plain, domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{Outcome: domain.Refuses, Reference: "R-1", Reason: why}}},
		{plain, domain.StartFulfilment{Fulfilment: "f1"}},
		{plain, domain.Ship{Fulfilment: "f1", Shipment: domain.Shipment{ID: "box", Carrier: "DHL", Tracking: "T1", Lines: some, Documents: files}}},
		{part, domain.Deliver{Fulfilment: "f1", Shipment: "s1", Lines: some, Proof: files}},
		{plain, domain.ReportFailure{Fulfilment: "f1", Reason: why}},
		{going(t, part, domain.Deliver{Fulfilment: "f1"}), domain.Return{Lines: some, Reference: "RMA-1", Reason: why}},
		{going(t, plain, domain.Ship{Fulfilment: "f1"}), domain.Close{Reason: why}},
		{plain, domain.Reroute{Fulfilment: "f1", Site: "C", Reason: why}},
		{plain, domain.Reroute{Fulfilment: "f1", Reason: why}},
		{going(t, after(t, site), domain.Release{}), domain.Route{Site: "C", Reason: why}},
	}
	for _, test := range full {
		wantRedo(t, test.o, test.do, test.do)
	}
	for _, test := range []struct {
		o        domain.Order
		do, want domain.Action
	}{
		{going(t, plain, domain.PlaceHold{Reason: because("asked")}), domain.Release{}, domain.Release{Hold: "h1"}},
		{part, domain.Cancel{Reason: because("asked")}, domain.Cancel{Lines: all, Reason: because("asked")}},
		{part, domain.Ship{Fulfilment: "f1"}, domain.Ship{Fulfilment: "f1", Shipment: domain.Shipment{ID: "s2", Lines: all}}},
		{part, domain.Deliver{Fulfilment: "f1"}, domain.Deliver{Fulfilment: "f1", Lines: []domain.LineQuantity{of("1", "4")}}},
	} {
		wantRedo(t, test.o, test.do, test.want)
	}
}

// wantRedo compares what is made of the events that an action leads to.
func wantRedo(t *testing.T, o domain.Order, do, want domain.Action) {
	t.Helper()
	events, err := domain.Decide(o, asked(o, do), domaintest.Policy{}, now)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := domain.Redo(events)
	if !ok {
		t.Errorf("%+v cannot be done again", do)
	}
	wantSame(t, want, got)
}

// A routing that first gathers an order to be delivered at once is no rerouting of what it takes away.
func TestRedoGathering(t *testing.T) {
	s := order(article("lens", "10"), article("frame", "5"))
	s.Terms.CompleteDelivery = true
	events, err := domain.Decide(domain.Order{}, asked(domain.Order{}, s), domaintest.Policy{}, now)
	if err != nil {
		t.Fatal(err)
	}
	o := domain.Fold([]domain.Event{events[0], &domain.Accepted{}, &domain.Routed{
		Fulfilments: []domain.Allocation{{ID: "f1", Site: "B", Lines: []domain.LineQuantity{of("1", "10")}}},
	}})
	for _, a := range []domain.Action{domain.Route{}, domain.Route{Site: "C", Reason: because("asked")}} {
		if events, err := domain.Decide(o, asked(o, a), domaintest.Policy{}, now); err != nil || len(events) != 2 {
			t.Fatal(typesOf(events), err)
		}
		wantRedo(t, o, a, a)
	}
}
