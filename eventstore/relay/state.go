package relay

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	defaultTick     = time.Second      // a lane that long without a message gets a tick
	checkpointEvery = 10 * time.Second // at most one checkpoint in that time, as the ledger keeps them all …
	checkpointAfter = 1000             // … unless so many events were taken
	checkpointFirst = time.Second      // the first one comes sooner, so that of two relays that start at once one soon stands by

	maxBatch        = 100     // deliveries handed to the bus in one call
	maxPending      = 4_096   // events read and not yet taken by the bus
	maxPendingBytes = 8 << 20 // their metadata and data
)

// A State decides what a relay does: events of the ledger go in by Add, Next tells what the bus shall get, Taken that
// the bus has taken it, and Checkpoint how far that is. It may be used by one goroutine at a time.
//
// Lanes do not wait for one another: while one is slow, the others go on until the state is Full.
type State struct {
	source      uuid.UUID
	incarnation uint32
	lanes       []lane
	read        eventstore.Position // of the newest event added
	chain       eventstore.Hash     // of that event
	pending     int                 // events in all queues
	bytes       int                 // their size
	unsaved     int                 // events taken since the last checkpoint
	saved       time.Time           // when that was, or would have been
	tick        time.Duration       // a lane that long without a message gets a tick
}

type lane struct {
	sent  eventstore.Position // newest event that the bus has taken
	told  eventstore.Position // how far those who follow the lane know it: the same, or a later tick
	since time.Time           // when the bus last took something
	queue []pending
	busy  int // so many at the head of the queue are with the bus; for a tick, 1 with an empty queue
	tick  eventstore.Position
}

// pending is an event that waits for the bus, and the place in the ledger just before it.
type pending struct {
	event  eventstore.Recorded
	before eventstore.Position
	chain  eventstore.Hash
}

// A Checkpoint tells what the bus has taken: in each lane every event up to the position at the lane's index, and
// in all lanes every event up to Position. The zero Checkpoint stands before the first event.
type Checkpoint struct {
	Incarnation uint32                `json:"incarnation"`
	Position    eventstore.Position   `json:"position"`
	Chain       eventstore.Hash       `json:"chain"` // of the event at Position
	Lanes       []eventstore.Position `json:"lanes"`
}

// NewState returns the state of a relay that goes on from a checkpoint. It gives a lane a tick when the lane has been
// quiet for a second while the ledger went on.
func NewState(ledger eventstore.Identity, from Checkpoint, now time.Time) (*State, error) {
	if from.Lanes == nil {
		from.Lanes = make([]eventstore.Position, ledger.Lanes)
	}
	if len(from.Lanes) != ledger.Lanes {
		return nil, fmt.Errorf("the checkpoint has %d lanes, the ledger %d", len(from.Lanes), ledger.Lanes)
	}
	s := &State{
		source:      ledger.ID,
		incarnation: ledger.Incarnation,
		lanes:       make([]lane, ledger.Lanes),
		read:        from.Position,
		chain:       from.Chain,
		saved:       now.Add(checkpointFirst - checkpointEvery),
		tick:        defaultTick,
	}
	for i, sent := range from.Lanes {
		s.lanes[i] = lane{sent: sent, told: sent, since: now}
	}
	return s, nil
}

// Lanes is the number of lanes.
func (s *State) Lanes() int { return len(s.lanes) }

// Add takes the next event of the ledger and returns its lane. Events are added in the ledger's order, all that
// follow the checkpoint. One that the bus had taken by then is passed over, as is one of an internal stream.
func (s *State) Add(e eventstore.Recorded) int {
	n := eventstore.Lane(e.Stream, len(s.lanes))
	if eventstore.Internal(e.Stream) || e.Position <= s.read {
		return n
	}
	if e.Chain == (eventstore.Hash{}) {
		e.Chain = eventstore.Chain(s.chain, &e) // the ledger leaves the chain to its relay
	}
	if l := &s.lanes[n]; e.Position > l.sent {
		l.queue = append(l.queue, pending{event: e, before: s.read, chain: s.chain})
		s.pending++
		s.bytes += size(&e)
	}
	s.read, s.chain = e.Position, e.Chain
	return n
}

func size(e *eventstore.Recorded) int { return len(e.Metadata) + len(e.Data) }

// Full reports whether so much waits for the bus that no more events should be added now.
func (s *State) Full() bool { return s.pending >= maxPending || s.bytes >= maxPendingBytes }

// behind reports whether those who follow some lane do not know that it has come as far as the ledger.
func (s *State) behind() bool {
	for i := range s.lanes {
		if s.lanes[i].told < s.read {
			return true
		}
	}
	return false
}

// Next returns what the bus shall get now in a lane, in order: the events that wait, or a tick if it is time for one,
// or nothing. After it has returned something it returns nothing until
// Taken was called for the lane.
func (s *State) Next(n int, now time.Time) []eventstore.Delivery {
	l := &s.lanes[n]
	if l.busy > 0 {
		return nil
	}
	d := eventstore.Delivery{Source: s.source, Incarnation: s.incarnation, Lane: n, Previous: l.sent}
	if len(l.queue) == 0 {
		if l.told >= s.read || now.Sub(l.since) < s.tick {
			return nil
		}
		d.Position = s.read
		l.busy, l.tick = 1, s.read
		return []eventstore.Delivery{d}
	}
	l.busy = min(len(l.queue), maxBatch)
	batch := make([]eventstore.Delivery, l.busy)
	for i := range batch {
		d.Event = new(l.queue[i].event)
		d.Position = d.Event.Position
		batch[i] = d
		d.Previous = d.Position
	}
	return batch
}

// Taken notes that the bus has taken all that Next returned last for a lane.
func (s *State) Taken(n int, now time.Time) {
	l := &s.lanes[n]
	switch {
	case l.busy == 0:
		return
	case l.tick > 0:
		l.told = l.tick
	default:
		for i := range l.queue[:l.busy] {
			s.bytes -= size(&l.queue[i].event)
		}
		l.sent = l.queue[l.busy-1].event.Position
		l.told = l.sent
		l.queue = slices.Delete(l.queue, 0, l.busy)
		s.pending -= l.busy
		s.unsaved += l.busy
	}
	l.busy, l.tick, l.since = 0, 0, now
}

// Due reports whether it is time for a checkpoint: something new was taken, and the last one is ten seconds or a
// thousand events ago, or the state is a second old and there was none.
func (s *State) Due(now time.Time) bool {
	return s.unsaved >= checkpointAfter || s.unsaved > 0 && now.Sub(s.saved) >= checkpointEvery
}

// Checkpoint returns how far the bus has taken everything, and counts as the last one from now on.
func (s *State) Checkpoint(now time.Time) Checkpoint {
	s.unsaved, s.saved = 0, now
	c := Checkpoint{Incarnation: s.incarnation, Lanes: make([]eventstore.Position, len(s.lanes))}
	for i := range s.lanes {
		c.Lanes[i] = s.lanes[i].sent
	}
	c.Position, c.Chain, _ = s.published()
	return c
}

// published returns the place up to which the bus has taken all events, and the oldest event after it that waits.
func (s *State) published() (eventstore.Position, eventstore.Hash, *eventstore.Recorded) {
	position, chain := s.read, s.chain
	var oldest *eventstore.Recorded
	for i := range s.lanes {
		if q := s.lanes[i].queue; len(q) > 0 && q[0].before < position {
			position, chain, oldest = q[0].before, q[0].chain, &q[0].event
		}
	}
	return position, chain, oldest
}
