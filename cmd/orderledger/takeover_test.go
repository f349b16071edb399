package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/readapi"
)

// TestTakeoverOfRealOrders takes the orders of a real shop in one of three regions, kills it, and lets another one take over. What
// the other regions show is the same as before to the last digit, and stays so when the region is back and when its
// orders return to it.
func TestTakeoverOfRealOrders(t *testing.T) {
	orders := realOrders(t)
	switch {
	case full:
	case raceEnabled:
		orders = orders[:500]
	default:
		orders = orders[:1_000]
	}
	random := seeded(t)
	const dead, heir, other = "am-north", "eu-west", "ap-south"
	w := newRegionsWorld(t, dead, heir, other)
	w.start()
	clients := w.takeReal(orders, dead, random)
	w.settled(clients)
	before := w.figures(heir, dead)
	if want := inFile(t, orders); !maps.Equal(before, want) {
		t.Errorf("region %s shows something else than the file has (-want +got):\n%s", heir, cmp.Diff(want, before))
	}
	w.same(before, dead, dead, other)
	t.Logf("before: %v", before)

	events := len(w.events(dead))
	w.servers[dead].kill()
	move := func(args ...string) movedSum {
		t.Helper()
		var sum movedSum
		check(t, json.Unmarshal([]byte(mustCommand(t, append([]string{"region", "--json", "--server", w.servers[other].url()}, args...)...)), &sum))
		return sum
	}
	if sum := move("takeover", "--of", dead, "--by", heir, "--dry-run"); sum.Orders["moved"] != len(orders) {
		t.Errorf("to be moved: %+v, want %d", sum, len(orders))
	}
	begun := time.Now()
	if sum := move("takeover", "--of", dead, "--by", heir); sum.Orders["moved"] != len(orders) || sum.Known.Heard == nil {
		t.Errorf("moved: %+v, want %d", sum, len(orders))
	}
	took := time.Since(begun)
	w.lives(heir, heir, other)
	t.Logf("%d orders were taken over in %v (%.0f/s), and are shown so by the other regions after %v", len(orders), took.Round(time.Millisecond),
		float64(len(orders))/took.Seconds(), time.Since(begun).Round(time.Millisecond))
	w.same(before, heir, heir, other)
	begun = time.Now()
	if sum := move("takeover", "--of", dead, "--by", heir); sum.Orders["already_here"] != len(orders) || sum.Orders["moved"] != 0 {
		t.Errorf("moved again: %+v", sum)
	}
	t.Logf("once more, which does nothing, took %v", time.Since(begun).Round(time.Millisecond))

	// The orders go on in their new home.
	c := clients[0]
	for i, id := range c.orders[:20] {
		region := []string{heir, other}[i%2]
		status, h, answer, err := c.post(region, "/v1/orders/"+id+"/hold", "after", look)
		if err != nil || status != http.StatusOK && status != http.StatusConflict {
			t.Errorf("after the takeover, order %s is held in region %s with %d %s: %v", id, region, status, answer, err)
		} else if status == http.StatusOK {
			c.note(h)
		}
	}
	w.quiet(heir, other)
	before = w.figures(heir, heir)

	w.servers[dead].start()
	w.reunited()
	w.settled(clients)
	w.quiet()
	w.same(before, heir, w.names...)
	if now := len(w.events(dead)); now != events {
		t.Errorf("the region that is back has %d events, and had %d", now, events)
	}
	if status, _, answer, err := c.post(dead, "/v1/orders/"+c.orders[20]+"/hold", "back", look); err != nil || status >= http.StatusInternalServerError {
		t.Errorf("the region that is back answers %d %s: %v", status, answer, err)
	}
	w.quiet()
	before = w.figures(heir, heir)

	begun = time.Now()
	if sum := move("return", "--of", dead, "--from", heir); sum.Orders["moved"] != len(orders) {
		t.Errorf("returned: %+v", sum)
	}
	took = time.Since(begun)
	w.lives(dead, w.names...)
	t.Logf("%d orders returned in %v (%.0f/s), and are shown so by all regions after %v", len(orders), took.Round(time.Millisecond),
		float64(len(orders))/took.Seconds(), time.Since(begun).Round(time.Millisecond))
	w.quiet()
	w.same(before, dead, w.names...)
	c.http.CloseIdleConnections()
	w.stop()
	w.equal()
}

