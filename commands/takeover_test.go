package commands_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

const because = `{` + reason + `}`

func orderPath(id, change string) string { return "/v1/orders/" + id + "/" + change }

// must posts a command that is taken, and returns the answer.
func (r *region) must(path, key, body string) response {
	r.t.Helper()
	got := r.erp().post(path, key, body)
	if got.status >= http.StatusMultipleChoices {
		r.t.Fatalf("%s in %s: %d %s", path, r.name, got.status, got.body)
	}
	return got
}

// again posts commands that were taken to all regions, which have to give the first answers.
func (w *world) again(t testing.TB, path, key, body string, first response) {
	t.Helper()
	for _, name := range w.order {
		got := w.regions[name].erp().post(path, key, body)
		if got.status != first.status || got.header.Get("Idempotent-Replayed") != "true" || got.body != first.body {
			t.Errorf("%s again in %s: %d %s %v\nwant %d %s", path, name, got.status, got.body, got.header, first.status, first.body)
		}
	}
}

// The orders of a region that is gone live in another one, with all that was known of them. When the region is back it
// changes nothing, and knows where its orders are.
func TestTakeover(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b, c := w.regions["a"], w.regions["b"], w.regions["c"]
	submitted := a.must("/v1/orders", "k", plain)
	id := submitted.answer(t).ID
	shipped := b.must(orderPath(id, "fulfilments/f1/ship"), "s", `{"lines":[{"line":"1","quantity":"2"}]}`)
	idle := a.erp().submit("idle", plain)
	own, third := b.erp().submit("own", plain), c.erp().submit("third", plain)
	w.cutOff(t, a)
	if r := c.erp().post(orderPath(id, "hold"), "h", because); r.code() != "home_unreachable" {
		t.Fatalf("before the takeover: %d %s", r.status, r.body)
	}

	p, err := b.commands.TakeOverSome(t.Context(), "a", 0, operator, true)
	if err != nil || !p.Done || p.Orders[commands.Moved] != 2 || b.tale(id) != "" {
		t.Fatalf("a dry takeover: %+v, %v, %s", p, err, b.tale(id))
	}
	mustMove(t, "moved:2")(b.takeOver(a))
	mustMove(t, "already_here:2")(b.takeOver(a))
	mustMove(t, "elsewhere:2")(c.takeOver(a))
	events, o := b.history(uuid.MustParse(id))
	there, _ := a.history(uuid.MustParse(id))
	last := events[len(events)-1]
	moved, ok := last.event.(*domain.HomeMoved)
	if !ok || *moved != (domain.HomeMoved{Home: b.ledger.String(), Epoch: 1, Source: a.ledger.String(), Last: uint64(len(there) - 1)}) || last.meta.Actor != operator {
		t.Errorf("%+v by %+v", last.event, last.meta.Actor)
	}
	if len(events) != len(there)+1 || o.Status() != domain.StatusPartiallyShipped {
		t.Errorf("%d events instead of %d, %s", len(events), len(there)+1, o.Status())
	}
	for i, e := range there {
		if e.ID != events[i].ID || e.Type != events[i].Type || !bytes.Equal(e.Data, events[i].Data) || !bytes.Equal(e.Metadata, events[i].Metadata) {
			t.Errorf("event %d is %+v, and was %+v", i, events[i].Recorded, e.Recorded)
		}
	}
	if b.tale(own) != "submitted accepted routed" || b.tale(third) != "" {
		t.Errorf("other orders: %s; %s", b.tale(own), b.tale(third))
	}

	// Everybody sends commands there, and nothing is done twice.
	held := c.must(orderPath(id, "hold"), "h", because)
	before := w.heads()
	w.join(a)
	w.again(t, "/v1/orders", "k", plain, submitted)
	w.again(t, orderPath(id, "fulfilments/f1/ship"), "s", `{"lines":[{"line":"1","quantity":"2"}]}`, shipped)
	w.again(t, orderPath(id, "hold"), "h", because, held)
	if now := w.heads(); now != before {
		t.Errorf("repeated commands were done: %s, then %s", before, now)
	}
	for _, name := range []string{"b", "c"} { // what two ledgers have, the home answers
		got := w.regions[name].erp().post("/v1/orders", "k", plain).header.Get("Orderledger-Mark")
		if !strings.HasPrefix(got, b.ledger.String()) {
			t.Errorf("the mark in %s is %s", name, got)
		}
	}
	released := a.must(orderPath(id, "release"), "r", `{}`)
	if a.tale(id) != "submitted accepted routed shipped" || b.tale(id) != "submitted accepted routed shipped home_moved held released" {
		t.Errorf("a: %s; b: %s", a.tale(id), b.tale(id))
	}
	if tag := released.header.Get("ETag"); tag != `"1-6"` {
		t.Errorf("version %s", tag)
	}
	before = w.heads()
	w.mustSettle(t, map[string][]string{id: {commandOf(id, "k"), commandOf(id, "s"), commandOf(id, "h"), commandOf(id, "r")}, idle: {commandOf(idle, "idle")}})
	if now := w.heads(); now != before {
		t.Errorf("there was nothing to reconcile: %s, then %s", before, now)
	}
}

