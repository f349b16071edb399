package servicebustest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// What the official client never says is said here by a plain AMQP client.

func dial(t *testing.T, bus *servicebustest.Server) *amqp.Session {
	t.Helper()
	conn, err := amqp.Dial(bounded(t), "amqp://"+bus.Addr(), &amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous()})
	succeed(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	session, err := conn.NewSession(bounded(t), nil)
	succeed(t, err)
	return session
}

// A requester asks a node and hears the answers.
type requester struct {
	sender   *amqp.Sender
	receiver *amqp.Receiver
}

func newRequester(t *testing.T, session *amqp.Session, node string) requester {
	t.Helper()
	sender, err := session.NewSender(bounded(t), node, nil)
	succeed(t, err)
	receiver, err := session.NewReceiver(bounded(t), node, &amqp.ReceiverOptions{TargetAddress: "reply", Credit: 10})
	succeed(t, err)
	return requester{sender, receiver}
}

func (r requester) ask(t *testing.T, operation string, body any) (code int32, answer map[string]any) {
	t.Helper()
	succeed(t, r.sender.Send(bounded(t), &amqp.Message{
		Properties:            &amqp.MessageProperties{MessageID: operation, ReplyTo: ptr("reply")},
		ApplicationProperties: map[string]any{"operation": operation},
		Value:                 body,
	}, nil))
	message, err := r.receiver.Receive(bounded(t), nil)
	succeed(t, err)
	expect(t, "correlation id", message.Properties.CorrelationID, any(operation))
	answer, _ = message.Value.(map[string]any)
	for _, name := range []string{"statusCode", "status-code"} {
		if code, ok := message.ApplicationProperties[name].(int32); ok {
			return code, answer
		}
	}
	t.Fatalf("an answer without a status: %v", message.ApplicationProperties)
	return 0, nil
}

func condition(err error) string {
	var refused *amqp.Error
	if errors.As(err, &refused) {
		return string(refused.Condition)
	}
	return fmt.Sprint(err)
}

func TestRequestsThatFail(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateQueue("orders", servicebustest.Queue{}))
	succeed(t, bus.CreateQueue("sessions", servicebustest.Queue{RequiresSession: true}))
	succeed(t, bus.CreateTopic("events", servicebustest.Topic{}))
	succeed(t, bus.CreateSubscription("events", "s", servicebustest.Subscription{}))
	const sub = "events/Subscriptions/s/$management"
	tokens := map[string]any{"lock-tokens": []amqp.UUID{{1}}}
	with := func(key string, value any) map[string]any {
		return map[string]any{"lock-tokens": []amqp.UUID{{1}}, "sequence-numbers": []int64{9}, key: value}
	}
	for _, c := range []struct {
		node, operation string
		body            any
		code            int32
	}{
		{"$cbs", "put-token", "token", 202},
		{"$cbs", "nonsense", "token", 501},
		{"orders/$management", "com.microsoft:nonsense", nil, 501},
		{"orders/$management", "com.microsoft:renew-lock", nil, 400},
		{"orders/$management", "com.microsoft:renew-lock", tokens, 410},
		{"orders/$management", "com.microsoft:update-disposition", nil, 400},
		{"orders/$management", "com.microsoft:update-disposition", with("disposition-status", "lost"), 400},
		{"orders/$management", "com.microsoft:update-disposition", with("disposition-status", "completed"), 410},
		{"orders/$management", "com.microsoft:receive-by-sequence-number", nil, 400},
		{"orders/$management", "com.microsoft:receive-by-sequence-number", with("receiver-settle-mode", uint32(1)), 404},
		{"orders/$management", "com.microsoft:receive-by-sequence-number", map[string]any{"sequence-numbers": []int64{}}, 204},
		{"orders/$management", "com.microsoft:cancel-scheduled-message", nil, 400},
		{"orders/$management", "com.microsoft:cancel-scheduled-message", with("", ""), 404},
		{"orders/$management", "com.microsoft:schedule-message", map[string]any{"messages": []any{map[string]any{"message": []byte("?")}}}, 400},
		{"sessions/$management", "com.microsoft:schedule-message", map[string]any{"messages": []any{map[string]any{"message": []byte{}}}}, 400},
		{"sessions/$management", "com.microsoft:receive-by-sequence-number", with("", ""), 400},
		{"sessions/$management", "com.microsoft:receive-by-sequence-number", with("session-id", "a"), 410},
		{"sessions/$management", "com.microsoft:renew-session-lock", map[string]any{"session-id": "a"}, 410},
		{"sessions/$management", "com.microsoft:get-session-state", map[string]any{"session-id": "a"}, 410},
		{"sessions/$management", "com.microsoft:set-session-state", map[string]any{"session-id": "a"}, 410},
		{"orders/$management", "com.microsoft:get-message-sessions", nil, 400},
		{"events/$management", "com.microsoft:renew-lock", tokens, 400},
		{"events/$management", "com.microsoft:renew-session-lock", nil, 400},
		{"events/$management", "com.microsoft:get-session-state", nil, 400},
		{"events/$management", "com.microsoft:set-session-state", nil, 400},
		{"events/$management", "com.microsoft:get-message-sessions", nil, 400},
		{"events/$management", "com.microsoft:receive-by-sequence-number", with("", ""), 400},
		{sub, "com.microsoft:schedule-message", map[string]any{"messages": []any{}}, 400},
		{sub, "com.microsoft:cancel-scheduled-message", with("", ""), 400},
		{"orders/$management", "com.microsoft:enumerate-rules", nil, 400},
		{"orders/$management", "com.microsoft:remove-rule", nil, 400},
		{sub, "com.microsoft:remove-rule", map[string]any{"rule-name": "none"}, 404},
		{sub, "com.microsoft:enumerate-rules", map[string]any{"top": int32(0)}, 204},
		{sub, "com.microsoft:add-rule", nil, 501},
		{sub, "com.microsoft:add-rule", map[string]any{"rule-name": "a", "rule-description": map[string]any{
			"sql-filter": map[string]any{"expression": "1=1"}, "sql-rule-action": map[string]any{"expression": "SET a = 1"},
		}}, 501},
		{sub, "com.microsoft:add-rule", map[string]any{"rule-name": "not/good", "rule-description": map[string]any{
			"sql-filter": map[string]any{"expression": "1=1"},
		}}, 400},
		{sub, "com.microsoft:add-rule", map[string]any{"rule-name": servicebustest.DefaultRule, "rule-description": map[string]any{
			"sql-filter": map[string]any{"expression": "1=1"},
		}}, 409},
	} {
		code, _ := newRequester(t, dial(t, bus), c.node).ask(t, c.operation, c.body)
		expect(t, fmt.Sprintf("%s at %s with %v", c.operation, c.node, c.body), code, c.code)
	}
}

