package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/feed"
	"github.com/orderledger/orderledger/internal/faultnet"
	"github.com/orderledger/orderledger/projections"
	"github.com/orderledger/orderledger/readapi"
)

// TestNothingIsLostOrDoubledWhenLinksAreCut runs three regions, each a process, and cuts what is between them and what is between
// them and their clients, one way or both, at random bytes. Clients send the same again to another region until
// somebody answers. Afterwards every acknowledged order is there once, in every region; every acknowledged command stands in
// the history that counts or in its conflicts, and whoever repeats it gets its answer; what was refused has not been
// done; and all regions have the same rows, byte for byte.
func TestNothingIsLostOrDoubledWhenLinksAreCut(t *testing.T) {
	cuts := 100
	switch {
	case full:
		cuts = 1_000
	case raceEnabled:
		cuts = 20
	}
	random := seeded(t)
	w := newRegionsWorld(t, "eu", "us", "ap")
	w.start()
	doors := make(map[string]*faultnet.Proxy)
	for name, s := range w.servers {
		doors[name] = faultnet.New(t, s.address)
	}
	clients := make([]*careful, 6)
	var over atomic.Bool
	var work sync.WaitGroup
	for i := range clients {
		c := &careful{
			roamer: &roamer{
				w: w, name: fmt.Sprintf("client-%d", i), random: rand.New(rand.NewPCG(random.Uint64(), 0)),
				http: &http.Client{Transport: &http.Transport{}, Timeout: 15 * time.Second}, newest: make(map[uuid.UUID]eventstore.Mark),
			},
			doors: doors,
		}
		clients[i] = c
		work.Go(func() {
			for !over.Load() {
				c.goOn()
			}
		})
	}
	begun := time.Now()
	for n := range cuts {
		w.cut(random, doors)
		if n%50 == 25 {
			s := w.servers[w.names[random.IntN(len(w.names))]]
			s.kill()
			<-time.After(time.Duration(random.IntN(500)) * time.Millisecond)
			s.start()
		}
		if n%20 == 19 {
			w.reunited()
		}
	}
	over.Store(true)
	work.Wait()
	t.Logf("%d cuts in %v", cuts, time.Since(begun).Round(time.Millisecond))
	w.reunited()
	var roamers []*roamer
	for _, c := range clients {
		roamers = append(roamers, c.roamer)
	}
	w.settled(roamers)
	w.quiet()
	w.checkOrders(roamers)
	histories := w.histories(t)
	for _, c := range clients {
		c.check(histories)
		c.http.CloseIdleConnections()
	}
	w.stop()
	w.equal()
}

// cut cuts something at a random byte, and heals it a while later.
func (w *regionsWorld) cut(random *rand.Rand, doors map[string]*faultnet.Proxy) {
	order := random.Perm(len(w.names))
	a, b := w.names[order[0]], w.names[order[1]]
	var proxies []*faultnet.Proxy
	switch random.IntN(4) {
	case 0: // one way
		proxies = w.links[link{a, b}]
	case 1: // both ways
		proxies = append(append(proxies, w.links[link{a, b}]...), w.links[link{b, a}]...)
	case 2: // from the clients
		proxies = append(proxies, doors[a])
	case 3: // everything
		proxies = append(proxies, doors[a])
		for _, other := range w.names {
			proxies = append(append(proxies, w.links[link{a, other}]...), w.links[link{other, a}]...)
		}
	}
	bytes := random.IntN(1 << random.IntN(15))
	for _, p := range proxies {
		p.DownAfter(bytes)
	}
	soon := time.Now().Add(100 * time.Millisecond) // it may be that nothing comes
	for _, p := range proxies {
		for !p.IsDown() && time.Now().Before(soon) {
			<-time.After(time.Millisecond)
		}
		p.Down()
	}
	<-time.After(time.Duration(random.IntN(150)) * time.Millisecond)
	for _, p := range proxies {
		p.Up()
	}
	<-time.After(time.Duration(random.IntN(100)) * time.Millisecond)
}

// reunited waits until every region follows all others.
func (w *regionsWorld) reunited() {
	w.t.Helper()
	for _, region := range w.names {
		w.servers[region].ready()
		if !poll(func() bool {
			c := &client{base: w.servers[region].url(), businessUnit: "main", http: http.DefaultClient}
			list, err := c.regions(w.t.Context())
			if err != nil {
				return false
			}
			for _, r := range list {
				if !r.Here && (r.Mirror == nil || r.Mirror.Problem != "") {
					return false
				}
			}
			return true
		}) {
			w.t.Fatalf("region %s does not follow all others", region)
		}
	}
}

