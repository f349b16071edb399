package domain

import (
	"slices"
	"unsafe"
)

// A room is memory for the lists of an order and of its events. In the zero room each list gets memory of its own.
type room struct {
	identifiers   *area[Identifier]
	facts         *area[Fact]
	allocations   *area[Allocation]
	quantities    *area[LineQuantity]
	answers       *area[LineConfirmation]
	promises      *area[Promise]
	lines         *area[OrderLine]
	fulfilments   *area[Fulfilment]
	parts         *area[Part]
	confirmations *area[Confirmation]
	shipments     *area[Shipment]
	arrivals      *area[Arrival]
	holds         *area[Hold]
	personal      *area[Sealed]
	bytes         *area[byte]
}

// reset takes back all lists, whose memory is given out again.
func (r *room) reset() {
	reset(&r.identifiers)
	reset(&r.facts)
	reset(&r.allocations)
	reset(&r.quantities)
	reset(&r.answers)
	reset(&r.promises)
	reset(&r.lines)
	reset(&r.fulfilments)
	reset(&r.parts)
	reset(&r.confirmations)
	reset(&r.shipments)
	reset(&r.arrivals)
	reset(&r.holds)
	reset(&r.personal)
	reset(&r.bytes)
}

// An area is memory for lists of one type. The nil area makes new memory for every list.
type area[T any] struct {
	all  []T // the memory, as a list of nothing
	free []T // the rest of it that has not been given out, in the same form; all of it is zero
}

func reset[T any](a **area[T]) {
	if *a == nil {
		*a = new(area[T])
	}
	used := cap((*a).all) - cap((*a).free)
	clear((*a).all[:used])
	(*a).free = (*a).all
}

// begin returns a list of nothing that may grow. Once it has, it is kept.
func (a *area[T]) begin() []T {
	if a == nil {
		return nil
	}
	return a.free
}

// chunk is how many bytes an area takes at once.
const chunk = 4 << 10

// grow returns a list with room for n more elements. It stands at the beginning of new memory.
func (a *area[T]) grow(list []T, n int) []T {
	if a == nil {
		return slices.Grow(list, n)
	}
	var element T
	list = slices.Grow(list, max(n, chunk/int(unsafe.Sizeof(element)), 2*cap(a.all)))
	a.all = list[:0]
	return list
}

// keep gives out a list that was begun.
func (a *area[T]) keep(list []T) {
	if a != nil {
		a.free = list[len(list):]
	}
}

// take gives out a list of nothing that n elements fit into.
func (a *area[T]) take(n int) []T {
	list := a.begin()
	if cap(list) < n {
		list = a.grow(nil, n)
	}
	a.keep(list[:n])
	return list[:0:n]
}
