package servicebustest

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// A broker is the bus without the wire: one state machine behind one lock. Every call first does what has fallen due,
// then its own work; nothing is called back while the lock is held, and who waits is woken through a channel.
type broker struct {
	clock      Clock
	maxMessage int // the size of the largest message or batch

	mu       sync.Mutex // protects what follows, and everything reachable from it
	entities map[string]*entity
	alarms   pile[*alarm]
	wakeAt   time.Time // when the clock will wake the broker; zero: never
	stopWake func() bool
	changed  chan struct{} // closed at the next change; nil while nobody waits for it
	closed   bool
}

func newBroker(clock Clock, maxMessage int) *broker {
	return &broker{
		clock:      clock,
		maxMessage: maxMessage,
		entities:   make(map[string]*entity),
		alarms:     newAlarms(),
	}
}

// enter takes the lock and catches up with the clock. Call exit when done.
func (b *broker) enter() (now time.Time) {
	b.mu.Lock()
	return b.catchUp()
}

func (b *broker) catchUp() (now time.Time) {
	now = b.clock.Now()
	for b.alarms.len() > 0 && !b.alarms.first().at.After(now) {
		b.alarms.pop().ring()
	}
	return now
}

func (b *broker) exit() {
	b.arrangeWake()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	b.mu.Unlock()
}

// arrangeWake lets the clock wake the broker no later than its first alarm.
func (b *broker) arrangeWake() {
	if b.closed || b.alarms.len() == 0 {
		return
	}
	first := b.alarms.first().at
	if !b.wakeAt.IsZero() && !b.wakeAt.After(first) {
		return
	}
	if b.stopWake != nil {
		b.stopWake()
	}
	b.wakeAt = first
	b.stopWake = b.clock.AfterFunc(first.Sub(b.clock.Now()), func() {
		b.mu.Lock()
		b.wakeAt = time.Time{}
		b.catchUp()
		b.exit()
	})
}

// at arranges for ring to be called, under the lock, at a time.
func (b *broker) at(t time.Time, ring func()) *alarm {
	a := &alarm{at: t, ring: ring}
	b.alarms.push(a)
	return a
}

func (b *broker) after(d time.Duration, ring func()) *alarm {
	return b.at(b.clock.Now().Add(d), ring)
}

// cancel silences an alarm, which may be nil.
func (b *broker) cancel(a *alarm) {
	if a != nil {
		b.alarms.remove(a)
	}
}

// postpone moves an alarm that has not rung.
func (b *broker) postpone(a *alarm, to time.Time) {
	b.alarms.remove(a)
	a.at = to
	b.alarms.push(a)
}

// close stops the clock; what is enqueued stays readable.
func (b *broker) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.stopWake != nil {
		b.stopWake()
	}
}

// lookup finds an entity by its address, in any case.
func (b *broker) lookup(path string) (*entity, error) {
	path = strings.Trim(path, "/")
	base := strings.ToLower(path)
	base, transfer := strings.CutSuffix(base, transferSuffix)
	base, dead := strings.CutSuffix(base, deadLetterSuffix)
	e := b.entities[base]
	if e == nil {
		if name, sub, ok := strings.Cut(base, strings.ToLower(subscriptionPart)); ok {
			if topic := b.entities[name]; topic != nil {
				e = topic.subs[sub]
			}
		}
	}
	if e != nil {
		switch {
		case transfer:
			e = e.transfer
		case dead:
			e = e.dead
		}
	}
	if e == nil {
		return nil, refuse(NotFound, "The messaging entity '%s' could not be found.", path)
	}
	return e, nil
}

func (b *broker) createQueue(name string, q Queue) error {
	if err := q.check(); err != nil {
		return err
	}
	return b.create(name, queueKind, q)
}

func (b *broker) createTopic(name string, t Topic) error {
	q := Queue{DuplicateWindow: t.DuplicateWindow, DefaultTimeToLive: t.DefaultTimeToLive}
	if err := q.check(); err != nil {
		return err
	}
	return b.create(name, topicKind, q)
}

func (b *broker) create(name string, k kind, q Queue) error {
	if err := checkEntityName(name); err != nil {
		return err
	}
	b.enter()
	defer b.exit()
	key := strings.ToLower(name)
	if b.entities[key] != nil {
		return refuse(EntityAlreadyExists, "The messaging entity '%s' exists already.", name)
	}
	b.entities[key] = newEntity(name, k, q)
	return nil
}

