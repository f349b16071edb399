package amqp_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

func TestKeepsAlive(t *testing.T) {
	for idle, want := range map[uint32]time.Duration{0: 15 * time.Second, 60_000: 15 * time.Second, 4000: 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			p := connect(t, newBroker(t), amqp.Config{IdleTimeout: time.Hour}, "host", nil, nil, idle)
			for range 3 {
				begin := time.Now()
				if f := p.hear(); f.code != 0 {
					t.Errorf("heard %v", f)
				}
				if got := time.Since(begin); got != want {
					t.Errorf("a sign of life after %v, with an idle time-out of %d ms", got, idle)
				}
			}
		})
	}
}

func TestSilentPeerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		p := connect(t, b, amqp.Config{IdleTimeout: time.Minute})
		p.attachReceiver(0, "q")
		begin := time.Now()
		for range 3 {
			time.Sleep(30 * time.Second)
			p.write([]byte{0, 0, 0, 8, 2, 0, 0, 0}) // an empty frame
		}
		if err := p.result(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != 150*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		diff(t, "ends of links", b.closed, []error{amqp.ErrClosed}, sameError)
	})
}

func TestDeafPeerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		p := connect(t, b, amqp.Config{IdleTimeout: time.Minute})
		p.attachReceiver(0, "q")
		p.credit(0, 0, 100, false)
		p.stop(true)
		for range 10 {
			b.put("q", encoded(t, strings.Repeat("x", 1000)))
			synctest.Wait()
		}
		begin := time.Now()
		var speaking sync.WaitGroup
		speaking.Go(func() {
			var err error
			for err == nil { // it speaks, but does not listen
				time.Sleep(10 * time.Second)
				_, err = p.nc.Write([]byte{0, 0, 0, 8, 2, 0, 0, 0})
			}
		})
		if err := p.result(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		speaking.Wait()
	})
}

func TestCloseIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		p := connect(t, b, amqp.Config{})
		p.attachReceiver(0, "q")
		b.link(0).Conn().Close(&amqp.Error{Condition: amqp.ConnectionForced})
		b.link(0).Conn().Close(nil)
		p.expectError(closing, amqp.ConnectionForced)
		if n, err := b.link(0).Send(amqp.Transfer{Tag: []byte{1}}); n != 0 || !errors.Is(err, amqp.ErrClosed) {
			t.Errorf("sent %d, %v", n, err)
		}
		since := time.Now()
		p.say(begin, nil, uint32(0), uint32(1), uint32(1)) // ignored, like all but a close
		p.credit(0, 0, 10, true)
		var own *amqp.Error
		if err := p.result(); !errors.As(err, &own) || own.Condition != amqp.ConnectionForced || time.Since(since) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(since), err)
		}
		if rest, _ := io.ReadAll(p.nc); len(rest) > 0 {
			t.Errorf("%x was sent after the close", rest)
		}
	})
}

