package commands_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
)

// tells is what an answer tells its client, but for what is another one's for every request.
func tells(r response) string {
	var b strings.Builder
	fmt.Fprintln(&b, r.status, r.body)
	for _, name := range []string{"Content-Type", "Location", "ETag", "Orderledger-Mark", "Retry-After", "Orderledger-Durability"} {
		fmt.Fprintln(&b, name, r.header.Values(name))
	}
	return b.String()
}

// Whatever an order's home answers, every region answers.
func TestCommandsGoHome(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.regions["a"], w.regions["b"]
	for i, rc := range routeCases {
		id := a.erp().submit(fmt.Sprint("order", i), plain)
		path := "/v1/orders/" + id + "/"
		for j := 0; j < len(rc.before); j += 2 {
			if r := b.erp().post(path+rc.before[j], fmt.Sprint("before", j), rc.before[j+1]); r.status != http.StatusOK {
				t.Fatalf("%s before %s: %d %s", rc.before[j], rc.path, r.status, r.body)
			}
		}
		if r := b.erp().post(path+rc.path, "malformed", rc.malformed); r.status != http.StatusBadRequest || r.code() != rc.fault {
			t.Errorf("%s, malformed: %d %s", rc.path, r.status, r.body)
		}
		if r := b.erp().post(path+rc.path, "stale", rc.good, "If-Match", `"0-999"`); r.status != http.StatusPreconditionFailed {
			t.Errorf("%s, stale: %d %s", rc.path, r.status, r.body)
		}
		there := b.erp().post(path+rc.path, "good", rc.good)
		home := a.erp().post(path+rc.path, "good", rc.good)
		again := b.erp().post(path+rc.path, "good", rc.good)
		if there.status != http.StatusOK || there.answer(t).Status != rc.status || tells(there) != tells(home) || tells(again) != tells(home) {
			t.Errorf("%s: elsewhere\n%sat home\n%sagain\n%s", rc.path, tells(there), tells(home), tells(again))
		}
		if there.header.Get("Idempotent-Replayed") != "" || home.header.Get("Idempotent-Replayed") == "" || again.header.Get("Idempotent-Replayed") == "" {
			t.Errorf("%s: who was first is not told", rc.path)
		}
		if r := b.erp().post(path+rc.path, "good", `{"reason":{"code":"other"},"outcome":"refused"}`); r.status < 400 {
			t.Errorf("%s, something else under the key: %d %s", rc.path, r.status, r.body)
		}
	}
	if n := len(b.stored()); n != 0 {
		t.Errorf("%d events are in a region that is nobody's home", n)
	}
	for _, r := range a.stored() {
		meta, err := domain.DecodeMeta(r.Metadata)
		if err != nil || meta.Actor != (domain.Actor{Kind: "system", Issuer: "bus", Subject: "erp"}) {
			t.Fatalf("asked for by %+v, %v", meta.Actor, err)
		}
	}
}

