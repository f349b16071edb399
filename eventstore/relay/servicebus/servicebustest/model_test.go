package servicebustest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// The model test plays random calls against the broker and against the plainest possible account of what must happen:
// nothing is lost, nothing is doubled, the lowest sequence number comes first, and delivery counts rise exactly when they
// must.

const (
	modelPath     = "orders"
	modelLock     = time.Minute
	modelMaxCount = 2
)

type modelState int

const (
	isReady modelState = iota
	isLocked
	isDeferred
	isDeferredLocked
	isDead
	isDone
)

type modelMessage struct {
	id      string
	session string
	number  int64
	state   modelState
	count   int
	token   uuid.UUID
	until   time.Time // of the lock; not used within a session
	holder  *modelReceiver
}

type modelReceiver struct {
	*receiver
	session string
	until   time.Time
}

type model struct {
	clock     *FakeClock
	broker    *broker
	sessions  bool
	messages  []*modelMessage // by sequence number
	receivers []*modelReceiver
}

func TestModel(t *testing.T) {
	for name, sessions := range map[string]bool{"plain": false, "sessions": true} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				m := &model{clock: NewFakeClock(time.Unix(1_800_000_000, 0)), sessions: sessions}
				m.broker = newBroker(m.clock, 1<<20)
				err := m.broker.createQueue(modelPath, Queue{
					LockDuration:     modelLock,
					MaxDeliveryCount: modelMaxCount,
					RequiresSession:  sessions,
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Repeat(map[string]func(*rapid.T){
					"":                m.check,
					"send":            m.send,
					"open":            m.open,
					"close":           m.close,
					"receive":         m.receive,
					"settle":          m.settle,
					"renew":           m.renew,
					"receiveDeferred": m.receiveDeferred,
					"advance":         m.advance,
					"restart":         m.restart,
				})
			})
		})
	}
}

func (m *model) send(t *rapid.T) {
	batch := make([]*message, rapid.IntRange(1, 4).Draw(t, "batch"))
	for i := range batch {
		number := int64(len(m.messages) + 1)
		expect := &modelMessage{id: fmt.Sprint("m", number), number: number}
		batch[i] = &message{Message: Message{MessageID: expect.id}}
		if m.sessions {
			expect.session = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "session")
			batch[i].SessionID = &expect.session
		}
		m.messages = append(m.messages, expect)
	}
	if err := m.broker.send(modelPath, batch); err != nil {
		t.Fatal(err)
	}
}

func (m *model) holderOf(session string) *modelReceiver {
	for _, r := range m.receivers {
		if r.session == session {
			return r
		}
	}
	return nil
}

