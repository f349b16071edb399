package projections

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// A batch is what one transaction changes in the rows of one source. Events are folded in memory; an order that has
// several in a batch is written once.
type batch struct {
	source  *source
	write   *statements // in the transaction
	several bool        // as in Projector

	orders    map[uuid.UUID]*work
	entries   []Entry
	notes     []Notification
	conflicts []*Conflict
	parked    []Parked
	resumed   []uuid.UUID // parked no longer
	lanes     []eventstore.Position
	floor     eventstore.Position
	chained   eventstore.Position
	chain     eventstore.Hash
}

// work is an order before a batch and now.
type work struct {
	before, now state
	findable    bool // what it can be found by may have changed
}

func newBatch(s *source, w *statements, several bool) *batch {
	return &batch{
		source: s, write: w, several: several, orders: make(map[uuid.UUID]*work),
		lanes: slices.Clone(s.lanes), floor: s.floor, chained: s.chained, chain: s.chain,
	}
}

// pass raises the checkpoint of a lane.
func (b *batch) pass(lane int, to eventstore.Position) { b.lanes[lane] = max(b.lanes[lane], to) }

// passAll raises the checkpoint of all lanes.
func (b *batch) passAll(to eventstore.Position) {
	for lane := range b.lanes {
		b.pass(lane, to)
	}
	b.floor = max(b.floor, to)
}

// link remembers a chain hash if it is the newest.
func (b *batch) link(at eventstore.Position, chain eventstore.Hash) {
	if at > b.chained && chain != (eventstore.Hash{}) {
		b.chained, b.chain = at, chain
	}
}

// add applies an event of the ledger, unless it was applied before or its order is parked. Where events of its order are
// missing before it, they are read from the ledger.
func (b *batch) add(ctx context.Context, e *eventstore.Recorded) error {
	b.link(e.Position, e.Chain)
	order, ok := domain.StreamOrder(e.Stream)
	if !ok || b.isParked(order) {
		return nil
	}
	w, err := b.order(order)
	if err != nil {
		return err
	}
	switch next := w.now.folded.Events; {
	case e.Revision < next:
		return nil
	case e.Revision > next:
		if err := b.fetch(ctx, order, w, next, e.Position); err != nil {
			return err
		}
		if w.now.folded.Events <= e.Revision && !b.isParked(order) {
			return fmt.Errorf("fetching what order %s lacks: %w", order, ErrUnreached)
		}
		return nil
	}
	b.apply(order, w, e)
	return nil
}

// fetch applies the events of an order from a revision on, up to a position.
func (b *batch) fetch(ctx context.Context, order uuid.UUID, w *work, from uint64, until eventstore.Position) error {
	for e, err := range b.source.ledger.ReadStream(ctx, domain.Stream(order), from, eventstore.Forward) {
		if err != nil {
			return fmt.Errorf("fetching what order %s lacks: %w", order, err)
		}
		if e.Position > until {
			return nil
		}
		if e.Revision != w.now.folded.Events {
			return fmt.Errorf("fetching what order %s lacks: the ledger gave revision %d instead of %d", order, e.Revision, w.now.folded.Events)
		}
		if b.apply(order, w, &e); b.isParked(order) {
			return nil
		}
	}
	return nil
}

// retry applies what a parked order lacks, as far as its lane has come. What is left then comes as always.
func (b *batch) retry(ctx context.Context, order uuid.UUID) error {
	w, err := b.order(order)
	if err != nil {
		return err
	}
	b.resumed = append(b.resumed, order)
	return b.fetch(ctx, order, w, w.now.folded.Events, b.lanes[eventstore.Lane(domain.Stream(order), len(b.lanes))])
}

// apply applies the next event of an order, or parks the order.
func (b *batch) apply(order uuid.UUID, w *work, e *eventstore.Recorded) {
	now, c, err := apply(w.now, b.source.identity.ID, order, e)
	if err != nil {
		unit := w.now.row.BusinessUnit
		if meta, err := domain.DecodeMeta(e.Metadata); err == nil && unit == "" {
			unit = meta.BusinessUnit
		}
		b.resumed = slices.DeleteFunc(b.resumed, func(o uuid.UUID) bool { return o == order })
		b.parked = append(b.parked, Parked{unit, b.source.identity.ID, order, e.Revision, e.Position, err.Error(), false})
		return
	}
	w.now = now
	w.findable = w.findable || c.findable
	b.entries = append(b.entries, c.entry)
	b.notes = append(b.notes, c.notes...)
	if c.conflict != nil {
		b.conflicts = append(b.conflicts, c.conflict)
	}
}

