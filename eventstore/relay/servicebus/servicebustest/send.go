package servicebustest

import "time"

const (
	maxID         = 128      // characters in a message id, a session id or a partition key
	maxProperties = 64 << 10 // bytes
)

// send enqueues all messages or none, in order. Those whose time is yet to come are scheduled.
func (b *broker) send(path string, messages []*message) error {
	now := b.enter()
	defer b.exit()
	e, err := b.target(path)
	if err != nil {
		return err
	}
	if err := b.admit(e, messages); err != nil {
		return err
	}
	for _, m := range messages {
		b.accept(e, m, now)
	}
	return nil
}

// schedule enqueues all messages or none, and returns the sequence numbers by which they can be cancelled.
func (b *broker) schedule(path string, messages []*message) ([]int64, error) {
	now := b.enter()
	defer b.exit()
	e, err := b.target(path)
	if err != nil {
		return nil, err
	}
	if err := b.admit(e, messages); err != nil {
		return nil, err
	}
	numbers := make([]int64, len(messages))
	for i, m := range messages {
		if m.ScheduledTime.IsZero() {
			m.ScheduledTime = now
		}
		numbers[i] = b.accept(e, m, now)
	}
	return numbers, nil
}

// cancelScheduled takes back all messages or none.
func (b *broker) cancelScheduled(path string, numbers []int64) error {
	b.enter()
	defer b.exit()
	e, err := b.target(path)
	if err != nil {
		return err
	}
	found := make([]*message, len(numbers))
	for i, n := range numbers {
		m := e.find(n)
		if m == nil || m.State != Scheduled {
			return refuse(MessageNotFound, "There is no scheduled message with the sequence number %d.", n)
		}
		found[i] = m
	}
	for _, m := range found {
		if !m.gone { // a number may be given twice
			b.discard(m)
		}
	}
	return nil
}

// exists says why there is nothing at an address, nil if there is.
func (b *broker) exists(path string) error {
	b.enter()
	defer b.exit()
	_, err := b.lookup(path)
	return err
}

// sendable says why nothing can be sent to an address, nil if it can.
func (b *broker) sendable(path string) error {
	b.enter()
	defer b.exit()
	_, err := b.target(path)
	return err
}

func (b *broker) target(path string) (*entity, error) {
	e, err := b.lookup(path)
	if err != nil {
		return nil, err
	}
	if e.kind != queueKind && e.kind != topicKind {
		return nil, refuse(NotAllowed, "Messages cannot be sent to the messaging entity '%s'.", e.path)
	}
	if e.faults.busy() {
		return nil, errServerBusy
	}
	return e, nil
}

// admit says whether all messages may be enqueued.
func (b *broker) admit(e *entity, messages []*message) error {
	var total int64
	for _, m := range messages {
		if err := b.check(e, m); err != nil {
			return err
		}
		total += int64(m.size)
	}
	if total > int64(b.maxMessage) {
		return refuse(MessageSizeExceeded, "The received message (%d bytes) exceeds the limit (%d bytes) currently allowed on the link.", total, b.maxMessage)
	}
	stores := []*entity{e}
	for _, sub := range e.subs {
		stores = append(stores, sub)
	}
	for _, store := range stores {
		if store.stored()+total > store.limit.MaxBytes {
			return refuse(ResourceLimitExceeded, "The maximum entity size of '%s' has been reached or exceeded.", store.path)
		}
	}
	return nil
}

func (b *broker) check(e *entity, m *message) error {
	switch {
	case len(m.MessageID) > maxID:
		return refuse(NotAllowed, "The MessageId has %d characters; the limit is %d.", len(m.MessageID), maxID)
	case m.SessionID != nil && len(*m.SessionID) > maxID:
		return refuse(NotAllowed, "The SessionId has %d characters; the limit is %d.", len(*m.SessionID), maxID)
	case m.PartitionKey != nil && len(*m.PartitionKey) > maxID:
		return refuse(NotAllowed, "The PartitionKey has %d characters; the limit is %d.", len(*m.PartitionKey), maxID)
	case m.SessionID != nil && m.PartitionKey != nil && *m.SessionID != *m.PartitionKey:
		return refuse(NotAllowed, "The PartitionKey must be the same as the SessionId when both are set.")
	case e.limit.RequiresSession && m.SessionID == nil:
		return errNoSessionID
	case m.propsSize > maxProperties:
		return refuse(NotAllowed, "The properties have %d bytes; the limit is %d.", m.propsSize, maxProperties)
	case m.TimeToLive < 0:
		return refuse(NotAllowed, "The time to live is negative.")
	}
	for _, sub := range e.subs {
		if sub.limit.RequiresSession && m.SessionID == nil && sub.wants(&m.Message) {
			return errNoSessionID
		}
	}
	return nil
}

