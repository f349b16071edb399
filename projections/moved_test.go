package projections_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/projections"
)

func ledgerID(t tester, l eventstore.Reader) uuid.UUID {
	t.Helper()
	head, err := l.Head(context.Background())
	check(t, err)
	return head.ID
}

// stream returns the events of an order in a ledger.
func stream(t tester, l eventstore.Reader, order uuid.UUID) []eventstore.Event {
	t.Helper()
	var events []eventstore.Event
	for e, err := range l.ReadStream(context.Background(), domain.Stream(order), 0, eventstore.Forward) {
		check(t, err)
		events = append(events, e.Event)
	}
	return events
}

// foldOf returns an order as a ledger holds it.
func foldOf(t tester, l eventstore.Reader, order uuid.UUID) domain.Order {
	t.Helper()
	var o domain.Order
	for _, e := range stream(t, l, order) {
		event, err := domain.DecodeEvent(e.Type, e.Data)
		check(t, err)
		o = domain.Evolve(o, event)
	}
	return o
}

// put appends events verbatim behind those of an order that a ledger has.
func put(t tester, l eventstore.Store, order uuid.UUID, events ...eventstore.Event) {
	t.Helper()
	expected := eventstore.NoStream
	if n := len(stream(t, l, order)); n > 0 {
		expected = eventstore.At(uint64(n - 1))
	}
	_, err := l.Append(context.Background(), domain.Stream(order), expected, events)
	check(t, err)
}

// homeMoved makes the event with which an order that a ledger has folded moves.
func homeMoved(t tester, writer uuid.UUID, o domain.Order, home, source uuid.UUID, last uint64) eventstore.Event {
	t.Helper()
	e := &domain.HomeMoved{Home: home.String(), Epoch: o.Epoch + 1, Source: source.String(), Last: last}
	c := domain.Command{
		ID: domain.CommandID(o.ID, "region", home.String()+strconv.Itoa(int(e.Epoch))), Order: o.ID, BusinessUnit: o.BusinessUnit,
		Actor: domain.Actor{Kind: "system", Subject: "takeover"}, Do: domain.Move{Home: e.Home, Source: e.Source, Last: last, Epoch: e.Epoch},
	}
	data, err := domain.EncodeEvent(e)
	check(t, err)
	meta, err := domain.EncodeMeta(domaintest.MetaOf(c, domaintest.Start))
	check(t, err)
	return eventstore.Event{ID: domain.EventID(c.ID, writer, 0), Type: e.Type(), Metadata: meta, Data: data}
}

// takeOver moves an order from one ledger into another, of what the latter has seen of the former: all or its first events.
// It reports whether the histories were the same so far.
func takeOver(t tester, from, to eventstore.Store, order uuid.UUID, seen int) bool {
	t.Helper()
	theirs, mine := stream(t, from, order), stream(t, to, order)
	theirs = theirs[:min(seen, len(theirs))]
	common := 0
	for common < min(len(mine), len(theirs)) && mine[common].ID == theirs[common].ID {
		common++
	}
	if common < len(mine) || len(theirs) == 0 {
		return false
	}
	var o domain.Order
	for _, e := range theirs {
		event, err := domain.DecodeEvent(e.Type, e.Data)
		check(t, err)
		o = domain.Evolve(o, event)
	}
	home := ledgerID(t, to)
	put(t, to, order, append(theirs[common:], homeMoved(t, home, o, home, ledgerID(t, from), uint64(len(theirs)-1)))...)
	return true
}

// handOver gives an order back to the ledger that it came from, and lets that adopt it.
func handOver(t tester, from, to eventstore.Store, order uuid.UUID) {
	t.Helper()
	o := foldOf(t, from, order)
	put(t, from, order, homeMoved(t, ledgerID(t, from), o, ledgerID(t, to), ledgerID(t, from), o.Revision()))
	put(t, to, order, stream(t, from, order)[len(stream(t, to, order)):]...)
}

