package eventstore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// A Mark is the freshness token of a write: a reader that has caught up with it sees that write.
type Mark struct {
	Ledger      uuid.UUID
	Incarnation uint32
	Position    Position // 0 where the writer did not learn it
	Revision    uint64   // of the stream that was written
}

// String writes the mark as ledger.incarnation.position.revision. Users treat it as opaque.
func (m Mark) String() string {
	ledger, _ := m.Ledger.MarshalText() // it never fails
	b := append(make([]byte, 0, maxMark), ledger...)
	for _, n := range []uint64{uint64(m.Incarnation), uint64(m.Position), m.Revision} {
		b = strconv.AppendUint(append(b, '.'), n, 10)
	}
	return string(b)
}

// maxMark is the length of the longest mark.
const maxMark = len("00112233-4455-6677-8899-aabbccddeeff.4294967295.18446744073709551615.18446744073709551615")

// ParseMark reads what [Mark.String] wrote, and nothing else.
func ParseMark(s string) (Mark, error) {
	var m Mark
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return m, fmt.Errorf("mark %.80q has %d parts, not 4", s, len(parts))
	}
	var err error
	if m.Ledger, err = uuid.Parse(parts[0]); err != nil {
		return Mark{}, fmt.Errorf("mark %.80q: the ledger is no UUID", s)
	}
	incarnation, err1 := strconv.ParseUint(parts[1], 10, 32)
	position, err2 := strconv.ParseUint(parts[2], 10, 64)
	revision, err3 := strconv.ParseUint(parts[3], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return Mark{}, fmt.Errorf("mark %.80q: incarnation, position and revision are whole numbers", s)
	}
	m.Incarnation, m.Position, m.Revision = uint32(incarnation), Position(position), revision
	if m.String() != s {
		return Mark{}, fmt.Errorf("mark %.80q is not in its canonical form", s)
	}
	return m, nil
}
