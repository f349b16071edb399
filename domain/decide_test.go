package domain_test

import (
	"errors"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

// Any sequence of commands leaves an order in which everything fits together, after every single event.
func TestOrdersStayConsistent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o domain.Order
		for range rapid.IntRange(1, 25).Draw(t, "commands") {
			c := domaintest.Command(t, o)
			o = clone(o)
			before, frozen := o, clone(o)
			events, err := domain.Decide(o, c, domaintest.Policy{}, now)
			wantSame(t, frozen, before) // deciding left no trace, refused or not
			wantNoSpill(t, reflect.ValueOf(&before).Elem())
			if err != nil {
				wantClearRefusal(t, events, err)
				continue
			}
			if len(events) == 0 {
				t.Fatalf("%s: neither events nor a refusal", c.Do.Name())
			}
			for _, e := range events {
				next := domain.Evolve(o, e)
				wantSame(t, frozen, o) // Evolve changes nothing that it was given
				wantNoSpill(t, reflect.ValueOf(&o).Elem())
				wantStable(t, o, next)
				o, frozen = clone(next), clone(next)
			}
			wantConsistent(t, o)
			wantTotals(t, o)
			if got, want := o.Status(), statusOf(o); got != want {
				t.Fatalf("after %s the status is %q and should be %q", c.Do.Name(), got, want)
			}
		}
	})
}

// The same events give the same order, through bytes or not, from the start or from a folded order.
func TestFoldingIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := domaintest.EventsOf(domaintest.History(t))
		want := domain.Fold(history)
		wantSame(t, want, domain.Fold(history))

		n := rapid.IntRange(0, len(history)).Draw(t, "kept")
		data, err := domain.EncodeOrder(domain.Fold(history[:n]))
		if err != nil {
			t.Fatal(err)
		}
		o, err := domain.DecodeOrder(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range history[n:] {
			data, err := domain.EncodeEvent(e)
			if err != nil {
				t.Fatal(err)
			}
			if e, err = domain.DecodeEvent(e.Type(), data); err != nil {
				t.Fatal(err)
			}
			o = domain.Evolve(o, e)
		}
		wantSame(t, want, o)
		if o.Revision() != uint64(len(history)-1) {
			t.Fatalf("%d events, revision %d", len(history), o.Revision())
		}
	})
}

// Folding takes any event in any state, however little sense it makes, and so do the questions to the order.
func TestEvolveIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o domain.Order
		if rapid.Bool().Draw(t, "any order") {
			randomly(t, reflect.ValueOf(&o).Elem())
		} else {
			o = domain.Fold(domaintest.EventsOf(domaintest.History(t)))
		}
		for range rapid.IntRange(1, 5).Draw(t, "events") {
			e := randomEvent(t)
			o = clone(o)
			frozen, event := clone(o), clone(e)
			next := domain.Evolve(o, e)
			wantSame(t, frozen, o)
			wantSame(t, event, e)
			wantNoSpill(t, reflect.ValueOf(&o).Elem())
			if next.Events != o.Events+1 {
				t.Fatalf("event %d is followed by %d", o.Events, next.Events)
			}
			o = next
			if s := o.Status(); !slices.Contains(domain.Statuses(), s) {
				t.Fatalf("the status is %q", s)
			}
			_, _, _ = o.Unallocated(), o.FailedSites(), o.ShipTo()
		}
		// Nor does a command fail other than by refusal, whatever foreign writers have made of the order.
		c := domaintest.Command(t, o)
		if _, err := domain.Decide(o, c, domaintest.Policy{}, now); err != nil && !errors.As(err, new(*domain.Malformed)) {
			wantClearRefusal(t, nil, err)
		}
	})
}

// No event changes the order it is applied to, nor writes behind the ends of its slices.
func TestEvolveTouchesNothing(t *testing.T) {
	for _, e := range domaintest.Events() {
		o := clone(domaintest.Filled[domain.Order]())
		frozen := clone(o)
		domain.Evolve(o, e)
		wantSame(t, frozen, o)
		wantNoSpill(t, reflect.ValueOf(&o).Elem())
	}
}

