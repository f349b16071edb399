package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
	"github.com/orderledger/orderledger/internal/message"
	"github.com/orderledger/orderledger/internal/realdata"
)

// TestBadMessages sends a region what it cannot use, in the lanes that everything else uses. The reason of each stands in
// the dead-letter queue, whose tools work; no order waits, and the rows are in the end what the ledger adds up to.
func TestBadMessages(t *testing.T) {
	d := newDistributed(t, "eu")
	tap := d.tap()
	customer := d.client("customer")
	d.live(customer)
	d.shown(customer)
	good := tap()[0]
	body := func(old, text string) string {
		if !strings.Contains(string(good.Body), old) {
			t.Fatalf("the message has no %s: %s", old, good.Body)
		}
		return strings.Replace(string(good.Body), old, text, 1)
	}
	var members map[string]any
	check(t, json.Unmarshal(good.Body, &members))
	member := func(name, text string) string {
		return body(fmt.Sprintf("%q:%q", name, members[name]), fmt.Sprintf("%q:%q", name, text))
	}
	other := uuid.NewString()
	bad := []struct{ id, session, body, reason string }{
		{"text", *good.SessionID, "hello", "not a JSON object"},
		{"empty", *good.SessionID, "", "not a JSON object"},
		{"bytes", *good.SessionID, "\xff\x00\x01", "not UTF-8"},
		{"cut", *good.SessionID, string(good.Body[:len(good.Body)-20]), "JSON"},
		{"plain JSON", *good.SessionID, `{"order":"1"}`, "specversion is missing"},
		{"another type", *good.SessionID, body(`"com.orderledger.`, `"com.example.`), "type is not one of this ledger's"},
		{"another session", "no lane", "{}", "specversion is missing"},
		{"another ledger", *good.SessionID, body(`/ledgers/`, `/ledgers/`+other[:8]), "source is not a UUID"},
		{"a ledger that nobody follows", *good.SessionID, member("source", "/ledgers/"+other), "another ledger"},
		{"another lane", *good.SessionID, member("lane", "zz"), "lane is not"},
		{"an event to come", *good.SessionID, strings.Replace(member("position", "1000000000"), `"previousposition":"0"`, `"previousposition":"999999999"`, 1), "the ledger has not come as far"},
		{"a revision that is not there", *good.SessionID, strings.NewReplacer(
			fmt.Sprintf(`"position":%q`, members["position"]), fmt.Sprintf(`"position":%q`, members["position"]),
			`"revision":"0"`, `"revision":"99"`).Replace(string(good.Body)), ""},
	}
	// What would be applied as it is, if the ledger were believed to have come so far.
	forged := strings.NewReplacer(fmt.Sprintf(`"position":%q`, members["position"]), `"position":"4000"`,
		fmt.Sprintf(`"id":%q`, members["id"]), fmt.Sprintf(`"id":%q`, other), `"revision":"0"`, fmt.Sprintf(`"revision":"%d"`, customer.orders[0].revision+1))
	genuine, _, err := message.Decode(good.Body)
	check(t, err)
	tick := message.New(eventstore.Delivery{Source: genuine.Source, Incarnation: genuine.Incarnation, Lane: genuine.Lane, Position: 5_000_000}, "")
	for id, text := range map[string]string{"a forged event": forged.Replace(string(good.Body)), "a forged tick": string(tick.Payload)} {
		bad = append(bad, struct{ id, session, body, reason string }{id, *good.SessionID, text, "the ledger has not come as far"})
	}
	for _, b := range bad {
		d.send(&azservicebus.Message{MessageID: &b.id, SessionID: &b.session, Body: []byte(b.body)})
	}
	// Content types and metadata say nothing that the body does not say. What was there already changes nothing.
	d.send(&azservicebus.Message{SessionID: good.SessionID, Body: good.Body, ContentType: new("text/plain"), MessageID: new(uuid.NewString())})
	d.send(&azservicebus.Message{SessionID: good.SessionID, Body: good.Body, MessageID: &good.MessageID})
	if err := d.trySend(&azservicebus.Message{Body: good.Body}); err == nil {
		t.Error("the bus takes a message without a session")
	}
	d.live(customer)
	d.shown(customer)

	want := make(map[string]string)
	for _, b := range bad {
		if b.reason != "" {
			want[b.id] = b.reason
		}
	}
	letters := d.dead(len(want))
	for _, l := range letters {
		if reason, ok := want[l.ID]; !ok || l.Reason != "unreadable" || !strings.Contains(l.Description, reason) {
			t.Errorf("message %q is dead because %s: %s; want %q", l.ID, l.Reason, l.Description, reason)
		}
		delete(want, l.ID)
	}
	if len(want) > 0 {
		t.Errorf("no dead letters have become of %v", want)
	}
	d.lookAfter(letters)
	d.stop()
	d.verify()
}