// What became of a command over the bus is told by the order's home, whoever has the order too.
func TestOutcomeAfterTakeover(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.regions["a"], w.regions["b"]
	id := a.erp().submit("k", plain)
	mustMove(t, "moved:1")(b.takeOver(a))
	b.must(orderPath(id, "hold"), "h", because)
	command := commandOf(id, "h")
	data, err := json.Marshal(commands.Outcome{Command: command, Order: id, State: "refused", Status: 409, Code: "order_shipped"})
	if err != nil {
		t.Fatal(err)
	}
	meta, err := domain.EncodeMeta(domain.Meta{Command: uuid.MustParse(command), Actor: domain.Actor{Kind: "system", Issuer: "bus", Subject: "erp"}, BusinessUnit: "main", Occurred: now})
	if err != nil {
		t.Fatal(err)
	}
	event := eventstore.Event{ID: uuid.New(), Type: commands.OutcomeType, Data: data, Metadata: meta}
	if _, err := a.store.Append(t.Context(), commands.OutcomePrefix+command, eventstore.NoStream, []eventstore.Event{event}); err != nil {
		t.Fatal(err)
	}
	for _, r := range w.regions {
		if got := r.erp().look(command); !strings.Contains(got.body, `"state":"done"`) || !strings.Contains(got.body, "order.held.v1") {
			t.Errorf("in %s: %d %s", r.name, got.status, got.body)
		}
	}
}

