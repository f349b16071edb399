package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// The keys of a ledger. Numbers are big-endian, so that keys sort as the numbers do.
//
//	e <position 8>                        record
//	s <length 2> <stream> <revision 8>    position 8
//	m                                     identity
//
// The record stands under its position, and the stream's index points to it: whoever follows or rebuilds reads the
// whole ledger in one sweep, and records, written in the order of their keys, are never rewritten among each other.
// A stream has few events and is read through the pointers.
const (
	recordPrefix = 'e'
	indexPrefix  = 's'
	identityKey  = "m"
)

func recordKey(p eventstore.Position) []byte {
	return binary.BigEndian.AppendUint64([]byte{recordPrefix}, uint64(p))
}

func indexKey(stream string, revision uint64) []byte {
	return binary.BigEndian.AppendUint64(streamKey(stream), revision)
}

// streamKey is what all index keys of a stream begin with. The length makes sure that no other stream's keys do.
func streamKey(stream string) []byte {
	k := make([]byte, 0, 3+len(stream)+8)
	k = append(k, indexPrefix)
	k = binary.BigEndian.AppendUint16(k, uint16(len(stream)))
	return append(k, stream...)
}

// streamEnd is the first key after all index keys of a stream.
func streamEnd(stream string) []byte {
	k := streamKey(stream)
	for i := len(k) - 1; ; i-- { // ends: the first byte is indexPrefix
		if k[i]++; k[i] != 0 {
			return k[:i+1]
		}
	}
}

func parseRecordKey(key []byte) (eventstore.Position, error) {
	if len(key) != 9 || key[0] != recordPrefix {
		return 0, fmt.Errorf("%q is not the key of a record", key)
	}
	return eventstore.Position(binary.BigEndian.Uint64(key[1:])), nil
}

func parseIndexKey(key []byte) (stream string, revision uint64, err error) {
	if len(key) < 3+8 || key[0] != indexPrefix || int(binary.BigEndian.Uint16(key[1:])) != len(key)-3-8 {
		return "", 0, fmt.Errorf("%q is not a key of the stream index", key)
	}
	at := len(key) - 8
	return string(key[3:at]), binary.BigEndian.Uint64(key[at:]), nil
}

func positionValue(p eventstore.Position) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(p))
}

func parsePositionValue(value []byte) (eventstore.Position, error) {
	if len(value) != 8 {
		return 0, fmt.Errorf("a pointer has 8 bytes, not %d", len(value))
	}
	return eventstore.Position(binary.BigEndian.Uint64(value)), nil
}

// A record is a version byte; the head of the chain after it (32 bytes), its time in Unix nanoseconds (8), its
// revision (8), the event's id (16); then stream, type, metadata and data, each behind its length as an unsigned
// varint. The writer fills in the second group at commit, everything else earlier.
//
// Events of internal streams carry the chain on unchanged, so that the chain's head always stands in the newest record.
const (
	recordVersion = 1

	chainAt    = 1
	timeAt     = chainAt + len(eventstore.Hash{})
	revisionAt = timeAt + 8
	idAt       = revisionAt + 8
	fieldsAt   = idAt + len(uuid.UUID{})
)

// encodeRecord lays out a record without what is known only at commit. The event it returns is a view of the record.
func encodeRecord(stream string, e *eventstore.Event) ([]byte, eventstore.Recorded) {
	size := fieldsAt + 4*binary.MaxVarintLen32 + len(stream) + len(e.Type) + len(e.Metadata) + len(e.Data)
	b := make([]byte, fieldsAt, size)
	b[0] = recordVersion
	copy(b[idAt:], e.ID[:])
	b = appendField(b, stream)
	b = appendField(b, e.Type)
	b = appendField(b, e.Metadata)
	metadataEnd := len(b)
	b = appendField(b, e.Data)
	r := eventstore.Recorded{Event: eventstore.Event{ID: e.ID, Type: e.Type}, Stream: stream}
	r.Metadata = b[metadataEnd-len(e.Metadata) : metadataEnd : metadataEnd]
	r.Data = b[len(b)-len(e.Data):]
	return b, r
}

func appendField[T string | []byte](b []byte, field T) []byte {
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}

// sealRecord fills in what is known only at commit.
func sealRecord(b []byte, head eventstore.Hash, t time.Time, revision uint64) {
	copy(b[chainAt:], head[:])
	binary.BigEndian.PutUint64(b[timeAt:], uint64(t.UnixNano()))
	binary.BigEndian.PutUint64(b[revisionAt:], revision)
}

// recordHead is the head of the chain after a record.
func recordHead(b []byte) eventstore.Hash { return eventstore.Hash(b[chainAt:timeAt]) }

// recordStream is the name of a record's stream, as a view of the record: filters look at nothing else.
func recordStream(b []byte) ([]byte, error) {
	if len(b) < fieldsAt {
		return nil, errors.New("the record is too short")
	}
	if b[0] != recordVersion {
		return nil, fmt.Errorf("the record has version %d, not %d", b[0], recordVersion)
	}
	stream, _, err := cutField(b[fieldsAt:])
	return stream, err
}

// decodeRecord reads a record. The event's slices are views of b.
func decodeRecord(p eventstore.Position, b []byte) (eventstore.Recorded, error) {
	stream, err := recordStream(b)
	if err != nil {
		return eventstore.Recorded{}, corrupt(p, err)
	}
	r := eventstore.Recorded{
		Event:    eventstore.Event{ID: uuid.UUID(b[idAt:fieldsAt])},
		Stream:   string(stream),
		Revision: binary.BigEndian.Uint64(b[revisionAt:]),
		Position: p,
		Time:     time.Unix(0, int64(binary.BigEndian.Uint64(b[timeAt:]))).UTC(),
	}
	if !eventstore.Internal(r.Stream) {
		r.Chain = recordHead(b)
	}
	_, rest, _ := cutField(b[fieldsAt:])
	typ, rest, err := cutField(rest)
	if err == nil {
		r.Metadata, rest, err = cutField(rest)
	}
	if err == nil {
		r.Data, rest, err = cutField(rest)
	}
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow the record", len(rest))
	}
	if err != nil {
		return eventstore.Recorded{}, corrupt(p, err)
	}
	r.Type = string(typ)
	return r, nil
}

// cutField splits a field off. Its capacity ends with it, so that nobody appends into the next one.
func cutField(b []byte) (field, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, nil, errors.New("a field of the record has a wrong length")
	}
	end := k + int(n)
	return b[k:end:end], b[end:], nil
}

// corrupt says that what stands at a position is not what was written. Position 0 is none.
func corrupt(p eventstore.Position, err error) error {
	if p == 0 {
		return fmt.Errorf("%w: %w", eventstore.ErrCorrupt, err)
	}
	return fmt.Errorf("%w at position %d: %w", eventstore.ErrCorrupt, p, err)
}