// lookAfter uses the tools for dead letters.
func (d *distributed) lookAfter(letters []deadLetter) {
	t := d.t
	t.Helper()
	flags := []string{"--bus", d.url(), "--region", "eu"}
	dlq := func(args ...string) string {
		t.Helper()
		return mustCommand(t, append(append([]string{"dlq"}, args...), flags...)...)
	}
	number := func(i int) string { return strconv.FormatInt(letters[i].Number, 10) }
	if shown := dlq("show", number(0)); !strings.Contains(shown, letters[0].Description) || !strings.Contains(shown, letters[0].ID) {
		t.Errorf("the dead letter is shown as %s", shown)
	}
	if code, _, _ := command(t, append([]string{"dlq", "show", "999999"}, flags...)...); code != exitNotFound {
		t.Errorf("a dead letter that is not there: exit code %d", code)
	}
	if got := dlq("list", "--limit", "2"); strings.Count(got, "\n") != 2 {
		t.Errorf("two dead letters are listed as %s", got)
	}
	if got := dlq("drop", number(1), number(3)); !strings.Contains(got, "2 dropped") {
		t.Errorf("dropping two: %s", got)
	}
	left := d.dead(len(letters) - 2)
	if slices.ContainsFunc(left, func(l deadLetter) bool { return l.Number == letters[1].Number || l.Number == letters[3].Number }) {
		t.Errorf("what was dropped is still there: %+v", left)
	}
	// What is as unreadable as before comes back, under another number.
	if got := dlq("retry", number(0)); !strings.Contains(got, "1 sent again") {
		t.Errorf("retrying one: %s", got)
	}
	back := d.dead(len(left))
	if slices.ContainsFunc(back, func(l deadLetter) bool { return l.Number == letters[0].Number }) ||
		!slices.ContainsFunc(back, func(l deadLetter) bool { return l.ID == letters[0].ID }) {
		t.Errorf("after a retry the dead letters are %+v", back)
	}
	if got := dlq("retry", "--all"); !strings.Contains(got, fmt.Sprintf("%d sent again", len(back))) {
		t.Errorf("retrying all: %s", got)
	}
	all := []string{"drop"}
	for _, l := range d.dead(len(back)) {
		all = append(all, strconv.FormatInt(l.Number, 10))
	}
	dlq(all...)
	d.dead(0)
}

