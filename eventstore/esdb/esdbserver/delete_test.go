package esdbserver_test

import (
	"context"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb/esdbserver"
)

func (d *db) delete(stream string, expected esdb.ExpectedRevision) {
	d.t.Helper()
	r, err := d.DeleteStream(d.ctx, stream, esdb.DeleteStreamOptions{ExpectedRevision: expected})
	if err != nil {
		d.t.Fatalf("deleting %s: %v", stream, err)
	}
	if r.Position.Commit == 0 || r.Position.Commit != r.Position.Prepare {
		d.t.Errorf("deleting %s: %+v", stream, r)
	}
}

func TestADeletedStreamComesBackWithoutItsEvents(t *testing.T) {
	t.Parallel()
	for _, expected := range []esdb.ExpectedRevision{esdb.NoStream{}, esdb.Any{}, esdb.Revision(2)} {
		d := open(t)
		first := newEvents(3)
		d.append("s", esdb.NoStream{}, first...)
		d.delete("s", esdb.Revision(2))
		if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "error not found" {
			t.Errorf("a deleted stream shows %s", got)
		}
		if _, err := d.AppendToStream(d.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.StreamExists{}}, newEvent("t")); code(err) != "deleted" {
			t.Errorf("append where it must exist: %v", err)
		}
		if _, err := d.AppendToStream(d.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(1)}, newEvent("t")); code(err) != "conflict" {
			t.Errorf("append at an old revision: %v", err)
		}
		if w := d.append("s", esdb.NoStream{}, first...); w.NextExpectedVersion != 2 {
			t.Errorf("a repetition of what was deleted: %+v", w)
		}
		if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "error not found" {
			t.Errorf("a repetition brought the stream back: %s", got)
		}
		if w := d.append("s", expected, newEvent("new")); w.NextExpectedVersion != 3 {
			t.Errorf("%T: %+v", expected, w)
		}
		for _, o := range []esdb.ReadStreamOptions{{}, {Direction: esdb.Backwards, From: esdb.End{}}} {
			if got := d.read("s", o, 10); got != "3:new" {
				t.Errorf("%T: the stream shows %s", expected, got)
			}
		}
		d.delete("s", esdb.Any{})
		d.delete("s", esdb.Any{})
	}
}

func TestDeleteChecksTheExpectedRevision(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, expected := range []esdb.ExpectedRevision{esdb.NoStream{}, esdb.Any{}, esdb.StreamExists{}, esdb.Revision(0)} {
		_, err := d.DeleteStream(d.ctx, "missing", esdb.DeleteStreamOptions{ExpectedRevision: expected})
		if err == nil || !strings.Contains(err.Error(), `"missing"`) {
			t.Errorf("deleting a stream that does not exist at %T: %v", expected, err)
		}
	}
	d.append("s", esdb.NoStream{}, newEvents(2)...)
	for _, expected := range []esdb.ExpectedRevision{esdb.NoStream{}, esdb.Revision(0), esdb.Revision(2)} {
		if _, err := d.DeleteStream(d.ctx, "s", esdb.DeleteStreamOptions{ExpectedRevision: expected}); err == nil {
			t.Errorf("deleted at %T %v", expected, expected)
		}
		if _, err := d.TombstoneStream(d.ctx, "s", esdb.TombstoneStreamOptions{ExpectedRevision: expected}); err == nil {
			t.Errorf("deleted for good at %T %v", expected, expected)
		}
	}
	if _, err := d.DeleteStream(d.ctx, "$$s", esdb.DeleteStreamOptions{}); err == nil {
		t.Error("metadata were deleted")
	}
	d.delete("s", esdb.StreamExists{})
	if _, err := d.DeleteStream(d.ctx, "s", esdb.DeleteStreamOptions{ExpectedRevision: esdb.StreamExists{}}); code(err) != "deleted" {
		t.Errorf("deleted again where it must exist: %v", err)
	}
}

