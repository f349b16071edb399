package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
	"github.com/orderledger/orderledger/internal/realdata"
	"github.com/orderledger/orderledger/projections"
)

// TestDistributed runs commands and relay in one process and the read models of two regions in two others, with a bus
// between them that doubles 30 % of all messages, delays 30 % so that others overtake them, loses 10 % of the locks,
// refuses, drops connections and restarts, while each process is killed once. Both regions have the rows that the ledger
// adds up to, the same byte for byte; in each the notifications come once and in the order of every order; and the bus
// has nothing left, and nothing that it could not deliver.
func TestDistributed(t *testing.T) {
	incoming := distributedLoad{orders: 200}
	if full {
		incoming.orders = 6_000
	}
	t.Run("invoices", func(t *testing.T) { // without them it goes on
		incoming.invoices = realdata.Path(t, "online-retail", "online_retail_cc0.csv.gz")
	})
	if incoming.invoices != "" && !full {
		incoming.invoices = firstLines(t, incoming.invoices, 5_000)
	}
	random := seeded(t)
	d := newDistributed(t, "eu", "us")
	d.faults(servicebustest.Faults{Busy: 0.02}, servicebustest.Faults{
		Duplicate: 0.3, Delayed: 0.3, Delay: 30 * time.Millisecond, LoseLock: 0.1, Seed: random.Uint64(),
	})
	notifications := make(map[string]*follower)
	for region, s := range d.regions {
		notifications[region] = follow(t, s, "/v1/notifications", "0")
	}
	drop := func() { d.bus.DropConnections() }
	trouble := []func(){
		drop,
		func() { d.bus.Restart(t.Context(), 500*time.Millisecond) },
		func() { d.regions["eu"].again() },
		drop,
		d.writer.again,
		func() { d.bus.Restart(t.Context(), time.Second) },
		func() { d.regions["us"].again() },
		drop,
	}
	events := d.load(incoming, random, trouble)

	d.settled()
	for region, s := range d.regions {
		if applied := s.metric("orderledger_consumer_deliveries_total"); applied == 0 {
			t.Errorf("region %s has had nothing from the bus", region)
		} else {
			t.Logf("region %s: %.0f deliveries since it was killed", region, applied)
		}
		if strings.Contains(s.logged(), "the bus has lost events") {
			t.Errorf("region %s had to read the ledger: the bus, which loses nothing, has brought a lane out of order", region)
		}
		d.checkNotifications(region, notifications[region])
	}
	d.stop()
	if got := d.verify(); got < events {
		t.Errorf("the ledger has %d events, at least %d were acknowledged", got, events)
	}
	d.same("eu", "us")
}

// distributed is the product in several processes, around a bus in this one.
type distributed struct {
	t       *testing.T
	bus     *servicebustest.Server
	writer  *server            // commands and relay
	regions map[string]*server // projectors with queries
	newest  newestMark         // of what was acknowledged
	last    *rememberedOrder   // the one that was closed after all others
}

// newDistributed starts them, with a ledger that is empty: what comes after that comes by the bus.
func newDistributed(t *testing.T, regions ...string) *distributed {
	t.Helper()
	d := &distributed{t: t, bus: servicebustest.New(t, nil), writer: newServer(t), regions: make(map[string]*server)}
	check(t, localCommand{Regions: regions}.furnish(d.bus))
	d.writer.flags = []string{"--roles", "commands,relay", "--bus", d.url()}
	d.writer.start()
	d.writer.ready()
	for _, region := range regions {
		s := newServer(t)
		s.remote = true
		s.flags = []string{"--roles", "projector,readapi", "--ledger", d.writer.url(), "--bus", d.url(), "--region", region}
		s.start()
		d.regions[region] = s
	}
	for _, s := range d.regions {
		s.ready()
	}
	return d
}

func (d *distributed) url() string {
	return "servicebus://local:local@" + d.bus.Addr() + "/?emulator=true"
}

// subscription is the address of a region's subscription on the bus.
func subscription(region string) string { return servicebustest.SubscriptionPath(defaultTopic, region) }

// faults says what goes wrong with what is sent, and with what is delivered.
func (d *distributed) faults(sending, delivering servicebustest.Faults) {
	d.t.Helper()
	check(d.t, d.bus.SetFaults(defaultTopic, sending))
	for region := range d.regions {
		check(d.t, d.bus.SetFaults(subscription(region), delivering))
	}
}

// again kills the process and starts it, and does not wait until it is ready: a region is not while it is far behind.
func (s *server) again() {
	s.kill()
	s.start()
}

// distributedLoad is what comes in: a file of real invoices, if there is one, and orders that go all the way until they
// are closed.
type distributedLoad struct {
	invoices string
	orders   int
}