// What a region has acknowledged and nobody else has heard of is found when it is back: it is done in the new home, or
// stands among the conflicts, and every region gives the first answer to it.
func TestTakeoverOfWhatWasNotPassedOn(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b := w.regions["a"], w.regions["b"]
	id := a.erp().submit("k", plain)
	w.cutOff(t, a)
	const note = `{"lines":[{"line":"1","quantity":"5"}],"reason":{"code":"x"},"personal":{"buyer":{"name":"Ada"}}}`
	amended := a.must(orderPath(id, "amend"), "amend", note)
	cancelled := a.must(orderPath(id, "cancel"), "cancel", `{"lines":[{"line":"2","quantity":"3"}],`+reason+`}`)
	lost := a.erp().submit("lost", plain)
	mustMove(t, "moved:1")(b.takeOver(a))
	shipped := b.must(orderPath(id, "fulfilments/f1/ship"), "ship", `{"lines":[{"line":"2","quantity":"3"}]}`)
	w.join(a)
	acknowledged := map[string][]string{
		id: {commandOf(id, "k"), commandOf(id, "amend"), commandOf(id, "cancel"), commandOf(id, "ship")}, lost: {commandOf(lost, "lost")},
	}
	w.again(t, orderPath(id, "amend"), "amend", note, amended) // before anybody has reconciled
	w.mustSettle(t, acknowledged)

	events, o := b.history(uuid.MustParse(id))
	_, there := a.history(uuid.MustParse(id))
	if there.WithdrawnFor != b.ledger.String() || b.tale(lost) != "" {
		t.Errorf("withdrawn for %q; %s", there.WithdrawnFor, b.tale(lost))
	}
	if l := o.Line("1"); l.Quantity != domain.Whole(5) || o.Status() != domain.StatusPartiallyShipped {
		t.Errorf("%v, %s", l.Quantity, o.Status())
	}
	if len(o.Personal) != 1 || len(there.Personal) != 1 || !bytes.Equal(o.Personal[0].Data, there.Personal[0].Data) || o.Personal[0].Key != there.Personal[0].Key {
		t.Errorf("personal data %+v, and was %+v", o.Personal, there.Personal)
	}
	for i, e := range events {
		if amend, ok := e.event.(*domain.Amended); ok {
			if want := (domain.Actor{Kind: "system", Issuer: "bus", Subject: "erp"}); e.meta.Actor != want || e.meta.Command.String() != commandOf(id, "amend") || amend.Reason.Code != "x" {
				t.Errorf("event %d: %+v, %+v", i, e.meta, amend)
			}
		}
	}
	want := domain.Conflict{ID: "c1", Ledger: a.ledger.String(), Command: commandOf(id, "cancel"), Action: "cancel", Code: "over_cancel", Revision: 5}
	if len(o.Conflicts) != 1 || o.Conflicts[0].Conflict != want {
		t.Fatalf("conflicts %+v, want %+v", o.Conflicts, want)
	}
	w.again(t, orderPath(id, "cancel"), "cancel", `{"lines":[{"line":"2","quantity":"3"}],`+reason+`}`, cancelled)
	w.again(t, orderPath(id, "fulfilments/f1/ship"), "ship", `{"lines":[{"line":"2","quantity":"3"}]}`, shipped)
	// The answer to what was done twice is that of one of both places, each of which is true there.
	for _, r := range w.regions {
		if got := r.erp().post(orderPath(id, "amend"), "amend", note); got.status != http.StatusOK || got.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s: %d %s", r.name, got.status, got.body)
		}
		if got := r.erp().post(orderPath(id, "amend"), "amend", because); got.code() != "idempotency_key_reused" {
			t.Errorf("something else under the key in %s: %d %s", r.name, got.status, got.body)
		}
	}

	// Somebody deals with the conflict, in whatever region.
	settle := orderPath(id, "conflicts/c1/settle")
	if r := a.erp().post(orderPath(id, "conflicts/c2/settle"), "x", because); r.code() != "unknown_conflict" {
		t.Errorf("%d %s", r.status, r.body)
	}
	a.must(settle, "settle", because)
	if r := b.erp().post(settle, "other", because); r.code() != "conflict_settled" {
		t.Errorf("%d %s", r.status, r.body)
	}
	w.mustSettle(t, acknowledged)
	if _, o := b.history(uuid.MustParse(id)); len(o.Conflicts) != 1 || !o.Conflicts[0].Settled || o.Conflicts[0].Answer.Code != "x" {
		t.Errorf("%+v", o.Conflicts)
	}
}

// A region that is only cut off goes on with its orders, and two others take them over at once: one of three counts.
func TestTakeoverTwiceAtOnce(t *testing.T) {
	homes := map[string]int{}
	for i := range 6 {
		w := newWorld(t, "a", "b", "c")
		a, b, c := w.regions["a"], w.regions["b"], w.regions["c"]
		id := a.erp().submit("k", plain)
		for _, r := range w.regions {
			w.cutOff(t, r)
		}
		mustMove(t, "moved:1")(b.takeOver(a))
		mustMove(t, "moved:1")(c.takeOver(a))
		acknowledged := []string{commandOf(id, "k")}
		for _, r := range w.regions {
			key := fmt.Sprint(r.name, i)
			r.must(orderPath(id, "hold"), key, `{"reason":{"code":"`+r.name+`"}}`)
			acknowledged = append(acknowledged, commandOf(id, key))
		}
		for _, r := range w.regions {
			w.join(r)
		}
		w.mustSettle(t, map[string][]string{id: acknowledged})
		home := w.home(uuid.MustParse(id))
		homes[home.name]++
		if _, o := home.history(uuid.MustParse(id)); home == a || len(o.Holds) != 3 || len(o.Conflicts) != 0 || o.Epoch != 1 {
			t.Errorf("in %s: %s, epoch %d", home.name, home.tale(id), o.Epoch)
		}
		for _, r := range w.regions {
			if r != home && !strings.HasSuffix(r.tale(id), " withdrawn") {
				t.Errorf("in %s: %s", r.name, r.tale(id))
			}
		}
		// Whoever lost may have it after all, with all that the winner did.
		loser := b
		if home == b {
			loser = c
		}
		w.cutOff(t, home)
		mustMove(t, "moved:1")(loser.takeOver(home))
		w.join(home)
		w.mustSettle(t, map[string][]string{id: acknowledged})
		if _, o := loser.history(uuid.MustParse(id)); w.home(uuid.MustParse(id)) != loser || o.Epoch != 2 || len(o.Holds) != 3 || o.Status() == domain.StatusWithdrawn {
			t.Errorf("in %s: %s", loser.name, loser.tale(id))
		}
	}
	if homes["a"] > 0 {
		t.Errorf("%v", homes)
	}
}

