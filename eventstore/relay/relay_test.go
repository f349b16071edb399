package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/eventstore/relay"
	"github.com/orderledger/orderledger/internal/message"
)

var errDown = errors.New("down")

// running is something with a Run method, under way.
type running struct {
	stop func()
	err  chan error
}

func start(t *testing.T, run func(context.Context) error) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{stop: cancel, err: make(chan error, 1)}
	go func() { r.err <- run(ctx) }()
	t.Cleanup(func() { cancel() })
	return r
}

// end stops it and waits.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.err; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

// A bus is a publisher that hands deliveries straight to a view, and can be made to fail.
type bus struct {
	view *view

	mu    sync.Mutex // protects what follows
	calls map[string]int
	// fault is asked before and after each message is delivered; an error it returns is that of Publish.
	fault func(topic string, delivered bool) error
	wrong error // what the view has found
}

func newBus(v *view) *bus {
	return &bus{view: v, calls: make(map[string]int), fault: func(string, bool) error { return nil }}
}

func (b *bus) Publish(topic string, messages ...*watermill.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls[topic]++
	for _, m := range messages {
		if err := b.fault(topic, false); err != nil {
			return err
		}
		d, _, err := message.Decode(m.Payload)
		if err == nil {
			err = b.view.apply(d)
		}
		if err != nil && b.wrong == nil {
			b.wrong = err
		}
		if err := b.fault(topic, true); err != nil {
			return err
		}
	}
	return nil
}

func (b *bus) Close() error { return nil }

func (b *bus) set(fault func(topic string, delivered bool) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = fault
}

func (b *bus) check(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wrong != nil {
		t.Error(b.wrong)
	}
	if err := b.view.complete(); err != nil {
		t.Error(err)
	}
}

func newRelay(t *testing.T, store eventstore.Store, publisher watermill.Publisher) *relay.Relay {
	t.Helper()
	r, err := relay.New(relay.Config{Name: "main", Ledger: store, Bus: publisher, Region: "eu"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARelayPublishesWhatIsThereAndWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(8)
		b := newBus(newView(source))
		write(t, source, 0, 300)
		r := newRelay(t, source, b)
		run := start(t, r.Run)
		synctest.Wait()
		b.check(t)
		write(t, source, 300, 310)
		synctest.Wait()
		b.check(t)
		events := source.public()
		head := events[len(events)-1].Position
		if got := r.Status(); !got.Active || got.Position != head || got.Read != head || got.Pending != 0 || got.Behind != 0 || got.Published != 310 {
			t.Errorf("status %+v", got)
		}
		run.end(t)
		if got := r.Status(); got.Active {
			t.Errorf("status %+v after the end", got)
		}

		// It goes on where it stopped.
		write(t, source, 310, 320)
		run = start(t, newRelay(t, source, b).Run)
		synctest.Wait()
		b.check(t)
		run.end(t)
		if b.view.twice != 0 {
			t.Errorf("%d events came twice", b.view.twice)
		}
	})
}

func TestAnIdleLedgerIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(8)
		b := newBus(newView(source))
		run := start(t, newRelay(t, source, b).Run)
		time.Sleep(time.Minute)
		if len(b.calls) != 0 || source.checkpoints("main") != 0 {
			t.Errorf("an empty ledger: calls %v, %d checkpoints", b.calls, source.checkpoints("main"))
		}
		write(t, source, 0, 1)
		time.Sleep(time.Hour)
		run.end(t)
		b.check(t)
		if b.view.ticks != 7 || source.checkpoints("main") != 1 {
			t.Errorf("one event: %d ticks, %d checkpoints, want 7 and 1", b.view.ticks, source.checkpoints("main"))
		}
	})
}

