package amqp_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

func decode(t *testing.T, b []byte) amqp.Message {
	t.Helper()
	m, err := amqp.DecodeMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// everything is a message with each section and field that the client knows.
func everything() *client.Message {
	return &client.Message{
		Header: &client.MessageHeader{Durable: true, Priority: 7, TTL: 90 * time.Second, FirstAcquirer: true, DeliveryCount: 3},
		DeliveryAnnotations: client.Annotations{
			"x-opt-lock-token": client.UUID{1, 2, 3},
		},
		Annotations: client.Annotations{"x-opt-sequence-number": int64(9)},
		Properties: &client.MessageProperties{
			MessageID: "id", UserID: []byte("user"), To: new("to"), Subject: new("subject"), ReplyTo: new("reply"), CorrelationID: uint64(5),
			ContentType: new("text/plain"), ContentEncoding: new("utf-8"), AbsoluteExpiryTime: new(time.UnixMilli(10).UTC()),
			CreationTime: new(time.UnixMilli(11).UTC()), GroupID: new(""), GroupSequence: new(uint32(12)), ReplyToGroupID: new("group"),
		},
		ApplicationProperties: map[string]any{"type": "order"},
		Data:                  [][]byte{[]byte("one"), []byte("two")},
		Footer:                client.Annotations{"checksum": int32(1)},
	}
}

func TestMessageIsRead(t *testing.T) {
	b, err := everything().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	m := decode(t, b)
	h, ok := m.Header()
	diff(t, "header", h, amqp.Header{Durable: true, Priority: new(uint8(7)), TTL: new(90 * time.Second), FirstAcquirer: true, DeliveryCount: 3})
	p, okay := m.Properties()
	diff(t, "properties", p, amqp.Properties{
		MessageID: "id", UserID: []byte("user"), To: new("to"), Subject: new("subject"), ReplyTo: new("reply"), CorrelationID: uint64(5),
		ContentType: new(amqp.Symbol("text/plain")), ContentEncoding: new(amqp.Symbol("utf-8")), AbsoluteExpiryTime: new(time.UnixMilli(10).UTC()),
		CreationTime: new(time.UnixMilli(11).UTC()), GroupID: new(""), GroupSequence: new(uint32(12)), ReplyToGroupID: new("group"),
	})
	if !ok || !okay {
		t.Error("there is no header or no properties")
	}
	diff(t, "delivery annotations", m.DeliveryAnnotations(), amqp.Map{{amqp.Symbol("x-opt-lock-token"), uuid.UUID{1, 2, 3}}})
	diff(t, "annotations", m.Annotations(), amqp.Map{{amqp.Symbol("x-opt-sequence-number"), int64(9)}})
	diff(t, "application properties", m.ApplicationProperties(), amqp.Map{{"type", "order"}})
	diff(t, "data", m.Data(), [][]byte{[]byte("one"), []byte("two")})
	if _, ok := m.Value(); ok {
		t.Error("data are a value")
	}
	diff(t, "the message again", m.Encode(), b)
	if m.Size() != len(b) {
		t.Errorf("a message of %d bytes has size %d", len(b), m.Size())
	}
	without := m.WithoutBody()
	diff(t, "data of the message without body", without.Data(), [][]byte(nil))
	diff(t, "properties of the message without body", without.ApplicationProperties(), m.ApplicationProperties())
	if without.Size() >= m.Size()-len("onetwo") {
		t.Error("the body is still there")
	}
}

// What a broker writes anew is what the client reads, and nothing else of the message changes, even where it is written
// in another form than here.
func TestMessageIsRewritten(t *testing.T) {
	// Long forms, where this package would write short ones.
	properties := "005373" + "d00000000f00000003" + "4040" + "b100000004" + hex.EncodeToString([]byte("to/a"))
	body := "0080" + "0000000000000075" + "b000000003" + hex.EncodeToString([]byte("one")) + "005375a000"
	footer := "005378" + "d10000000400000000"
	original := unhex(t, "005370c0020141"+properties+"005374c10100"+body+footer)
	m := decode(t, original)
	m2 := m // a copy for another receiver
	m2.SetHeader(amqp.Header{DeliveryCount: 2, TTL: new(time.Minute), Priority: new(uint8(1))})
	for _, err := range []error{
		m2.SetDeliveryAnnotations(amqp.Map{{amqp.Symbol("x-opt-lock-token"), uuid.UUID{7}}}),
		m2.SetAnnotations(amqp.Map{{amqp.Symbol("x-opt-locked-until"), time.UnixMilli(5)}, {amqp.Symbol("x-opt-sequence-number"), int64(1)}}),
		m2.SetApplicationProperties(m2.ApplicationProperties().With("DeadLetterReason", "why")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b := m2.Encode()
	if !bytes.HasSuffix(b, unhex(t, body+footer)) || !bytes.Contains(b, unhex(t, properties)) {
		t.Errorf("%x does not contain the properties, body and footer of %x", b, original)
	}
	var got client.Message
	if err := got.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	diff(t, "header", *got.Header, client.MessageHeader{DeliveryCount: 2, TTL: time.Minute, Priority: 1})
	diff(t, "delivery annotations", got.DeliveryAnnotations, client.Annotations{"x-opt-lock-token": client.UUID{7}})
	diff(t, "annotations", got.Annotations, client.Annotations{"x-opt-locked-until": time.UnixMilli(5).UTC(), "x-opt-sequence-number": int64(1)})
	diff(t, "application properties", got.ApplicationProperties, map[string]any{"DeadLetterReason": "why"})
	diff(t, "to", got.Properties.To, new("to/a"))
	diff(t, "data", got.Data, [][]byte{[]byte("one"), {}})
	diff(t, "the original", m.Encode(), original)

	for _, err := range []error{m2.SetAnnotations(nil), m2.SetDeliveryAnnotations(nil), m2.SetApplicationProperties(nil)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	diff(t, "what is left", m2.Encode()[bytes.Index(m2.Encode(), unhex(t, properties)):], unhex(t, properties+body+footer))
	for what, err := range map[string]error{
		"annotations":            m2.SetAnnotations(amqp.Map{{"a", 1}}),
		"delivery annotations":   m2.SetDeliveryAnnotations(amqp.Map{{"a", 1}}),
		"application properties": m2.SetApplicationProperties(amqp.Map{{"a", 1}}),
		"properties":             m2.SetProperties(amqp.Properties{MessageID: 1}),
		"correlation":            m2.SetProperties(amqp.Properties{CorrelationID: int32(1)}),
		"value":                  m2.SetValue(1),
	} {
		if err == nil {
			t.Errorf("%s without AMQP type were taken", what)
		}
	}
}

func TestMessageIsMade(t *testing.T) {
	var m amqp.Message
	if _, ok := m.Header(); ok {
		t.Error("an empty message has a header")
	}
	if _, ok := m.Properties(); ok {
		t.Error("an empty message has properties")
	}
	if err := m.SetApplicationProperties(amqp.Map{{"status-code", int32(200)}}); err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	if err := m.SetProperties(amqp.Properties{CorrelationID: id, UserID: []byte{}, CreationTime: new(time.UnixMilli(3))}); err != nil {
		t.Fatal(err)
	}
	m.SetData([]byte("to be replaced"))
	if err := m.SetValue(amqp.Map{{"expirations", []time.Time{time.UnixMilli(1)}}}); err != nil {
		t.Fatal(err)
	}
	var got client.Message
	if err := got.UnmarshalBinary(m.Encode()); err != nil {
		t.Fatal(err)
	}
	diff(t, "value", got.Value, any(map[string]any{"expirations": []time.Time{time.UnixMilli(1).UTC()}}))
	diff(t, "application properties", got.ApplicationProperties, map[string]any{"status-code": int32(200)})
	diff(t, "properties", *got.Properties, client.MessageProperties{CorrelationID: client.UUID(id), UserID: []byte{}, CreationTime: new(time.UnixMilli(3).UTC())})
	again := decode(t, m.Encode())
	v, ok := again.Value()
	diff(t, "value", v, any(amqp.Map{{"expirations", []time.Time{time.UnixMilli(1).UTC()}}}))
	if !ok || again.Data() != nil {
		t.Error("the body is no value")
	}
	again.SetData(nil)
	diff(t, "data", again.Data(), [][]byte{{}})
}

func TestMalformedMessages(t *testing.T) {
	for name, s := range map[string]string{
		"no section":                  "40",
		"no descriptor":               "00",
		"a bad descriptor":            "0046",
		"a name for a descriptor":     "00a30161c10100",
		"a section before the first":  "00536fc10100",
		"a section after the last":    "005379c10100",
		"no value":                    "005370",
		"a header that is no list":    "00537041",
		"a header of a wrong type":    "005370c0020143", // a number where a boolean should be
		"properties that are no list": "00537341",
		"an id that is a boolean":     "005373c0020141",
		"annotations that are a list": "00537245",
		"delivery annotations":        "00537145",
		"application properties":      "00537445",
		"a footer that is a list":     "00537845",
		"data that are a string":      "005375a10161",
		"data cut off":                "005375a00261",
		"data without value":          "005375",
		"a sequence that is no list":  "00537640",
		"a header twice":              "00537045" + "00537045",
		"a header after properties":   "00537345" + "00537045",
		"a value after data":          "005375a000" + "00537740",
		"two values":                  "00537740" + "00537740",
		"data after a footer":         "005378c10100" + "005375a000",
		"a value with a bad element":  "005377c0020146",
		"rubbish after the last":      "00537740" + "ff",
	} {
		if m, err := amqp.DecodeMessage(unhex(t, s)); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	m := decode(t, unhex(t, "00537645"+"00537645")) // two sequences are one body
	if m.Data() != nil {
		t.Error("sequences are data")
	}
}

func TestBatch(t *testing.T) {
	want := [][]byte{encoded(t, "one"), encoded(t, strings.Repeat("two", 1000)), encoded(t, "three")}
	envelope := client.NewMessage(nil)
	envelope.Data = want
	envelope.Annotations = client.Annotations{"x-opt-partition-key": "of the first message"}
	b, err := envelope.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	got, err := amqp.SplitBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "batch", got, want)
	for _, b := range [][]byte{nil, unhex(t, "00537740"), {0xff}} {
		if got, err := amqp.SplitBatch(b); err == nil {
			t.Errorf("%x is a batch of %x", b, got)
		}
	}
}

// Whatever annotations and properties are set, the client reads them, and they come back.
func TestMessagesComeBack(t *testing.T) {
	same := func(a, b any) bool { return cmp.Equal(a, b, cmpopts.EquateNaNs(), cmpopts.EquateEmpty()) }
	value := anyValue(1)
	text := rapid.Ptr(rapid.String(), true)
	rapid.Check(t, func(t *rapid.T) {
		var m amqp.Message
		h := amqp.Header{Durable: rapid.Bool().Draw(t, "durable"), DeliveryCount: rapid.Uint32().Draw(t, "count")}
		m.SetHeader(h)
		p := amqp.Properties{To: text.Draw(t, "to"), GroupID: text.Draw(t, "group"), GroupSequence: rapid.Ptr(rapid.Uint32(), true).Draw(t, "n")}
		if err := m.SetProperties(p); err != nil {
			t.Fatal(err)
		}
		v := value.Draw(t, "value")
		if err := m.SetApplicationProperties(amqp.Map{{"key", v}}); err != nil {
			t.Fatal(err)
		}
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		m.SetData(body)
		got, err := amqp.DecodeMessage(m.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Encode(), m.Encode()) {
			t.Fatalf("%x came back as %x", m.Encode(), got.Encode())
		}
		if back, _ := got.Properties(); !same(back, p) {
			t.Fatalf("properties %+v came back as %+v", p, back)
		}
		if back, _ := got.Header(); !same(back, h) {
			t.Fatalf("header %+v came back as %+v", h, back)
		}
		if back := got.ApplicationProperties().Get("key"); !same(back, v) {
			t.Fatalf("%v came back as %v", v, back)
		}
	})
}
