package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// twice submits an order in two regions that do not hear of each other, and returns the one that will keep it, and the other
// one.
func (w *world) twice(t testing.TB, key, here, there string) (id string, winner, loser *region) {
	t.Helper()
	a, b := w.regions["a"], w.regions["b"]
	w.cutOff(t, a)
	w.cutOff(t, b)
	id = a.must("/v1/orders", key, here).answer(t).ID
	if b.must("/v1/orders", key, there).answer(t).ID != id {
		t.Fatal("it is another order")
	}
	if (domain.Claim{Ledger: b.ledger}).Over(domain.Claim{Ledger: a.ledger}, uuid.MustParse(id)) {
		return id, b, a
	}
	return id, a, b
}

// Of two orders under one key one gives way. What was done with it is done with the other one, or listed; and a site that only
// it has reached is told.
func TestOrderSubmittedTwice(t *testing.T) {
	wins := map[string]int{}
	for i := range 8 {
		w := newWorld(t, "a", "b", "c")
		id, winner, loser := w.twice(t, fmt.Sprint("k", i), plain, plain)
		wins[winner.name]++
		order := uuid.MustParse(id)
		loser.must(orderPath(id, "fulfilments/f1/fail"), "fail", because)                                  // its f2 is at b then
		loser.must(orderPath(id, "fulfilments/f2/reroute"), "reroute", `{"site":"z",`+reason+`}`)          // and f3 at z
		loser.must(orderPath(id, "fulfilments/f3/ship"), "ship", `{"id":"S7"}`)                            //
		loser.must(orderPath(id, "fulfilments/f3/deliver"), "deliver", `{"shipment":"S7"}`)                //
		winner.must(orderPath(id, "amend"), "amend", `{"lines":[{"line":"2","quantity":"4"}],`+reason+`}`) // the winner's f2 is at a
		acknowledged := []string{commandOf(id, fmt.Sprint("k", i))}
		for _, key := range []string{"fail", "reroute", "ship", "deliver", "amend"} {
			acknowledged = append(acknowledged, commandOf(id, key))
		}
		w.join(w.regions["a"])
		w.join(w.regions["b"])
		w.mustSettle(t, map[string][]string{id: acknowledged})

		if home := w.home(order); home != winner {
			t.Fatalf("it lives in %s", home.name)
		}
		if !strings.HasSuffix(loser.tale(id), " withdrawn") || w.regions["c"].tale(id) != "" {
			t.Errorf("the loser: %s", loser.tale(id))
		}
		_, o := winner.history(order)
		at := ""
		for _, f := range o.Fulfilments {
			at += fmt.Sprint(f.ID, " ", f.Site, " ", f.Phase, " ", len(f.Arrived), "; ")
		}
		if want := "f1 a failed 0; f2 a routed 0; f3 b unrouted 0; f4 z started 2; "; at != want {
			t.Errorf("fulfilments %s\nwant %s", at, want)
		}
		if len(o.Conflicts) != 0 {
			t.Errorf("%+v", o.Conflicts)
		}
	}
	if len(wins) != 2 {
		t.Errorf("%v", wins)
	}
}

// A hold that is released is the one that was meant, whatever it is called.
func TestHoldsOfTwoLedgers(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	id, winner, loser := w.twice(t, "k", plain, plain)
	acknowledged := []string{commandOf(id, "k"), commandOf(id, "both"), commandOf(id, "a"), commandOf(id, "b"), commandOf(id, "release")}
	for _, r := range []*region{winner, loser} {
		r.must(orderPath(id, "hold"), r.name, `{"reason":{"code":"`+r.name+`"}}`) // both call it h1
		r.must(orderPath(id, "hold"), "both", because)
	}
	loser.must(orderPath(id, "release"), "release", `{"hold":"h1"}`)
	w.wellAgain()
	w.mustSettle(t, map[string][]string{id: acknowledged})
	_, o := winner.history(uuid.MustParse(id))
	if len(o.Holds) != 2 || o.Holds[0].Reason.Code != winner.name || o.Holds[1].Reason.Code != "x" || len(o.Conflicts) != 0 {
		t.Errorf("holds %+v, conflicts %+v", o.Holds, o.Conflicts)
	}
}

