package amqp_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

func FuzzDecodeValue(f *testing.F) {
	for _, g := range goldenValues {
		for _, s := range append(g.other, g.bytes) {
			f.Add(unhex(f, s))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, rest, err := amqp.DecodeValue(b)
		if err != nil {
			return
		}
		again, err := amqp.AppendValue(nil, v)
		if err != nil {
			t.Fatalf("%v was read from %x but cannot be written: %v", v, b[:len(b)-len(rest)], err)
		}
		back, rest, err := amqp.DecodeValue(again)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%v was written as %x but cannot be read: %v", v, again, err)
		}
		if third, err := amqp.AppendValue(nil, back); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%x became %x (%v)", again, third, err)
		}
	})
}

func FuzzDecodeMessage(f *testing.F) {
	b, err := everything().MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(unhex(f, "00537740"))
	f.Add(unhex(f, "00537645"+"00537645"+"005378c10100"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = amqp.SplitBatch(b)
		m, err := amqp.DecodeMessage(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Encode(), b) {
			t.Fatalf("%x became %x", b, m.Encode())
		}
		m.Value()
		m.SetHeader(amqp.Header{DeliveryCount: 1})
		if err := m.SetAnnotations(m.Annotations().With(amqp.Symbol("a"), int64(1))); err != nil {
			t.Fatal(err)
		}
		if p, ok := m.Properties(); ok {
			if err := m.SetProperties(p); err != nil {
				t.Fatal(err)
			}
		}
		again, err := amqp.DecodeMessage(m.Encode())
		if err != nil || len(again.Data()) != len(m.Data()) || again.Annotations().Get("a") != int64(1) {
			t.Fatalf("%x became %x (%v)", b, m.Encode(), err)
		}
	})
}

// FuzzServe lets a peer say anything after a good beginning: the connection ends, and all links with it.
func FuzzServe(f *testing.F) {
	hello := []byte("AMQP\x00\x01\x00\x00")
	hello = append(hello, frameOf(f, 0, open, nil, "peer")...)
	hello = append(hello, frameOf(f, 0, begin, nil, nil, uint32(0), uint32(10), uint32(10))...)
	source, target := amqp.Described{Descriptor: uint64(0x28), Value: amqp.List{"q"}}, amqp.Described{Descriptor: uint64(0x29), Value: amqp.List{"q"}}
	hello = append(hello, frameOf(f, 0, attach, nil, "out", uint32(0), false, nil, nil, source, target, nil, nil, uint32(0))...)
	hello = append(hello, frameOf(f, 0, attach, nil, "in", uint32(1), true, nil, nil, source, target)...)
	var said []byte
	for _, b := range [][]byte{
		frameOf(f, 0, flow, nil, uint32(0), uint32(10), uint32(0), uint32(0), uint32(1), uint32(0), uint32(5), nil, true, true),
		frameOf(f, 0, transfer, []byte("m"), uint32(0), uint32(0), []byte{1}, nil, nil, true),
		frameOf(f, 0, transfer, []byte("m"), uint32(0)),
		frameOf(f, 0, disposition, nil, true, uint32(0), uint32(9), false, amqp.Described{Descriptor: uint64(0x24), Value: amqp.List{}}),
		frameOf(f, 0, detach, nil, uint32(0), true),
		frameOf(f, 0, end, nil),
		frameOf(f, 0, closing, nil),
	} {
		f.Add(b)
		said = append(said, b...)
	}
	f.Add(said)
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		attached, lost := 0, 0
		cfg := amqp.Config{Attach: func(l *amqp.Link) amqp.Handler {
			attached++
			if err := l.Accept(amqp.Reply{Credit: 2, MaxMessageSize: 1000}); err != nil {
				t.Error(err)
			}
			return amqp.Handler{
				Delivery: func(d *amqp.Delivery) { d.Settle(amqp.Accepted{}) },
				Credit: func() {
					_, _ = l.Send(amqp.Transfer{Tag: []byte{1}, Message: make([]byte, 100_000)}, amqp.Transfer{Tag: []byte{1}})
				},
				Disposition: func(d amqp.Disposition) {
					if lost == attached {
						t.Error("a disposition for a link that has gone")
					}
					l.Settle(d.Tag, d.State)
				},
				Closed: func(error) { lost++ },
			}
		}}
		go func() {
			_, _ = ours.Write(append(hello[:len(hello):len(hello)], b...))
			ours.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		_ = amqp.Serve(context.Background(), theirs, cfg)
		if attached != lost {
			t.Errorf("%d links were attached and %d lost", attached, lost)
		}
	})
}
