package eventstore_test

import (
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
)

func TestMarkComesBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := eventstore.Mark{
			Ledger:      uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ledger")),
			Incarnation: rapid.Uint32().Draw(t, "incarnation"),
			Position:    eventstore.Position(rapid.Uint64().Draw(t, "position")),
			Revision:    rapid.Uint64().Draw(t, "revision"),
		}
		if got, err := eventstore.ParseMark(m.String()); err != nil || got != m {
			t.Fatalf("%s became %+v, error %v", m, got, err)
		}
	})
}

func TestParseMarkTakesNothingElse(t *testing.T) {
	const id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	for _, s := range []string{
		"", id, id + ".1.2", id + ".1.2.3.4", "x.1.2.3", id + ".x.2.3", id + ".1.x.3", id + ".1.2.x",
		id + ".-1.2.3", id + ".4294967296.2.3", id + ".1.18446744073709551616.3", id + ".1.2.", id + ".1.2.3 ",
		id + ".01.2.3", id + ".1.+2.3", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8.1.2.3", "{" + id + "}.1.2.3",
		"urn:uuid:" + id + ".1.2.3", "6ba7b8109dad11d180b400c04fd430c8.1.2.3",
	} {
		if m, err := eventstore.ParseMark(s); err == nil || m != (eventstore.Mark{}) {
			t.Errorf("ParseMark(%q) = %+v, error %v", s, m, err)
		}
	}
}
