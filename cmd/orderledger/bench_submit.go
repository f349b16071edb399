package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/internal/bench"
)

// submitClients are how many submit at once.
const submitClients = 128

// measureSubmit measures the submission of orders over HTTP.
func (b *benchmark) measureSubmit(ctx context.Context) (bench.Section, error) {
	s := bench.Section{
		Name:  "submit",
		About: fmt.Sprintf("orders of two lines over HTTP from %d clients in this process, three events each, durable when answered", submitClients),
		Limit: "a handler that decodes the same body with encoding/json, appends it to the raw group commit and answers",
	}
	total := 0
	for _, side := range []struct {
		name  string
		whole bool
		aim   *bench.Aim
	}{
		{"command side", false, &bench.Aim{Value: 0.7}},
		{"whole server", true, nil}, // its read models take their part of the machine
	} {
		figures, orders, err := b.submitTo(ctx, side.name, side.whole, side.aim)
		if err != nil {
			return s, fmt.Errorf("%s: %w", side.name, err)
		}
		s.Figures = append(s.Figures, figures...)
		total += orders
	}
	s.Checked = fmt.Sprintf("all %d orders that were answered 201 are in the ledger once, and no others", total)
	return s, nil
}

// submitTo measures a server on a ledger of its own, and checks that ledger.
func (b *benchmark) submitTo(ctx context.Context, name string, whole bool, aim *bench.Aim) (_ []bench.Figure, orders int, err error) {
	dir, tidy, err := b.scratch("submit")
	if err != nil {
		return nil, 0, err
	}
	defer tidy(&err)
	bodies, err := submissionBodies()
	if err != nil {
		return nil, 0, err
	}
	log, err := newGroupCommit(filepath.Join(dir, "limit"), groupCommitSize)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, log.close()) }()
	address, stop, err := serveBench(bareSubmit(log))
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	bare := newSubmitLoad(address, "bare", bodies)
	defer func() { err = errors.Join(err, closeWires(bare.wires)) }()

	n, alive, err := b.startNode(ctx, dir, whole)
	if err != nil {
		return nil, 0, err
	}
	load := newSubmitLoad(n.address, "submit", bodies)
	s := besides{name: name, unit: "orders/s", workers: submitClients, aim: aim, subject: load.submit, limit: bare.submit}
	if whole {
		s.settle = n.quiet
	}
	figures, err := b.beside(alive, s)
	memory := bench.ResidentMemory()
	if err = errors.Join(err, closeWires(load.wires), n.end()); err != nil {
		return nil, 0, err
	}
	b.step("%s: checking what was submitted", name)
	if orders, err = load.check(ctx, dir, b); err != nil {
		return nil, 0, err
	}
	return append(figures, plainFigure(name+": memory, this load included", "MB", float64(memory)/1e6)), orders, nil
}

// submissionBodies are the bodies of the orders of all customers, with place for a purchase order number.
func submissionBodies() ([][]byte, error) {
	bodies := make([][]byte, benchCustomers)
	for i := range bodies {
		s := benchSubmission(submitName("", 0), i)
		var err error
		bodies[i], err = json.Marshal(commands.Submission{
			Details: s.Details, Lines: s.Lines,
			Personal: domain.Personal{Buyer: domain.Person{Name: fmt.Sprintf("Optik Sommer %d", i), Contact: "B. Brandt", City: "Bremen"}},
		})
		if err != nil {
			return nil, err
		}
	}
	return bodies, nil
}

// submissionOf tells which of the submissions the n-th order of a client asks for.
func submissionOf(client, n int) int { return (client*31 + n) % benchCustomers }

// submitName names the orders of a client. Names of all clients are equally long.
func submitName(name string, client int) string { return fmt.Sprintf("%6.6s%04d", name, client) }

// A submitLoad submits orders from many clients, and remembers what was answered.
type submitLoad struct {
	name    string
	wires   []wire
	clients []submitClient
	bodies  [][]byte
}

type submitClient struct {
	acked   int // orders that were answered 201
	request []byte
}

