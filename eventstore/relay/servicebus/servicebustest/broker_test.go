package servicebustest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
)

// newCore returns a broker without a wire, with a queue "q" in which the messages 1 to n lie.
func newCore(t *testing.T, q Queue, n int) (*FakeClock, *broker) {
	t.Helper()
	clock := NewFakeClock(time.Unix(1_800_000_000, 0))
	b := newBroker(clock, 1<<20)
	if err := b.createQueue("q", q); err != nil {
		t.Fatal(err)
	}
	session := "s"
	for i := range n {
		if err := b.send("q", []*message{{Message: Message{MessageID: fmt.Sprint(i + 1), SessionID: &session}}}); err != nil {
			t.Fatal(err)
		}
	}
	return clock, b
}

func ids(deliveries []delivery) (all string) {
	for _, d := range deliveries {
		all += fmt.Sprintf("%s:%d ", d.MessageID, d.DeliveryCount)
	}
	return all
}

// takeAll gives a receiver credit and takes what it is handed.
func takeAll(t *testing.T, r *receiver, credit int) []delivery {
	t.Helper()
	r.setCredit(credit)
	got, err := r.take()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func open(t *testing.T, b *broker, sessions, destroy bool) *receiver {
	t.Helper()
	var r *receiver
	var err error
	if sessions {
		r, err = b.acceptSession("q", nil, destroy)
	} else {
		r, err = b.openReceiver("q", destroy)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestWhatTheWireCannotTakeGoesBack covers deliveries that were handed out and never left.
func TestWhatTheWireCannotTakeGoesBack(t *testing.T) {
	for _, sessions := range []bool{false, true} {
		for _, destroy := range []bool{false, true} {
			t.Run(fmt.Sprintf("sessions=%v destroy=%v", sessions, destroy), func(t *testing.T) {
				_, b := newCore(t, Queue{RequiresSession: sessions}, 3)
				r := open(t, b, sessions, destroy)
				got := takeAll(t, r, 5)
				r.sent(got[:1])
				r.untake(got[1:])
				if again := takeAll(t, r, 0); len(again) != 0 {
					t.Errorf("without credit came %s", ids(again))
				}
				if again := ids(takeAll(t, r, 3)); again != "2:0 3:0 " {
					t.Errorf("came again: %s", again)
				}
			})
		}
	}
}

// TestLocksOfWhatNeverLeft covers locks that lapse or are lost while their messages wait for the wire.
func TestLocksOfWhatNeverLeft(t *testing.T) {
	for name, lose := range map[string]func(*FakeClock, *broker) error{
		"lapse":   func(c *FakeClock, _ *broker) error { c.Advance(time.Minute); return nil },
		"lost":    func(_ *FakeClock, b *broker) error { _, err := b.loseLocks("q"); return err },
		"restart": func(_ *FakeClock, b *broker) error { b.releaseLocks(); return nil },
	} {
		for _, sessions := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s sessions=%v", name, sessions), func(t *testing.T) {
				clock, b := newCore(t, Queue{RequiresSession: sessions}, 2)
				stuck := open(t, b, sessions, false)
				stuck.setCredit(2)
				if err := lose(clock, b); err != nil {
					t.Fatal(err)
				}
				stuck.setCredit(0)
				if got := ids(takeAll(t, open(t, b, sessions, false), 2)); got != "1:0 2:0 " {
					t.Errorf("got %s", got)
				}
			})
		}
	}
}

func TestMislaidLocksAreFoundOutInTheEnd(t *testing.T) {
	clock, b := newCore(t, Queue{}, 1)
	r := open(t, b, false, false)
	token := takeAll(t, r, 1)[0].token
	if _, err := b.loseLocks("q"); err != nil {
		t.Fatal(err)
	}
	clock.Advance(59 * time.Second)
	if _, err := b.renew("q", []uuid.UUID{token}); err != nil {
		t.Errorf("renewing at once: %v", err)
	}
	clock.Advance(time.Minute)
	if _, err := b.renew("q", []uuid.UUID{token}); !errors.Is(err, errMessageLockLost) {
		t.Errorf("renewing after the lock would have lapsed: %v", err)
	}
	if err := b.settle("q", token, verdict{}); !errors.Is(err, errMessageLockLost) {
		t.Errorf("settling: %v", err)
	}
}