func TestATombstoneIsForGood(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.append("s", esdb.NoStream{}, newEvents(2)...)
	r, err := d.TombstoneStream(d.ctx, "s", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Revision(1)})
	if err != nil || r.Position.Commit == 0 {
		t.Fatalf("%+v, error %v", r, err)
	}
	for _, stream := range []string{"s", "$$s"} {
		if got := d.read(stream, esdb.ReadStreamOptions{}, 10); got != "error deleted" {
			t.Errorf("%s shows %s", stream, got)
		}
		if _, err := d.AppendToStream(d.ctx, stream, esdb.AppendToStreamOptions{}, newEvent("t")); code(err) != "deleted" {
			t.Errorf("append to %s: %v", stream, err)
		}
	}
	if _, err := d.DeleteStream(d.ctx, "s", esdb.DeleteStreamOptions{}); code(err) != "deleted" {
		t.Errorf("deleted again: %v", err)
	}
	all, err := drain(d.ReadAll(d.ctx, esdb.ReadAllOptions{From: esdb.Start{}}, 10))
	if err != nil || text(all) != "0:t0 1:t1 9223372036854775807:$streamDeleted" || all[2].Event.StreamID != "s" {
		t.Errorf("$all shows %s, error %v", text(all), err)
	}
	if _, err := d.TombstoneStream(d.ctx, "never", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.NoStream{}}); err != nil {
		t.Errorf("a stream that does not exist yet: %v", err)
	}
}

func TestMetadataLimitWhatAStreamShows(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	clock.Store(1_000_000)
	now := func() time.Time { return time.Unix(clock.Load(), 0) }
	store := newStore(t, now)
	server := start(t, esdbserver.Config{Store: store, Now: now})
	d := &db{Client: connect(t, server.ConnectionString()), t: t, ctx: t.Context(), store: store, server: server}
	set := func(stream string, change func(*esdb.StreamMetadata)) {
		t.Helper()
		var m esdb.StreamMetadata
		change(&m)
		if _, err := d.SetStreamMetadata(d.ctx, stream, esdb.AppendToStreamOptions{}, m); err != nil {
			t.Fatal(err)
		}
		got, err := d.GetStreamMetadata(d.ctx, stream, esdb.ReadStreamOptions{})
		if err != nil || !reflect.DeepEqual(*got, m) {
			t.Errorf("metadata %+v, error %v, want %+v", got, err, m)
		}
	}
	d.append("s", esdb.NoStream{}, newEvents(3)...)
	clock.Add(10)
	d.append("s", esdb.Revision(2), newEvents(3)...)

	set("s", func(m *esdb.StreamMetadata) { m.SetMaxCount(2) })
	if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "4:t1 5:t2" {
		t.Errorf("the newest two: %s", got)
	}
	set("s", func(m *esdb.StreamMetadata) { m.SetTruncateBefore(5) })
	if got := d.read("s", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 10); got != "5:t2" {
		t.Errorf("from revision 5: %s", got)
	}
	set("s", func(m *esdb.StreamMetadata) { m.SetMaxAge(5 * time.Second) })
	if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "3:t0 4:t1 5:t2" {
		t.Errorf("the youngest: %s", got)
	}
	clock.Add(10)
	if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "" {
		t.Errorf("all are too old: %s", got)
	}
	if got := d.read("$$s", esdb.ReadStreamOptions{}, 10); got != "2:$metadata" {
		t.Errorf("the metadata: %s", got)
	}
	if w := d.append("later", esdb.Any{}); w == nil {
		t.Error("no answer")
	}
	set("later", func(m *esdb.StreamMetadata) { m.SetMaxCount(1) })
	d.append("later", esdb.StreamExists{}, newEvents(2)...)
	if got := d.read("later", esdb.ReadStreamOptions{}, 10); got != "1:t1" {
		t.Errorf("metadata before the first event: %s", got)
	}
	for _, text := range []string{"nonsense", `{"$maxCount":1,"$tb":"x"}`, `{"$maxCount":-1}`, "null"} {
		bad := newEvent("$metadata")
		bad.Data = []byte(text)
		d.append("$$s", esdb.Any{}, bad)
		if got := d.read("s", esdb.ReadStreamOptions{}, 1); got != "0:t0" {
			t.Errorf("metadata %s: %s", text, got)
		}
	}
	d.delete("s", esdb.Any{})
	d.append("s", esdb.Any{}, newEvent("again"))
	if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "6:again" {
		t.Errorf("after it was deleted: %s", got)
	}
}