func newSubmitLoad(address, name string, bodies [][]byte) *submitLoad {
	return &submitLoad{name: name, wires: wires(address, submitClients), clients: make([]submitClient, submitClients), bodies: bodies}
}

// submit submits the next order of a client.
func (l *submitLoad) submit(ctx context.Context, client int) error {
	c := &l.clients[client]
	key := benchKey(submitName(l.name, client), c.acked)
	n := submissionOf(client, c.acked)
	body := l.bodies[n]
	c.request = fmt.Appendf(c.request[:0], "POST /v1/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"+
		"Idempotency-Key: %s\r\nContent-Length: %d\r\n\r\n", key, len(body))
	c.request = append(c.request, body...)
	copy(c.request[bytes.LastIndex(c.request, []byte(benchKey(submitName("", 0), n))):], key)
	if _, err := l.wires[client].exchange(ctx, c.request, http.StatusCreated); err != nil {
		return err
	}
	c.acked++
	return nil
}

// check opens the ledger again and looks for the orders that were answered.
func (l *submitLoad) check(ctx context.Context, dir string, b *benchmark) (orders int, err error) {
	ledger, err := pebblestore.Open(dir, &pebblestore.Config{ReadOnly: true, Logger: b.log})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	if orders, err = l.checkOrders(ctx, ledger); err != nil {
		return 0, &gateError{err}
	}
	return orders, nil
}

// checkOrders compares a ledger with what was answered: each order is there once, as it was asked for, and in the order of
// its client.
func (l *submitLoad) checkOrders(ctx context.Context, ledger eventstore.Reader) (orders int, err error) {
	seen := make([]int, len(l.clients))
	var last eventstore.Position
	for e, err := range ledger.ReadAll(ctx, 0, eventstore.Filter{Prefixes: []string{domain.StreamPrefix}}) {
		if err != nil {
			return 0, err
		}
		if e.Position <= last {
			return 0, fmt.Errorf("position %d comes after position %d", e.Position, last)
		}
		last = e.Position
		event, err := domain.DecodeEvent(e.Type, e.Data)
		if err != nil {
			return 0, fmt.Errorf("position %d: %w", e.Position, err)
		}
		submitted, ok := event.(*domain.Submitted)
		if !ok {
			continue
		}
		client, err := l.checkOrder(submitted, e.Stream, seen)
		if err != nil {
			return 0, fmt.Errorf("position %d: %w", e.Position, err)
		}
		seen[client]++
		orders++
	}
	for client := range l.clients {
		if seen[client] != l.clients[client].acked {
			return 0, fmt.Errorf("client %d got %d orders answered, and %d are there", client, l.clients[client].acked, seen[client])
		}
	}
	return orders, nil
}

// checkOrder compares a submission with the next one of its client, after those that were seen.
func (l *submitLoad) checkOrder(is *domain.Submitted, stream string, seen []int) (client int, err error) {
	var n int
	if _, err := fmt.Sscanf(is.PurchaseOrder, l.name+"%04d-%010d", &client, &n); err != nil || client < 0 || client >= len(seen) {
		return 0, fmt.Errorf("nobody submitted order %s", is.PurchaseOrder)
	}
	id := benchOrder(submitName(l.name, client), n)
	if n != seen[client] || stream != domain.Stream(id) || is.Order != id {
		return 0, fmt.Errorf("order %s stands in %s, and order %d of its client comes next", is.PurchaseOrder, stream, seen[client])
	}
	should := benchSubmission(is.PurchaseOrder, submissionOf(client, n))
	same := len(is.Lines) == len(should.Lines) && is.Parties.Buyer.Identifiers[0] == should.Parties.Buyer.Identifiers[0]
	for i := range min(len(is.Lines), len(should.Lines)) {
		a, b := is.Lines[i], should.Lines[i]
		same = same && a.SKU == b.SKU && a.Description == b.Description && a.Quantity == b.Quantity && a.Price.Amount == b.Price.Amount
	}
	if !same {
		return 0, fmt.Errorf("order %s is not what was asked for", is.PurchaseOrder)
	}
	return client, nil
}
