package eventstore_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

func sample() eventstore.Recorded {
	return eventstore.Recorded{
		Event: eventstore.Event{
			ID:       uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
			Type:     "order.shipped.v1",
			Metadata: []byte(`{"a":1}`),
			Data:     []byte(`{}`),
		},
		Stream:   "order-1",
		Revision: 258,
		Position: 99,
		Time:     time.Unix(1, 2).UTC(),
	}
}

// TestChainNeverChanges spells out the bytes of a record: ledgers written by older versions must keep their hashes.
func TestChainNeverChanges(t *testing.T) {
	prev := eventstore.Hash{31: 7}
	record, err := hex.DecodeString("" +
		"0000000000000000000000000000000000000000000000000000000000000007" + // hash before
		"00000007" + "6f726465722d31" + // stream
		"00000008" + "0000000000000102" + // revision
		"00000010" + "6ba7b8109dad11d180b400c04fd430c8" + // id
		"00000010" + "6f726465722e736869707065642e7631" + // type
		"00000008" + "000000003b9aca02" + // time
		"00000007" + "7b2261223a317d" + // metadata
		"00000002" + "7b7d") // data
	if err != nil {
		t.Fatal(err)
	}
	r := sample()
	if got, want := eventstore.Chain(prev, &r), eventstore.Hash(sha256.Sum256(record)); got != want {
		t.Errorf("Chain = %s, want %s", got, want)
	}
}

func TestChainCoversEverythingButThePosition(t *testing.T) {
	r := sample()
	was := eventstore.Chain(eventstore.Hash{}, &r)
	for name, change := range map[string]func(*eventstore.Recorded){
		"stream":              func(r *eventstore.Recorded) { r.Stream = "order-2" },
		"revision":            func(r *eventstore.Recorded) { r.Revision++ },
		"id":                  func(r *eventstore.Recorded) { r.ID[0]++ },
		"type":                func(r *eventstore.Recorded) { r.Type += "x" },
		"time":                func(r *eventstore.Recorded) { r.Time = r.Time.Add(1) },
		"metadata":            func(r *eventstore.Recorded) { r.Metadata = nil },
		"data":                func(r *eventstore.Recorded) { r.Data = []byte("{ }") },
		"where a field ends":  func(r *eventstore.Recorded) { r.Metadata, r.Data = []byte(`{"a":1}{`), []byte(`}`) },
		"where the type ends": func(r *eventstore.Recorded) { r.Stream, r.Type = "order", "-1order.shipped.v1" },
	} {
		changed := sample()
		change(&changed)
		if eventstore.Chain(eventstore.Hash{}, &changed) == was {
			t.Errorf("a changed %s keeps the hash", name)
		}
	}
	if eventstore.Chain(eventstore.Hash{1}, &r) == was {
		t.Error("another hash before keeps the hash")
	}
	r.Position, r.Chain, r.Time = 1, eventstore.Hash{1}, r.Time.In(time.FixedZone("", 3600))
	if eventstore.Chain(eventstore.Hash{}, &r) != was {
		t.Error("the position, the stored hash or the time zone changes the hash")
	}
}

func TestHashText(t *testing.T) {
	h := eventstore.Hash{0: 0xab, 31: 0x01}
	text, err := h.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var again eventstore.Hash
	if err := again.UnmarshalText(text); err != nil || again != h {
		t.Errorf("%s became %s, error %v", h, again, err)
	}
	for _, bad := range []string{"", "ab", string(text) + "00", string(text[:63]) + "x"} {
		if err := new(eventstore.Hash).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a hash", bad)
		}
	}
}