// load sends everything, with all the trouble spread over it, and returns how many events were acknowledged at least.
func (d *distributed) load(l distributedLoad, random *rand.Rand, trouble []func()) (events int) {
	d.t.Helper()
	const workers = 16
	done := make(chan struct{}, l.orders)
	jobs := make(chan int)
	clients := make([]*remembering, workers)
	var work sync.WaitGroup
	for i := range clients {
		c := &remembering{
			t: d.t, name: fmt.Sprintf("client-%d", i), base: d.writer.url(), random: rand.New(rand.NewPCG(random.Uint64(), 0)),
			http: &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second},
		}
		clients[i] = c
		work.Go(func() {
			for range jobs {
				d.live(c)
				done <- struct{}{}
			}
		})
	}
	work.Go(func() {
		defer close(jobs)
		for i := range l.orders {
			jobs <- i
		}
	})
	if l.invoices != "" {
		work.Go(func() { d.importReal(l.invoices) })
	}
	each := max(l.orders/(len(trouble)+1), 1)
	for i := range l.orders {
		<-done
		if n := i / each; i%each == each-1 && n < len(trouble) {
			trouble[n]()
		}
	}
	work.Wait()
	for _, c := range clients {
		c.http.CloseIdleConnections()
		for _, o := range c.orders {
			events += len(o.events)
			check(d.t, d.newest.note(o.mark))
		}
	}
	return events
}

// live takes an order from its submission until it is closed.
func (d *distributed) live(c *remembering) {
	c.asked++
	q := question{order: &rememberedOrder{}, path: "/v1/orders", key: fmt.Sprintf("%s-%d", c.name, c.asked), body: plainOrder}
	for {
		err := c.ask(&q)
		switch {
		case errors.Is(err, errUnanswered):
			<-time.After(20 * time.Millisecond) // somebody has killed the server: the same again, under the same key
			continue
		case err != nil:
			d.t.Error(err)
			return
		}
		o := q.order
		action, body := report(o.status)
		if action == "" {
			return
		}
		c.asked++
		q = question{order: o, path: "/v1/orders/" + o.id + action, key: fmt.Sprintf("%s-%d", c.name, c.asked), body: body}
	}
}

// importReal takes in invoices of a real shop, again after the server was killed.
func (d *distributed) importReal(file string) {
	args := []string{"import", "--server", d.writer.url(), "--rules", "--workers", "16", "--rejects", filepath.Join(d.t.TempDir(), "rejects.csv"),
		"--map", filepath.Join("..", "..", "docs", "mappings", "online-retail.yaml"), file}
	for range 10 {
		code, stdout, stderr := command(d.t, args...)
		if code == exitOK {
			d.t.Log(stdout)
			return
		}
		d.t.Log(stderr)
		<-time.After(100 * time.Millisecond)
	}
	d.t.Error("the import does not come to an end")
}

// settled waits until both regions show everything and the bus has nothing left.
func (d *distributed) settled() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 30*time.Minute)
	defer cancel()
	// The mark of a last order stands behind everything that was acknowledged.
	last := &remembering{t: d.t, name: "last", base: d.writer.url(), http: &http.Client{}}
	d.live(last)
	d.last = last.orders[0]
	check(d.t, d.newest.note(d.last.mark))
	for region, s := range d.regions {
		c := &client{base: s.url(), businessUnit: "main", http: &http.Client{Transport: &http.Transport{}}}
		s.answers()
		check(d.t, d.newest.await(ctx, c))
		c.http.CloseIdleConnections()
		check(d.t, d.bus.Await(ctx, subscription(region), func(c servicebustest.Counts) bool { return c.Active == 0 }))
		dead, err := d.bus.Messages(servicebustest.DeadLetterPath(subscription(region)))
		check(d.t, err)
		for _, m := range dead {
			d.t.Errorf("region %s: message %s has become a dead letter: %v", region, m.MessageID, m.ApplicationProperties)
		}
	}
}

// answers waits until the server answers requests, be it with bad news.
func (s *server) answers() {
	s.t.Helper()
	if !poll(func() bool {
		response, err := http.Get(s.url() + "/healthz")
		if err != nil {
			return false
		}
		return response.Body.Close() == nil
	}) {
		s.t.Fatal("the server does not answer")
	}
}

// metric reads one of the server's metrics.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	response, err := http.Get(s.url() + "/metrics")
	check(s.t, err)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			value, err := strconv.ParseFloat(text, 64)
			check(s.t, err)
			return value
		}
	}
	s.t.Fatalf("there is no metric %s: %v", name, lines.Err())
	return 0
}

