package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// TestKill kills the server again and again while clients submit orders and sites report. Whatever was acknowledged is
// there afterwards; what was under way is there once, or not at all and once after a retry; nothing is there that
// nobody asked for; and the read models are what the ledger adds up to, also before the server has come up again.
func TestKill(t *testing.T) {
	kills := 6
	if full {
		kills = 50
	}
	random := seeded(t)
	s := newServer(t)
	clients := make([]*remembering, 8)
	for i := range clients {
		clients[i] = &remembering{
			t: t, name: fmt.Sprintf("client-%d", i), base: s.url(),
			random: rand.New(rand.NewPCG(random.Uint64(), 0)),
			http:   &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second},
		}
	}
	for i := range kills {
		s.start()
		after := 20*time.Millisecond + time.Duration(random.Int64N(int64(380*time.Millisecond)))
		if i%5 == 4 {
			<-time.After(after / 2) // while it starts
		} else {
			s.ready()
			var work sync.WaitGroup
			for _, c := range clients {
				work.Go(c.recover)
			}
			work.Wait()
			for _, c := range clients {
				work.Go(c.work)
			}
			<-time.After(after)
			s.kill()
			work.Wait()
		}
		s.kill()
		mustCommand(t, "verify", "--data", s.data)
		if t.Failed() {
			t.Fatalf("after kill %d", i+1)
		}
	}
	s.start()
	s.ready()
	for _, c := range clients {
		c.recover()
		for _, o := range c.orders {
			c.look(o)
		}
	}
	s.stop()
	mustCommand(t, "verify", "--data", s.data)
	checkLedger(t, s.data, clients)
}

// remembering is a client that remembers every answer that it has got.
type remembering struct {
	t      *testing.T
	name   string
	base   string
	random *rand.Rand
	http   *http.Client

	orders   []*rememberedOrder
	answered []question // since the last start
	unknown  *question  // the one that was under way when the server died
	asked    int
}

// rememberedOrder is what the client knows of an order.
type rememberedOrder struct {
	key      string // of its submission
	id       string
	status   domain.Status
	revision uint64
	mark     string
	events   []string // of all answers, in order
}

// A question is a request, and what the answer was.
type question struct {
	order           *rememberedOrder
	path, key, body string
	answer          []byte
}

// errUnanswered tells that nobody knows what became of a request.
var errUnanswered = errors.New("no answer")

// work sends requests until one is not answered.
func (c *remembering) work() {
	for {
		q := c.next()
		err := c.ask(&q)
		if errors.Is(err, errUnanswered) {
			c.unknown = &q
			return
		}
		if err != nil {
			c.t.Error(err)
			return
		}
		c.answered = append(c.answered, q)
	}
}

// next is a new order, or the next step of one.
func (c *remembering) next() question {
	c.asked++
	key := fmt.Sprintf("%s-%d", c.name, c.asked)
	if len(c.orders) > 0 && c.random.IntN(3) > 0 {
		o := c.orders[len(c.orders)-1-c.random.IntN(min(len(c.orders), 8))]
		if path, body := report(o.status); path != "" {
			return question{order: o, path: "/v1/orders/" + o.id + path, key: key, body: body}
		}
	}
	return question{order: &rememberedOrder{key: key}, path: "/v1/orders", key: key, body: `{"currency":"EUR","purchase_order":"` + key + `",
		"parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"` + c.name + `"}],"country":"DE"}},
		"lines":[{"sku":"LENS","quantity":"2","price":{"amount":"12.50"}},{"sku":"FRAME","quantity":"1","price":{"amount":"80"}}],
		"personal":{"buyer":{"name":"Ms ` + key + `"}}}`}
}

// report is what a site says next about an order.
func report(s domain.Status) (path, body string) {
	switch s {
	case domain.StatusRouted:
		return "/fulfilments/f1/confirm", `{"outcome":"accepted","reference":"SITE"}`
	case domain.StatusConfirmed:
		return "/fulfilments/f1/start", `{}`
	case domain.StatusInFulfilment:
		return "/fulfilments/f1/ship", `{"lines":[{"line":"1","quantity":"1"}]}`
	case domain.StatusPartiallyShipped:
		return "/fulfilments/f1/ship", `{}`
	case domain.StatusShipped:
		return "/fulfilments/f1/deliver", `{}`
	case domain.StatusDelivered:
		return "/close", `{}`
	}
	return "", ""
}

