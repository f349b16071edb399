// Package feed is a ledger's [eventstore.Reader] over HTTP: a [Handler] beside the ledger, and a [Client] in a process
// that has not its directory. A projector catches up through it, fetches what a bus has lost, and rebuilds.
//
// # Protocol
//
//	GET head                                          the ledger and its end, in JSON
//	GET streams/{stream}?from=&direction=&limit=      events of a stream
//	GET events?after=&until=&prefix=…&public=         events of the ledger between two positions
//	GET events?after=&prefix=…&public=&follow=true    the same, and then new ones as they come
//
// A sequence of events is a body of frames, compressed with gzip for those who ask:
//
//	length of what follows (4, big-endian), position (8), head of the chain after it (32), the event as
//	eventstore.AppendRecord writes it
//
// A frame of length 8 has a position alone: up to there, nothing more was chosen by the filter. A frame of length 0 ends
// the sequence. One of length 0xffffffff, followed by a length (4) and a text, says why it ended too early. Without
// either, the connection broke, and the reader goes on after the last position that it has seen.
//
// The header Orderledger-Ledger names the ledger and its incarnation. A client that was given those of one never takes
// events of another.
package feed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	contentType  = "application/vnd.orderledger.events"
	ledgerHeader = "Orderledger-Ledger"

	lengthSize   = 4
	positionSize = 8
	chainSize    = len(eventstore.Hash{})

	endLength   = 0
	faultLength = 1<<32 - 1

	// maxFrame bounds what a reader takes for one event.
	maxFrame = 2 << 20
	maxFault = 1 << 10
)

// headBody is what head answers.
type headBody struct {
	Ledger      string              `json:"ledger"`
	Lanes       int                 `json:"lanes"`
	Format      int                 `json:"format"`
	Incarnation uint32              `json:"incarnation"`
	Position    eventstore.Position `json:"position"`
	Chain       eventstore.Hash     `json:"chain"`
}

// ledgerName is how [ledgerHeader] names a ledger.
func ledgerName(id eventstore.Identity) string { return fmt.Sprintf("%s.%d", id.ID, id.Incarnation) }

// appendEvent appends an event's frame.
func appendEvent(b []byte, e *eventstore.Recorded) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(positionSize+chainSize+eventstore.RecordSize(e)))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Position))
	b = append(b, e.Chain[:]...)
	return eventstore.AppendRecord(b, e)
}

// appendPosition appends a frame that has a position alone.
func appendPosition(b []byte, p eventstore.Position) []byte {
	b = binary.BigEndian.AppendUint32(b, positionSize)
	return binary.BigEndian.AppendUint64(b, uint64(p))
}

func appendEnd(b []byte) []byte { return binary.BigEndian.AppendUint32(b, endLength) }

func appendFault(b []byte, text string) []byte {
	text = text[:min(len(text), maxFault)]
	b = binary.BigEndian.AppendUint32(b, faultLength)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}

// A fault is why the server has ended a sequence.
type fault struct{ text string }

func (f *fault) Error() string { return "the ledger's server: " + f.text }

// errBroken tells that a body is none of this protocol.
var errBroken = errors.New("the answer is not a sequence of events")

// A frame is what a body consists of.
type frame struct {
	event    *eventstore.Recorded // nil: there is none in it
	position eventstore.Position
}

// readFrame reads the next frame. At the end of the sequence it returns [io.EOF]; where the body ends before that,
// [io.ErrUnexpectedEOF] or what the connection says; and a [*fault] that the server tells.
func readFrame(r io.Reader) (frame, error) {
	var head [lengthSize + positionSize]byte
	if _, err := io.ReadFull(r, head[:lengthSize]); err != nil {
		return frame{}, unexpected(err)
	}
	switch n := binary.BigEndian.Uint32(head[:]); {
	case n == endLength:
		return frame{}, io.EOF
	case n == faultLength:
		return frame{}, readFault(r)
	case n < positionSize || n > maxFrame:
		return frame{}, errBroken
	default:
		if _, err := io.ReadFull(r, head[lengthSize:]); err != nil {
			return frame{}, unexpected(err)
		}
		f := frame{position: eventstore.Position(binary.BigEndian.Uint64(head[lengthSize:]))}
		if n == positionSize {
			return f, nil
		}
		return readEvent(r, f, int(n)-positionSize)
	}
}

func readEvent(r io.Reader, f frame, size int) (frame, error) {
	if size < chainSize {
		return frame{}, errBroken
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return frame{}, unexpected(err)
	}
	e, err := eventstore.ParseRecord(b[chainSize:])
	if err != nil {
		return frame{}, errBroken
	}
	e.Position, e.Chain = f.position, eventstore.Hash(b[:chainSize])
	f.event = &e
	return f, nil
}

func readFault(r io.Reader) error {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return unexpected(err)
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFault {
		return errBroken
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return unexpected(err)
	}
	return &fault{string(text)}
}

// unexpected is the error of a body that ended in its middle.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
