package servicebustest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"go.uber.org/goleak"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

func TestDroppedConnectionsComeBack(t *testing.T) {
	clock, bus, client := newTimed(t, servicebustest.Queue{})
	sender, receiver := newSender(t, client), newReceiver(t, client, nil)
	send(t, sender, "1")
	receive(t, receiver, 1)
	expect(t, "connections", bus.DropConnections(), 1)
	send(t, sender, "2")
	expect(t, "messages", bodies(receive(t, receiver, 1)), "[2]")
	expect(t, "locks, which outlive the connection", counts(t, bus, "orders").Locked, 2)
	bus.DropConnections()
	clock.Advance(time.Minute)
	messages := receive(t, receiver, 2)
	expect(t, "messages", bodies(messages), "[1 2]")
	expect(t, "delivery count", messages[0].DeliveryCount, uint32(2))
}

func TestDetachedLinksComeBack(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{})
	sender, receiver := newSender(t, client), newReceiver(t, client, nil)
	for i := range 3 {
		send(t, sender, fmt.Sprint(i))
		succeed(t, receiver.CompleteMessage(bounded(t), receive(t, receiver, 1)[0], nil))
		if n := bus.DetachLinks("orders", &servicebustest.Error{Condition: servicebustest.DetachForced, Description: "for the test"}); n != 2 {
			t.Errorf("detached %d links", n)
		}
	}
}

func TestRestartKeepsData(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{})
	sender, receiver := newSender(t, client), newReceiver(t, client, nil)
	send(t, sender, "1", "2")
	receive(t, receiver, 1)
	bus.Stop()
	expect(t, "locked", counts(t, bus, "orders").Locked, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := sender.SendMessage(ctx, &azservicebus.Message{}, nil); err == nil {
		t.Error("a bus that is stopped took a message")
	}
	bus.Resume()
	messages := receive(t, receiver, 2)
	expect(t, "messages", bodies(messages), "[1 2]")
	expect(t, "delivery count", messages[0].DeliveryCount, uint32(1))
	bus.Restart(t.Context(), time.Millisecond)
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	bus.Restart(ctx, time.Hour)
	expect(t, "messages", bodies(receive(t, receiver, 2)), "[1 2]")
}

func TestRestartFreesSessions(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	sendTo(t, newSender(t, client), "a:1")
	receive(t, accept(t, client, "a"), 1)
	bus.Restart(t.Context(), 0)
	message := receive(t, accept(t, connect(t, bus), "a"), 1)[0]
	expect(t, "delivery count", message.DeliveryCount, uint32(1))
}

func TestLostLockSeemsToBeRenewed(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{})
	send(t, newSender(t, client), "1")
	receiver := newReceiver(t, client, nil)
	message := receive(t, receiver, 1)[0]
	n, err := bus.LoseLocks("orders")
	succeed(t, err)
	expect(t, "lost locks", n, 1)
	succeed(t, receiver.RenewMessageLock(bounded(t), message, nil))
	again := receive(t, newReceiver(t, client, nil), 1)[0]
	expect(t, "delivery count", again.DeliveryCount, uint32(2))
	succeed(t, receiver.RenewMessageLock(bounded(t), message, nil))
	if err := receiver.CompleteMessage(bounded(t), message, nil); !lockLost(err) {
		t.Errorf("settling with a lost lock: %v", err)
	}
	if err := receiver.RenewMessageLock(bounded(t), message, nil); !lockLost(err) {
		t.Errorf("renewing after that: %v", err)
	}
	succeed(t, receiver.CompleteMessage(bounded(t), again, nil))
}

func TestLostSessionSeemsToBeRenewed(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	sendTo(t, newSender(t, client), "a:1")
	a := accept(t, client, "a")
	message := receive(t, a, 1)[0]
	_, err := bus.LoseLocks("orders")
	succeed(t, err)
	succeed(t, a.RenewSessionLock(bounded(t), nil))
	b := accept(t, connect(t, bus), "a")
	again := receive(t, b, 1)[0]
	expect(t, "delivery count", again.DeliveryCount, uint32(2))
	succeed(t, a.RenewSessionLock(bounded(t), nil))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // the client would try to get the session back
	defer cancel()
	if err := a.CompleteMessage(ctx, message, nil); err == nil {
		t.Error("settled in a session that was lost")
	}
	succeed(t, b.CompleteMessage(bounded(t), again, nil))
}

func TestIdleSessionIsLostAtOnce(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	accept(t, client, "a")
	_, err := bus.LoseLocks("orders")
	succeed(t, err)
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool { return c.Receivers == 0 }))
	accept(t, client, "a")
}

