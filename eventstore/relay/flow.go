package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	pulse     = time.Second / 4 // how often it is looked whether a checkpoint is due
	saveLimit = 5 * time.Second // for one checkpoint, also the last one
	saveAgain = time.Second     // after a checkpoint that was not saved
)

// A flow is one run of an active relay: goroutines that read, publish and save, around a loop that alone touches the
// state.
type flow struct {
	relay   *Relay
	began   time.Time
	well    func() // called when reading goes well; may be called again
	state   *State
	journal *journal

	events chan eventstore.Recorded // from the reader
	failed chan error               // why the reader ended
	taken  chan taken               // from the publishers, at most one of each lane
	saved  chan error               // from the saver; there is one at a time
	saving bool
	work   sync.WaitGroup
}

// taken tells that the bus has taken what it was given in a lane: so many events.
type taken struct{ lane, events int }

func (f *flow) run(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	f.work.Go(func() { f.read(running, f.state.read) })
	err := f.loop(running)
	stop()
	f.work.Wait()
	f.last(ctx)
	return err
}

func (f *flow) read(ctx context.Context, after eventstore.Position) {
	for e, err := range f.relay.config.Ledger.Subscribe(ctx, after, eventstore.Filter{Public: true}) {
		if err != nil {
			f.failed <- err
			return
		}
		select {
		case f.events <- e:
		case <-ctx.Done():
			return
		}
	}
	f.failed <- errors.New("the ledger ended the subscription")
}

func (f *flow) loop(ctx context.Context) error {
	ticker := time.NewTicker(pulse)
	defer ticker.Stop()
	var quiet <-chan time.Time // when quiet lanes are looked for; nil: there are none
	f.relay.show(f.state, 0)
	for {
		if quiet == nil && f.state.behind() {
			quiet = time.After(f.state.tick)
		}
		events := f.events
		if f.state.Full() {
			events = nil
		}
		published := 0
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-f.failed:
			return err
		case e := <-events:
			f.well()
			f.add(ctx, e)
		case t := <-f.taken:
			f.state.Taken(t.lane, time.Now())
			f.hand(ctx, t.lane)
			published = t.events
		case <-ticker.C:
			if time.Since(f.began) > longestPause {
				f.well()
			}
		case <-quiet:
			quiet = nil
			for lane := range f.state.Lanes() {
				f.hand(ctx, lane)
			}
		case err := <-f.saved:
			f.saving = false
			if errors.Is(err, errRelieved) {
				return err
			}
			if err != nil {
				f.relay.config.Log.WarnContext(ctx, "saving the checkpoint failed, trying again", "error", err)
			}
		}
		f.save(ctx)
		f.relay.show(f.state, published)
	}
}

// add takes an event and all others that are there already, so that they travel together, then hands them out.
func (f *flow) add(ctx context.Context, e eventstore.Recorded) {
	touched := make(map[int]struct{})
	for {
		touched[f.state.Add(e)] = struct{}{}
		if f.state.Full() {
			break
		}
		select {
		case e = <-f.events:
			continue
		default:
		}
		break
	}
	for lane := range touched {
		f.hand(ctx, lane)
	}
}

// hand gives the bus what there is for a lane.
func (f *flow) hand(ctx context.Context, lane int) {
	deliveries := f.state.Next(lane, time.Now())
	if len(deliveries) == 0 {
		return
	}
	f.work.Go(func() {
		if f.relay.send(ctx, lane, deliveries) != nil {
			return
		}
		t := taken{lane: lane}
		if deliveries[0].Event != nil {
			t.events = len(deliveries)
		}
		f.taken <- t
	})
}

// save writes a checkpoint if one is due, beside the publishing, which need not wait for the disk.
func (f *flow) save(ctx context.Context) {
	if f.saving || !f.journal.retryDue(time.Now()) && !f.state.Due(time.Now()) {
		return
	}
	f.saving = true
	c := f.state.Checkpoint(time.Now())
	f.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveLimit)
		defer cancel()
		f.saved <- f.journal.save(ctx, c)
	})
}

// last writes down what the bus has taken until the end. If another relay has taken over that is refused, as it should be.
func (f *flow) last(ctx context.Context) {
	for len(f.taken) > 0 {
		t := <-f.taken
		f.state.Taken(t.lane, time.Now())
		f.relay.show(f.state, t.events)
	}
	if f.state.unsaved == 0 && !f.journal.unsure() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveLimit)
	defer cancel()
	if err := f.journal.save(ctx, f.state.Checkpoint(time.Now())); err != nil && !errors.Is(err, errRelieved) {
		f.relay.config.Log.WarnContext(ctx, "saving the last checkpoint failed, some events will be sent again", "error", err)
	}
}