// What travels with a request gets to the order's home.
func TestWhatIsPassedOn(t *testing.T) {
	named := web.Principal{Subject: "ünï \"%\" käse", Issuer: "bus", Kind: "service"}
	w := newWorld(t, "a", "b")
	id := w.regions["a"].as(named).send(http.MethodPost, "/v1/orders", strings.NewReader(plain), "Idempotency-Key", "k", "Business-Unit", "north").answer(t).ID
	var got *http.Request
	home := w.regions["a"].handler
	w.regions["a"].handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(r.Context())
		home.ServeHTTP(w, r)
	})
	r := w.regions["b"].as(named).post("/v1/orders/"+id+"/hold?business_unit=north", "h", `{`+reason+`}`,
		"If-Match", `"0-2"`, "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Prefer", "wait=5",
		"Authorization", "Bearer secret", "Cookie", "secret", "Orderledger-Durability", "region")
	if r.status != http.StatusOK || r.header.Get("Orderledger-Durability") != "region" || r.header.Get("Request-Id") != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Fatalf("%d %s %v", r.status, r.body, r.header)
	}
	want := http.Header{
		"Accept-Encoding": {"gzip"}, "User-Agent": {"Go-http-client/1.1"}, "Content-Length": {"23"}, "Content-Type": {"application/json"},
		"Idempotency-Key": {"h"}, "If-Match": {`"0-2"`}, "Business-Unit": {"north"}, "Prefer": {"wait=5"}, "Orderledger-Durability": {"region"},
		"Orderledger-Via": {"b"}, "Orderledger-On-Behalf-Of": {`service;issuer=%"bus";subject=%"%c3%bcn%c3%af %22%25%22 k%c3%a4se"`},
		"Traceparent": {got.Header.Get("Traceparent")},
	}
	if d := cmp.Diff(want, got.Header); d != "" || !strings.HasPrefix(got.Header.Get("Traceparent"), "00-4bf92f3577b34da6a3ce929d0e0e4736-") {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A new order that is known elsewhere gets its first answer from the mirror, and nobody is asked.
func TestSubmissionAgainElsewhere(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, c := w.regions["a"], w.regions["c"]
	first := a.erp().post("/v1/orders", "k", plain)
	a.erp().post("/v1/orders/"+first.answer(t).ID+"/cancel", "c", `{`+reason+`}`) // the first answer tells nothing of it
	c.links["a"].set(refused)
	again := c.erp().post("/v1/orders", "k", plain, "Orderledger-Durability", "remote")
	if again.header.Get("Idempotent-Replayed") != "true" || again.header.Get("Orderledger-Durability") != "remote" {
		t.Errorf("headers %v", again.header)
	}
	again.header.Del("Orderledger-Durability")
	if tells(again) != tells(first) {
		t.Errorf("at first\n%sagain\n%s", tells(first), tells(again))
	}
	if r := c.erp().post("/v1/orders", "k", with(plain, "purchase_order", "other")); r.status != http.StatusUnprocessableEntity || r.code() != "idempotency_key_reused" {
		t.Errorf("something else under the key: %d %s", r.status, r.body)
	}
	if n := len(c.stored()); n != 0 {
		t.Errorf("%d events were stored", n)
	}
	// Other business units and other clients have keys of their own.
	if r := c.erp().post("/v1/orders", "k", plain, "Business-Unit", "north"); r.status != http.StatusCreated || r.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("another business unit: %d %s", r.status, r.body)
	}
	if r := c.post("/v1/orders", "k", plain); r.status != http.StatusCreated || r.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("another client: %d %s", r.status, r.body)
	}
}

// What nobody has is unknown, and so is what another business unit has.
func TestUnknownEverywhere(t *testing.T) {
	w := newWorld(t, "a", "b")
	id := w.regions["a"].erp().submit("k", plain)
	b := w.regions["b"]
	for path, unit := range map[string]string{"/v1/orders/" + uuid.NewString() + "/close": "main", "/v1/orders/" + id + "/close": "north"} {
		if r := b.erp().post(path, "c", "", "Business-Unit", unit); r.status != http.StatusNotFound || r.code() != "unknown_order" {
			t.Errorf("%s of %s: %d %s", path, unit, r.status, r.body)
		}
	}
	if n := b.links["a"].requests(); n != 2 {
		t.Errorf("the other region was asked %d times, want once for each command", n)
	}
}

// An order of which the mirror has not heard yet is found where it is, and nobody guesses while that cannot be asked.
func TestOrderYoungerThanTheMirror(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	b := w.regions["b"]
	b.mirrors["a"].cut(t)
	w.regions["c"].mirrors["a"].cut(t)
	path := "/v1/orders/" + w.regions["a"].erp().submit("k", plain) + "/hold"
	b.links["a"].set(refused)
	if r := b.erp().post(path, "h", `{`+reason+`}`); r.status != http.StatusServiceUnavailable || r.code() != "home_unreachable" {
		t.Errorf("while its home cannot be asked: %d %s", r.status, r.body)
	}
	b.links["a"].set(whole)
	if r := b.erp().post(path, "h", `{`+reason+`}`); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
	if n := len(w.regions["c"].stored()) + len(b.stored()); n != 0 {
		t.Errorf("%d events were stored elsewhere", n)
	}
}

// While a home cannot be reached others say so. They repeat what they know to be done.
func TestHomeUnreachable(t *testing.T) {
	for _, tc := range []struct {
		name string
		how  fault
		code string
		done bool
	}{
		{"refused", refused, "home_unreachable", false},
		{"lost before", lostBefore, "outcome_unknown", false},
		{"lost after", lostAfter, "outcome_unknown", true},
		{"something else answers", strange, "outcome_unknown", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			a, b := w.regions["a"], w.regions["b"]
			id := a.erp().submit("k", plain)
			path := "/v1/orders/" + id + "/"
			held := a.erp().post(path+"hold", "h", `{`+reason+`}`)
			b.links["a"].set(tc.how)
			b.mirrors["a"].cut(t)
			again := b.erp().post(path+"hold", "h", `{`+reason+`}`)
			if tells(again) != tells(held) || again.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("done before\n%s, now\n%s", tells(held), tells(again))
			}
			if r := b.erp().post(path+"hold", "h", `{"reason":{"code":"other"}}`); r.code() != "idempotency_key_reused" {
				t.Errorf("something else under the key: %d %s", r.status, r.body)
			}
			before := len(a.stored())
			r := b.erp().post(path+"cancel", "c", `{`+reason+`}`)
			if r.status != http.StatusServiceUnavailable || r.code() != tc.code || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, "region a,") ||
				!strings.Contains(r.body, "Nothing was stored here") || r.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %s %v", r.status, r.body, r.header)
			}
			if n := len(b.stored()); n != 0 || (len(a.stored()) != before) != tc.done {
				t.Errorf("%d events here, %d there", n, len(a.stored())-before)
			}
			b.links["a"].set(whole)
			if r := b.erp().post(path+"cancel", "c", `{`+reason+`}`); r.status != http.StatusOK || (r.header.Get("Idempotent-Replayed") == "true") != tc.done {
				t.Errorf("afterwards: %d %s", r.status, r.body)
			}
		})
	}
}