// What was sealed decides nothing: another personal section changes no event but in that section.
func TestDecisionsIgnorePersonalData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a, b domain.Order
		for range rapid.IntRange(1, 15).Draw(t, "commands") {
			c := domaintest.Command(t, a)
			other := c
			sealed := domain.Sealed{Key: "key-2", Data: []byte("something else entirely, or nothing")}
			switch do := c.Do.(type) {
			case domain.Submit:
				do.Personal = sealed
				other.Do = do
			case domain.Amend:
				if !do.Personal.IsZero() {
					do.Personal = sealed
				}
				other.Do = do
			}
			events, err := domain.Decide(a, c, domaintest.Policy{}, now)
			others, otherErr := domain.Decide(b, other, domaintest.Policy{}, now)
			if diff := cmp.Diff(err, otherErr, cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() })); diff != "" {
				t.Fatal(diff)
			}
			if diff := cmp.Diff(events, others, exact, cmp.Comparer(func(domain.Sealed, domain.Sealed) bool { return true })); diff != "" {
				t.Fatal(diff)
			}
			for i := range events {
				a, b = domain.Evolve(a, events[i]), domain.Evolve(b, others[i])
			}
		}
	})
}

// No order gets stuck: from anywhere that is not an end, releasing, routing by hand and shipping lead to one.
func TestEveryOrderCanBeFinished(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := domain.Fold(domaintest.EventsOf(domaintest.History(t)))
		do := func(a domain.Action) {
			events, err := domain.Decide(o, asked(o, a), domaintest.Policy{}, now)
			if err != nil {
				t.Fatalf("%s: %v; the order is %s\n%+v", a.Name(), err, o.Status(), o.Fulfilments)
			}
			for _, e := range events {
				o = domain.Evolve(o, e)
			}
		}
		if o.Status().Final() {
			return
		}
		for len(o.Holds) > 0 && o.Status() == domain.StatusOnHold {
			do(domain.Release{Hold: o.Holds[0].ID})
		}
		if len(o.Unallocated()) > 0 {
			do(domain.Route{Site: "D"})
		}
		for i := range o.Fulfilments {
			if f := o.Fulfilments[i]; f.Live() {
				do(domain.Ship{Fulfilment: f.ID})
			}
		}
		for i := range o.Fulfilments {
			for _, p := range o.Fulfilments[i].Parts {
				if p.Delivered.Less(p.Shipped) {
					do(domain.Deliver{Fulfilment: o.Fulfilments[i].ID})
					break
				}
			}
		}
		if o.Status() != domain.StatusDelivered {
			t.Fatalf("the order is %s", o.Status())
		}
		do(domain.Close{})
	})
}

// A shipment that is reported twice under one name is told from a second one, in shipping and in delivering.
func TestNothingMovesTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := domain.Fold(domaintest.EventsOf(domaintest.History(t)))
		for _, f := range o.Fulfilments {
			for _, s := range f.Shipments {
				a := domain.Ship{Fulfilment: f.ID, Shipment: s}
				if events, err := domain.Decide(o, asked(o, a), domaintest.Policy{}, now); err == nil {
					t.Fatalf("shipment %s left twice: %v", s.ID, typesOf(events))
				}
				d := domain.Deliver{Fulfilment: f.ID, Shipment: s.ID}
				next := o
				for range 2 {
					events, err := domain.Decide(next, asked(o, d), domaintest.Policy{}, now)
					if err != nil {
						break
					}
					if next.Events > o.Events {
						t.Fatalf("shipment %s arrived twice: %v\n%+v", s.ID, typesOf(events), next.Fulfilment(f.ID))
					}
					for _, e := range events {
						next = domain.Evolve(next, e)
					}
				}
			}
		}
	})
}

func wantClearRefusal(t rapid.TB, events []domain.Event, err error) {
	t.Helper()
	if len(events) > 0 {
		t.Fatalf("refused, with events %v", typesOf(events))
	}
	refused := new(domain.Refused)
	if !errors.As(err, &refused) {
		t.Fatalf("neither events nor a refusal: %v", err)
	}
	if refused.Code == "" || refused.Detail == "" || strings.Contains(refused.Detail, "%!") {
		t.Fatalf("a refusal says too little: %+v", refused)
	}
}

