package eventstore_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
)

func anyRecord(t *rapid.T) eventstore.Recorded {
	return eventstore.Recorded{
		Event: eventstore.Event{
			ID:       uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
			Type:     rapid.String().Draw(t, "type"),
			Metadata: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "metadata"),
			Data:     rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"),
		},
		Stream:   rapid.String().Draw(t, "stream"),
		Revision: rapid.Uint64().Draw(t, "revision"),
		Time:     time.Unix(0, rapid.Int64().Draw(t, "time")).UTC(),
	}
}

func TestRecordComesBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord(t)
		b := eventstore.AppendRecord([]byte("before"), &r)[len("before"):]
		if len(b) != eventstore.RecordSize(&r) {
			t.Fatalf("the record has %d bytes, and RecordSize says %d", len(b), eventstore.RecordSize(&r))
		}
		if got := eventstore.RecordStream(b); string(got) != r.Stream {
			t.Fatalf("RecordStream = %q, want %q", got, r.Stream)
		}
		if got, want := eventstore.ChainRecord(append(make([]byte, 32), b...)), eventstore.Chain(eventstore.Hash{}, &r); got != want {
			t.Fatalf("ChainRecord = %s, and Chain %s", got, want)
		}
		got, err := eventstore.ParseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != r.ID || got.Type != r.Type || !bytes.Equal(got.Metadata, r.Metadata) || !bytes.Equal(got.Data, r.Data) ||
			got.Stream != r.Stream || got.Revision != r.Revision || got.Time != r.Time || got.Position != 0 || got.Chain != (eventstore.Hash{}) {
			t.Fatalf("%+v, want %+v", got, r)
		}
		_ = append(got.Metadata, "overwritten"...)
		if !bytes.Equal(got.Data, r.Data) {
			t.Fatal("appending to the metadata overwrites the data")
		}
		for n := range b {
			if got, err := eventstore.ParseRecord(b[:n]); !errors.Is(err, eventstore.ErrCorrupt) || got.Stream != "" {
				t.Fatalf("the first %d of %d bytes: %+v, error %v, want ErrCorrupt", n, len(b), got, err)
			}
			eventstore.RecordStream(b[:n])
		}
		if _, err := eventstore.ParseRecord(append(b, 0)); !errors.Is(err, eventstore.ErrCorrupt) {
			t.Fatalf("a byte too many: error %v, want ErrCorrupt", err)
		}
	})
}

// TestParseRecordTakesOnlyWhatAppendRecordMakes changes a record anywhere: it is refused, or another record in its canonical
// form.
func TestParseRecordTakesOnlyWhatAppendRecordMakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord(t)
		b := eventstore.AppendRecord(nil, &r)
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			i := rapid.IntRange(0, len(b)-1).Draw(t, "place")
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				b[i] = rapid.Byte().Draw(t, "byte")
			case 1:
				b = append(b[:i:i], b[i+1:]...)
			default:
				b = append(b[:i:i], append([]byte{rapid.Byte().Draw(t, "byte")}, b[i:]...)...)
			}
			if len(b) == 0 {
				break
			}
		}
		check(t, b)
	})
}

func FuzzParseRecord(f *testing.F) {
	r := sample()
	f.Add(eventstore.AppendRecord(nil, &r))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) { check(t, b) })
}

func check(t interface{ Fatalf(string, ...any) }, b []byte) {
	stream := eventstore.RecordStream(b)
	r, err := eventstore.ParseRecord(b)
	if err != nil {
		if !errors.Is(err, eventstore.ErrCorrupt) {
			t.Fatalf("error %v, want ErrCorrupt", err)
		}
		return
	}
	if string(stream) != r.Stream {
		t.Fatalf("RecordStream = %q, want %q", stream, r.Stream)
	}
	if again := eventstore.AppendRecord(nil, &r); !bytes.Equal(again, b) {
		t.Fatalf("%x is taken for a record, and %x is its canonical form", b, again)
	}
}