func TestRulesOverTheWire(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateTopic("events", servicebustest.Topic{}))
	succeed(t, bus.CreateSubscription("events", "s", servicebustest.Subscription{Rules: []servicebustest.Rule{}}))
	manage := newRequester(t, dial(t, bus), "events/Subscriptions/s/$management")
	for name, filter := range map[string]map[string]any{
		"yes":  {"sql-filter": map[string]any{"expression": "1=1"}},
		"no":   {"sql-filter": map[string]any{"expression": "1=0"}},
		"some": {"correlation-filter": map[string]any{"label": "shipped", "properties": map[string]any{"region": "eu"}}},
	} {
		code, _ := manage.ask(t, "com.microsoft:add-rule", map[string]any{"rule-name": name, "rule-description": filter})
		expect(t, "adding "+name, code, int32(200))
	}
	code, answer := manage.ask(t, "com.microsoft:enumerate-rules", map[string]any{"top": int32(10), "skip": int32(1)})
	expect(t, "enumerating", code, int32(200))
	rules, _ := answer["rules"].([]any)
	expect(t, "rules after the first", len(rules), 2)
	for _, name := range []string{"yes", "no", "some"} {
		code, _ = manage.ask(t, "com.microsoft:remove-rule", map[string]any{"rule-name": name})
		expect(t, "removing "+name, code, int32(200))
	}
}

func TestRequestsWithoutAnAnswer(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateQueue("orders", servicebustest.Queue{}))
	sender, err := dial(t, bus).NewSender(bounded(t), "orders/$management", nil)
	succeed(t, err)
	err = sender.Send(bounded(t), &amqp.Message{Value: "?"}, nil)
	expect(t, "a request that says no address", condition(err), servicebustest.InvalidField)
}

