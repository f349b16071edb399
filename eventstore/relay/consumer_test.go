package relay_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/relay"
	"github.com/orderledger/orderledger/internal/message"
)

// delivery makes one of a ledger with the default number of lanes.
func delivery(stream string, position eventstore.Position) eventstore.Delivery {
	e := event(stream, position)
	e.Time = epoch.UTC()
	e.Chain = eventstore.Chain(eventstore.Hash{}, &e)
	return eventstore.Delivery{
		Source:   uuid.New(),
		Lane:     eventstore.Lane(stream, eventstore.DefaultLanes),
		Position: position,
		Event:    &e,
	}
}

// consume runs a consumer on a bus of its own.
func consume(t *testing.T, c relay.ConsumerConfig) (*relay.InProcess, *relay.Consumer, *running) {
	t.Helper()
	b := relay.NewInProcess()
	c.Bus = b
	consumer, err := relay.NewConsumer(c)
	if err != nil {
		t.Fatal(err)
	}
	run := start(t, consumer.Run)
	t.Cleanup(func() {
		run.stop()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, consumer, run
}

// publish sends deliveries side by side and returns a channel with the result of each.
func publish(b *relay.InProcess, deliveries ...eventstore.Delivery) <-chan error {
	results := make(chan error, len(deliveries))
	for _, d := range deliveries {
		go func() { results <- b.Publish(relay.LaneTopic(d.Lane), message.New(d, "")) }()
	}
	return results
}

func TestWhatArrivesTogetherIsAppliedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls [][]eventstore.Delivery
		gate := make(chan struct{})
		b, consumer, run := consume(t, relay.ConsumerConfig{Apply: func(_ context.Context, deliveries []eventstore.Delivery) error {
			calls = append(calls, deliveries)
			<-gate
			return nil
		}})
		deliveries := make([]eventstore.Delivery, 0, 64)
		for i, stream := range streams(64) {
			deliveries = append(deliveries, delivery(stream, eventstore.Position(i+1)))
		}
		results := publish(b, deliveries[0])
		synctest.Wait()
		rest := publish(b, deliveries[1:]...)
		synctest.Wait()
		if len(calls) != 1 || len(results)+len(rest) != 0 {
			t.Fatalf("%d calls, %d acknowledged before Apply returned", len(calls), len(results)+len(rest))
		}
		gate <- struct{}{}
		synctest.Wait()
		if len(calls) != 2 || len(calls[1]) != 63 || len(results) != 1 || len(rest) != 0 {
			t.Fatalf("%d calls, then %d and %d acknowledged", len(calls), len(results), len(rest))
		}
		gate <- struct{}{}
		synctest.Wait()
		for range len(rest) {
			if err := <-rest; err != nil {
				t.Error(err)
			}
		}
		got := slices.Concat(calls...)
		slices.SortFunc(got, func(a, b eventstore.Delivery) int { return int(a.Position) - int(b.Position) })
		if diff := cmp.Diff(deliveries, got); diff != "" {
			t.Errorf("(-sent +applied):\n%s", diff)
		}
		if got := consumer.Status(); got != (relay.ConsumerStatus{Applied: 64}) {
			t.Errorf("status %+v", got)
		}
		run.end(t)
	})
}

func TestAnApplyThatFailsIsRepeatedAndNothingAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		var calls [][]eventstore.Delivery
		b, consumer, run := consume(t, relay.ConsumerConfig{Apply: func(_ context.Context, deliveries []eventstore.Delivery) error {
			failing := down.Load() // first: it orders what follows after the test's reading of calls
			calls = append(calls, deliveries)
			if failing {
				return errDown
			}
			return nil
		}})
		results := publish(b, delivery("order-1", 1))
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(results) != 0 {
			t.Fatalf("Publish returned %v", <-results)
		}
		if n := len(calls); n < 300 || n > 1000 {
			t.Errorf("%d calls in an hour", n)
		}
		for _, call := range calls[1:] {
			if diff := cmp.Diff(calls[0], call); diff != "" {
				t.Fatalf("another call brought other deliveries:\n%s", diff)
			}
		}
		down.Store(false)
		if err := <-results; err != nil {
			t.Error(err)
		}
		if got := consumer.Status(); got.Applied != 1 || got.Failures != uint64(len(calls)-1) {
			t.Errorf("status %+v after %d calls", got, len(calls))
		}
		run.end(t)
	})
}

func TestWhatIsHeldAtTheEndComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(64)
		b := relay.NewInProcess()
		r, err := relay.New(relay.Config{Name: "main", Ledger: source, Bus: b})
		if err != nil {
			t.Fatal(err)
		}
		write(t, source, 0, 50)
		relaying := start(t, r.Run)
		consumer, err := relay.NewConsumer(relay.ConsumerConfig{Bus: b, Apply: func(context.Context, []eventstore.Delivery) error { return errDown }})
		if err != nil {
			t.Fatal(err)
		}
		run := start(t, consumer.Run)
		time.Sleep(time.Minute)
		run.end(t)
		synctest.Wait()
		if got := r.Status(); got.Position != 0 || got.Published != 0 {
			t.Errorf("status %+v, although nothing was applied", got)
		}
		seen := newView(source)
		consumer, err = relay.NewConsumer(relay.ConsumerConfig{Bus: b, Apply: func(_ context.Context, deliveries []eventstore.Delivery) error {
			for _, d := range deliveries {
				if err := seen.apply(d); err != nil {
					t.Error(err)
				}
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		run = start(t, consumer.Run)
		time.Sleep(time.Minute)
		if err := seen.complete(); err != nil {
			t.Error(err)
		}
		relaying.end(t)
		run.end(t)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestUnreadableMessagesAreRejected(t *testing.T) {
	wrongLane := delivery("order-1", 1)
	wrongLane.Lane = (wrongLane.Lane + 1) % eventstore.DefaultLanes
	noSuchLane := delivery("order-1", 1)
	noSuchLane.Event, noSuchLane.Lane = nil, eventstore.DefaultLanes
	large := delivery("order-1", 1)
	large.Event.Data = make([]byte, message.MaxBody)
	bodies := map[string][]byte{
		"not JSON":       []byte("Erika Mustermann"),
		"another lane":   message.New(wrongLane, "").Payload,
		"no such lane":   message.New(noSuchLane, "").Payload,
		"left elsewhere": message.New(large, "").Payload,
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var applied, tries int
				var reason error
				var log strings.Builder
				b, consumer, run := consume(t, relay.ConsumerConfig{
					Apply: func(_ context.Context, deliveries []eventstore.Delivery) error {
						applied += len(deliveries)
						return nil
					},
					Reject: func(_ context.Context, m *watermill.Message, err error) error {
						if tries++; tries < 3 {
							return errDown
						}
						reason = err
						return nil
					},
					Log: slog.New(slog.NewTextHandler(&log, nil)),
				})
				if err := b.Publish(relay.LaneTopic(0), watermill.NewMessage("m", body)); err != nil {
					t.Error(err)
				}
				if err := b.Publish(relay.LaneTopic(delivery("order-1", 1).Lane), message.New(delivery("order-1", 1), "")); err != nil {
					t.Error(err)
				}
				if reason == nil || tries != 3 || applied != 1 {
					t.Errorf("reason %v, %d tries, %d applied", reason, tries, applied)
				}
				if got := consumer.Status(); got.Rejected != 1 || got.Applied != 1 {
					t.Errorf("status %+v", got)
				}
				run.end(t)
				if strings.Contains(log.String(), "Erika") {
					t.Errorf("the log quotes the message:\n%s", log.String())
				}
			})
		})
	}
	t.Run("into the log by default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			b, consumer, run := consume(t, relay.ConsumerConfig{
				Apply: func(context.Context, []eventstore.Delivery) error { return errors.New("called") },
				Log:   slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err := b.Publish(relay.LaneTopic(0), watermill.NewMessage("m-7", []byte("Erika Mustermann"))); err != nil {
				t.Error(err)
			}
			if got := consumer.Status(); got.Rejected != 1 {
				t.Errorf("status %+v", got)
			}
			run.end(t)
			if s := log.String(); !strings.Contains(s, "m-7") || strings.Contains(s, "Erika") {
				t.Errorf("log:\n%s", s)
			}
		})
	})
}

func TestAnEventLeftInTheLedgerIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(64)
		e := eventstore.Event{ID: uuid.New(), Type: "t.v1", Metadata: []byte(`{}`), Data: make([]byte, 2*message.MaxBody)}
		if _, err := source.Append(t.Context(), "order-1", eventstore.NoStream, []eventstore.Event{e}); err != nil {
			t.Fatal(err)
		}
		want := source.public()[0]
		d := eventstore.Delivery{Source: source.ID, Lane: eventstore.Lane("order-1", 64), Position: want.Position, Event: &want}
		other := want
		other.ID = uuid.New()
		announced := d
		announced.Event = &other
		source.reading = errDown // for a while

		var applied []eventstore.Delivery
		var rejected error
		b, _, run := consume(t, relay.ConsumerConfig{
			Ledger: source,
			Apply:  func(_ context.Context, deliveries []eventstore.Delivery) error { applied = deliveries; return nil },
			Reject: func(_ context.Context, _ *watermill.Message, err error) error { rejected = err; return nil },
		})
		results := publish(b, d)
		time.Sleep(time.Minute)
		source.set(func() { source.reading = nil })
		if err := <-results; err != nil {
			t.Fatal(err)
		}
		if len(applied) != 1 || !reflect.DeepEqual(applied[0], d) {
			t.Error("what was applied is not what the ledger holds")
		}
		if err := <-publish(b, announced); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(rejected, message.ErrMismatch) {
			t.Errorf("rejected for %v", rejected)
		}

		// At the end a fetch under way is given up.
		source.set(func() { source.reading = errDown })
		results = publish(b, d)
		time.Sleep(time.Second)
		run.end(t)
		if err := <-results; err == nil {
			t.Error("acknowledged what was not applied")
		}
	})
}

// ending is a subscriber whose first subscriptions fail or end at once.
type ending struct {
	watermill.Subscriber
	failures int
}

func (s *ending) Subscribe(ctx context.Context, topic string) (<-chan *watermill.Message, error) {
	s.failures--
	switch {
	case s.failures < 0:
		return s.Subscriber.Subscribe(ctx, topic)
	case s.failures%2 == 0:
		return nil, errDown
	}
	c := make(chan *watermill.Message)
	close(c)
	return c, nil
}

func TestAConsumerSubscribesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := relay.NewInProcess()
		applied := 0
		c, err := relay.NewConsumer(relay.ConsumerConfig{
			Bus:   &ending{Subscriber: b, failures: 5},
			Lanes: 1,
			Apply: func(context.Context, []eventstore.Delivery) error { applied++; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		run := start(t, c.Run)
		d := delivery("order-1", 1)
		d.Lane = 0
		if err := <-publish(b, d); err != nil || applied != 1 {
			t.Errorf("%d applied, error %v", applied, err)
		}
		run.end(t)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestLanesOfOneTopicShareASubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(4)
		write(t, source, 0, 100)
		seen := newView(source)
		topic := func(int) string { return "all" }
		b, consumer, run := consume(t, relay.ConsumerConfig{Lanes: 4, Topic: topic, Apply: func(_ context.Context, deliveries []eventstore.Delivery) error {
			for _, d := range deliveries {
				if err := seen.apply(d); err != nil {
					t.Error(err)
				}
			}
			return nil
		}})
		r, err := relay.New(relay.Config{Name: "main", Ledger: source, Bus: b, Topic: topic})
		if err != nil {
			t.Fatal(err)
		}
		relaying := start(t, r.Run)
		time.Sleep(10 * time.Second)
		relaying.end(t)
		run.end(t)
		if err := seen.complete(); err != nil {
			t.Error(err)
		}
		if got := consumer.Status(); got.Applied != uint64(100+seen.ticks) {
			t.Errorf("status %+v", got)
		}
	})
}