func TestBusy(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateQueue("orders", servicebustest.Queue{}))
	client, err := azservicebus.NewClientFromConnectionString(bus.ConnectionString(), &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: -1},
	})
	succeed(t, err)
	sender, receiver := newSender(t, client), newReceiver(t, client, nil)
	send(t, sender, "1")
	message := receive(t, receiver, 1)[0]
	succeed(t, bus.SetFaults("orders", servicebustest.Faults{Busy: 1, Times: 2}))
	err = sender.SendMessage(bounded(t), &azservicebus.Message{}, nil)
	if err == nil || !strings.Contains(err.Error(), servicebustest.ServerBusy) {
		t.Errorf("sending to a busy bus: %v", err)
	}
	if err := receiver.RenewMessageLock(bounded(t), message, nil); err == nil {
		t.Error("a busy bus renewed a lock")
	}
	send(t, sender, "2")
	succeed(t, client.Close(bounded(t)))
}

func TestBusySenderTriesAgain(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{})
	sender := newSender(t, client)
	send(t, sender, "1")
	succeed(t, bus.SetFaults("orders", servicebustest.Faults{Busy: 1, Times: 3}))
	send(t, sender, "2")
	expect(t, "messages", counts(t, bus, "orders").Active, 2)
}

func TestDuplicatesOnDemand(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{DuplicateWindow: time.Minute})
	succeed(t, bus.SetFaults("orders", servicebustest.Faults{Duplicate: 1, Times: 2}))
	send(t, newSender(t, client), "1", "2", "3")
	receiver := newReceiver(t, client, nil)
	expect(t, "messages", bodies(receive(t, receiver, 5)), "[1 1 2 2 3]")
}

func TestFaultsAreTheSameForASeed(t *testing.T) {
	var runs []string
	for range 2 {
		bus, client := newQueue(t, servicebustest.Queue{})
		succeed(t, bus.SetFaults("orders", servicebustest.Faults{Duplicate: 0.5, Seed: 7}))
		sender := newSender(t, client)
		for i := range 20 {
			send(t, sender, fmt.Sprint(i))
		}
		n := counts(t, bus, "orders").Active
		runs = append(runs, bodies(receive(t, newReceiver(t, client, nil), n)))
	}
	expect(t, "second run", runs[1], runs[0])
	if len(strings.Fields(runs[0])) == 20 {
		t.Error("no duplicates")
	}
}

func TestDelayReorders(t *testing.T) {
	for _, sessions := range []bool{false, true} {
		t.Run(fmt.Sprintf("sessions=%v", sessions), func(t *testing.T) {
			clock, bus, client := newTimed(t, servicebustest.Queue{RequiresSession: sessions})
			succeed(t, bus.SetFaults("orders", servicebustest.Faults{Delayed: 1, Delay: time.Minute, Times: 1}))
			sendTo(t, newSender(t, client), "a:1", "a:2", "b:3")
			var got string
			if sessions {
				got = bodies(receive(t, acceptNext(t, client), 1))
			} else {
				got = bodies(receive(t, newReceiver(t, client, nil), 2))
			}
			clock.Advance(time.Minute)
			if sessions {
				expect(t, "before the delay", got, "[3]")
				expect(t, "after the delay", bodies(receive(t, acceptNext(t, client), 2)), "[1 2]")
			} else {
				expect(t, "before the delay", got, "[2 3]")
				expect(t, "after the delay", bodies(receive(t, newReceiver(t, client, nil), 1)), "[1]")
			}
		})
	}
}

// TestNothingIsLostUnderFaults sends and receives while everything goes wrong at once.
func TestNothingIsLostUnderFaults(t *testing.T) {
	for _, sessions := range []bool{false, true} {
		t.Run(fmt.Sprintf("sessions=%v", sessions), func(t *testing.T) {
			bus, client := newQueue(t, servicebustest.Queue{RequiresSession: sessions, MaxDeliveryCount: 2000, LockDuration: 200 * time.Millisecond})
			succeed(t, bus.SetFaults("orders", servicebustest.Faults{
				Busy: 0.02, Duplicate: 0.1, Delayed: 0.1, Delay: 5 * time.Millisecond, LoseLock: 0.02,
			}))
			const total = 200
			sent := make(chan error)
			go func() {
				sender := newSender(t, client)
				for i := range total {
					m := &azservicebus.Message{SessionID: ptr(fmt.Sprint(i % 4)), Body: []byte(fmt.Sprint(i))}
					for sender.SendMessage(bounded(t), m, nil) != nil { // a caller that insists
						if t.Context().Err() != nil {
							break
						}
					}
				}
				sent <- nil
			}()
			ctx := bounded(t)
			got := make(map[string]bool)
			dropped := false
			for len(got) < total {
				if len(got) > total/2 && !dropped {
					bus.DropConnections()
					dropped = true
				}
				for _, body := range drainSome(t, client, sessions) {
					got[body] = true
				}
				succeed(t, ctx.Err())
			}
			succeed(t, <-sent)
		})
	}
}

