package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

// same checks that all regions have the same rows, and returns their hash and how many there are. Regions that bring orders
// of several ledgers together still write when nobody asks them for anything: what counts is a moment at which none has.
func (f *fleet) same(ctx context.Context) (hash string, rows int, err error) {
	for {
		before, err := f.settled(ctx)
		if err != nil {
			return "", 0, err
		}
		hash, rows, different := f.compare(ctx)
		after, err := f.newest(ctx)
		if err != nil {
			return "", 0, err
		}
		if slices.Equal(before, after) {
			return hash, rows, different
		}
	}
}

func (f *fleet) compare(ctx context.Context) (hash string, rows int, err error) {
	for i, m := range f.members {
		sum, n, err := m.views.Hash(ctx)
		if err != nil {
			return "", 0, fmt.Errorf("region %s: %w", m.region.Name, err)
		}
		if i == 0 {
			hash, rows = hex.EncodeToString(sum[:]), n
		} else if other := hex.EncodeToString(sum[:]); other != hash || n != rows {
			return "", 0, &exitError{exitDifferent, fmt.Errorf("region %s has %d rows with the hash %s, and region %s has %d with %s",
				f.members[0].region.Name, rows, hash, m.region.Name, n, other)}
		}
	}
	return hash, rows, nil
}

// behind is how many events of others a member does not show, and how old the oldest of them is.
func (f *fleet) behind(ctx context.Context, m *member) (events int, age time.Duration, err error) {
	sources, err := m.views.Sources(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, home := range f.members {
		if home == m {
			continue
		}
		var passed eventstore.Position
		for _, s := range sources {
			if s.Ledger == home.own {
				passed = s.Passed
			}
		}
		for e, err := range home.ledger.ReadAll(ctx, passed, eventstore.Filter{Public: true}) {
			if err != nil {
				return 0, 0, err
			}
			age = max(age, time.Since(e.Time))
			if events++; events == projections.MaxLag {
				return events, age, nil
			}
		}
	}
	return events, age, nil
}

// passed reports whether a member shows all that marks mark.
func (m *member) passed(ctx context.Context, marks []eventstore.Mark) (bool, error) {
	sources, err := m.views.Sources(ctx)
	if err != nil {
		return false, err
	}
	reached := 0
	for _, mark := range marks {
		for _, s := range sources {
			if s.Ledger == mark.Ledger && s.Passed >= mark.Position {
				reached++
			}
		}
	}
	return reached == len(marks), nil
}

// shown lists all orders that a member shows, by their ids.
func (m *member) shown(ctx context.Context) (map[string][]domain.Status, error) {
	shown := make(map[string][]domain.Status)
	q := projections.Query{BusinessUnit: demoUnit, Limit: projections.MaxLimit}
	for {
		list, err := m.views.Orders(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			shown[o.ID.String()] = append(shown[o.ID.String()], o.Status)
			q.After = o.Cursor()
		}
		if len(list) < q.Limit {
			return shown, nil
		}
	}
}

// twice returns the orders that were submitted in more than one region, by their ids.
func (f *fleet) twice(ctx context.Context) (map[string]bool, error) {
	seen, twice := make(map[string]bool), make(map[string]bool)
	for _, m := range f.members {
		for e, err := range m.ledger.ReadAll(ctx, 0, eventstore.Filter{Prefixes: []string{domain.StreamPrefix}}) {
			if err != nil {
				return nil, err
			}
			if e.Revision != 0 {
				continue
			}
			id := e.Stream[len(domain.StreamPrefix):]
			twice[id] = seen[id]
			seen[id] = true
		}
	}
	for id, again := range twice {
		if !again {
			delete(twice, id)
		}
	}
	return twice, nil
}

// showsAll checks that a member shows every order that was acknowledged once and no others, each as it was answered last.
// Of an order that was made twice one counts, which may stand elsewhere.
func (m *member) showsAll(ctx context.Context, known map[string]domain.Status, twice map[string]bool) error {
	shown, err := m.shown(ctx)
	if err != nil {
		return err
	}
	for id, status := range known {
		switch {
		case len(shown[id]) != 1:
			return fmt.Errorf("region %s shows order %s %d times", m.region.Name, id, len(shown[id]))
		case shown[id][0] != status && !twice[id]:
			return fmt.Errorf("region %s shows order %s as %s, and it was answered as %s", m.region.Name, id, shown[id][0], status)
		}
	}
	if len(shown) != len(known) {
		return fmt.Errorf("region %s shows %d orders, and %d were acknowledged", m.region.Name, len(shown), len(known))
	}
	return nil
}