// An order returns to the region that it came from, and commands go on meanwhile.
func TestReturn(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b, c := w.regions["a"], w.regions["b"], w.regions["c"]
	id, own := a.erp().submit("k", plain), b.erp().submit("own", plain)
	w.cutOff(t, a)
	mustMove(t, "moved:1")(b.takeOver(a))
	held := b.must(orderPath(id, "hold"), "h", because)
	w.join(a)
	acknowledged := map[string][]string{id: {commandOf(id, "k"), commandOf(id, "h"), commandOf(id, "r"), commandOf(id, "s")}, own: {commandOf(own, "own")}}

	// While a has not heard that its order is back nobody decides.
	a.mirrors["b"].cut(t)
	mustMove(t, "moved:1")(b.giveBack(a))
	mustMove(t, "already_here:1")(b.giveBack(a))
	if movement, err := c.commands.HandOver(t.Context(), "a", uuid.MustParse(own), operator, false); err != nil || movement != commands.LivesElsewhere {
		t.Errorf("another region's order is handed over: %s, %v", movement, err)
	}
	if movement, err := c.commands.TakeOver(t.Context(), "b", uuid.MustParse(id), operator, true); err != nil || movement != commands.LivesElsewhere {
		t.Errorf("of an order that is leaving: %s, %v", movement, err)
	}
	for _, r := range w.regions {
		if got := r.erp().post(orderPath(id, "release"), "r", `{}`); got.status < 500 || got.code() != "routing_loop" {
			t.Errorf("in %s: %d %s", r.name, got.status, got.body)
		}
	}
	if b.tale(id) != "submitted accepted routed home_moved held home_moved" {
		t.Errorf("%s", b.tale(id))
	}
	a.mirrors["b"].heal()
	released := c.must(orderPath(id, "release"), "r", `{}`) // which a takes in with all that came before
	if a.tale(id) != "submitted accepted routed home_moved held home_moved released" {
		t.Errorf("%s", a.tale(id))
	}
	b.must(orderPath(id, "fulfilments/f1/ship"), "s", `{}`)
	w.mustSettle(t, acknowledged)
	w.again(t, orderPath(id, "hold"), "h", because, held)
	w.again(t, orderPath(id, "release"), "r", `{}`, released)
	if w.home(uuid.MustParse(id)) != a || b.tale(id) != "submitted accepted routed home_moved held home_moved" || b.tale(own) != "submitted accepted routed" {
		t.Errorf("a: %s; b: %s; %s", a.tale(id), b.tale(id), b.tale(own))
	}

	// It may be taken over again before it has arrived.
	w.cutOff(t, a)
	mustMove(t, "moved:1")(b.takeOver(a))
	w.join(a)
	a.mirrors["b"].cut(t)
	mustMove(t, "moved:1")(b.giveBack(a))
	w.cutOff(t, a)
	mustMove(t, "moved:1")(c.takeOver(a))
	w.join(a)
	w.mustSettle(t, acknowledged)
	if home := w.home(uuid.MustParse(id)); home != c {
		t.Errorf("it lives in %s", home.name)
	}
}

