package domain

import "strings"

// A Folder folds stored events one after another. What it comes to is what [DecodeEvent] and [Evolve] come to, in a
// fraction of the time: it changes its own order, where Evolve has to leave every one that it was given as it was.
//
// The zero Folder has seen no event. A Folder belongs to one goroutine.
type Folder struct {
	order  Order
	shared bool // somebody has been given the order

	coder coder
	text  strings.Builder // keeps the strings of several events
}

// room is how much text is kept together, unless an event has more of it.
const room = 1 << 10

// Add adds the next event, which is given as to DecodeEvent and fails as there. The order is then as before. Data is
// not kept.
func (f *Folder) Add(typ string, data []byte) error {
	if f.text.Cap()-f.text.Len() < len(data)+len(padding) {
		f.text = strings.Builder{}
		f.text.Grow(max(room, len(data)+len(padding)))
	}
	e, err := decodeEvent(typ, data, &f.coder, &f.text)
	if err != nil {
		return err
	}
	draft{&f.order, !f.shared}.evolve(e)
	return nil
}

// Order returns the order that the events so far add up to. Later events do not change it. It is meant to be asked for
// once, at the end: what is added after that costs as much as with Evolve.
func (f *Folder) Order() Order {
	f.shared = true
	return f.order
}
