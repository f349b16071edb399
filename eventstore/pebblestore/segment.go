package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// A segment is one file of the log. Its header tells which ledger it belongs to and where it goes on, so that the log
// explains itself without any other file:
//
//	 0  "orderledger log\n" (16)
//	16  format (4), lanes (4), incarnation (4), number of the segment (4)
//	32  where the frames of the segment before it end (8)
//	40  ledger (16)
//	56  position of its first event (8)
//	64  head of the chain before that (32)
//	96  when it was begun, in Unix nanoseconds (8)
//	104 CRC-32C of all this (4), then zeros
//
// A segment that begins a new incarnation says with its position and chain where that branches off.
type segment struct {
	header

	file vfs.File // for reading
	size int64    // of the file when it was opened
}

type header struct {
	identity eventstore.Identity
	number   uint32
	before   address // where the frames of the segment before it end; zero in the first one
	first    eventstore.Position
	chain    eventstore.Hash
	begun    time.Time
}

const (
	headerMagic = "orderledger log\n"
	headerSum   = 104
	headerSize  = 128
)

func (h *header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, headerMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(h.identity.Format))
	b = binary.BigEndian.AppendUint32(b, uint32(h.identity.Lanes))
	b = binary.BigEndian.AppendUint32(b, h.identity.Incarnation)
	b = binary.BigEndian.AppendUint32(b, h.number)
	b = binary.BigEndian.AppendUint64(b, uint64(h.before))
	b = append(b, h.identity.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.first))
	b = append(b, h.chain[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.begun.UnixNano()))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, make([]byte, headerSize-len(b))...)
}

func decodeHeader(b []byte) (h header, err error) {
	if len(b) < headerSize {
		return h, errors.New("its header is cut off")
	}
	if !bytes.HasPrefix(b, []byte(headerMagic)) {
		return h, errors.New("it does not begin as a segment of a log")
	}
	// The format comes first: another one may have another header.
	if format := int(binary.BigEndian.Uint32(b[16:])); format != Format && crc32.Checksum(b[:headerSum], castagnoli) == binary.BigEndian.Uint32(b[headerSum:]) {
		return h, &formatError{format}
	}
	if crc32.Checksum(b[:headerSum], castagnoli) != binary.BigEndian.Uint32(b[headerSum:]) || len(bytes.Trim(b[headerSum+4:headerSize], "\x00")) > 0 {
		return h, errors.New("the checksum of its header is wrong")
	}
	h.identity = eventstore.Identity{
		ID: uuid.UUID(b[40:56]), Lanes: int(binary.BigEndian.Uint32(b[20:])),
		Format: Format, Incarnation: binary.BigEndian.Uint32(b[24:]),
	}
	h.number = binary.BigEndian.Uint32(b[28:])
	h.before = address(binary.BigEndian.Uint64(b[32:]))
	h.first = eventstore.Position(binary.BigEndian.Uint64(b[56:]))
	h.chain = eventstore.Hash(b[64:96])
	h.begun = time.Unix(0, int64(binary.BigEndian.Uint64(b[96:]))).UTC()
	return h, nil
}

// A formatError tells of a ledger that another version of this program wrote.
type formatError struct{ format int }

func (e *formatError) Error() string {
	return fmt.Sprintf("the ledger has format %d, and this program knows format %d only: use the program that wrote it, or a newer one", e.format, Format)
}

// start is where the frames of a segment begin.
func (s *segment) start() address { return addressOf(s.number, headerSize) }

const segmentSuffix = ".log"

func segmentName(number uint32) string { return fmt.Sprintf("%08d%s", number, segmentSuffix) }

// segmentNumbers lists the segments in a directory, in order.
func segmentNumbers(fsys vfs.FS, dir string) ([]uint32, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, segmentSuffix)
		if n, err := strconv.ParseUint(digits, 10, 32); ok && err == nil && segmentName(uint32(n)) == name {
			numbers = append(numbers, uint32(n))
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// createSegment makes a segment durable that has no frames yet, and returns the file to write them to.
func createSegment(fsys vfs.FS, dir string, h header) (vfs.File, error) {
	f, err := fsys.Create(fsys.PathJoin(dir, segmentName(h.number)), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(h.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(fsys, dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openSegment opens a segment for reading.
func openSegment(fsys vfs.FS, dir string, number uint32) (_ *segment, err error) {
	f, err := fsys.Open(fsys.PathJoin(dir, segmentName(number)))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &segment{file: f, size: stat.Size()}
	b := make([]byte, min(headerSize, s.size))
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if s.header, err = decodeHeader(b); err != nil {
		var format *formatError
		if errors.As(err, &format) {
			return nil, err
		}
		return nil, &headerError{segmentName(number), s.size, err}
	}
	if s.number != number {
		return nil, &headerError{segmentName(number), s.size, fmt.Errorf("its header is that of segment %d", s.number)}
	}
	return s, nil
}

// A headerError tells that a segment does not begin as it was written.
type headerError struct {
	name string
	size int64
	err  error
}

func (e *headerError) Error() string {
	return fmt.Sprintf("%v: %s: %v", eventstore.ErrCorrupt, e.name, e.err)
}

func (e *headerError) Unwrap() error { return eventstore.ErrCorrupt }