// wantConsistent checks what must hold in every order that commands lead to.
func wantConsistent(t rapid.TB, o domain.Order) {
	t.Helper()
	ids := map[string]bool{}
	once := func(kind, id string) {
		if id == "" || ids[kind+id] {
			t.Fatalf("there are two of %s %q", kind, id)
		}
		ids[kind+id] = true
	}
	for _, l := range o.Lines {
		once("line", l.ID)
		active := rat(l.Quantity)
		active.Sub(active, rat(l.Cancelled))
		if rat(l.Active()).Cmp(active) != 0 || active.Sign() < 0 {
			t.Fatalf("line %s: %v ordered, %v cancelled, %v active", l.ID, l.Quantity, l.Cancelled, l.Active())
		}
		var allocated, shipped, delivered big.Rat
		for _, f := range o.Fulfilments {
			for _, p := range f.Parts {
				if p.Line == l.ID {
					allocated.Add(&allocated, rat(p.Quantity))
					shipped.Add(&shipped, rat(p.Shipped))
					delivered.Add(&delivered, rat(p.Delivered))
				}
			}
		}
		if allocated.Cmp(active) > 0 {
			t.Fatalf("line %s: sites have %v of %v", l.ID, &allocated, active)
		}
		had := &delivered
		if o.Settled {
			had = active
		} else if o.Closed {
			had = &shipped
		}
		if rat(l.Returned).Cmp(had) > 0 {
			t.Fatalf("line %s: %v came back of %v", l.ID, l.Returned, had)
		}
		if l.Promised != "" && (l.FirstPromised == "" || allocated.Cmp(active) < 0 || !promisedInFull(o, l.ID)) {
			t.Fatalf("line %s is promised for %s, and some of it is not", l.ID, l.Promised)
		}
		if rat(o.Allocated(l.ID)).Cmp(&allocated) != 0 || rat(o.Shipped(l.ID)).Cmp(&shipped) != 0 || rat(o.Delivered(l.ID)).Cmp(&delivered) != 0 {
			t.Fatalf("line %s: the sums are wrong", l.ID)
		}
	}
	for _, h := range o.Holds {
		once("hold", h.ID)
	}
	for _, f := range o.Fulfilments {
		once("fulfilment", f.ID)
		shipped := map[string]*big.Rat{}
		for _, s := range f.Shipments {
			once("shipment of "+f.ID, s.ID)
			for _, q := range s.Lines {
				if shipped[q.Line] == nil {
					shipped[q.Line] = new(big.Rat)
				}
				shipped[q.Line].Add(shipped[q.Line], rat(q.Quantity))
			}
		}
		parts := map[string]bool{}
		for _, p := range f.Parts {
			if parts[p.Line] {
				t.Fatalf("fulfilment %s has line %s twice", f.ID, p.Line)
			}
			parts[p.Line] = true
			if p.Delivered.Sign() < 0 || p.Shipped.Less(p.Delivered) || p.Quantity.Less(p.Shipped) {
				t.Fatalf("fulfilment %s, line %s: %v given, %v shipped, %v delivered", f.ID, p.Line, p.Quantity, p.Shipped, p.Delivered)
			}
			if want := shipped[p.Line]; want == nil && !p.Shipped.IsZero() || want != nil && want.Cmp(rat(p.Shipped)) != 0 {
				t.Fatalf("fulfilment %s, line %s: %v shipped, the shipments say %v", f.ID, p.Line, p.Shipped, want)
			}
			ended := f.Phase == domain.PhaseFailed || f.Phase == domain.PhaseUnrouted
			if ended && p.Quantity != p.Shipped {
				t.Fatalf("fulfilment %s has ended and keeps %v of line %s", f.ID, p.Quantity, p.Line)
			}
			if !ended && !p.Shipped.IsZero() && f.Phase != domain.PhaseStarted {
				t.Fatalf("fulfilment %s has shipped and is %s", f.ID, f.Phase)
			}
			var arrived big.Rat
			for _, a := range f.Arrived {
				if a.Line == p.Line {
					arrived.Add(&arrived, rat(a.Quantity))
				}
			}
			if arrived.Cmp(rat(p.Delivered)) != 0 {
				t.Fatalf("fulfilment %s, line %s: %v delivered, %v arrived", f.ID, p.Line, p.Delivered, &arrived)
			}
		}
	}
	if o.Terms.CompleteDelivery && len(o.Holds) == 0 && !o.Status().Final() {
		live := 0
		for _, f := range o.Fulfilments {
			if f.Live() {
				live++
			}
		}
		if live > 1 {
			t.Fatalf("the order is to be delivered at once by %d sites", live)
		}
	}
}