func TestOpening(t *testing.T) {
	init := func(mechanism amqp.Symbol) []byte {
		b := frameOf(t, 0, 0x41, nil, mechanism, []byte("anonymous"))
		b[5] = 1
		return b
	}
	sasl, plain := "AMQP\x03\x01\x00\x00", "AMQP\x00\x01\x00\x00"
	for name, said := range map[string]string{
		"nothing":              "",
		"HTTP":                 "GET / HTTP/1.1\r\n",
		"TLS":                  "AMQP\x02\x01\x00\x00",
		"another version":      "AMQP\x00\x00\x09\x01",
		"no SASL init":         sasl + string(frameOf(t, 0, open, nil, "peer")),
		"half a SASL init":     sasl + "\x00\x00\x00\x20\x02\x01\x00\x00",
		"only SASL":            sasl + string(init("MSSBCBS")),
		"an unknown mechanism": sasl + string(init("SCRAM")) + plain + string(frameOf(t, 0, open, nil, "peer")),
		"SASL twice":           sasl + string(init("PLAIN")) + sasl + string(init("PLAIN")),
		"no open":              plain + string(frameOf(t, 0, begin, nil, nil, uint32(0), uint32(1), uint32(1))),
		"an open in SASL":      plain + string(init("PLAIN")),
		"no container":         plain + string(frameOf(t, 0, open, nil)),
		"too small frames":     plain + string(frameOf(t, 0, open, nil, "peer", nil, uint32(511))),
		"an endless frame":     plain + "\xff\xff\xff\xff\x02\x00\x00\x00",
		"an empty frame":       plain + "\x00\x00\x00\x08\x02\x00\x00\x00",
	} {
		p := start(t, newBroker(t), amqp.Config{})
		go func() {
			_, _ = io.WriteString(p.nc, said)
			if name == "nothing" || strings.HasPrefix(name, "half") || name == "only SASL" {
				p.nc.Close()
			}
		}()
		if err := p.result(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestUnbegunSession ends a session, and detaches a link of one, that was never begun, as clients do that have given up
// before their begin was written. Service Bus overlooks it.
func TestUnbegunSession(t *testing.T) {
	p := connect(t, newBroker(t), amqp.Config{})
	p.write(frameOf(t, 1, detach, nil, uint32(0), true))
	p.write(frameOf(t, 1, end, nil))
	p.attachSender(0, "q")
}

// Each violation ends what it has violated, with a condition, and nothing beyond.
func TestViolations(t *testing.T) {
	no := (any)(nil)
	source, target := amqp.Described{uint64(0x28), amqp.List{"q"}}, amqp.Described{uint64(0x29), amqp.List{"q"}}
	for _, v := range []struct {
		name      string
		act       func(*peer)
		ends      uint64
		condition amqp.Symbol
	}{
		{"an unknown performative", func(p *peer) { p.say(0x99) }, closing, amqp.DecodeError},
		{"no performative", func(p *peer) { p.write([]byte{0, 0, 0, 9, 2, 0, 0, 0, 0x40}) }, closing, amqp.DecodeError},
		{"a named performative", func(p *peer) { p.write(unhex(p.t, "0000000d02000000"+"00a3014045")) }, closing, amqp.DecodeError},
		{"a performative without fields", func(p *peer) { p.write(unhex(p.t, "0000000c02000000"+"00531040")) }, closing, amqp.DecodeError},
		{"half a performative", func(p *peer) { p.write([]byte{0, 0, 0, 9, 2, 0, 0, 0, 0}) }, closing, amqp.DecodeError},
		{"a frame that is too large", func(p *peer) { p.write([]byte{0, 1, 0, 1, 2, 0, 0, 0}) }, closing, amqp.FramingError},
		{"a frame without header", func(p *peer) { p.write([]byte{0, 0, 0, 8, 1, 0, 0, 0}) }, closing, amqp.FramingError},
		{"a frame that is too small", func(p *peer) { p.write([]byte{0, 0, 0, 8, 3, 0, 0, 0}) }, closing, amqp.FramingError},
		{"an unknown frame type", func(p *peer) { p.write([]byte{0, 0, 0, 8, 2, 7, 0, 0}) }, closing, amqp.FramingError},
		{"a SASL frame", func(p *peer) { p.write([]byte{0, 0, 0, 8, 2, 1, 0, 0}) }, closing, amqp.FramingError},
		{"a second open", func(p *peer) { p.say(open, "peer") }, closing, amqp.FramingError},
		{"a second begin", func(p *peer) { p.say(begin, no, uint32(0), uint32(1), uint32(1)) }, closing, amqp.FramingError},
		{"a begin in answer", func(p *peer) { p.write(frameOf(p.t, 1, begin, nil, uint16(0), uint32(0), uint32(1), uint32(1))) }, closing, amqp.FramingError},
		{"a channel that is too high", func(p *peer) { p.write(frameOf(p.t, 4096, begin, nil, no, uint32(0), uint32(1), uint32(1))) }, closing, amqp.FramingError},
		{"a channel without session", func(p *peer) { p.write(frameOf(p.t, 1, flow, nil, no, uint32(1), uint32(0), uint32(1))) }, closing, amqp.FramingError},
		{"an attach without name", func(p *peer) { p.say(attach, no, uint32(0), true) }, closing, amqp.DecodeError},
		{"an attach with a number for a name", func(p *peer) { p.say(attach, uint32(0), uint32(0), true) }, closing, amqp.DecodeError},
		{"an attach from a target", func(p *peer) { p.say(attach, "l", uint32(0), true, no, no, target) }, closing, amqp.DecodeError},
		{"an attach from a list", func(p *peer) { p.say(attach, "l", uint32(0), true, no, no, amqp.List{}) }, closing, amqp.DecodeError},
		{"an attach to a source", func(p *peer) { p.say(attach, "l", uint32(0), true, no, no, source, source) }, closing, amqp.DecodeError},
		{"an attach to a list", func(p *peer) { p.say(attach, "l", uint32(0), true, no, no, source, amqp.List{}) }, closing, amqp.DecodeError},
		{"capabilities that are strings", func(p *peer) { p.say(attach, "l", uint32(0), true, no, no, source, target, no, no, no, no, "a") }, closing, amqp.DecodeError},
		{"an unknown settle mode", func(p *peer) { p.say(attach, "l", uint32(0), true, uint8(3)) }, closing, amqp.DecodeError},
		{"a disposition with an unknown state", func(p *peer) {
			p.say(disposition, true, uint32(0), no, no, amqp.Described{uint64(0x34), amqp.List{}})
		}, closing, amqp.DecodeError},
		{"a disposition with a state that is none", func(p *peer) { p.say(disposition, true, uint32(0), no, no, "accepted") }, closing, amqp.DecodeError},
		{"a rejection for a reason that is none", func(p *peer) {
			p.say(disposition, true, uint32(0), no, no, amqp.Described{uint64(0x25), amqp.List{amqp.Described{uint64(0x1e), amqp.List{}}}})
		}, closing, amqp.DecodeError},
		{"an end with an error that is none", func(p *peer) { p.say(end, "error") }, closing, amqp.DecodeError},
		{"a close with an error that is none", func(p *peer) { p.say(closing, "error") }, closing, amqp.DecodeError},
		{"a detach with an error that is none", func(p *peer) { p.say(detach, uint32(0), true, "error") }, closing, amqp.DecodeError},
		{"a handle in use", func(p *peer) {
			p.attachReceiver(0, "q")
			p.say(attach, "other", uint32(0), true, no, no, source, target)
		}, end, amqp.HandleInUse},
		{"a handle that is too high", func(p *peer) { p.say(attach, "other", uint32(1024), true) }, end, amqp.NotAllowed},
		{"a flow for no link", func(p *peer) { p.credit(7, 0, 1, false) }, end, amqp.UnattachedHandle},
		{"a detach of no link", func(p *peer) { p.say(detach, uint32(7)) }, end, amqp.UnattachedHandle},
		{"a transfer for no link", func(p *peer) { p.transfer("", uint32(7), uint32(0), []byte{1}) }, end, amqp.UnattachedHandle},
		{"a transfer to a receiver", func(p *peer) {
			p.attachReceiver(0, "q")
			p.transfer("", uint32(0), uint32(0), []byte{1})
		}, end, amqp.NotAllowed},
		{"a delivery that resumes", func(p *peer) {
			p.attachSender(0, "q")
			p.transfer("", uint32(0), uint32(0), []byte{1}, no, no, no, no, no, true)
		}, end, amqp.NotAllowed},
		{"a delivery without id", func(p *peer) {
			p.attachSender(0, "q")
			p.transfer("", uint32(0), no, []byte{1})
		}, end, amqp.InvalidField},
		{"a delivery without tag", func(p *peer) {
			p.attachSender(0, "q")
			p.transfer("", uint32(0), uint32(0))
		}, end, amqp.InvalidField},
		{"a delivery in a delivery", func(p *peer) {
			p.attachSender(0, "q")
			p.transfer("", uint32(0), uint32(0), []byte{1}, no, no, true)
			p.transfer("", uint32(0), uint32(1), []byte{1})
		}, end, amqp.InvalidField},
		{"a disposition that ends before it begins", func(p *peer) { p.say(disposition, true, uint32(5), uint32(4)) }, end, amqp.InvalidField},
		{"transactions", func(p *peer) {
			p.say(attach, "t", uint32(0), false, no, no, source, amqp.Described{uint64(0x30), amqp.List{}}, no, no, uint32(0))
			p.expect(attach, "t", uint32(0), true, uint8(2), uint8(0), amqp.Described{uint64(0x28), amqp.List{"q"}}, nil)
		}, detach, amqp.NotImplemented},
		{"a delivery without credit", func(p *peer) {
			p.attachSender(0, "hold")
			for i := range uint32(3) {
				p.transfer("", uint32(0), i, []byte{byte(i)})
			}
		}, detach, amqp.TransferLimitExceeded},
		{"a message that is too large", func(p *peer) {
			p.attachSender(0, "hold")
			p.transfer(strings.Repeat("x", 600), uint32(0), uint32(0), []byte{1}, no, no, true)
			p.transfer(strings.Repeat("x", 600), uint32(0), no, no, no, no, true)
			p.transfer(strings.Repeat("x", 600), uint32(0), no, no, no, no, true) // ignored
		}, detach, amqp.MessageSizeExceeded},
	} {
		t.Run(v.name, func(t *testing.T) {
			b := newBroker(t)
			b.reply = amqp.Reply{Credit: 2, MaxMessageSize: 1000}
			b.attach = func(l *amqp.Link) (amqp.Handler, bool) {
				if l.Asked().Target == nil || l.Asked().Target.Address == nil || *l.Asked().Target.Address != "hold" {
					return amqp.Handler{}, false
				}
				if err := l.Accept(b.reply); err != nil {
					t.Error(err)
				}
				return amqp.Handler{Delivery: func(*amqp.Delivery) {}}, true
			}
			p := connect(t, b, amqp.Config{})
			v.act(p)
			p.expectError(v.ends, v.condition)
			switch v.ends {
			case detach:
				p.say(flow, uint32(0), uint32(1), uint32(0), uint32(1), uint32(0)) // ignored
				p.say(detach, uint32(0), true)
				p.attachSender(0, "again")
				fallthrough
			case end:
				accepted := len(b.links)
				p.say(flow, uint32(0), uint32(1), uint32(0), uint32(1), uint32(99)) // ignored after an end, otherwise one
				p.say(attach, "on its way", uint32(5), true, nil, nil, source, target)
				if v.ends == detach {
					p.expectError(end, amqp.UnattachedHandle)
				}
				p.say(end)
				p.say(begin, nil, uint32(0), uint32(1), uint32(1))
				p.expect(begin)
				p.say(closing)
				p.expect(closing)
				if got := len(b.links); got != accepted {
					t.Errorf("%d links were attached after the end", got-accepted)
				}
				if err := p.result(); err != nil {
					t.Errorf("the connection ended with %v", err)
				}
			case closing:
				p.write([]byte("whatever it was going to say")) // is not answered by a reset
				p.nc.Close()
				var own *amqp.Error
				if err := p.result(); !errors.As(err, &own) || own.Condition != v.condition {
					t.Errorf("the connection ended with %v", err)
				}
			}
		})
	}
}

func TestPeerClosesWithError(t *testing.T) {
	b := newBroker(t)
	p := connect(t, b, amqp.Config{})
	p.attachReceiver(0, "q")
	p.attachReceiver(1, "q")
	e := amqp.Described{uint64(0x1d), amqp.List{amqp.Symbol("my:condition"), "why"}}
	p.say(detach, uint32(1), false, e)
	p.expect(detach, uint32(1), nil)
	p.say(closing, e)
	p.expect(closing)
	var theirs *amqp.Error
	if err := p.result(); !errors.As(err, &theirs) || theirs.Condition != "my:condition" || theirs.Error() != "my:condition: why" {
		t.Errorf("the connection ended with %v", err)
	}
	if len(b.closed) != 2 || b.closed[0].Error() != "my:condition: why" || !errors.Is(b.closed[1], amqp.ErrClosed) {
		t.Errorf("the links ended with %v", b.closed)
	}
	if got := (&amqp.Error{Condition: "only"}).Error(); got != "only" {
		t.Error(got)
	}
}

func TestPeerBreaksOff(t *testing.T) {
	p := connect(t, newBroker(t), amqp.Config{})
	p.write([]byte{0, 0, 0, 20, 2, 0, 0, 0, 1, 2})
	p.nc.Close()
	if err := p.result(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// The peer may detach what has not been accepted yet, and learns that it has gone.
func TestDetachBeforeAccept(t *testing.T) {
	b := newBroker(t)
	links := make(chan *amqp.Link, 1)
	closed := make(chan error, 1)
	b.attach = func(l *amqp.Link) (amqp.Handler, bool) {
		links <- l
		return amqp.Handler{Closed: func(err error) { closed <- err }}, true
	}
	p := connect(t, b, amqp.Config{})
	for range 2 { // the second time, with the same handle
		p.say(attach, "l", uint32(0), true, nil, nil, amqp.Described{uint64(0x28), amqp.List{"q"}}, amqp.Described{uint64(0x29), amqp.List{}})
		l := <-links
		p.credit(0, 0, 1, false)
		p.say(detach, uint32(0), true)
		p.expect(attach, "l", uint32(0), false, uint8(2), uint8(0), nil)
		p.expect(detach, uint32(0), true, nil)
		<-l.Done()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if err := l.Accept(amqp.Reply{}); !errors.Is(err, amqp.ErrClosed) {
			t.Error(err)
		}
	}
}

// Credit that came before the link was accepted counts.
func TestCreditBeforeAccept(t *testing.T) {
	b := newBroker(t)
	links := make(chan *amqp.Link, 1)
	b.attach = func(l *amqp.Link) (amqp.Handler, bool) {
		links <- l
		return amqp.Handler{Credit: func() {
			if n, err := l.Send(amqp.Transfer{Tag: []byte{1}}, amqp.Transfer{Tag: []byte{2}}, amqp.Transfer{Tag: []byte{3}}); n != 2 || !errors.Is(err, amqp.ErrNoCredit) {
				t.Errorf("sent %d, %v", n, err)
			}
		}}, true
	}
	p := connect(t, b, amqp.Config{})
	p.say(attach, "l", uint32(0), true, nil, nil, amqp.Described{uint64(0x28), amqp.List{"q"}}, amqp.Described{uint64(0x29), amqp.List{}})
	p.say(flow, nil, uint32(100), uint32(0), uint32(0), uint32(0), nil, uint32(2))
	p.sync()
	l := <-links
	if got := l.Credit(); got != 0 {
		t.Errorf("a credit of %d before the link is accepted", got)
	}
	if err := l.Accept(amqp.Reply{}); err != nil {
		t.Error(err)
	}
	p.expect(attach)
	p.say(flow, nil, uint32(100), uint32(0), uint32(0))
	p.expect(transfer, uint32(0), uint32(0), []byte{1}, uint32(0), false)
	p.expect(transfer, uint32(0), uint32(1), []byte{2}, uint32(0), false)
}

// A session's window counts frames; deliveries wait for it, in their order, and the end of a drain behind them.
func TestSessionWindow(t *testing.T) {
	b := newBroker(t)
	p := connect(t, b, amqp.Config{}, nil, uint32(512))
	p.attachReceiver(0, "q")
	p.attachReceiver(1, "other")
	b.put("q", []byte(strings.Repeat("a", 1000)), []byte("b"), []byte("c"), []byte("e"))
	p.say(flow, uint32(0), uint32(2), uint32(0), uint32(0), uint32(0), uint32(0), uint32(5), nil, true)
	f := p.expect(transfer, uint32(0), uint32(0), []byte{0, 0, 0, 0, 0, 0, 0, 1}, uint32(0), false, true)
	if f.size < 450 || f.size > 512 {
		t.Errorf("a frame of %d bytes, where 512 are allowed", f.size)
	}
	p.expect(transfer, uint32(0), nil, nil, nil, nil, true)
	b.put("other", []byte("d")) // without credit
	p.say(flow, uint32(2), uint32(2), uint32(0), uint32(0))
	p.expect(transfer, uint32(0))
	if f := p.expect(transfer, uint32(0), uint32(1)); string(f.payload) != "b" {
		t.Errorf("%q", f.payload)
	}
	p.say(flow, uint32(4), uint32(0), uint32(0), uint32(0), nil, nil, nil, nil, nil, true)
	p.expect(flow, uint32(0), uint32(5000), uint32(4), uint32(5000), nil)
	// What is still on its way counts: the window is of frames after those that the peer has seen.
	p.say(flow, uint32(3), uint32(2), uint32(0), uint32(0))
	if f := p.expect(transfer, uint32(0), uint32(2)); string(f.payload) != "c" {
		t.Errorf("%q", f.payload)
	}
	p.say(flow, uint32(5), uint32(0), uint32(0), uint32(0), nil, nil, nil, nil, nil, true)
	p.expect(flow, uint32(0), uint32(5000), uint32(5), uint32(5000), nil) // and no message before
	p.say(flow, uint32(5), uint32(9), uint32(0), uint32(0))
	if f := p.expect(transfer, uint32(0), uint32(3)); string(f.payload) != "e" {
		t.Errorf("%q", f.payload)
	}
	p.expect(flow, uint32(0), uint32(5000), uint32(6), uint32(5000), uint32(0), uint32(5), uint32(0), nil, true)
	p.credit(0, 3, 2, false) // said before the peer knew that 5 are used up
	p.sync()
	if got := b.link(0).Credit(); got != 0 {
		t.Errorf("a credit of %d", got)
	}
	p.say(flow, uint32(6), uint32(9), uint32(0), uint32(0), uint32(0), uint32(5), uint32(1), nil, false, true)
	p.expect(flow, uint32(0), uint32(5000), uint32(6), uint32(5000), uint32(0), uint32(5), uint32(1))
	p.say(flow, uint32(6), uint32(9), uint32(0), uint32(0), uint32(0), uint32(5), uint32(0), nil, true) // nothing to drain
	p.expect(flow, uint32(0), uint32(5000), uint32(6), uint32(5000), uint32(0), uint32(5), uint32(0), nil, true)
}

// A burst leaves in one write, and answers to a range in one range.
func TestBursts(t *testing.T) {
	b := newBroker(t)
	p := connect(t, b, amqp.Config{})
	p.attachReceiver(0, "q")
	var messages [][]byte
	for i := range 100 {
		messages = append(messages, encoded(t, fmt.Sprint(i)))
	}
	b.put("q", messages...)
	before := p.writes()
	p.credit(0, 0, 200, false)
	for i := range uint32(100) {
		p.expect(transfer, uint32(0), i)
	}
	if got := p.writes() - before; got != 1 {
		t.Errorf("100 messages came in %d writes", got)
	}
	accepted := amqp.Described{uint64(0x24), amqp.List{}}
	p.say(disposition, true, uint32(0), uint32(9), false, accepted)
	p.expect(disposition, false, uint32(0), uint32(9), true, accepted)
	p.say(disposition, true, uint32(5), uint32(12), false, accepted) // some are settled already
	p.expect(disposition, false, uint32(10), uint32(12), true, accepted)
	p.say(disposition, true, uint32(13), uint32(1<<30), true, accepted) // far more than there are
	p.sync()                                                            // now they are settled
	p.say(flow, uint32(0), uint32(5000), uint32(0), uint32(0))
	b.put("q", messages[0])
	p.expect(transfer, uint32(0), uint32(100))
	p.say(disposition, true, uint32(100), nil, nil, amqp.Described{uint64(0x23), amqp.List{uint32(1), uint64(2)}})
	p.expect(disposition, false, uint32(100), nil, true, amqp.Described{uint64(0x23), amqp.List{uint32(1), uint64(2)}})
	p.say(disposition, true, uint32(0), uint32(200), true) // about nothing
	p.say(closing)
	p.expect(closing)
	if len(b.tags) != 101 || !slices.IsSorted(b.tags) {
		t.Errorf("outcomes of %d", b.tags)
	}
}

// What a broker sends before it returns leaves in one write too.
func TestBurstOfOneByOne(t *testing.T) {
	b := newBroker(t)
	b.attach = func(l *amqp.Link) (amqp.Handler, bool) {
		if err := l.Accept(amqp.Reply{}); err != nil {
			t.Error(err)
		}
		return amqp.Handler{Credit: func() {
			for i := range byte(200) {
				if _, err := l.Send(amqp.Transfer{Tag: []byte{i}}); err != nil {
					t.Error(err)
				}
				runtime.Gosched()
			}
		}}, true
	}
	p := connect(t, b, amqp.Config{})
	p.attachReceiver(0, "q")
	before := p.writes()
	p.credit(0, 0, 200, false)
	for i := range uint32(200) {
		p.expect(transfer, uint32(0), i)
	}
	if got := p.writes() - before; got != 1 {
		t.Errorf("200 messages came in %d writes", got)
	}
}

// Only neighbours with the same outcome, in the same direction, share a disposition.
func TestDispositionsApart(t *testing.T) {
	b := newBroker(t)
	var settle []func(amqp.State)
	b.attach = func(l *amqp.Link) (amqp.Handler, bool) {
		if err := l.Accept(amqp.Reply{}); err != nil {
			t.Error(err)
		}
		return amqp.Handler{
			Delivery: func(d *amqp.Delivery) { settle = append(settle, d.Settle) },
			Credit: func() {
				for i := range byte(6) {
					_, _ = l.Send(amqp.Transfer{Tag: []byte{i}})
				}
			},
			Disposition: func(amqp.Disposition) { // at once, within one burst
				for _, i := range []byte{0, 2, 3} {
					l.Settle([]byte{i}, amqp.Accepted{})
				}
				l.Settle([]byte{4}, amqp.Released{})
				settle[0](amqp.Released{})
				settle[1](amqp.Accepted{})
				settle[2](amqp.Accepted{})
				settle[3](amqp.Accepted{})
			},
		}, true
	}
	p := connect(t, b, amqp.Config{})
	p.attachReceiver(0, "q")
	p.attachSender(1, "q")
	no := any(nil)
	p.say(attach, "second", uint32(2), false, no, uint8(1), no, no, no, no, uint32(0))
	p.expect(attach, "second", uint32(2), true, uint8(2), uint8(1))
	p.expect(flow)
	p.credit(0, 0, 6, false)
	for i := range uint32(6) {
		p.expect(transfer, uint32(0), i)
	}
	for i, handle := range []uint32{1, 1, 1, 2} {
		p.transfer("", handle, uint32(5+i), []byte("tag"))
	}
	p.say(disposition, true, uint32(5), no, false)
	accepted, released := amqp.Described{uint64(0x24), amqp.List{}}, amqp.Described{uint64(0x26), amqp.List{}}
	p.expect(disposition, false, uint32(0), no, true, accepted)
	p.expect(disposition, false, uint32(2), uint32(3), true, accepted)
	p.expect(disposition, false, uint32(4), no, true, released)
	p.expect(disposition, true, uint32(5), no, true, released)
	p.expect(disposition, true, uint32(6), uint32(7), true, accepted)
	p.expect(disposition, true, uint32(8), no, no, accepted)
	p.sync()
}

// Deliveries come in several frames, are settled late, aborted, given up by the peer, and the credit comes back each time.
func TestIncoming(t *testing.T) {
	b := newBroker(t)
	deliveries := make(chan *amqp.Delivery, 10)
	b.attach = func(l *amqp.Link) (amqp.Handler, bool) {
		if err := l.Accept(amqp.Reply{Credit: 2}); err != nil {
			t.Error(err)
		}
		if *l.Asked().Target.Address == "deaf" {
			return amqp.Handler{}, true
		}
		return amqp.Handler{Delivery: func(d *amqp.Delivery) { deliveries <- d }}, true
	}
	p := connect(t, b, amqp.Config{})
	credit := func(count, credit uint32) {
		t.Helper()
		f := p.expect(flow)
		diff(t, "credit", amqp.List{f.field(4), f.field(5), f.field(6)}, amqp.List{uint32(0), count, credit})
	}
	no := any(nil)
	p.say(attach, "link", uint32(0), false, no, uint8(1), amqp.Described{uint64(0x28), amqp.List{}},
		amqp.Described{uint64(0x29), amqp.List{"q"}}, no, no, uint32(7))
	p.expect(attach, "link", uint32(0), true, uint8(2), uint8(1))
	credit(7, 2)
	p.transfer("ab", uint32(0), uint32(0), []byte("tag"), uint32(0x80013700), false, true)
	p.transfer("cd", uint32(0), uint32(0), no, no, no, true)
	p.transfer("ef", uint32(0))
	d := <-deliveries
	if string(d.Message) != "abcdef" || string(d.Tag) != "tag" || d.Format != amqp.BatchFormat || d.Settled {
		t.Errorf("delivery %+v", d)
	}
	rejected := amqp.Described{uint64(0x25), amqp.List{amqp.Described{uint64(0x1d), amqp.List{amqp.Symbol("c")}}}}
	d.Settle(amqp.Rejected{Error: &amqp.Error{Condition: "c"}})
	p.expect(disposition, true, uint32(0), no, no, rejected) // the peer settles first
	p.say(disposition, false, uint32(0), no, false, rejected)
	p.say(disposition, false, uint32(0), no, true, rejected)
	credit(8, 2)

	p.transfer("lost", uint32(0), uint32(1), []byte("tag"), no, no, true)
	p.transfer("", uint32(0), no, no, no, no, no, no, no, no, true)
	credit(9, 2)
	p.transfer("settled at the end", uint32(0), uint32(2), []byte("tag"), no, no, true)
	p.transfer("", uint32(0), no, no, no, true)
	credit(10, 2)
	if d := <-deliveries; !d.Settled {
		t.Error("not settled")
	} else {
		d.Settle(amqp.Accepted{})
	}
	p.transfer("given up", uint32(0), uint32(3), []byte("tag"))
	p.say(disposition, false, uint32(3), no, true)
	p.say(flow, uint32(0), uint32(100), uint32(5), uint32(100), uint32(0), uint32(11), no, no, no, true) // and asks how things are
	credit(11, 1)
	d = <-deliveries
	d.Settle(amqp.Modified{DeliveryFailed: true}) // nobody is told
	credit(11, 2)
	p.say(flow, uint32(0), uint32(100), uint32(5), uint32(100), uint32(0), uint32(12)) // a delivery that it will not send
	credit(12, 2)
	p.transfer("whole", uint32(0), uint32(4), []byte("tag"))
	p.transfer("beg", uint32(0), uint32(5), []byte("tag"), no, no, true)
	p.sync()
	(<-deliveries).Settle(amqp.Accepted{})
	p.expect(disposition, true, uint32(4))
	p.say(disposition, false, uint32(4), no, true)
	credit(14, 1) // the other is still on its way
	p.transfer("un", uint32(0))
	if d = <-deliveries; string(d.Message) != "begun" {
		t.Errorf("delivery of %q", d.Message)
	}
	d.Settle(amqp.Accepted{})
	p.expect(disposition, true, uint32(5))
	p.say(disposition, false, uint32(5), no, true)
	credit(14, 2)
	p.transfer("unanswered", uint32(0), uint32(6), []byte("tag"))
	d = <-deliveries
	p.transfer("the same id", uint32(0), uint32(6), []byte("tag"))
	p.expectError(end, amqp.InvalidField)
	d.Settle(amqp.Accepted{})

	p.say(end)
	p.say(begin, nil, uint32(0), uint32(1), uint32(1))
	p.expect(begin)
	p.attachSender(0, "deaf")
	p.transfer("", uint32(0), uint32(0), []byte("tag"))
	p.expect(disposition, true, uint32(0), no, true, amqp.Described{uint64(0x26), amqp.List{}})
}

func TestIncomingWindow(t *testing.T) {
	b := newBroker(t)
	b.reply.Credit = 10_000
	p := connect(t, b, amqp.Config{})
	p.attachSender(0, "q")
	for i := range uint32(2500) {
		p.transfer("", uint32(0), i, []byte("tag"), nil, true)
	}
	p.expect(flow, uint32(2500), uint32(5000), uint32(0), uint32(5000), nil)
}

// A peer that takes little leaves the server with no more than its bound, and gets everything in the end.
func TestUnsentIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		p := connect(t, b, amqp.Config{})
		p.attachReceiver(0, "q")
		const n = 40
		for i := range n {
			b.put("q", []byte(strings.Repeat(string(rune('a'+i%26)), 1<<20)))
		}
		p.say(flow, uint32(0), uint32(0), uint32(0), uint32(0), uint32(0), uint32(0), ^uint32(0))
		synctest.Wait()
		b.mu.Lock()
		if got := n - len(b.queues["q"].waiting); got == 0 || got > 9 {
			t.Errorf("%d messages of 1 MiB were taken over", got)
		}
		b.mu.Unlock()
		p.say(flow, uint32(0), ^uint32(0), uint32(0), uint32(0))
		size, count := 0, 0
		for count < n {
			f := p.expect(transfer)
			if size += len(f.payload); f.field(5) != true {
				if size != 1<<20 {
					t.Fatalf("message %d has %d bytes", count, size)
				}
				size = 0
				count++
			}
		}
	})
}

// What waits for a link or a session that goes makes room for the others.
func TestWhatWaitsIsDropped(t *testing.T) {
	for name, leave := range map[string]func(*peer, *broker){
		"detached by the server": func(p *peer, b *broker) {
			b.link(0).Detach(nil)
			p.expect(detach, uint32(0), true, nil)
		},
		"detached by the peer": func(p *peer, _ *broker) {
			p.say(detach, uint32(0), true)
			p.expect(detach, uint32(0), true, nil)
		},
		"ended": func(p *peer, _ *broker) {
			p.say(end)
			p.expect(end)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			p := connect(t, b, amqp.Config{})
			p.attachReceiver(0, "q")
			for range 10 {
				b.put("q", make([]byte, 1<<20))
			}
			p.say(flow, uint32(0), uint32(0), uint32(0), uint32(0), uint32(0), uint32(0), uint32(100), nil, nil, true)
			p.expect(flow)
			p.write(frameOf(t, 1, begin, nil, nil, uint32(0), uint32(100), uint32(100)))
			p.expect(begin)
			p.write(frameOf(t, 1, attach, nil, "other", uint32(0), true, nil, nil, amqp.Described{uint64(0x28), amqp.List{"other"}}))
			p.expect(attach)
			b.put("other", []byte("message"))
			p.write(frameOf(t, 1, flow, nil, uint32(0), uint32(100), uint32(0), uint32(0), uint32(0), uint32(0), uint32(1), nil, nil, true))
			p.expect(flow) // and no message: there is no room
			leave(p, b)
			if f := p.expect(transfer, uint32(0), uint32(0)); string(f.payload) != "message" {
				t.Errorf("heard %v", f)
			}
		})
	}
}

// A broker may settle deliveries of a link that has gone.
func TestUnsettledWhenDetached(t *testing.T) {
	b := newBroker(t)
	deliveries := make(chan *amqp.Delivery, 2)
	b.attach = func(l *amqp.Link) (amqp.Handler, bool) {
		if l.Asked().Role == amqp.RoleReceiver {
			return amqp.Handler{}, false
		}
		if err := l.Accept(amqp.Reply{}); err != nil {
			t.Error(err)
		}
		return amqp.Handler{Delivery: func(d *amqp.Delivery) { deliveries <- d }}, true
	}
	p := connect(t, b, amqp.Config{})
	p.attachSender(0, "q")
	p.attachReceiver(1, "q")
	p.credit(1, 0, 1, false)
	b.put("q", []byte("message"))
	tag := p.expect(transfer, uint32(1), uint32(0)).field(2)
	p.transfer("first", uint32(0), uint32(0), []byte("tag"))
	p.transfer("second", uint32(0), uint32(1), []byte("tag"), nil, nil, true) // and never its end
	d := <-deliveries
	for handle := range uint32(2) {
		p.say(detach, handle, true)
		p.expect(detach, handle, true, nil)
	}
	d.Settle(amqp.Accepted{})
	b.link(0).Settle(tag.([]byte), amqp.Accepted{})
	p.say(disposition, true, uint32(0), nil, true, amqp.Described{uint64(0x24), amqp.List{}})
	p.attachSender(0, "q")
	p.transfer("third", uint32(0), uint32(0), []byte("tag"))
	(<-deliveries).Settle(nil)
	p.expect(disposition, true, uint32(0), nil, true, nil)
	b.mu.Lock()
	diff(t, "outcomes", b.outcomes, []amqp.State(nil))
	b.mu.Unlock()
}

// A peer that asks without reading the answers has to stop asking.
func TestAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := connect(t, newBroker(t), amqp.Config{IdleTimeout: time.Hour})
		p.stop(true)
		const n = 60_000
		var asked atomic.Int32
		go func() {
			ask := frameOf(t, 0, flow, nil, uint32(0), uint32(1), uint32(0), uint32(1), nil, nil, nil, nil, nil, true)
			for range n {
				if _, err := p.nc.Write(ask); err != nil {
					return
				}
				asked.Add(1)
			}
		}()
		synctest.Wait()
		if asked.Load() == n {
			t.Error("all questions were taken")
		}
		p.stop(false)
		first := p.read(4) // all answers are the same
		size := int(binary.BigEndian.Uint32(first))
		p.read(n*size - 4)
		p.say(closing)
		p.expect(closing)
	})
}