// Two shipments that two ledgers have given one number are not taken for each other.
func TestShipmentsOfTwoLedgers(t *testing.T) {
	w := newWorld(t, "a", "b")
	id, winner, loser := w.twice(t, "k", plain, plain)
	for _, r := range []*region{winner, loser} {
		r.must(orderPath(id, "fulfilments/f1/ship"), r.name, `{"lines":[{"line":"1","quantity":"1"}]}`)
	}
	loser.must(orderPath(id, "fulfilments/f1/deliver"), "deliver", `{"shipment":"s1"}`)
	w.wellAgain()
	w.mustSettle(t, map[string][]string{id: {commandOf(id, "a"), commandOf(id, "b"), commandOf(id, "deliver")}})
	_, o := winner.history(uuid.MustParse(id))
	if len(o.Conflicts) != 2 || o.Conflicts[0].Code != "shipment_exists" || o.Conflicts[1].Code != "unknown_shipment" || len(o.Fulfilments[0].Arrived) != 0 {
		t.Errorf("%+v, %+v", o.Conflicts, o.Fulfilments)
	}
}

// What the loser did and the winner cannot do, and the sites that it has reached, are listed once.
func TestConflicts(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	var id string
	var winner, loser *region
	// The winner's order is another one: it is on hold, so that it has no site.
	for i := 0; winner == nil || winner.name != "a"; i++ {
		w.wellAgain()
		id, winner, loser = w.twice(t, fmt.Sprint("k", i), with(plain, "purchase_order", "hold"), plain)
	}
	order := uuid.MustParse(id)
	loser.must(orderPath(id, "fulfilments/f1/start"), "start", `{}`)
	loser.must(orderPath(id, "hold"), "hold", because)
	w.wellAgain()
	for range 2 {
		w.mustSettle(t, map[string][]string{id: {commandOf(id, "start"), commandOf(id, "hold")}})
	}
	submit := func() domain.Conflict {
		events, _ := loser.history(order)
		return domain.Conflict{ID: "c1", Ledger: loser.ledger.String(), Command: events[0].meta.Command.String(), Action: "submit", Code: domain.ConflictKeyReused}
	}()
	want := []domain.Conflict{
		submit,
		{ID: "c2", Ledger: loser.ledger.String(), Command: commandOf(id, "start"), Action: "start", Code: "unknown_fulfilment", Revision: 3},
		{ID: "c3", Ledger: loser.ledger.String(), Site: "a", Fulfilment: "f1", Revision: 2},
	}
	_, o := winner.history(order)
	for i, c := range o.Conflicts {
		if i >= len(want) || c.Conflict != want[i] || c.Settled {
			t.Errorf("conflict %d is %+v", i, c)
		}
	}
	if len(o.Conflicts) != len(want) || len(o.Holds) != 2 {
		t.Errorf("%d conflicts, %d holds", len(o.Conflicts), len(o.Holds))
	}
	for _, e := range w.settled(winner, order) {
		if e.meta.Actor.Kind != "system" || e.meta.Actor.Issuer != winner.ledger.String() {
			t.Errorf("%s by %+v", e.Type, e.meta.Actor)
		}
	}
	// A site that the order uses after all needs no telling, but what was told stays.
	winner.must(orderPath(id, "release"), "r1", `{"hold":"h1"}`)
	winner.must(orderPath(id, "release"), "r2", `{"hold":"h2"}`)
	w.mustSettle(t, nil)
	if _, o := winner.history(order); len(o.Conflicts) != 3 || o.Status() != domain.StatusRouted {
		t.Errorf("%d conflicts, %s", len(o.Conflicts), o.Status())
	}
}

// settled are the events by which a region has noted conflicts of an order.
func (w *world) settled(r *region, order uuid.UUID) []stood {
	var all []stood
	events, _ := r.history(order)
	for _, e := range events {
		if _, ok := e.event.(*domain.ConflictFound); ok {
			all = append(all, e)
		}
	}
	return all
}

