package projections_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

func markOf(t tester, l eventstore.Reader, x *life) eventstore.Mark {
	t.Helper()
	head, err := l.Head(t.Context())
	check(t, err)
	return eventstore.Mark{Ledger: head.ID, Incarnation: head.Incarnation, Position: x.mark.Position, Revision: x.mark.Revision}
}

func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		x := newLife(t, l, "one", nil)
		v, p := caughtUp(t, l)
		x.deliver()
		mark := markOf(t, l, x)
		wait := func(order *uuid.UUID) <-chan error {
			done := make(chan error, 1)
			go func() { done <- v.WaitFor(t.Context(), mark, order) }()
			synctest.Wait()
			return done
		}
		one, all := wait(&x.order.ID), wait(nil)
		list := deliveries(t, l)
		event := slices.IndexFunc(list, func(d eventstore.Delivery) bool { return d.Event == nil })
		for i, d := range list {
			check(t, p.Apply(t.Context(), []eventstore.Delivery{d}))
			synctest.Wait()
			if got, want := len(one) == 1, i >= event-1; got != want {
				t.Fatalf("after delivery %d the order's waiter has returned: %t, want %t", i, got, want)
			}
			if got, want := len(all) == 1, i == len(list)-1; got != want {
				t.Fatalf("after delivery %d the list's waiter has returned: %t, want %t", i, got, want)
			}
		}
		check(t, <-one)
		check(t, <-all)
		check(t, v.WaitFor(t.Context(), mark, &x.order.ID))
		check(t, v.WaitFor(t.Context(), mark, nil))
	})
}

// A mark of another order is reached by commits that do not touch the order that is waited for, which may not even exist.
func TestWaitForAnOrderWithAMarkOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		x := newLife(t, l, "one", nil)
		v, p := caughtUp(t, l)
		y := newLife(t, l, "two", nil).deliver()
		mark := markOf(t, l, y)
		var waiting []<-chan error
		for _, order := range []uuid.UUID{x.order.ID, uuid.New()} {
			done := make(chan error, 1)
			go func() { done <- v.WaitFor(t.Context(), mark, &order) }()
			waiting = append(waiting, done)
		}
		synctest.Wait()
		for _, d := range deliveries(t, l) {
			check(t, p.Apply(t.Context(), []eventstore.Delivery{d}))
			synctest.Wait()
		}
		for i, done := range waiting {
			if len(done) == 0 {
				t.Fatalf("waiter %d still waits when everything is there", i)
			}
			check(t, <-done)
		}
	})
}

func TestWaitForInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		x := newLife(t, l, "one", nil)
		understood := true
		v, p := caughtUp(t, strange{l, func(e *eventstore.Recorded) {
			if !understood {
				e.Type = "order.teleported.v1"
			}
		}})
		x.deliver()
		mark := markOf(t, l, x)

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.WaitFor(ctx, mark, &x.order.ID) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want %v", err, context.Canceled)
		}

		go func() { done <- v.WaitFor(t.Context(), mark, &x.order.ID) }()
		synctest.Wait()
		understood = false
		check(t, p.CatchUp(t.Context()))
		if err := <-done; !errors.Is(err, projections.ErrParked) {
			t.Errorf("got error %v, want %v", err, projections.ErrParked)
		}

		mark.Ledger = uuid.New()
		if err := v.WaitFor(t.Context(), mark, nil); !errors.Is(err, projections.ErrUnknownLedger) {
			t.Errorf("got error %v, want %v", err, projections.ErrUnknownLedger)
		}
	})
}

// Those who watch see each entry once and in order, whether it was there or comes while they read.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		x := newLife(t, l, "one", nil)
		for i := range 80 { // more than one chunk
			newLife(t, l, "other"+string(rune('A'+i)), nil)
		}
		v, p := caughtUp(t, l)
		row, _, err := v.Order(t.Context(), domaintest.BusinessUnit, x.order.ID)
		check(t, err)

		ctx, cancel := context.WithCancel(t.Context())
		var watchers sync.WaitGroup
		var entries []projections.Entry
		var notes []projections.Notification
		var ends [2]error
		watchers.Go(func() {
			for e, err := range v.WatchOrder(ctx, domaintest.BusinessUnit, row.Source, x.order.ID, 1) {
				if err != nil {
					ends[0] = err
					return
				}
				entries = append(entries, e)
			}
		})
		watchers.Go(func() {
			for n, err := range v.WatchNotifications(ctx, domaintest.BusinessUnit, nil) {
				if err != nil {
					ends[1] = err
					return
				}
				notes = append(notes, n)
			}
		})
		synctest.Wait()
		if len(entries) != 2 || len(notes) != 3*81 {
			t.Errorf("at first %d entries and %d notifications", len(entries), len(notes))
		}
		x.deliver()
		for _, d := range deliveries(t, l) {
			check(t, p.Apply(t.Context(), []eventstore.Delivery{d}))
			if d.Event != nil && d.Event.Revision == 3 {
				synctest.Wait() // so that the watchers meet some commits one by one and others together
			}
		}
		synctest.Wait()
		cancel()
		watchers.Wait()
		for _, err := range ends {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a watch ended with error %v, want %v", err, context.Canceled)
			}
		}
		for i, e := range entries {
			if e.Revision != uint64(i)+1 {
				t.Errorf("entry %d has revision %d", i, e.Revision)
			}
		}
		if len(entries) != 6 || len(notes) != 3*81+4 {
			t.Errorf("%d entries and %d notifications", len(entries), len(notes))
		}
		if !slices.IsSortedFunc(notes, func(a, b projections.Notification) int { return int(a.Place.Position) - int(b.Place.Position) }) {
			t.Error("notifications are out of order")
		}

		// A watch may be left at any time.
		for range v.WatchOrder(t.Context(), domaintest.BusinessUnit, row.Source, x.order.ID, 0) {
			break
		}
		for range v.WatchNotifications(t.Context(), domaintest.BusinessUnit, nil) {
			break
		}
	})
}