// drainSome completes what it can get in a moment, and returns the bodies of what it got: whether a completion that
// failed has happened nobody can tell.
func drainSome(t *testing.T, client *azservicebus.Client, sessions bool) (got []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	type receiver interface {
		takes
		CompleteMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.CompleteMessageOptions) error
		Close(context.Context) error
	}
	var r receiver
	if sessions {
		accepted, err := client.AcceptNextSessionForQueue(ctx, "orders", nil)
		if err != nil {
			return nil
		}
		r = accepted
	} else {
		r = newReceiver(t, client, nil)
	}
	defer func() { _ = r.Close(bounded(t)) }()
	messages, err := r.ReceiveMessages(ctx, 50, nil)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		got = append(got, string(m.Body))
		_ = r.CompleteMessage(ctx, m, nil)
	}
	return got
}

func TestControl(t *testing.T) {
	bus := servicebustest.New(t, &servicebustest.Config{ControlAddr: "127.0.0.1:0"})
	call := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(bounded(t), method, bus.ControlURL()+path, strings.NewReader(body))
		succeed(t, err)
		res, err := http.DefaultClient.Do(req)
		succeed(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		succeed(t, err)
		return res.StatusCode, string(text)
	}
	for _, step := range []struct {
		method, path, body string
		code               int
		answer             string
	}{
		{"PUT", "/queues/orders", `{"requires_session": false, "max_delivery_count": 300}`, 204, ""},
		{"PUT", "/queues/orders", "", 204, ""},
		{"PUT", "/queues/orders", `{"Nonsense": 1}`, 400, "Nonsense"},
		{"PUT", "/queues/-", "", 400, servicebustest.InvalidField},
		{"PUT", "/topics/events", "", 204, ""},
		{"PUT", "/topics/events/subscriptions/eu", `{"requires_session": true}`, 204, ""},
		{"PUT", "/topics/none/subscriptions/eu", "", 404, servicebustest.NotFound},
		{"GET", "/counts/events/Subscriptions/eu", "", 200, `"active":0`},
		{"GET", "/counts/none", "", 404, servicebustest.NotFound},
		{"POST", "/faults/orders", `{"duplicate": 1, "times": 1}`, 204, ""},
		{"POST", "/lose-locks/orders", "", 200, `"lost":0`},
		{"POST", "/drop", "", 204, ""},
		{"POST", "/stop", "", 204, ""},
		{"POST", "/resume", "", 204, ""},
		{"POST", "/restart?down=1ms", "", 204, ""},
		{"POST", "/restart?down=soon", "", 400, "soon"},
		{"POST", "/restart", "", 204, ""},
		{"DELETE", "/entities/events", "", 204, ""},
		{"DELETE", "/entities/events/Subscriptions/eu", "", 404, servicebustest.NotFound},
	} {
		code, answer := call(step.method, step.path, step.body)
		if code != step.code || !strings.Contains(answer, step.answer) {
			t.Errorf("%s %s: got %d %s, want %d %s", step.method, step.path, code, answer, step.code, step.answer)
		}
	}
	send(t, newSender(t, connect(t, bus)), "1")
	expect(t, "messages", counts(t, bus, "orders").Active, 2)
}

func TestStartFailsWhereSomebodyListens(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	succeed(t, err)
	defer listener.Close()
	taken := listener.Addr().String()
	var failed *net.OpError
	if _, err := servicebustest.Start(servicebustest.Config{Addr: taken}); !errors.As(err, &failed) {
		t.Errorf("AMQP: %v", err)
	}
	if _, err := servicebustest.Start(servicebustest.Config{ControlAddr: taken}); !errors.As(err, &failed) {
		t.Errorf("control: %v", err)
	}
}

func TestCloseTwice(t *testing.T) {
	bus, err := servicebustest.Start(servicebustest.Config{})
	succeed(t, err)
	succeed(t, bus.Close())
	succeed(t, bus.Close())
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	bus, err := servicebustest.Start(servicebustest.Config{ControlAddr: "127.0.0.1:0"})
	succeed(t, err)
	succeed(t, bus.CreateQueue("orders", servicebustest.Queue{RequiresSession: true, DefaultTimeToLive: time.Hour}))
	conn, err := amqp.Dial(bounded(t), "amqp://"+bus.Addr(), nil)
	succeed(t, err)
	session, err := conn.NewSession(bounded(t), nil)
	succeed(t, err)
	sender, err := session.NewSender(bounded(t), "orders", nil)
	succeed(t, err)
	succeed(t, sender.Send(bounded(t), &amqp.Message{Properties: &amqp.MessageProperties{GroupID: ptr("a")}, Value: "v"}, nil))
	_, err = session.NewReceiver(bounded(t), "orders", &amqp.ReceiverOptions{
		Filters: []amqp.LinkFilter{amqp.NewLinkFilter("com.microsoft:session-filter", 0x137000000C, "a")},
	})
	succeed(t, err)
	succeed(t, bus.Close())
	<-conn.Done()
	goleak.VerifyNone(t, before)
}