// A site that only the loser's order needs is told, also where the winner's has needed it before.
func TestSiteThatWasGivenUp(t *testing.T) {
	w := newWorld(t, "a", "b")
	id, winner, loser := w.twice(t, "k", plain, plain)
	winner.must(orderPath(id, "fulfilments/f1/fail"), "fail", because)
	w.wellAgain()
	w.mustSettle(t, nil)
	_, o := winner.history(uuid.MustParse(id))
	want := domain.Conflict{ID: "c1", Ledger: loser.ledger.String(), Site: "a", Fulfilment: "f1", Revision: 2}
	if len(o.Conflicts) != 1 || o.Conflicts[0].Conflict != want {
		t.Errorf("%+v, want %+v", o.Conflicts, want)
	}
}

// A command that stands in two other ledgers is one conflict.
func TestOneConflictForOneCommand(t *testing.T) {
	for wins := 0; wins < 2; {
		w := newWorld(t, "a", "b", "c")
		a, b, c := w.regions["a"], w.regions["b"], w.regions["c"]
		id := a.erp().submit("k", plain)
		w.cutOff(t, b)
		a.must(orderPath(id, "cancel"), "cancel", because)
		mustMove(t, "moved:1")(b.takeOver(a))
		mustMove(t, "moved:1")(c.takeOver(a))
		b.must(orderPath(id, "fulfilments/f1/ship"), "ship", `{}`)
		w.wellAgain()
		w.mustSettle(t, map[string][]string{id: {commandOf(id, "cancel"), commandOf(id, "ship")}})
		_, o := w.home(uuid.MustParse(id)).history(uuid.MustParse(id))
		if w.home(uuid.MustParse(id)) == b {
			wins++
		}
		if len(o.Conflicts) != 1 || o.Conflicts[0].Code != "order_shipped" && o.Conflicts[0].Code != "over_shipment" && o.Conflicts[0].Code != "order_cancelled" {
			t.Fatalf("%+v", o.Conflicts)
		}
	}
}

// Reconciling may die before or after any append, as often as it likes: the end is the same.
func TestReconcileInPieces(t *testing.T) {
	var want []string
	for _, every := range []int{0, 1, 2, 3} {
		for _, lost := range []bool{false, true} {
			w := newWorld(t, "a", "b", "c")
			id, winner, loser := w.twice(t, "k", with(plain, "purchase_order", "x"), plain)
			for key, change := range []string{"hold", "fulfilments/f1/start", "fulfilments/f1/reroute", "hold", "cancel"} {
				loser.erp().post(orderPath(id, change), fmt.Sprint(key), because)
			}
			winner.must(orderPath(id, "fulfilments/f1/fail"), "fail", because)
			w.join(w.regions["a"])
			w.join(w.regions["b"])
			deaths := 0
			for _, r := range w.regions {
				r.breakAfter, r.breakLost = every, lost
			}
			for err := errKilled; errors.Is(err, errKilled); {
				for _, r := range w.regions {
					r.reconciler = nil // who has died begins anew
					r.appends.Store(0)
				}
				if err = w.settle(); err != nil {
					deaths++
				}
				if err != nil && !errors.Is(err, errKilled) || deaths > 50 {
					t.Fatal(err)
				}
			}
			w.mustSettle(t, map[string][]string{id: {commandOf(id, "0")}})
			if want == nil {
				want = []string{winner.tale(id), loser.tale(id)}
			}
			got := []string{winner.tale(id), loser.tale(id)}
			// Which of the two ledgers wins is by chance, and so is what they are called.
			if got[0] != want[0] || got[1] != want[1] {
				t.Errorf("dying after %d appends (lost: %v): %s; want %s", every, lost, got, want)
			}
			if every == 1 && deaths < 2 {
				t.Errorf("%d deaths", deaths)
			}
		}
	}
}

