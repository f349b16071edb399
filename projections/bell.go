package projections

import (
	"sync"

	"github.com/google/uuid"
)

// A bell wakes those who wait for a commit. Each has a channel of its own that holds one ring, so that nobody misses
// the last one and the projector never waits.
type bell struct {
	mu        sync.Mutex // protects the fields below
	listeners map[uuid.UUID]map[chan struct{}]struct{}
}

// everything is what those listen for who wait for any commit.
var everything = uuid.Nil

// listen returns a channel that rings after each commit which touches an order, or after any for [everything], and a
// function that ends this.
func (b *bell) listen(order uuid.UUID) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listeners == nil {
		b.listeners = make(map[uuid.UUID]map[chan struct{}]struct{})
	}
	if b.listeners[order] == nil {
		b.listeners[order] = make(map[chan struct{}]struct{})
	}
	b.listeners[order][c] = struct{}{}
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners[order], c)
		if len(b.listeners[order]) == 0 {
			delete(b.listeners, order)
		}
	}
}

// ring tells of a commit that touched orders.
func (b *bell) ring(orders []uuid.UUID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.listeners) == 0 {
		return
	}
	for _, order := range append(orders, everything) {
		for c := range b.listeners[order] {
			select {
			case c <- struct{}{}:
			default: // it has not looked since the last ring
			}
		}
	}
}