// checkNotifications compares what somebody has seen who followed a region all the time, also while it was killed, with
// what the region tells somebody who comes now.
func (d *distributed) checkNotifications(region string, f *follower) {
	d.t.Helper()
	last := func(e followed) bool { return e.Order == d.last.id && e.Revision == d.last.revision }
	got := f.until(d.t, last)
	if want := follow(d.t, d.regions[region], "/v1/notifications", "0").until(d.t, last); !slices.Equal(got, want) {
		d.t.Errorf("region %s has told %d notifications, and then %d others", region, len(got), len(want))
	}
	seen := make(map[string]bool)
	newest := make(map[string]uint64)
	for _, e := range got {
		if seen[e.ID] {
			d.t.Errorf("region %s: notification %s came twice", region, e.ID)
		}
		seen[e.ID] = true
		if e.Revision < newest[e.Order] {
			d.t.Errorf("region %s: order %s was told at revision %d and then at %d", region, e.Order, newest[e.Order], e.Revision)
		}
		newest[e.Order] = e.Revision
	}
	d.t.Logf("region %s: %d notifications of %d orders", region, len(got), len(newest))
}

// stop stops all processes, as an administrator does.
func (d *distributed) stop() {
	d.t.Helper()
	for _, s := range d.regions {
		s.stop()
	}
	d.writer.stop()
}

// verify compares the rows of each region with what the ledger adds up to, and returns how many events that has.
func (d *distributed) verify() (events int) {
	d.t.Helper()
	ledger, err := pebblestore.Open(d.writer.data, &pebblestore.Config{ReadOnly: true, Logger: quiet})
	check(d.t, err)
	defer func() { check(d.t, ledger.Close()) }()
	head, err := ledger.Head(d.t.Context())
	check(d.t, err)
	var newest eventstore.Position
	for e, err := range ledger.ReadAll(d.t.Context(), 0, eventstore.Filter{Public: true}) {
		check(d.t, err)
		newest = e.Position
		events++
	}
	for region, s := range d.regions {
		views, err := projections.Open(d.t.Context(), filepath.Join(s.data, "views.db"), nil)
		check(d.t, err)
		report, err := views.Verify(d.t.Context(), []eventstore.Reader{ledger}, nil)
		check(d.t, err)
		parked, err := views.Parked(d.t.Context(), 0)
		check(d.t, errors.Join(err, views.Close()))
		switch {
		case report.Difference != nil:
			d.t.Errorf("region %s: %v", region, report.Difference)
		case len(report.Sources) != 1 || report.Sources[0].Ledger != head.ID || report.Sources[0].Passed < newest:
			d.t.Errorf("region %s has come to %+v, the ledger to %d", region, report.Sources, newest)
		case len(parked) > 0:
			d.t.Errorf("region %s has parked %+v", region, parked)
		}
		d.t.Logf("region %s: %d rows equal the fold of %d events", region, report.Rows, events)
	}
	return events
}

// same compares all tables of two regions but those in which a region keeps account of itself.
func (d *distributed) same(one, other string) {
	d.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(d.regions[one].data, "views.db"))
	check(d.t, err)
	defer db.Close()
	db.SetMaxOpenConns(1) // the attached database belongs to the connection
	_, err = db.ExecContext(d.t.Context(), `ATTACH $1 AS other`, filepath.Join(d.regions[other].data, "views.db"))
	check(d.t, err)
	// How far each region has come, which a tick more or less changes, is no read model.
	rows, err := db.QueryContext(d.t.Context(), `SELECT name FROM sqlite_master WHERE type = 'table'
		AND name NOT IN ('lease', 'lanes', 'sources', 'goose_db_version') AND name NOT LIKE 'sqlite_%'`)
	check(d.t, err)
	var tables []string
	for rows.Next() {
		var name string
		check(d.t, rows.Scan(&name))
		tables = append(tables, name)
	}
	check(d.t, errors.Join(rows.Err(), rows.Close()))
	if len(tables) < 6 {
		d.t.Errorf("the read models have only the tables %q", tables)
	}
	for _, table := range tables {
		var here, there, missing int
		check(d.t, db.QueryRowContext(d.t.Context(), `SELECT (SELECT count(*) FROM main.`+table+`), (SELECT count(*) FROM other.`+table+`),
			(SELECT count(*) FROM (SELECT * FROM main.`+table+` EXCEPT SELECT * FROM other.`+table+`))`).Scan(&here, &there, &missing))
		if here != there || missing > 0 {
			d.t.Errorf("table %s has %d rows in region %s and %d in region %s, which lacks %d of the others", table, here, one, there, other, missing)
		}
	}
}