// ask sends a request and remembers the answer.
func (c *remembering) ask(q *question) error {
	header, body, err := c.post(q)
	if err != nil {
		return err
	}
	var a commands.Answer
	if err := json.Unmarshal(body, &a); err != nil {
		return fmt.Errorf("%s with key %s was answered %s: %w", q.path, q.key, body, err)
	}
	o := q.order
	if o.id == "" {
		o.id = a.ID
		c.orders = append(c.orders, o)
	}
	if o.id != a.ID {
		return fmt.Errorf("%s with key %s was answered for order %s", q.path, q.key, a.ID)
	}
	o.status, o.revision, o.mark = a.Status, a.Revision, header.Get("Orderledger-Mark")
	o.events = append(o.events, a.Events...)
	q.answer = body
	return nil
}

// post returns a successful answer.
func (c *remembering) post(q *question) (http.Header, []byte, error) {
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.base+q.path, bytes.NewReader([]byte(q.body)))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", q.key)
	response, err := c.http.Do(r)
	if err != nil {
		return nil, nil, errUnanswered
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, nil, errUnanswered
	}
	if response.StatusCode >= 300 {
		return nil, nil, fmt.Errorf("%s with key %s was answered %s: %s", q.path, q.key, response.Status, body)
	}
	return response.Header, body, nil
}

// recover checks after a restart what was acknowledged before, and finds out what was not.
func (c *remembering) recover() {
	c.http.CloseIdleConnections()
	for _, q := range c.answered {
		if c.unknown == nil || q.order != c.unknown.order {
			c.look(q.order)
		}
	}
	for _, q := range c.answered[max(0, len(c.answered)-5):] {
		c.again(&q)
	}
	c.answered = nil
	if q := c.unknown; q != nil {
		c.unknown = nil
		if err := c.ask(q); err != nil {
			c.t.Errorf("retrying: %v", err)
			return
		}
		c.again(q)
		c.look(q.order)
	}
}

// again repeats a request that was answered, which must get the same answer.
func (c *remembering) again(q *question) {
	header, body, err := c.post(q)
	switch {
	case err != nil:
		c.t.Errorf("repeating: %v", err)
	case !bytes.Equal(body, q.answer) || header.Get("Idempotent-Replayed") != "true":
		c.t.Errorf("%s with key %s was answered\n%s\nand then\n%s", q.path, q.key, q.answer, body)
	}
}

// look checks that an order is in the read models as it was acknowledged.
func (c *remembering) look(o *rememberedOrder) {
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.base+"/v1/orders/"+o.id, nil)
	if err != nil {
		c.t.Error(err)
		return
	}
	r.Header.Set("Orderledger-Mark", o.mark)
	response, err := c.http.Do(r)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer response.Body.Close()
	var shown struct {
		Revision      uint64        `json:"revision"`
		Status        domain.Status `json:"status"`
		PurchaseOrder string        `json:"purchase_order"`
	}
	if err := json.NewDecoder(response.Body).Decode(&shown); err != nil || response.StatusCode != http.StatusOK {
		c.t.Errorf("order %s, acknowledged at revision %d: %s %v", o.id, o.revision, response.Status, err)
		return
	}
	if shown.Revision != o.revision || shown.Status != o.status || shown.PurchaseOrder != o.key {
		c.t.Errorf("order %s was acknowledged %s at revision %d and is shown as %+v", o.id, o.status, o.revision, shown)
	}
}

// checkLedger compares the orders of a ledger with what its clients remember: the same orders, and in each the same
// events, no more and no fewer.
func checkLedger(t *testing.T, data string, clients []*remembering) {
	t.Helper()
	want := make(map[string][]string)
	for _, c := range clients {
		for _, o := range c.orders {
			want[domain.StreamPrefix+o.id] = o.events
		}
	}
	ledger, err := pebblestore.Open(data, &pebblestore.Config{ReadOnly: true, Logger: quiet})
	check(t, err)
	defer func() { check(t, ledger.Close()) }()
	got := make(map[string][]string)
	events := 0
	for e, err := range ledger.ReadAll(t.Context(), 0, eventstore.Filter{Prefixes: []string{domain.StreamPrefix}}) {
		check(t, err)
		got[e.Stream] = append(got[e.Stream], e.Type)
		events++
	}
	t.Logf("%d orders with %d events", len(got), events)
	for stream, types := range want {
		if !slices.Equal(got[stream], types) {
			t.Errorf("stream %s has the events %q; acknowledged were %q", stream, got[stream], types)
		}
	}
	for stream := range got {
		if want[stream] == nil {
			t.Errorf("nobody has submitted what stands in stream %s", stream)
		}
	}
	if len(got) < len(clients) {
		t.Errorf("only %d orders: there was no load", len(got))
	}
}