// A follower listens to the notifications of a region.
type follower struct {
	v      *projections.Views
	places []projections.Place
	heard  []string
}

func (f *follower) listen(t tester) {
	t.Helper()
	for {
		list, err := f.v.Notifications(t.Context(), domaintest.BusinessUnit, f.places, 3)
		check(t, err)
		for _, n := range list {
			f.heard = append(f.heard, noteKey(n))
			f.places = projections.Advance(f.places, n.Place)
		}
		if len(list) == 0 {
			return
		}
	}
}

// noteKey names what a notification tells, wherever it is told.
func noteKey(n projections.Notification) string {
	return fmt.Sprintf("%s %d.%d %s %s>%s", n.Order, n.Revision, n.Place.N, n.Kind, n.Before, n.Status)
}

// A seen is what people see of all orders.
type seen struct {
	Counts []projections.StatusCount
	Orders map[string][]projections.Order
}

func look(t tester, v *projections.Views, queries ...projections.Query) seen {
	t.Helper()
	counts, err := v.Counts(t.Context(), domaintest.BusinessUnit)
	check(t, err)
	s := seen{counts, make(map[string][]projections.Order)}
	for _, q := range queries {
		q.BusinessUnit, q.Limit = domaintest.BusinessUnit, projections.MaxLimit
		orders, err := v.Orders(t.Context(), q)
		check(t, err)
		if len(orders) == 0 {
			t.Errorf("nothing is found by %+v", q)
		}
		s.Orders[fmt.Sprintf("%+v", q)] = orders
	}
	return s
}

// A takeover changes where orders live, and nothing that people see: not afterwards, and not while the copies come in one
// by one. Nobody is told anything a second time, and what happens then is told.
func TestTakeoverIsNotSeen(t *testing.T) {
	for name, live := range map[string]bool{"read from the ledger": false, "delivered by the bus": true} {
		t.Run(name, func(t *testing.T) {
			a, b := newLedger(t), newLedger(t)
			var lives []*life
			for i := range 4 {
				x := newLife(t, a, "order"+strconv.Itoa(i), func(s *domain.Submit) {
					s.References = []domain.Reference{{Kind: "contract", Value: "REF-" + strconv.Itoa(i)}}
				})
				if i%2 == 0 {
					x.deliver()
				}
				lives = append(lives, x)
			}
			own := newLife(t, b, "another", nil)
			v, p := caughtUp(t, a, b)
			f := &follower{v: v}
			f.listen(t)
			queries := []projections.Query{{}, {Words: "lens"}, {Customer: "c-4711"}, {Site: "a"}, {Statuses: []domain.Status{domain.StatusDelivered}}}
			for i, x := range lives {
				queries = append(queries, projections.Query{Number: x.order.Number}, projections.Query{Reference: "ref-" + strconv.Itoa(i)})
			}
			before := look(t, v, queries...)
			heard := len(f.heard)

			for _, x := range lives {
				takeOver(t, a, b, x.order.ID, 100)
			}
			moved := cmpopts.IgnoreFields(projections.Order{}, "Source", "Revision", "Position", "Epoch", "Updated")
			same := gocmp.Options{moved, gocmp.Comparer(func(x, y domain.Decimal) bool { return x == y })}
			step := func() {
				t.Helper()
				if diff := gocmp.Diff(before, look(t, v, queries...), same); diff != "" {
					t.Fatalf("people see that orders move (-before +now):\n%s", diff)
				}
				if f.listen(t); len(f.heard) != heard {
					t.Fatalf("told again: %q", f.heard[heard:])
				}
			}
			if live {
				all := deliveries(t, b)
				for _, d := range all {
					check(t, p.Apply(t.Context(), []eventstore.Delivery{d}))
					step()
				}
			} else {
				p.SetBatch(1)
				for more := true; more; {
					var err error
					more, err = p.CatchUpSome(t.Context(), ledgerID(t, b))
					check(t, err)
					step()
				}
			}
			for _, x := range lives {
				row, _, err := v.Order(t.Context(), domaintest.BusinessUnit, x.order.ID)
				check(t, err)
				if row.Source != ledgerID(t, b) || row.Epoch != 1 || row.Left {
					t.Errorf("the order is shown from %s, epoch %d", row.Source, row.Epoch)
				}
			}
			wantFold(t, v, a, b)

			late := lives[0]
			late.l, late.order = b, foldOf(t, b, late.order.ID)
			late.do(domain.Close{})
			own.deliver()
			check(t, p.CatchUp(t.Context()))
			f.listen(t)
			if n := len(f.heard) - heard; n != 5 {
				t.Errorf("%d notifications after the move, want 5: %q", n, f.heard[heard:])
			}

			heard = len(f.heard)
			for _, x := range lives {
				handOver(t, b, a, x.order.ID)
			}
			p.SetBatch(1)
			for _, l := range []eventstore.Reader{a, b, a} {
				for more := true; more; {
					var err error
					more, err = p.CatchUpSome(t.Context(), ledgerID(t, l))
					check(t, err)
				}
				if f.listen(t); len(f.heard) != heard {
					t.Errorf("told again after the return: %q", f.heard[heard:])
				}
			}
			for _, x := range lives {
				row, _, err := v.Order(t.Context(), domaintest.BusinessUnit, x.order.ID)
				check(t, err)
				if row.Source != ledgerID(t, a) || row.Epoch != 2 || (row.Status == domain.StatusClosed) != (x == late) {
					t.Errorf("after the return the order is %s, shown from %s, epoch %d", row.Status, row.Source, row.Epoch)
				}
			}
			wantFold(t, v, a, b)
		})
	}
}

