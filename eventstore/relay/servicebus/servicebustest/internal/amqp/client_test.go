package amqp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

// dial connects Microsoft's client, whose session, sender and receiver options are what the Service Bus client sets.
func dial(t *testing.T, addr string, opts *client.ConnOptions) *client.Session {
	t.Helper()
	if opts == nil {
		opts = &client.ConnOptions{}
	}
	if opts.SASLType == nil {
		opts.SASLType = client.SASLTypeAnonymous()
	}
	c, err := client.Dial(t.Context(), addr, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := c.NewSession(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sender(t *testing.T, s *client.Session, target string) *client.Sender {
	t.Helper()
	l, err := s.NewSender(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// receiver attaches with peek-lock.
func receiver(t *testing.T, s *client.Session, source string, credit uint32) *client.Receiver {
	t.Helper()
	l, err := s.NewReceiver(t.Context(), source, &client.ReceiverOptions{
		Credit: -1, SettlementMode: client.ReceiverSettleModeSecond.Ptr(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if credit > 0 {
		if err := l.IssueCredit(credit); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func receive(t *testing.T, r *client.Receiver) *client.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := r.Receive(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func encoded(t *testing.T, body string) []byte {
	t.Helper()
	b, err := client.NewMessage([]byte(body)).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestClientSendsAndReceives(t *testing.T) {
	b := newBroker(t)
	addr, ended := b.serve(amqp.Config{})
	s := dial(t, addr, nil)
	out := sender(t, s, "q")
	in := receiver(t, s, "q", 200)
	want := make([]string, 200)
	for i := range want {
		want[i] = fmt.Sprint("message ", i)
		m := client.NewMessage([]byte(want[i]))
		m.ApplicationProperties = map[string]any{"n": int64(i)}
		if err := out.Send(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range want {
		m := receive(t, in)
		if got := string(m.GetData()); got != want[i] || m.ApplicationProperties["n"] != int64(i) {
			t.Fatalf("message %d is %q with %v", i, got, m.ApplicationProperties)
		}
		if err := in.AcceptMessage(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []interface{ Close(context.Context) error }{out, in, s} {
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	s2 := dial(t, addr, nil) // while the first connection stays
	sender(t, s2, "other")
	b.mu.Lock()
	diff(t, "outcomes", b.outcomes, slices.Repeat([]amqp.State{amqp.Accepted{}}, 200))
	diff(t, "ends of links", b.closed, []error{nil, nil})
	b.mu.Unlock()
	conn := b.link(0).Conn()
	if conn.ContainerID() == "" || conn.Hostname() != "127.0.0.1" || conn.Properties() != nil {
		t.Errorf("peer %q, host %q, properties %v", conn.ContainerID(), conn.Hostname(), conn.Properties())
	}
	b.link(2).Conn().Close(nil)
	if err := ended(); err != nil {
		t.Errorf("the second connection ended with %v", err)
	}
}

func TestClientSettlesInEveryWay(t *testing.T) {
	b := newBroker(t)
	addr, _ := b.serve(amqp.Config{})
	in := receiver(t, dial(t, addr, nil), "q", 6)
	b.put("q", encoded(t, "1"), encoded(t, "2"), encoded(t, "3"), encoded(t, "4"), encoded(t, "5"))
	settle := []func(*client.Message) error{
		func(m *client.Message) error { return in.AcceptMessage(t.Context(), m) },
		func(m *client.Message) error { return in.ReleaseMessage(t.Context(), m) },
		func(m *client.Message) error {
			return in.ModifyMessage(t.Context(), m, &client.ModifyMessageOptions{
				DeliveryFailed: true, UndeliverableHere: true, Annotations: client.Annotations{"why": "because"}})
		},
		func(m *client.Message) error { return in.RejectMessage(t.Context(), m, nil) },
		func(m *client.Message) error {
			err := in.RejectMessage(t.Context(), m, &client.Error{
				Condition: "com.microsoft:dead-letter", Info: map[string]any{"DeadLetterReason": "bad"}})
			// This broker answers with the outcome itself, which to the client is a refusal.
			var refused *client.Error
			if !errors.As(err, &refused) || refused.Condition != "com.microsoft:dead-letter" {
				return fmt.Errorf("rejected with %w", err)
			}
			return nil
		},
	}
	for i, f := range settle {
		if err := f(receive(t, in)); err != nil {
			t.Errorf("settling %d: %v", i, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	diff(t, "outcomes", b.outcomes, []amqp.State{
		amqp.Accepted{},
		amqp.Released{},
		amqp.Modified{DeliveryFailed: true, UndeliverableHere: true, Annotations: amqp.Map{{amqp.Symbol("why"), "because"}}},
		amqp.Rejected{},
		amqp.Rejected{Error: &amqp.Error{Condition: "com.microsoft:dead-letter", Info: amqp.Map{{"DeadLetterReason", "bad"}}}},
	})
}

func TestClientIsToldOutcomes(t *testing.T) {
	b := newBroker(t)
	var outcome amqp.State
	b.attach = func(l *amqp.Link) (amqp.Handler, bool) {
		if err := l.Accept(amqp.Reply{Credit: 1}); err != nil {
			t.Error(err)
		}
		return amqp.Handler{Delivery: func(d *amqp.Delivery) { d.Settle(outcome); d.Settle(amqp.Accepted{}) }}, true
	}
	addr, _ := b.serve(amqp.Config{})
	s := dial(t, addr, nil)
	for _, mode := range []client.ReceiverSettleMode{client.ReceiverSettleModeFirst, client.ReceiverSettleModeSecond} {
		out, err := s.NewSender(t.Context(), "q", &client.SenderOptions{RequestedReceiverSettleMode: &mode})
		if err != nil {
			t.Fatal(err)
		}
		outcome = amqp.Accepted{}
		for range 5 { // more than the credit
			if err := out.Send(t.Context(), client.NewMessage(nil), nil); err != nil {
				t.Fatal(err)
			}
		}
		outcome = amqp.Rejected{Error: &amqp.Error{Condition: "com.microsoft:server-busy", Description: "later",
			Info: amqp.Map{{amqp.Symbol("wait"), uint32(7)}}}}
		err = out.Send(t.Context(), client.NewMessage(nil), nil)
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Condition != "com.microsoft:server-busy" || refused.Description != "later" ||
			refused.Info["wait"] != uint32(7) {
			t.Errorf("send: %v", err)
		}
	}
	// Presettled messages need no outcome, and give their credit back by themselves.
	out, err := s.NewSender(t.Context(), "q", &client.SenderOptions{SettlementMode: client.SenderSettleModeSettled.Ptr()})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := out.Send(t.Context(), client.NewMessage(nil), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClientMessagesOfAllSizes(t *testing.T) {
	b := newBroker(t)
	b.reply.MaxMessageSize = 1 << 20
	addr, _ := b.serve(amqp.Config{})
	for _, frameSize := range []uint32{512, 4096, 0} {
		name := fmt.Sprint("q", frameSize)
		s := dial(t, addr, &client.ConnOptions{MaxFrameSize: frameSize})
		out, in := sender(t, s, name), receiver(t, s, name, 100)
		if out.MaxMessageSize() != 1<<20 {
			t.Errorf("the client may send messages of %d bytes", out.MaxMessageSize())
		}
		for _, size := range []int{0, 1, 300, 400, 430, 500, 512, 4000, 4096, 65_535, 65_536, 70_000, 1_000_000} {
			want := bytes.Repeat([]byte{byte(size)}, size)
			if err := out.Send(t.Context(), client.NewMessage(want), nil); err != nil {
				t.Fatalf("sending %d bytes: %v", size, err)
			}
			m := receive(t, in)
			if !bytes.Equal(m.GetData(), want) {
				t.Fatalf("a message of %d bytes came as one of %d", size, len(m.GetData()))
			}
			if err := in.AcceptMessage(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A slow reader of many and large messages neither loses any nor makes the server hold more than its bounds.
func TestClientManyLargeMessages(t *testing.T) {
	b := newBroker(t)
	addr, _ := b.serve(amqp.Config{})
	s := dial(t, addr, nil)
	const n = 60
	for i := range n {
		b.put("q", encoded(t, string(bytes.Repeat([]byte{byte(i)}, 300_000))))
	}
	in := receiver(t, s, "q", n)
	for i := range n {
		m := receive(t, in)
		if got := m.GetData(); len(got) != 300_000 || got[0] != byte(i) {
			t.Fatalf("message %d has %d bytes and begins with %d", i, len(got), got[0])
		}
	}
	if b.link(0).Credit() != 0 {
		t.Errorf("there is credit left: %d", b.link(0).Credit())
	}
}

func TestClientCreditAndDrain(t *testing.T) {
	b := newBroker(t)
	addr, _ := b.serve(amqp.Config{})
	in := receiver(t, dial(t, addr, nil), "q", 3)
	b.put("q", encoded(t, "1"), encoded(t, "2"), encoded(t, "3"), encoded(t, "4"))
	for range 3 {
		receive(t, in)
	}
	if m := in.Prefetched(); m != nil {
		t.Errorf("a message came without credit: %s", m.GetData())
	}
	if err := in.IssueCredit(5); err != nil {
		t.Fatal(err)
	}
	if got := string(receive(t, in).GetData()); got != "4" {
		t.Errorf("got %s", got)
	}
	if err := in.DrainCredit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.put("q", encoded(t, "5"))
	if got := b.link(0).Credit(); got != 0 {
		t.Errorf("there is credit of %d after a drain", got)
	}
	if err := in.IssueCredit(1); err != nil {
		t.Fatal(err)
	}
	if got := string(receive(t, in).GetData()); got != "5" {
		t.Errorf("got %s", got)
	}
}

func TestClientReceiveAndDelete(t *testing.T) {
	b := newBroker(t)
	addr, _ := b.serve(amqp.Config{})
	in, err := dial(t, addr, nil).NewReceiver(t.Context(), "q", &client.ReceiverOptions{
		SettlementMode: client.ReceiverSettleModeFirst.Ptr(), RequestedSenderSettleMode: client.SenderSettleModeSettled.Ptr(), Credit: 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		b.put("q", encoded(t, fmt.Sprint(i)))
	}
	for i := range 30 {
		if got := string(receive(t, in).GetData()); got != fmt.Sprint(i) {
			t.Errorf("got %s instead of %d", got, i)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	diff(t, "outcomes", b.outcomes, []amqp.State(nil))
}

func TestClientIsRefused(t *testing.T) {
	b := newBroker(t)
	closed := make(chan error, 2)
	b.attach = func(l *amqp.Link) (amqp.Handler, bool) {
		l.Detach(&amqp.Error{Condition: amqp.NotFound, Description: "no such queue", Info: amqp.Map{{amqp.Symbol("broken"), 7}}})
		l.Detach(nil)
		if err := l.Accept(amqp.Reply{}); !errors.Is(err, amqp.ErrClosed) {
			t.Errorf("accepting a refused link: %v", err)
		}
		<-l.Done()
		return amqp.Handler{Closed: func(err error) { closed <- err }}, true
	}
	addr, _ := b.serve(amqp.Config{})
	s := dial(t, addr, nil)
	_, sendErr := s.NewSender(t.Context(), "q", nil)
	_, receiveErr := s.NewReceiver(t.Context(), "q", nil)
	for _, err := range []error{sendErr, receiveErr} {
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Condition != client.ErrCondNotFound || refused.Description != "no such queue" {
			t.Errorf("attach: %v", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("the link ended with %v", err)
		}
	}
}

// The broker may answer an attach from any goroutine, much later, while the connection does other work; the peer may
// give up in the meantime.
func TestClientWaitsForAttach(t *testing.T) {
	b := newBroker(t)
	waiting := make(chan *amqp.Link, 4)
	closed := make(chan error, 4)
	b.attach = func(l *amqp.Link) (amqp.Handler, bool) {
		if l.Asked().Role == amqp.RoleSender || *l.Asked().Source.Address != "later" {
			return amqp.Handler{}, false
		}
		waiting <- l
		return amqp.Handler{
			Credit: func() {
				_, _ = l.Send(amqp.Transfer{Tag: []byte{1}, Message: encoded(t, "for whoever waited")})
			},
			Closed: func(err error) { closed <- err },
		}, true
	}
	addr, _ := b.serve(amqp.Config{})
	s := dial(t, addr, nil)
	attach := func(ctx context.Context) error {
		in, err := s.NewReceiver(ctx, "later", &client.ReceiverOptions{Filters: []client.LinkFilter{
			client.NewLinkFilter("com.microsoft:session-filter", 0x137000000C, nil)}})
		if err == nil {
			receive(t, in)
		}
		return err
	}

	first := make(chan error, 1)
	go func() { first <- attach(t.Context()) }()
	l := <-waiting
	filter := amqp.Map{{amqp.Symbol("com.microsoft:session-filter"), amqp.Described{uint64(0x137000000C), nil}}}
	diff(t, "filter", l.Asked().Source.Filter, filter)
	if err := sender(t, s, "q").Send(t.Context(), client.NewMessage(nil), nil); err != nil {
		t.Fatal(err)
	}
	source := *l.Asked().Source
	source.Filter = amqp.Map{{amqp.Symbol("com.microsoft:session-filter"), amqp.Described{uint64(0x137000000C), "s1"}}}
	if err := l.Accept(amqp.Reply{Properties: amqp.Map{{amqp.Symbol("n"), 1}}}); err == nil {
		t.Error("a property without AMQP type was taken")
	}
	if err := l.Accept(amqp.Reply{Source: &source, Properties: amqp.Map{{amqp.Symbol("until"), int64(1)}}}); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Fatal(err)
	}

	// One client gives up: its session ends.
	other := dial(t, addr, nil)
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		_, err := other.NewReceiver(ctx, "later", nil)
		second <- err
	}()
	l = <-waiting
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("attach: %v", err)
	}
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-l.Done()
	if err := <-closed; !errors.Is(err, amqp.ErrClosed) {
		t.Errorf("the link ended with %v", err)
	}
	if err := l.Accept(amqp.Reply{}); !errors.Is(err, amqp.ErrClosed) {
		t.Errorf("accepting a link that has gone: %v", err)
	}
}

func TestClientIsDetached(t *testing.T) {
	b := newBroker(t)
	addr, _ := b.serve(amqp.Config{})
	s := dial(t, addr, nil)
	in := receiver(t, s, "q", 5)
	out := sender(t, s, "q")
	b.link(0).Detach(&amqp.Error{Condition: amqp.DetachForced, Description: "idle"})
	_, err := in.Receive(t.Context(), nil)
	var gone *client.LinkError
	if !errors.As(err, &gone) || gone.RemoteErr == nil || gone.RemoteErr.Condition != client.ErrCondDetachForced {
		t.Errorf("receive: %v", err)
	}
	if n, err := b.link(0).Send(amqp.Transfer{Tag: []byte{1}}); n != 0 || !errors.Is(err, amqp.ErrClosed) {
		t.Errorf("sending on a link that has gone: %d, %v", n, err)
	}
	b.link(0).Settle([]byte{1}, amqp.Accepted{})
	if err := out.Send(t.Context(), client.NewMessage([]byte("x")), nil); err != nil {
		t.Errorf("the other link: %v", err)
	}
	again := receiver(t, s, "q", 5) // the handle may be used again
	receive(t, again)
	if _, err := b.link(1).Send(amqp.Transfer{}); err == nil {
		t.Error("the server sent on a link on which it receives")
	}
	if _, err := b.link(2).Send(amqp.Transfer{Tag: make([]byte, 33)}); err == nil {
		t.Error("a tag of 33 bytes was taken")
	}
}

func TestClientSendsTooMuch(t *testing.T) {
	b := newBroker(t)
	b.reply.MaxMessageSize = 100_000
	addr, _ := b.serve(amqp.Config{})
	s := dial(t, addr, nil)
	out := sender(t, s, "q")
	if err := out.Send(t.Context(), client.NewMessage(make([]byte, 99_000)), nil); err != nil {
		t.Fatal(err)
	}
	var refused *client.Error
	if err := out.Send(t.Context(), client.NewMessage(make([]byte, 100_000)), nil); !errors.As(err, &refused) ||
		refused.Condition != client.ErrCondMessageSizeExceeded {
		t.Errorf("send: %v", err)
	}
}

// Channels and handles are used again, and a lost connection takes its links with it.
func TestClientComesAgain(t *testing.T) {
	b := newBroker(t)
	addr, ended := b.serve(amqp.Config{})
	c, err := client.Dial(t.Context(), addr, nil) // without SASL
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 20 {
		s, err := c.NewSession(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			l := sender(t, s, "q")
			if err := l.Send(t.Context(), client.NewMessage(nil), nil); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		sender(t, s, "q")
		receiver(t, s, "q", 0)
		if err := s.Close(t.Context()); err != nil { // with links that are still attached
			t.Fatal(err)
		}
	}
	s, err := c.NewSession(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	receiver(t, s, "q", 1)
	b.mu.Lock()
	diff(t, "ends of links", b.closed, slices.Repeat([]error{nil, nil, nil, amqp.ErrClosed, amqp.ErrClosed}, 20), sameError)
	last := b.links[len(b.links)-1]
	b.mu.Unlock()
	last.Conn().Drop()
	if err := ended(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a dropped connection ended with %v", err)
	}
	<-last.Done()
	<-c.Done()
	last.Conn().Close(nil)
	last.Detach(nil)
	if last.Credit() != 0 {
		t.Error("a link that has gone has credit")
	}
}

var sameError = cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) || errors.Is(b, a) })

func TestClientConnectionEnds(t *testing.T) {
	b := newBroker(t)
	addr, ended := b.serve(amqp.Config{})
	s := dial(t, addr, nil)
	sender(t, s, "q")
	b.link(0).Conn().Close(&amqp.Error{Condition: "amqp:internal-error", Description: "on demand"})
	var own *amqp.Error
	if err := ended(); !errors.As(err, &own) || own.Description != "on demand" {
		t.Errorf("the connection ended with %v", err)
	}
	_, err := s.NewSender(t.Context(), "q", nil)
	var remote *client.ConnError
	if !errors.As(err, &remote) || remote.RemoteErr == nil || remote.RemoteErr.Description != "on demand" {
		t.Errorf("the client learnt %v", err)
	}

	c, err := client.Dial(t.Context(), addr, &client.ConnOptions{SASLType: client.SASLTypePlain("who", "secret")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := ended(); err != nil {
		t.Errorf("the connection ended with %v", err)
	}
	if _, err := client.Dial(t.Context(), addr, &client.ConnOptions{SASLType: client.SASLTypeXOAUTH2("a", "b", 512)}); err == nil {
		t.Error("a mechanism that is not offered was taken")
	}
	if err := ended(); err == nil {
		t.Error("no error")
	}
}

func TestServeStopsAndRefuses(t *testing.T) {
	b := newBroker(t)
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan string, 1)
	start := func(cfg amqp.Config) (net.Conn, chan error) {
		cfg.Attach = b.onAttach
		ours, theirs := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- amqp.Serve(ctx, theirs, cfg) }()
		return ours, ended
	}
	nc, ended := start(amqp.Config{Open: func(c *amqp.Conn) *amqp.Error {
		opened <- c.ContainerID()
		return &amqp.Error{Condition: amqp.ResourceLimitExceeded, Description: "too many connections"}
	}})
	c, err := client.NewConn(t.Context(), nc, &client.ConnOptions{ContainerID: "me", HostName: "h"})
	if err != nil {
		t.Fatal(err)
	}
	if got := <-opened; got != "me" {
		t.Errorf("opened by %q", got)
	}
	var own *amqp.Error
	if err := <-ended; !errors.As(err, &own) || own.Condition != amqp.ResourceLimitExceeded {
		t.Errorf("the refused connection ended with %v", err)
	}
	<-c.Done()

	nc, ended = start(amqp.Config{Open: func(c *amqp.Conn) *amqp.Error {
		opened <- c.ContainerID()
		return nil
	}})
	c, err = client.NewConn(t.Context(), nc, &client.ConnOptions{HostName: "h"})
	if err != nil {
		t.Fatal(err)
	}
	<-opened
	silent, endedSilently := start(amqp.Config{})
	cancel()
	if err := <-ended; !errors.As(err, &own) || own.Condition != amqp.ConnectionForced {
		t.Errorf("the connection ended with %v", err)
	}
	<-c.Done()
	if err := <-endedSilently; !errors.Is(err, context.Canceled) {
		t.Errorf("the connection that never opened ended with %v", err)
	}
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