// takeReal sends a shop's orders to a region, and brings them to where they were in the shop. The file has no amounts: an
// order costs its number in cents.
func (w *regionsWorld) takeReal(orders []realOrder, region string, random *rand.Rand) []*roamer {
	w.t.Helper()
	clients := make([]*roamer, 16)
	jobs := make(chan realOrder)
	var work sync.WaitGroup
	begun := time.Now()
	for i := range clients {
		c := &roamer{
			w: w, name: fmt.Sprintf("client-%d", i), random: rand.New(rand.NewPCG(random.Uint64(), 0)),
			http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: 30 * time.Second}, newest: make(map[uuid.UUID]eventstore.Mark),
		}
		clients[i] = c
		work.Go(func() {
			for o := range jobs {
				c.take(region, o)
			}
		})
	}
	for _, o := range orders {
		jobs <- o
	}
	close(jobs)
	work.Wait()
	for _, c := range clients {
		c.http.CloseIdleConnections()
	}
	w.t.Logf("%d orders in %v", len(orders), time.Since(begun).Round(time.Millisecond))
	return clients
}

// take takes a shop's order in a region.
func (r *roamer) take(region string, o realOrder) {
	path, channel := "/v1/orders", `"channel":"web"`
	if statuses[o.status] == domain.StatusClosed {
		path, channel = "/v1/import/orders", `"channel":"import","settled":true`
	}
	cents, err := strconv.Atoi(o.id)
	check(r.w.t, err)
	body := fmt.Sprintf(`{"currency":"USD",%s,"references":[{"kind":"shop","value":%q}],
		"parties":{"buyer":{"identifiers":[{"scheme":"customer","value":%q}],"country":%q}},
		"lines":[{"sku":"ORDER","quantity":"1","price":{"amount":"%d.%02d"}}]}`, channel, o.id, o.customer, o.country, cents/100, cents%100)
	send := func(path, key, body string) bool {
		status, h, answer, err := r.post(region, path, key, body)
		if err != nil || status >= http.StatusBadRequest {
			r.w.t.Errorf("order %s was answered %d %s: %v", o.id, status, answer, err)
			return false
		}
		r.note(h)
		if strings.HasPrefix(key, "shop-") {
			r.orders = append(r.orders, orderOf(h))
		}
		return true
	}
	if !send(path, "shop-"+o.id, body) {
		return
	}
	order := "/v1/orders/" + r.orders[len(r.orders)-1]
	switch statuses[o.status] {
	case domain.StatusCancelled:
		send(order+"/cancel", "cancel-"+o.id, `{"reason":{"code":"customer_request"}}`)
	case domain.StatusOnHold:
		send(order+"/hold", "hold-"+o.id, fmt.Sprintf(`{"reason":{"code":%q}}`, strings.ToLower(o.status)))
	case domain.StatusConfirmed:
		send(order+"/fulfilments/f1/confirm", "confirm-"+o.id, `{"outcome":"accepted"}`)
	}
}

// statuses are those in which a shop's orders are here, by the shop's own.
var statuses = map[string]domain.Status{
	"COMPLETE": domain.StatusClosed, "CLOSED": domain.StatusClosed, "CANCELED": domain.StatusCancelled,
	"ON_HOLD": domain.StatusOnHold, "PAYMENT_REVIEW": domain.StatusOnHold, "SUSPECTED_FRAUD": domain.StatusOnHold,
	"PROCESSING": domain.StatusConfirmed, "PENDING": domain.StatusRouted, "PENDING_PAYMENT": domain.StatusRouted,
}

// inFile adds up what regions should show of a shop's orders. What is cancelled comes to nothing.
func inFile(t *testing.T, orders []realOrder) map[domain.Status]string {
	t.Helper()
	counts, cents := make(map[domain.Status]int), make(map[domain.Status]int)
	for _, o := range orders {
		amount, err := strconv.Atoi(o.id)
		check(t, err)
		status := statuses[o.status]
		counts[status]++
		if status != domain.StatusCancelled {
			cents[status] += amount
		}
	}
	all := make(map[domain.Status]string)
	for status, n := range counts {
		all[status] = fmt.Sprintf("%d orders, %d.%02d", n, cents[status]/100, cents[status]%100)
	}
	return all
}

// figures are what a region shows: per status, how many orders there are and what they come to. All of them live in one
// region.
func (w *regionsWorld) figures(region, home string) map[domain.Status]string {
	w.t.Helper()
	counts, sums := make(map[domain.Status]int), make(map[domain.Status]*big.Rat)
	seen := make(map[uuid.UUID]bool)
	w.eachOrder(region, func(o readapi.OrderSummary) {
		if seen[o.ID] {
			w.t.Errorf("region %s shows order %s twice", region, o.ID)
		}
		seen[o.ID] = true
		if o.Source != w.ledger(home) {
			w.t.Errorf("region %s shows order %s in ledger %s, and it lives in region %s", region, o.ID, o.Source, home)
		}
		total, ok := new(big.Rat).SetString(o.Total.String())
		if !ok {
			w.t.Fatalf("order %s comes to %s", o.ID, o.Total)
		}
		if sums[o.Status] == nil {
			sums[o.Status] = new(big.Rat)
		}
		counts[o.Status]++
		sums[o.Status].Add(sums[o.Status], total)
	})
	all := make(map[domain.Status]string)
	for status, n := range counts {
		all[status] = fmt.Sprintf("%d orders, %s", n, sums[status].FloatString(2))
	}
	return all
}

