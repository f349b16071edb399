package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
	"github.com/orderledger/orderledger/internal/faultnet"
	"github.com/orderledger/orderledger/readapi"
)

// TestRegionsAgree runs three regions, each a process with a ledger, a bus and read models of its own, while links
// between them are cut, stand still and come back, and processes are killed. Clients send every command to whichever
// region they come to, and again to another one when it is not answered. Afterwards every region has the same rows, byte
// for byte, they are what the ledgers add up to, and every acknowledged order is there once.
func TestRegionsAgree(t *testing.T) {
	orders := 150
	if full {
		orders = 3_000
	}
	random := seeded(t)
	w := newRegionsWorld(t, "eu", "us", "ap")
	w.start()
	trouble := []func(){
		func() { w.down("eu", "us") },
		func() { w.heal(); w.servers["us"].kill() },
		func() { w.servers["us"].start(); w.isolate("ap") },
		func() { w.heal(); w.freeze("us", "eu") },
		func() { w.heal(); w.servers["eu"].kill() },
		func() { w.servers["eu"].start(); w.buses["us"].Restart(t.Context(), 300*time.Millisecond) },
		func() { w.isolate("eu") },
		func() { w.heal(); w.servers["ap"].kill() },
		func() { w.servers["ap"].start() },
	}
	clients := w.load(orders, random, trouble)
	w.heal()
	w.settled(clients)
	w.checkOrders(clients)
	w.stop()
	for _, region := range w.names {
		mustCommand(t, "verify", "--data", w.servers[region].data)
	}
	d := distributed{t: t, regions: w.servers}
	d.same("eu", "us")
	d.same("eu", "ap")
}

// A regionsWorld is regions as processes, with a network between them that fails.
type regionsWorld struct {
	t       *testing.T
	names   []string
	servers map[string]*server
	buses   map[string]*servicebustest.Server
	files   map[string]string // the topology as each region sees it

	links map[link][]*faultnet.Proxy // the API and the bus of one region as another one reaches them
}

type link struct{ from, to string }

func newRegionsWorld(t *testing.T, names ...string) *regionsWorld {
	t.Helper()
	w := &regionsWorld{
		t: t, names: names, servers: make(map[string]*server), buses: make(map[string]*servicebustest.Server),
		files: make(map[string]string), links: make(map[link][]*faultnet.Proxy),
	}
	for _, name := range names {
		w.servers[name] = newServer(t)
		w.buses[name] = servicebustest.New(t, nil)
		check(t, localCommand{Regions: names}.furnish(w.buses[name]))
	}
	secret := filepath.Join(t.TempDir(), "secret")
	check(t, os.WriteFile(secret, []byte(strings.Repeat("5e", 32)), 0o600))
	for _, from := range names {
		for _, to := range names {
			if from != to {
				w.links[link{from, to}] = []*faultnet.Proxy{faultnet.New(t, w.servers[to].address), faultnet.New(t, w.buses[to].Addr())}
			}
		}
		w.files[from] = w.topology(from)
		w.servers[from].flags = []string{"--topology", w.files[from], "--region", from, "--shared-secret", secret}
	}
	return w
}

// topology writes the file that names all regions, with the addresses under which one of them reaches the others, or
// under which everybody does.
func (w *regionsWorld) topology(from string) string {
	w.t.Helper()
	var file strings.Builder
	file.WriteString("regions:\n")
	for i, to := range w.names {
		api, bus := w.servers[to].address, w.buses[to].Addr()
		if links := w.links[link{from, to}]; links != nil {
			api, bus = links[0].Addr(), links[1].Addr()
		}
		fmt.Fprintf(&file, "- {name: %s, latitude: %d, longitude: %d, countries: [%s], ledger: %s, api: 'http://%s', bus: 'servicebus://local:local@%s/?emulator=true'}\n",
			to, 10*i, 20*i, worldRegions[to].country, w.ledger(to), api, bus)
	}
	path := filepath.Join(w.t.TempDir(), "topology.yaml")
	check(w.t, os.WriteFile(path, []byte(file.String()), 0o600))
	return path
}

// front is the file for who stands in front of the regions.
func (w *regionsWorld) front() string { return w.topology("") }

func (w *regionsWorld) start() {
	w.t.Helper()
	for _, s := range w.servers {
		s.start()
	}
	for _, s := range w.servers {
		s.ready()
	}
}