// An order does not return where something is not known, or not settled; one that has left all the same is taken in.
func TestReturnOfADivergedOrder(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b := w.regions["a"], w.regions["b"]
	id, late := a.erp().submit("k", plain), a.erp().submit("late", plain)
	w.cutOff(t, a)
	a.must(orderPath(id, "hold"), "h", because)
	a.must(orderPath(late, "hold"), "h", because)
	mustMove(t, "moved:2")(b.takeOver(a))
	b.must(orderPath(late, "fulfilments/f1/start"), "start", "")
	// b gives back what it does not know to be behind.
	movement, err := b.commands.HandOver(t.Context(), "a", uuid.MustParse(late), operator, false)
	if err != nil || movement != commands.Moved {
		t.Fatalf("%s, %v", movement, err)
	}
	w.join(a)
	mustMove(t, "already_here:1 diverged:1")(b.giveBack(a))
	w.mustSettle(t, map[string][]string{id: {commandOf(id, "k"), commandOf(id, "h")}, late: {commandOf(late, "late"), commandOf(late, "h"), commandOf(late, "start")}})
	if w.home(uuid.MustParse(id)) != b || w.home(uuid.MustParse(late)) != a {
		t.Errorf("%s lives in %s, %s in %s", id, w.home(uuid.MustParse(id)).name, late, w.home(uuid.MustParse(late)).name)
	}
	if _, o := a.history(uuid.MustParse(late)); len(o.Conflicts) != 1 || o.Conflicts[0].Code != "order_on_hold" || o.Conflicts[0].Action != "start" {
		t.Errorf("%+v", o.Conflicts)
	}
	p, err := b.commands.HandOverSome(t.Context(), "a", 0, operator, false)
	if err != nil || len(p.Listed) != 1 || p.Listed[0] != (commands.Stayed{Order: uuid.MustParse(id), Movement: commands.Diverged}) {
		t.Errorf("%+v, %v", p, err)
	}
}

// A history that does not fit into one append stays where it is.
func TestTooLargeToMove(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.regions["a"], w.regions["b"]
	id := a.erp().submit("k", plain)
	for i := range 12 {
		a.must(orderPath(id, "amend"), fmt.Sprint(i), `{"add":[{"sku":"C","quantity":"1","price":{"amount":"1"},"configuration":{"schema":"s","data":"`+
			strings.Repeat("x", 60_000)+`"}}],`+reason+`}`)
	}
	w.cutOff(t, a)
	dry, err := b.commands.TakeOver(t.Context(), "a", uuid.MustParse(id), operator, true)
	if err != nil || dry != commands.Moved {
		t.Fatalf("%s, %v", dry, err)
	}
	w.join(a)
	for i := range 12 {
		a.must(orderPath(id, "amend"), fmt.Sprint("more", i), `{"add":[{"sku":"C","quantity":"1","price":{"amount":"1"},"configuration":{"schema":"s","data":"`+
			strings.Repeat("x", 60_000)+`"}}],`+reason+`}`)
	}
	p, err := b.commands.TakeOverSome(t.Context(), "a", 0, operator, false)
	if err != nil || len(p.Listed) != 1 || p.Listed[0] != (commands.Stayed{Order: uuid.MustParse(id), Movement: commands.TooLarge}) || b.tale(id) != "" {
		t.Errorf("%+v, %v, %s", p, err, b.tale(id))
	}
}

// A takeover that dies between any two appends, or does not hear of one, goes on where it was.
func TestTakeoverInPieces(t *testing.T) {
	for _, lost := range []bool{false, true} {
		w := newWorld(t, "a", "b")
		a, b := w.regions["a"], w.regions["b"]
		var ids []string
		for i := range 5 {
			ids = append(ids, a.erp().submit(fmt.Sprint(i), plain))
		}
		w.cutOff(t, a)
		b.breakAfter = 1
		b.breakLost = lost
		tries := 0
		for ; ; tries++ {
			b.appends.Store(0)
			if _, err := b.takeOver(a); err == nil {
				break
			} else if !errors.Is(err, errKilled) || tries > 10 {
				t.Fatal(err)
			}
		}
		b.breakAfter = 0
		mustMove(t, "already_here:5")(b.takeOver(a))
		for _, id := range ids {
			if b.tale(id) != "submitted accepted routed home_moved" {
				t.Errorf("%s", b.tale(id))
			}
		}
		if tries < 2 {
			t.Errorf("%d tries", tries)
		}
	}
}

