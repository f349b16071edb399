package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/internal/bench"
)

// TestBench measures everything, for a moment.
func TestBench(t *testing.T) {
	for _, s := range subjects {
		t.Run(s.name, func(t *testing.T) {
			dir := t.TempDir()
			plot := filepath.Join(t.TempDir(), "plot.svg")
			out := mustCommand(t, "bench", s.name, "--quick", "--json", "--dir", dir, "--plot", plot)
			var report bench.Report
			check(t, json.Unmarshal([]byte(out), &report))
			if len(report.Sections) != 1 || report.Sections[0].Name != s.name || report.Sections[0].Checked == "" || report.Machine.Go == "" {
				t.Fatalf("%s", out)
			}
			for _, f := range report.Sections[0].Figures {
				if f.Value.Low <= 0 || f.Value.Low > f.Value.Median || f.Value.Median > f.Value.High || f.Limit != nil && f.Limit.Median <= 0 {
					t.Errorf("%+v", f)
				}
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%v is left behind: %v", left, err)
			}
			picture, err := os.ReadFile(plot)
			check(t, err)
			if !bytes.Contains(picture, []byte("<rect")) {
				t.Errorf("%s", picture)
			}
		})
	}
}

// TestBenchTellsOfLoss lets a subject fail its check: of it no figure is printed, and the command fails.
func TestBenchTellsOfLoss(t *testing.T) {
	lost := subject{"append", takesNothing, func(*benchmark, context.Context) (bench.Section, error) {
		return bench.Section{Name: "lost"}, &gateError{errors.New("one was lost")}
	}}
	kept := subject{"append", takesNothing, func(*benchmark, context.Context) (bench.Section, error) {
		return bench.Section{Name: "kept"}, nil
	}}
	var out, screen bytes.Buffer
	e := &environment{globals: globals{Data: t.TempDir()}, streams: streams{out: &out, err: &screen}}
	err := benchCommand{What: "append"}.runAll(t.Context(), e, []subject{lost, kept})
	if wrong := (*gateError)(nil); !errors.As(err, &wrong) || e.report(t.Context(), err) != exitFailure {
		t.Errorf("the command ends with %v", err)
	}
	if strings.Contains(out.String(), "lost") || !strings.Contains(out.String(), "kept") {
		t.Errorf("printed was\n%s", &out)
	}
}

// A lyingStore is a ledger that does not do what it acknowledges, or shows something else.
type lyingStore struct {
	eventstore.Store
	lie string

	mu       sync.Mutex // protects appended
	appended int
}

const lieAt = 58 // the event that is lied about: the last one of its stream

func (s *lyingStore) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appended++
	if s.appended != lieAt {
		return s.Store.Append(ctx, stream, expected, events)
	}
	revision := uint64(expected + 1)
	switch s.lie {
	case "lose":
		return eventstore.Appended{Revision: revision}, nil
	case "change":
		e := events[0]
		e.Data = bytes.Replace(e.Data, []byte("Oslo"), []byte("Bonn"), 1)
		if bytes.Equal(e.Data, events[0].Data) {
			e.Data = bytes.Replace(e.Data, []byte("a"), []byte("b"), 1)
		}
		return s.Store.Append(ctx, stream, expected, []eventstore.Event{e})
	case "misplace":
		_, err := s.Store.Append(ctx, stream+"0", eventstore.NoStream, events)
		return eventstore.Appended{Revision: revision}, err
	case "again":
		if _, err := s.Store.Append(ctx, stream, expected, events); err != nil {
			return eventstore.Appended{}, err
		}
		e := events[0]
		e.ID = uuid.New()
		_, err := s.Store.Append(ctx, stream, eventstore.At(revision), []eventstore.Event{e})
		return eventstore.Appended{Revision: revision}, err
	case "double":
		if _, err := s.Store.Append(ctx, stream+"0", eventstore.NoStream, events); err != nil {
			return eventstore.Appended{}, err
		}
	}
	return s.Store.Append(ctx, stream, expected, events)
}

