package commands

import (
	"sync"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
)

// How much memory histories take, in bytes.
const (
	maxHistories = 32 << 20 // all together
	perHistory   = 2 << 10  // one, whatever it holds
	perCommand   = 48       // each command
	perByte      = 2        // each byte of JSON: what it says is larger in memory
	weighFrom    = 16 << 10 // bytes of JSON
)

// histories remember the orders that were read last, so that the next command on one of them reads only what has
// happened since. They hold nothing but what stands in the ledger, and nobody decides before the rest is read: one that
// has fallen behind costs time alone.
//
// There are two generations: when the young one is full it becomes the old one, and what was not used since is
// forgotten. The zero histories are empty.
type histories struct {
	mu         sync.Mutex // protects the fields below, and what each history holds
	young, old map[uuid.UUID]*history
	size       int // of the young generation
}

// A history is the stream of an order from its beginning up to some event.
type history struct {
	order    domain.Order           // after that event
	commands map[uuid.UUID]struct{} // that have led to the events
	data     int                    // bytes of JSON that the order takes, at most
	weighed  int                    // bytes that it took when it was weighed last
}

func (k *history) size() int { return perHistory + perCommand*len(k.commands) + perByte*k.data }

// before returns an order as it was read last. It returns the zero order if nobody has read it, and if a command is
// among those that it has had: the answer to that one is found by reading from the beginning.
func (h *histories) before(order, command uuid.UUID) domain.Order {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.take(order)
	if k == nil {
		return domain.Order{}
	}
	h.put(order, k)
	if _, had := k.commands[command]; had {
		return domain.Order{}
	}
	return k.order
}

// add remembers what a step has taken in behind the first events of its order, of which there are so many.
func (h *histories) add(s *Step, first uint64) {
	if s.order.Events == first {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.take(s.command.Order)
	if k == nil {
		k = &history{commands: make(map[uuid.UUID]struct{})}
	}
	if first <= k.order.Events && k.order.Events < s.order.Events {
		k.order = s.order
		for _, command := range s.commands {
			k.commands[command] = struct{}{}
		}
		k.grow(s.data)
	}
	h.put(s.command.Order, k)
}

// grow notes that the order has had so many bytes of events. What later events have overwritten takes no memory: an
// order that may be twice as large as before is weighed, and loses its hold on the events that its texts come from.
func (k *history) grow(data int) {
	k.data += data
	if k.data <= 2*max(k.weighed, weighFrom) {
		return
	}
	encoded, err := domain.EncodeOrder(k.order)
	if err != nil {
		return
	}
	if order, err := domain.DecodeOrder(encoded); err == nil {
		k.order, k.data, k.weighed = order, len(encoded), len(encoded)
	}
}

// take removes the history of an order, or returns nil. It is called with mu held.
func (h *histories) take(order uuid.UUID) *history {
	if k, ok := h.young[order]; ok {
		delete(h.young, order)
		h.size -= k.size()
		return k
	}
	k := h.old[order]
	delete(h.old, order)
	return k
}

// put makes a history the one that was used last, unless it is larger than a generation. It is called with mu held.
func (h *histories) put(order uuid.UUID, k *history) {
	size := k.size()
	if size > maxHistories/2 {
		return
	}
	if h.young == nil || h.size+size > maxHistories/2 {
		h.young, h.old, h.size = make(map[uuid.UUID]*history), h.young, 0
	}
	h.young[order] = k
	h.size += size
}
