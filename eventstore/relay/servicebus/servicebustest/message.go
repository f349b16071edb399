package servicebustest

import (
	"time"

	"github.com/google/uuid"
)

// State says whether receivers may get a message.
type State int

// The states of a message, by their numbers on the wire.
const (
	Active    State = 0
	Deferred  State = 1 // only by its sequence number
	Scheduled State = 2 // not before its time
)

func (s State) String() string {
	switch s {
	case Deferred:
		return "deferred"
	case Scheduled:
		return "scheduled"
	default:
		return "active"
	}
}

// Message is a message as it lies in a queue or a subscription.
type Message struct {
	SequenceNumber         int64  // its place in the entity
	EnqueuedSequenceNumber int64  // its place in the topic, or among the scheduled, where it came from; else 0
	MessageID              string // never empty: the bus gives one to a message that has none
	SessionID              *string
	PartitionKey           *string
	CorrelationID          string
	Subject                string
	To                     string
	ReplyTo                string
	ReplyToSessionID       string
	ContentType            string
	ApplicationProperties  map[string]any // by AMQP type: string, int32, int64, bool, time.Time …
	Body                   []byte         // empty when the body is not made of data sections
	TimeToLive             time.Duration  // zero: for ever
	EnqueuedTime           time.Time
	ScheduledTime          time.Time // zero unless it was scheduled
	ExpiresAt              time.Time // zero unless it has a time to live
	State                  State
	DeliveryCount          int       // how many deliveries have failed
	LockedUntil            time.Time // zero unless a receiver has it
}

// A message, once enqueued, belongs to the broker; the maps in it are never changed, only replaced.
type message struct {
	Message

	wire      any  // the message as it was sent, for the wire
	changed   bool // whether the application properties are no longer those on the wire
	size      int  // of the whole, as it was sent
	propsSize int  // of its properties

	home   *entity
	ready  int    // its place in the pile of those that can be received
	held   bool   // kept back by a fault
	alarm  *alarm // at which it becomes active, or is no longer kept back
	expiry *alarm
	gone   bool

	token  uuid.UUID // of its lock; zero while it is not locked
	holder *receiver // who has the lock; nil when it was received by its sequence number
	lapse  *alarm    // at which the lock is lost; nil within a session, whose lock it shares
	taken  bool      // it has left for the wire, so that losing the lock counts as a delivery
}

func (m *message) locked() bool { return m.token != uuid.UUID{} }

// lockedUntil is when the lock ends, unless it is renewed; zero while there is none.
func (m *message) lockedUntil() time.Time {
	if m.lapse != nil {
		return m.lapse.at
	}
	if m.holder != nil && m.holder.session != nil {
		return m.holder.session.lapse.at
	}
	return time.Time{}
}

// look is the message as it is now, for somebody without the lock on the broker.
func (m *message) look() Message {
	seen := m.Message
	seen.LockedUntil = m.lockedUntil()
	return seen
}

// change merges properties that came with a settlement into the application properties.
func (m *message) change(properties map[string]any) {
	if len(properties) == 0 {
		return
	}
	merged := make(map[string]any, len(m.ApplicationProperties)+len(properties))
	for name, value := range m.ApplicationProperties {
		merged[name] = value
	}
	for name, value := range properties {
		merged[name] = value
	}
	m.ApplicationProperties, m.changed = merged, true
}