func (s *lyingStore) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		var all []eventstore.Recorded
		for e, err := range s.Store.ReadAll(ctx, after, filter) {
			if err != nil {
				yield(e, err)
				return
			}
			all = append(all, e)
		}
		switch i := lieAt - 5; s.lie {
		case "reorder":
			all[i], all[i+1] = all[i+1], all[i]
		case "reposition":
			all[i].Position, all[i+1].Position = all[i+1].Position, all[i].Position
		case "repeat":
			all = slices.Insert(all, i, all[i])
		case "hide":
			all = slices.Delete(all, i, i+1)
		case "shorten":
			all = all[:len(all)-1]
		}
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// lies are those of which each check must find every one.
var lies = []string{"lose", "change", "misplace", "double", "again", "reorder", "reposition", "repeat", "hide", "shorten"}

func openLying(t *testing.T, lie string) *lyingStore {
	t.Helper()
	store, err := pebblestore.Open("ledger", &pebblestore.Config{FS: vfs.NewMem(), Logger: quiet})
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	return &lyingStore{Store: store, lie: lie}
}

func TestAppendedEventsAreChecked(t *testing.T) {
	load := func(t *testing.T, lie string) (events int, err error) {
		store := openLying(t, lie)
		l := newAppendLoad(store, "", 3)
		for range 40 {
			for worker := range l.writers {
				err := l.append(t.Context(), worker)
				if eventstore.IsConflict(err) {
					return 0, nil // the lie has come out by itself
				}
				check(t, err)
			}
		}
		return l.checkEvents(t.Context(), store)
	}
	if events, err := load(t, ""); err != nil || events != 120 {
		t.Fatalf("%d events: %v", events, err)
	}
	for _, lie := range lies {
		if events, err := load(t, lie); err == nil && events > 0 {
			t.Errorf("%s: %d events are found to be right", lie, events)
		} else {
			t.Log(lie, err)
		}
	}
}

// TestAcknowledgedRevisionIsChecked lets a ledger acknowledge another revision than that of the event.
func TestAcknowledgedRevisionIsChecked(t *testing.T) {
	l := newAppendLoad(appender(func() eventstore.Appended { return eventstore.Appended{Revision: 7} }), "", 1)
	if err := l.append(t.Context(), 0); err == nil {
		t.Error("revision 7 of a new stream passes")
	}
	l = newAppendLoad(appender(func() eventstore.Appended { return eventstore.Appended{Repeated: true} }), "", 1)
	if err := l.append(t.Context(), 0); err == nil {
		t.Error("an event that stood there already passes")
	}
}

type appender func() eventstore.Appended

func (a appender) Append(context.Context, string, eventstore.Expected, []eventstore.Event) (eventstore.Appended, error) {
	return a(), nil
}

func TestSubmittedOrdersAreChecked(t *testing.T) {
	load := func(t *testing.T, lie string) (orders int, err error) {
		store := openLying(t, lie)
		m, err := newOrderMaker(t.Context(), store)
		check(t, err)
		l := newSubmitLoad("", "submit", nil)
		for range 40 {
			for client := range 3 {
				n := l.clients[client].acked
				h := m.begin(submitName(l.name, client), n)
				asked := benchSubmission("", submissionOf(client, n))
				asked.PurchaseOrder = benchKey(submitName(l.name, client), n)
				h.do(asked)
				check(t, h.err)
				_, err := store.Append(t.Context(), domain.Stream(h.id), eventstore.NoStream, h.events[:1])
				check(t, err)
				l.clients[client].acked++
			}
		}
		return l.checkOrders(t.Context(), store)
	}
	if orders, err := load(t, ""); err != nil || orders != 120 {
		t.Fatalf("%d orders: %v", orders, err)
	}
	for _, lie := range lies {
		if _, err := load(t, lie); err == nil {
			t.Errorf("%s is found to be right", lie)
		} else {
			t.Log(lie, err)
		}
	}
}

