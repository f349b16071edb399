package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/orderledger/orderledger/eventstore"
)

// CatchUp reads the ledger from the verified end to its head, in transactions of at most 1,000 events or 4 MiB, and
// checks every event against the chain. When it has returned nil, readers see everything up to the head that the ledger
// had at the call. What was held and contradicts the ledger is dropped and logged. Status shows how far it is. What was
// stored stays when it fails.
//
// It returns [ErrForeign] for another ledger, [ErrOlder] for one that has lost what the mirror has verified, and
// [ErrAltered], with the position, for one whose history is another. These stay until a person acts; what the mirror has
// verified can be read meanwhile.
//
// A ledger in a later incarnation is followed: what the mirror had before is kept in a file of its own, named after
// the incarnation, and what the ledger does not hold any more is removed; see [ErrBranched].
func (m *Mirror) CatchUp(ctx context.Context, source eventstore.Reader) error {
	if err := m.alive(ctx); err != nil {
		return err
	}
	select {
	case m.catching <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-m.closing:
		return eventstore.ErrClosed
	}
	defer func() { <-m.catching }()
	begun := m.noteBegun()
	head, err := m.catchUp(ctx, source)
	if err != nil {
		err = fmt.Errorf("mirroring ledger %s: %w", m.ledger, err)
	}
	m.noteCaughtUp(begun, head, err)
	return err
}

func (m *Mirror) catchUp(ctx context.Context, source eventstore.Reader) (eventstore.Head, error) {
	for {
		before, _ := m.snapshot() // what a head is compared with must be older than the head
		newest, err := m.newestHeld(ctx)
		if err != nil {
			return eventstore.Head{}, err
		}
		head, err := source.Head(ctx)
		if err != nil {
			return head, fmt.Errorf("reading the ledger's head: %w", err)
		}
		m.noteHead(head)
		if err := m.meet(ctx, source, before, head); err != nil {
			return head, err
		}
		err = m.read(ctx, source, head)
		if err == nil {
			err = m.settle(ctx, head, newest)
		}
		if errors.Is(err, ErrAltered) { // or a new incarnation has begun since
			if again, err := source.Head(ctx); err == nil && again.ID == m.ledger && again.Incarnation > head.Incarnation {
				continue
			}
		}
		return head, err
	}
}

// meet compares the ledger that answers with the one that is mirrored.
func (m *Mirror) meet(ctx context.Context, source eventstore.Reader, before state, head eventstore.Head) error {
	switch known := before.identity; {
	case head.ID != m.ledger:
		return fmt.Errorf("%w: ledger %s answers", ErrForeign, head.ID)
	case head.Lanes < 1 || before.known && head.Lanes != known.Lanes:
		return fmt.Errorf("%w: it has %d lanes, and had %d", ErrForeign, head.Lanes, known.Lanes)
	case !before.known:
		return m.transact(ctx, func(s *step) error { return s.identify(ctx, head.Identity) })
	case head.Incarnation < known.Incarnation:
		return fmt.Errorf("%w: it stands in incarnation %d, seen was %d", ErrOlder, head.Incarnation, known.Incarnation)
	case head.Incarnation > known.Incarnation:
		return m.branch(ctx, source, head.Identity)
	case head.Position < before.end:
		return fmt.Errorf("%w: it ends at position %d, verified was %d", ErrOlder, head.Position, before.end)
	}
	return nil
}

// identify makes an identity the mirror's.
func (s *step) identify(ctx context.Context, id eventstore.Identity) error {
	_, err := s.tx.ExecContext(ctx, `UPDATE ledger SET lanes = ?, format = ?, incarnation = ?`, int64(id.Lanes), int64(id.Format), int64(id.Incarnation))
	if err != nil {
		return fmt.Errorf("storing the ledger's identity: %w", err)
	}
	s.identity, s.known = id, true
	return nil
}