// TestUnknownEvents lets a ledger hold an event that the program does not know: its order is parked, and the others go on.
func TestUnknownEvents(t *testing.T) {
	d := newDistributed(t, "eu")
	customer := d.client("customer")
	d.live(customer)
	d.shown(customer)
	d.writer.stop()
	ledger, err := pebblestore.Open(d.writer.data, &pebblestore.Config{Logger: quiet})
	check(t, err)
	order := customer.orders[0]
	var metadata []byte
	for e, err := range ledger.ReadStream(t.Context(), domain.StreamPrefix+order.id, eventstore.End, eventstore.Backward) {
		check(t, err)
		metadata = e.Metadata
		break
	}
	_, err = ledger.Append(t.Context(), domain.StreamPrefix+order.id, eventstore.At(order.revision), []eventstore.Event{
		{ID: uuid.New(), Type: "order.exploded.v9", Metadata: metadata, Data: []byte(`{}`)},
	})
	check(t, errors.Join(err, ledger.Close()))
	d.writer.start()
	d.writer.ready()
	customer.http.CloseIdleConnections()
	d.live(customer)
	d.shown(customer)
	if parked := d.regions["eu"].metric("orderledger_projector_parked_orders"); parked != 1 {
		t.Errorf("%.0f orders are parked", parked)
	}
	d.dead(0)
	server := []string{"--server", d.regions["eu"].url()}
	var shown struct{ Number string }
	check(t, json.Unmarshal([]byte(mustCommand(t, append(server, "order", "show", order.id, "--json")...)), &shown))
	for _, name := range []string{order.id, shown.Number} {
		parked := func(args ...string) []string {
			return append(append(slices.Clone(server), "parked"), append(args, name)...)
		}
		if got := mustCommand(t, parked("show")...); !strings.Contains(got, order.id) || !strings.Contains(got, "order.exploded.v9") {
			t.Errorf("order %s is shown as %s", name, got)
		}
		if code, _, stderr := command(t, parked("retry")...); code != exitRefused || !strings.Contains(stderr, "parked still") {
			t.Errorf("retrying order %s: exit code %d, %s", name, code, stderr)
		}
		mustCommand(t, parked("skip")...)
	}
	d.regions["eu"].complains = true // that an order is parked
	d.stop()
}

// TestLostMessages loses everything that is on the bus for a while: what comes then tells that something is missing, and
// the ledger gives it. Everything else that may happen to a bus follows.
func TestLostMessages(t *testing.T) {
	d := newDistributed(t, "eu")
	customer := d.client("customer")
	d.live(customer)
	d.shown(customer)

	sub := servicebustest.SubscriptionPath(defaultTopic, "eu")
	check(t, d.bus.Delete(sub))
	d.live(customer)
	check(t, d.bus.CreateSubscription(defaultTopic, "eu", servicebustest.Subscription{RequiresSession: true, MaxDeliveryCount: maxDelivery}))
	for range 3 {
		d.live(customer)
	}
	d.shown(customer)
	if !strings.Contains(d.regions["eu"].logged(), "the bus has lost events") {
		t.Error("the region has not noticed that the bus lost events")
	}

	// Locks that are lost after the rows are written, and before the bus knows it.
	check(t, d.bus.SetFaults(sub, servicebustest.Faults{LoseLock: 1, Times: 20}))
	d.live(customer)
	d.shown(customer)

	// The bus is down: commands go on, and everything comes when it is back.
	d.bus.Stop()
	before := time.Now()
	d.live(customer)
	if took := time.Since(before); took > 10*time.Second {
		t.Errorf("commands waited %v for the bus", took)
	}
	<-time.After(time.Second)
	d.bus.Resume()
	d.shown(customer)
	d.dead(0)
	d.stop()
	d.verify()
}

// TestLargeOrders takes in an invoice of 1,114 lines, and one as long with descriptions as long as they are in other
// shops: it is too large for the bus, and travels by reference.
func TestLargeOrders(t *testing.T) {
	file := realdata.Path(t, "online-retail", "online_retail_cc0.csv.gz")
	d := newDistributed(t, "eu")
	tap := d.tap()
	mustCommand(t, "import", "--server", d.writer.url(), "--rules", "--rejects", filepath.Join(t.TempDir(), "rejects.csv"),
		"--map", filepath.Join("..", "..", "docs", "mappings", "online-retail.yaml"), linesWith(t, file, "573585"))
	lines := make([]string, 1114)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"sku":"A%d","description":%q,"quantity":"1","price":{"amount":"10"}}`, i, strings.Repeat("long ", 40))
	}
	customer := d.client("customer")
	long := question{order: &rememberedOrder{}, path: "/v1/orders", key: "long", body: `{"currency":"EUR","purchase_order":"long",
		"parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"C1"}],"country":"DE"}},"lines":[` + strings.Join(lines, ",") + `]}`}
	check(t, customer.ask(&long))
	d.live(customer)
	d.shown(customer)
	c := &client{base: d.regions["eu"].url(), businessUnit: "main", http: &http.Client{}}
	for _, number := range []string{"573585", "long"} {
		var found struct {
			Orders []struct {
				ID string `json:"id"`
			} `json:"orders"`
		}
		_, err := c.call(t.Context(), request{method: http.MethodGet, path: "/v1/orders?purchase_order=" + number}, &found)
		check(t, err)
		if len(found.Orders) != 1 {
			t.Fatalf("order %s is found %d times", number, len(found.Orders))
		}
		var order struct {
			Lines []json.RawMessage `json:"lines"`
		}
		_, err = c.call(t.Context(), request{method: http.MethodGet, path: "/v1/orders/" + found.Orders[0].ID}, &order)
		check(t, err)
		if len(order.Lines) != len(lines) {
			t.Errorf("order %s has %d lines", number, len(order.Lines))
		}
	}
	referred, largest := 0, 0
	for _, m := range tap() {
		if largest = max(largest, len(m.Body)); strings.Contains(string(m.Body), `"dataref"`) {
			referred++
		}
	}
	if referred != 1 {
		t.Errorf("%d messages refer to the ledger", referred)
	}
	t.Logf("the largest message has %d bytes", largest)
	d.stop()
	d.verify()
}