func (b *batch) isParked(order uuid.UUID) bool {
	_, parked := b.source.parked[order]
	return parked && !slices.Contains(b.resumed, order) ||
		slices.ContainsFunc(b.parked, func(p Parked) bool { return p.Order == order })
}

// order returns an order as it is now, from the batch, the cache or its row.
func (b *batch) order(id uuid.UUID) (*work, error) {
	if w := b.orders[id]; w != nil {
		return w, nil
	}
	s, ok := b.source.orders.get(id)
	if !ok {
		var err error
		if s, err = b.read(id); err != nil {
			return nil, fmt.Errorf("reading the row of order %s: %w", id, err)
		}
	}
	w := &work{before: s, now: s}
	b.orders[id] = w
	return w, nil
}

func (b *batch) read(id uuid.UUID) (state, error) {
	var s state
	var folded []byte
	err := b.write.selectOrder.QueryRow(id[:], b.source.identity.ID[:]).Scan(append(s.row.fields(), &folded)...)
	if errors.Is(err, sql.ErrNoRows) {
		return state{}, nil
	}
	if err != nil {
		return state{}, err
	}
	s.folded, err = domain.DecodeOrder(folded)
	return s, err
}

// flush writes all rows and the checkpoint. Rows are sorted by key, which is the order in which tables like them.
func (b *batch) flush() error {
	if err := b.flushOrders(); err != nil {
		return err
	}
	slices.SortStableFunc(b.entries, func(x, y Entry) int { return bytes.Compare(x.Order[:], y.Order[:]) })
	if err := insertAll(b.write.entries, b.entries, (*Entry).values); err != nil {
		return fmt.Errorf("writing timelines: %w", err)
	}
	if err := insertAll(b.write.notes, b.notes, (*Notification).values); err != nil {
		return fmt.Errorf("writing notifications: %w", err)
	}
	if err := b.flushConflicts(); err != nil {
		return err
	}
	if err := b.flushDoubles(); err != nil {
		return err
	}
	if err := b.flushParked(); err != nil {
		return err
	}
	return b.flushCheckpoint()
}

