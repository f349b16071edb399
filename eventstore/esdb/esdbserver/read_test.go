package esdbserver_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb/esdbserver"
)

func TestReadAStreamBothWaysFromEveryRevision(t *testing.T) {
	t.Parallel()
	d := open(t)
	const n = 5
	d.append("s", esdb.NoStream{}, newEvents(n)...)
	d.append("s2", esdb.NoStream{}, newEvents(n)...)
	names := strings.Fields("0:t0 1:t1 2:t2 3:t3 4:t4")
	back := slices.Clone(names)
	slices.Reverse(back)
	for from := range n + 2 {
		for count := 1; count <= n+1; count++ {
			want := names[min(from, n):min(from+count, n)]
			if got := d.read("s", esdb.ReadStreamOptions{From: esdb.Revision(uint64(from))}, uint64(count)); got != strings.Join(want, " ") {
				t.Errorf("%d forwards from %d: %s, want %v", count, from, got, want)
			}
			begin := max(n-1-from, 0)
			want = back[begin:min(begin+count, n)]
			if got := d.read("s", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.Revision(uint64(from))}, uint64(count)); got != strings.Join(want, " ") {
				t.Errorf("%d backwards from %d: %s, want %v", count, from, got, want)
			}
		}
	}
	for name, c := range map[string]struct {
		o    esdb.ReadStreamOptions
		want string
	}{
		"forwards from the start":  {esdb.ReadStreamOptions{From: esdb.Start{}}, strings.Join(names, " ")},
		"forwards from the end":    {esdb.ReadStreamOptions{From: esdb.End{}}, ""},
		"backwards from the start": {esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.Start{}}, "0:t0"},
		"backwards from the end":   {esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, strings.Join(back, " ")},
	} {
		if got := d.read("s", c.o, 100); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if got := d.read("s", esdb.ReadStreamOptions{}, 0); got != "" {
		t.Errorf("no events were asked for, and %s came", got)
	}
	if got := d.read("missing", esdb.ReadStreamOptions{}, 1); got != "error not found" {
		t.Errorf("a stream that does not exist: %s", got)
	}
}

func TestReadAllBothWaysFromEveryPosition(t *testing.T) {
	t.Parallel()
	d := open(t)
	const n = 700 // several windows of a backward reading
	for i := range n / 10 {
		d.append(fmt.Sprintf("s%d", i%3), esdb.Any{}, newEvents(10)...)
	}
	all, err := drain(d.ReadAll(d.ctx, esdb.ReadAllOptions{From: esdb.Start{}}, 1000))
	if err != nil || len(all) != n {
		t.Fatalf("%d events, error %v", len(all), err)
	}
	ids := func(events []*esdb.ResolvedEvent) (s []string) {
		for _, e := range events {
			s = append(s, e.Event.EventID.String())
		}
		return s
	}
	back := slices.Clone(all)
	slices.Reverse(back)
	check := func(what string, o esdb.ReadAllOptions, want []*esdb.ResolvedEvent) {
		t.Helper()
		got, err := drain(d.ReadAll(d.ctx, o, 1000))
		if err != nil || !slices.Equal(ids(got), ids(want)) {
			t.Errorf("%s: %d events, error %v, want %d", what, len(got), err, len(want))
		}
	}
	for i := 0; i < n; i += 37 {
		p := all[i].Event.Position
		check(fmt.Sprintf("forwards from event %d", i), esdb.ReadAllOptions{From: p}, all[i:])
		check(fmt.Sprintf("backwards from event %d", i), esdb.ReadAllOptions{From: p, Direction: esdb.Backwards}, back[n-i:])
	}
	check("forwards from the end", esdb.ReadAllOptions{From: esdb.End{}}, nil)
	check("backwards from the start", esdb.ReadAllOptions{From: esdb.Start{}, Direction: esdb.Backwards}, nil)
	check("backwards from the end", esdb.ReadAllOptions{From: esdb.End{}, Direction: esdb.Backwards}, back)
	beyond := esdb.Position{Commit: 1 << 40, Prepare: 1 << 40}
	check("forwards from beyond the end", esdb.ReadAllOptions{From: beyond}, nil)
	check("backwards from beyond the end", esdb.ReadAllOptions{From: beyond, Direction: esdb.Backwards}, back)
	few, err := drain(d.ReadAll(d.ctx, esdb.ReadAllOptions{From: esdb.End{}, Direction: esdb.Backwards}, 3))
	if err != nil || !slices.Equal(ids(few), ids(back[:3])) {
		t.Errorf("the newest three: %d events, error %v", len(few), err)
	}
	negative := esdb.Position{Commit: 1 << 63, Prepare: 1 << 63}
	if _, err := drain(d.ReadAll(d.ctx, esdb.ReadAllOptions{From: negative}, 1)); code(err) != "unknown" {
		t.Errorf("a negative position: %v", err)
	}
}

