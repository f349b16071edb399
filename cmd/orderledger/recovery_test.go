package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// TestRecovery kills the region that takes orders, again and again, and measures what is missing elsewhere of what it has
// acknowledged, and how long it takes until another region goes on with its orders. What was acknowledged as remote
// is never missing. What was missing is there when the region is back.
func TestRecovery(t *testing.T) {
	rounds := 2
	switch {
	case full:
		rounds = 20
	case raceEnabled:
		rounds = 1
	}
	random := seeded(t)
	w := newRegionsWorld(t, "eu", "us", "ap")
	w.start()
	clients := make([]*roamer, 6)
	for i := range clients {
		clients[i] = &roamer{
			w: w, name: fmt.Sprintf("client-%d", i), random: random, newest: make(map[uuid.UUID]eventstore.Mark),
			http: &http.Client{Transport: &http.Transport{}, Timeout: 15 * time.Second},
		}
	}
	for round := range rounds {
		w.recover(t, clients, fmt.Sprint(round), time.Duration(200+random.IntN(800))*time.Millisecond)
	}
	w.checkAll(clients...)
	w.stop()
	w.equal()
}

// acknowledged is an order whose submission was answered.
type acknowledged struct {
	location   string
	durability string
	mark       eventstore.Mark
	at         time.Time // when it was sent
}

// recover lets clients submit orders to a region, kills it after a while, lets another one take over, and brings it back.
func (w *regionsWorld) recover(t *testing.T, clients []*roamer, round string, after time.Duration) {
	const dead, heir = "eu", "us"
	var mu sync.Mutex
	var all []acknowledged
	var open []string // keys of submissions that were not answered
	var work sync.WaitGroup
	for i, c := range clients {
		durability := []string{"region", "remote"}[i%2]
		work.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("%s-%s-%d", c.name, round, n)
				asked := time.Now()
				status, h, _, err := c.postTo(w.servers[dead].url(), "/v1/orders", key, plainOrder, http.Header{"Orderledger-Durability": {durability}})
				mu.Lock()
				if err != nil || status != http.StatusCreated { // it is dead
					open = append(open, key)
					mu.Unlock()
					return
				}
				mark, err := eventstore.ParseMark(h.Get("Orderledger-Mark"))
				if err != nil {
					t.Error(err)
				}
				all = append(all, acknowledged{h.Get("Location"), h.Get("Orderledger-Durability"), mark, asked})
				mu.Unlock()
				c.note(h)
				c.orders = append(c.orders, orderOf(h))
			}
		})
	}
	<-time.After(after)
	w.servers[dead].kill()
	killed := time.Now()
	work.Wait()
	for _, c := range clients {
		c.http.CloseIdleConnections()
	}

	var sum movedSum
	check(t, json.Unmarshal([]byte(mustCommand(t, "region", "takeover", "--of", dead, "--by", heir, "--server", w.servers[heir].url(), "--json")), &sum))
	took := time.Since(killed)
	there := slices.IndexFunc(all, func(a acknowledged) bool { return a.mark.Position <= sum.Known.Position })
	status, _, answer, err := clients[0].post(heir, all[there].location+"/hold", "after-"+round, look)
	if err != nil || status != http.StatusOK {
		t.Fatalf("after the takeover, a command is answered %d %s: %v", status, answer, err)
	}
	recovered := time.Since(killed)

	known := max(w.mirrorOf(heir, dead), w.mirrorOf("ap", dead))
	missing, total := make(map[string]int), make(map[string]int)
	var oldest time.Duration
	var lost []acknowledged
	for _, a := range all {
		total[a.durability]++
		if a.mark.Position > known {
			missing[a.durability]++
			oldest = max(oldest, killed.Sub(a.at))
			lost = append(lost, a)
		}
	}
	if missing["remote"] > 0 {
		t.Errorf("%d orders were acknowledged as remote, and no other region has them", missing["remote"])
	}
	t.Logf("round %s: %d orders acknowledged as region, %d of them missing elsewhere, the oldest sent %v before the kill; %d as remote, %d missing; %d taken over until %v, and a command on one of them taken until %v after the kill",
		round, total["region"], missing["region"], oldest.Round(time.Millisecond), total["remote"], missing["remote"], sum.Orders["moved"],
		took.Round(time.Millisecond), recovered.Round(time.Millisecond))

	w.servers[dead].start()
	w.asksFirst(clients[0], dead, heir, all[there].location+"/hold", "gate-"+round)
	w.reunited()
	for _, key := range open { // it was taken, or not
		status, h, answer, err := clients[0].post("ap", "/v1/orders", key, plainOrder)
		if err != nil || status != http.StatusCreated {
			t.Fatalf("%s is answered %d %s: %v", key, status, answer, err)
		}
		clients[0].note(h)
		clients[0].orders = append(clients[0].orders, orderOf(h))
	}
	w.settled(clients)
	w.quiet()
	for _, a := range lost {
		for _, region := range w.names {
			if status, _, answer, err := clients[0].post(region, a.location+"/hold", "back-"+round, look); err != nil || status != http.StatusOK {
				t.Errorf("%s, which was missing, is held in region %s with %d %s: %v", a.location, region, status, answer, err)
			}
		}
	}
	mustCommand(t, "region", "return", "--of", dead, "--from", heir, "--server", w.servers["ap"].url())
	w.quiet()
	clients[0].http.CloseIdleConnections()
}

