package domain_test

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

func encoded(t rapid.TB, o domain.Order) []byte {
	t.Helper()
	data, err := domain.EncodeOrder(o)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A folder, Fold and Evolve come to the same, and none of them changes an order or an event that somebody has.
func TestFoldingInPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := domaintest.EventsOf(domaintest.History(t))
		if rapid.IntRange(0, 3).Draw(t, "foreign") == 3 { // events that fit nothing
			for range rapid.IntRange(1, 5).Draw(t, "more") {
				events = append(events, randomEvent(t))
			}
		}
		asked := rapid.IntRange(0, len(events)).Draw(t, "asked")
		var f domain.Folder
		var orders []domain.Order
		var was [][]byte
		var o, early domain.Order
		for i, e := range events {
			if i == asked {
				early = f.Order()
				wantSame(t, o, early)
			}
			data, err := domain.EncodeEvent(e)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Add("order.shipped.v1", append(data, ' ')); err == nil {
				t.Fatal("took more than an event")
			}
			if err := f.Add(e.Type(), data); err != nil {
				t.Fatal(err)
			}
			o = domain.Evolve(o, e)
			orders, was = append(orders, o), append(was, encoded(t, o))
		}
		wantSame(t, o, f.Order())
		wantSame(t, o, domain.Fold(events))
		for i := range orders {
			if !bytes.Equal(encoded(t, orders[i]), was[i]) {
				t.Fatalf("order %d was changed by later events", i)
			}
		}
		if 0 < asked && asked < len(events) && !bytes.Equal(encoded(t, early), was[asked-1]) {
			t.Fatal("the order that the folder gave was changed by later events")
		}
		for _, e := range events { // what Fold changes in place is not theirs
			o = domain.Evolve(o, e)
		}
		wantSame(t, orders[len(events)-1], domain.Fold(events))
	})
}

func TestFolderFails(t *testing.T) {
	var f domain.Folder
	if err := f.Add("order.submitted.v99", []byte(`{}`)); !errors.Is(err, domain.ErrUnknownEvent) {
		t.Errorf("a version from the future: %v", err)
	}
	if err := f.Add("order.closed.v1", []byte(`{"reason":{}}`)); err == nil {
		t.Error("took an empty reason")
	}
	if f.Order().Exists() {
		t.Error("what failed was counted")
	}
}

// A folder takes what DecodeEvent takes, and a first event comes to the same in it as with Evolve.
func TestFolderTakesWhatDecodeTakes(t *testing.T) {
	var f domain.Folder
	rapid.Check(t, func(t *rapid.T) {
		e := randomEvent(t)
		data, err := domain.EncodeEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		data = damaged(t, data)
		decoded, want := domain.DecodeEvent(e.Type(), data)
		f.Reset()
		if err := f.Add(e.Type(), data); fmt.Sprint(err) != fmt.Sprint(want) {
			t.Fatalf("got %v, want %v", err, want)
		}
		var o domain.Order
		if want == nil {
			o = domain.Evolve(o, decoded)
		}
		wantSame(t, o, f.Order())
	})
}

// A folder that has folded other histories before comes to the same as a new one, whatever these left in its memory.
func TestFolderReset(t *testing.T) {
	var f domain.Folder
	f.Reset()
	for i := range 200 {
		var o domain.Order
		history := drawnHistory(t, i)
		if i%3 == 0 {
			history = typicalHistory(t)
		}
		for _, s := range history {
			o = domain.Evolve(o, mustDecode(t, s))
		}
		wantSame(t, o, fold(t, &f, history))
		if i%5 == 0 { // so that what was given is changed by what is added later
			wantSame(t, domain.Evolve(o, &domain.Closed{}), added(t, &f, &domain.Closed{}))
		}
	}
}

// A folder that has folded one history of each kind folds more of them without new memory.
func TestFolderTakesNoMemory(t *testing.T) {
	history := typicalHistory(t)
	var f domain.Folder
	fold(t, &f, history)
	fold(t, &f, history)
	if n := testing.AllocsPerRun(100, func() { fold(t, &f, history) }); n > 0 {
		t.Errorf("folding an order takes %v allocations", n)
	}
}

func added(t *testing.T, f *domain.Folder, e domain.Event) domain.Order {
	data, err := domain.EncodeEvent(e)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Add(e.Type(), data); err != nil {
		t.Fatal(err)
	}
	return f.Order()
}

