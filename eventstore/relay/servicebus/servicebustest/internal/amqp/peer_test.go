package amqp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

// Performatives, by their descriptors.
const (
	open        uint64 = 0x10
	begin       uint64 = 0x11
	attach      uint64 = 0x12
	flow        uint64 = 0x13
	transfer    uint64 = 0x14
	disposition uint64 = 0x15
	detach      uint64 = 0x16
	end         uint64 = 0x17
	closing     uint64 = 0x18
)

var names = map[uint64]string{open: "open", begin: "begin", attach: "attach", flow: "flow", transfer: "transfer",
	disposition: "disposition", detach: "detach", end: "end", closing: "close"}

// A peer speaks frame by frame, also what no client would say.
type peer struct {
	t     *testing.T
	nc    net.Conn
	ended chan error // what Serve returned
}

// start serves a connection to a peer that has not said anything yet.
func start(t *testing.T, b *broker, cfg amqp.Config) *peer {
	t.Helper()
	if cfg.Attach == nil {
		cfg.Attach = b.onAttach
	}
	ours, theirs := net.Pipe()
	p := &peer{t: t, nc: newBuffered(ours), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.ended <- amqp.Serve(ctx, theirs, cfg) })
	t.Cleanup(func() {
		p.stop(false)
		ours.Close()
		cancel()
		running.Wait()
		p.nc.Close()
	})
	return p
}

// connect opens a connection with a session on channel 0; the fields of open are those after the container id.
func connect(t *testing.T, b *broker, cfg amqp.Config, fields ...any) *peer {
	t.Helper()
	p := start(t, b, cfg)
	p.write([]byte("AMQP\x00\x01\x00\x00"))
	p.say(open, append([]any{"peer"}, fields...)...)
	if got := p.read(8); string(got) != "AMQP\x00\x01\x00\x00" {
		t.Fatalf("protocol %q", got)
	}
	p.expect(open)
	p.say(begin, nil, uint32(0), uint32(5000), uint32(5000))
	p.expect(begin, uint16(0), uint32(0), uint32(5000), uint32(5000), uint32(1023))
	return p
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(b); err != nil {
		p.t.Fatalf("writing: %v", err)
	}
}

func (p *peer) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(p.nc, b); err != nil {
		p.t.Fatalf("reading: %v", err)
	}
	return b
}

func frameOf(t testing.TB, channel uint16, code uint64, payload []byte, fields ...any) []byte {
	t.Helper()
	body, err := amqp.AppendValue(nil, amqp.Described{Descriptor: code, Value: amqp.List(fields)})
	if err != nil {
		t.Fatal(err)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)+len(payload)))
	b = append(b, 2, 0)
	b = binary.BigEndian.AppendUint16(b, channel)
	return append(append(b, body...), payload...)
}

// say sends a performative on channel 0.
func (p *peer) say(code uint64, fields ...any) {
	p.t.Helper()
	p.write(frameOf(p.t, 0, code, nil, fields...))
}

// transfer sends a performative with a payload.
func (p *peer) transfer(payload string, fields ...any) {
	p.t.Helper()
	p.write(frameOf(p.t, 0, transfer, []byte(payload), fields...))
}

// A heard frame is one that the server sent; code is 0 if it is empty.
type heard struct {
	channel uint16
	code    uint64
	fields  amqp.List
	payload []byte
	size    int
}

func (h heard) field(i int) any {
	if i < len(h.fields) {
		return h.fields[i]
	}
	return nil
}

func (h heard) String() string { return fmt.Sprintf("%s%v", names[h.code], h.fields) }

func (p *peer) hear() heard {
	p.t.Helper()
	h := p.read(8)
	f := heard{channel: binary.BigEndian.Uint16(h[6:]), size: int(binary.BigEndian.Uint32(h))}
	body := p.read(f.size - 8)
	if len(body) == 0 {
		return f
	}
	v, payload, err := amqp.DecodeValue(body)
	if err != nil {
		p.t.Fatal(err)
	}
	d := v.(amqp.Described)
	f.code, f.fields, f.payload = d.Descriptor.(uint64), d.Value.(amqp.List), payload
	return f
}

