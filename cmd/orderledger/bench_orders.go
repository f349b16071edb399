package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/eventstore/relay"
	"github.com/orderledger/orderledger/internal/bench"
	"github.com/orderledger/orderledger/projections"
)

// benchUnit is the business unit of all orders that are measured.
const benchUnit = "main"

// benchCustomers is how many customers place the orders.
const benchCustomers = 1_000

// An orderMaker makes whole histories of orders, as commands would have left them in the ledger.
type orderMaker struct {
	ledger uuid.UUID
	policy domain.Policy
	base   time.Time
}

func newOrderMaker(ctx context.Context, ledger eventstore.Reader) (*orderMaker, error) {
	head, err := ledger.Head(ctx)
	if err != nil {
		return nil, err
	}
	return &orderMaker{ledger: head.ID, policy: rules.Minimal(), base: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
}

// benchOrder is the id of the n-th order of a name.
func benchOrder(name string, n int) uuid.UUID {
	return domain.OrderID(benchUnit, localSubmitter, benchKey(name, n))
}

func benchKey(name string, n int) string { return fmt.Sprintf("%s-%010d", name, n) }

// benchSubmission is what the n-th order of a name asks for.
func benchSubmission(name string, n int) domain.Submit {
	line := func(sku, description string, quantity int64, price string) domain.Line {
		return domain.Line{SKU: sku, Description: description, Unit: "C62", Quantity: domain.Whole(quantity),
			Price: domain.Price{Amount: domain.MustDecimal(price)}, Requested: domain.Date{Day: "2026-03-18"}}
	}
	return domain.Submit{
		Details: domain.Details{
			Currency: "EUR", Channel: "web", PurchaseOrder: benchKey(name, n),
			Parties: domain.Parties{Buyer: domain.Party{
				Identifiers: []domain.Identifier{{Scheme: "customer", Value: "C-" + strconv.Itoa(1000+n%benchCustomers)}}, Country: "DE"}},
			Terms: domain.Terms{Incoterms: domain.Incoterms{Rule: "DAP", Version: "2020"}, Payment: "net 30"},
		},
		Lines: []domain.Line{
			line("LENS-ST-160", "Single vision lens, index 1.60", 1+int64(n%40), "32.40"),
			line("FRAME-OSLO-52", "Frame Oslo, titanium, 52 mm", 1+int64(n%12), "89"),
		},
	}
}

// life is what happens to an order after its submission, which leaves it with benchLife events.
var life = []domain.Action{
	domain.PlaceHold{Reason: domain.Reason{Code: "credit_check"}, Role: "credit"},
	domain.Release{Hold: "h1", Reason: domain.Reason{Code: "checked"}},
	domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{Outcome: domain.Accepts, Reference: "AB-17"}},
	domain.StartFulfilment{Fulfilment: "f1"},
	domain.Ship{Fulfilment: "f1", Shipment: domain.Shipment{Carrier: "DHL", Tracking: "00340434161094015902"}},
	domain.Deliver{Fulfilment: "f1"},
	domain.Close{},
}

// benchLife is the number of events of an order that has been closed.
const benchLife = 10

// closed returns the events of the n-th order of a name from its submission to its end.
func (m *orderMaker) closed(name string, n int) ([]eventstore.Event, error) {
	h := m.begin(name, n)
	h.do(benchSubmission(name, n))
	for _, action := range life {
		h.do(action)
	}
	if h.err == nil && len(h.events) != benchLife {
		h.err = fmt.Errorf("an order has %d events instead of %d", len(h.events), benchLife)
	}
	return h.events, h.err
}

// held returns an order that was held and released until it had so many events, and these.
func (m *orderMaker) held(name string, n, events int) (domain.Order, []eventstore.Event, error) {
	h := m.begin(name, n)
	h.do(benchSubmission(name, n))
	for hold := 1; len(h.events) < events && h.err == nil; hold++ {
		h.do(domain.PlaceHold{Reason: domain.Reason{Code: "credit_check"}, Role: "credit"})
		if len(h.events) < events {
			h.do(domain.Release{Hold: "h" + strconv.Itoa(hold), Reason: domain.Reason{Code: "checked"}})
		}
	}
	return h.order, h.events, h.err
}

func (m *orderMaker) begin(name string, n int) *historyMaker {
	id := benchOrder(name, n)
	return &historyMaker{orderMaker: m, id: id, at: m.base.Add(time.Duration(n) * time.Second)}
}

// A historyMaker makes the history of one order.
type historyMaker struct {
	*orderMaker
	id     uuid.UUID
	at     time.Time
	order  domain.Order
	events []eventstore.Event
	err    error // the first one; nothing is done after it
}