// TestATrickleOfEvents has one event come each second: that costs the ledger few checkpoints, and who stands by sees
// that the relay is well although events always wait for the next one.
func TestATrickleOfEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(8)
		b := newBus(newView(source))
		one, two := newRelay(t, source, b), newRelay(t, source, b)
		first := start(t, one.Run)
		write(t, source, 0, 1)
		time.Sleep(time.Second)
		second := start(t, two.Run)
		for i := range 3600 {
			write(t, source, 1+i, 2+i)
			time.Sleep(time.Second)
			// A relay learns that another one has come when it saves its next checkpoint.
			if i > 10 && one.Status().Active == two.Status().Active {
				t.Fatalf("active after %d s: %v and %v", i, one.Status().Active, two.Status().Active)
			}
		}
		if n := source.checkpoints("main"); n > 3600/10+5 {
			t.Errorf("%d checkpoints in an hour", n)
		}
		if b.view.twice > 12 {
			t.Errorf("%d events came twice", b.view.twice)
		}
		active, other := first, second
		if two.Status().Active {
			active, other = second, first
		}
		write(t, source, 3601, 3602)
		synctest.Wait()
		before := source.checkpoints("main")
		active.end(t)
		if n := source.checkpoints("main"); n != before+1 {
			t.Errorf("%d checkpoints at the end, want one", n-before)
		}
		other.end(t)
		b.check(t)
	})
}

func TestABusThatFailsStopsTheRelayOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(4)
		b := newBus(newView(source))
		b.fault = func(string, bool) error { return errDown }
		r := newRelay(t, source, b)
		run := start(t, r.Run)
		write(t, source, 0, 50)
		time.Sleep(time.Hour)
		got := r.Status()
		if got.Pending != 50 || got.Behind < time.Hour || got.Position != 0 || got.Failures == 0 {
			t.Errorf("status %+v", got)
		}
		if got.Failures > 4*(3600/5+20) {
			t.Errorf("%d tries in an hour", got.Failures)
		}
		if source.checkpoints("main") != 0 {
			t.Error("a checkpoint of nothing")
		}
		b.set(func(string, bool) error { return nil })
		time.Sleep(10 * time.Second)
		b.check(t)
		run.end(t)
	})
}

func TestAnOutageOfTheBusIsTwoLinesInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(64)
		b := newBus(newView(source))
		b.fault = func(string, bool) error { return errDown }
		var log bytes.Buffer
		r, err := relay.New(relay.Config{Name: "main", Ledger: source, Bus: b, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		run := start(t, r.Run)
		write(t, source, 0, 1_000) // in all lanes
		time.Sleep(time.Hour)
		b.set(func(string, bool) error { return nil })
		time.Sleep(time.Minute)
		b.check(t)
		run.end(t)
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 3 || !strings.Contains(lines[0], "relaying") ||
			!strings.Contains(lines[1], `msg="failed, trying again"`) || !strings.Contains(lines[1], "doing=publishing error=down") ||
			!strings.Contains(lines[2], `msg="goes on after an outage"`) || !strings.Contains(lines[2], "lasted=1h0m") {
			t.Errorf("the log is\n%s", log.String())
		}
	})
}

func TestABusThatFailsAndRepeatsAtRandomLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(8)
		source.chainless = true // so that the chain goes through the checkpoints
		b := newBus(newView(source))
		faults, pauses := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
		b.fault = func(string, bool) error {
			if faults.IntN(50) == 0 {
				return errDown
			}
			return nil
		}
		for i := range 20 { // with a restart in between
			run := start(t, newRelay(t, source, b).Run)
			write(t, source, 100*i, 100*i+100)
			time.Sleep(time.Duration(pauses.IntN(300)) * time.Millisecond)
			run.end(t)
		}
		run := start(t, newRelay(t, source, b).Run)
		time.Sleep(time.Minute)
		run.end(t)
		b.check(t)
		if b.view.twice == 0 {
			t.Error("nothing came twice: the test tests nothing")
		}
	})
}

func TestOneLaneThatFailsHoldsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(2)
		names := streams(2)
		b := newBus(newView(source))
		b.fault = func(topic string, _ bool) error {
			if topic == relay.LaneTopic(0) {
				return errDown
			}
			return nil
		}
		r := newRelay(t, source, b)
		run := start(t, r.Run)
		for i := range 10 {
			for _, name := range names {
				e := eventstore.Event{ID: uuid.New(), Type: "t.v1"}
				if _, err := source.Append(t.Context(), name, eventstore.Expected(i-1), []eventstore.Event{e}); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(10 * time.Second)
		if got := r.Status(); got.Position != 0 || got.Published != 10 || got.Pending != 10 {
			t.Errorf("status %+v", got)
		}
		run.end(t)
		// What the healthy lane has taken is not sent again.
		b.set(func(string, bool) error { return nil })
		run = start(t, newRelay(t, source, b).Run)
		synctest.Wait()
		run.end(t)
		b.check(t)
		if b.view.twice != 0 {
			t.Errorf("%d events came twice", b.view.twice)
		}
	})
}

func TestACrashBeforeTheCheckpointRepeatsAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(8)
		b := newBus(newView(source))
		write(t, source, 0, 10)
		run := start(t, newRelay(t, source, b).Run)
		time.Sleep(2 * time.Second)
		source.set(func() { source.before = func() error { return errDown } }) // from here on no checkpoint
		write(t, source, 10, 500)
		synctest.Wait()
		b.check(t)
		run.end(t)
		if b.view.twice != 0 || source.checkpoints("main") != 1 {
			t.Errorf("%d came twice, %d checkpoints", b.view.twice, source.checkpoints("main"))
		}
		source.set(func() { source.before = func() error { return nil } })
		write(t, source, 500, 510)
		run = start(t, newRelay(t, source, b).Run)
		synctest.Wait()
		run.end(t)
		b.check(t)
		if b.view.twice != 490 {
			t.Errorf("%d events came twice, want the 490 after the checkpoint", b.view.twice)
		}
	})
}

func TestTheLastCheckpointHasWhatTheBusTookLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(4)
		b := newBus(newView(source))
		run := start(t, newRelay(t, source, b).Run)
		stop := run.stop
		b.set(func(_ string, delivered bool) error {
			if delivered {
				stop()
				time.Sleep(time.Second) // until the relay does nothing but wait for this call
			}
			return nil
		})
		write(t, source, 0, 1)
		synctest.Wait()
		run.end(t)
		b.set(func(string, bool) error { return nil })
		run = start(t, newRelay(t, source, b).Run)
		time.Sleep(time.Minute)
		run.end(t)
		b.check(t)
		if b.view.twice != 0 {
			t.Errorf("%d events came twice", b.view.twice)
		}
	})
}

func TestCheckpointsAreTriedAgain(t *testing.T) {
	outcomes := map[string]func(source *ledger, fail func() error){
		"that were refused":          func(source *ledger, fail func() error) { source.before = fail },
		"whose outcome is not known": func(source *ledger, fail func() error) { source.after = fail },
	}
	for name, outcome := range outcomes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := newLedger(4)
				failures := 3
				outcome(source, func() error {
					if failures--; failures >= 0 {
						return errDown
					}
					return nil
				})
				b := newBus(newView(source))
				r := newRelay(t, source, b)
				run := start(t, r.Run)
				write(t, source, 0, 5)
				time.Sleep(10 * time.Second)
				if !r.Status().Active {
					t.Error("the relay took its own checkpoint for that of another")
				}
				write(t, source, 5, 10)
				run.end(t)
				before := r.Status().Published
				run = start(t, newRelay(t, source, b).Run)
				synctest.Wait()
				run.end(t)
				b.check(t)
				if b.view.twice != 0 || before > 10 {
					t.Errorf("%d events came twice, %d were published", b.view.twice, before)
				}
			})
		})
	}
}

// TestEveryLaneSoonKnowsTheHead writes now and then: within two ticks those who follow any lane know how far the ledger
// has come, and then nothing more is sent.
func TestEveryLaneSoonKnowsTheHead(t *testing.T) {
	for tick, config := range map[time.Duration]time.Duration{time.Second: 0, 20 * time.Millisecond: 20 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			source := newLedger(64)
			b := newBus(newView(source))
			r, err := relay.New(relay.Config{Name: "main", Ledger: source, Bus: b, Tick: config})
			if err != nil {
				t.Fatal(err)
			}
			run := start(t, r.Run)
			for i := range 30 {
				write(t, source, i, i+1)
				time.Sleep(2*tick + time.Millisecond)
				synctest.Wait()
				head := r.Status().Position
				b.view.mu.Lock()
				for lane := range source.Lanes {
					if seen := b.view.seen[lane]; seen != head {
						t.Errorf("tick %v: lane %d is known up to %d of %d", tick, lane, seen, head)
					}
				}
				if most := (i + 1) * (source.Lanes - 1); b.view.ticks > most {
					t.Errorf("tick %v: %d ticks were sent for %d events", tick, b.view.ticks, i+1)
				}
				b.view.mu.Unlock()
			}
			run.end(t)
		})
	}
}

func TestOfTwoRelaysOneStandsBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(4)
		b := newBus(newView(source))
		one, two := newRelay(t, source, b), newRelay(t, source, b)
		runs := map[*relay.Relay]*running{one: start(t, one.Run), two: start(t, two.Run)}
		for i := range 60 { // under load
			write(t, source, i, i+1)
			time.Sleep(time.Second)
		}
		if one.Status().Active == two.Status().Active {
			t.Fatalf("active: %v and %v", one.Status(), two.Status())
		}
		active, other := one, two
		if two.Status().Active {
			active, other = two, one
		}
		if other.Status().Published > 5 {
			t.Errorf("the one who stands by has published %d events", other.Status().Published)
		}

		time.Sleep(time.Hour) // idle: that is no reason to take over
		if other.Status().Active {
			t.Error("taken over from a relay with nothing to do")
		}

		runs[active].end(t)
		write(t, source, 60, 70)
		time.Sleep(30*time.Second - 1)
		if other.Status().Active {
			t.Error("taken over before 30 s")
		}
		time.Sleep(3 * time.Second)
		if got := other.Status(); !got.Active || got.Pending != 0 {
			t.Errorf("not taken over after 30 s: %+v", got)
		}
		b.check(t)
		runs[other].end(t)
	})
}

// slow is a bus that takes its time.
type slow struct{ *bus }

func (s slow) Publish(topic string, messages ...*watermill.Message) error {
	time.Sleep(time.Duration(len(messages)) * 100 * time.Millisecond)
	return s.bus.Publish(topic, messages...)
}

func TestARelayThatIsBehindButGoesOnIsNotRelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newLedger(1)
		b := newBus(newView(source))
		write(t, source, 0, 1000)
		one, two := newRelay(t, source, slow{b}), newRelay(t, source, slow{b})
		runs := []*running{start(t, one.Run), start(t, two.Run)}
		time.Sleep(25 * time.Second) // a batch takes ten, and ends only then
		if one.Status().Active == two.Status().Active {
			t.Fatalf("active: %v and %v", one.Status(), two.Status())
		}
		other := one
		if one.Status().Active {
			other = two
		}
		for range 80 {
			time.Sleep(time.Second)
			if other.Status().Active {
				t.Fatal("taken over from a relay that makes progress")
			}
		}
		time.Sleep(time.Minute)
		b.check(t)
		for _, run := range runs {
			run.end(t)
		}
	})
}

func TestARelayThatLostItsPlaceStandsByUnlessTheLedgerIsClosed(t *testing.T) {
	for name, reading := range map[string]error{"closed": eventstore.ErrClosed, "broken for a while": errDown} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := newLedger(4)
				b := newBus(newView(source))
				one, two := newRelay(t, source, b), newRelay(t, source, b)
				runs := []*running{start(t, one.Run), start(t, two.Run)}
				write(t, source, 0, 10)
				time.Sleep(5 * time.Second)
				source.set(func() { source.reading = reading })
				time.Sleep(time.Minute)
				if errors.Is(reading, eventstore.ErrClosed) {
					for _, run := range runs {
						if err := <-run.err; !errors.Is(err, eventstore.ErrClosed) {
							t.Errorf("Run returned %v", err)
						}
					}
					return
				}
				source.set(func() { source.reading = nil })
				write(t, source, 10, 20)
				time.Sleep(time.Minute)
				b.check(t)
				for _, run := range runs {
					run.end(t)
				}
			})
		})
	}
}