// An answer that cancels some of a line and promises the rest is two events. The promise stands after the first.
func TestPromiseStandsWhileSiteCancels(t *testing.T) {
	answer := func(outcome domain.Outcome, promised, cancelled string) domain.Confirm {
		return domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{
			Outcome: outcome, Reason: because("no_material"), Lines: []domain.LineConfirmation{{
				Line: "1", Cancelled: num(cancelled),
				Promises: []domain.Promise{{Quantity: num(promised), Kind: "ship", Date: *onDay("2026-03-12")}},
			}},
		}}
	}
	o := going(t, after(t, order(article("lens", "10"))), answer(domain.Accepts, "10", "0"))
	for _, test := range []struct {
		do   domain.Confirm
		want string
	}{
		{answer(domain.AcceptsWithChanges, "8", "2"), "2026-03-12"},
		{answer(domain.AcceptsWithChanges, "7", "2"), ""},
		{domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{Outcome: domain.Refuses, Reason: because("no_material")}}, ""},
	} {
		events, err := domain.Decide(o, asked(o, test.do), domaintest.Policy{}, now)
		if err != nil || len(events) < 2 {
			t.Fatal(typesOf(events), err)
		}
		next := o
		for _, e := range events {
			next = domain.Evolve(next, e)
			if l := next.Lines[0]; l.Promised != test.want || l.FirstPromised != "2026-03-12" {
				t.Errorf("after %s the line is promised for %q, at first for %q", e.Type(), l.Promised, l.FirstPromised)
			}
		}
	}
}

// promisedInFull reports whether the sites have promised all that they have left to ship of a line.
func promisedInFull(o domain.Order, line string) bool {
	for _, f := range o.Fulfilments {
		for _, p := range f.Parts {
			rest := new(big.Rat).Sub(rat(p.Quantity), rat(p.Shipped))
			if p.Line != line || rest.Sign() == 0 {
				continue
			}
			if f.Confirmation == nil {
				return false
			}
			for _, l := range f.Confirmation.Lines {
				for _, q := range l.Promises {
					if l.Line == line && l.Backordered.IsZero() {
						rest.Sub(rest, rat(q.Quantity))
					}
				}
			}
			if rest.Sign() > 0 {
				return false
			}
		}
	}
	return true
}