// linesWith copies the lines of an invoice, and the heading, from a gzipped file.
func linesWith(t *testing.T, name, invoice string) string {
	t.Helper()
	f, err := os.Open(name)
	check(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	check(t, err)
	path := filepath.Join(t.TempDir(), "invoice.csv")
	out, err := os.Create(path)
	check(t, err)
	defer out.Close()
	lines := bufio.NewScanner(z)
	for first := true; lines.Scan(); first = false {
		if first || strings.HasPrefix(lines.Text(), invoice+",") {
			fmt.Fprintln(out, lines.Text())
		}
	}
	check(t, lines.Err())
	return path
}

// tap subscribes to all events, without sessions, and returns what shows them.
func (d *distributed) tap() func() []servicebustest.Message {
	d.t.Helper()
	check(d.t, d.bus.CreateSubscription(defaultTopic, "tap", servicebustest.Subscription{}))
	return func() []servicebustest.Message {
		d.t.Helper()
		all, err := d.bus.Messages(servicebustest.SubscriptionPath(defaultTopic, "tap"))
		check(d.t, err)
		return all
	}
}

// client is one that writes.
func (d *distributed) client(name string) *remembering {
	c := &remembering{t: d.t, name: name, base: d.writer.url(), http: &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}}
	d.t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// shown waits until all regions show what a client has been acknowledged last.
func (d *distributed) shown(c *remembering) {
	d.t.Helper()
	o := c.orders[len(c.orders)-1]
	check(d.t, d.newest.note(o.mark))
	for region, s := range d.regions {
		reader := &client{base: s.url(), businessUnit: "main", http: &http.Client{}}
		ctx, cancel := context.WithTimeout(d.t.Context(), 30*time.Second)
		check(d.t, d.newest.await(ctx, reader))
		if ctx.Err() != nil {
			d.t.Fatalf("region %s does not show order %s", region, o.id)
		}
		cancel()
	}
}

// send sends a message to the topic of events.
func (d *distributed) send(m *azservicebus.Message) {
	d.t.Helper()
	check(d.t, d.trySend(m))
}

func (d *distributed) trySend(m *azservicebus.Message) error {
	d.t.Helper()
	c, err := azservicebus.NewClientFromConnectionString(d.bus.ConnectionString(), nil)
	check(d.t, err)
	defer func() { check(d.t, c.Close(context.WithoutCancel(d.t.Context()))) }()
	sender, err := c.NewSender(defaultTopic, nil)
	check(d.t, err)
	return sender.SendMessage(d.t.Context(), m, nil)
}

// dead waits until there are so many dead letters, and returns them.
func (d *distributed) dead(n int) []deadLetter {
	d.t.Helper()
	var letters []deadLetter
	if !poll(func() bool {
		letters = nil
		check(d.t, json.Unmarshal([]byte(mustCommand(d.t, "dlq", "list", "--json", "--bus", d.url(), "--region", "eu")), &letters))
		return len(letters) == n
	}) {
		d.t.Fatalf("there are %d dead letters, want %d: %+v", len(letters), n, letters)
	}
	return letters
}
