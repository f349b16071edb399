package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newLedger opens a ledger in memory.
func newLedger(t testing.TB) *pebblestore.Store {
	t.Helper()
	return openLedger(t, vfs.NewMem(), "data")
}

func openLedger(t testing.TB, fs vfs.FS, dir string) *pebblestore.Store {
	t.Helper()
	ledger, err := pebblestore.Open(dir, &pebblestore.Config{FS: fs, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	return ledger
}

func head(t testing.TB, r eventstore.Reader) eventstore.Head {
	t.Helper()
	h, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// openMirror opens the mirror of a ledger in a file; empty: a new one. It is closed with the test.
func openMirror(t testing.TB, path string, source eventstore.Reader, log *slog.Logger) *mirror.Mirror {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "source.db")
	}
	m, err := mirror.Open(t.Context(), path, mirror.Config{Ledger: head(t, source).ID, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func events(n int) []eventstore.Event {
	all := make([]eventstore.Event, n)
	for i := range all {
		all[i] = eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Data: fmt.Appendf(nil, `{"n":%d}`, i), Metadata: []byte(`{}`)}
	}
	return all
}

// fill appends one event to each of so many streams, and some that no mirror sees.
func fill(t testing.TB, ledger eventstore.Appender, n int) {
	t.Helper()
	for i := range n {
		for stream, every := range map[string]int{"order-" + uuid.NewString(): 1, "relay-1": 7} {
			if i%every != 0 {
				continue
			}
			if _, err := ledger.Append(t.Context(), stream, eventstore.Any, events(1)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func collect(t testing.TB, seq iter.Seq2[eventstore.Recorded, error]) []eventstore.Recorded {
	t.Helper()
	var all []eventstore.Recorded
	for e, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// public reads the public events of a ledger.
func public(t testing.TB, r eventstore.Reader) []eventstore.Recorded {
	t.Helper()
	return collect(t, r.ReadAll(t.Context(), 0, eventstore.Filter{Public: true}))
}

func catchUp(t testing.TB, m *mirror.Mirror, source eventstore.Reader) {
	t.Helper()
	if err := m.CatchUp(t.Context(), source); err != nil {
		t.Fatal(err)
	}
}

func apply(t testing.TB, m *mirror.Mirror, deliveries ...eventstore.Delivery) {
	t.Helper()
	if err := m.Apply(t.Context(), deliveries); err != nil {
		t.Fatal(err)
	}
}

// checkEqual compares a mirror with what it must hold and show, byte for byte, and verifies it.
func checkEqual(t testing.TB, m *mirror.Mirror, want []eventstore.Recorded) {
	t.Helper()
	check(t, m, want, len(want))
}

// checkVerified is checkEqual for a mirror that need not know whether the last of its events end an append: it shows at
// least those up to where an event of another stream follows.
func checkVerified(t testing.TB, m *mirror.Mirror, want []eventstore.Recorded) {
	t.Helper()
	check(t, m, want, whole(want))
}

// whole counts the events of which those that follow tell that they are whole appends.
func whole(all []eventstore.Recorded) int {
	n := len(all)
	for n > 0 && all[n-1].Stream == all[len(all)-1].Stream {
		n--
	}
	return n
}

// check has a mirror hold some events and show so many of them at least.
func check(t testing.TB, m *mirror.Mirror, want []eventstore.Recorded, shown int) {
	t.Helper()
	got := public(t, m)
	if len(got) < shown || len(got) > len(want) {
		t.Fatalf("the mirror shows %d events, want %d to %d", len(got), shown, len(want))
	}
	for i := range got {
		if got[i].Position != want[i].Position || got[i].Chain != want[i].Chain ||
			!bytes.Equal(eventstore.AppendRecord(nil, &got[i]), eventstore.AppendRecord(nil, &want[i])) {
			t.Fatalf("event %d (-want +got):\n%s", i, cmp.Diff(want[i], got[i]))
		}
	}
	if err := m.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := m.Status(); s.Events != uint64(len(want)) {
		t.Fatalf("the mirror counts %d events, want %d", s.Events, len(want))
	}
}

// deliveries are what a relay sends of a ledger, in order.
func deliveries(id eventstore.Identity, all []eventstore.Recorded) []eventstore.Delivery {
	list := make([]eventstore.Delivery, len(all))
	previous := make(map[int]eventstore.Position)
	for i := range all {
		lane := eventstore.Lane(all[i].Stream, id.Lanes)
		list[i] = eventstore.Delivery{
			Source: id.ID, Incarnation: id.Incarnation, Lane: lane,
			Previous: previous[lane], Position: all[i].Position, Event: &all[i],
		}
		previous[lane] = all[i].Position
	}
	return list
}

// A changed ledger shows other events than the one behind it.
type changed struct {
	eventstore.Reader
	head  func(*eventstore.Head)
	event func(*eventstore.Recorded) bool // reports whether the event is shown
	fail  func() error                    // asked before each event
}

func (c changed) Head(ctx context.Context) (eventstore.Head, error) {
	h, err := c.Reader.Head(ctx)
	if err == nil && c.head != nil {
		c.head(&h)
	}
	return h, err
}

func (c changed) change(seq iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range seq {
			if err == nil && c.fail != nil {
				if err := c.fail(); err != nil {
					yield(eventstore.Recorded{}, err)
					return
				}
			}
			if err == nil && c.event != nil && !c.event(&e) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (c changed) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return c.change(c.Reader.ReadAll(ctx, after, f))
}

func (c changed) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return c.change(c.Reader.Subscribe(ctx, after, f))
}

// unchained is how a ledger looks that leaves the chain to its relay.
func unchained(r eventstore.Reader) changed {
	return changed{
		Reader: r,
		head:   func(h *eventstore.Head) { h.Chain = eventstore.Hash{} },
		event:  func(e *eventstore.Recorded) bool { e.Chain = eventstore.Hash{}; return true },
	}
}

// A logBook counts what is logged.
type logBook struct{ bytes.Buffer }

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logBook) count(text string) int { return strings.Count(l.String(), text) }

var _ io.Writer = (*logBook)(nil)

func checkError(t testing.TB, got, want error, texts ...string) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error %v, want %v", got, want)
	}
	for _, text := range texts {
		if !strings.Contains(got.Error(), text) {
			t.Errorf("error %q does not say %q", got, text)
		}
	}
}

// soon is a context in which everything that works is done.
func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// failing is a ledger that cannot be reached.
type failing struct {
	eventstore.Reader
	err error
}

func (f failing) Head(context.Context) (eventstore.Head, error) { return eventstore.Head{}, f.err }

type sequence = iter.Seq2[eventstore.Recorded, error]

func newerIncarnation(h *eventstore.Head) { h.Incarnation++ }
