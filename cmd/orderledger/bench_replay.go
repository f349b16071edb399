package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"time"

	"github.com/orderledger/orderledger/cmd/orderledger/optics"
	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/bench"
)

// measureReplay measures the fold of stored events into orders.
func (b *benchmark) measureReplay(ctx context.Context) (bench.Section, error) {
	s := bench.Section{
		Name:  "replay",
		About: "stored histories in memory are decoded and folded into orders, on one core",
		Limit: "encoding/json decodes the same bytes into the same structs, and folds nothing",
	}
	orders := max(b.orders/5, 20)
	b.step("playing %d orders of the demo", orders)
	histories, err := b.playedHistories(ctx, orders)
	if err != nil {
		return s, err
	}
	types := eventTypes()
	if err := checkFold(histories, types); err != nil {
		return s, &gateError{err}
	}
	events, size := 0, 0
	for _, history := range histories {
		events += len(history)
		for _, e := range history {
			size += len(e.Data)
		}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var folder domain.Folder
	var subject, limit []bench.Run
	passes := func(do func() error) (bench.Run, error) {
		var watch bench.Stopwatch
		ops := 0
		runtime.GC()
		watch.Start()
		for end := time.Now().Add(b.measure); time.Now().Before(end) && ctx.Err() == nil; ops += events {
			if err := do(); err != nil {
				return bench.Run{}, err
			}
		}
		watch.Stop()
		return watch.Run(ops), ctx.Err()
	}
	err = bench.Interleave(b.rounds,
		func() error {
			b.step("round %d of %d: limit", len(limit)+1, b.rounds)
			r, err := passes(func() error {
				for _, history := range histories {
					if err := unmarshalAll(types, history); err != nil {
						return err
					}
				}
				return nil
			})
			limit = append(limit, r)
			return err
		},
		func() error {
			b.step("round %d of %d", len(subject)+1, b.rounds)
			r, err := passes(func() error {
				for _, history := range histories {
					if _, err := foldHistory(&folder, history); err != nil {
						return err
					}
				}
				return nil
			})
			subject = append(subject, r)
			return err
		})
	if err != nil {
		return s, err
	}
	s.Figures = []bench.Figure{
		{Name: "fold", Unit: "events/s", Value: spread(subject, bench.Run.Rate), Limit: new(spread(limit, bench.Run.Rate)), Aim: &bench.Aim{Value: 8}},
		{Name: "fold: CPU", Unit: "s/million", Value: spread(subject, cpuPerMillion), Limit: new(spread(limit, cpuPerMillion))},
		plainFigure("data of an event", "B", float64(size)/float64(events)),
	}
	s.Checked = fmt.Sprintf("all %d orders, of %d events, are the same as folded from what encoding/json reads", len(histories), events)
	return s, nil
}

// foldHistory returns the order that stored events add up to.
func foldHistory(f *domain.Folder, history []eventstore.Event) (domain.Order, error) {
	f.Reset()
	for i := range history {
		if err := f.Add(history[i].Type, history[i].Data); err != nil {
			return domain.Order{}, err
		}
	}
	return f.Order(), nil
}

// checkFold compares orders with those folded from what encoding/json reads.
func checkFold(histories [][]eventstore.Event, types map[string]reflect.Type) error {
	var folder domain.Folder
	for _, history := range histories {
		is, err := foldHistory(&folder, history)
		if err != nil {
			return err
		}
		var should domain.Order
		for _, e := range history {
			event := reflect.New(types[e.Type]).Interface().(domain.Event)
			if err := json.Unmarshal(e.Data, event); err != nil {
				return err
			}
			should = domain.Evolve(should, event)
		}
		isBytes, err1 := domain.EncodeOrder(is)
		shouldBytes, err2 := domain.EncodeOrder(should)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !bytes.Equal(isBytes, shouldBytes) {
			return fmt.Errorf("order %s is folded into another one than from what encoding/json reads", is.ID)
		}
	}
	return nil
}

// playedHistories are the events of the demo's orders, as a ledger has stored them.
func (b *benchmark) playedHistories(ctx context.Context, orders int) (_ [][]eventstore.Event, err error) {
	log := slog.New(slog.DiscardHandler)
	n, err := openNode(ctx, nodeConfig{globals: globals{Ledger: "memory:"}, Rules: rules.Optics(), Log: log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	d := demoCommand{Orders: orders, Seed: 1, Exit: true}
	p := beginPlay(n.handler.Handle, d, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(-optics.Span), demoSpan)
	if err := p.run(ctx, d, func() {}); err != nil {
		return nil, err
	}
	var histories [][]eventstore.Event
	at := make(map[string]int)
	for e, err := range n.ledger.ReadAll(ctx, 0, eventstore.Filter{Prefixes: []string{domain.StreamPrefix}}) {
		if err != nil {
			return nil, err
		}
		i, ok := at[e.Stream]
		if !ok {
			i = len(histories)
			at[e.Stream] = i
			histories = append(histories, nil)
		}
		histories[i] = append(histories[i], e.Event)
	}
	return histories, nil
}