func (h *historyMaker) do(action domain.Action) {
	if h.err != nil {
		return
	}
	h.at = h.at.Add(time.Hour)
	c := domain.Command{
		ID:    domain.CommandID(h.id, localSubmitter, strconv.Itoa(len(h.events))),
		Order: h.id, BusinessUnit: benchUnit, Do: action, Occurred: h.at,
		Actor: domain.Actor{Kind: "person", Issuer: "local", Subject: localSubmitter},
	}
	events, err := domain.Decide(h.order, c, h.policy, h.at)
	if err != nil {
		h.err = err
		return
	}
	var digest domain.Digest
	binary.BigEndian.PutUint64(digest[:], uint64(len(h.events)+1))
	metadata, err := domain.EncodeMeta(domain.Meta{Command: c.ID, Digest: digest, Actor: c.Actor, BusinessUnit: benchUnit, Occurred: h.at})
	if err != nil {
		h.err = err
		return
	}
	for i, e := range events {
		data, err := domain.EncodeEvent(e)
		if err != nil {
			h.err = err
			return
		}
		h.order = domain.Evolve(h.order, e)
		h.events = append(h.events, eventstore.Event{
			ID: domain.EventID(c.ID, h.ledger, i), Type: e.Type(), Metadata: metadata, Data: data,
		})
	}
}

const (
	fillWriters = 128   // append at once while a ledger is filled
	fillOrders  = 1_000 // are under way at a time
)

// fill appends closed orders of a name, from number first up to but not including last: step by step, as commands would,
// so that events of many orders stand between those of one.
func (m *orderMaker) fill(ctx context.Context, ledger eventstore.Appender, name string, first, last int, filled func(orders int)) error {
	for ; first < last; first = min(first+fillOrders, last) {
		orders := make([][]eventstore.Event, min(fillOrders, last-first))
		begin := benchLife - len(life) // the submission's own events
		for from, upTo := 0, begin; from < benchLife; from, upTo = upTo, upTo+1 {
			err := bench.Each(ctx, fillWriters, len(orders), func(ctx context.Context, i int) (err error) {
				expected := eventstore.NoStream
				if from == 0 {
					orders[i], err = m.closed(name, first+i)
				} else {
					expected = eventstore.At(uint64(from - 1))
				}
				if err == nil {
					_, err = ledger.Append(ctx, domain.Stream(benchOrder(name, first+i)), expected, orders[i][from:upTo])
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		if filled != nil {
			filled(first + len(orders))
		}
	}
	return nil
}

// filled makes a ledger of closed orders in a directory, and leaves it open.
func (b *benchmark) filled(ctx context.Context, dir, name string, orders int) (*pebblestore.Store, error) {
	ledger, err := pebblestore.Open(dir, &pebblestore.Config{Logger: b.log})
	if err != nil {
		return nil, err
	}
	m, err := newOrderMaker(ctx, ledger)
	if err == nil {
		b.step("appending %d orders of %d events", orders, benchLife)
		err = m.fill(ctx, ledger, name, 0, orders, nil)
	}
	if err != nil {
		return nil, errors.Join(err, ledger.Close())
	}
	return ledger, nil
}

// rebuilt makes the read models of a ledger in its directory.
func rebuilt(ctx context.Context, ledger eventstore.Reader, dir string) error {
	path := filepath.Join(dir, "views.db")
	if err := projections.Rebuild(ctx, path, []eventstore.Reader{ledger}, nil); err != nil {
		return err
	}
	return projections.Swap(ctx, path)
}

// relayed lets a relay take all events of a ledger to a bus that wants none of them: a server that starts on the ledger
// then finds nothing left to bring.
func relayed(ctx context.Context, ledger eventstore.Store) error {
	r, err := relay.New(relay.Config{Name: "bus", Ledger: ledger, Bus: nowhere{}})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- r.Run(ctx) }()
	err = relayedAll(ctx, ledger, r)
	stop()
	if ended := <-stopped; !errors.Is(ended, context.Canceled) {
		err = errors.Join(err, ended)
	}
	return err
}

// relayedAll returns when a relay has nothing left to bring.
func relayedAll(ctx context.Context, ledger eventstore.Reader, r *relay.Relay) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		more := false
		for _, err := range ledger.ReadAll(ctx, r.Status().Position, eventstore.Filter{Public: true}) {
			if err != nil {
				return err
			}
			more = true
			break
		}
		if !more {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// nowhere is a bus that takes everything and keeps nothing.
type nowhere struct{}

func (nowhere) Publish(string, ...*message.Message) error { return nil }
func (nowhere) Close() error                              { return nil }
