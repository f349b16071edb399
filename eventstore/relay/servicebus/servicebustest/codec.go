package servicebustest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

// The annotations of Service Bus.
const (
	partitionKeyAnnotation  amqp.Symbol = "x-opt-partition-key"
	scheduledTimeAnnotation amqp.Symbol = "x-opt-scheduled-enqueue-time"
	sequenceAnnotation      amqp.Symbol = "x-opt-sequence-number"
	enqueuedSeqAnnotation   amqp.Symbol = "x-opt-enqueue-sequence-number"
	enqueuedTimeAnnotation  amqp.Symbol = "x-opt-enqueued-time"
	lockedUntilAnnotation   amqp.Symbol = "x-opt-locked-until"
	messageStateAnnotation  amqp.Symbol = "x-opt-message-state"
	lockTokenAnnotation     amqp.Symbol = "x-opt-lock-token"
	deadLetterCondition                 = "com.microsoft:dead-letter"
)

// decodeDelivery returns the messages of a transfer: several if it is a batch.
func decodeDelivery(d *amqp.Delivery) ([]*message, error) {
	if d.Format != amqp.BatchFormat {
		m, err := decodeMessage(d.Message)
		if err != nil {
			return nil, err
		}
		return []*message{m}, nil
	}
	parts, err := amqp.SplitBatch(d.Message)
	if err != nil {
		return nil, err
	}
	messages := make([]*message, len(parts))
	for i, part := range parts {
		if messages[i], err = decodeMessage(part); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// decodeMessage keeps the message as it came, with a message id if it came without, and reads what the broker needs.
func decodeMessage(b []byte) (*message, error) {
	wire, err := amqp.DecodeMessage(b)
	if err != nil {
		return nil, err
	}
	props, _ := wire.Properties()
	if props.MessageID == nil {
		props.MessageID = strings.ReplaceAll(uuid.NewString(), "-", "")
		if err := wire.SetProperties(props); err != nil {
			return nil, err
		}
	}
	head := wire.WithoutBody()
	m := &message{
		Message: Message{
			MessageID:             text(props.MessageID),
			SessionID:             props.GroupID,
			CorrelationID:         text(props.CorrelationID),
			Subject:               value(props.Subject),
			To:                    value(props.To),
			ReplyTo:               value(props.ReplyTo),
			ReplyToSessionID:      value(props.ReplyToGroupID),
			ContentType:           string(value(props.ContentType)),
			ApplicationProperties: properties(wire.ApplicationProperties()),
			Body:                  bytes.Join(wire.Data(), nil),
		},
		size:      len(b),
		propsSize: head.Size(),
	}
	if header, ok := wire.Header(); ok && header.TTL != nil {
		m.TimeToLive = *header.TTL
	}
	annotations := wire.Annotations()
	if key, ok := annotations.Get(string(partitionKeyAnnotation)).(string); ok {
		m.PartitionKey = &key
	}
	if at, ok := annotations.Get(string(scheduledTimeAnnotation)).(time.Time); ok {
		m.ScheduledTime = at
	}
	m.wire = wire
	return m, nil
}

// encodeMessage returns the message as a receiver gets it, in the exact types that the clients insist on.
func encodeMessage(d delivery) ([]byte, error) {
	wire, ok := d.wire.(amqp.Message)
	if !ok {
		return nil, errors.New("the message did not come over the wire")
	}
	header, _ := wire.Header()
	header.DeliveryCount = uint32(d.DeliveryCount)
	if d.TimeToLive > 0 {
		header.TTL = &d.TimeToLive
	}
	wire.SetHeader(header)

	annotations := wire.Annotations().
		With(sequenceAnnotation, d.SequenceNumber).
		With(enqueuedTimeAnnotation, d.EnqueuedTime).
		With(messageStateAnnotation, int32(d.State))
	if d.EnqueuedSequenceNumber != 0 {
		annotations = annotations.With(enqueuedSeqAnnotation, d.EnqueuedSequenceNumber)
	}
	if !d.LockedUntil.IsZero() {
		annotations = annotations.With(lockedUntilAnnotation, d.LockedUntil)
	}
	err := wire.SetAnnotations(annotations)
	if d.changed {
		err = errors.Join(err, wire.SetApplicationProperties(propertyMap(d.ApplicationProperties)))
	}
	var notes amqp.Map
	if d.token != (uuid.UUID{}) {
		notes = amqp.Map{{Key: lockTokenAnnotation, Value: d.token}}
	}
	if err := errors.Join(err, wire.SetDeliveryAnnotations(notes)); err != nil {
		return nil, err
	}
	return wire.Encode(), nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// text returns an id of AMQP, which need not be a string.
func text(id any) string {
	switch id := id.(type) {
	case string:
		return id
	case uint64:
		return strconv.FormatUint(id, 10)
	case uuid.UUID:
		return id.String()
	case []byte:
		return hex.EncodeToString(id)
	default:
		return ""
	}
}

// properties returns application properties by name, nil when there are none.
func properties(m amqp.Map) map[string]any {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]any, len(m))
	for _, entry := range m {
		switch name := entry.Key.(type) {
		case string:
			out[name] = entry.Value
		case amqp.Symbol:
			out[string(name)] = entry.Value
		}
	}
	return out
}

func propertyMap(properties map[string]any) amqp.Map {
	m := make(amqp.Map, 0, len(properties))
	for name, v := range properties {
		m = append(m, amqp.Entry{Key: name, Value: v})
	}
	slices.SortFunc(m, func(a, b amqp.Entry) int { return strings.Compare(a.Key.(string), b.Key.(string)) })
	return m
}

// deliveryTag returns a lock token in the order of bytes of a .NET GUID, as it is used for a tag; it is its own inverse.
func deliveryTag(token uuid.UUID) []byte {
	t := token
	t[0], t[1], t[2], t[3] = t[3], t[2], t[1], t[0]
	t[4], t[5] = t[5], t[4]
	t[6], t[7] = t[7], t[6]
	return t[:]
}

// lockToken returns the token of a delivery tag; the zero token, which is never locked, if it is not one.
func lockToken(tag []byte) uuid.UUID {
	token, err := uuid.FromBytes(tag)
	if err != nil {
		return uuid.UUID{}
	}
	token, _ = uuid.FromBytes(deliveryTag(token))
	return token
}

// ticks returns a time as .NET counts it: in units of 100 ns since the year 1.
func ticks(t time.Time) int64 {
	const unixEpoch = 621355968000000000
	return unixEpoch + t.UnixMilli()*10000
}

// wireError returns the error as it goes over the wire.
func wireError(err error) *amqp.Error {
	if refused := (*Error)(nil); errors.As(err, &refused) {
		return &amqp.Error{Condition: amqp.Symbol(refused.Condition), Description: refused.Description}
	}
	return &amqp.Error{Condition: amqp.InternalError, Description: err.Error()}
}