// Orders move between ledgers in all ways, and some are submitted twice. However the rows were made, each event of the
// history that counts is told once and no other, everything is shown once, and who has listened all the time has missed
// nothing.
func TestDoublesAreShownOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ledgers := []*pebblestore.Store{newLedger(t), newLedger(t), newLedger(t)}
		names := []string{"0", "1", "2", "3"}
		lives := make(map[string]*life)
		twice := make(map[uuid.UUID]bool)
		v := newViews(t)
		p := newProjector(t, v)
		for _, i := range rapid.Permutation([]int{0, 1, 2}).Draw(t, "order of ledgers") {
			check(t, p.Follow(t.Context(), ledgers[i]))
		}
		f := &follower{v: v}
		ledger := func(t *rapid.T, label string) *pebblestore.Store {
			return ledgers[rapid.IntRange(0, len(ledgers)-1).Draw(t, label)]
		}
		t.Repeat(map[string]func(*rapid.T){
			"submit": func(t *rapid.T) {
				name := rapid.SampledFrom(names).Draw(t, "order")
				l := ledger(t, "ledger")
				order := domain.OrderID(domaintest.BusinessUnit, "tester", name)
				if len(stream(t, l, order)) > 0 {
					t.Skip("it is there")
				}
				x := newLife(t, l, name, nil)
				if lives[name] != nil {
					twice[order] = true
				} else {
					lives[name] = x
				}
			},
			"go on": func(t *rapid.T) {
				x := lives[rapid.SampledFrom(names).Draw(t, "order")]
				if x == nil {
					t.Skip("not submitted")
				}
				x.t = t
				if len(x.order.Holds) == 0 {
					x.do(domain.PlaceHold{Reason: domain.Reason{Code: "look"}})
				} else {
					x.do(domain.Release{Hold: x.order.Holds[0].ID, Reason: domain.Reason{Code: "looked"}})
				}
			},
			"withdraw": func(t *rapid.T) {
				x := lives[rapid.SampledFrom(names).Draw(t, "order")]
				if x == nil || !twice[x.order.ID] || x.order.WithdrawnFor != "" {
					t.Skip("no double")
				}
				l := ledger(t, "ledger")
				o := foldOf(t, l, x.order.ID)
				if !o.Exists() || o.WithdrawnFor != "" || eventstore.Store(l) == x.l {
					t.Skip("nothing to withdraw")
				}
				loser := &life{t: t, l: l, now: x.now, order: o}
				loser.do(domain.Withdraw{Winner: ledgerID(t, x.l).String()})
			},
			"take over": func(t *rapid.T) {
				x := lives[rapid.SampledFrom(names).Draw(t, "order")]
				if x == nil {
					t.Skip("not submitted")
				}
				to := ledger(t, "to")
				if eventstore.Store(to) == x.l {
					t.Skip("it is there")
				}
				all := len(stream(t, x.l, x.order.ID))
				if !takeOver(t, x.l, to, x.order.ID, rapid.IntRange(3, all).Draw(t, "seen")) {
					t.Skip("histories differ")
				}
				x.l, x.order = to, foldOf(t, to, x.order.ID)
			},
			"hand over": func(t *rapid.T) {
				x := lives[rapid.SampledFrom(names).Draw(t, "order")]
				if x == nil {
					t.Skip("not submitted")
				}
				to := ledger(t, "to")
				mine, theirs := stream(t, x.l, x.order.ID), stream(t, to, x.order.ID)
				if eventstore.Store(to) == x.l || len(theirs) > len(mine) ||
					len(theirs) > 0 && theirs[len(theirs)-1].ID != mine[len(theirs)-1].ID {
					t.Skip("histories differ")
				}
				handOver(t, x.l, to, x.order.ID)
				x.l, x.order = to, foldOf(t, to, x.order.ID)
			},
			"catch up": func(t *rapid.T) {
				p.SetBatch(rapid.IntRange(1, 4).Draw(t, "batch"))
				_, err := p.CatchUpSome(t.Context(), ledgerID(t, ledger(t, "ledger")))
				check(t, err)
				f.listen(t)
			},
		})
		check(t, p.CatchUp(t.Context()))
		f.listen(t)

		want := make(map[uuid.UUID]domain.Claim)
		for _, x := range lives {
			for _, l := range ledgers {
				if o := foldOf(t, l, x.order.ID); o.Exists() {
					c := o.Claim(ledgerID(t, l))
					if w, ok := want[x.order.ID]; !ok || c.Over(w, x.order.ID) {
						want[x.order.ID] = c
					}
				}
			}
		}
		wantShownOnce(t, v, want)
		wantToldOnce(t, v, f, want, twice)
		wantFold(t, v, ledgers[0], ledgers[1], ledgers[2])
	})
}

