package relay_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/relay"
)

// TestEveryHistorySurvivesEveryCrash drives the state by hand: events are written, read, published, published without
// the relay learning of it, checkpointed, and the relay is restarted from a checkpoint, all at random.
func TestEveryHistorySurvivesEveryCrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lanes := rapid.IntRange(1, 4).Draw(t, "lanes")
		source := newLedger(lanes)
		source.chainless = rapid.Bool().Draw(t, "chainless")
		seen := newView(source)
		now := time.Unix(0, 0)
		start := func(from relay.Checkpoint) *relay.State {
			s, err := relay.NewState(source.Identity, from, now)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		var saved relay.Checkpoint
		state, read := start(saved), eventstore.Position(0)
		held := make([][]eventstore.Delivery, lanes) // with the bus, which has not answered
		readSome := func(n int) {
			for e := range source.ReadAll(context.Background(), read, eventstore.Filter{}) {
				if n--; n < 0 {
					break
				}
				state.Add(e)
				read = e.Position
			}
		}
		deliver := func(lane int) {
			for _, d := range held[lane] {
				if err := seen.apply(d); err != nil {
					t.Fatal(err)
				}
			}
		}
		taken := func(lane int) {
			deliver(lane)
			held[lane] = nil
			state.Taken(lane, now)
		}
		next := func(lane int) {
			deliveries := state.Next(lane, now)
			if held[lane] != nil && deliveries != nil {
				t.Fatalf("lane %d got %v while the bus had %v", lane, deliveries, held[lane])
			}
			if deliveries != nil {
				held[lane] = deliveries
			}
		}
		save := func() { saved = state.Checkpoint(now) }
		anyLane := rapid.IntRange(0, lanes-1)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				stream := rapid.SampledFrom([]string{"order-a", "order-b", "order-c", "rules-x", "$internal", "relay-x"}).Draw(t, "stream")
				events := make([]eventstore.Event, rapid.IntRange(1, 3).Draw(t, "events"))
				for i := range events {
					events[i] = eventstore.Event{ID: uuid.New(), Type: "t.v1"}
				}
				last := eventstore.NoStream
				for e := range source.ReadStream(context.Background(), stream, 0, eventstore.Forward) {
					last = eventstore.At(e.Revision)
				}
				if _, err := source.Append(context.Background(), stream, last, events); err != nil {
					t.Fatal(err)
				}
			},
			"read":                 func(t *rapid.T) { readSome(rapid.IntRange(1, 5).Draw(t, "events")) },
			"next":                 func(t *rapid.T) { next(anyLane.Draw(t, "lane")) },
			"published":            func(t *rapid.T) { lane := anyLane.Draw(t, "lane"); next(lane); taken(lane) },
			"published in silence": func(t *rapid.T) { deliver(anyLane.Draw(t, "lane")) },
			"published in part": func(t *rapid.T) {
				if lane := anyLane.Draw(t, "lane"); len(held[lane]) > 0 {
					if err := seen.apply(held[lane][0]); err != nil {
						t.Fatal(err)
					}
				}
			},
			"save": func(*rapid.T) { save() },
			"a while": func(t *rapid.T) {
				now = now.Add(rapid.Custom(func(t *rapid.T) time.Duration {
					return time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond
				}).Draw(t, "passes"))
			},
			"crash": func(*rapid.T) {
				state, read = start(saved), saved.Position
				clear(held)
			},
		})
		readSome(1 << 30)
		for lane := range lanes {
			for next(lane); held[lane] != nil; next(lane) {
				taken(lane)
			}
		}
		if err := seen.complete(); err != nil {
			t.Fatal(err)
		}
		save()
		events := source.public()
		if len(events) > 0 && saved.Position != events[len(events)-1].Position {
			t.Fatalf("all is published, but the checkpoint stands at %d", saved.Position)
		}
	})
}

var epoch = time.Unix(1_000_000, 0)

