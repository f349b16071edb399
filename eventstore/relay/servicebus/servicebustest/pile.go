package servicebustest

// A pile gives back its smallest item first. Its items remember where they lie, so that each can also be taken out
// from the middle; an item lies in at most one pile for each place that it has.
type pile[T any] struct {
	items  []T
	before func(a, b T) bool
	place  func(T) *int // where the item notes its index, plus one; zero while it is in no pile
}

func (p *pile[T]) len() int { return len(p.items) }

func (p *pile[T]) first() T { return p.items[0] }

func (p *pile[T]) push(item T) {
	p.items = append(p.items, item)
	p.put(len(p.items)-1, item)
	p.up(len(p.items) - 1)
}

func (p *pile[T]) pop() T {
	item := p.items[0]
	p.remove(item)
	return item
}

// remove reports whether the item was in the pile.
func (p *pile[T]) remove(item T) bool {
	at := *p.place(item) - 1
	if at < 0 {
		return false
	}
	last := len(p.items) - 1
	p.swap(at, last)
	var zero T
	p.items[last] = zero
	p.items = p.items[:last]
	*p.place(item) = 0
	if at < last {
		p.down(at)
		p.up(at)
	}
	return true
}

func (p *pile[T]) put(at int, item T) {
	p.items[at] = item
	*p.place(item) = at + 1
}

func (p *pile[T]) swap(i, j int) {
	a, b := p.items[i], p.items[j]
	p.put(i, b)
	p.put(j, a)
}

func (p *pile[T]) up(at int) {
	for at > 0 {
		parent := (at - 1) / 2
		if !p.before(p.items[at], p.items[parent]) {
			return
		}
		p.swap(at, parent)
		at = parent
	}
}

func (p *pile[T]) down(at int) {
	for {
		child := 2*at + 1
		if child >= len(p.items) {
			return
		}
		if child+1 < len(p.items) && p.before(p.items[child+1], p.items[child]) {
			child++
		}
		if !p.before(p.items[child], p.items[at]) {
			return
		}
		p.swap(at, child)
		at = child
	}
}
