package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
)

func TestFrameComesBackAsItWasSealed(t *testing.T) {
	anyName := rapid.StringN(1, -1, eventstore.MaxTypeName)
	rapid.Check(t, func(t *rapid.T) {
		e := eventstore.Event{
			ID:       uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
			Type:     anyName.Draw(t, "type"),
			Metadata: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "metadata"),
			Data:     rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"),
		}
		stream := rapid.SampledFrom([]string{"order-", "$", "relay-"}).Draw(t, "prefix") + anyName.Draw(t, "stream")
		at := rapid.Int64().Draw(t, "time")
		s := seal{
			position: eventstore.Position(rapid.Uint64Min(1).Draw(t, "position")),
			revision: rapid.Uint64().Draw(t, "revision"),
			time:     at,
			durable:  address(rapid.Uint64().Draw(t, "durable")),
			previous: address(rapid.Uint64().Draw(t, "previous")),
			chained:  !eventstore.Internal(stream),
		}
		left := rapid.IntRange(0, eventstore.MaxEvents).Draw(t, "left")
		before := eventstore.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "chain"))

		f := frame(appendFrame(nil, stream, &e, left))
		if id := (&request{stream: stream, frames: []frame{f}}).id(0); id != e.ID {
			t.Fatalf("the id is %s, want %s", id, e.ID)
		}
		after := f.seal(s, before)
		want := eventstore.Recorded{Event: e, Stream: stream, Revision: s.revision, Position: s.position, Time: time.Unix(0, at).UTC()}
		if s.chained {
			want.Chain = eventstore.Chain(before, &want)
		}
		if s.chained && after != want.Chain || !s.chained && after != before || f.chain() != after {
			t.Fatalf("the chain goes on with %s and the frame has %s; want %s after %s", after, f.chain(), want.Chain, before)
		}
		if f.durable() != s.durable || f.previous() != s.previous || int(f.left()) != left || string(f.stream()) != stream {
			t.Fatalf("%v, %v, %d, %q; want %+v", f.durable(), f.previous(), f.left(), f.stream(), s)
		}
		tail := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "tail")
		cut, n, err := cutFrame(append(bytes.Clone(f), tail...))
		if err != nil || n != len(f) || !bytes.Equal(cut, f) || cap(cut) != len(cut) {
			t.Fatalf("%d of %d bytes with room for %d, error %v", n, len(f), cap(cut), err)
		}
		got, err := cut.event()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("event (-want +got):\n%s", d)
		}

		// A frame that is cut off says how long it is.
		size := rapid.IntRange(0, len(f)-1).Draw(t, "cut")
		if _, need, err := cutFrame(f[:size]); !errors.Is(err, errCut) || need != len(f) && (need != positionAt || size >= positionAt) {
			t.Fatalf("%d of %d bytes: need %d, error %v", size, len(f), need, err)
		}
		// One changed bit is noticed, wherever it is.
		changed := bytes.Clone(f)
		changed[rapid.IntRange(0, len(f)-1).Draw(t, "place")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, _, err := cutFrame(changed); err == nil {
			t.Fatal("a changed bit goes unnoticed")
		}
	})
}

func TestCutFrameKnowsTheEnd(t *testing.T) {
	number := func(n int, b ...byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(n)), b...) }
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":               {nil, errCut},
		"half a length":         {[]byte{0, 0}, errCut},
		"zeros":                 {make([]byte, 100), errEnd},
		"zeros and a checksum":  {number(0, 0, 0, 0, 1), errLength},
		"shorter than a header": {number(recordAt-positionAt-1, make([]byte, 200)...), errLength},
		"longer than any":       {number(maxFrame+1, make([]byte, 200)...), errLength},
		"the longest, cut off":  {number(maxFrame, make([]byte, 200)...), errCut},
		"the longest there is":  {number(1<<32-1, make([]byte, 200)...), errLength},
		"a wrong checksum":      {number(100, make([]byte, 200)...), errChecksum},
	} {
		if f, need, err := cutFrame(c.b); !errors.Is(err, c.want) || f != nil || need > positionAt+maxFrame {
			t.Errorf("%s: %d bytes, need %d, error %v; want %v", name, len(f), need, err, c.want)
		}
	}
	// The largest append fits into a frame.
	e := eventstore.Event{ID: uuid.New(), Type: strings.Repeat("t", eventstore.MaxTypeName)}
	e.Data = make([]byte, eventstore.MaxAppend-len(e.ID)-len(e.Type))
	stream := strings.Repeat("s", eventstore.MaxStreamName)
	if err := eventstore.Validate(stream, eventstore.Any, []eventstore.Event{e}); err != nil {
		t.Fatal(err)
	}
	f := frame(appendFrame(nil, stream, &e, 0))
	f.seal(seal{position: 1}, eventstore.Hash{})
	if _, _, err := cutFrame(f); err != nil {
		t.Errorf("the largest event: %v", err)
	}
}