// quiet waits until some regions, or all, do nothing any more: what was told to others may have led to something there.
func (w *regionsWorld) quiet(regions ...string) {
	w.t.Helper()
	if len(regions) == 0 {
		regions = w.names
	}
	var before string
	since := time.Now()
	if !pollFor(settleTime(), func() bool {
		var now strings.Builder
		for _, region := range regions {
			c := &client{base: w.servers[region].url(), businessUnit: "main", http: http.DefaultClient}
			list, err := c.regions(w.t.Context())
			if err != nil {
				return false
			}
			for _, r := range list {
				if slices.Contains(regions, r.Name) && (r.Lag == nil || r.Lag.Events > 0 || r.Mirror != nil && r.Mirror.Events > 0) {
					since = time.Now()
				}
				if r.Passed != nil {
					fmt.Fprintln(&now, region, r.Name, *r.Passed)
				}
			}
		}
		if text := now.String(); text != before {
			before, since = text, time.Now()
		}
		return time.Since(since) > time.Second
	}) {
		w.t.Fatalf("the regions do not come to rest:\n%s", before)
	}
}

// settleTime is how long regions may take until all have all.
func settleTime() time.Duration {
	if full {
		return 10 * time.Minute
	}
	return 2 * time.Minute
}

// equal checks that the stopped regions have the same rows, that these are what the ledgers add up to, and that the chains hold.
func (w *regionsWorld) equal() {
	w.t.Helper()
	d := distributed{t: w.t, regions: w.servers}
	hashes := make(map[string]bool)
	for i, region := range w.names {
		mustCommand(w.t, "verify", "--data", w.servers[region].data)
		if i > 0 {
			d.same(w.names[0], region)
		}
		views, err := projections.Open(w.t.Context(), filepath.Join(w.servers[region].data, "views.db"), nil)
		check(w.t, err)
		hash, rows, err := views.Hash(w.t.Context())
		check(w.t, errors.Join(err, views.Close()))
		w.t.Logf("region %s: %d rows with the hash %x", region, rows, hash)
		hashes[string(hash[:])] = true
	}
	if len(hashes) != 1 {
		w.t.Error("the regions have different rows")
	}
}

// A careful client sends a request to one region after the other until it is answered, and remembers all answers.
type careful struct {
	*roamer
	doors map[string]*faultnet.Proxy
	asked []*asked
	open  []*carefulOrder
	count int
}

// A carefulOrder is an order as its client knows it.
type carefulOrder struct {
	id     string
	status domain.Status
}

// asked is a request that was answered.
type asked struct {
	path, key, body string
	order           uuid.UUID
	answers         [][]byte // that are different from each other, the first one first; none: it was refused
	refused         []byte
}

func (a *asked) command() uuid.UUID { return domain.CommandID(a.order, localSubmitter, a.key) }

// goOn submits an order, or does something with an earlier one.
func (c *careful) goOn() {
	c.count++
	key := fmt.Sprintf("%s-%d", c.name, c.count)
	if len(c.open) == 0 || c.random.IntN(3) == 0 {
		a := &asked{path: "/v1/orders", key: key, body: plainOrder, order: domain.OrderID("main", localSubmitter, key)}
		if status := c.ask(a); len(a.answers) > 0 {
			c.orders = append(c.orders, a.order.String())
			c.open = append(c.open, &carefulOrder{a.order.String(), status})
		} else {
			c.w.t.Errorf("order %s was taken by nobody: %s", key, a.refused)
		}
		return
	}
	n := max(0, len(c.open)-1-c.random.IntN(8))
	o := c.open[n]
	action, body := report(o.status)
	switch c.random.IntN(20) {
	case 0:
		action, body = "/cancel", `{"reason":{"code":"customer_request"}}`
	case 1:
		action, body = "/hold", `{"reason":{"code":"look"}}`
	}
	if action == "" {
		c.open = append(c.open[:n], c.open[n+1:]...)
		return
	}
	a := &asked{path: "/v1/orders/" + o.id + action, key: key, body: body, order: uuid.MustParse(o.id)}
	if status := c.ask(a); len(a.answers) > 0 {
		o.status = status
	} else {
		c.open = append(c.open[:n], c.open[n+1:]...)
	}
}

// ask sends a request until it is answered, and in a quarter of cases once more.
func (c *careful) ask(a *asked) domain.Status {
	c.asked = append(c.asked, a)
	again := c.random.IntN(4) == 0
	last := make(map[string]string) // what each region has said
	for range 600 {
		region := c.w.names[c.random.IntN(len(c.w.names))]
		status, header, answer, err := c.postTo("http://"+c.doors[region].Addr(), a.path, a.key, a.body, http.Header{})
		switch {
		case err != nil || status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
			last[region] = fmt.Sprintf("%d %s %v", status, answer, err)
			<-time.After(time.Duration(5+c.random.IntN(20)) * time.Millisecond)
			continue
		case status >= http.StatusBadRequest:
			if status != http.StatusConflict {
				c.w.t.Errorf("%s %s was answered %d by region %s: %s", a.path, a.key, status, region, answer)
			}
			a.refused = answer
			return ""
		}
		c.note(header)
		a.answered(answer)
		if again {
			again = false
			c.repeated++
			continue
		}
		var told commands.Answer
		if err := json.Unmarshal(a.answers[0], &told); err != nil || told.ID != a.order.String() {
			c.w.t.Errorf("%s %s was answered %s: %v", a.path, a.key, answer, err)
		}
		return told.Status
	}
	c.w.t.Errorf("%s %s was answered by nobody: %q", a.path, a.key, last)
	return ""
}