func TestLinksThatAreRefused(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateQueue("orders", servicebustest.Queue{}))
	succeed(t, bus.CreateQueue("sessions", servicebustest.Queue{RequiresSession: true}))
	succeed(t, bus.CreateTopic("events", servicebustest.Topic{}))
	succeed(t, bus.CreateSubscription("events", "s", servicebustest.Subscription{}))
	session := dial(t, bus)
	for path, want := range map[string]string{
		"none":                      servicebustest.NotFound,
		"none/$management":          servicebustest.NotFound,
		"events/Subscriptions/s":    servicebustest.NotAllowed,
		"orders/$DeadLetterQueue":   servicebustest.NotAllowed,
		"orders/Subscriptions/s":    servicebustest.NotFound,
		"events/Subscriptions/none": servicebustest.NotFound,
		"events/$DeadLetterQueue":   servicebustest.NotFound,
		"":                          servicebustest.InvalidField,
	} {
		_, err := session.NewSender(bounded(t), path, nil)
		expect(t, "sending to "+path, condition(err), want)
	}
	named := func(id any) *amqp.ReceiverOptions {
		return &amqp.ReceiverOptions{Filters: []amqp.LinkFilter{amqp.NewLinkFilter("com.microsoft:session-filter", 0x137000000C, id)}}
	}
	for _, c := range []struct {
		path    string
		options *amqp.ReceiverOptions
		want    string
	}{
		{"none", nil, servicebustest.NotFound},
		{"none", named("a"), servicebustest.NotFound},
		{"none/$management", nil, servicebustest.NotFound},
		{"events", nil, servicebustest.NotAllowed},
		{"sessions", nil, servicebustest.NotAllowed},
		{"orders", named("a"), servicebustest.NotAllowed},
		{"sessions", named(strings.Repeat("a", 129)), servicebustest.NotAllowed},
		{"sessions/$DeadLetterQueue", named("a"), servicebustest.NotAllowed},
	} {
		_, err := session.NewReceiver(bounded(t), c.path, c.options)
		expect(t, "receiving from "+c.path, condition(err), c.want)
	}

	patient := named(nil)
	patient.Properties = map[string]any{"com.microsoft:timeout": uint32(20)}
	_, err := session.NewReceiver(bounded(t), "sessions", patient)
	expect(t, "waiting for a session", condition(err), servicebustest.Timeout)
	succeed(t, bus.Await(bounded(t), "sessions", func(c servicebustest.Counts) bool { return c.Receivers == 0 }))
}

func TestMessagesThatAreRefused(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateQueue("orders", servicebustest.Queue{MaxBytes: 2000}))
	sender, err := dial(t, bus).NewSender(bounded(t), "orders", nil)
	succeed(t, err)
	long := strings.Repeat("x", 129)
	for name, c := range map[string]struct {
		message *amqp.Message
		want    string
	}{
		"a long message id":    {&amqp.Message{Properties: &amqp.MessageProperties{MessageID: long}}, servicebustest.NotAllowed},
		"a long session id":    {&amqp.Message{Properties: &amqp.MessageProperties{GroupID: &long}}, servicebustest.NotAllowed},
		"a long partition key": {&amqp.Message{Annotations: amqp.Annotations{"x-opt-partition-key": long}}, servicebustest.NotAllowed},
		"two partition keys": {&amqp.Message{
			Properties:  &amqp.MessageProperties{GroupID: ptr("a")},
			Annotations: amqp.Annotations{"x-opt-partition-key": "b"},
		}, servicebustest.NotAllowed},
		"many properties": {&amqp.Message{
			ApplicationProperties: map[string]any{"p": strings.Repeat("x", 64<<10)},
		}, servicebustest.NotAllowed},
		"more than the queue holds": {amqp.NewMessage(make([]byte, 2000)), servicebustest.ResourceLimitExceeded},
		"a batch of nothing":        {&amqp.Message{Format: 0x80013700, Value: 1}, servicebustest.InvalidField},
		"a batch of nonsense":       {&amqp.Message{Format: 0x80013700, Data: [][]byte{[]byte("?")}}, servicebustest.InvalidField},
	} {
		if len(c.message.Data) == 0 && c.message.Value == nil {
			c.message.Data = [][]byte{[]byte("x")}
		}
		expect(t, name, condition(sender.Send(bounded(t), c.message, nil)), c.want)
	}
	expect(t, "messages", counts(t, bus, "orders").Active, 0)

	succeed(t, bus.Delete("orders"))
	expect(t, "a queue that is gone", condition(sender.Send(bounded(t), amqp.NewMessage(nil), nil)), servicebustest.NotFound)
}

