package eventstore

import "github.com/google/uuid"

// A Delivery is what travels in a lane from a ledger to those who follow it: an event, or a tick that says how far
// the lane has come while it had nothing to carry. Deliveries of one lane are sent in order, at least once.
type Delivery struct {
	Source      uuid.UUID // the ledger
	Incarnation uint32
	Lane        int
	Previous    Position  // of the event before this one in the same lane; 0: there is none. A receiver that has not come so far has missed something
	Position    Position  // of the event; of a tick, the ledger's head: the lane has no event after Previous up to it
	Event       *Recorded // nil for a tick
}
