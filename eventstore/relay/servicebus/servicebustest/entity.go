package servicebustest

import (
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Queue configures a queue. The zero value is useful.
type Queue struct {
	// LockDuration is that of messages and sessions. Zero: a minute; at most five minutes.
	LockDuration time.Duration `json:"lock_duration"`
	// MaxDeliveryCount is after how many failed deliveries a message is dead-lettered. Zero: 10; at most 2,000.
	MaxDeliveryCount int `json:"max_delivery_count"`
	// RequiresSession hands the messages out by session, and refuses those without a session id.
	RequiresSession bool `json:"requires_session"`
	// DuplicateWindow is how long message ids are remembered. Zero: duplicates are not detected; else 20 s to 7 days.
	DuplicateWindow time.Duration `json:"duplicate_window"`
	// DefaultTimeToLive is the longest life of a message. Zero: for ever.
	DefaultTimeToLive time.Duration `json:"default_time_to_live"`
	// DeadLetterOnExpiry is whether an expired message goes to the dead-letter queue, or nowhere.
	DeadLetterOnExpiry bool `json:"dead_letter_on_expiry"`
	// MaxBytes bounds what is enqueued, dead letters included. Zero: 1 GiB.
	MaxBytes int64 `json:"max_bytes"`
}

// Topic configures a topic. The zero value is useful.
type Topic struct {
	DuplicateWindow   time.Duration `json:"duplicate_window"`     // as in Queue
	DefaultTimeToLive time.Duration `json:"default_time_to_live"` // as in Queue
}

// Subscription configures a subscription of a topic. The zero value is useful, and gets every message.
type Subscription struct {
	LockDuration       time.Duration `json:"lock_duration"`         // as in Queue
	MaxDeliveryCount   int           `json:"max_delivery_count"`    // as in Queue
	RequiresSession    bool          `json:"requires_session"`      // as in Queue
	DefaultTimeToLive  time.Duration `json:"default_time_to_live"`  // as in Queue
	DeadLetterOnExpiry bool          `json:"dead_letter_on_expiry"` // as in Queue
	MaxBytes           int64         `json:"max_bytes"`             // as in Queue
	Rules              []Rule        `json:"-"`                     // nil: DefaultRule
}

const (
	deadLetterSuffix = "/$deadletterqueue"
	transferSuffix   = "/$transfer/$deadletterqueue"
	subscriptionPart = "/Subscriptions/"
	deadLetterPart   = "/$DeadLetterQueue"

	maxLock          = 5 * time.Minute
	maxDeliveryLimit = 2000
	defaultMaxBytes  = 1 << 30
)

type kind int

const (
	queueKind kind = iota
	topicKind
	subscriptionKind
	deadLetterKind
)

// An entity is what has an address: a queue, a topic (which keeps only what is scheduled), a subscription or a
// dead-letter queue.
type entity struct {
	path  string
	kind  kind
	limit Queue // its configuration, whatever its kind

	dead     *entity            // its dead-letter queue
	transfer *entity            // its transfer dead-letter queue, always empty: there is no forwarding
	subs     map[string]*entity // of a topic, by lower-case name
	rules    []Rule             // of a subscription

	sequence int64
	messages []*message         // all of them by sequence number, with gaps where gone
	states   [Scheduled + 1]int // how many of them are not gone, by state
	bytes    int64
	seen     history
	locks    map[uuid.UUID]*message
	lost     map[uuid.UUID]*mislaid
	faults   *faults

	ready pile[*message] // without sessions: what can be received
	idle  []*receiver    // without sessions: who waits, in turn

	sessions  map[string]*session
	taken     int            // how many of them have a holder
	free      pile[*session] // sessions that can be accepted and have something to receive
	acceptors []*receiver    // who waits for any session, in turn

	receivers map[*receiver]struct{}
}

func newEntity(path string, k kind, limit Queue) *entity {
	if limit.LockDuration == 0 {
		limit.LockDuration = time.Minute
	}
	if limit.MaxDeliveryCount == 0 {
		limit.MaxDeliveryCount = 10
	}
	if limit.MaxBytes == 0 {
		limit.MaxBytes = defaultMaxBytes
	}
	e := &entity{
		path:      path,
		kind:      k,
		limit:     limit,
		locks:     make(map[uuid.UUID]*message),
		lost:      make(map[uuid.UUID]*mislaid),
		sessions:  make(map[string]*session),
		receivers: make(map[*receiver]struct{}),
		ready:     newReady(),
		free: pile[*session]{
			before: func(a, b *session) bool { return a.ready.first().SequenceNumber < b.ready.first().SequenceNumber },
			place:  func(s *session) *int { return &s.free },
		},
	}
	switch k {
	case topicKind:
		e.subs = make(map[string]*entity)
	case queueKind, subscriptionKind:
		below := Queue{LockDuration: limit.LockDuration, MaxBytes: limit.MaxBytes}
		e.dead = newEntity(path+deadLetterPart, deadLetterKind, below)
		e.transfer = newEntity(path+"/$Transfer/$DeadLetterQueue", deadLetterKind, below)
	}
	return e
}

// newReady returns a pile of messages, each of which goes back to the place where it came from.
func newReady() pile[*message] {
	return pile[*message]{
		before: func(a, b *message) bool { return a.SequenceNumber < b.SequenceNumber },
		place:  func(m *message) *int { return &m.ready },
	}
}

// family is the entity and everything that goes when it goes.
func (e *entity) family() []*entity {
	all := []*entity{e}
	for _, sub := range e.subs {
		all = append(all, sub.family()...)
	}
	if e.dead != nil {
		all = append(all, e.dead, e.transfer)
	}
	return all
}

// live is how many messages there are.
func (e *entity) live() int { return e.states[Active] + e.states[Deferred] + e.states[Scheduled] }

// stored is the size of all messages, dead letters included.
func (e *entity) stored() int64 {
	if e.dead == nil {
		return e.bytes
	}
	return e.bytes + e.dead.bytes
}

// from returns the place in e.messages of the first message whose sequence number is not below n.
func (e *entity) from(n int64) int {
	return sort.Search(len(e.messages), func(i int) bool { return e.messages[i].SequenceNumber >= n })
}

func (e *entity) find(n int64) *message {
	at := e.from(n)
	if at == len(e.messages) || e.messages[at].SequenceNumber != n || e.messages[at].gone {
		return nil
	}
	return e.messages[at]
}

// keep enters a message under its sequence number.
func (e *entity) keep(m *message) {
	m.home = e
	at := len(e.messages)
	if at > 0 && e.messages[at-1].SequenceNumber >= m.SequenceNumber {
		at = e.from(m.SequenceNumber)
	}
	e.messages = slices.Insert(e.messages, at, m)
	e.states[m.State]++
	e.bytes += int64(m.size)
	if s := e.sessionOf(m); s != nil {
		s.messages++
	}
}

// drop forgets a message. Its place goes with many others at once: taking each out by itself would cost the square.
func (e *entity) drop(m *message) {
	m.gone = true
	e.states[m.State]--
	e.bytes -= int64(m.size)
	if s := e.sessionOf(m); s != nil {
		s.messages--
		e.forgetIfEmpty(s)
	}
	if len(e.messages) > 2*e.live()+64 {
		e.messages = slices.DeleteFunc(e.messages, func(m *message) bool { return m.gone })
	}
}

var (
	entityName       = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._~/-]*[A-Za-z0-9])?$`)
	subscriptionName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
)

func checkEntityName(name string) error {
	if len(name) > 260 || !entityName.MatchString(name) || strings.Contains(name, "//") ||
		strings.Contains(strings.ToLower(name), strings.ToLower(subscriptionPart)) {
		return refuse(InvalidField, "%q is no name of a queue or a topic: at most 260 letters, digits, '.', '-', '_', '~' and '/', with a letter or a digit at both ends", name)
	}
	return nil
}

func checkSubscriptionName(name string) error {
	if len(name) > 50 || !subscriptionName.MatchString(name) {
		return refuse(InvalidField, "%q is no name of a subscription: at most 50 letters, digits, '.', '-' and '_', with a letter or a digit at both ends", name)
	}
	return nil
}

func checkRuleName(name string) error {
	if name != DefaultRule && (len(name) > 50 || !subscriptionName.MatchString(name)) {
		return refuse(InvalidField, "%q is no name of a rule: at most 50 letters, digits, '.', '-' and '_'", name)
	}
	return nil
}

func (q Queue) check() error {
	switch {
	case q.LockDuration < 0 || q.LockDuration > maxLock:
		return refuse(InvalidField, "a lock lasts at most five minutes, not %v", q.LockDuration)
	case q.MaxDeliveryCount < 0 || q.MaxDeliveryCount > maxDeliveryLimit:
		return refuse(InvalidField, "the maximum delivery count is between 1 and 2,000, not %d", q.MaxDeliveryCount)
	case q.DuplicateWindow != 0 && (q.DuplicateWindow < 20*time.Second || q.DuplicateWindow > 7*24*time.Hour):
		return refuse(InvalidField, "duplicates are detected for 20 seconds to 7 days, not %v", q.DuplicateWindow)
	case q.DefaultTimeToLive < 0 || q.MaxBytes < 0:
		return refuse(InvalidField, "a time to live and a size cannot be negative")
	}
	return nil
}