func TestMessageIDsThatAreNoStrings(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateQueue("orders", servicebustest.Queue{}))
	sender, err := dial(t, bus).NewSender(bounded(t), "orders", nil)
	succeed(t, err)
	for id, want := range map[any]string{
		uint64(7):      "7",
		amqp.UUID{0xa}: "0a000000-0000-0000-0000-000000000000",
		"text":         "text",
	} {
		succeed(t, sender.Send(bounded(t), &amqp.Message{Properties: &amqp.MessageProperties{MessageID: id}, Value: "v"}, nil))
		messages, err := bus.Messages("orders")
		succeed(t, err)
		expect(t, "message id", messages[len(messages)-1].MessageID, want)
	}
	succeed(t, sender.Send(bounded(t), &amqp.Message{Properties: &amqp.MessageProperties{MessageID: []byte{0xab}}, Value: "v"}, nil))
	messages, err := bus.Messages("orders")
	succeed(t, err)
	expect(t, "message id", messages[3].MessageID, "ab")
}

func TestSettlementByAPlainClient(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateQueue("orders", servicebustest.Queue{}))
	session := dial(t, bus)
	sender, err := session.NewSender(bounded(t), "orders", nil)
	succeed(t, err)
	for _, id := range []string{"rejected", "accepted", "released"} {
		succeed(t, sender.Send(bounded(t), &amqp.Message{Properties: &amqp.MessageProperties{MessageID: id}, Value: id}, nil))
	}
	receiver, err := session.NewReceiver(bounded(t), "orders", &amqp.ReceiverOptions{Credit: 3}) // settles first, and hears no answer
	succeed(t, err)
	for i, settle := range []func(*amqp.Message) error{
		func(m *amqp.Message) error {
			return receiver.RejectMessage(bounded(t), m, &amqp.Error{Condition: "mine", Description: "bad"})
		},
		func(m *amqp.Message) error { return receiver.AcceptMessage(bounded(t), m) },
		func(m *amqp.Message) error { return receiver.ReleaseMessage(bounded(t), m) },
	} {
		m, err := receiver.Receive(bounded(t), nil)
		succeed(t, err)
		if err := settle(m); err != nil {
			t.Errorf("settling message %d: %v", i, err)
		}
	}
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool {
		return c.DeadLettered == 1 && c.Active == 1
	}))
	letters, err := bus.Messages("orders/$deadletterqueue")
	succeed(t, err)
	expect(t, "reason", letters[0].ApplicationProperties["DeadLetterReason"], any("mine"))
}

// TestLockTokens covers the three forms of a lock token: the tag has the bytes of a .NET GUID, the annotations and the
// answers to requests those of a UUID.
func TestLockTokens(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateQueue("orders", servicebustest.Queue{}))
	session := dial(t, bus)
	sender, err := session.NewSender(bounded(t), "orders", nil)
	succeed(t, err)
	succeed(t, sender.Send(bounded(t), &amqp.Message{Value: "v"}, nil))
	receiver, err := session.NewReceiver(bounded(t), "orders", &amqp.ReceiverOptions{SettlementMode: amqp.ReceiverSettleModeSecond.Ptr()})
	succeed(t, err)
	m, err := receiver.Receive(bounded(t), nil)
	succeed(t, err)
	token, _ := m.DeliveryAnnotations["x-opt-lock-token"].(amqp.UUID)
	g := m.DeliveryTag
	expect(t, "token", token, amqp.UUID{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]})

	manage := newRequester(t, session, "orders/$management")
	_, answer := manage.ask(t, "com.microsoft:renew-lock", map[string]any{"lock-tokens": []amqp.UUID{token}})
	if times, ok := answer["expirations"].([]time.Time); !ok || len(times) != 1 {
		t.Errorf("renewed until %v", answer["expirations"])
	}
	succeed(t, receiver.ModifyMessage(bounded(t), m, &amqp.ModifyMessageOptions{UndeliverableHere: true}))
	number, _ := m.Annotations["x-opt-sequence-number"].(int64)
	_, answer = manage.ask(t, "com.microsoft:receive-by-sequence-number", map[string]any{
		"sequence-numbers": []int64{number}, "receiver-settle-mode": uint32(1),
	})
	list, _ := answer["messages"].([]any)
	entry, _ := list[0].(map[string]any)
	again, _ := entry["lock-token"].(amqp.UUID)
	var inside amqp.Message
	encoded, _ := entry["message"].([]byte)
	succeed(t, inside.UnmarshalBinary(encoded))
	expect(t, "token inside the message", inside.DeliveryAnnotations["x-opt-lock-token"], any(again))
	code, _ := manage.ask(t, "com.microsoft:update-disposition", map[string]any{
		"lock-tokens": []amqp.UUID{again}, "disposition-status": "completed",
	})
	expect(t, "settling", code, int32(200))
	expect(t, "left", counts(t, bus, "orders").Deferred, 0)
}