func TestNewMetadataBringADeletedStreamBack(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.append("s", esdb.NoStream{}, newEvents(3)...)
	d.delete("s", esdb.Any{})
	var m esdb.StreamMetadata
	m.SetMaxCount(7)
	w, err := d.SetStreamMetadata(d.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(0)}, m)
	if err != nil || w.NextExpectedVersion != 1 {
		t.Fatalf("%+v, error %v", w, err)
	}
	if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "" {
		t.Errorf("old events came back: %s", got)
	}
	d.append("s", esdb.StreamExists{}, newEvent("new"))
	if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "3:new" {
		t.Errorf("the stream shows %s", got)
	}
	got, err := d.GetStreamMetadata(d.ctx, "s", esdb.ReadStreamOptions{})
	if err != nil || *got.MaxCount() != 7 || *got.TruncateBefore() != 3 {
		t.Errorf("metadata %+v, error %v", got, err)
	}
}

// TestDeletionsAndAppendsExcludeEachOther lets many write to a stream that is deleted again and again: what a deletion
// hides stays hidden, and what comes later is seen.
func TestDeletionsAndAppendsExcludeEachOther(t *testing.T) {
	t.Parallel()
	d := open(t)
	var wg sync.WaitGroup
	var newest atomic.Uint64 // revision of an append that was acknowledged
	for range 4 {
		wg.Go(func() {
			for range 40 {
				w, err := d.AppendToStream(d.ctx, "s", esdb.AppendToStreamOptions{}, newEvent("t"))
				if err != nil {
					t.Error(err)
					return
				}
				for old := newest.Load(); w.NextExpectedVersion > old && !newest.CompareAndSwap(old, w.NextExpectedVersion); old = newest.Load() {
				}
			}
		})
	}
	wg.Go(func() {
		for range 30 {
			hidden := newest.Load()
			if _, err := d.DeleteStream(d.ctx, "s", esdb.DeleteStreamOptions{}); err != nil && hidden > 0 {
				t.Error(err)
				return
			}
			events, err := drain(d.ReadStream(d.ctx, "s", esdb.ReadStreamOptions{}, 1000))
			if err == nil && hidden > 0 && len(events) > 0 && events[0].Event.EventNumber <= hidden {
				t.Errorf("revision %d is shown, and %d was deleted", events[0].Event.EventNumber, hidden)
			}
		}
	})
	wg.Wait()
	w := d.append("s", esdb.Any{}, newEvent("last"))
	if w.NextExpectedVersion != 160 {
		t.Errorf("the last of 161 events stands at %d", w.NextExpectedVersion)
	}
	events, err := drain(d.ReadStream(d.ctx, "s", esdb.ReadStreamOptions{}, 1000))
	if err != nil || len(events) == 0 || events[len(events)-1].Event.EventType != "last" {
		t.Errorf("%s, error %v", text(events), err)
	}
}

// A meeting ledger holds up a deletion until somebody has appended to the stream in between, or was kept from it.
type meeting struct {
	eventstore.Store
	deleting chan struct{} // closed when a deletion is about to be written
	appended chan struct{} // closed when the stream was appended to after that
}

func (m *meeting) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	if stream == "$$s" && string(events[0].Data) == `{"$tb":9223372036854775807}` {
		close(m.deleting)
		select {
		case <-m.appended:
		case <-time.After(100 * time.Millisecond):
		}
	}
	a, err := m.Store.Append(ctx, stream, expected, events)
	if stream == "s" && events[0].Type == "new" {
		close(m.appended)
	}
	return a, err
}

func TestADeletionRemovesNothingThatItDidNotExpect(t *testing.T) {
	t.Parallel()
	m := &meeting{Store: newStore(t, nil), deleting: make(chan struct{}), appended: make(chan struct{})}
	server := start(t, esdbserver.Config{Store: m})
	d := &db{Client: connect(t, server.ConnectionString()), t: t, ctx: t.Context(), store: m, server: server}
	d.append("s", esdb.NoStream{}, newEvent("old"))
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := d.DeleteStream(d.ctx, "s", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Revision(0)}); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
	<-m.deleting
	d.append("s", esdb.Revision(0), newEvent("new"))
	wg.Wait()
	if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "1:new" {
		t.Errorf("the stream shows %s", got)
	}
}
