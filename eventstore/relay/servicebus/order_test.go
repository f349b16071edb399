package servicebus_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus"
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// A follower checks that the messages of one session come in order.
type follower struct {
	seen       int                // how many different ones have come
	last       int                // the last one
	unanswered []*message.Message // in the order in which they have come
}

func (o *follower) follow(t *testing.T, m *message.Message) {
	t.Helper()
	n, err := strconv.Atoi(string(m.Payload))
	if err != nil {
		t.Fatal(err)
	}
	if n > o.seen {
		t.Errorf("%d came before %d", n, o.seen)
	}
	if n <= o.last { // it begins anew
		for _, old := range o.unanswered {
			if old.Context().Err() == nil {
				t.Errorf("%d came again while %s was still being handled", n, old.Payload)
			}
		}
		o.unanswered = nil
	}
	o.seen, o.last = max(o.seen, n+1), n
	o.unanswered = append(o.unanswered, m)
}

// answer answers one of the unanswered messages, or, seldom, refuses it.
func (o *follower) answer(random *rand.Rand) {
	i := random.IntN(len(o.unanswered))
	m := o.unanswered[i]
	o.unanswered = append(o.unanswered[:i], o.unanswered[i+1:]...)
	switch random.IntN(40) {
	case 0:
		m.Nack()
	case 1:
		servicebus.ReleaseOnNack(m)
		m.Nack()
	default:
		m.Ack()
	}
}

// Sixteen sessions share six places, messages are answered out of turn and refused, links and connections break: in each
// session all come, none before its predecessors, and nothing comes again before those who handle it have been told.
func TestOrderInSpiteOfEverything(t *testing.T) {
	t.Parallel()
	const sessions, each, inFlight = 16, 60, 4
	f := newFixture(t, servicebustest.Queue{RequiresSession: true, MaxDeliveryCount: 2000})
	for s := range sessions {
		f.publish(strconv.Itoa(s), numbers(each)...)
	}
	_, messages := f.subscribe(servicebus.SubscriberConfig{
		Sessions: 6, MaxInFlight: inFlight, SessionIdle: 20 * time.Millisecond, ReleasePause: time.Millisecond,
	})
	random := rand.New(rand.NewPCG(1, 2))
	followers := make(map[string]*follower)
	deadline := time.After(2 * patience)
	for came := 0; ; {
		select {
		case m := <-messages:
			session := m.Metadata.Get(servicebus.KeySessionID)
			o := followers[session]
			if o == nil {
				o = &follower{last: -1}
				followers[session] = o
			}
			o.follow(t, m)
			for len(o.unanswered) >= inFlight || len(o.unanswered) > 0 && random.IntN(2) == 0 {
				o.answer(random)
			}
			switch came++; came % 200 {
			case 100:
				f.bus.DetachLinks("orders", &servicebustest.Error{Condition: servicebustest.DetachForced})
			case 199:
				f.bus.DropConnections()
			}
		case <-time.After(10 * time.Millisecond): // they wait for answers
			for _, o := range followers {
				if len(o.unanswered) > 0 {
					o.answer(random)
				}
			}
			if counts, err := f.bus.Counts("orders"); err != nil || counts.Active == 0 {
				f.succeed(err)
				for session, o := range followers {
					if o.seen != each {
						t.Errorf("session %s: %d came", session, o.seen)
					}
				}
				if len(followers) != sessions {
					t.Errorf("%d sessions came", len(followers))
				}
				return
			}
		case <-deadline:
			counts, _ := f.bus.Counts("orders")
			t.Fatalf("%+v are left after %d", counts, came)
		}
	}
}
