package servicebus_test

import (
	"context"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	relaymessage "github.com/orderledger/orderledger/internal/message"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// received takes what only the bus knows out of the metadata.
func received(m *message.Message) map[string]string {
	own := make(map[string]string)
	for key, value := range m.Metadata {
		switch key {
		case servicebus.KeyDeliveryCount, servicebus.KeySequenceNumber, servicebus.KeyEnqueuedTime:
		default:
			own[key] = value
		}
	}
	return own
}

func TestMetadataTravels(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{RequiresSession: true})
	_, messages := f.subscribe(servicebus.SubscriberConfig{Sessions: 1})
	m := message.NewMessage("the uuid", []byte("body"))
	m.Metadata = message.Metadata{
		servicebus.KeySessionID:        "s",
		servicebus.KeySubject:          "subject",
		servicebus.KeyContentType:      "application/json",
		servicebus.KeyCorrelationID:    "correlation",
		servicebus.KeyPartitionKey:     "s",
		servicebus.KeyTo:               "to",
		servicebus.KeyReplyTo:          "reply",
		servicebus.KeyReplyToSessionID: "reply session",
		servicebus.KeyTimeToLive:       "1h0m0s",
		servicebus.KeyDeliveryCount:    "not sent",
		servicebus.KeyNack:             servicebus.NackRelease,
		"region":                       "eu",
	}
	f.succeed(f.publisher.Publish("orders", m))
	got := f.next(messages, "body")
	want := map[string]string{
		servicebus.KeyMessageID:        "the uuid",
		servicebus.KeySessionID:        "s",
		servicebus.KeySubject:          "subject",
		servicebus.KeyContentType:      "application/json",
		servicebus.KeyCorrelationID:    "correlation",
		servicebus.KeyPartitionKey:     "s",
		servicebus.KeyTo:               "to",
		servicebus.KeyReplyTo:          "reply",
		servicebus.KeyReplyToSessionID: "reply session",
		servicebus.KeyTimeToLive:       "1h0m0s",
		"region":                       "eu",
	}
	if diff := cmp.Diff(want, received(got)); diff != "" {
		t.Error(diff)
	}
	if got.UUID != "the uuid" || got.Metadata[servicebus.KeyDeliveryCount] != "1" || got.Metadata[servicebus.KeySequenceNumber] != "1" {
		t.Errorf("got %s with %v", got.UUID, got.Metadata)
	}
	if at, err := time.Parse(time.RFC3339Nano, got.Metadata[servicebus.KeyEnqueuedTime]); err != nil || time.Since(at) > time.Minute {
		t.Errorf("enqueued at %v, %v", at, err)
	}
	got.Ack()
	f.awaitEmpty()
}

func TestAnyMetadataTravels(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	_, messages := f.subscribe(servicebus.SubscriberConfig{})
	rapid.Check(t, func(r *rapid.T) {
		m := message.NewMessage(rapid.StringN(1, 40, 128).Draw(r, "id"), rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(r, "body"))
		m.Metadata = rapid.MapOfN(rapid.StringN(1, 20, 100), rapid.StringN(0, 50, 300), 0, 8).Draw(r, "metadata")
		want := m.Copy()
		want.Metadata[servicebus.KeyMessageID] = m.UUID
		if err := f.publisher.Publish("orders", m); err != nil {
			r.Fatal(err)
		}
		got := f.next(messages, string(m.Payload))
		if diff := cmp.Diff(map[string]string(want.Metadata), received(got)); diff != "" || got.UUID != m.UUID {
			r.Errorf("%q: %s", got.UUID, diff)
		}
		got.Ack()
	})
}

func TestMessageIDStandsForTheUUID(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{DuplicateWindow: time.Minute})
	_, messages := f.subscribe(servicebus.SubscriberConfig{})
	m := message.NewMessage("uuid", []byte("1"))
	m.Metadata.Set(servicebus.KeyMessageID, "id")
	again := message.NewMessage("another uuid", []byte("a duplicate"))
	again.Metadata.Set(servicebus.KeyMessageID, "id")
	nameless := message.NewMessage("", []byte("2"))
	f.succeed(f.publisher.Publish("orders", m, again, nameless))
	if got := f.next(messages, "1"); got.UUID != "id" {
		t.Errorf("got %q", got.UUID)
	} else {
		got.Ack()
	}
	if got := f.next(messages, "2"); got.UUID == "" {
		t.Error("got no id")
	}
}

func TestScheduledTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	_, messages := f.subscribe(servicebus.SubscriberConfig{})
	at := time.Now().Add(200 * time.Millisecond).UTC().Truncate(time.Millisecond)
	m := newMessage("", "later")
	m.Metadata.Set(servicebus.KeyScheduledTime, at.Format(time.RFC3339Nano))
	f.succeed(f.publisher.Publish("orders", m))
	got := f.next(messages, "later")
	if early := time.Until(at); early > 0 {
		t.Errorf("came %v too early", early)
	}
	if got.Metadata[servicebus.KeyScheduledTime] != at.Format(time.RFC3339Nano) {
		t.Errorf("got %v", got.Metadata)
	}
}

func TestMarshalRefusesWhatIsNoTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	for key, value := range map[string]string{
		servicebus.KeyScheduledTime: "tomorrow",
		servicebus.KeyTimeToLive:    "-1s",
	} {
		m := newMessage("", "1")
		m.Metadata.Set(key, value)
		if err := f.publisher.Publish("orders", newMessage("", "before"), m); err == nil {
			t.Errorf("%s %q was published", key, value)
		}
	}
	if counts, _ := f.bus.Counts("orders"); counts.Active != 0 {
		t.Errorf("some was published: %+v", counts)
	}
}

func TestPropertiesOfOtherSenders(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	_, messages := f.subscribe(servicebus.SubscriberConfig{})
	sender, err := f.client().NewSender("orders", nil)
	f.succeed(err)
	f.succeed(sender.SendMessage(t.Context(), &azservicebus.Message{
		Body: []byte("1"),
		ApplicationProperties: map[string]any{
			"string": "s", "bool": true, "int32": int32(-7), "int64": int64(1 << 40), "double": 1.5, "null": nil,
			"bytes": []byte{1, 2}, "time": time.UnixMilli(1_800_000_000_123),
			servicebus.KeyNack: servicebus.NackDeadLetter, servicebus.KeySessionID: "forged", servicebus.KeyDeliveryCount: "99",
		},
	}, nil))
	got := f.next(messages, "1")
	want := map[string]string{
		servicebus.KeyMessageID: got.UUID,
		"string":                "s", "bool": "true", "int32": "-7", "int64": "1099511627776", "double": "1.5", "null": "",
		"bytes": "AQI=", "time": "2027-01-15T08:00:00.123Z",
	}
	if diff := cmp.Diff(want, received(got)); diff != "" {
		t.Error(diff)
	}
	if got.Metadata[servicebus.KeyDeliveryCount] != "1" {
		t.Errorf("delivery count %q", got.Metadata[servicebus.KeyDeliveryCount])
	}
	got.Nack()
	f.next(messages, "1").Ack() // it was not dead-lettered
}

func TestBodiesOfOtherSenders(t *testing.T) {
	t.Parallel()
	f := newFixture(t, servicebustest.Queue{})
	_, messages := f.subscribe(servicebus.SubscriberConfig{})
	sender, err := f.client().NewSender("orders", nil)
	f.succeed(err)
	for _, body := range []azservicebus.AMQPAnnotatedMessageBody{
		{Value: "text"},
		{Value: []byte("bytes")},
		{Data: [][]byte{[]byte("two "), []byte("parts")}},
		{Value: int64(7)},
		{Sequence: [][]any{{int64(1), "a"}}},
		{Data: [][]byte{[]byte("last")}},
	} {
		f.succeed(sender.SendAMQPAnnotatedMessage(t.Context(), &azservicebus.AMQPAnnotatedMessage{Body: body}, nil))
	}
	for _, want := range []string{"text", "bytes", "two parts", "last"} {
		f.next(messages, want).Ack()
	}
	f.awaitEmpty()
	dead, err := f.client().NewReceiverForQueue("orders", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	f.succeed(err)
	for _, want := range []string{"the body is neither bytes nor text but int64", "the body is neither bytes nor text but a list"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		got, err := dead.ReceiveMessages(ctx, 1, nil)
		cancel()
		f.succeed(err)
		if *got[0].DeadLetterReason != "Unreadable" || *got[0].DeadLetterErrorDescription != want {
			t.Errorf("got %s: %s", *got[0].DeadLetterReason, *got[0].DeadLetterErrorDescription)
		}
	}
}

// What the relay says in metadata is understood without translation.
func TestKeysAreTheRelays(t *testing.T) {
	t.Parallel()
	for ours, theirs := range map[string]string{
		servicebus.KeyMessageID:   relaymessage.KeyMessageID,
		servicebus.KeySessionID:   relaymessage.KeySession,
		servicebus.KeySubject:     relaymessage.KeySubject,
		servicebus.KeyContentType: relaymessage.KeyContentType,
	} {
		if ours != theirs {
			t.Errorf("%q is not %q", ours, theirs)
		}
	}
}