func TestRestartFindsOutMislaidLocks(t *testing.T) {
	_, b := newCore(t, Queue{RequiresSession: true}, 1)
	r := open(t, b, true, false)
	takeAll(t, r, 1)
	if _, err := b.loseLocks("q"); err != nil {
		t.Fatal(err)
	}
	b.releaseLocks()
	if _, err := b.renewSession("q", "s", r); !errors.Is(err, errSessionLockLost) {
		t.Errorf("renewing after a restart: %v", err)
	}
	if _, _, _, err := r.accepted(); err == nil {
		t.Error("a receiver has outlived a restart")
	}
}

func TestOneCallMayNameAMessageTwice(t *testing.T) {
	clock, b := newCore(t, Queue{}, 1)
	r := open(t, b, false, false)
	d := takeAll(t, r, 1)[0]
	if err := b.settle("q", d.token, verdict{verb: deferral}); err != nil {
		t.Fatal(err)
	}
	twice := []int64{d.SequenceNumber, d.SequenceNumber}
	got, err := b.receiveDeferred("q", twice, false, nil, nil)
	if err != nil || len(got) != 1 {
		t.Fatal(ids(got), err)
	}
	if err := b.settleAll("q", []uuid.UUID{got[0].token, got[0].token}, verdict{verb: deferral}); !errors.Is(err, errMessageLockLost) {
		t.Errorf("settling twice: %v", err)
	}
	got, err = b.receiveDeferred("q", twice, true, nil, nil)
	if err != nil || len(got) != 1 {
		t.Fatal(ids(got), err)
	}
	numbers, err := b.schedule("q", []*message{{Message: Message{ScheduledTime: clock.Now().Add(time.Hour)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cancelScheduled("q", append(numbers, numbers...)); err != nil {
		t.Fatal(err)
	}
	if c, err := b.counts("q"); err != nil || c.Active+c.Deferred+c.Scheduled != 0 {
		t.Errorf("left: %+v, %v", c, err)
	}
}

func TestDeadLettersOfDeadLettersStay(t *testing.T) {
	_, b := newCore(t, Queue{}, 1)
	r := open(t, b, false, false)
	if err := b.settle("q", takeAll(t, r, 1)[0].token, verdict{verb: deadLetter, reason: "first"}); err != nil {
		t.Fatal(err)
	}
	dead, err := b.openReceiver(DeadLetterPath("q"), false)
	if err != nil {
		t.Fatal(err)
	}
	letter := takeAll(t, dead, 1)[0]
	if err := b.settle(DeadLetterPath("q"), letter.token, verdict{verb: deadLetter, reason: "second"}); err != nil {
		t.Fatal(err)
	}
	again := takeAll(t, dead, 1)
	if ids(again) != "1:0 " || again[0].ApplicationProperties[reasonProperty] != "second" {
		t.Errorf("got %+v", again)
	}
}

// TestManyMessagesLeaveNothingBehind covers that places of messages which are gone are taken up again.
func TestManyMessagesLeaveNothingBehind(t *testing.T) {
	_, b := newCore(t, Queue{}, 1000)
	r := open(t, b, false, false)
	for _, d := range takeAll(t, r, 1000) {
		if err := b.settle("q", d.token, verdict{}); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.lookup("q")
	if err != nil {
		t.Fatal(err)
	}
	if len(e.messages) > 100 || e.bytes != 0 || len(e.locks) != 0 || b.alarms.len() != 0 {
		t.Errorf("left: %d places, %d bytes, %d locks, %d alarms", len(e.messages), e.bytes, len(e.locks), b.alarms.len())
	}
}

func TestEqualValues(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		a, b any
		want bool
	}{
		{int8(1), uint64(1), true},
		{int16(1), uint8(1), true},
		{uint16(1), uint32(2), false},
		{int64(-1), uint64(1<<64 - 1), false},
		{1, "1", false},
		{"a", "a", true},
		{true, true, true},
		{1.5, 1.5, true},
		{now, now.UTC(), true},
		{now, "now", false},
		{uuid.UUID{1}, uuid.UUID{1}, true},
		{[]byte("a"), []byte("a"), false}, // Service Bus does not compare them either
		{nil, nil, false},
	} {
		if got := equalValues(c.a, c.b); got != c.want {
			t.Errorf("%T(%v) = %T(%v): got %v", c.a, c.a, c.b, c.b, got)
		}
	}
}

func TestStateHasAName(t *testing.T) {
	if got := fmt.Sprint(Active, Deferred, Scheduled); got != "active deferred scheduled" {
		t.Error(got)
	}
}