func TestACheckpointThatCannotBeReadStopsTheRelay(t *testing.T) {
	for name, e := range map[string]eventstore.Event{
		"not JSON":     {ID: uuid.New(), Type: "relay.checkpoint.v1", Data: []byte("x")},
		"another type": {ID: uuid.New(), Type: "other.v1", Data: []byte("{}")},
		"other lanes":  {ID: uuid.New(), Type: "relay.checkpoint.v1", Data: fmt.Appendf(nil, `{"chain":%q,"lanes":[1]}`, eventstore.Hash{})},
	} {
		t.Run(name, func(t *testing.T) {
			source := newLedger(4)
			if _, err := source.Append(t.Context(), "relay-main", eventstore.NoStream, []eventstore.Event{e}); err != nil {
				t.Fatal(err)
			}
			if err := newRelay(t, source, newBus(newView(source))).Run(t.Context()); !errors.Is(err, eventstore.ErrCorrupt) {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

func TestARelayNeedsItsParts(t *testing.T) {
	source := newLedger(1)
	b := newBus(newView(source))
	for _, c := range []relay.Config{{Ledger: source, Bus: b}, {Name: "x", Bus: b}, {Name: "x", Ledger: source}} {
		if _, err := relay.New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// TestTheWholeWalk is the real thing: the embedded ledger, the bus in the process, a consumer whose Apply fails now
// and then, and a relay and consumers that come and go.
func TestTheWholeWalk(t *testing.T) {
	store, err := pebblestore.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	inProcess := relay.NewInProcess()
	random := rand.New(rand.NewPCG(3, 4))
	var mu sync.Mutex // protects what follows
	seen := make(map[int]eventstore.Position)
	arrived := make(map[string][]uint64)
	count, changed := 0, make(chan struct{})
	consumer, err := relay.NewConsumer(relay.ConsumerConfig{Bus: inProcess, Apply: func(_ context.Context, deliveries []eventstore.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		if random.IntN(20) == 0 {
			return errDown
		}
		for _, d := range deliveries {
			if d.Previous > seen[d.Lane] {
				t.Errorf("gap in lane %d: previous %d, seen %d", d.Lane, d.Previous, seen[d.Lane])
			}
			if d.Event != nil && d.Position > seen[d.Lane] {
				arrived[d.Event.Stream] = append(arrived[d.Event.Stream], d.Event.Revision)
				count++
			}
			seen[d.Lane] = max(seen[d.Lane], d.Position)
		}
		close(changed)
		changed = make(chan struct{})
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	const orders, perOrder = 40, 25
	ctx, cancel := context.WithCancel(t.Context())
	var writers, parts sync.WaitGroup
	for i := range orders {
		writers.Go(func() {
			stream := fmt.Sprintf("order-%d", i)
			for n := range perOrder {
				e := eventstore.Event{ID: uuid.New(), Type: "t.v1", Data: []byte(`{}`)}
				if _, err := store.Append(t.Context(), stream, eventstore.Expected(n-1), []eventstore.Event{e}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	restarting := func(run func(context.Context) error) {
		for ctx.Err() == nil {
			ctx, stop := context.WithTimeout(ctx, 300*time.Millisecond)
			if err := run(ctx); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				t.Errorf("Run returned %v", err)
			}
			stop()
		}
	}
	parts.Go(func() { restarting(consumer.Run) })
	parts.Go(func() { restarting(newRelay(t, store, inProcess).Run) })
	writers.Wait()
	for {
		mu.Lock()
		n, next := count, changed
		mu.Unlock()
		if n == orders*perOrder {
			break
		}
		select {
		case <-next:
		case <-time.After(time.Minute):
			t.Fatalf("%d of %d events have arrived", n, orders*perOrder)
		}
	}
	cancel()
	parts.Wait()
	if err := inProcess.Close(); err != nil {
		t.Error(err)
	}
	for stream, revisions := range arrived {
		if !slices.IsSorted(revisions) || len(revisions) != perOrder {
			t.Errorf("%s arrived as %v", stream, revisions)
		}
	}
	if len(arrived) != orders {
		t.Errorf("%d orders arrived", len(arrived))
	}
}
