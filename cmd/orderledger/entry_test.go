package main

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/realdata"
)

// worldRegions are which regions take the orders of which parts of the world, with a country that the entry knows each
// by.
var worldRegions = map[string]struct {
	country string
	parts   []string
}{
	"am-north": {"US", []string{"West of USA", "US Center", "South of  USA", "East of USA", "Canada"}},
	"am-south": {"BR", []string{"South America", "Central America", "Caribbean"}},
	"eu-west":  {"FR", []string{"Western Europe", "Southern Europe", "North Africa", "West Africa", "East Africa", "Central Africa", "Southern Africa"}},
	"eu-north": {"SE", []string{"Northern Europe", "Eastern Europe"}},
	"ap-south": {"SG", []string{"Southeast Asia", "South Asia", "West Asia"}},
	"ap-east":  {"JP", []string{"Eastern Asia", "Central Asia", "Oceania"}},
}

// TestRealOrdersThroughTheEntry sends a real shop's orders, by the parts of the world that they came from, through the entry
// in front of six regions, 30 % of them again, while one region after another is killed and comes back. Every
// acknowledged order is there afterwards, once, in every region.
func TestRealOrdersThroughTheEntry(t *testing.T) {
	orders := realOrders(t)
	if !full {
		orders = orders[:600]
	}
	random := seeded(t)
	names := []string{"am-north", "am-south", "eu-west", "eu-north", "ap-south", "ap-east"}
	w := newRegionsWorld(t, names...)
	w.start()
	entry := w.entry()
	clients := make([]*roamer, 12)
	var work sync.WaitGroup
	jobs := make(chan realOrder)
	done := make(chan struct{}, len(orders))
	for i := range clients {
		clients[i] = &roamer{
			w: w, name: fmt.Sprintf("client-%d", i), random: rand.New(rand.NewPCG(random.Uint64(), 0)),
			http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 30 * time.Second}, newest: make(map[uuid.UUID]eventstore.Mark),
		}
		work.Go(func() {
			for o := range jobs {
				clients[i].submit(entry, o)
				done <- struct{}{}
			}
		})
	}
	work.Go(func() {
		defer close(jobs)
		for _, o := range orders {
			jobs <- o
		}
	})
	kill := func(name string) func() { return func() { w.servers[name].kill() } }
	again := func(name string) func() { return func() { w.servers[name].start() } }
	trouble := []func(){kill("eu-west"), again("eu-west"), kill("am-south"), again("am-south")}
	each := len(orders) / (len(trouble) + 1)
	begun := time.Now()
	for i := range orders {
		<-done
		if n := i / each; i%each == each-1 && n < len(trouble) {
			trouble[n]()
		}
	}
	work.Wait()
	t.Logf("%d orders in %v", len(orders), time.Since(begun).Round(time.Millisecond))
	for _, c := range clients {
		c.http.CloseIdleConnections()
	}
	begun = time.Now()
	w.settled(clients)
	t.Logf("all regions had all of it %v later", time.Since(begun).Round(time.Millisecond))
	w.checkOrders(clients)
	w.stop()
	d := distributed{t: t, regions: w.servers}
	for _, name := range names {
		mustCommand(t, "verify", "--data", w.servers[name].data)
		if name != names[0] {
			d.same(names[0], name)
		}
	}
}

// A realOrder is what is used of a real one.
type realOrder struct{ id, customer, country, status string }