func TestDeletedEntityEndsItsReceivers(t *testing.T) {
	bus, client := newQueue(t, servicebustest.Queue{RequiresSession: true})
	sendTo(t, newSender(t, client), "a:1")
	receive(t, accept(t, client, "a"), 1)
	_, err := bus.LoseLocks("orders")
	succeed(t, err)
	waiting := make(chan error)
	go func() {
		ctx := bounded(t)
		a, err := client.AcceptSessionForQueue(ctx, "orders", "b", nil)
		if err == nil {
			_, err = a.ReceiveMessages(ctx, 1, nil)
		}
		waiting <- err
	}()
	succeed(t, bus.Await(bounded(t), "orders", func(c servicebustest.Counts) bool { return c.LockedSessions == 1 }))
	succeed(t, bus.Delete("orders"))
	if err := <-waiting; err == nil || !strings.Contains(err.Error(), servicebustest.NotFound) {
		t.Errorf("receiving from a queue that is deleted: %v", err)
	}
	if err := bus.Await(t.Context(), "orders", func(servicebustest.Counts) bool { return true }); err == nil {
		t.Error("a deleted queue has counts")
	}
}

func TestAdministrationRefuses(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateQueue("q", servicebustest.Queue{}))
	succeed(t, bus.CreateTopic("t", servicebustest.Topic{}))
	succeed(t, bus.CreateSubscription("t", "s", servicebustest.Subscription{}))
	errOf := func(_ any, err error) error { return err }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"queue twice":        {bus.CreateQueue("Q", servicebustest.Queue{}), servicebustest.EntityAlreadyExists},
		"subscription twice": {bus.CreateSubscription("t", "S", servicebustest.Subscription{}), servicebustest.EntityAlreadyExists},
		"no name":            {bus.CreateQueue("", servicebustest.Queue{}), servicebustest.InvalidField},
		"long name":          {bus.CreateTopic(strings.Repeat("n", 261), servicebustest.Topic{}), servicebustest.InvalidField},
		"subscription name":  {bus.CreateSubscription("t", strings.Repeat("n", 51), servicebustest.Subscription{}), servicebustest.InvalidField},
		"no topic":           {bus.CreateSubscription("q", "s", servicebustest.Subscription{}), servicebustest.NotFound},
		"long lock":          {bus.CreateQueue("x", servicebustest.Queue{LockDuration: time.Hour}), servicebustest.InvalidField},
		"delivery count":     {bus.CreateQueue("x", servicebustest.Queue{MaxDeliveryCount: 2001}), servicebustest.InvalidField},
		"window":             {bus.CreateTopic("x", servicebustest.Topic{DuplicateWindow: time.Second}), servicebustest.InvalidField},
		"negative":           {bus.CreateSubscription("t", "x", servicebustest.Subscription{DefaultTimeToLive: -1}), servicebustest.InvalidField},
		"rule without filter": {bus.CreateSubscription("t", "x", servicebustest.Subscription{
			Rules: []servicebustest.Rule{{Name: "r"}},
		}), servicebustest.InvalidField},
		"rule of a queue":     {bus.AddRule("q", servicebustest.Rule{Name: "r", Filter: servicebustest.TrueFilter{}}), servicebustest.NotAllowed},
		"rule of nothing":     {bus.AddRule("x", servicebustest.Rule{Name: "r", Filter: servicebustest.TrueFilter{}}), servicebustest.NotFound},
		"delete nothing":      {bus.Delete("x"), servicebustest.NotFound},
		"delete dead letters": {bus.Delete(servicebustest.DeadLetterPath("q")), servicebustest.NotAllowed},
		"counts of nothing":   {errOf(bus.Counts("x")), servicebustest.NotFound},
		"messages of nothing": {errOf(bus.Messages("x")), servicebustest.NotFound},
		"locks of nothing":    {errOf(bus.LoseLocks("x")), servicebustest.NotFound},
		"faults of nothing":   {bus.SetFaults("x", servicebustest.Faults{}), servicebustest.NotFound},
	} {
		var refused *servicebustest.Error
		if !errors.As(c.err, &refused) || refused.Condition != c.want || !strings.HasPrefix(c.err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, c.err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := bus.Await(ctx, "q", func(servicebustest.Counts) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("awaiting in vain: %v", err)
	}
}