// FuzzCutFrame cuts anything, also with the right length and checksum, and reads what it gets.
func FuzzCutFrame(f *testing.F) {
	e := newEvents(1)[0]
	whole := frame(appendFrame(nil, "order-1", &e, 3))
	whole.seal(seal{position: 1, chained: true}, eventstore.Hash{})
	f.Add([]byte(whole), false)
	f.Add([]byte(whole), true)
	f.Add(make([]byte, 80), true)
	f.Fuzz(func(t *testing.T, b []byte, right bool) {
		if right && len(b) >= positionAt {
			b = bytes.Clone(b)
			binary.BigEndian.PutUint32(b, uint32(len(b)-positionAt))
			binary.BigEndian.PutUint32(b[checksumAt:], crc32.Checksum(b[positionAt:], castagnoli))
		}
		f, need, err := cutFrame(b)
		if err != nil {
			if f != nil || need > positionAt+maxFrame || errors.Is(err, errCut) != (need > 0) {
				t.Fatalf("%d bytes, need %d, error %v", len(f), need, err)
			}
			return
		}
		if _, err := checkNext(place{}, f, nil); err == nil && f.position() != 1 {
			t.Fatalf("position %d follows nothing", f.position())
		}
		if e, err := f.event(); err != nil {
			if !errors.Is(err, eventstore.ErrCorrupt) {
				t.Fatalf("error %v, want ErrCorrupt", err)
			}
		} else if got := eventstore.AppendRecord(nil, &e); !bytes.Equal(got, f.record()) || string(f.stream()) != e.Stream {
			t.Fatalf("%x is taken for %x", f.record(), got)
		}
	})
}

func TestHeaderComesBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := header{
			identity: eventstore.Identity{
				ID:          uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ledger")),
				Lanes:       int(rapid.Uint32().Draw(t, "lanes")),
				Format:      Format,
				Incarnation: rapid.Uint32().Draw(t, "incarnation"),
			},
			number: rapid.Uint32().Draw(t, "number"),
			before: address(rapid.Uint64().Draw(t, "before")),
			first:  eventstore.Position(rapid.Uint64().Draw(t, "first")),
			chain:  eventstore.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "chain")),
			begun:  time.Unix(0, rapid.Int64().Draw(t, "begun")).UTC(),
		}
		b := want.encode()
		if len(b) != headerSize {
			t.Fatalf("%d bytes", len(b))
		}
		if got, err := decodeHeader(append(b, "frames"...)); err != nil || got != want {
			t.Fatalf("%+v, error %v; want %+v", got, err, want)
		}
		for n := range b {
			if _, err := decodeHeader(b[:n]); err == nil {
				t.Fatalf("the first %d bytes are taken for a header", n)
			}
		}
		for i := range b {
			changed := bytes.Clone(b)
			changed[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			if _, err := decodeHeader(changed); err == nil {
				t.Fatalf("a change of byte %d goes unnoticed", i)
			}
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	f.Add((&header{identity: eventstore.Identity{Format: Format}, number: 1}).encode(), false)
	f.Add((&header{identity: eventstore.Identity{Format: 9}, number: 1}).encode(), true)
	f.Fuzz(func(t *testing.T, b []byte, right bool) {
		if right && len(b) >= headerSize {
			b = bytes.Clone(b)
			copy(b, headerMagic)
			binary.BigEndian.PutUint32(b[headerSum:], crc32.Checksum(b[:headerSum], castagnoli))
		}
		h, err := decodeHeader(b)
		var format *formatError
		switch {
		case err == nil && !bytes.Equal(h.encode(), b[:headerSize]):
			t.Fatalf("%x is taken for a header, and %x is its form", b, h.encode())
		case errors.As(err, &format) && format.format == Format:
			t.Fatalf("error %v", err)
		}
	})
}