// A sparse ledger has positions with wide gaps behind the first dense ones.
type sparse struct{ eventstore.Store }

const (
	dense = 300
	gap   = 1_000_000
)

func spread(p eventstore.Position) eventstore.Position { return p + max(p, dense)*gap - dense*gap }

func (s sparse) Head(ctx context.Context) (eventstore.Head, error) {
	h, err := s.Store.Head(ctx)
	h.Position = spread(h.Position)
	return h, err
}

func (s sparse) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range s.Store.ReadAll(ctx, min(after, dense), f) {
			e.Position = spread(e.Position)
			if (err != nil || e.Position > after) && !yield(e, err) {
				return
			}
		}
	}
}

func TestReadAllBackwardsOverGaps(t *testing.T) {
	t.Parallel()
	store := newStore(t, nil)
	server := start(t, esdbserver.Config{Store: sparse{store}})
	d := &db{Client: connect(t, server.ConnectionString()), t: t, ctx: t.Context(), store: store, server: server}
	const n = dense + 20
	d.append("s", esdb.NoStream{}, newEvents(n)...)
	events, err := drain(d.ReadAll(d.ctx, esdb.ReadAllOptions{From: esdb.End{}, Direction: esdb.Backwards}, 1000))
	if err != nil || len(events) != n {
		t.Fatalf("%d events, error %v, want %d", len(events), err, n)
	}
	for i, e := range events {
		if e.Event.EventNumber != uint64(n-1-i) {
			t.Fatalf("event %d stands where %d was looked for", e.Event.EventNumber, n-1-i)
		}
	}
}

func TestLinksAreResolved(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.append("s", esdb.NoStream{}, newEvents(2)...)
	d.append("gone", esdb.NoStream{}, newEvent("t"))
	if _, err := d.TombstoneStream(d.ctx, "gone", esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"1@s", "7@s", "0@missing", "0@gone", "nonsense"} {
		e := newEvent("$>")
		e.ContentType, e.Data = esdb.ContentTypeBinary, []byte(target)
		d.append("links", esdb.Any{}, e)
	}
	events, err := drain(d.ReadStream(d.ctx, "links", esdb.ReadStreamOptions{ResolveLinkTos: true}, 10))
	if err != nil || len(events) != 5 {
		t.Fatalf("%d events, error %v", len(events), err)
	}
	for i, e := range events {
		if e.Link == nil || e.Link.StreamID != "links" {
			t.Errorf("link %d: %+v", i, e.Link)
		}
		if found := e.Event != nil; found != (i == 0) || found && (e.Event.StreamID != "s" || e.Event.EventNumber != 1) {
			t.Errorf("link %d leads to %+v", i, e.Event)
		}
	}
	plain, err := drain(d.ReadStream(d.ctx, "links", esdb.ReadStreamOptions{}, 10))
	if err != nil || plain[0].Link != nil || plain[0].Event.StreamID != "links" {
		t.Errorf("unresolved: %+v, error %v", plain, err)
	}
}
