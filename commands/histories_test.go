package commands

import (
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
)

// TestHistoriesAreBounded fills histories several times over with orders of all kinds and looks how much memory is
// taken. They must keep to their bound, and use enough of it to be of use.
func TestHistoriesAreBounded(t *testing.T) {
	var orders [100][]domaintest.Recorded
	for i := range orders {
		orders[i] = rapid.Custom(domaintest.History).Example(i)
	}
	var h histories
	before := heap()
	for i, size := 0, 0; size < maxHistories*9/4; i++ {
		step := NewStep(eventstore.Identity{}, domain.Command{Order: uuid.New()}, domain.Digest{})
		for revision, r := range orders[i%len(orders)] {
			take(t, step, uint64(revision), r)
		}
		h.add(step, 0)
		size += h.young[step.command.Order].size()
	}
	taken := heap() - before
	if taken > maxHistories || taken < maxHistories/4 {
		t.Errorf("histories take %d bytes, the bound is %d", taken, maxHistories)
	}
	t.Logf("%d orders in %d bytes, estimated for the young ones: %d", len(h.young)+len(h.old), taken, h.size)
	runtime.KeepAlive(&h)
}

// TestLargeHistoryIsForgotten adds to one order until it is larger than a generation.
func TestLargeHistoryIsForgotten(t *testing.T) {
	var h histories
	order := uuid.New()
	event := domaintest.Recorded{Event: &domain.Closed{}}
	for n := uint64(0); n < 2*maxHistories/perCommand; n += 10_000 {
		step := NewStep(eventstore.Identity{}, domain.Command{Order: order}, domain.Digest{})
		step.order = h.before(order, uuid.Nil)
		known := step.order.Events
		for range 10_000 {
			event.Meta.Command = uuid.New()
			take(t, step, step.order.Events, event)
		}
		h.add(step, known)
		if k := h.young[order]; k == nil || k.order.Events != step.order.Events {
			if n < 100_000 {
				t.Fatalf("an order of %d events is not remembered", step.order.Events)
			}
			if h.size != 0 || len(h.young)+len(h.old) != 0 {
				t.Fatalf("%d bytes of %d histories are left", h.size, len(h.young)+len(h.old))
			}
			return
		}
	}
	t.Error("the order was never forgotten")
}

// TestOverwrittenHistoryIsRemembered adds more bytes of events than a generation takes to an order that stays small.
func TestOverwrittenHistoryIsRemembered(t *testing.T) {
	var h histories
	order := uuid.New()
	text := strings.Repeat("long ", domain.MaxText/len("long "))
	var all domain.Order
	for range 2 * maxHistories / perByte / len(text) {
		step := NewStep(eventstore.Identity{}, domain.Command{Order: order}, domain.Digest{})
		step.order = h.before(order, uuid.Nil)
		known := step.order.Events
		for _, e := range []domain.Event{&domain.Held{Hold: domain.Hold{ID: "h", Reason: domain.Reason{Code: "x", Text: text}}}, &domain.Released{Hold: "h"}} {
			take(t, step, step.order.Events, domaintest.Recorded{Event: e, Meta: domain.Meta{Command: uuid.New()}})
			all = domain.Evolve(all, e)
		}
		h.add(step, known)
	}
	if d := cmp.Diff(all, h.before(order, uuid.Nil), cmp.Comparer(func(a, b domain.Decimal) bool { return a == b }), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("the order is not what its events add up to (-want +got):\n%s", d)
	}
}

func take(t *testing.T, s *Step, revision uint64, r domaintest.Recorded) {
	t.Helper()
	data, err := domain.EncodeEvent(r.Event)
	if err != nil {
		t.Fatal(err)
	}
	metadata, err := domain.EncodeMeta(r.Meta)
	if err != nil {
		t.Fatal(err)
	}
	event := eventstore.Event{Type: r.Event.Type(), Data: data, Metadata: metadata}
	if err := s.Take(eventstore.Recorded{Event: event, Revision: revision}); err != nil {
		t.Fatal(err)
	}
}

// heap returns how many bytes are in use.
func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestHistoriesHaveNoGap adds what several steps have read of one order, in any order of their ends.
func TestHistoriesHaveNoGap(t *testing.T) {
	order := uuid.New()
	event := func(n uint64) domaintest.Recorded {
		return domaintest.Recorded{Event: &domain.Closed{}, Meta: domain.Meta{Command: uuid.NewSHA1(order, []byte{byte(n)})}}
	}
	rapid.Check(t, func(rt *rapid.T) {
		var h histories
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			first := rapid.Uint64Range(0, 10).Draw(rt, "first")
			step := NewStep(eventstore.Identity{}, domain.Command{Order: order}, domain.Digest{})
			step.order = domain.Order{Events: first}
			for n := range rapid.Uint64Range(0, 10).Draw(rt, "events") {
				take(t, step, first+n, event(first+n))
			}
			had := h.before(order, uuid.Nil).Events
			h.add(step, first)
			now := h.before(order, uuid.Nil).Events
			want := had
			if first <= had {
				want = max(had, step.order.Events)
			}
			if now != want {
				rt.Fatalf("%d events are remembered after %d to %d were added to %d", now, first, step.order.Events, had)
			}
			for n := range now {
				if h.before(order, event(n).Meta.Command).Exists() {
					rt.Fatalf("the command of event %d of %d is not remembered", n, now)
				}
			}
		}
	})
}