// What cannot be found out is not moved.
func TestTakeoverRefused(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b := w.regions["a"], w.regions["b"]
	id := uuid.MustParse(a.erp().submit("k", plain))
	take := func(of string, order uuid.UUID) (commands.Movement, error) {
		return b.commands.TakeOver(t.Context(), of, order, operator, false)
	}
	var refused *domain.Refused
	if _, err := take("a", uuid.New()); !errors.As(err, &refused) || refused.Code != domain.CodeUnknownOrder {
		t.Errorf("an unknown order: %v", err)
	}
	if _, err := take("x", id); commands.WebError(err).Code != "no_such_region" {
		t.Errorf("an unknown region: %v", err)
	}
	b.asking = true
	if _, err := take("a", id); !errors.Is(err, commands.ErrAskingPeers) {
		t.Errorf("while the others are asked: %v", err)
	}
	b.asking = false
	b.mirrors["c"].fail(errors.New("a disk failed"))
	if _, err := take("a", id); commands.WebError(err).Code != "mirror_unreadable" {
		t.Errorf("with a mirror that cannot be read: %v", err)
	}
	b.mirrors["c"].heal()
	b.unwritable = eventstore.ErrFull
	if _, err := take("a", id); !errors.Is(err, eventstore.ErrFull) {
		t.Errorf("with a full disk: %v", err)
	}
	b.unwritable = nil
	event := eventstore.Event{ID: uuid.New(), Type: "order.teleported.v1", Data: []byte(`{}`), Metadata: a.stored()[0].Metadata}
	if _, err := a.store.Append(context.Background(), domain.Stream(id), eventstore.At(2), []eventstore.Event{event}); err != nil {
		t.Fatal(err)
	}
	mustMove(t, "unreadable:1")(b.takeOver(a))
	if len(b.stored()) != 0 {
		t.Errorf("%d events", len(b.stored()))
	}
}

// The routes do the same, and take nothing over from a region that answers.
func TestMovementRoutes(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.regions["a"], w.regions["b"]
	id := a.erp().submit("k", plain)
	post := func(path, body string, status int, want string) {
		t.Helper()
		r := b.erp().send(http.MethodPost, "/v1/regions/"+path, strings.NewReader(body))
		if r.status != status || !strings.Contains(r.body, want) {
			t.Errorf("%s %s: %d %s, want %d %s", path, body, r.status, r.body, status, want)
		}
	}
	post("x/takeover", `{}`, 404, `"no_such_region"`)
	post("a/takeover", `{"later":true}`, 400, `"unknown_field"`)
	post("a/takeover", `{}`, 409, `"region_answers"`)
	post("a/takeover", `{"dry_run":true}`, 200, `"done":true,"orders":{"moved":1},"listed":[]`)
	b.links["a"].set(strange)
	post("a/takeover", ``, 200, `"orders":{"moved":1}`)
	b.links["a"].set(whole)
	post("a/takeover", `{"force":true}`, 200, `"orders":{"already_here":1}`)
	post("x/return", `{}`, 404, `"no_such_region"`)
	post("a/return", `{"dry_run":true}`, 200, `"orders":{"moved":1}`)
	post("a/return", ``, 200, `"orders":{"moved":1}`)
	post("a/return", `{"after":1000}`, 200, `"orders":{},"listed":[]`)
	if b.tale(id) != "submitted accepted routed home_moved home_moved" {
		t.Errorf("%s", b.tale(id))
	}
}

