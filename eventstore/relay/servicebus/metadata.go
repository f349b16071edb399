package servicebus

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/ThreeDotsLabs/watermill/message"
)

// Keys of metadata that [Marshal] turns into properties of the bus, and [Unmarshal] turns back. All other keys travel as
// application properties, on which subscriptions can filter.
const (
	KeyMessageID        = "message_id" // if absent: the message's UUID
	KeySessionID        = "session_id" // may be empty, which is a session too
	KeySubject          = "subject"
	KeyContentType      = "content_type"
	KeyCorrelationID    = "correlation_id"
	KeyPartitionKey     = "partition_key"  // the same as the session id, if there is one
	KeyScheduledTime    = "scheduled_time" // when the message is to appear, as RFC 3339 has it
	KeyTimeToLive       = "time_to_live"   // as time.Duration has it
	KeyTo               = "to"
	KeyReplyTo          = "reply_to"
	KeyReplyToSessionID = "reply_to_session_id"
)

// Keys of metadata that a received message has. They are not sent.
const (
	KeyDeliveryCount         = "delivery_count"  // 1 at the first delivery
	KeySequenceNumber        = "sequence_number" // rising in the order in which the bus has stored the messages
	KeyEnqueuedTime          = "enqueued_time"   // when that was, as RFC 3339 has it
	KeyDeadLetterReason      = "dead_letter_reason"
	KeyDeadLetterDescription = "dead_letter_description"

	// KeyNack says what becomes of a message after Nack: NackDeadLetter, with the reason and the description above, or
	// NackRelease. Without it the message is abandoned.
	KeyNack = "nack"
)

// Values of [KeyNack].
const (
	NackDeadLetter = "dead-letter"
	NackRelease    = "release"
)

// notSent are the keys that have a meaning on this side only.
var notSent = map[string]bool{
	KeyDeliveryCount: true, KeySequenceNumber: true, KeyEnqueuedTime: true,
	KeyDeadLetterReason: true, KeyDeadLetterDescription: true, KeyNack: true,
}

// sent are the keys that are properties of the bus, and where they belong.
var sent = map[string]func(*azservicebus.Message) **string{
	KeyMessageID:        func(m *azservicebus.Message) **string { return &m.MessageID },
	KeySessionID:        func(m *azservicebus.Message) **string { return &m.SessionID },
	KeySubject:          func(m *azservicebus.Message) **string { return &m.Subject },
	KeyContentType:      func(m *azservicebus.Message) **string { return &m.ContentType },
	KeyCorrelationID:    func(m *azservicebus.Message) **string { return &m.CorrelationID },
	KeyPartitionKey:     func(m *azservicebus.Message) **string { return &m.PartitionKey },
	KeyTo:               func(m *azservicebus.Message) **string { return &m.To },
	KeyReplyTo:          func(m *azservicebus.Message) **string { return &m.ReplyTo },
	KeyReplyToSessionID: func(m *azservicebus.Message) **string { return &m.ReplyToSessionID },
}

// The application properties in which the bus itself keeps why a message is in a dead-letter queue.
const (
	deadLetterReason      = "DeadLetterReason"
	deadLetterDescription = "DeadLetterErrorDescription"
)

// DeadLetterOnNack makes Nack move a received message to the dead-letter queue. The reason is a word or two by which
// dead messages can be sorted, the description is for those who look into one; both are visible to everybody who may
// read the queue.
func DeadLetterOnNack(m *message.Message, reason, description string) {
	m.Metadata.Set(KeyNack, NackDeadLetter)
	m.Metadata.Set(KeyDeadLetterReason, reason)
	m.Metadata.Set(KeyDeadLetterDescription, description)
}

// ReleaseOnNack makes Nack give a received message back after a pause, and count no delivery if it is of a session.
// Without sessions the bus knows no such thing: the delivery is counted.
func ReleaseOnNack(m *message.Message) { m.Metadata.Set(KeyNack, NackRelease) }