// What is said of many lines at once is what would be said of them one by one.
func TestManyLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "lines")
		submitted := &domain.Submitted{Order: domain.OrderID("u", "s", "k")}
		routed := &domain.Routed{Fulfilments: make([]domain.Allocation, rapid.IntRange(1, 4).Draw(t, "sites"))}
		var changes, singly []domain.Event
		for i := range routed.Fulfilments {
			routed.Fulfilments[i].ID = "f" + strconv.Itoa(i+1)
		}
		for i := range n {
			id := strconv.Itoa(i + 1)
			if rapid.IntRange(0, 9).Draw(t, "odd") == 9 {
				id = "odd " + id
			}
			submitted.Lines = append(submitted.Lines, domain.Line{ID: id, Quantity: domain.Whole(10)})
			for j := range routed.Fulfilments {
				if q := rapid.Int64Range(-3, 8).Draw(t, "share"); q > 0 {
					a := &routed.Fulfilments[j]
					a.Lines = append(a.Lines, of(id, fmt.Sprint(q)))
				}
			}
		}
		for _, a := range routed.Fulfilments {
			all := &domain.Confirmed{Fulfilment: a.ID, Confirmation: domain.Confirmation{Outcome: domain.Accepts}}
			singly = append(singly, &domain.Confirmed{Fulfilment: a.ID, Confirmation: domain.Confirmation{Outcome: domain.Accepts}})
			for _, q := range a.Lines {
				if rapid.IntRange(0, 9).Draw(t, "silent") == 9 {
					continue
				}
				l := domain.LineConfirmation{Line: q.Line, Promises: []domain.Promise{{
					Quantity: q.Quantity, Date: domain.Date{Day: fmt.Sprintf("2026-04-%02d", rapid.IntRange(1, 30).Draw(t, "day"))},
				}}}
				all.Confirmation.Lines = append(all.Confirmation.Lines, l)
				singly = append(singly, &domain.Confirmed{Fulfilment: a.ID, Confirmation: domain.Confirmation{
					Outcome: domain.Accepts, Lines: []domain.LineConfirmation{l},
				}})
			}
			changes = append(changes, all)
			var some []domain.LineQuantity
			for _, q := range a.Lines {
				if rapid.Bool().Draw(t, "shipped") {
					some = append(some, q)
				}
			}
			if len(some) == 0 {
				continue
			}
			changes = append(changes, &domain.Shipped{Fulfilment: a.ID, Shipment: domain.Shipment{ID: "s", Lines: some}})
			for _, q := range some {
				singly = append(singly, &domain.Shipped{Fulfilment: a.ID, Shipment: domain.Shipment{ID: "s" + q.Line, Lines: []domain.LineQuantity{q}}})
			}
			if rapid.Bool().Draw(t, "delivered") {
				changes = append(changes, &domain.Delivered{Fulfilment: a.ID, Lines: some})
				for _, q := range some {
					singly = append(singly, &domain.Delivered{Fulfilment: a.ID, Lines: []domain.LineQuantity{q}})
				}
			}
		}
		start := []domain.Event{submitted, &domain.Accepted{}, routed}
		together, apart := domain.Fold(append(start, changes...)), domain.Fold(append(start, singly...))
		for i := range together.Lines {
			a, b := together.Lines[i], apart.Lines[i]
			if a.Promised != b.Promised {
				t.Errorf("line %s is promised for %q at once, for %q one by one", a.ID, a.Promised, b.Promised)
			}
			open := domain.Decimal{}
			for _, q := range together.Unallocated() {
				if q.Line == a.ID {
					open = q.Quantity
				}
			}
			if want, _ := a.Active().Sub(together.Allocated(a.ID)); want.Sign() > 0 && open != want || want.Sign() <= 0 && !open.IsZero() {
				t.Errorf("line %s: %v is open, want %v", a.ID, open, want)
			}
		}
		for i := range together.Fulfilments {
			a, b := together.Fulfilments[i], apart.Fulfilments[i]
			wantSame(t, a.Parts, b.Parts)
			arrived := map[string]domain.Decimal{}
			for _, x := range a.Arrived {
				arrived[x.Line], _ = arrived[x.Line].Add(x.Quantity)
			}
			for _, x := range b.Arrived {
				arrived[x.Line], _ = arrived[x.Line].Sub(x.Quantity)
			}
			for line, q := range arrived {
				if !q.IsZero() {
					t.Errorf("of line %s, %v more arrived at once", line, q)
				}
			}
		}
		if a, b := together.Status(), apart.Status(); a != b {
			t.Errorf("%s at once, %s one by one", a, b)
		}
	})
}

// Sites may give two shipments one name. What has arrived of one is then not under way in the other, however much has
// arrived before.
func TestShipmentsOfOneName(t *testing.T) {
	for _, before := range []int{0, 1, 20} {
		events := []domain.Event{
			&domain.Submitted{Lines: []domain.Line{{ID: "1", Quantity: num("100")}}},
			&domain.Routed{Fulfilments: []domain.Allocation{{ID: "f1", Lines: []domain.LineQuantity{of("1", "100")}}}},
			&domain.Shipped{Fulfilment: "f1", Shipment: domain.Shipment{ID: "a", Lines: []domain.LineQuantity{of("1", "50")}}},
			&domain.Shipped{Fulfilment: "f1", Shipment: domain.Shipment{ID: "b", Lines: []domain.LineQuantity{of("1", "5")}}},
			&domain.Shipped{Fulfilment: "f1", Shipment: domain.Shipment{ID: "b", Lines: []domain.LineQuantity{of("1", "5")}}},
		}
		for range before {
			events = append(events, &domain.Delivered{Fulfilment: "f1", Shipment: "a", Lines: []domain.LineQuantity{of("1", "1")}})
		}
		events = append(events, &domain.Delivered{Fulfilment: "f1", Shipment: "b", Lines: []domain.LineQuantity{of("1", "8")}})
		arrived := domain.Fold(events).Fulfilments[0].Arrived
		wantSame(t, []domain.Arrival{{Shipment: "b", Line: "1", Quantity: num("5")}}, arrived[before:])
	}
}
