package pebblestore

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
)

var anyName = rapid.StringN(1, -1, eventstore.MaxStreamName)

func TestRecordComesBackAsItWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := eventstore.Event{
			ID:       uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
			Type:     anyName.Draw(t, "type"),
			Metadata: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "metadata"),
			Data:     rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"),
		}
		stream := "order-" + anyName.Draw(t, "stream")
		head := eventstore.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "chain"))
		at := time.Unix(0, rapid.Int64().Draw(t, "time")).UTC()
		revision := rapid.Uint64().Draw(t, "revision")

		b, view := encodeRecord(stream, &e)
		if d := cmp.Diff(eventstore.Recorded{Event: e, Stream: stream}, view); d != "" {
			t.Fatalf("view (-want +got):\n%s", d)
		}
		sealRecord(b, head, at, revision)
		got, err := decodeRecord(7, b)
		if err != nil {
			t.Fatal(err)
		}
		want := eventstore.Recorded{Event: e, Stream: stream, Revision: revision, Position: 7, Time: at, Chain: head}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("record (-want +got):\n%s", d)
		}
		_ = append(got.Metadata, "overwritten"...)
		if !bytes.Equal(got.Data, e.Data) {
			t.Fatal("appending to the metadata overwrites the data")
		}

		for n := range b {
			if _, err := decodeRecord(7, b[:n]); !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), "position 7") {
				t.Fatalf("the first %d of %d bytes: error %v, want ErrCorrupt at position 7", n, len(b), err)
			}
		}
		if _, err := decodeRecord(7, append(b, 0)); !errors.Is(err, eventstore.ErrCorrupt) {
			t.Fatalf("a byte too many: error %v, want ErrCorrupt", err)
		}
		b[0]++
		if _, err := decodeRecord(7, b); !errors.Is(err, eventstore.ErrCorrupt) {
			t.Fatalf("another version: error %v, want ErrCorrupt", err)
		}
	})
}

func TestAnyBytesDecodeWithoutPanic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "bytes")
		if len(b) > 0 {
			b[0] = recordVersion
		}
		if e, err := decodeRecord(1, b); err == nil {
			// What decodes says the same when it is written again.
			again, _ := encodeRecord(e.Stream, &e.Event)
			sealRecord(again, recordHead(b), e.Time, e.Revision)
			if f, err := decodeRecord(1, again); err != nil || !cmp.Equal(e, f) {
				t.Fatalf("%+v became %+v, error %v", e, f, err)
			}
		}
	})
}

func TestKeysSortAsStreamsAndRevisions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyName.Draw(t, "a"), anyName.Draw(t, "b")
		r1, r2 := rapid.Uint64().Draw(t, "r1"), rapid.Uint64().Draw(t, "r2")
		k1, k2 := indexKey(a, r1), indexKey(b, r2)
		stream, revision, err := parseIndexKey(k1)
		if err != nil || stream != a || revision != r1 {
			t.Fatalf("key of %q, %d parses as %q, %d, error %v", a, r1, stream, revision, err)
		}
		inside := func(k []byte, stream string) bool {
			return bytes.Compare(k, streamKey(stream)) >= 0 && bytes.Compare(k, streamEnd(stream)) < 0
		}
		if !inside(k1, a) || a != b && (inside(k1, b) || inside(k2, a)) {
			t.Fatalf("the streams %q and %q overlap", a, b)
		}
		if a == b && (r1 < r2) != (bytes.Compare(k1, k2) < 0) {
			t.Fatalf("revisions %d and %d do not sort", r1, r2)
		}
	})
	if k := streamEnd("\xff\xff"); bytes.Compare(indexKey("\xff\xff", 1<<64-1), k) >= 0 {
		t.Error("the end of a stream lies within it")
	}
}