// What a lost region has acknowledged and only a third one has heard of gets to the new home by way of that one.
func TestTakeoverByAWitness(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b, c := w.regions["a"], w.regions["b"], w.regions["c"]
	id, same := a.erp().submit("k", plain), a.erp().submit("same", plain)
	b.mirrors["a"].cut(t)
	held := a.must(orderPath(id, "hold"), "h", because)
	w.regions["c"].mirrors["a"].cut(t) // and a is lost for ever
	for _, r := range []*region{b, c} {
		r.links["a"].set(refused)
	}
	mustMove(t, "moved:2")(b.takeOver(a))
	before := w.heads()
	if p, err := c.commands.TakeOverSome(t.Context(), "a", 0, operator, true); err != nil || p.Orders[commands.LivesElsewhere] != 2 || w.heads() != before {
		t.Errorf("dry: %+v, %v", p, err)
	}
	for range 2 {
		mustMove(t, "elsewhere:2")(c.takeOver(a))
		if c.tale(id) != "submitted accepted routed held withdrawn" || c.tale(same) != "" {
			t.Errorf("%s; %s", c.tale(id), c.tale(same))
		}
	}
	for range 3 {
		for _, r := range []*region{b, c} {
			if err := r.reconcile(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if b.tale(id) != "submitted accepted routed home_moved held" || b.tale(same) != "submitted accepted routed home_moved" {
		t.Errorf("%s; %s", b.tale(id), b.tale(same))
	}
	if r := b.erp().post(orderPath(id, "hold"), "h", because); r.header.Get("Idempotent-Replayed") != "true" || len(r.answer(t).Holds) != len(held.answer(t).Holds) {
		t.Errorf("%d %s", r.status, r.body)
	}
	w.wellAgain()
	w.mustSettle(t, map[string][]string{id: {commandOf(id, "k"), commandOf(id, "h")}, same: {commandOf(same, "same")}})
}

// An order that its home has handed over, and that is lost before the new home has heard of that, gets there by way of who
// has heard.
func TestHandedOverAndLost(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b, c := w.regions["a"], w.regions["b"], w.regions["c"]
	id := a.erp().submit("k", plain)
	mustMove(t, "moved:1")(b.takeOver(a))
	held := b.must(orderPath(id, "hold"), "h", because)
	a.mirrors["b"].cut(t)
	mustMove(t, "moved:1")(b.giveBack(a))
	c.mirrors["b"].cut(t) // and b is lost for ever
	for _, r := range []*region{a, c} {
		r.links["b"].set(refused)
	}
	for range 2 {
		mustMove(t, "elsewhere:1")(c.takeOver(b))
		if c.tale(id) != "submitted accepted routed home_moved held home_moved" {
			t.Errorf("%s", c.tale(id))
		}
	}
	a.must(orderPath(id, "release"), "r", `{}`)
	if a.tale(id) != "submitted accepted routed home_moved held home_moved released" || w.home(uuid.MustParse(id)) != a {
		t.Errorf("%s", a.tale(id))
	}
	w.again(t, orderPath(id, "hold"), "h", because, held)
}

// What a lost region has acknowledged is not lost with it although the only one that has heard of it has a history of its
// own, and somebody else has taken the order over.
func TestWitnessWithAHistoryOfItsOwn(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b, c := w.regions["a"], w.regions["b"], w.regions["c"]
	w.cutOff(t, a)
	w.cutOff(t, b)
	id := a.erp().submit("k", plain)
	b.erp().submit("k", plain)
	c.mirrors["a"].heal()
	c.mirrors["a"].cut(t)
	for _, key := range []string{"h", "i"} {
		a.must(orderPath(id, "hold"), key, `{"reason":{"code":"`+key+`"}}`)
	}
	b.mirrors["a"].heal() // and a is lost for ever
	mustMove(t, "moved:1")(c.takeOver(a))
	b.mirrors["c"].heal()
	c.mirrors["b"].heal()
	reconcile := func() {
		for range 3 {
			for _, r := range []*region{b, c} {
				if err := r.reconcile(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	reconcile()
	for range 2 {
		mustMove(t, "elsewhere:1")(b.takeOver(a))
		reconcile()
	}
	if c.tale(id) != "submitted accepted routed home_moved conflict_found conflict_found" {
		t.Errorf("b: %s; c: %s", b.tale(id), c.tale(id))
	}
	w.wellAgain()
	w.mustSettle(t, map[string][]string{id: {commandOf(id, "k"), commandOf(id, "h"), commandOf(id, "i")}})
}