func (a *asked) answered(answer []byte) {
	for _, known := range a.answers {
		if bytes.Equal(known, answer) {
			return
		}
	}
	a.answers = append(a.answers, answer)
}

// histories are the orders of several ledgers.
type histories struct {
	counts  map[uuid.UUID]uuid.UUID                // the ledger that counts, by order
	streams map[uuid.UUID]map[uuid.UUID][]recorded // by order and ledger
}

// recorded is what is looked at of an event.
type recorded struct {
	command  uuid.UUID
	conflict uuid.UUID // the command that it tells of
}

// ledger is the id of a region's ledger.
func (w *regionsWorld) ledger(region string) uuid.UUID { return uuid.NewSHA1(uuid.Nil, []byte(region)) }

// events reads the orders' events in a region's ledger, as another process may while it is used.
func (w *regionsWorld) events(region string) (all []eventstore.Recorded) {
	w.t.Helper()
	source, err := feed.NewClient(feed.ClientConfig{URL: w.servers[region].url() + feedPath, Ledger: w.ledger(region), Logger: quiet})
	check(w.t, err)
	for e, err := range source.ReadAll(w.t.Context(), 0, eventstore.Filter{Prefixes: []string{domain.StreamPrefix}}) {
		check(w.t, err)
		all = append(all, e)
	}
	check(w.t, source.Close())
	return all
}

// histories reads all ledgers.
func (w *regionsWorld) histories(t *testing.T) histories {
	t.Helper()
	h := histories{counts: make(map[uuid.UUID]uuid.UUID), streams: make(map[uuid.UUID]map[uuid.UUID][]recorded)}
	w.eachOrder(w.names[0], func(o readapi.OrderSummary) { h.counts[o.ID] = o.Source })
	twice := 0
	for _, region := range w.names {
		ledger := w.ledger(region)
		seen := make(map[uuid.UUID]bool)
		for _, e := range w.events(region) {
			if seen[e.ID] {
				t.Errorf("region %s has event %s twice", region, e.ID)
			}
			seen[e.ID] = true
			order, _ := domain.StreamOrder(e.Stream)
			meta, err := domain.DecodeMeta(e.Metadata)
			check(t, err)
			event, err := domain.DecodeEvent(e.Type, e.Data)
			check(t, err)
			r := recorded{command: meta.Command}
			if c, ok := event.(*domain.ConflictFound); ok && c.Conflict.Command != "" {
				r.conflict = uuid.MustParse(c.Conflict.Command)
			}
			if h.streams[order] == nil {
				h.streams[order] = make(map[uuid.UUID][]recorded)
			} else if e.Revision == 0 {
				twice++
			}
			h.streams[order][ledger] = append(h.streams[order][ledger], r)
		}
	}
	t.Logf("%d orders, %d of them in a second or third ledger", len(h.streams), twice)
	if len(h.streams) != len(h.counts) {
		t.Errorf("the ledgers have %d orders, and %d are shown", len(h.streams), len(h.counts))
	}
	return h
}

// did reports whether a command has led to something in a history, and whether that was in one go.
func did(history []recorded, command uuid.UUID) (done, once bool) {
	runs := 0
	for i, r := range history {
		if r.command == command && (i == 0 || history[i-1].command != command) {
			runs++
		}
	}
	return runs > 0, runs <= 1
}

// check compares what the client was told with what the ledgers say, and with what every region answers now.
func (c *careful) check(h histories) {
	conflicts, different, refused := 0, 0, 0
	for _, a := range c.asked {
		copies := h.streams[a.order]
		counts := copies[h.counts[a.order]]
		done, once := did(counts, a.command())
		if !once {
			c.w.t.Errorf("%s %s was done twice", a.path, a.key)
		}
		if len(a.answers) == 0 {
			refused++
			if done && len(copies) == 1 {
				c.w.t.Errorf("%s %s was refused with %s, and has been done", a.path, a.key, a.refused)
			}
			continue
		}
		if !done {
			known := false
			for _, r := range counts {
				known = known || r.conflict == a.command()
			}
			if !known {
				c.w.t.Errorf("%s %s was acknowledged with %s, and is neither in the history that counts nor in its conflicts", a.path, a.key, a.answers[0])
			}
			conflicts++
		}
		first := len(a.answers)
		for _, region := range c.w.names {
			status, header, answer, err := c.post(region, a.path, a.key, a.body)
			if err != nil || status >= http.StatusBadRequest || header.Get("Idempotent-Replayed") != "true" {
				c.w.t.Errorf("%s %s was acknowledged, and repeated in region %s answered %d %s: %v", a.path, a.key, region, status, answer, err)
				continue
			}
			a.answered(answer)
		}
		if len(a.answers) > 1 {
			different++
			if len(copies) == 1 {
				c.w.t.Errorf("%s %s was answered in %d ways, %d of them while links were cut:\n%s\n%s", a.path, a.key, len(a.answers), first, a.answers[0], a.answers[1])
			}
		}
	}
	c.w.t.Logf("%s: %d requests, %d refused, %d in conflicts, %d with an answer of each ledger", c.name, len(c.asked), refused, conflicts, different)
}