func (w *regionsWorld) stop() {
	w.t.Helper()
	for _, s := range w.servers {
		s.stop()
	}
}

// down cuts what leads from one region to another.
func (w *regionsWorld) down(from, to string) {
	for _, p := range w.links[link{from, to}] {
		p.Down()
	}
}

// freeze lets what leads from one region to another stand still.
func (w *regionsWorld) freeze(from, to string) {
	for _, p := range w.links[link{from, to}] {
		p.Freeze()
	}
}

// isolate cuts a region off from all others. Clients reach it.
func (w *regionsWorld) isolate(region string) {
	for _, other := range w.names {
		w.down(region, other)
		w.down(other, region)
	}
}

// heal makes the network well.
func (w *regionsWorld) heal() {
	for _, proxies := range w.links {
		for _, p := range proxies {
			p.Thaw()
			p.Up()
		}
	}
}

// load makes orders and takes them through their lives, with all the trouble spread over it.
func (w *regionsWorld) load(orders int, random *rand.Rand, trouble []func()) []*roamer {
	w.t.Helper()
	jobs, done := make(chan int), make(chan struct{}, orders)
	clients := make([]*roamer, 8)
	var work sync.WaitGroup
	for i := range clients {
		clients[i] = &roamer{
			w: w, name: fmt.Sprintf("roamer-%d", i), random: rand.New(rand.NewPCG(random.Uint64(), 0)),
			http: &http.Client{Transport: &http.Transport{}, Timeout: 15 * time.Second}, newest: make(map[uuid.UUID]eventstore.Mark),
		}
		work.Go(func() {
			for n := range jobs {
				clients[i].live(fmt.Sprintf("%s-%d", clients[i].name, n))
				done <- struct{}{}
			}
		})
	}
	work.Go(func() {
		defer close(jobs)
		for i := range orders {
			jobs <- i
		}
	})
	each := max(orders/(len(trouble)+1), 1)
	for i := range orders {
		<-done
		if n := i / each; i%each == each-1 && n < len(trouble) {
			trouble[n]()
		}
	}
	work.Wait()
	for _, c := range clients {
		c.http.CloseIdleConnections()
	}
	return clients
}

// A roamer sends commands to whichever region it comes to.
type roamer struct {
	w      *regionsWorld
	name   string
	random *rand.Rand
	http   *http.Client

	orders   []string                      // ids of those that were acknowledged
	newest   map[uuid.UUID]eventstore.Mark // by ledger
	repeated int
}

// live submits an order and does with it what sites do, until it is closed or nobody can go on with it.
func (r *roamer) live(key string) {
	a, ok := r.do("/v1/orders", key, plainOrder)
	if !ok {
		r.w.t.Errorf("order %s was taken by nobody", key)
		return
	}
	r.orders = append(r.orders, a.ID)
	for step := 1; ; step++ {
		action, body := report(a.Status)
		if action == "" || r.random.IntN(4) == 0 {
			return
		}
		// Where a region is cut off, an order may have been made twice: each of the two goes on by itself.
		if a, ok = r.do("/v1/orders/"+a.ID+action, fmt.Sprintf("%s-%d", key, step), body); !ok {
			return
		}
	}
}

// do sends a command until somebody answers it, and in a third of cases once more.
func (r *roamer) do(path, key, body string) (commands.Answer, bool) {
	var first []byte
	for range 300 {
		region := r.w.names[r.random.IntN(len(r.w.names))]
		status, header, answer, err := r.post(region, path, key, body)
		switch {
		case err != nil || status >= http.StatusInternalServerError:
			<-time.After(time.Duration(10+r.random.IntN(40)) * time.Millisecond)
			continue
		case status >= http.StatusBadRequest:
			if path == "/v1/orders" {
				r.w.t.Errorf("%s was answered %d by region %s: %s", key, status, region, answer)
			}
			return commands.Answer{}, false
		}
		r.note(header)
		if first == nil && r.random.IntN(3) == 0 {
			first = answer
			r.repeated++
			continue
		}
		if first != nil && path == "/v1/orders" && !bytes.Equal(first, answer) {
			r.w.t.Errorf("%s was answered\n%s\nand then by region %s\n%s", key, first, region, answer)
		}
		var a commands.Answer
		if err := json.Unmarshal(answer, &a); err != nil {
			r.w.t.Errorf("%s was answered %s: %v", key, answer, err)
			return a, false
		}
		return a, true
	}
	return commands.Answer{}, false
}