// A region whose ledger takes nothing lets the next one take new orders.
func TestNextRegion(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b, c := w.regions["a"], w.regions["b"], w.regions["c"]
	known := a.erp().submit("known", plain)
	a.unwritable = eventstore.ErrFull
	submit := func(key string, status int, code string) response {
		t.Helper()
		r := a.erp().post("/v1/orders", key, plain)
		if r.status != status || r.code() != code {
			t.Errorf("%s: %d %s", key, r.status, r.body)
		}
		return r
	}
	first := submit("1", http.StatusCreated, "")
	if len(b.stored()) != 3 || len(c.stored()) != 0 || tells(b.erp().post("/v1/orders", "1", plain)) != tells(first) {
		t.Errorf("the next region has %d events, the one after it %d", len(b.stored()), len(c.stored()))
	}
	if r := submit("1", http.StatusCreated, ""); r.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("again: %v", r.header)
	}
	b.unwritable = eventstore.ErrReadOnly
	submit("2", http.StatusCreated, "")
	a.links["b"].set(refused)
	submit("3", http.StatusCreated, "")
	if len(b.stored()) != 3 || len(c.stored()) != 6 {
		t.Errorf("the next region has %d events, the one after it %d", len(b.stored()), len(c.stored()))
	}
	// Somebody may have taken it: who goes on might make a second one.
	a.links["b"].set(whole, lostAfter)
	b.unwritable = nil
	submit("4", http.StatusServiceUnavailable, "outcome_unknown")
	submit("4", http.StatusCreated, "")
	if len(b.stored()) != 6 || len(c.stored()) != 6 {
		t.Errorf("the next region has %d events, the one after it %d", len(b.stored()), len(c.stored()))
	}
	// Nobody is left. Those who were asked ask nobody else.
	b.unwritable, c.unwritable = eventstore.ErrFull, eventstore.ErrFailed
	submit("5", http.StatusServiceUnavailable, "ledger_unavailable")
	if n := b.links["c"].requests() + c.links["b"].requests() + b.links["a"].requests(); n != 0 {
		t.Errorf("%d requests were passed on twice", n)
	}
	// An order that is here stays here, whatever is wrong.
	c.unwritable = nil
	if r := a.erp().post("/v1/orders/"+known+"/hold", "h", `{`+reason+`}`); r.code() != "ledger_unavailable" {
		t.Errorf("a change of an order: %d %s", r.status, r.body)
	}
	// The import takes orders that were never judged: it is for the region that was asked.
	if r := a.erp().post("/v1/import/orders", "i", with(plain, "channel", "import", "settled", true)); r.code() != "ledger_unavailable" {
		t.Errorf("an import: %d %s", r.status, r.body)
	}
	// What the next region says of the order counts.
	if r := a.erp().post("/v1/orders", "k", with(plain, "currency", "XXX")); r.code() != "unknown_currency" {
		t.Errorf("a malformed order: %d %s", r.status, r.body)
	}
}

// An append of which nobody knows is no reason to ask the next region.
func TestUnknownOutcomeStaysHere(t *testing.T) {
	w := newWorld(t, "a", "b")
	a := w.regions["a"]
	a.unwritable = context.DeadlineExceeded
	if r := a.erp().post("/v1/orders", "k", plain); r.code() != "outcome_unknown" || a.links["b"].requests() != 0 {
		t.Errorf("%d %s, %d requests", r.status, r.body, a.links["b"].requests())
	}
}