func TestAConsumerNeedsItsParts(t *testing.T) {
	apply := func(context.Context, []eventstore.Delivery) error { return nil }
	b := relay.NewInProcess()
	for _, c := range []relay.ConsumerConfig{{Apply: apply}, {Bus: b}, {Bus: b, Apply: apply, Lanes: -1}, {Bus: b, Apply: apply, Lanes: message.MaxLanes + 1}} {
		if _, err := relay.NewConsumer(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// What the ledger does not have is rejected when Apply can do nothing with it, and the others do not wait for it. What is
// of another ledger is rejected in any case.
func TestWhatTheLedgerDoesNotHaveIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(eventstore.DefaultLanes)
		write(t, l, 0, 3)
		stored := l.public()
		true1 := func(i int) eventstore.Delivery {
			e := stored[i]
			return eventstore.Delivery{
				Source: l.ID, Incarnation: l.Incarnation, Lane: eventstore.Lane(e.Stream, l.Lanes), Position: e.Position, Event: &e,
			}
		}
		ahead, forged, later, foreign := true1(0), true1(1), true1(1), true1(1)
		ahead.Position, ahead.Event.Position = 1_000, 1_000
		forged.Event.ID = uuid.New()
		later.Incarnation += 7
		foreign.Source = uuid.New()
		bad := map[uuid.UUID]bool{forged.Event.ID: true}
		errLacking := errors.New("the ledger lacks something")
		var applied []eventstore.Position
		var reasons []string
		b, consumer, run := consume(t, relay.ConsumerConfig{
			Ledger: l, Source: l.ID,
			Suspect: func(err error) bool { return errors.Is(err, errLacking) },
			Reject: func(_ context.Context, _ *watermill.Message, reason error) error {
				reasons = append(reasons, reason.Error())
				return nil
			},
			Apply: func(_ context.Context, deliveries []eventstore.Delivery) error {
				for _, d := range deliveries {
					if d.Position > 100 || bad[d.Event.ID] || d.Incarnation > l.Incarnation {
						return errLacking
					}
				}
				for _, d := range deliveries {
					applied = append(applied, d.Position)
				}
				return nil
			},
		})
		results := publish(b, true1(0), ahead, forged, later, foreign, true1(2))
		for range 6 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		run.end(t)
		slices.Sort(applied)
		if want := []eventstore.Position{stored[0].Position, stored[2].Position}; !slices.Equal(applied, want) {
			t.Errorf("applied are %v, want %v", applied, want)
		}
		slices.Sort(reasons)
		if got := strings.Join(reasons, "\n"); len(reasons) != 4 || strings.Count(got, "has not come as far") != 2 || !strings.Contains(got, "another ledger") || !strings.Contains(got, "does not hold") {
			t.Errorf("rejected because of\n%s", got)
		}
		if s := consumer.Status(); s.Rejected != 4 || s.Applied != 2 || s.Failures == 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// On a bus to which others may send, what is said to stand behind the end of the ledger is rejected and not applied, though
// nothing is missing before it. While the ledger cannot be asked it waits.
func TestNothingBehindTheEndIsBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(eventstore.DefaultLanes)
		write(t, l, 0, 2)
		stored := l.public()
		honest := func(i int) eventstore.Delivery {
			e := stored[i]
			return eventstore.Delivery{
				Source: l.ID, Incarnation: l.Incarnation, Lane: eventstore.Lane(e.Stream, l.Lanes), Position: e.Position, Event: &e,
			}
		}
		event, tick, incarnation, old := honest(0), honest(0), honest(0), honest(1)
		event.Position = stored[1].Position + 1
		event.Event.ID, event.Event.Position = uuid.New(), event.Position
		tick.Position, tick.Event = 1_000_000, nil
		incarnation.Incarnation++
		old.Incarnation, old.Position = old.Incarnation-1, 1_000
		old.Event.Position = old.Position // of an incarnation that had come farther: it is for Apply to know
		var applied []eventstore.Position
		b, consumer, run := consume(t, relay.ConsumerConfig{
			Ledger: l, Source: l.ID, Shared: true,
			Apply: func(_ context.Context, deliveries []eventstore.Delivery) error {
				for _, d := range deliveries {
					applied = append(applied, d.Position)
				}
				return nil
			},
		})
		l.set(func() { l.reading = errDown })
		results := publish(b, honest(0), event, tick, incarnation, old)
		time.Sleep(time.Minute)
		if len(applied) > 0 || len(results) > 0 {
			t.Errorf("while the ledger cannot be asked, %v are applied and %d messages acknowledged", applied, len(results))
		}
		l.set(func() { l.reading = nil })
		for range 5 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		// What it knows it does not ask again.
		l.set(func() { l.reading = errDown })
		if err := <-publish(b, honest(1)); err != nil {
			t.Error(err)
		}
		run.end(t)
		slices.Sort(applied)
		if want := []eventstore.Position{stored[0].Position, stored[1].Position, 1_000}; !slices.Equal(applied, want) {
			t.Errorf("applied are %v, want %v", applied, want)
		}
		if s := consumer.Status(); s.Rejected != 3 || s.Applied != 3 {
			t.Errorf("status %+v", s)
		}
	})
}
