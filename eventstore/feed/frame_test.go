package feed

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

func FuzzReadFrame(f *testing.F) {
	e := eventstore.Recorded{
		Event:  eventstore.Event{ID: uuid.New(), Type: "t.v1", Data: []byte(`{}`)},
		Stream: "order-1", Revision: 7, Position: 9, Time: time.Unix(1, 2).UTC(), Chain: eventstore.Hash{1, 2},
	}
	f.Add(appendEnd(appendPosition(appendEvent(nil, &e), 12)))
	f.Add(appendFault(nil, "why"))
	f.Add([]byte{0, 31, 255, 255, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			left := r.Len()
			got, err := readFrame(r)
			if err != nil {
				var told *fault
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errBroken) && !errors.As(err, &told) {
					t.Fatalf("error %v", err)
				}
				return
			}
			read := b[len(b)-left : len(b)-r.Len()]
			want := appendPosition(nil, got.position)
			if got.event != nil {
				want = appendEvent(nil, got.event)
			}
			if !bytes.Equal(read, want) {
				t.Fatalf("%x was read as %+v, which is written as %x", read, got, want)
			}
		}
	})
}
