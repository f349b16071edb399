package simulate

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/relay"
	"github.com/orderledger/orderledger/internal/message"
)

// A topic carries a region's events to all regions, the own one included. It is a service of its own that no crash
// touches. What it was given it delivers, late perhaps, and twice perhaps; in each lane in order.
type topic struct {
	queues [][][]parcel                     // by subscriber and lane
	given  map[eventstore.Position]struct{} // what was published
}

// A parcel is a message on its way.
type parcel struct {
	body []byte
	due  time.Time
}

func newTopic(subscribers, lanes int) *topic {
	t := &topic{queues: make([][][]parcel, subscribers), given: make(map[eventstore.Position]struct{})}
	for i := range t.queues {
		t.queues[i] = make([][]parcel, lanes)
	}
	return t
}

// send gives deliveries of one lane to the bus.
func (w *world) send(from *region, deliveries []eventstore.Delivery) {
	for _, d := range deliveries {
		body := message.New(d, from.name).Payload
		for to := range from.topic.queues {
			late := time.Duration(w.chance.Int64N(int64(2 * time.Second)))
			if w.may(Delays) && w.chance.IntN(60) == 0 {
				late = time.Duration(w.chance.Int64N(int64(3 * time.Hour)))
			}
			q := &from.topic.queues[to][d.Lane]
			*q = append(*q, parcel{body, w.now.Add(late)})
		}
		if d.Event != nil {
			from.topic.given[d.Position] = struct{}{}
		}
	}
}

// receive takes what is due in some lanes, at most so many messages of each. The caller settles it, or it stays.
func (w *world) receive(from, to *region, lanes, each int) (deliveries []eventstore.Delivery, settle func()) {
	queues := from.topic.queues[to.index]
	taken := make([]int, len(queues))
	first := w.chance.IntN(len(queues))
	for i := range queues {
		lane := (first + i) % len(queues)
		for _, p := range queues[lane][:min(each, len(queues[lane]))] {
			if lanes == 0 || p.due.After(w.now) {
				break
			}
			d, whole, err := message.Decode(p.body)
			if err != nil || !whole {
				w.violated("a message that was sent cannot be read: %v", err)
				return nil, func() {}
			}
			deliveries = append(deliveries, d)
			taken[lane]++
		}
		if taken[lane] > 0 {
			lanes--
		}
	}
	return deliveries, func() {
		for lane, n := range taken {
			q := &queues[lane]
			done := (*q)[:n:n]
			*q = (*q)[n:]
			if n > 0 && w.may(Duplicates) && w.chance.IntN(12) == 0 {
				*q = append(*q, done[w.chance.IntN(n)])
			}
		}
	}
}

// A publisher drives the state of a region's relay.
type publisher struct {
	state    *relay.State
	read     eventstore.Position
	expected eventstore.Expected           // of the next checkpoint
	pending  map[int][]eventstore.Delivery // by lane: what the bus did not say that it has
}

const (
	relayName        = "bus"
	checkpointStream = "relay-" + relayName
)

func newPublisher(ctx context.Context, l *ledger, now time.Time) (*publisher, error) {
	checkpoint, err := relay.LastCheckpoint(ctx, l, relayName)
	if err != nil {
		return nil, err
	}
	state, err := relay.NewState(l.identity, checkpoint, now)
	if err != nil {
		return nil, err
	}
	return &publisher{
		state: state, read: checkpoint.Position, expected: l.last(checkpointStream), pending: make(map[int][]eventstore.Delivery),
	}, nil
}

// publish has the relay read some events, offer some lanes to the bus, and save how far it is.
func (w *world) publish(r *region, events, lanes int) {
	p := r.process.publisher
	for e, err := range r.process.ledger.ReadAll(w.ctx, p.read, eventstore.Filter{Public: true}) {
		if err != nil || events == 0 || p.state.Full() {
			break
		}
		p.state.Add(e)
		p.read = e.Position
		events--
	}
	sent := 0
	first := w.chance.IntN(p.state.Lanes())
	for i := range p.state.Lanes() {
		lane := (first + i) % p.state.Lanes()
		if p.pending[lane] == nil {
			p.pending[lane] = p.state.Next(lane, w.now)
		}
		if len(p.pending[lane]) == 0 || lanes == 0 {
			continue
		}
		lanes--
		how := w.chance.IntN(20)
		if !w.may(Duplicates) {
			how = 20
		}
		if how != 0 { // 0: the bus has not got it
			w.send(r, p.pending[lane])
			sent += len(p.pending[lane])
		}
		if how > 1 { // 1: it has, and the relay does not learn that
			p.state.Taken(lane, w.now)
			delete(p.pending, lane)
		}
	}
	if sent > 0 {
		w.note(r, "relay: %d messages to the bus", sent)
	}
	if p.state.Due(w.now) {
		w.saveCheckpoint(r)
	}
}

func (w *world) saveCheckpoint(r *region) {
	p := r.process.publisher
	c := p.state.Checkpoint(w.now)
	w.checkCheckpoint(r, c)
	data, err := json.Marshal(c)
	if err != nil {
		w.violated("the relay's checkpoint cannot be written: %v", err)
		return
	}
	event := eventstore.Event{ID: w.uuid(), Type: "relay.checkpoint.v1", Data: data}
	result, err := r.process.ledger.Append(w.ctx, checkpointStream, p.expected, []eventstore.Event{event})
	switch {
	case err == nil:
		p.expected = eventstore.At(result.Revision)
	case r.process != nil: // it is not known whether the event stands there: begin anew from what does
		if again, err := newPublisher(w.ctx, r.process.ledger, w.now); err == nil {
			r.process.publisher = again
		}
	}
}

// checkCheckpoint has the bus know everything that a checkpoint says it was given.
func (w *world) checkCheckpoint(r *region, c relay.Checkpoint) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	for _, e := range r.disk.events {
		lane := eventstore.Lane(e.Stream, len(c.Lanes))
		if _, given := r.topic.given[e.Position]; !given && !eventstore.Internal(e.Stream) && (e.Position <= c.Position || e.Position <= c.Lanes[lane]) {
			w.violated("the relay of %s saved a checkpoint behind position %d, which the bus was never given", r.name, e.Position)
			return
		}
	}
}

// uuid makes an id by chance.
func (w *world) uuid() uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(w.chance.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}