// realOrders reads a shop's orders, each with the country by which the entry knows where it comes from.
func realOrders(t *testing.T) []realOrder {
	t.Helper()
	f, err := os.Open(realdata.Path(t, "dataco", "dataco_orders.csv.gz"))
	check(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	check(t, err)
	lines := csv.NewReader(z)
	if _, err := lines.Read(); err != nil { // the heads of the columns
		t.Fatal(err)
	}
	countries := make(map[string]string)
	for _, r := range worldRegions {
		for _, part := range r.parts {
			countries[part] = r.country
		}
	}
	var all []realOrder
	for {
		line, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		check(t, err)
		o := realOrder{id: line[0], customer: line[1], status: line[3], country: countries[strings.TrimSpace(line[4])]}
		if o.country == "" {
			t.Fatalf("order %s is from %q", o.id, line[4])
		}
		all = append(all, o)
	}
}

// submit sends an order to the entry until it is taken, and in 30 % of cases again. The same key gets the same order.
func (r *roamer) submit(entry string, o realOrder) {
	body := fmt.Sprintf(`{"currency":"USD","channel":"web","references":[{"kind":"shop","value":%q}],
		"parties":{"buyer":{"identifiers":[{"scheme":"customer","value":%q}],"country":%q}},
		"lines":[{"sku":"ORDER","quantity":"1","price":{"amount":"1"}}]}`, o.id, o.customer, o.country)
	want := ""
	for attempt, repeat := 0, r.random.IntN(10) < 3; attempt < 600; attempt++ {
		status, header, answer, err := r.postTo(entry, "/v1/orders", "shop-"+o.id, body, http.Header{"Orderledger-Country": {o.country}})
		if err != nil || status >= http.StatusInternalServerError {
			<-time.After(50 * time.Millisecond)
			continue
		}
		if status != http.StatusCreated {
			r.w.t.Errorf("order %s was answered %d: %s", o.id, status, answer)
			return
		}
		r.note(header)
		id := strings.TrimPrefix(header.Get("Location"), "/v1/orders/")
		if want != "" && id != want {
			r.w.t.Errorf("order %s is %s, and was %s", o.id, id, want)
		}
		if want == "" {
			r.orders = append(r.orders, id)
		}
		if want = id; !repeat {
			return
		}
		repeat = false
		r.repeated++
	}
	r.w.t.Errorf("order %s was taken by nobody", o.id)
}

// entry starts the entry in front of the regions, and returns its address.
func (w *regionsWorld) entry() string {
	w.t.Helper()
	address := freeAddress(w.t)
	process := exec.Command("orderledger", "edge", "--topology", w.front(), "--listen", address, "--log-level", "error")
	process.Stderr = os.Stderr
	check(w.t, process.Start())
	w.t.Cleanup(func() {
		_ = process.Process.Signal(os.Interrupt)
		if err := process.Wait(); err != nil {
			w.t.Errorf("the entry has ended with %v", err)
		}
	})
	if !poll(func() bool {
		response, err := http.Get("http://" + address + "/edge/healthz")
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
	}) {
		w.t.Fatal("the entry does not answer")
	}
	return "http://" + address
}

// TestAnswersGoOnWhenARegionDies kills the region that takes a client's orders, and measures how long the entry takes to
// answer from another one. What was acknowledged as remote can be read there.
func TestAnswersGoOnWhenARegionDies(t *testing.T) {
	rounds := 2
	if full {
		rounds = 10
	}
	w := newRegionsWorld(t, "eu-west", "eu-north", "am-north")
	w.start()
	entry := w.entry()
	r := &roamer{
		w: w, name: "client", random: seeded(t), newest: make(map[uuid.UUID]eventstore.Mark),
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second},
	}
	header := http.Header{"Orderledger-Country": {"FR"}, "Orderledger-Durability": {"remote"}}
	for round := range rounds {
		var acknowledged []string
		there := 0 // how many were taken by the region that will die: one that has come back gets them little by little
		for i := range 40 {
			status, h, answer, err := r.postTo(entry, "/v1/orders", fmt.Sprintf("%d-%d", round, i), plainOrder, header.Clone())
			if err != nil || status != http.StatusCreated {
				t.Fatalf("%d %s: %v", status, answer, err)
			}
			if h.Get("Orderledger-Durability") != "remote" {
				t.Fatalf("answered by %q, durable in %q", h.Get("Orderledger-Region"), h.Get("Orderledger-Durability"))
			}
			if h.Get("Orderledger-Region") == "eu-west" {
				there++
			}
			acknowledged = append(acknowledged, h.Get("Location"))
		}
		if there == 0 {
			t.Fatal("the nearest region has answered nothing")
		}
		w.servers["eu-west"].kill()
		begun := time.Now()
		status, h, answer, err := r.postTo(entry, "/v1/orders", fmt.Sprintf("%d-after", round), plainOrder, http.Header{"Orderledger-Country": {"FR"}})
		if err != nil || status != http.StatusCreated || h.Get("Orderledger-Region") == "eu-west" {
			t.Fatalf("after the region was killed: %d %s by %q: %v", status, answer, h.Get("Orderledger-Region"), err)
		}
		t.Logf("round %d: region %s answered %v after eu-west was killed", round, h.Get("Orderledger-Region"), time.Since(begun).Round(time.Millisecond))
		for _, location := range acknowledged {
			found := 0
			for _, other := range []string{"eu-north", "am-north"} {
				if response, err := http.Get(w.servers[other].url() + location); err == nil {
					if response.StatusCode == http.StatusOK {
						found++
					}
					check(t, response.Body.Close())
				}
			}
			if found == 0 {
				t.Errorf("order %s was acknowledged as remote, and no region has it", location)
			}
		}
		w.servers["eu-west"].start()
		w.servers["eu-west"].ready()
		if !poll(func() bool { // the entry lets it have requests again
			_, h, _, err := r.postTo(entry, "/v1/orders", fmt.Sprintf("%d-back", round), plainOrder, http.Header{"Orderledger-Country": {"FR"}})
			return err == nil && h.Get("Orderledger-Region") == "eu-west"
		}) {
			t.Fatal("the entry does not go back to the region")
		}
	}
	w.stop()
}
