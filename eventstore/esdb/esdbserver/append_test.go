package esdbserver_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

func TestAppendAtEveryExpectedRevision(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		expected esdb.ExpectedRevision
		fresh    string // on a stream that does not exist
		existing string // on one with revisions 0 and 1
	}{
		{esdb.NoStream{}, "none", "conflict"},
		{esdb.Any{}, "none", "none"},
		{esdb.StreamExists{}, "conflict", "none"},
		{esdb.Revision(0), "conflict", "conflict"},
		{esdb.Revision(1), "conflict", "none"},
		{esdb.Revision(2), "conflict", "conflict"},
	} {
		for _, n := range []int{0, 1, 3} {
			d := open(t)
			d.append("existing", esdb.NoStream{}, newEvents(2)...)
			o := esdb.AppendToStreamOptions{ExpectedRevision: c.expected}
			_, err := d.AppendToStream(d.ctx, "fresh", o, newEvents(n)...)
			if got := code(err); got != c.fresh {
				t.Errorf("%d events at %T %v of a fresh stream: %s, want %s", n, c.expected, c.expected, got, c.fresh)
			}
			w, err := d.AppendToStream(d.ctx, "existing", o, newEvents(n)...)
			if got := code(err); got != c.existing {
				t.Errorf("%d events at %T %v of an existing stream: %s, want %s", n, c.expected, c.expected, got, c.existing)
			}
			if err == nil && (w.NextExpectedVersion != uint64(1+n) || n > 0 && (w.CommitPosition == 0 || w.CommitPosition != w.PreparePosition)) {
				t.Errorf("%d events at %T %v: %+v", n, c.expected, c.expected, w)
			}
		}
	}
}

func TestARepeatedAppendSucceeds(t *testing.T) {
	t.Parallel()
	for _, expected := range []esdb.ExpectedRevision{esdb.NoStream{}, esdb.Any{}} {
		d := open(t)
		events := newEvents(3)
		first := d.append("s", expected, events...)
		d.append("s", esdb.Revision(2), newEvent("later"))
		again := d.append("s", expected, events...)
		if again.NextExpectedVersion != first.NextExpectedVersion || again.CommitPosition != first.CommitPosition {
			t.Errorf("%T: first %+v, then %+v", expected, first, again)
		}
		if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "0:t0 1:t1 2:t2 3:later" {
			t.Errorf("%T: the stream has %s", expected, got)
		}
		if w := d.append("s", expected, events[:2]...); w.NextExpectedVersion != 1 {
			t.Errorf("%T: the first two again: %+v", expected, w)
		}
		changed := append(events[:2:2], newEvent("new"))
		if _, err := d.AppendToStream(d.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: expected}, changed...); code(err) != "conflict" {
			t.Errorf("%T: the first events again with another one: %v", expected, err)
		}
		if w := d.append("other", expected, events...); w.NextExpectedVersion != 2 {
			t.Errorf("%T: the same ids in another stream: %+v", expected, w)
		}
	}
}

func TestAppendRefusesWhatNoLedgerTakes(t *testing.T) {
	t.Parallel()
	d := open(t)
	big := newEvent("big")
	big.Data = bytes.Repeat([]byte{'1'}, eventstore.MaxAppend)
	twice := newEvent("twice")
	untyped := newEvent("")
	tombstone := newEvent("$streamDeleted")
	for name, c := range map[string]struct {
		stream string
		events []esdb.EventData
	}{
		"too large":                     {"s", []esdb.EventData{big}},
		"too many":                      {"s", newEvents(eventstore.MaxEvents + 1)},
		"an id twice":                   {"s", []esdb.EventData{twice, twice}},
		"no type":                       {"s", []esdb.EventData{untyped}},
		"no name":                       {"", newEvents(1)},
		"no name, and much to say":      {"", newEvents(5000)},
		"all":                           {"$all", newEvents(1)},
		"metadata of nothing":           {"$$", newEvents(1)},
		"metadata of metadata":          {"$$$$s", newEvents(1)},
		"a tombstone among metadata":    {"$$s", []esdb.EventData{tombstone}},
		"a name longer than the ledger": {string(bytes.Repeat([]byte{'s'}, 257)), newEvents(1)},
	} {
		if _, err := d.AppendToStream(d.ctx, c.stream, esdb.AppendToStreamOptions{}, c.events...); err == nil || !strings.Contains(err.Error(), "InvalidArgument") {
			t.Errorf("%s: %v", name, err)
		}
	}
	head, err := d.store.Head(d.ctx)
	if err != nil || head.Position != 0 {
		t.Errorf("something was stored: position %d, error %v", head.Position, err)
	}
}

func TestEventsComeBackAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	d := open(t)
	var written []esdb.EventData
	for _, contentType := range []esdb.ContentType{esdb.ContentTypeJson, esdb.ContentTypeBinary} {
		for _, data := range [][]byte{[]byte(`{"a":1}`), {0xb, 0xe}, nil, []byte("7")} {
			for _, metadata := range [][]byte{nil, []byte(`{"m":1}`), {0}, {0, 'j'}, {0, 'b', 7}} {
				written = append(written, esdb.EventData{EventID: uuid.New(), EventType: "t", ContentType: contentType, Data: data, Metadata: metadata})
			}
		}
	}
	d.append("s", esdb.NoStream{}, written...)
	events, err := drain(d.ReadStream(d.ctx, "s", esdb.ReadStreamOptions{}, 1000))
	if err != nil || len(events) != len(written) {
		t.Fatalf("%d events, error %v", len(events), err)
	}
	for i, e := range events {
		want := written[i]
		contentType := "application/json"
		if want.ContentType == esdb.ContentTypeBinary {
			contentType = "application/octet-stream"
		}
		if got := e.Event; got.EventID != want.EventID || got.EventType != want.EventType || got.ContentType != contentType ||
			!bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.UserMetadata, want.Metadata) || got.StreamID != "s" || got.EventNumber != uint64(i) {
			t.Errorf("%+v became %+v", want, got)
		}
	}
	for e, err := range d.store.ReadStream(d.ctx, "s", 1, eventstore.Forward) {
		if err != nil || !cmp.Equal(e.Metadata, []byte(`{"m":1}`)) {
			t.Errorf("JSON is stored with the metadata %q, error %v", e.Metadata, err)
		}
		if !events[1].Event.CreatedDate.Equal(e.Time.Truncate(100)) {
			t.Errorf("created %v, stored %v", events[1].Event.CreatedDate, e.Time)
		}
		break
	}
}