// read brings the verified end to the ledger's head.
func (m *Mirror) read(ctx context.Context, source eventstore.Reader, head eventstore.Head) error {
	from, _ := m.snapshot()
	batch := make([]eventstore.Recorded, 0, m.limits.batch)
	size := 0
	flush := func() error {
		err := m.extend(ctx, head.Incarnation, batch)
		clear(batch)
		batch, size = batch[:0], 0
		return err
	}
	for e, err := range source.ReadAll(ctx, from.end, eventstore.Filter{Public: true}) {
		if err != nil {
			return errors.Join(fmt.Errorf("reading the ledger: %w", err), flush()) // what has come need not come again
		}
		batch = append(batch, e)
		if size += eventstore.RecordSize(&e); len(batch) >= m.limits.batch || size >= m.limits.batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// extend moves the verified end over events that follow each other in the ledger, the first of them at or before the
// verified end or right after it. It returns [ErrAltered] after it has stored those before one that does not link.
func (m *Mirror) extend(ctx context.Context, incarnation uint32, events []eventstore.Recorded) error {
	if len(events) == 0 {
		return nil
	}
	var altered error
	err := m.transact(ctx, func(s *step) error {
		if s.identity.Incarnation != incarnation {
			return ErrBranched
		}
		s.feed = true
		silent := false // some events carry no hash
		for i := range events {
			e := &events[i]
			if e.Position <= s.end { // the bus was faster
				continue
			}
			if eventstore.Internal(e.Stream) || e.Position > maxPosition {
				altered = fmt.Errorf("%w: what it shows at position %d is no public event", ErrAltered, e.Position)
				break
			}
			record := eventstore.AppendRecord(make([]byte, 0, eventstore.RecordSize(e)), e)
			hash := s.hash(record)
			switch e.Chain {
			case hash:
			case eventstore.Hash{}:
				silent = true
			default:
				altered = fmt.Errorf("%w: the event at position %d does not link to position %d, which was verified", ErrAltered, e.Position, s.end)
			}
			if altered != nil {
				break
			}
			if err := s.add(ctx, &entry{e.Position, hash, record}); err != nil {
				return err
			}
		}
		if err := s.release(ctx); err != nil {
			return err
		}
		if silent && s.disputed > 0 {
			return fmt.Errorf("%w: up to position %d it does not add up to the hashes that it has sent over the bus", ErrAltered, s.end)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return altered
}

// settle compares the verified events with the ledger's head, up to which it was read, shows them, and drops the deliveries
// that were held before that although the ledger does not hold them. Newest is the last of those.
func (m *Mirror) settle(ctx context.Context, head eventstore.Head, newest int64) error {
	last, _, err := newestAt(ctx, m.reader, min(head.Position, maxPosition))
	if err != nil {
		return m.readError(ctx, err)
	}
	if head.Chain != (eventstore.Hash{}) && head.Chain != last.chain {
		return fmt.Errorf("%w: up to position %d its events do not add up to the hash of its head", ErrAltered, head.Position)
	}
	if s, _ := m.snapshot(); s.held == 0 && s.shown >= last.position {
		return nil
	}
	return m.transact(ctx, func(s *step) error {
		s.feed = true
		if err := s.show(ctx, head.Position); err != nil {
			return err
		}
		if _, err := s.advance(ctx, nil); err != nil {
			return err
		}
		if err := s.release(ctx); err != nil {
			return err
		}
		rows, err := s.tx.QueryContext(ctx, `DELETE FROM held WHERE seq <= ? AND (incarnation <> ? OR position > ?) RETURNING position`,
			newest, int64(s.identity.Incarnation), int64(min(head.Position, maxPosition)))
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // its error is read below
		for rows.Next() {
			var position int64
			if err := rows.Scan(&position); err != nil {
				return err
			}
			s.dispute(eventstore.Position(position), 1)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		return s.count(ctx)
	})
}

// newestHeld tells which delivery was held last.
func (m *Mirror) newestHeld(ctx context.Context) (seq int64, err error) {
	err = m.reader.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM held`).Scan(&seq)
	return seq, m.readError(ctx, err)
}