func TestRowsAreChecked(t *testing.T) {
	ledger := openLying(t, "").Store
	m, err := newOrderMaker(t.Context(), ledger)
	check(t, err)
	check(t, m.fill(t.Context(), ledger, "rows", 0, 20, nil))
	dir := t.TempDir()
	check(t, rebuilt(t.Context(), ledger, dir))
	path := filepath.Join(dir, "views.db")
	look := func(status domain.Status, orders int) error {
		_, err := checkViews(t.Context(), ledger, path, status, orders)
		return err
	}
	check(t, look(domain.StatusClosed, 20))
	for name, err := range map[string]error{"fewer orders": look(domain.StatusClosed, 21), "another status": look(domain.StatusShipped, 20)} {
		if wrong := (*gateError)(nil); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	db, err := sql.Open("sqlite", path)
	check(t, err)
	_, err = db.Exec(`UPDATE timeline SET revision = 17 WHERE revision = 7`)
	check(t, errors.Join(err, db.Close()))
	if wrong := (*gateError)(nil); !errors.As(look(domain.StatusClosed, 20), &wrong) {
		t.Error("a changed row passes")
	}
}

// TestLimitInsertsAllRows compares what the limit of a rebuild has inserted with what it was to insert.
func TestLimitInsertsAllRows(t *testing.T) {
	ledger := openLying(t, "").Store
	m, err := newOrderMaker(t.Context(), ledger)
	check(t, err)
	check(t, m.fill(t.Context(), ledger, "rows", 0, 20, nil))
	dir := t.TempDir()
	check(t, rebuilt(t.Context(), ledger, dir))
	from, err := openSQLite(filepath.Join(dir, "views.db"), 1)
	check(t, err)
	defer from.Close()
	path := filepath.Join(dir, "copy.db")
	r, err := insertRows(t.Context(), from, path, 200, 33)
	check(t, err)
	if r.Ops != 200 || r.Elapsed <= 0 {
		t.Errorf("%+v", r)
	}
	if _, err := checkViews(t.Context(), ledger, path, domain.StatusClosed, 20); err != nil {
		t.Error(err)
	}
}

// TestGroupCommit looks for all records in the file.
func TestGroupCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	g, err := newGroupCommit(path, 1<<20)
	check(t, err)
	want := make(map[string]bool)
	var mu sync.Mutex
	_, err = bench.Counted(t.Context(), 16, 1_000, func(_ context.Context, worker int) error {
		mu.Lock()
		record := fmt.Sprintf("record %02d %04d;", worker, len(want))
		want[record] = true
		mu.Unlock()
		return g.append([]byte(record))
	})
	check(t, errors.Join(err, g.close()))
	if g.syncs >= 500 {
		t.Errorf("%d syncs for 1000 records of 16 writers: they do not share them", g.syncs)
	}
	text, err := os.ReadFile(path)
	check(t, err)
	if len(text) != 1<<20 {
		t.Errorf("the file has %d bytes", len(text))
	}
	records := 0
	for record := range bytes.SplitAfterSeq(bytes.TrimRight(text, "\x00"), []byte(";")) {
		if len(record) > 0 && !want[string(record)] {
			t.Fatalf("%q was not written, or twice", record)
		}
		delete(want, string(record))
		records++
	}
	if len(want) > 0 {
		t.Errorf("%d records are missing", len(want))
	}
}

// TestGroupCommitBeginsAgain writes more than the file has room for, and then cannot write.
func TestGroupCommitBeginsAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	g, err := newGroupCommit(path, 100)
	check(t, err)
	for i := range 10 {
		check(t, g.append(fmt.Appendf(nil, "%030d", i)))
	}
	text, err := os.ReadFile(path)
	check(t, err)
	if want := fmt.Sprintf("%030d%030d%030d", 9, 7, 8); string(text[:90]) != want || len(text) != 100 {
		t.Errorf("the file is %q", text)
	}
	check(t, g.file.Close())
	if err := g.append([]byte("lost")); err == nil {
		t.Error("a record is acknowledged that could not be written")
	}
	if err := g.close(); err == nil {
		t.Error("closing a file twice is no error")
	}
}

func takesNothing(*benchmark) time.Duration { return 0 }

// TestServerThatStopsIsNoticed closes the ledger below a server: nobody waits for it any longer, and the reason is told.
func TestServerThatStopsIsNoticed(t *testing.T) {
	b := &benchmark{log: quiet}
	n, alive, err := b.startNode(t.Context(), t.TempDir(), true)
	check(t, err)
	check(t, n.ready(alive))
	check(t, n.ledger.Close())
	<-alive.Done()
	if err := n.end(); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("the server has ended with %v", err)
	}
}