func newState(t *testing.T, lanes int) *relay.State {
	t.Helper()
	s, err := relay.NewState(eventstore.Identity{ID: uuid.New(), Lanes: lanes}, relay.Checkpoint{}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func event(stream string, position eventstore.Position) eventstore.Recorded {
	return eventstore.Recorded{Event: eventstore.Event{ID: uuid.New(), Type: "t.v1"}, Stream: stream, Position: position}
}

// streams returns a stream for each of n lanes.
func streams(n int) []string {
	names := make([]string, n)
	for i, found := 0, 0; found < n; i++ {
		name := fmt.Sprintf("order-%d", i)
		if lane := eventstore.Lane(name, n); names[lane] == "" {
			names[lane] = name
			found++
		}
	}
	return names
}

func TestQuietLanesGetOneTickPerHead(t *testing.T) {
	s, names := newState(t, 2), streams(2)
	if got := s.Next(0, epoch.Add(time.Hour)); got != nil {
		t.Fatalf("an empty ledger sent %v", got)
	}
	s.Add(event(names[0], 5))
	s.Add(event("relay-x", 6))
	if got := s.Next(0, epoch); len(got) != 1 || got[0].Event == nil || got[0].Previous != 0 {
		t.Fatalf("next %v", got)
	}
	if got := s.Next(0, epoch.Add(time.Hour)); got != nil {
		t.Fatalf("a lane in flight got %v", got)
	}
	s.Taken(0, epoch)
	if got := s.Next(1, epoch.Add(time.Second-1)); got != nil {
		t.Fatalf("a lane quiet for less than a second got %v", got)
	}
	got := s.Next(1, epoch.Add(time.Second))
	if len(got) != 1 || got[0].Event != nil || got[0].Position != 5 || got[0].Previous != 0 || got[0].Lane != 1 {
		t.Fatalf("next %+v, want a tick at 5", got)
	}
	s.Add(event(names[1], 9)) // while the tick is under way
	if got := s.Next(1, epoch.Add(time.Second)); got != nil {
		t.Fatalf("beside a tick the lane got %v", got)
	}
	s.Taken(1, epoch.Add(time.Second))
	got = s.Next(1, epoch.Add(time.Second))
	if len(got) != 1 || got[0].Event == nil || got[0].Previous != 0 {
		t.Fatalf("next %+v, want the event at 9 after nothing", got)
	}
	s.Taken(1, epoch.Add(time.Second))
	if got = s.Next(0, epoch.Add(time.Second)); len(got) != 1 || got[0].Event != nil || got[0].Position != 9 || got[0].Previous != 5 {
		t.Fatalf("next %+v, want a tick at 9 after 5", got)
	}
	s.Taken(0, epoch.Add(time.Second))
	s.Add(event(names[0], 12))
	s.Next(0, epoch.Add(time.Second))
	s.Taken(0, epoch.Add(time.Second))
	if got = s.Next(1, epoch.Add(2*time.Second-1)); got != nil {
		t.Fatalf("a lane that had an event less than a second ago got %v", got)
	}
	if got = s.Next(1, epoch.Add(2*time.Second)); len(got) != 1 || got[0].Position != 12 || got[0].Previous != 9 {
		t.Fatalf("next %+v, want a tick at 12 after 9", got)
	}
	s.Taken(1, epoch.Add(2*time.Second))
	for lane := range s.Lanes() {
		if got := s.Next(lane, epoch.Add(time.Hour)); got != nil {
			t.Errorf("an idle ledger sent %v", got)
		}
	}
}

func TestCheckpointsAreDueAfterTenSecondsOrAThousandEvents(t *testing.T) {
	s := newState(t, 1)
	publish := func(position eventstore.Position) {
		t.Helper()
		s.Add(event("order-1", position))
		if len(s.Next(0, epoch)) != 1 {
			t.Fatal("nothing to publish")
		}
		s.Taken(0, epoch)
	}
	if s.Due(epoch.Add(time.Hour)) {
		t.Error("due without anything new")
	}
	publish(1)
	if s.Due(epoch.Add(time.Second - 1)) {
		t.Error("the first is due before a second")
	}
	if !s.Due(epoch.Add(time.Second)) {
		t.Error("the first is not due after a second")
	}
	if c := s.Checkpoint(epoch); c.Position != 1 || c.Lanes[0] != 1 {
		t.Errorf("checkpoint %+v", c)
	}
	if s.Due(epoch.Add(time.Hour)) {
		t.Error("due again without anything new")
	}
	publish(2)
	if s.Due(epoch.Add(10*time.Second - 1)) {
		t.Error("due before ten seconds")
	}
	if !s.Due(epoch.Add(10 * time.Second)) {
		t.Error("not due after ten seconds")
	}
	s.Checkpoint(epoch.Add(10 * time.Second))
	for i := range 1000 {
		if s.Due(epoch.Add(10 * time.Second)) {
			t.Fatalf("due after %d events", i)
		}
		publish(eventstore.Position(3 + i))
	}
	if !s.Due(epoch.Add(10 * time.Second)) {
		t.Error("not due after 1,000 events")
	}
}

func TestTheStateIsBounded(t *testing.T) {
	s := newState(t, 1)
	n := eventstore.Position(0)
	for ; !s.Full(); n++ {
		if n > 10_000 {
			t.Fatal("never full")
		}
		s.Add(event("order-1", n+1))
	}
	for want := eventstore.Position(0); ; {
		batch := s.Next(0, epoch)
		if len(batch) == 0 {
			if want != n {
				t.Errorf("%d events came out, %d went in", want, n)
			}
			break
		}
		if len(batch) > 100 {
			t.Fatalf("a batch of %d", len(batch))
		}
		for _, d := range batch {
			if d.Previous != want || d.Position != want+1 {
				t.Fatalf("%d after %d, want %d after %d", d.Position, d.Previous, want+1, want)
			}
			want++
		}
		s.Taken(0, epoch)
	}
	if s.Full() {
		t.Error("full and empty")
	}
	for i := range 12 {
		e := event("order-1", n+eventstore.Position(i)+1)
		e.Data = make([]byte, 1<<20)
		s.Add(e)
		if s.Full() != (i >= 7) {
			t.Fatalf("full = %v with %d MiB", s.Full(), i+1)
		}
	}
}

func TestLanesDoNotWaitForOneAnother(t *testing.T) {
	s, names := newState(t, 2), streams(2)
	s.Add(event(names[0], 1))
	s.Add(event(names[1], 2))
	s.Add(event(names[1], 3))
	s.Next(0, epoch) // the bus holds it
	if got := s.Next(1, epoch); len(got) != 2 {
		t.Fatalf("next %v", got)
	}
	s.Taken(1, epoch)
	c := s.Checkpoint(epoch)
	want := relay.Checkpoint{Lanes: []eventstore.Position{0, 3}}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("the checkpoint passed what the bus has not taken (-want +got):\n%s", diff)
	}
}

func TestACheckpointOfAnotherLedgerIsRefused(t *testing.T) {
	_, err := relay.NewState(eventstore.Identity{Lanes: 4}, relay.Checkpoint{Lanes: make([]eventstore.Position, 3)}, epoch)
	if err == nil {
		t.Error("taken")
	}
}

func TestTakenWithoutNextChangesNothing(t *testing.T) {
	s := newState(t, 1)
	s.Add(event("order-1", 1))
	s.Taken(0, epoch)
	if got := s.Next(0, epoch); len(got) != 1 {
		t.Errorf("next %v", got)
	}
}