// asksFirst sends a command to a region that starts, on an order that was taken over from it, until it is answered: by
// the order's new home, and never by the region itself, which knows nothing of it yet.
func (w *regionsWorld) asksFirst(c *roamer, starting, home, path, key string) {
	w.t.Helper()
	if !poll(func() bool {
		status, h, answer, err := c.post(starting, path, key, look)
		if err != nil || status >= http.StatusInternalServerError {
			return false
		}
		mark, err := eventstore.ParseMark(h.Get("Orderledger-Mark"))
		if status != http.StatusOK || err != nil || mark.Ledger != w.ledger(home) {
			w.t.Errorf("region %s, which has just started, answers %d with the mark %v and not that of region %s: %s", starting, status, mark, home, answer)
		}
		return true
	}) {
		w.t.Errorf("region %s does not answer", starting)
	}
}

// TestARegionStartsAlone starts one region of three: it takes new orders at once, and those that it has when it has waited
// for the others long enough.
func TestARegionStartsAlone(t *testing.T) {
	t.Parallel() // it waits most of the time
	w := newRegionsWorld(t, "eu", "us", "ap")
	w.start()
	c := &roamer{
		w: w, name: "client", random: seeded(t), newest: make(map[uuid.UUID]eventstore.Mark),
		http: &http.Client{Transport: &http.Transport{}, Timeout: 15 * time.Second},
	}
	submit := func(key string) string {
		t.Helper()
		status, h, answer, err := c.post("eu", "/v1/orders", key, plainOrder)
		if err != nil || status != http.StatusCreated {
			t.Fatalf("%s is answered %d %s: %v", key, status, answer, err)
		}
		return h.Get("Location") + "/hold"
	}
	before := submit("before")
	w.stop()
	c.http.CloseIdleConnections()
	w.servers["eu"].start()
	w.servers["eu"].ready()
	begun := time.Now()
	for _, path := range []string{before, submit("after")} {
		if status, h, answer, err := c.post("eu", path, "at-once", look); err != nil || status != http.StatusServiceUnavailable ||
			!strings.Contains(string(answer), `"asking_peers"`) || h.Get("Retry-After") != "1" {
			t.Errorf("a command on an order is answered %d %s with Retry-After %q: %v", status, answer, h.Get("Retry-After"), err)
		}
	}
	if !poll(func() bool {
		status, _, _, err := c.post("eu", before, "at-once", look)
		return err == nil && status == http.StatusOK
	}) {
		t.Error("the region takes no commands")
	}
	if took := time.Since(begun); took < askTimeout-2*time.Second || took > askTimeout+5*time.Second {
		t.Errorf("it has waited %v for the others", took)
	}
	c.http.CloseIdleConnections()
	w.servers["eu"].stop()
}

// look is the body of a hold.
const look = `{"reason":{"code":"look"}}`

// orderOf is the order that a submission's answer tells.
func orderOf(h http.Header) string { return strings.TrimPrefix(h.Get("Location"), "/v1/orders/") }

// mirrorOf is how far a region's mirror of another one is, once nothing comes any more.
func (w *regionsWorld) mirrorOf(region, of string) (position eventstore.Position) {
	w.t.Helper()
	c := &client{base: w.servers[region].url(), businessUnit: "main", http: http.DefaultClient}
	for since := time.Now(); time.Since(since) < 300*time.Millisecond; <-time.After(20 * time.Millisecond) {
		list, err := c.regions(w.t.Context())
		check(w.t, err)
		for _, r := range list {
			if r.Name == of && r.Mirror != nil && r.Mirror.Position != position {
				position, since = r.Mirror.Position, time.Now()
			}
		}
	}
	return position
}