// wantToldOnce checks that the notifications are those of the histories that count.
func wantToldOnce(t tester, v *projections.Views, f *follower, want map[uuid.UUID]domain.Claim, twice map[uuid.UUID]bool) {
	t.Helper()
	var should []string
	for order, c := range want {
		row, _, err := v.Order(t.Context(), domaintest.BusinessUnit, order)
		check(t, err)
		if row.Source != c.Ledger {
			t.Errorf("order %s is shown from %s, want %s", order, row.Source, c.Ledger)
		}
		entries, err := v.Timeline(t.Context(), domaintest.BusinessUnit, c.Ledger, order, 0, projections.MaxLimit)
		check(t, err)
		var status domain.Status
		for _, e := range entries {
			if e.Summary.Code != projections.CodeHomeMoved && e.Summary.Code != projections.CodeWithdrawn {
				should = append(should, fmt.Sprintf("%s %d.0 %s %s>%s", order, e.Revision, e.Summary.Code, status, e.Status))
			}
			status = e.Status
		}
	}
	new := &follower{v: v}
	new.listen(t)
	slices.Sort(should)
	slices.Sort(new.heard)
	if diff := gocmp.Diff(should, new.heard); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	for _, key := range should {
		order := uuid.MustParse(key[:36])
		if !twice[order] && !slices.Contains(f.heard, key) {
			t.Errorf("who has listened all the time has missed %s", key)
		}
	}
}

