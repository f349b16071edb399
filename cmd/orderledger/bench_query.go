package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/bench"
)

const (
	queryClients = 16
	queryReaders = 4 // connections to the database, as the read models have
)

// measureQuery measures the question where an order is.
func (b *benchmark) measureQuery(ctx context.Context) (_ bench.Section, err error) {
	s := bench.Section{
		Name:  "query",
		About: fmt.Sprintf("the state of one of %d orders, by its id, for %d clients at once", b.orders, queryClients),
		Limit: fmt.Sprintf("SELECT of the whole row by primary key, prepared, from the same database with as many connections (%d); over HTTP, a handler that does this and writes the stored bytes", queryReaders),
	}
	dir, tidy, err := b.scratch("query")
	if err != nil {
		return s, err
	}
	defer tidy(&err)
	ledger, err := b.filled(ctx, dir, "query", b.orders)
	if err != nil {
		return s, err
	}
	b.step("making the read models")
	if err = errors.Join(rebuilt(ctx, ledger, dir), ledger.Close(), emptyKeys(dir)); err != nil {
		return s, err
	}
	n, alive, err := b.startNode(ctx, dir, true)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, n.end()) }()
	s.Figures, err = b.queries(alive, n, dir, "query", b.orders)
	if err != nil {
		return s, err
	}
	s.Figures = append(s.Figures, plainFigure("memory, this load included", "MB", float64(bench.ResidentMemory())/1e6))
	s.Checked = "every answer was the order that was asked for, in the state in which it was left"
	return s, nil
}

// queries measures queries for closed orders of a name, inside the process and over HTTP.
func (b *benchmark) queries(ctx context.Context, n *benchNode, dir, name string, orders int) (_ []bench.Figure, err error) {
	db, err := openSQLite(filepath.Join(dir, "views.db"), queryReaders)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	head, err := n.ledger.Head(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := newKeySelect(ctx, db, benchUnit, head.ID)
	if err != nil {
		return nil, err
	}
	address, stop, err := serveBench(bareQuery(rows))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	served, bare := wires(n.address, queryClients), wires(address, queryClients)
	defer func() { err = errors.Join(err, closeWires(served), closeWires(bare)) }()

	pick := func() uuid.UUID { return benchOrder(name, rand.IntN(orders)) } // costs both sides the same
	figures, err := b.beside(ctx, besides{
		name: "order", unit: "queries/s", workers: queryClients, aim: &bench.Aim{Value: 0.6},
		subject: func(ctx context.Context, _ int) error {
			id := pick()
			row, order, err := n.views.Order(ctx, benchUnit, id)
			if err == nil && (row.ID != id || order.ID != id || row.Status != domain.StatusClosed || order.Status() != row.Status) {
				return &gateError{fmt.Errorf("asked for order %s, the answer was %s, which is %s", id, row.ID, row.Status)}
			}
			return err
		},
		limit: func(ctx context.Context, _ int) error {
			id := pick()
			return rows.read(ctx, id, func(columns []sql.RawBytes, _ int) error {
				if !bytes.Equal(columns[1], id[:]) {
					return fmt.Errorf("asked for the row of order %s, got %x", id, columns[1])
				}
				return nil
			})
		},
	})
	if err != nil {
		return nil, err
	}
	overHTTP, err := b.beside(ctx, besides{
		name: "over HTTP", unit: "queries/s", workers: queryClients,
		subject: func(ctx context.Context, client int) error { return getClosed(ctx, &served[client], pick()) },
		limit:   func(ctx context.Context, client int) error { return getClosed(ctx, &bare[client], pick()) },
	})
	return append(figures, overHTTP...), err
}

// getClosed asks over HTTP for a closed order.
func getClosed(ctx context.Context, w *wire, id uuid.UUID) error {
	body, err := w.exchange(ctx, fmt.Appendf(nil, "GET /v1/orders/%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", id), http.StatusOK)
	if err == nil && (!bytes.Contains(body, []byte(id.String())) || !bytes.Contains(body, []byte("closed"))) {
		return &gateError{fmt.Errorf("asked for order %s, the answer was %.500s", id, body)}
	}
	return err
}
