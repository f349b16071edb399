package amqp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

const (
	frameHeader = 8
	typeAMQP    = 0
	typeSASL    = 1
	// minFrameSize is the length of frames that every peer must take.
	minFrameSize = 512
)

// A frame is one unit on the wire. An empty one, without a performative, only shows that its sender is alive.
type frame struct {
	kind         uint8
	channel      uint16
	performative performative
	payload      []byte // belongs to the frame's reader
	err          *Error // instead of a frame, what made reading it impossible
}

// readFrame reads one frame of at most limit bytes.
func readFrame(r *bufio.Reader, limit uint32) (frame, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return frame{}, err
	}
	size, offset := binary.BigEndian.Uint32(header[:]), 4*uint32(header[4])
	if size > limit || offset < frameHeader || size < offset {
		return frame{}, &Error{FramingError, fmt.Sprintf("a frame of %d bytes with its body at %d", size, offset), nil}
	}
	f := frame{kind: header[5], channel: binary.BigEndian.Uint16(header[6:])}
	body := make([]byte, size-frameHeader)
	if _, err := io.ReadFull(r, body); err != nil {
		return frame{}, fmt.Errorf("amqp: reading a frame: %w", err)
	}
	if f.kind > typeSASL {
		return frame{}, &Error{FramingError, fmt.Sprintf("a frame of unknown type %d", f.kind), nil}
	}
	body = body[offset-frameHeader:]
	if len(body) == 0 {
		return f, nil
	}
	var err error
	if f.performative, f.payload, err = decodePerformative(body); err != nil {
		return frame{}, &Error{DecodeError, err.Error(), nil}
	}
	return f, nil
}

// appendFrame appends a frame; a nil performative makes an empty one.
func appendFrame(dst []byte, kind uint8, channel uint16, p performative, payload []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, frameHeader/4, kind)
	dst = binary.BigEndian.AppendUint16(dst, channel)
	if p != nil {
		var err error
		if dst, err = p.append(dst); err != nil {
			return nil, err
		}
	}
	dst = append(dst, payload...)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst, nil
}