// same checks that some regions show the given figures.
func (w *regionsWorld) same(want map[domain.Status]string, home string, regions ...string) {
	w.t.Helper()
	for _, region := range regions {
		if got := w.figures(region, home); !maps.Equal(got, want) {
			w.t.Errorf("region %s shows something else than before (-want +got):\n%s", region, cmp.Diff(want, got))
		}
	}
}

// lives waits until some regions show that all orders live in one region.
func (w *regionsWorld) lives(home string, regions ...string) {
	w.t.Helper()
	for _, region := range regions {
		c := &client{base: w.servers[region].url(), businessUnit: "main", http: http.DefaultClient}
		if !pollFor(settleTime(), func() bool {
			list, err := c.regions(w.t.Context())
			return err == nil && !slices.ContainsFunc(list, func(r readapi.RegionStatus) bool { return r.Name != home && r.Orders > 0 })
		}) {
			w.t.Fatalf("in region %s, not all orders live in region %s", region, home)
		}
	}
}

// TestTakeover lets two regions take over the orders of a third one at the same time, while none of the three reaches any
// other, and all go on with them. Afterwards every order is there once, and what cannot be reconciled stands on
// a list, from which people take it.
func TestTakeover(t *testing.T) {
	w := newRegionsWorld(t, "eu", "us", "ap")
	w.start()
	c := &roamer{
		w: w, name: "client", random: seeded(t), newest: make(map[uuid.UUID]eventstore.Mark),
		http: &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second},
	}
	var sent []*asked
	send := func(region, path, key, body string) {
		t.Helper()
		status, h, answer, err := c.post(region, path, key, body)
		if err != nil || status >= http.StatusBadRequest {
			t.Fatalf("%s in region %s: %d %s: %v", path, region, status, answer, err)
		}
		sent = append(sent, &asked{path: path, key: key, body: body})
		c.note(h)
		if path == "/v1/orders" {
			c.orders = append(c.orders, orderOf(h))
		}
	}
	for i := range 12 {
		send("eu", "/v1/orders", fmt.Sprint("order-", i), plainOrder)
	}
	w.settled([]*roamer{c})
	takeOver := func(by string, flags ...string) (int, string, string) {
		return command(t, append([]string{"region", "takeover", "--of", "eu", "--by", by, "--topology", w.front()}, flags...)...)
	}
	if code, _, err := takeOver("us"); code != exitRefused || !strings.Contains(err, "region_answers") {
		t.Errorf("a region that answers was taken over: %d %s", code, err)
	}
	if code, out, err := takeOver("us", "--dry-run"); code != exitOK || !strings.Contains(out, "12  moved") || !strings.Contains(out, "nothing has been done") {
		t.Errorf("to be taken over: %d %s%s", code, out, err)
	}
	for _, by := range []string{"eu", "mars"} {
		if code, _, err := takeOver(by); code != exitUsage {
			t.Errorf("taken over by %s: %d %s", by, code, err)
		}
		if code, _, err := command(t, "region", "takeover", "--of", "eu", "--by", by, "--server", w.servers["ap"].url()); code != exitUsage {
			t.Errorf("taken over by %s: %d %s", by, code, err)
		}
	}
	w.isolate("eu")
	w.isolate("us")
	var both sync.WaitGroup
	for _, by := range []string{"us", "ap"} {
		both.Go(func() {
			if code, out, err := takeOver(by); code != exitOK || !strings.Contains(out, "12  moved") {
				t.Errorf("taken over by %s: %d %s%s", by, code, out, err)
			}
		})
	}
	both.Wait()
	const cancel, confirm = "/cancel", "/fulfilments/f1/confirm"
	body := map[string]string{cancel: `{"reason":{"code":"customer_request"}}`, confirm: `{"outcome":"accepted"}`}
	for i, id := range c.orders {
		for n, region := range w.names { // each order is cancelled in one region and confirmed in the others
			action := confirm
			if i%3 == n {
				action = cancel
			}
			send(region, "/v1/orders/"+id+action, region+action, body[action])
		}
	}
	w.heal()
	w.reunited()
	w.settled([]*roamer{c})
	w.quiet()
	w.checkAll(c)
	for _, a := range sent { // also what was refused in the end has its first answer
		for _, region := range w.names {
			if status, h, answer, err := c.post(region, a.path, a.key, a.body); err != nil || status >= http.StatusBadRequest || h.Get("Idempotent-Replayed") != "true" {
				t.Errorf("%s %s was acknowledged, and repeated in region %s answered %d %s: %v", a.path, a.key, region, status, answer, err)
			}
		}
	}

	list := func(region string, flags ...string) []readapi.Conflict {
		t.Helper()
		var page readapi.ConflictList
		out := mustCommand(t, append([]string{"conflicts", "--json", "--server", w.servers[region].url()}, flags...)...)
		check(t, json.Unmarshal([]byte(out), &page))
		return page.Conflicts
	}
	open := list("us")
	if len(open) == 0 {
		t.Fatal("there are no conflicts")
	}
	for _, region := range []string{"eu", "ap"} {
		if diff := cmp.Diff(open, list(region)); diff != "" {
			t.Errorf("region %s lists other conflicts than us:\n%s", region, diff)
		}
	}
	t.Logf("%d conflicts:\n%s", len(open), mustCommand(t, "conflicts", "--server", w.servers["us"].url()))
	for _, o := range open {
		mustCommand(t, "conflict", "settle", o.Order.String(), o.ID, "--code", "called", "--text", "the customer was asked", "--server", w.servers["ap"].url())
	}
	first := open[0]
	for _, again := range []string{first.ID, "c99"} {
		if code, _, err := command(t, "conflict", "settle", first.Number, again, "--code", "again", "--server", w.servers["ap"].url()); code != exitRefused && code != exitNotFound {
			t.Errorf("conflict %s is settled with %d %s", again, code, err)
		}
	}
	w.quiet()
	for _, region := range w.names {
		if left := list(region); len(left) > 0 {
			t.Errorf("region %s still lists %+v", region, left)
		}
		if all := list(region, "--all"); len(all) != len(open) {
			t.Errorf("region %s lists %d conflicts, settled or not", region, len(all))
		}
	}
	c.http.CloseIdleConnections()
	w.stop()
	w.equal()
	w.reconciled()
}

