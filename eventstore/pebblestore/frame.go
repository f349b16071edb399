package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// An address is where a frame begins in the log: the number of its segment in the upper half, its place in that in the
// lower one. Zero is no address: the first segment has number 1.
type address uint64

func addressOf(segment uint32, offset int64) address { return address(segment)<<32 | address(offset) }

func (a address) segment() uint32 { return uint32(a >> 32) }
func (a address) offset() int64   { return int64(uint32(a)) }

func (a address) String() string {
	return fmt.Sprintf("%s at byte %d", segmentName(a.segment()), a.offset())
}

// A frame is an event as it stands in a segment. All numbers are big-endian.
//
//	 0  length of what follows the checksum (4); zero where the log ends
//	 4  CRC-32C of it (4)
//	 8  position (8)
//	16  the address up to which the log was durable when this was written (8)
//	24  the address of the event before it in the same stream, or zero (8)
//	32  how many events of the same append follow (4)
//	36  the head of the chain after it (32)
//	68  the canonical form of the event, see [eventstore.AppendRecord]
//
// Where a frame is damaged and a later one knows that it was durable, it was not a crash that damaged it.
//
// Events of internal streams carry the chain on unchanged, so that the chain's head always stands in the newest frame.
type frame []byte

const (
	checksumAt = 4
	positionAt = 8
	durableAt  = 16
	previousAt = 24
	leftAt     = 32
	chainAt    = 36
	recordAt   = chainAt + len(eventstore.Hash{})

	maxFrame = recordAt + eventstore.MaxAppend + eventstore.MaxStreamName + eventstore.MaxTypeName + 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (f frame) position() eventstore.Position {
	return eventstore.Position(binary.BigEndian.Uint64(f[positionAt:]))
}
func (f frame) durable() address       { return address(binary.BigEndian.Uint64(f[durableAt:])) }
func (f frame) previous() address      { return address(binary.BigEndian.Uint64(f[previousAt:])) }
func (f frame) left() uint32           { return binary.BigEndian.Uint32(f[leftAt:]) }
func (f frame) chain() eventstore.Hash { return eventstore.Hash(f[chainAt:recordAt]) }
func (f frame) record() []byte         { return f[recordAt:] }
func (f frame) stream() []byte         { return eventstore.RecordStream(f.record()) }

// event decodes the event. Its slices are views of the frame.
func (f frame) event() (eventstore.Recorded, error) {
	e, err := eventstore.ParseRecord(f.record())
	if err != nil {
		return e, corrupt(f.position(), err)
	}
	e.Position = f.position()
	if !eventstore.Internal(e.Stream) {
		e.Chain = f.chain()
	}
	return e, nil
}

// frameSize is how long an event's frame is.
func frameSize(stream string, e *eventstore.Event) int {
	return recordAt + eventstore.RecordSize(&eventstore.Recorded{Event: *e, Stream: stream})
}

// appendFrame lays out an event behind b, with room for what is known only at commit.
func appendFrame(b []byte, stream string, e *eventstore.Event, left int) []byte {
	begin := len(b)
	b = append(b, make([]byte, recordAt)...)
	b = eventstore.AppendRecord(b, &eventstore.Recorded{Event: *e, Stream: stream})
	f := b[begin:]
	binary.BigEndian.PutUint32(f, uint32(len(f)-positionAt))
	binary.BigEndian.PutUint32(f[leftAt:], uint32(left))
	return b
}

// A seal is what is known of an event only at commit.
type seal struct {
	position eventstore.Position
	revision uint64
	time     int64 // Unix nanoseconds
	durable  address
	previous address
	chained  bool // the stream is not internal
}

// seal fills in what is known only at commit, and returns the head of the chain after the event.
func (f frame) seal(s seal, chain eventstore.Hash) eventstore.Hash {
	binary.BigEndian.PutUint64(f[positionAt:], uint64(s.position))
	binary.BigEndian.PutUint64(f[durableAt:], uint64(s.durable))
	binary.BigEndian.PutUint64(f[previousAt:], uint64(s.previous))
	revisionAt := recordAt + 4 + len(f.stream()) + 4
	typeAt := revisionAt + 8 + 4 + len(uuid.UUID{})
	timeAt := typeAt + 4 + int(binary.BigEndian.Uint32(f[typeAt:])) + 4
	binary.BigEndian.PutUint64(f[revisionAt:], s.revision)
	binary.BigEndian.PutUint64(f[timeAt:], uint64(s.time))
	copy(f[chainAt:], chain[:])
	if s.chained {
		chain = f.link()
		copy(f[chainAt:], chain[:])
	}
	binary.BigEndian.PutUint32(f[checksumAt:], f.checksum())
	return chain
}

// link is the head of the chain after a frame that holds the head before it.
func (f frame) link() eventstore.Hash { return eventstore.ChainRecord(f[chainAt:]) }

func (f frame) checksum() uint32 { return crc32.Checksum(f[positionAt:], castagnoli) }

var (
	errEnd       = errors.New("the log ends here")
	errCut       = errors.New("the frame is longer than what is left of the file")
	errLength    = errors.New("the frame has a wrong length")
	errChecksum  = errors.New("the checksum of the frame is wrong")
	errTwice     = errors.New("the frame is of another position")
	errElsewhere = errors.New("the frame is of another event")
)

// cutFrame splits the frame at the beginning of b off, as a view. It returns errEnd where there is none, and errCut where
// b ends before the frame does; then need is how long b must be.
func cutFrame(b []byte) (f frame, need int, err error) {
	if len(b) < positionAt {
		return nil, positionAt, errCut
	}
	n := int(binary.BigEndian.Uint32(b))
	switch {
	case n == 0 && binary.BigEndian.Uint32(b[checksumAt:]) == 0:
		return nil, 0, errEnd
	case n < recordAt-positionAt || n > maxFrame:
		return nil, 0, errLength
	case positionAt+n > len(b):
		return nil, positionAt + n, errCut
	}
	f = frame(b[: positionAt+n : positionAt+n])
	if f.checksum() != binary.BigEndian.Uint32(f[checksumAt:]) {
		return nil, 0, errChecksum
	}
	return f, len(f), nil
}

// corrupt says that what stands at a position is not what was written. Position 0 is none.
func corrupt(p eventstore.Position, err error) error {
	if p == 0 {
		return fmt.Errorf("%w: %w", eventstore.ErrCorrupt, err)
	}
	return fmt.Errorf("%w at position %d: %w", eventstore.ErrCorrupt, p, err)
}