// insertAll inserts rows made of a list.
func insertAll[T any](into insert, list []T, valuesOf func(*T) ([]any, error)) error {
	for chunk := range slices.Chunk(list, many) {
		var values []any
		for i := range chunk {
			row, err := valuesOf(&chunk[i])
			if err != nil {
				return err
			}
			values = append(values, row...)
		}
		if err := into.rows(values, len(chunk)); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) flushOrders() error {
	type key struct {
		unit   string
		status domain.Status
	}
	counts := make(map[key]int64)
	var added, removed []found
	for _, id := range b.touched() {
		w := b.orders[id]
		if err := b.flushOrder(w); err != nil {
			return fmt.Errorf("writing the row of order %s: %w", id, err)
		}
		counts[key{w.now.row.BusinessUnit, w.now.row.Status}]++
		if w.before.folded.Exists() {
			counts[key{w.now.row.BusinessUnit, w.before.row.Status}]--
		}
		if w.findable {
			gone, come := w.terms()
			for _, t := range gone {
				removed = append(removed, found{t, &w.now.row})
			}
			for _, t := range come {
				added = append(added, found{t, &w.now.row})
			}
		}
	}
	for k, n := range counts {
		if n == 0 {
			continue
		}
		if _, err := b.write.addCount.Exec(k.unit, b.source.identity.ID[:], string(k.status), n); err != nil {
			return fmt.Errorf("counting orders: %w", err)
		}
		if n < 0 {
			if _, err := b.write.dropCount.Exec(k.unit, b.source.identity.ID[:], string(k.status)); err != nil {
				return fmt.Errorf("counting orders: %w", err)
			}
		}
	}
	slices.SortFunc(removed, found.compare)
	for i := range removed {
		if _, err := b.write.deleteTerm.Exec(removed[i].values()...); err != nil {
			return fmt.Errorf("removing what order %s is found by: %w", removed[i].order.ID, err)
		}
	}
	slices.SortFunc(added, found.compare)
	if err := insertAll(b.write.terms, added, func(f *found) ([]any, error) { return f.values(), nil }); err != nil {
		return fmt.Errorf("writing what orders are found by: %w", err)
	}
	return nil
}

func (b *batch) flushOrder(w *work) error {
	folded, err := domain.EncodeOrder(w.now.folded)
	if err != nil {
		return err
	}
	o := &w.now.row
	if !w.before.folded.Exists() {
		_, err = b.write.insertOrder.Exec(append(o.values(), domain.FoldVersion, folded)...)
		return err
	}
	_, err = b.write.updateOrder.Exec(string(o.Status), micros(o.StatusSince), o.Total.String(), o.Country, micros(o.Updated),
		int64(o.Revision), int64(o.Position), int64(o.Epoch), o.Promised, flag(o.Left), domain.FoldVersion, folded, o.ID[:], o.Source[:])
	return err
}

// terms compares what an order could be found by with what it can be found by now.
func (w *work) terms() (gone, come []term) {
	var was []term
	if w.before.folded.Exists() {
		was = terms(&w.before.folded)
	}
	is := terms(&w.now.folded)
	for len(was) > 0 || len(is) > 0 {
		switch {
		case len(was) == 0, len(is) > 0 && is[0].compare(was[0]) < 0:
			come, is = append(come, is[0]), is[1:]
		case len(is) == 0, was[0].compare(is[0]) < 0:
			gone, was = append(gone, was[0]), was[1:]
		default:
			was, is = was[1:], is[1:]
		}
	}
	return gone, come
}

// found is a term of an order.
type found struct {
	term
	order *Order
}

const termColumns = `business_unit, value, kind, submitted, order_id, source`

func (f found) values() []any {
	return []any{f.order.BusinessUnit, f.value, f.kind, micros(f.order.Submitted), f.order.ID[:], f.order.Source[:]}
}

func (f found) compare(g found) int {
	return cmp.Or(cmp.Compare(f.order.BusinessUnit, g.order.BusinessUnit), f.term.compare(g.term))
}

// flushConflicts writes what was found and settled, in this order for each.
func (b *batch) flushConflicts() error {
	for _, c := range b.conflicts {
		var err error
		if c.Settled.IsZero() {
			_, err = b.write.findConflict.Exec(c.BusinessUnit, c.Order[:], c.Source[:], c.ID, c.Number, 1, micros(c.Found), c.Ledger,
				c.Command, c.Action, c.Code, c.Site, c.Fulfilment, int64(c.Revision), 0, "", "")
		} else {
			_, err = b.write.settleConflict.Exec(micros(c.Settled), c.Answer.Code, c.Answer.Text, c.BusinessUnit, c.Order[:], c.Source[:], c.ID)
		}
		if err != nil {
			return fmt.Errorf("writing conflict %s of order %s: %w", c.ID, c.Order, err)
		}
	}
	return nil
}

func (b *batch) flushParked() error {
	for _, order := range b.resumed {
		if _, err := b.write.deleteParked.Exec(b.source.identity.ID[:], order[:]); err != nil {
			return fmt.Errorf("resuming order %s: %w", order, err)
		}
	}
	for _, p := range b.parked {
		if _, err := b.write.upsertParked.Exec(p.Source[:], p.Order[:], p.BusinessUnit, int64(p.Revision), int64(p.Position), p.Error); err != nil {
			return fmt.Errorf("parking order %s: %w", p.Order, err)
		}
	}
	return nil
}

func (b *batch) flushCheckpoint() error {
	s := b.source
	for lane, position := range b.lanes {
		if position == s.lanes[lane] || position <= b.floor {
			continue
		}
		if _, err := b.write.updateLane.Exec(int64(position), s.identity.ID[:], int64(s.identity.Incarnation), lane); err != nil {
			return fmt.Errorf("writing the checkpoint: %w", err)
		}
	}
	if b.chained == s.chained && b.floor == s.floor {
		return nil
	}
	if _, err := b.write.updateSource.Exec(int64(b.chained), b.chain[:], int64(b.floor), s.identity.ID[:]); err != nil {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	return nil
}

// touched returns the orders that a batch changes, sorted.
func (b *batch) touched() []uuid.UUID {
	ids := make([]uuid.UUID, 0, len(b.orders))
	for id, w := range b.orders {
		if w.now.folded.Events != w.before.folded.Events {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(x, y uuid.UUID) int { return bytes.Compare(x[:], y[:]) })
	return ids
}

// adopt makes the source know what the batch has committed.
func (b *batch) adopt() {
	s := b.source
	s.lanes, s.floor, s.chained, s.chain = b.lanes, b.floor, b.chained, b.chain
	for id, w := range b.orders {
		s.orders.put(id, w.now)
	}
	for _, order := range b.resumed {
		delete(s.parked, order)
	}
	for _, p := range b.parked {
		s.parked[p.Order] = struct{}{}
	}
}