// A region that has lost an order decides nothing over it as soon as it knows that, also before it has given it up.
func TestLoserDecidesNothing(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	id, winner, loser := w.twice(t, "k", plain, plain)
	w.join(w.regions["a"])
	w.join(w.regions["b"])
	loser.must(orderPath(id, "hold"), "h", because)
	if winner.tale(id) != "submitted accepted routed held" || loser.tale(id) != "submitted accepted routed" {
		t.Errorf("%s; %s", winner.tale(id), loser.tale(id))
	}
	// Who has given up sends commands to the winner also when its mirror cannot be read.
	w.mustSettle(t, nil)
	loser.mirrors[winner.name].fail(errors.New("a disk failed"))
	loser.must(orderPath(id, "release"), "r", `{}`)
	loser.links[winner.name].set(refused)
	if r := loser.erp().post(orderPath(id, "cancel"), "c", because); r.code() != "home_unreachable" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if loser.tale(id) != "submitted accepted routed withdrawn" {
		t.Errorf("%s", loser.tale(id))
	}
}

// A region that starts decides nothing over its orders before it has asked the others; it gives first answers and takes
// new orders.
func TestAskingPeers(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.regions["a"], w.regions["b"]
	first := a.must("/v1/orders", "k", plain)
	id := first.answer(t).ID
	a.asking = true
	r := a.erp().post(orderPath(id, "hold"), "h", because)
	if r.status != 503 || r.code() != "asking_peers" || r.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s %v", r.status, r.body, r.header)
	}
	if r := b.erp().post(orderPath(id, "hold"), "h", because); r.code() != "asking_peers" {
		t.Errorf("by another region: %d %s", r.status, r.body)
	}
	w.again(t, "/v1/orders", "k", plain, first)
	a.must("/v1/orders", "new", plain)
	if r := a.erp().post(orderPath(uuid.NewString(), "hold"), "h", because); r.code() != "unknown_order" {
		t.Errorf("an unknown order: %d %s", r.status, r.body)
	}
	if r := a.erp().post(orderPath(id, "hold"), "h", because, "Business-Unit", "north"); r.code() != "unknown_order" {
		t.Errorf("of another business unit: %d %s", r.status, r.body)
	}
	a.asking = false
	a.must(orderPath(id, "hold"), "h", because)

	// Nor does it take over what others did.
	id, winner, loser := w.twice(t, "twice", plain, plain)
	loser.must(orderPath(id, "hold"), "h", because)
	w.join(w.regions["a"])
	winner.asking = true
	if err := w.settle(); !errors.Is(err, commands.ErrAskingPeers) {
		t.Errorf("reconciling: %v", err)
	}
	winner.asking = false
	w.mustSettle(t, map[string][]string{id: {commandOf(id, "h")}})
}

// An order comes home to a ledger that has lost it, piece by piece where it is large.
func TestComingHomeAfterALoss(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.regions["a"], w.regions["b"]
	id := b.erp().submit("k", plain)
	acknowledged := map[string][]string{id: {commandOf(id, "k")}}
	if movement, err := b.commands.HandOver(t.Context(), "a", uuid.MustParse(id), operator, false); err != nil || movement != commands.Moved {
		t.Fatalf("%s, %v", movement, err)
	}
	b.must(orderPath(id, "hold"), "h", because) // a adopts it for this
	if a.tale(id) != "submitted accepted routed home_moved held" || b.tale(id) != "submitted accepted routed home_moved" {
		t.Fatalf("%s; %s", a.tale(id), b.tale(id))
	}

	// b has given an order up for a, which does not have it any more: it comes back as it was.
	given := b.erp().submit("given", plain)
	meta, err := domain.EncodeMeta(domain.Meta{Command: uuid.New(), Actor: operator, BusinessUnit: "main", Occurred: now})
	if err != nil {
		t.Fatal(err)
	}
	withdrawn := eventstore.Event{ID: uuid.New(), Type: "order.withdrawn.v1", Data: fmt.Appendf(nil, `{"winner":%q}`, a.ledger), Metadata: meta}
	if _, err := b.store.Append(context.Background(), domain.Stream(uuid.MustParse(given)), eventstore.At(2), []eventstore.Event{withdrawn}); err != nil {
		t.Fatal(err)
	}
	b.must(orderPath(given, "hold"), "h", because)
	if a.tale(given) != "submitted accepted routed withdrawn home_moved held" {
		t.Errorf("%s", a.tale(given))
	}

	large := b.erp().submit("large", plain)
	for i := range 5 {
		b.must(orderPath(large, "amend"), fmt.Sprint(i), `{"add":[{"sku":"C","quantity":"1","price":{"amount":"1"},"configuration":{"schema":"s","data":"`+strings.Repeat("x", 60_000)+`"}}],`+reason+`}`)
		acknowledged[large] = append(acknowledged[large], commandOf(large, fmt.Sprint(i)))
	}
	// a has had it, and its mirror in b knows that; its disk does not any more.
	moved := func(order string, o domain.Order) eventstore.Event {
		data, err := json.Marshal(domain.HomeMoved{Home: a.ledger.String(), Epoch: 1, Source: b.ledger.String(), Last: o.Revision()})
		if err != nil {
			t.Fatal(err)
		}
		return eventstore.Event{ID: uuid.New(), Type: "order.home_moved.v1", Data: data, Metadata: meta}
	}
	for i := range 18 {
		b.must(orderPath(large, "amend"), fmt.Sprint("more", i), `{"add":[{"sku":"C","quantity":"1","price":{"amount":"1"},"configuration":{"schema":"s","data":"`+strings.Repeat("x", 60_000)+`"}}],`+reason+`}`)
	}
	if movement, err := b.commands.HandOver(t.Context(), "a", uuid.MustParse(large), operator, false); err != nil || movement != commands.TooLarge {
		t.Fatalf("%s, %v", movement, err)
	}
	_, o := b.history(uuid.MustParse(large))
	if _, err := b.store.Append(context.Background(), domain.Stream(uuid.MustParse(large)), eventstore.At(o.Revision()), []eventstore.Event{moved(large, o)}); err != nil {
		t.Fatal(err)
	}
	a.appends.Store(0)
	w.mustSettle(t, acknowledged)
	if home := w.home(uuid.MustParse(large)); home != a || a.appends.Load() < 2 || a.tale(large) != b.tale(large) {
		t.Errorf("it lives in %s after %d appends", home.name, a.appends.Load())
	}
}