// expect hears one frame, with these fields at its beginning.
func (p *peer) expect(code uint64, fields ...any) heard {
	p.t.Helper()
	f := p.hear()
	if f.code != code {
		p.t.Fatalf("heard %v instead of %s", f, names[code])
	}
	if len(fields) > 0 {
		got := append(f.fields, make(amqp.List, len(fields))...)[:len(fields)]
		diff(p.t, names[code], got, amqp.List(fields))
	}
	return f
}

// expectError hears a frame with an error, which stands in its last field.
func (p *peer) expectError(code uint64, condition amqp.Symbol) {
	p.t.Helper()
	f := p.expect(code)
	if len(f.fields) == 0 {
		p.t.Fatalf("heard %v without an error", f)
	}
	e, ok := f.fields[len(f.fields)-1].(amqp.Described)
	if !ok || e.Value.(amqp.List)[0] != condition {
		p.t.Errorf("heard %v instead of %s", f, condition)
	}
}

// attachSender and attachReceiver attach links with a handle.
func (p *peer) attachSender(handle uint32, address string) {
	p.t.Helper()
	p.say(attach, "link", handle, false, nil, nil, amqp.Described{Descriptor: uint64(0x28), Value: amqp.List{}},
		amqp.Described{Descriptor: uint64(0x29), Value: amqp.List{address}}, nil, nil, uint32(0))
	p.expect(attach, "link", handle, true)
	p.expect(flow)
}

func (p *peer) attachReceiver(handle uint32, address string) {
	p.t.Helper()
	p.say(attach, "link", handle, true, nil, nil, amqp.Described{Descriptor: uint64(0x28), Value: amqp.List{address}},
		amqp.Described{Descriptor: uint64(0x29), Value: amqp.List{}})
	p.expect(attach, "link", handle, false, uint8(2), uint8(0))
}

// credit gives credit to the server, with wide session windows.
func (p *peer) credit(handle, seen, credit uint32, drain bool) {
	p.t.Helper()
	p.say(flow, uint32(0), ^uint32(0), uint32(0), uint32(0), handle, seen, credit, nil, drain)
}

// sync returns when the server has worked on all that was said, and has nothing else to say.
func (p *peer) sync() {
	p.t.Helper()
	p.say(flow, uint32(0), uint32(0), uint32(0), uint32(0), nil, nil, nil, nil, nil, true)
	if f := p.expect(flow); f.field(4) != nil {
		p.t.Fatalf("heard %v", f)
	}
}

// A buffered connection takes what the server writes at once, so that peers may listen when they like, and counts the writes.
type buffered struct {
	net.Conn
	mu      sync.Mutex
	cond    *sync.Cond
	b       bytes.Buffer
	err     error
	writes  int
	stopped bool // nothing is taken
}

func newBuffered(nc net.Conn) *buffered {
	c := &buffered{Conn: nc}
	c.cond = sync.NewCond(&c.mu)
	go func() {
		chunk := make([]byte, 4<<20)
		for {
			n, err := nc.Read(chunk)
			c.mu.Lock()
			c.b.Write(chunk[:n])
			c.writes++
			c.err = err
			c.cond.Broadcast()
			for c.stopped && err == nil {
				c.cond.Wait()
			}
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *buffered) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.b.Len() == 0 && c.err == nil {
		c.cond.Wait()
	}
	if c.b.Len() == 0 {
		return 0, c.err
	}
	return c.b.Read(b)
}

// stop makes the peer take nothing until it is called with false.
func (c *buffered) stop(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = yes
	c.cond.Broadcast()
}

func (p *peer) stop(yes bool) { p.nc.(*buffered).stop(yes) }

func (p *peer) writes() int {
	c := p.nc.(*buffered)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// result waits for the end of the connection.
func (p *peer) result() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		p.ended <- err
		return err
	case <-time.After(2 * time.Minute):
		p.t.Fatal("the connection does not end")
		return nil
	}
}