// A mirror that cannot be read does not keep a region from its own work.
func TestBrokenMirror(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b := w.regions["a"], w.regions["b"]
	there, own := a.erp().submit("there", plain), b.erp().submit("own", plain)
	c := w.regions["c"].erp().submit("c", plain)
	b.mirrors["a"].fail(errors.New("a disk failed"))
	if r := b.erp().post("/v1/orders", "new", plain); r.status != http.StatusCreated {
		t.Errorf("a new order: %d %s", r.status, r.body)
	}
	for id, code := range map[string]string{own: "", c: "", there: "mirror_unreadable", uuid.NewString(): "mirror_unreadable"} {
		if r := b.erp().post("/v1/orders/"+id+"/hold", "h", `{`+reason+`}`); r.code() != code || strings.Contains(r.body, "disk") {
			t.Errorf("%d %s, want %q", r.status, r.body, code)
		}
	}
	if r := b.look(uuid.NewString()); r.code() != "mirror_unreadable" {
		t.Errorf("an outcome: %d %s", r.status, r.body)
	}
	b.mirrors["a"].fail(nil)
	if r := b.erp().post("/v1/orders/"+there+"/hold", "h", `{`+reason+`}`); r.status != http.StatusOK {
		t.Errorf("afterwards: %d %s", r.status, r.body)
	}
}

// What a later version has written is for that version to answer.
func TestEventsOfALaterVersion(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.regions["a"], w.regions["b"]
	id := a.erp().submit("k", plain)
	stream := "order-" + id
	event := eventstore.Event{ID: uuid.New(), Type: "order.teleported.v1", Data: []byte(`{}`), Metadata: a.stored()[0].Metadata}
	if _, err := a.store.Append(t.Context(), stream, eventstore.At(2), []eventstore.Event{event}); err != nil {
		t.Fatal(err)
	}
	asked := 0
	a.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"later":"<&>"}`))
	})
	for _, r := range []response{b.erp().post("/v1/orders", "k", plain), b.erp().post("/v1/orders/"+id+"/hold", "h", `{`+reason+`}`)} {
		if r.status != http.StatusOK || r.body != "{\"later\":\"\\u003c\\u0026\\u003e\"}\n" {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	if asked != 2 || len(b.stored()) != 0 {
		t.Errorf("%d requests, %d events", asked, len(b.stored()))
	}
}

// Of two orders under one id everybody else takes the one that counts, except for what only the other one has done.
func TestOrderInTwoLedgers(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	a, b, c := w.regions["a"], w.regions["b"], w.regions["c"]
	wins := map[string]int{}
	for i := range 20 {
		key := fmt.Sprint(i)
		a.mirrors["b"].cut(t)
		b.mirrors["a"].cut(t)
		id := a.erp().submit(key, plain)
		if b.erp().submit(key, plain) != id {
			t.Fatal("it is another order")
		}
		claims := map[string]domain.Claim{}
		for _, r := range []*region{a, b} {
			head, err := r.store.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			claims[r.name] = domain.Claim{Ledger: head.ID}
		}
		winner, loser := a, b
		if claims["b"].Over(claims["a"], uuid.MustParse(id)) {
			winner, loser = b, a
		}
		wins[winner.name]++
		lost := loser.erp().post("/v1/orders/"+id+"/hold", "lost", `{`+reason+`}`) // where it is, a region takes commands
		if r := c.erp().post("/v1/orders/"+id+"/hold", "lost", `{`+reason+`}`); tells(r) != tells(lost) {
			t.Errorf("what the loser did: %d %s", r.status, r.body)
		}
		got := c.erp().post("/v1/orders/"+id+"/cancel", "c", `{`+reason+`}`)
		if r := winner.erp().post("/v1/orders/"+id+"/cancel", "c", `{`+reason+`}`); tells(got) != tells(r) || r.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("the command did not go to the winner: %d %s", got.status, got.body)
		}
	}
	if len(wins) != 2 {
		t.Errorf("%v", wins)
	}
}

// Without HTTP it is an error that names the home.
func TestElsewhere(t *testing.T) {
	w := newWorld(t, "a", "b")
	handle(t, w.regions["a"].commands, submission("k"))
	c := command(submission("k").Order, "c", domain.Close{})
	_, err := w.regions["b"].commands.Handle(t.Context(), c, domain.Personal{})
	var there *commands.Elsewhere
	if !errors.As(err, &there) || there.Home != "a" || there.Order != c.Order || !strings.Contains(err.Error(), "region a") {
		t.Errorf("%v", err)
	}
	if e := commands.WebError(err); e.Code != "home_unreachable" || !slices.ContainsFunc(commands.Codes(), func(c web.Code) bool { return c.Code == e.Code }) {
		t.Errorf("%+v", e)
	}
}

// commandOf is the id of a command of erp.
func commandOf(order, key string) string {
	return domain.CommandID(uuid.MustParse(order), "erp", key).String()
}