// What the first home alone can tell is told by the next one, and by the first one after all when it is back.
func TestTheNextHomeTellsWhatTheFirstCannot(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	x := newLife(t, a, "one", nil)
	v, p := caughtUp(t, a, b)
	f := &follower{v: v}
	f.listen(t)
	x.deliver() // and nothing of it is heard here before the takeover
	takeOver(t, a, b, x.order.ID, 100)
	_, err := p.CatchUpSome(t.Context(), ledgerID(t, b))
	check(t, err)
	heard := len(f.heard)
	if f.listen(t); len(f.heard) != heard+4 {
		t.Fatalf("heard of %q after the takeover, want the delivery", f.heard[heard:])
	}
	check(t, p.CatchUp(t.Context()))
	f.listen(t)
	again := f.heard[heard+4:]
	if diff := gocmp.Diff(f.heard[heard:heard+4], again); diff != "" {
		t.Errorf("when the first home is back (-first +again):\n%s", diff)
	}
	wantFold(t, v, a, b)
}

// A list whose orders move while somebody turns its pages has each of them once.
func TestPagesWhileOrdersMove(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	if x, y := ledgerID(t, a), ledgerID(t, b); bytes.Compare(x[:], y[:]) < 0 {
		a, b = b, a // what moves to the smaller one would come again
	}
	var lives []*life
	for i := range 3 {
		lives = append(lives, newLife(t, a, strconv.Itoa(i), nil))
	}
	v, p := caughtUp(t, a, b)
	var got []uuid.UUID
	q := projections.Query{BusinessUnit: domaintest.BusinessUnit, Limit: 1}
	for range 4 {
		page, err := v.Orders(t.Context(), q)
		check(t, err)
		if len(page) == 0 {
			break
		}
		got, q.After = append(got, page[0].ID), page[0].Cursor()
		takeOver(t, a, b, page[0].ID, 100)
		check(t, p.CatchUp(t.Context()))
	}
	all := []uuid.UUID{lives[0].order.ID, lives[1].order.ID, lives[2].order.ID}
	if diff := gocmp.Diff(all, got, cmpopts.SortSlices(func(x, y uuid.UUID) bool { return bytes.Compare(x[:], y[:]) < 0 })); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}

// A copy that loses tells nothing, neither of what was done with it before nor after it lost.
func TestALosingCopyTellsNothing(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	x, y := newLife(t, a, "twice", nil), newLife(t, b, "twice", nil)
	winner, loser := x, y
	if (domain.Claim{Ledger: ledgerID(t, b)}).Over(domain.Claim{Ledger: ledgerID(t, a)}, x.order.ID) {
		winner, loser = y, x
	}
	v, p := caughtUp(t, a, b)
	loser.do(domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{Outcome: domain.Accepts}})
	loser.do(domain.RecordConflict{Conflict: domain.Conflict{Ledger: ledgerID(t, winner.l).String(), Site: "A", Fulfilment: "f1"}})
	loser.do(domain.Withdraw{Winner: ledgerID(t, winner.l).String()})
	check(t, p.CatchUp(t.Context()))
	list, err := v.Notifications(t.Context(), domaintest.BusinessUnit, nil, 100)
	check(t, err)
	if len(list) != 3 || slices.ContainsFunc(list, func(n projections.Notification) bool { return n.Place.Source != ledgerID(t, winner.l) }) {
		t.Errorf("told is %+v", list)
	}
	alone, _ := caughtUp(t, loser.l) // where nothing is known of the winner
	list, err = alone.Notifications(t.Context(), domaintest.BusinessUnit, []projections.Place{{Source: ledgerID(t, loser.l), Position: list[2].Place.Position, N: 9}}, 100)
	check(t, err)
	if slices.ContainsFunc(list, func(n projections.Notification) bool { return n.Status == domain.StatusWithdrawn }) {
		t.Errorf("the withdrawal is told by %+v", list)
	}
	list, err = v.Notifications(t.Context(), domaintest.BusinessUnit, nil, 100)
	check(t, err)
	winner.do(domain.RecordConflict{Conflict: domain.Conflict{Ledger: ledgerID(t, loser.l).String(), Site: "B", Fulfilment: "f1"}})
	check(t, p.CatchUp(t.Context()))
	list, err = v.Notifications(t.Context(), domaintest.BusinessUnit, []projections.Place{list[2].Place}, 100)
	check(t, err)
	if len(list) != 1 || list[0].Kind != projections.CodeConflictFound || !slices.Equal(list[0].Summary.Sites, []string{"B"}) {
		t.Errorf("the site is told by %+v", list)
	}
	open, err := v.OpenConflicts(t.Context(), domaintest.BusinessUnit)
	check(t, err)
	if open != 1 {
		t.Errorf("%d conflicts are open, want that of the winner", open)
	}
}

