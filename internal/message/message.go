// Package message turns deliveries of a ledger into messages and back. It is the only place that knows how an event
// looks on the bus: a CloudEvents 1.0 event in JSON (structured mode), described in docs/events.md.
//
// What [Decode] returns equals what [New] was given byte for byte, so that a receiver can check the chain. All
// functions are safe for concurrent use.
package message

import (
	"fmt"
	"strconv"
	"strings"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	// ContentType is the media type of every message.
	ContentType = "application/cloudevents+json"
	// TypePrefix stands before the wire name of an event in the type of its message.
	TypePrefix = "com.orderledger."
	// TickType is the type of a message that carries no event.
	TickType = TypePrefix + "tick.v1"
	// MaxBody is the largest message in bytes. The event of a larger one stays in the ledger, and the message says
	// where.
	MaxBody = 200 << 10
	// MaxLanes is the largest number of lanes that a message can name.
	MaxLanes = 256
)

// Keys of a message's metadata. The first four are what a broker calls its own properties, the others are for the
// filters of subscriptions. A key without a value is left out. Nothing but the body is needed to read a message.
const (
	KeyMessageID    = "message_id"   // the event's id; of a tick, the id in its body
	KeySession      = "session_id"   // the lane, see [LaneName]: messages of one lane stay in order
	KeySubject      = "subject"      // the order's id; the name of any other stream
	KeyContentType  = "content_type" // [ContentType]
	KeyType         = "type"         // as in the body
	KeyRegion       = "region"
	KeyBusinessUnit = "businessunit"
)

// New makes the message of a delivery that leaves the given region, which may be empty. It is what a publisher is
// given; its UUID is the event's id. A body over [MaxBody] is replaced by one without data and metadata that names the
// event's place in the ledger.
func New(d eventstore.Delivery, region string) *watermill.Message {
	a := attributesOf(d, region)
	m := watermill.NewMessage(a.id, encode(d, a))
	m.Metadata[KeyMessageID] = a.id
	m.Metadata[KeySession] = LaneName(d.Lane)
	m.Metadata[KeyContentType] = ContentType
	m.Metadata[KeyType] = a.kind
	for key, value := range map[string]string{
		KeySubject: a.subject, KeyRegion: a.region, KeyBusinessUnit: a.businessUnit,
	} {
		if value != "" {
			m.Metadata[key] = value
		}
	}
	return m
}

// LaneName writes a lane as two hexadecimal digits, 00 to ff. It is the session of the lane's messages.
func LaneName(lane int) string { return fmt.Sprintf("%02x", lane) }

// parseLane reads what LaneName wrote, and nothing else.
func parseLane(s string) (int, error) {
	n, err := strconv.ParseUint(s, 16, 8)
	if err != nil || LaneName(int(n)) != s {
		return 0, fmt.Errorf("is not two lower-case hexadecimal digits")
	}
	return int(n), nil
}

const (
	orderPrefix  = "order-"
	sourcePrefix = "/ledgers/"
)

func sourceOf(ledger uuid.UUID) string { return sourcePrefix + ledger.String() }

// subjectOf returns the subject of a stream's events, and whether the stream can be told from it.
func subjectOf(stream string) (subject string, derivable bool) {
	if id, ok := strings.CutPrefix(stream, orderPrefix); ok && id != "" {
		return id, true
	}
	return stream, false
}

// tickID names a tick by what it says, so that a broker that drops duplicates may drop a repeated one.
func tickID(d eventstore.Delivery) string {
	return fmt.Sprintf("tick.%d.%s.%d", d.Incarnation, LaneName(d.Lane), d.Position)
}