func (r *roamer) post(region, path, key, body string) (int, http.Header, []byte, error) {
	return r.postTo(r.w.servers[region].url(), path, key, body, http.Header{})
}

func (r *roamer) postTo(base, path, key, body string, header http.Header) (int, http.Header, []byte, error) {
	q, err := http.NewRequestWithContext(r.w.t.Context(), http.MethodPost, base+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	q.Header = header
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Idempotency-Key", key)
	response, err := r.http.Do(q)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, answer, err
}

func (r *roamer) note(h http.Header) {
	mark, err := eventstore.ParseMark(h.Get("Orderledger-Mark"))
	if err != nil {
		r.w.t.Error(err)
		return
	}
	if mark.Position > r.newest[mark.Ledger].Position {
		r.newest[mark.Ledger] = mark
	}
}

// settled waits until every region shows all that was acknowledged, and follows all others.
func (w *regionsWorld) settled(clients []*roamer) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), settleTime())
	defer cancel()
	for _, region := range w.names {
		w.servers[region].answers()
		c := &client{base: w.servers[region].url(), businessUnit: "main", http: &http.Client{Transport: &http.Transport{}}}
		for _, r := range clients {
			for _, mark := range r.newest {
				check(w.t, w.await(ctx, c, "/v1/orders?limit=1&mark_wait=10s&mark="+url.QueryEscape(mark.String()), func([]byte) bool { return true }))
			}
		}
		check(w.t, w.await(ctx, c, "/v1/regions", func(body []byte) bool {
			var list readapi.RegionList
			check(w.t, json.Unmarshal(body, &list))
			return len(list.Regions) == len(w.names) && !slices.ContainsFunc(list.Regions, func(r readapi.RegionStatus) bool {
				return r.Lag == nil || r.Lag.Events > 0 || !r.Here && (r.Mirror == nil || r.Mirror.Problem != "" || r.Mirror.Events > 0)
			})
		}))
		c.http.CloseIdleConnections()
	}
}

// await asks until an answer is as it should be.
func (w *regionsWorld) await(ctx context.Context, c *client, path string, good func(body []byte) bool) error {
	for {
		var body json.RawMessage
		_, err := c.call(ctx, request{method: http.MethodGet, path: path}, &body)
		if err == nil && good(body) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("asking %s%s: it is still %s", c.base, path, body), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// checkOrders checks that every region has every acknowledged order, and shows it once.
func (w *regionsWorld) checkOrders(clients []*roamer) {
	w.t.Helper()
	want := make(map[string]bool)
	repeated := 0
	for _, r := range clients {
		repeated += r.repeated
		for _, id := range r.orders {
			if want[id] {
				w.t.Errorf("order %s was made under two keys", id)
			}
			want[id] = true
		}
	}
	for _, region := range w.names {
		shown := make(map[string]int)
		sources := make(map[uuid.UUID]int)
		w.eachOrder(region, func(o readapi.OrderSummary) {
			shown[o.ID.String()]++
			sources[o.Source]++
		})
		for id := range want {
			if shown[id] != 1 {
				w.t.Errorf("region %s shows order %s %d times", region, id, shown[id])
			}
		}
		if len(shown) != len(want) {
			w.t.Errorf("region %s shows %d orders, %d were acknowledged", region, len(shown), len(want))
		}
		if len(sources) != len(w.names) {
			w.t.Errorf("region %s shows orders of %d ledgers", region, len(sources))
		}
	}
	w.t.Logf("%d orders, %d commands sent twice", len(want), repeated)
}

// eachOrder lists all orders that a region shows.
func (w *regionsWorld) eachOrder(region string, see func(readapi.OrderSummary)) {
	w.t.Helper()
	c := &client{base: w.servers[region].url(), businessUnit: "main", http: &http.Client{Transport: &http.Transport{}}}
	defer c.http.CloseIdleConnections()
	for cursor := ""; ; {
		var list readapi.OrderList
		_, err := c.call(w.t.Context(), request{method: http.MethodGet, path: "/v1/orders?limit=200&cursor=" + url.QueryEscape(cursor)}, &list)
		check(w.t, err)
		for _, o := range list.Orders {
			see(o)
		}
		if cursor = list.Next; cursor == "" {
			return
		}
	}
}
