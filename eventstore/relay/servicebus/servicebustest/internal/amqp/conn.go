package amqp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A Conn is one connection that Serve runs.
type Conn struct {
	nc   net.Conn
	cfg  Config
	peer *openFrame

	wake    chan struct{} // tells the writer that there is something to write
	drained chan struct{} // tells the reader that the buffer has become shorter
	room    chan struct{} // tells the loop that links are ready
	ending  chan struct{} // closed when the loop has ended

	mu       sync.Mutex // protects all fields below, and those of sessions, links and deliveries
	sessions map[uint16]*session
	out      []byte     // frames that the writer has not taken yet
	spare    []byte     // frames that the writer has taken
	run      run        // a disposition that may still grow
	held     bool       // the loop is at work: more will come, the writer waits
	waiting  []*session // whose transfers wait for room in out
	unsent   int        // bytes of all messages that wait to be sent
	starved  []*Link    // to be told when unsent has become less
	ready    []*Link    // to be told by the loop that they may send
	calls    []func()   // for the loop to call, in their order, without the lock
	closing  bool       // a close has been sent
	closeErr *Error     // the first that either side closed with
	closed   bool       // the peer has closed
	grace    *time.Timer
}

// Hostname is the host that the peer asked for, with its port if it said one.
func (c *Conn) Hostname() string { return c.peer.hostname }

// ContainerID is how the peer calls itself.
func (c *Conn) ContainerID() string { return c.peer.containerID }

// Properties are those with which the peer opened the connection.
func (c *Conn) Properties() Map { return c.peer.properties }

// Close closes the connection, with an error unless err is nil. What was sent before goes first; messages that wait for the
// peer's windows are dropped. The links' Handler.Closed are called when the peer has answered, at latest after some seconds.
func (c *Conn) Close(err *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close(err)
}

func (c *Conn) close(err *Error) {
	if c.closing {
		return
	}
	_ = c.send(0, &closeFrame{err}) // all its fields can be encoded
	c.closing, c.closeErr = true, err
	c.grace = time.AfterFunc(closeGrace, func() { c.nc.Close() })
}

// Drop cuts the connection at once, in the middle of whatever it was saying.
func (c *Conn) Drop() { c.nc.Close() }

// read hands the frames of the peer over, until there are no more. It waits while too much is to be written, so that a
// peer that asks without reading has to stop asking.
func (c *Conn) read(r *bufio.Reader, frames chan<- frame) error {
	for {
		for c.crowded() {
			select {
			case <-c.drained:
			case <-c.ending:
				return nil
			}
		}
		if err := c.nc.SetReadDeadline(time.Now().Add(c.cfg.IdleTimeout)); err != nil {
			return err
		}
		f, err := readFrame(r, c.cfg.MaxFrameSize)
		var broken *Error
		switch {
		case errors.As(err, &broken):
			// The peer may still be writing: if it were cut off, it would not read why.
			f.err = broken
		case err != nil:
			return err
		}
		select {
		case frames <- f:
		case <-c.ending:
			return nil
		}
		if f.err != nil {
			_, err := io.Copy(io.Discard, r)
			return err
		}
	}
}

// loop works on the peer's frames until there are no more, or the peer has closed.
func (c *Conn) loop(ctx context.Context, frames <-chan frame) {
	done := ctx.Done()
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				return
			}
			c.work(func() { c.receive(f) })
		case <-c.room:
			c.work(func() {})
		case <-done:
			done = nil
			c.Close(&Error{Condition: ConnectionForced, Description: "the server stops"})
		}
		c.mu.Lock()
		closed := c.closed
		if len(frames) == 0 {
			c.release()
		}
		c.mu.Unlock()
		if closed {
			return
		}
	}
}

// work changes the state and then calls what the change wants to be called.
func (c *Conn) work(change func()) {
	c.mu.Lock()
	c.held = true
	change()
	for {
		for _, l := range c.ready {
			c.calls = append(c.calls, l.credited)
		}
		clear(c.ready)
		c.ready = c.ready[:0]
		calls := c.calls
		c.calls = nil
		c.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		for _, call := range calls {
			call()
		}
		c.mu.Lock()
	}
}

// receive works on one frame.
func (c *Conn) receive(f frame) {
	if f.err != nil {
		c.close(f.err)
		return
	}
	if f.kind != typeAMQP {
		c.close(&Error{Condition: FramingError, Description: "a SASL frame in an open connection"})
		return
	}
	switch p := f.performative.(type) {
	case nil:
		return
	case *closeFrame:
		c.close(nil)
		if c.closeErr == nil {
			c.closeErr = p.err
		}
		c.closed = true
		return
	case *beginFrame:
		if !c.closing {
			c.begin(f.channel, p)
		}
		return
	case *openFrame, *saslInit:
		c.close(&Error{Condition: FramingError, Description: fmt.Sprintf("a %T in an open connection", p)})
		return
	}
	if c.closing {
		return
	}
	s := c.sessions[f.channel]
	if s == nil {
		switch f.performative.(type) {
		case *endFrame, *detachFrame:
			return // Service Bus overlooks them: clients give up sessions that they have not begun
		}
		c.close(&Error{Condition: FramingError, Description: fmt.Sprintf("a frame on channel %d, which has no session", f.channel)})
		return
	}
	s.receive(f)
}

// open tells the broker that the connection is open.
func (c *Conn) open() {
	if c.cfg.Open == nil {
		return
	}
	if err := c.cfg.Open(c); err != nil {
		c.Close(err)
	}
}

// lose lets go of everything that ends with the connection.
func (c *Conn) lose() {
	c.work(func() {
		c.closing = true
		for channel, s := range c.sessions {
			s.lose(nil)
			delete(c.sessions, channel)
		}
		if c.grace != nil {
			c.grace.Stop()
		}
		c.release()
	})
}

// result says how the connection ended.
func (c *Conn) result(readErr, writeErr error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closeErr != nil:
		return c.closeErr
	case c.closed:
		return nil
	case writeErr != nil:
		return fmt.Errorf("amqp: writing: %w", writeErr)
	case readErr == nil || errors.Is(readErr, io.EOF):
		readErr = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("amqp: reading: %w", readErr)
}

// later makes the loop call a function of the broker, after those before it.
func (c *Conn) later(call func()) {
	c.calls = append(c.calls, call)
}

// notify wakes up whoever waits on a channel of capacity one.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