// Marshal makes the message that is sent. It fails if a time or a duration in the metadata is none.
func Marshal(_ string, m *message.Message) (*azservicebus.Message, error) {
	out := &azservicebus.Message{Body: m.Payload}
	if m.UUID != "" {
		out.MessageID = &m.UUID
	}
	for key, value := range m.Metadata {
		switch place, ok := sent[key]; {
		case ok:
			if value != "" || key == KeySessionID {
				*place(out) = &value
			}
		case key == KeyScheduledTime:
			t, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				return nil, fmt.Errorf("message %s: %s is not a time as RFC 3339 has it", m.UUID, key)
			}
			out.ScheduledEnqueueTime = &t
		case key == KeyTimeToLive:
			d, err := time.ParseDuration(value)
			if err != nil || d <= 0 {
				return nil, fmt.Errorf("message %s: %s is not a duration", m.UUID, key)
			}
			out.TimeToLive = &d
		case !notSent[key]:
			if out.ApplicationProperties == nil {
				out.ApplicationProperties = make(map[string]any, len(m.Metadata))
			}
			out.ApplicationProperties[key] = value
		}
	}
	return out, nil
}

// Unmarshal makes a Watermill message of what was received. The UUID is the message id. Application properties are
// written as text; those whose names are among the keys of this package are left out, so that no sender decides what
// Nack does. It fails if the body is not bytes or text.
func Unmarshal(r *azservicebus.ReceivedMessage) (*message.Message, error) {
	body, err := bodyOf(r)
	if err != nil {
		return nil, err
	}
	m := message.NewMessage(r.MessageID, body)
	for key, value := range r.ApplicationProperties {
		if _, ours := sent[key]; ours || notSent[key] || key == KeyScheduledTime || key == KeyTimeToLive {
			continue
		}
		if key != deadLetterReason && key != deadLetterDescription {
			m.Metadata[key] = text(value)
		}
	}
	maps.Copy(m.Metadata, properties(r))
	return m, nil
}

// properties returns the properties of the bus that a message has.
func properties(r *azservicebus.ReceivedMessage) map[string]string {
	all := map[string]string{KeyDeliveryCount: strconv.FormatUint(uint64(r.DeliveryCount), 10)}
	if r.SequenceNumber != nil {
		all[KeySequenceNumber] = strconv.FormatInt(*r.SequenceNumber, 10)
	}
	if r.TimeToLive != nil && *r.TimeToLive > 0 { // the SDK writes zero for none
		all[KeyTimeToLive] = r.TimeToLive.String()
	}
	for key, t := range map[string]*time.Time{KeyEnqueuedTime: r.EnqueuedTime, KeyScheduledTime: r.ScheduledEnqueueTime} {
		if t != nil {
			all[key] = t.UTC().Format(time.RFC3339Nano)
		}
	}
	m := r.Message()
	for key, place := range sent {
		if value := *place(m); value != nil {
			all[key] = *value
		}
	}
	for key, value := range map[string]*string{
		KeyDeadLetterReason: r.DeadLetterReason, KeyDeadLetterDescription: r.DeadLetterErrorDescription,
	} {
		if value != nil {
			all[key] = *value
		}
	}
	return all
}

// bodyOf returns the body of a message, whichever AMQP section its sender has chosen.
func bodyOf(r *azservicebus.ReceivedMessage) ([]byte, error) {
	if r.Body != nil || r.RawAMQPMessage == nil {
		return r.Body, nil
	}
	var body []byte
	for _, part := range r.RawAMQPMessage.Body.Data {
		body = append(body, part...)
	}
	switch value := r.RawAMQPMessage.Body.Value.(type) {
	case nil:
	case string:
		return []byte(value), nil
	case []byte:
		return value, nil
	default:
		return nil, fmt.Errorf("the body is neither bytes nor text but %T", value)
	}
	if r.RawAMQPMessage.Body.Sequence != nil {
		return nil, errors.New("the body is neither bytes nor text but a list")
	}
	return body, nil
}

func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case nil:
		return ""
	}
	return fmt.Sprint(value)
}