// Whoever watches an order goes on in its new home, without a gap and without hearing anything twice.
func TestWatchOrderGoesAlong(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	x := newLife(t, a, "one", nil)
	newLife(t, b, "two", nil)
	v, p := caughtUp(t, a, b)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []string
	for e, err := range v.WatchOrder(ctx, domaintest.BusinessUnit, ledgerID(t, a), x.order.ID, 1) {
		check(t, err)
		got = append(got, fmt.Sprint(e.Source == ledgerID(t, b), " ", e.Revision, " ", e.Summary.Code))
		if e.Revision == 2 {
			takeOver(t, a, b, x.order.ID, 100)
			moved := &life{t: t, l: b, now: x.now, order: foldOf(t, b, x.order.ID)}
			moved.do(domain.PlaceHold{Reason: domain.Reason{Code: "look"}})
			check(t, p.CatchUp(t.Context()))
		}
		if e.Revision == 4 {
			break
		}
	}
	want := []string{"false 1 accepted", "false 2 routed", "true 3 home_moved", "true 4 held"}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("watched (-want +got):\n%s", diff)
	}
	newLife(t, a, "two", nil)
	check(t, p.CatchUp(t.Context()))
	same, err := v.Same(t.Context(), domaintest.BusinessUnit, domain.OrderID(domaintest.BusinessUnit, "tester", "two"), ledgerID(t, a), ledgerID(t, b), 0)
	check(t, err)
	if same {
		t.Error("two submissions are the same event")
	}
	for revision, want := range []bool{true, true, true, false} {
		same, err := v.Same(t.Context(), domaintest.BusinessUnit, x.order.ID, ledgerID(t, a), ledgerID(t, b), uint64(revision))
		check(t, err)
		if same != want {
			t.Errorf("revision %d: %v", revision, same)
		}
	}
}