// wantNoSpill checks that nothing was appended in place to the slices within v, a clone: whoever appends to them
// next would overwrite it.
func wantNoSpill(t rapid.TB, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			wantNoSpill(t, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			wantNoSpill(t, v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Cap() {
			if e := v.Slice(0, v.Cap()).Index(i); i < v.Len() {
				wantNoSpill(t, e)
			} else if !e.IsZero() {
				t.Fatalf("something was appended in place to a %v", v.Type())
			}
		}
	}
}

// wantStable checks that an event takes no id away and gives none to another.
func wantStable(t rapid.TB, before, after domain.Order) {
	t.Helper()
	for i := range before.Lines {
		if before.Lines[i].ID != after.Lines[i].ID {
			t.Fatalf("line %s has become %s", before.Lines[i].ID, after.Lines[i].ID)
		}
	}
	for i, f := range before.Fulfilments {
		g := after.Fulfilments[i]
		if f.ID != g.ID || f.Site != g.Site || len(g.Shipments) < len(f.Shipments) {
			t.Fatalf("fulfilment %s at %s has become %s at %s", f.ID, f.Site, g.ID, g.Site)
		}
		for j := range f.Shipments {
			wantSame(t, f.Shipments[j], g.Shipments[j])
		}
	}
}

// statusOf says once more, in another way, what an order's status is: by counting what is left in each stage.
func statusOf(o domain.Order) domain.Status {
	var wanted, homeless, unshipped, undelivered, gone big.Rat
	for _, l := range o.Lines {
		w := new(big.Rat).Sub(rat(l.Quantity), rat(l.Cancelled))
		wanted.Add(&wanted, w)
		homeless.Add(&homeless, w)
		unshipped.Add(&unshipped, w)
		undelivered.Add(&undelivered, w)
	}
	waiting := map[domain.Phase]bool{}
	for _, f := range o.Fulfilments {
		for _, p := range f.Parts {
			homeless.Sub(&homeless, rat(p.Quantity))
			unshipped.Sub(&unshipped, rat(p.Shipped))
			undelivered.Sub(&undelivered, rat(p.Delivered))
			gone.Add(&gone, rat(p.Shipped))
			if p.Shipped != p.Quantity {
				waiting[f.Phase] = true
			}
		}
	}
	for _, rule := range []struct {
		holds  bool
		status domain.Status
	}{
		{o.WithdrawnFor != "", domain.StatusWithdrawn},
		{o.Verdict == domain.VerdictRejected, domain.StatusRejected},
		{o.Closed, domain.StatusClosed},
		{wanted.Sign() == 0, domain.StatusCancelled},
		{undelivered.Sign() == 0, domain.StatusDelivered},
		{unshipped.Sign() == 0, domain.StatusShipped},
		{len(o.Holds) > 0, domain.StatusOnHold},
		{o.Verdict == "", domain.StatusSubmitted},
		{gone.Sign() > 0, domain.StatusPartiallyShipped},
		{homeless.Sign() > 0, domain.StatusAccepted},
		{waiting[domain.PhaseStarted], domain.StatusInFulfilment},
		{waiting[domain.PhaseRouted], domain.StatusRouted},
	} {
		if rule.holds {
			return rule.status
		}
	}
	return domain.StatusConfirmed
}

// wantTotals computes an order's totals in rational numbers.
func wantTotals(t rapid.TB, o domain.Order) {
	t.Helper()
	var lines, allowances, charges, taxes big.Rat
	adjust := func(adjustments []domain.Adjustment, all []domain.Tax) {
		for _, a := range adjustments {
			if a.Kind == domain.Allowance {
				allowances.Add(&allowances, rat(a.Amount))
			} else {
				charges.Add(&charges, rat(a.Amount))
			}
		}
		for _, tax := range all {
			taxes.Add(&taxes, rat(tax.Amount))
		}
	}
	any := false
	for _, l := range o.Lines {
		wanted := new(big.Rat).Sub(rat(l.Quantity), rat(l.Cancelled))
		if wanted.Sign() == 0 {
			continue
		}
		any = true
		amount := new(big.Rat).Mul(wanted, rat(l.Price.Amount))
		if l.Price.BaseQuantity != nil {
			amount.Quo(amount, rat(*l.Price.BaseQuantity))
		}
		lines.Add(&lines, amount)
		adjust(l.Adjustments, l.Taxes)
	}
	if any {
		adjust(o.Adjustments, o.Taxes)
	}
	total := new(big.Rat).Add(&lines, &charges)
	total.Sub(total, &allowances)
	total.Add(total, &taxes)
	for _, sum := range []struct {
		name string
		got  domain.Decimal
		want *big.Rat
	}{
		{"lines", o.Totals.Lines, &lines}, {"allowances", o.Totals.Allowances, &allowances},
		{"charges", o.Totals.Charges, &charges}, {"taxes", o.Totals.Taxes, &taxes}, {"total", o.Totals.Total, total},
	} {
		if rat(sum.got).Cmp(sum.want) != 0 {
			t.Fatalf("the %s are %v and should be %v", sum.name, sum.got, sum.want)
		}
	}
}

func rat(d domain.Decimal) *big.Rat {
	r, ok := new(big.Rat).SetString(d.String())
	if !ok {
		panic(d.String())
	}
	return r
}

// clone returns a copy of v that shares nothing with it. Its slices have room behind their ends.
func clone[T any](v T) T {
	return cloned(reflect.ValueOf(&v).Elem()).Interface().(T)
}

func cloned(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return c
		}
		inner := cloned(v.Elem())
		if v.Kind() == reflect.Pointer {
			c.Set(reflect.New(v.Type().Elem()))
			c.Elem().Set(inner)
		} else {
			c.Set(inner)
		}
	case reflect.Slice:
		if v.IsNil() {
			return c
		}
		c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()+2))
		for i := range v.Len() {
			c.Index(i).Set(cloned(v.Index(i)))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if c.Field(i).CanSet() {
				c.Field(i).Set(cloned(v.Field(i)))
			}
		}
	}
	return c
}