func (b *broker) topic(name string) (*entity, error) {
	e := b.entities[strings.ToLower(name)]
	if e == nil || e.kind != topicKind {
		return nil, refuse(NotFound, "The topic '%s' could not be found.", name)
	}
	return e, nil
}

func (b *broker) createSubscription(topic, name string, s Subscription) error {
	q := Queue{
		LockDuration:       s.LockDuration,
		MaxDeliveryCount:   s.MaxDeliveryCount,
		RequiresSession:    s.RequiresSession,
		DefaultTimeToLive:  s.DefaultTimeToLive,
		DeadLetterOnExpiry: s.DeadLetterOnExpiry,
		MaxBytes:           s.MaxBytes,
	}
	if err := q.check(); err != nil {
		return err
	}
	if err := checkSubscriptionName(name); err != nil {
		return err
	}
	rules := []Rule{{Name: DefaultRule, Filter: TrueFilter{}}}
	if s.Rules != nil {
		rules = slices.Clone(s.Rules)
	}
	for _, rule := range rules {
		if err := checkRule(rule); err != nil {
			return err
		}
	}
	b.enter()
	defer b.exit()
	t, err := b.topic(topic)
	if err != nil {
		return err
	}
	key := strings.ToLower(name)
	if t.subs[key] != nil {
		return refuse(EntityAlreadyExists, "The subscription '%s' of '%s' exists already.", name, topic)
	}
	e := newEntity(t.path+subscriptionPart+name, subscriptionKind, q)
	e.rules = rules
	t.subs[key] = e
	return nil
}

// remove deletes a queue, a topic with its subscriptions, or a subscription, and everything in it.
func (b *broker) remove(path string) error {
	b.enter()
	defer b.exit()
	e, err := b.lookup(path)
	if err != nil {
		return err
	}
	key := strings.ToLower(e.path)
	switch e.kind {
	case deadLetterKind:
		return refuse(NotAllowed, "A dead-letter queue goes with its entity.")
	case subscriptionKind:
		topic, name, _ := strings.Cut(key, strings.ToLower(subscriptionPart))
		delete(b.entities[topic].subs, name)
	default:
		delete(b.entities, key)
	}
	gone := refuse(NotFound, "The messaging entity '%s' was deleted.", e.path)
	for _, member := range e.family() {
		for r := range member.receivers {
			b.fail(r, gone)
		}
		for _, m := range member.messages {
			b.cancel(m.alarm)
			b.cancel(m.expiry)
			b.cancel(m.lapse)
		}
		for _, lost := range member.lost {
			b.cancel(lost.lapse)
		}
	}
	return nil
}

func checkRule(rule Rule) error {
	if err := checkRuleName(rule.Name); err != nil {
		return err
	}
	if rule.Filter == nil {
		return refuse(InvalidField, "the rule %q has no filter", rule.Name)
	}
	return nil
}

func (b *broker) subscription(path string) (*entity, error) {
	e, err := b.lookup(path)
	if err != nil {
		return nil, err
	}
	if e.kind != subscriptionKind {
		return nil, refuse(NotAllowed, "The messaging entity '%s' is no subscription, and has no rules.", e.path)
	}
	return e, nil
}

func (b *broker) addRule(path string, rule Rule) error {
	if err := checkRule(rule); err != nil {
		return err
	}
	b.enter()
	defer b.exit()
	e, err := b.subscription(path)
	if err != nil {
		return err
	}
	if e.ruleIndex(rule.Name) >= 0 {
		return refuse(EntityAlreadyExists, "The rule '%s' exists already.", rule.Name)
	}
	e.rules = append(slices.Clone(e.rules), rule)
	return nil
}

func (b *broker) removeRule(path, name string) error {
	b.enter()
	defer b.exit()
	e, err := b.subscription(path)
	if err != nil {
		return err
	}
	at := e.ruleIndex(name)
	if at < 0 {
		return refuse(NotFound, "The rule '%s' could not be found.", name)
	}
	e.rules = slices.Delete(slices.Clone(e.rules), at, at+1)
	return nil
}

// rulesOf returns the rules of a subscription, which are never changed in place.
func (b *broker) rulesOf(path string) ([]Rule, error) {
	b.enter()
	defer b.exit()
	e, err := b.subscription(path)
	if err != nil {
		return nil, err
	}
	return e.rules, nil
}

func (e *entity) ruleIndex(name string) int {
	return slices.IndexFunc(e.rules, func(r Rule) bool { return strings.EqualFold(r.Name, name) })
}