// reconciled checks that the stopped regions have kept that they have looked at all that the others have.
func (w *regionsWorld) reconciled() {
	w.t.Helper()
	newest := make(map[uuid.UUID]eventstore.Position)
	kept := make(map[string]map[uuid.UUID]struct{ Position eventstore.Position })
	for _, region := range w.names {
		ledger, err := pebblestore.Open(w.servers[region].data, &pebblestore.Config{ReadOnly: true, Logger: quiet})
		check(w.t, err)
		for e, err := range ledger.ReadAll(w.t.Context(), 0, eventstore.Filter{Prefixes: []string{domain.StreamPrefix}}) {
			check(w.t, err)
			newest[w.ledger(region)] = e.Position
		}
		for e, err := range ledger.ReadStream(w.t.Context(), commands.ReconcilerStream, eventstore.End, eventstore.Backward) {
			check(w.t, err)
			passed := make(map[uuid.UUID]struct{ Position eventstore.Position })
			check(w.t, json.Unmarshal(e.Data, &passed))
			kept[region] = passed
			break
		}
		check(w.t, ledger.Close())
	}
	for _, region := range w.names {
		for ledger, position := range newest {
			if got := kept[region][ledger].Position; got < position && ledger != w.ledger(region) {
				w.t.Errorf("region %s has kept that ledger %s was reconciled up to %d, and it ends at %d", region, ledger, got, position)
			}
		}
	}
}

// checkAll checks that every region shows every order once, and all regions show the same.
func (w *regionsWorld) checkAll(clients ...*roamer) {
	w.t.Helper()
	orders := 0
	for _, c := range clients {
		orders += len(c.orders)
	}
	var first map[string]string
	for _, region := range w.names {
		shown := make(map[string]string)
		w.eachOrder(region, func(o readapi.OrderSummary) {
			if shown[o.ID.String()] != "" {
				w.t.Errorf("region %s shows order %s twice", region, o.ID)
			}
			shown[o.ID.String()] = fmt.Sprintf("%s, revision %d of ledger %s", o.Status, o.Revision, o.Source)
		})
		if first == nil {
			first = shown
		}
		if diff := cmp.Diff(first, shown); diff != "" || len(shown) != orders {
			w.t.Errorf("region %s shows %d of %d orders, and otherwise than region %s:\n%s", region, len(shown), orders, w.names[0], diff)
		}
	}
}