// Conflicts are listed while their order's copy counts: the open ones first, of each kind the newest first.
func TestConflicts(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	type conflict struct {
		found time.Time
		id    string
		open  bool
	}
	var known []conflict
	for i := range 5 {
		x := newLife(t, a, "order"+strconv.Itoa(i), nil)
		x.now = x.now.Add(time.Duration(i) * time.Minute)
		settled := []string{"c1", "c2"}[i/4]
		for j, c := range []domain.Conflict{
			{Ledger: "ledger-2", Command: "x", Action: "ship", Code: "over_shipment", Revision: 7},
			{Ledger: "ledger-2", Site: "B", Fulfilment: "f1", Revision: 2},
		} {
			x.do(domain.RecordConflict{Conflict: c})
			id := "c" + strconv.Itoa(j+1)
			known = append(known, conflict{x.now, x.order.Number + " " + id, id != settled})
		}
		x.do(domain.Settle{Conflict: settled, Reason: domain.Reason{Code: "done_again", Text: "done again"}})
		if i == 2 {
			takeOver(t, a, b, x.order.ID, 100)
		}
	}
	slices.SortFunc(known, func(c, d conflict) int {
		if c.open != d.open {
			return map[bool]int{true: -1, false: 1}[c.open]
		}
		return d.found.Compare(c.found)
	})
	var want []string
	for _, c := range known {
		want = append(want, fmt.Sprint(c.id, " ", c.open))
	}
	v, p := caughtUp(t, a, b)
	list := func(all bool, limit int) (got []string, conflicts []projections.Conflict) {
		t.Helper()
		q := projections.ConflictQuery{BusinessUnit: domaintest.BusinessUnit, All: all, Limit: limit}
		for {
			page, err := v.Conflicts(t.Context(), q)
			check(t, err)
			for _, c := range page {
				got = append(got, fmt.Sprint(c.Number, " ", c.ID, " ", c.Settled.IsZero()))
			}
			conflicts = append(conflicts, page...)
			if len(page) < limit {
				return got, conflicts
			}
			q.After = page[len(page)-1].Cursor()
		}
	}
	for _, limit := range []int{1, 3, 100} {
		got, all := list(true, limit)
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%d at a time (-want +got):\n%s", limit, diff)
		}
		if got, _ = list(false, limit); !slices.Equal(got, want[:5]) {
			t.Errorf("%d open ones at a time: %q", limit, got)
		}
		first, settled := all[0], all[6]
		if first.Site != "B" || first.ID != "c2" || first.Fulfilment != "f1" || first.Revision != 2 || first.Ledger != "ledger-2" || first.Found.IsZero() {
			t.Errorf("an open conflict is %+v", first)
		}
		if settled.Command != "x" || settled.Action != "ship" || settled.Code != "over_shipment" || settled.Answer.Text != "done again" || !settled.Settled.After(settled.Found) {
			t.Errorf("a settled conflict is %+v", settled)
		}
	}
	n, err := v.OpenConflicts(t.Context(), domaintest.BusinessUnit)
	check(t, err)
	other, err := v.OpenConflicts(t.Context(), "another")
	check(t, err)
	if n != 5 || other != 0 {
		t.Errorf("%d conflicts are open, and %d of another business unit", n, other)
	}
	if list, err := v.Conflicts(t.Context(), projections.ConflictQuery{BusinessUnit: "another", All: true}); err != nil || len(list) > 0 {
		t.Errorf("conflicts of another business unit: %v, %v", list, err)
	}
	wantFold(t, v, a, b)
	check(t, p.Close(t.Context()))
}

// A ledger whose rows are removed leaves its orders to the others, of which one counts and tells.
func TestOthersDecideWhileRowsAreFoldedAnew(t *testing.T) {
	a, b, c := newLedger(t), newLedger(t), newLedger(t)
	all := []*pebblestore.Store{a, b, c}
	for i := range 6 {
		for _, l := range all {
			newLife(t, l, strconv.Itoa(i), nil)
		}
	}
	moved := newLife(t, a, "moved", nil)
	takeOver(t, a, b, moved.order.ID, 100)
	v, p := caughtUp(t, a, b, c)
	check(t, p.Close(t.Context()))
	for _, l := range all {
		id := ledgerID(t, l)
		check(t, v.Exec(t.Context(), `UPDATE sources SET fold_version = 0 WHERE source = $1`, id[:]))
		p := newProjector(t, v, l) // which removes its rows
		rest := slices.DeleteFunc(slices.Clone(all), func(other *pebblestore.Store) bool { return other == l })
		others, _ := caughtUp(t, rest[0], rest[1])
		if diff := gocmp.Diff(look(t, others, projections.Query{}), look(t, v, projections.Query{}),
			gocmp.Comparer(func(x, y domain.Decimal) bool { return x == y })); diff != "" {
			t.Errorf("without one ledger (-want +got):\n%s", diff)
		}
		should, is := &follower{v: others}, &follower{v: v}
		should.listen(t)
		is.listen(t)
		if diff := gocmp.Diff(should.heard, is.heard, cmpopts.SortSlices(cmp.Less[string])); diff != "" {
			t.Errorf("told without one ledger (-want +got):\n%s", diff)
		}
		check(t, p.CatchUp(t.Context()))
		check(t, p.Close(t.Context()))
		wantFold(t, v, a, b, c)
	}
}