func (e *entity) wants(m *Message) bool {
	for _, rule := range e.rules {
		if rule.Filter.matches(m) {
			return true
		}
	}
	return false
}

// accept takes in one admitted message, unless it was seen before: then it is accepted too, and dropped.
func (b *broker) accept(e *entity, m *message, now time.Time) (number int64) {
	e.sequence++
	m.SequenceNumber = e.sequence
	m.EnqueuedTime = now
	if e.limit.DuplicateWindow > 0 && e.seen.repeated(m.MessageID, now, e.limit.DuplicateWindow) {
		return m.SequenceNumber
	}
	if m.ScheduledTime.After(now) {
		m.State = Scheduled
		e.keep(m)
		m.alarm = b.at(m.ScheduledTime, func() { b.due(m) })
		return m.SequenceNumber
	}
	b.spread(e, m, now)
	return m.SequenceNumber
}

// due turns a scheduled message into one that is enqueued at this moment.
func (b *broker) due(m *message) {
	e := m.home
	e.drop(m)
	fresh := *m
	fresh.gone = false
	fresh.alarm = nil
	fresh.State = Active
	fresh.EnqueuedSequenceNumber = m.SequenceNumber
	fresh.EnqueuedTime = m.ScheduledTime
	e.sequence++
	fresh.SequenceNumber = e.sequence
	b.spread(e, &fresh, m.ScheduledTime)
}

// spread puts a message into the queue, or a copy into each subscription that wants it.
func (b *broker) spread(e *entity, m *message, now time.Time) {
	if e.kind != topicKind {
		b.enqueue(e, m, now)
		return
	}
	for _, sub := range e.subs {
		if !sub.wants(&m.Message) {
			continue
		}
		each := *m
		sub.sequence++
		each.EnqueuedSequenceNumber = m.SequenceNumber
		each.SequenceNumber = sub.sequence
		if life := e.limit.DefaultTimeToLive; life > 0 && (each.TimeToLive == 0 || each.TimeToLive > life) {
			each.TimeToLive = life
		}
		b.enqueue(sub, &each, now)
	}
}

// enqueue makes a message with a sequence number receivable.
func (b *broker) enqueue(e *entity, m *message, now time.Time) {
	twice := e.faults.duplicate()
	b.insert(e, m, now)
	if twice {
		again := *m
		again.ready, again.held, again.alarm, again.expiry = 0, false, nil, nil
		e.sequence++
		again.SequenceNumber = e.sequence
		b.insert(e, &again, now)
	}
	b.dispatch(e)
}

func (b *broker) insert(e *entity, m *message, now time.Time) {
	if life := e.limit.DefaultTimeToLive; life > 0 && (m.TimeToLive == 0 || m.TimeToLive > life) {
		m.TimeToLive = life
	}
	e.keep(m)
	if m.TimeToLive > 0 {
		m.ExpiresAt = now.Add(m.TimeToLive)
		m.expiry = b.at(m.ExpiresAt, func() { b.expire(m) })
	}
	if wait := e.faults.delay(); wait > 0 {
		m.held = true
		m.alarm = b.after(wait, func() { b.unhold(m) })
	}
	b.offer(m)
}

// unhold ends a delay that a fault has put on a message.
func (b *broker) unhold(m *message) {
	m.held, m.alarm = false, nil
	if s := m.home.sessionOf(m); s != nil {
		b.stir(s)
	} else {
		m.home.ready.push(m)
	}
	b.dispatch(m.home)
}

// A history remembers message ids for a while.
type history struct {
	until map[string]time.Time
	order []sighting // oldest first
}

type sighting struct {
	id    string
	until time.Time
}

// repeated reports whether id was seen within the window, and notes it if not.
func (h *history) repeated(id string, now time.Time, window time.Duration) bool {
	for len(h.order) > 0 && !h.order[0].until.After(now) {
		delete(h.until, h.order[0].id)
		h.order = h.order[1:]
	}
	if _, ok := h.until[id]; ok {
		return true
	}
	if h.until == nil {
		h.until = make(map[string]time.Time)
	}
	h.until[id] = now.Add(window)
	h.order = append(h.order, sighting{id: id, until: now.Add(window)})
	return false
}