func (m *model) open(t *rapid.T) {
	if len(m.receivers) >= 3 {
		t.Skip("enough receivers")
	}
	opened := &modelReceiver{until: m.clock.Now().Add(modelLock)}
	var err error
	if !m.sessions {
		opened.receiver, err = m.broker.openReceiver(modelPath, false)
	} else if rapid.Bool().Draw(t, "named") {
		opened.session = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "session")
		opened.receiver, err = m.broker.acceptSession(modelPath, &opened.session, false)
		if taken := m.holderOf(opened.session) != nil; taken != (err != nil) {
			t.Fatalf("accepting %q, taken %v: %v", opened.session, taken, err)
		} else if taken {
			return
		}
	} else {
		opened.receiver, err = m.broker.acceptSession(modelPath, nil, false)
		if err == nil {
			id, _, ok, _ := opened.accepted()
			first := slices.IndexFunc(m.messages, func(e *modelMessage) bool {
				return e.state == isReady && m.holderOf(e.session) == nil
			})
			if ok != (first >= 0) || ok && id != m.messages[first].session {
				t.Fatalf("got session %q, %v; the first free message is %d", id, ok, first)
			}
			if !ok {
				opened.close()
				return
			}
			opened.session = id
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	m.receivers = append(m.receivers, opened)
}

func (m *model) drawReceiver(t *rapid.T) *modelReceiver {
	if len(m.receivers) == 0 {
		t.Skip("no receiver")
	}
	return rapid.SampledFrom(m.receivers).Draw(t, "receiver")
}

func (m *model) forget(r *modelReceiver) {
	m.receivers = slices.DeleteFunc(m.receivers, func(other *modelReceiver) bool { return other == r })
}

// unlock is what becomes of a message whose lock ends with no verdict.
func (e *modelMessage) unlock(failed bool) {
	if failed {
		e.count++
	}
	switch {
	case e.count >= modelMaxCount && failed:
		e.state = isDead
	case e.state == isDeferredLocked:
		e.state = isDeferred
	default:
		e.state = isReady
	}
	e.token, e.holder = uuid.UUID{}, nil
}

func (e *modelMessage) locked() bool { return e.state == isLocked || e.state == isDeferredLocked }

func (m *model) close(t *rapid.T) {
	r := m.drawReceiver(t)
	r.close()
	m.forget(r)
	for _, e := range m.messages {
		if m.sessions && e.locked() && e.holder == r {
			e.unlock(false)
		}
	}
}

func (m *model) receive(t *rapid.T) {
	r := m.drawReceiver(t)
	n := rapid.IntRange(1, 5).Draw(t, "credit")
	r.setCredit(n)
	got, err := r.take()
	if err != nil {
		t.Fatal(err)
	}
	r.setCredit(0)
	var want []*modelMessage
	for _, e := range m.messages {
		if e.state == isReady && (!m.sessions || e.session == r.session) && len(want) < n {
			want = append(want, e)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %d messages, want %d", len(got), len(want))
	}
	for i, e := range want {
		if got[i].MessageID != e.id || got[i].SequenceNumber != e.number || got[i].DeliveryCount != e.count {
			t.Fatalf("got %+v, want %+v", got[i].Message, e)
		}
		e.state, e.token, e.holder, e.until = isLocked, got[i].token, r, m.clock.Now().Add(modelLock)
	}
}

func (m *model) drawLocked(t *rapid.T) *modelMessage {
	var locked []*modelMessage
	for _, e := range m.messages {
		if e.locked() {
			locked = append(locked, e)
		}
	}
	if len(locked) == 0 {
		t.Skip("nothing is locked")
	}
	return rapid.SampledFrom(locked).Draw(t, "message")
}

func (m *model) settle(t *rapid.T) {
	e := m.drawLocked(t)
	v := verdict{verb: rapid.SampledFrom([]verb{complete, abandon, deferral, deadLetter, giveBack}).Draw(t, "verb")}
	token := e.token
	if err := m.broker.settle(modelPath, token, v); err != nil {
		t.Fatal(err)
	}
	switch v.verb {
	case complete:
		e.state = isDone
	case abandon:
		e.unlock(true)
	case deferral:
		e.state = isDeferred
	case deadLetter:
		e.state = isDead
	case giveBack:
		e.unlock(false)
	}
	if err := m.broker.settle(modelPath, token, v); err == nil {
		t.Fatal("a lock could be used twice")
	}
}

func (m *model) renew(t *rapid.T) {
	until := m.clock.Now().Add(modelLock)
	if m.sessions {
		r := m.drawReceiver(t)
		got, err := m.broker.renewSession(modelPath, r.session, r.receiver)
		if err != nil || !got.Equal(until) {
			t.Fatal(got, err)
		}
		r.until = until
		return
	}
	e := m.drawLocked(t)
	got, err := m.broker.renew(modelPath, []uuid.UUID{e.token})
	if err != nil || !got[0].Equal(until) {
		t.Fatal(got, err)
	}
	e.until = until
}

func (m *model) receiveDeferred(t *rapid.T) {
	var deferred []*modelMessage
	for _, e := range m.messages {
		if e.state == isDeferred {
			deferred = append(deferred, e)
		}
	}
	if len(deferred) == 0 {
		t.Skip("nothing is deferred")
	}
	e := rapid.SampledFrom(deferred).Draw(t, "message")
	var session *string
	if m.sessions {
		session = &e.session
	}
	got, err := m.broker.receiveDeferred(modelPath, []int64{e.number}, false, session, nil)
	holder := m.holderOf(e.session)
	if m.sessions && holder == nil {
		if err == nil {
			t.Fatal("received from a session that nobody holds")
		}
		return
	}
	if err != nil || len(got) != 1 || got[0].MessageID != e.id {
		t.Fatal(got, err)
	}
	e.state, e.token, e.holder, e.until = isDeferredLocked, got[0].token, holder, m.clock.Now().Add(modelLock)
}

func (m *model) advance(t *rapid.T) {
	m.clock.Advance(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
	now := m.clock.Now()
	for _, e := range m.messages {
		if !m.sessions && e.locked() && !e.until.After(now) {
			e.unlock(true)
		}
	}
	for _, r := range slices.Clone(m.receivers) {
		if !m.sessions || r.until.After(now) {
			continue
		}
		if _, err := r.take(); !errors.Is(err, errSessionLockLost) {
			t.Fatalf("the receiver of a lost session is told %v", err)
		}
		m.forget(r)
		for _, e := range m.messages {
			if e.locked() && e.holder == r {
				e.unlock(true)
			}
		}
	}
}

func (m *model) restart(*rapid.T) {
	m.broker.releaseLocks()
	m.receivers = nil
	for _, e := range m.messages {
		if e.locked() {
			e.unlock(false)
		}
	}
}

// check compares everything that can be seen with the model.
func (m *model) check(t *rapid.T) {
	type seen struct {
		ID    string
		State modelState
		Count int
	}
	var want, got []seen
	var counts Counts
	for _, e := range m.messages {
		if e.state != isDone {
			want = append(want, seen{e.id, e.state, e.count})
		}
		switch e.state {
		case isReady, isLocked:
			counts.Active++
		case isDeferred, isDeferredLocked:
			counts.Deferred++
		case isDead:
			counts.DeadLettered++
		}
		if e.locked() {
			counts.Locked++
		}
	}
	live, err := m.broker.peek(modelPath, 0, 1<<30, nil)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := m.broker.peek(DeadLetterPath(modelPath), 0, 1<<30, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range live {
		state := isReady
		switch {
		case d.State == Deferred && d.token != uuid.UUID{}:
			state = isDeferredLocked
		case d.State == Deferred:
			state = isDeferred
		case d.token != uuid.UUID{}:
			state = isLocked
		}
		got = append(got, seen{d.MessageID, state, d.DeliveryCount})
	}
	for _, d := range dead {
		got = append(got, seen{d.MessageID, isDead, d.DeliveryCount})
	}
	slices.SortFunc(want, func(a, b seen) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(got, func(a, b seen) int { return strings.Compare(a.ID, b.ID) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	have, err := m.broker.counts(modelPath)
	if err != nil {
		t.Fatal(err)
	}
	counts.Receivers = len(m.receivers)
	counts.Sessions = have.Sessions
	if m.sessions {
		counts.LockedSessions = len(m.receivers)
	}
	if diff := cmp.Diff(counts, have); diff != "" {
		t.Fatal(diff)
	}
}
