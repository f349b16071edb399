package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
)

func TestWait(t *testing.T) {
	ledger := newLedger(t)
	m := openMirror(t, "", ledger, nil)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	checkError(t, m.Wait(over, 0, 0), context.Canceled) // it is not known which incarnation it is
	catchUp(t, m, ledger)
	if err := m.Wait(over, 0, 0); err != nil {
		t.Errorf("the beginning: %v", err)
	}
	fill(t, ledger, 5)
	sent := deliveries(head(t, ledger).Identity, public(t, ledger))
	done := make(chan error)
	go func() { done <- m.Wait(soon(t), 0, sent[2].Position) }()
	for i := range 4 { // the last one tells that the append before it has ended
		apply(t, m, sent[3-i])
		checkErr := m.Wait(over, 0, sent[2].Position)
		if i < 3 {
			checkError(t, checkErr, context.Canceled)
		} else if checkErr != nil {
			t.Error(checkErr)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	checkError(t, m.Wait(over, 1, 1), context.Canceled)
}

// TestASlowReaderHindersNobody leaves sequences open while the mirror grows.
func TestASlowReaderHindersNobody(t *testing.T) {
	m, source, sent := followed(t, 400, nil)
	m.Limit(100, 1<<20, 100, 7)
	apply(t, m, sent[:201]...)
	n := 0
	for range m.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		for range m.Subscribe(t.Context(), 0, eventstore.Filter{}) {
			break
		}
		if n++; n < 200 {
			apply(t, m, sent[200+n])
		}
	}
	if n != 200 {
		t.Errorf("%d events, want the 200 that were shown at the call", n)
	}
	checkVerified(t, m, public(t, source))
}

// TestMemory catches up with, holds and reads far more than may be in memory.
func TestMemory(t *testing.T) {
	const size, n = 256 << 10, 200 // 50 MiB
	data := bytes.Repeat([]byte("x"), size)
	ledger := newLedger(t)
	m := openMirror(t, "", ledger, nil)
	m.Limit(10_000, 8<<20, 1000, 256)
	catchUp(t, m, ledger)
	id := head(t, ledger).Identity
	var highest uint64
	watch := func() {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		highest = max(highest, s.HeapAlloc)
	}
	source := &endless{identity: id, n: n, data: data}
	watch()
	base := highest
	for e, err := range source.all(0, nil) { // deliveries that never link
		if err != nil {
			t.Fatal(err)
		}
		if e.Position%2 == 0 {
			apply(t, m, eventstore.Delivery{Source: id.ID, Incarnation: id.Incarnation, Position: e.Position, Event: &e})
		}
		if e.Position%50 == 0 {
			watch()
		}
	}
	if s := m.Status(); s.Held*size > 8<<20 || s.Held < 20 {
		t.Errorf("%d deliveries are held", s.Held)
	}
	source.watch = watch
	catchUp(t, m, source)
	seen := 0
	for _, err := range m.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen%50 == 0 {
			watch()
		}
	}
	if seen != n {
		t.Errorf("%d events", seen)
	}
	if highest-base > 20<<20 {
		t.Errorf("%d MiB were in use at once", (highest-base)>>20)
	}
}

// An endless ledger makes its events as they are read.
type endless struct {
	eventstore.Reader
	identity eventstore.Identity
	n        int
	data     []byte
	watch    func()
}

func (l *endless) all(after eventstore.Position, chain *eventstore.Hash) func(func(eventstore.Recorded, error) bool) {
	return func(yield func(eventstore.Recorded, error) bool) {
		var hash eventstore.Hash
		for i := range l.n {
			e := eventstore.Recorded{
				Event:  eventstore.Event{ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)), Type: "test.happened.v1", Data: l.data},
				Stream: fmt.Sprint("order-", i), Position: eventstore.Position(i + 1), Time: time.Unix(int64(i), 0).UTC(),
			}
			hash = eventstore.Chain(hash, &e)
			e.Chain = hash
			if e.Position > after && !yield(e, nil) {
				return
			}
			if l.watch != nil && i%50 == 0 {
				l.watch()
			}
		}
		if chain != nil {
			*chain = hash
		}
	}
}

func (l *endless) Head(context.Context) (eventstore.Head, error) {
	h := eventstore.Head{Identity: l.identity, Position: eventstore.Position(l.n)}
	for _, err := range l.all(0, &h.Chain) {
		if err != nil {
			return h, err
		}
	}
	return h, nil
}

func (l *endless) ReadAll(_ context.Context, after eventstore.Position, _ eventstore.Filter) sequence {
	return l.all(after, nil)
}

func TestLag(t *testing.T) {
	ledger := newLedger(t)
	m := openMirror(t, "", ledger, nil)
	catchUp(t, m, ledger)
	fill(t, ledger, 70)
	all := public(t, ledger)
	sent := deliveries(head(t, ledger).Identity, all)
	tick := sent[69]
	tick.Event = nil
	apply(t, m, tick)
	if s := m.Status(); s.Lag < 70 || s.Source != all[69].Position {
		t.Errorf("nothing is there: %+v", s)
	}
	apply(t, m, sent[:35]...)
	if s := m.Status(); s.Lag < 30 || s.Lag > 40 || s.Events != 35 {
		t.Errorf("a half is there: %+v", s)
	}
	apply(t, m, sent[35:]...)
	if s := m.Status(); s.Lag != 1 || s.Events != 70 {
		t.Errorf("all is there, and the last one may be half an append: %+v", s)
	}
	catchUp(t, m, ledger)
	if s := m.Status(); s.Lag != 0 || s.Behind != 0 {
		t.Errorf("all is there: %+v", s)
	}
	far := tick
	far.Position = 1<<63 - 1
	apply(t, m, far)
	if s := m.Status(); s.Lag < 1<<60 {
		t.Errorf("far behind: %+v", s)
	}
}

func TestDeliveriesOfALaterIncarnationAreHeld(t *testing.T) {
	m, source, sent := followed(t, 4, nil)
	for i := range sent {
		sent[i].Incarnation = 2
	}
	apply(t, m, sent...)
	if s := m.Status(); s.Held != 4 || !m.NeedsCatchUp(time.Now()) {
		t.Errorf("status %+v", s)
	}
	// The ledger's feed ends where the new incarnation branches off: what was held links.
	catchUp(t, m, changed{Reader: source, head: func(h *eventstore.Head) { h.Incarnation = 2 }, event: func(*eventstore.Recorded) bool { return true }})
	checkEqual(t, m, public(t, source))
	if _, err := m.Head(t.Context()); err != nil || errors.Is(err, mirror.ErrUnreached) {
		t.Error(err)
	}
}

// TestASubscriptionFromTheBeginning begins before the first contact and ends with the incarnation.
func TestASubscriptionFromTheBeginning(t *testing.T) {
	ledger := newLedger(t)
	fill(t, ledger, 3)
	m := openMirror(t, "", ledger, nil)
	next, stop := iter.Pull2(m.Subscribe(soon(t), 0, eventstore.Filter{}))
	defer stop()
	go func() {
		if err := m.CatchUp(t.Context(), ledger); err != nil {
			t.Error(err)
		}
	}()
	for range 3 {
		if _, err, ok := next(); err != nil || !ok {
			t.Fatal(err)
		}
	}
	catchUp(t, m, changed{Reader: ledger, head: newerIncarnation})
	_, err, _ := next()
	checkError(t, err, mirror.ErrBranched)
}
