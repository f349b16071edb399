package eventstore

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// AppendRecord appends the canonical form of an event to b: stream, revision, event id, type, time, metadata and data,
// each preceded by its length as a big-endian 32-bit number; revision and time (Unix nanoseconds) are big-endian 64-bit
// numbers. It is what [Chain] covers. The position is left out, so that a ledger keeps its chain when it is copied to
// another store.
func AppendRecord(b []byte, r *Recorded) []byte {
	b = appendField(b, r.Stream)
	b = appendNumber(b, r.Revision)
	b = appendField(b, r.ID[:])
	b = appendField(b, r.Type)
	b = appendNumber(b, uint64(r.Time.UnixNano()))
	b = appendField(b, r.Metadata)
	return appendField(b, r.Data)
}

// RecordSize is the length of an event's canonical form.
func RecordSize(r *Recorded) int {
	return 7*4 + len(r.Stream) + 8 + len(r.ID) + len(r.Type) + 8 + len(r.Metadata) + len(r.Data)
}

// ParseRecord reads an event's canonical form. Metadata and data are views of b. Position and chain, which do not stand
// in a record, are zero. It returns [ErrCorrupt] for bytes that [AppendRecord] does not make.
func ParseRecord(b []byte) (Recorded, error) {
	var r Recorded
	rest := b
	field := func(size int) []byte {
		if len(rest) < 4 {
			rest = nil
			return nil
		}
		n := int(binary.BigEndian.Uint32(rest))
		if n > len(rest)-4 || size >= 0 && n != size {
			rest = nil
			return nil
		}
		f := rest[4 : 4+n : 4+n]
		rest = rest[4+n:]
		return f
	}
	stream := field(-1)
	revision := field(8)
	id := field(len(r.ID))
	typ := field(-1)
	at := field(8)
	metadata := field(-1)
	data := field(-1)
	if rest == nil || len(rest) > 0 {
		return r, errBadRecord
	}
	r.Stream = string(stream)
	r.Revision = binary.BigEndian.Uint64(revision)
	r.ID = uuid.UUID(id)
	r.Type = string(typ)
	r.Time = time.Unix(0, int64(binary.BigEndian.Uint64(at))).UTC()
	r.Metadata, r.Data = metadata, data
	return r, nil
}

// RecordStream is the name of the stream in an event's canonical form, as a view of b; nil if b is none.
func RecordStream(b []byte) []byte {
	if len(b) < 4 {
		return nil
	}
	n := int(binary.BigEndian.Uint32(b))
	if n > len(b)-4 {
		return nil
	}
	return b[4 : 4+n]
}

var errBadRecord = fmt.Errorf("%w: a field of the record has a wrong length", ErrCorrupt)

func appendField[T string | []byte](b []byte, field T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}

func appendNumber(b []byte, n uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, 8)
	return binary.BigEndian.AppendUint64(b, n)
}
