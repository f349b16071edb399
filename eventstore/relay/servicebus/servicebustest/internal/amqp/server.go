package amqp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

// Config says how a connection behaves and to whom it tells what the peer does. See the package comment for the goroutine
// that calls the functions.
type Config struct {
	ContainerID  string        // how the server calls itself; "amqp" when empty
	MaxFrameSize uint32        // of frames in both directions; 65,536 when 0, at least 512
	IdleTimeout  time.Duration // a peer that is silent for longer has gone; 4 minutes when 0. It is told the half.

	// Open, unless nil, is called when the connection is open. An error closes it.
	Open func(*Conn) *Error
	// Attach is called for each link that the peer attaches. The link waits until it is answered by Accept or Detach,
	// here or later; whatever comes first, Handler.Closed is called once at its end.
	Attach func(*Link) Handler
}

// A Handler is what a broker does when the peer acts on one link. See the package comment for the goroutine that calls the
// functions; those that are nil are not called.
type Handler struct {
	// Delivery takes a whole message, which the peer has sent on a link that it attached as a sender. When it is nil, messages
	// are released.
	Delivery func(*Delivery)
	// Credit is called when [Link.Send] may take messages again on a link that the peer attached as a receiver: the peer gave
	// credit, or what waited to be sent has become less. When the peer drains, what is not sent before
	// Credit returns is not sent on the credit it had.
	Credit func()
	// Disposition is told each word of the peer about a delivery that was sent to it unsettled.
	Disposition func(Disposition)
	// Closed is called once, as the last of these functions, when the link has gone: detached by either side, ended with
	// its session or lost with its connection. The error is an *Error if the peer gave one, ErrClosed if the connection or
	// session ended under the link, and nil after a plain detach.
	Closed func(error)
}

const (
	keepaliveEvery = 15 * time.Second // at most between two frames to the peer
	closeGrace     = 5 * time.Second  // for the peer to answer a close
	channelMax     = 4095
	protocolAMQP   = "AMQP\x00\x01\x00\x00"
	protocolSASL   = "AMQP\x03\x01\x00\x00"
)

// Serve runs the server's side of a connection until the peer closes it, it breaks, or ctx is cancelled, which closes it with
// amqp:connection:forced. It closes nc. The error is nil after an orderly close by either side, an *Error if one side
// closed with it, and otherwise says what broke.
func Serve(ctx context.Context, nc net.Conn, cfg Config) error {
	defer nc.Close()
	if cfg.ContainerID == "" {
		cfg.ContainerID = "amqp"
	}
	if cfg.MaxFrameSize == 0 {
		cfg.MaxFrameSize = 64 << 10
	}
	cfg.MaxFrameSize = max(cfg.MaxFrameSize, minFrameSize)
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = 4 * time.Minute
	}

	r := bufio.NewReaderSize(nc, 64<<10)
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	peer, err := handshake(nc, r, cfg)
	if !stop() {
		return fmt.Errorf("amqp: opening a connection: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("amqp: opening a connection: %w", err)
	}

	c := &Conn{
		nc:       nc,
		cfg:      cfg,
		peer:     peer,
		wake:     make(chan struct{}, 1),
		drained:  make(chan struct{}, 1),
		room:     make(chan struct{}, 1),
		ending:   make(chan struct{}),
		sessions: make(map[uint16]*session),
	}
	frames := make(chan frame, 64)
	var readErr, writeErr error
	var reading, writing sync.WaitGroup
	reading.Go(func() {
		readErr = c.read(r, frames)
		close(frames)
	})
	writing.Go(func() {
		if writeErr = c.write(); writeErr != nil {
			nc.Close() // so that reading ends too
		}
	})
	c.open()
	c.loop(ctx, frames)
	c.lose()
	close(c.ending)
	writing.Wait() // for the last frames
	nc.Close()
	reading.Wait()
	return c.result(readErr, writeErr)
}

// handshake speaks until both sides have opened the connection, and returns what the peer said.
func handshake(nc net.Conn, r *bufio.Reader, cfg Config) (*openFrame, error) {
	if err := nc.SetDeadline(time.Now().Add(cfg.IdleTimeout)); err != nil {
		return nil, err
	}
	protocol, err := readProtocol(r)
	if err != nil {
		return nil, err
	}
	if protocol == protocolSASL {
		if err := authenticate(nc, r); err != nil {
			return nil, err
		}
		if protocol, err = readProtocol(r); err != nil {
			return nil, err
		}
	}
	// Whatever the peer wanted, this is what it can have.
	if _, err := io.WriteString(nc, protocolAMQP); err != nil {
		return nil, err
	}
	if protocol != protocolAMQP {
		return nil, fmt.Errorf("unknown protocol %q", protocol)
	}
	f, err := readFrame(r, minFrameSize*8)
	if err != nil {
		return nil, err
	}
	peer, ok := f.performative.(*openFrame)
	if !ok || f.kind != typeAMQP {
		return nil, fmt.Errorf("a %T instead of an open", f.performative)
	}
	if peer.maxFrameSize < minFrameSize {
		return nil, fmt.Errorf("frames of at most %d bytes", peer.maxFrameSize)
	}
	open := &openFrame{
		containerID:  cfg.ContainerID,
		maxFrameSize: cfg.MaxFrameSize,
		channelMax:   channelMax,
		idleTimeout:  uint32(min(cfg.IdleTimeout.Milliseconds()/2, math.MaxUint32)),
	}
	if err := writeFrame(nc, typeAMQP, open); err != nil {
		return nil, err
	}
	return peer, nc.SetDeadline(time.Time{})
}

func readProtocol(r *bufio.Reader) (string, error) {
	var b [len(protocolAMQP)]byte
	_, err := io.ReadFull(r, b[:])
	return string(b[:]), err
}

func writeFrame(nc net.Conn, kind uint8, p performative) error {
	b, err := appendFrame(nil, kind, 0, p, nil)
	if err != nil {
		return err
	}
	_, err = nc.Write(b)
	return err
}

// authenticate lets everybody in who asks in a way that is offered. Rights are given later, per entity.
func authenticate(nc net.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(nc, protocolSASL); err != nil {
		return err
	}
	offered := []Symbol{"MSSBCBS", "PLAIN", "ANONYMOUS"}
	if err := writeFrame(nc, typeSASL, &saslMechanisms{offered}); err != nil {
		return err
	}
	f, err := readFrame(r, minFrameSize)
	if err != nil {
		return err
	}
	init, ok := f.performative.(*saslInit)
	if !ok || f.kind != typeSASL {
		return fmt.Errorf("a %T instead of a SASL init", f.performative)
	}
	const succeeded, refused = 0, 1
	for _, mechanism := range offered {
		if init.mechanism == mechanism {
			return writeFrame(nc, typeSASL, &saslOutcome{succeeded})
		}
	}
	return errors.Join(fmt.Errorf("SASL mechanism %q is not offered", init.mechanism), writeFrame(nc, typeSASL, &saslOutcome{refused}))
}