// A reconciler goes on where it was, also over another version's orders and a ledger's new incarnation, and does not mind
// another one.
func TestReconciler(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.regions["a"], w.regions["b"]
	clock := now
	a.clock = func() time.Time { return clock }
	open := func() *commands.Reconciler {
		t.Helper()
		r, err := commands.NewReconciler(t.Context(), a.commands)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	saves := func() (n int) {
		for range a.store.ReadStream(t.Context(), commands.ReconcilerStream, 0, eventstore.Forward) {
			n++
		}
		return n
	}
	step := func(r *commands.Reconciler, ledger uuid.UUID) bool {
		t.Helper()
		more, err := r.Step(t.Context(), ledger)
		if err != nil {
			t.Fatal(err)
		}
		return more
	}
	r := open()
	for i := range 350 {
		b.erp().submit(fmt.Sprint(i), plain)
	}
	if !step(r, b.ledger) || saves() != 1 {
		t.Errorf("%d saves after a thousand events", saves())
	}
	if step(r, b.ledger) || saves() != 1 {
		t.Errorf("%d saves at the end", saves())
	}
	clock = clock.Add(time.Second)
	if step(r, b.ledger) || saves() != 2 {
		t.Errorf("%d saves a second later", saves())
	}
	clock = clock.Add(time.Second)
	if step(r, b.ledger) || step(r, a.ledger) || saves() != 2 {
		t.Errorf("%d saves without an event", saves())
	}
	if _, err := r.Step(t.Context(), uuid.New()); commands.WebError(err).Code != "no_such_region" {
		t.Errorf("of a ledger that nobody knows: %v", err)
	}

	// Another one goes on there. Both save.
	other := open()
	b.erp().submit("new", plain)
	for _, r := range []*commands.Reconciler{r, other, r, other} {
		step(r, b.ledger)
		if err := r.Save(t.Context()); err != nil {
			t.Errorf("saving: %v", err)
		}
	}
	a.unwritable = eventstore.ErrFull
	if err := r.Save(t.Context()); !errors.Is(err, eventstore.ErrFull) {
		t.Errorf("saving on a full disk: %v", err)
	}
	a.unwritable = nil
	a.breakAfter, a.breakLost = 1, true
	a.appends.Store(1)
	if err := r.Save(t.Context()); !errors.Is(err, errKilled) {
		t.Errorf("saving: %v", err)
	}
	a.breakAfter = 0
	n := saves()
	if err := r.Save(t.Context()); err != nil || saves() != n {
		t.Errorf("saving again: %v, %d saves", err, saves()-n)
	}

	// What this version cannot read keeps nobody waiting, and is looked at again by the next process.
	var id string
	for winner, i := a, 0; winner == a; i++ { // else there is nothing to be done here
		w.wellAgain()
		id, winner, _ = w.twice(t, fmt.Sprint("twice", i), plain, plain)
	}
	w.join(a)
	order := uuid.MustParse(id)
	event := eventstore.Event{ID: uuid.New(), Type: "order.teleported.v1", Data: []byte(`{}`), Metadata: b.stored()[0].Metadata}
	_, o := b.history(order)
	later := &mirror{Reader: b.store}
	later.cut(t)
	if _, err := b.store.Append(t.Context(), domain.Stream(order), eventstore.At(o.Revision()), []eventstore.Event{event}); err != nil {
		t.Fatal(err)
	}
	before := a.tale(id)
	r = open()
	for step(r, b.ledger) || step(r, a.ledger) {
	}
	if err := r.Save(t.Context()); err != nil || a.tale(id) != before {
		t.Errorf("%v, %s", err, a.tale(id))
	}
	a.mirrors["b"] = later // as if it could be read
	r = open()
	for step(r, b.ledger) || step(r, a.ledger) {
	}
	if !strings.HasSuffix(a.tale(id), " withdrawn") {
		t.Errorf("an order that can be read now is not looked at again: %s", a.tale(id))
	}

	a.mirrors["b"].fail(errors.New("a disk failed"))
	if _, err := r.Step(t.Context(), b.ledger); err == nil || !strings.Contains(err.Error(), "a disk failed") {
		t.Errorf("with a mirror that cannot be read: %v", err)
	}
	if _, err := a.store.Append(t.Context(), commands.ReconcilerStream, eventstore.Any, []eventstore.Event{{ID: uuid.New(), Type: "x", Data: []byte(`{}`)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := commands.NewReconciler(t.Context(), a.commands); !errors.Is(err, domain.ErrUnknownEvent) {
		t.Errorf("beginning at what another version has saved: %v", err)
	}
}

// Events of the own ledger are a reason to reconcile, too: what the mirror tells has been gone through before.
func TestReconcileForOwnEvents(t *testing.T) {
	for promoted := false; !promoted; {
		w := newWorld(t, "a", "b")
		a, b := w.regions["a"], w.regions["b"]
		id := b.erp().submit("k", plain)
		if err := a.reconcile(); err != nil || a.tale(id) != "" {
			t.Fatalf("%v, %s", err, a.tale(id))
		}
		a.mirrors["b"].fail(errors.New("a disk failed"))
		a.must("/v1/orders", "k", plain)
		a.mirrors["b"].fail(nil)
		if err := a.reconcile(); err != nil {
			t.Fatal(err)
		}
		if w.home(uuid.MustParse(id)) == a {
			continue
		}
		if a.tale(id) != "submitted accepted routed withdrawn" {
			t.Fatalf("%s", a.tale(id))
		}

		// b is gone with what it did, which a knows.
		b.must(orderPath(id, "hold"), "h", because)
		if err := a.reconcile(); err != nil {
			t.Fatal(err)
		}
		w.cutOff(t, b)
		if movement, err := b.commands.HandOver(t.Context(), "a", uuid.MustParse(id), operator, true); err != nil || movement != commands.Diverged {
			t.Errorf("handing over: %s, %v", movement, err)
		}
		if movement, err := a.commands.HandOver(t.Context(), "b", uuid.MustParse(id), operator, false); err != nil || movement != commands.AlreadyHere {
			t.Errorf("handing over from elsewhere: %s, %v", movement, err)
		}
		mustMove(t, "moved:1")(a.takeOver(b))
		if err := a.reconcile(); err != nil || a.tale(id) != "submitted accepted routed withdrawn home_moved held" {
			t.Errorf("%v, %s", err, a.tale(id))
		}
		promoted = true
	}
}
