package mirror

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"

	"github.com/orderledger/orderledger/eventstore"
)

// A step is one transaction: it reads and moves a state of its own, which becomes the mirror's when it is durable.
type step struct {
	state
	m      *Mirror
	tx     *sql.Tx
	insert *sql.Stmt
	buffer []byte // for hashing

	feed     bool                // the feed tells what the ledger holds
	overflow bool                // a delivery found no room
	forged   int                 // deliveries that contradict the ledger
	forgedAt eventstore.Position // the first of them
	disputed int                 // deliveries with the ledger's own event, but with another hash
}

// transact lets change move the state in a transaction. When it has returned nil, everything is durable and visible; after
// any error nothing has changed.
func (m *Mirror) transact(ctx context.Context, change func(*step) error) (err error) {
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.closed {
		return eventstore.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // a transaction is short. Letting it end keeps its outcome known
	if m.unsure {
		s, err := load(ctx, m.writer)
		if err != nil {
			return err
		}
		m.adopt(s)
		m.unsure = false
	}
	tx, err := m.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	before, _ := m.snapshot()
	s := &step{state: before, m: m, tx: tx, insert: tx.StmtContext(ctx, m.insert)}
	defer func() {
		if err != nil {
			m.unsure = true
			_ = tx.Rollback() // fails after Commit, where nothing is left to roll back
		}
	}()
	if err := change(s); err != nil {
		return err
	}
	if s.events != before.events || s.shown != before.shown {
		if _, err := tx.ExecContext(ctx, `UPDATE ledger SET events = ?, shown = ?`, int64(s.events), int64(s.shown)); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	m.adopt(s.state)
	if s.forged > 0 {
		m.log.ErrorContext(ctx, "deliveries from the bus contradict the ledger: they were forged or damaged, and are not kept",
			"deliveries", s.forged, "position", uint64(s.forgedAt))
	}
	m.noteStep(s, before)
	return nil
}

// adopt makes a state that is durable the one that readers see, and wakes those who wait for it.
func (m *Mirror) adopt(s state) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.end != m.state.end || s.shown != m.state.shown || s.identity != m.state.identity {
		close(m.moved)
		m.moved = make(chan struct{})
	}
	m.state = s
}

// hash links a record to the verified end.
func (s *step) hash(record []byte) eventstore.Hash {
	s.buffer = append(append(s.buffer[:0], s.chain[:]...), record...)
	return eventstore.ChainRecord(s.buffer)
}

// add moves the verified end to an event that links to it.
func (s *step) add(ctx context.Context, e *entry) error {
	r, err := eventstore.ParseRecord(e.record)
	if err != nil {
		return fmt.Errorf("the event at position %d: %w", e.position, err)
	}
	if r.Stream != s.tail { // an append is of one stream
		s.shown, s.shownChain = s.end, s.chain
	}
	_, err = s.insert.ExecContext(ctx, int64(e.position), eventstore.RecordStream(e.record), int64(r.Revision), e.chain[:], e.record)
	if err != nil {
		return fmt.Errorf("storing the event at position %d: %w", e.position, err)
	}
	s.end, s.chain, s.tail = e.position, e.chain, r.Stream
	s.events++
	return nil
}

// show lets readers see what is verified up to a position, up to which the ledger's appends are whole.
func (s *step) show(ctx context.Context, p eventstore.Position) error {
	e, _, err := newestAt(ctx, s.tx, min(p, maxPosition))
	if err != nil {
		return fmt.Errorf("looking for what may be shown: %w", err)
	}
	if e.position > s.shown {
		s.shown, s.shownChain = e.position, e.chain
	}
	return nil
}

// advance moves the verified end over held and waiting deliveries as far as they link. Waiting are some in the order of
// their positions; those that do not link are returned.
func (s *step) advance(ctx context.Context, waiting []entry) ([]entry, error) {
	if !s.known {
		return waiting, nil
	}
	held, some, err := s.firstHeld(ctx)
	if err != nil {
		return nil, err
	}
	moved := false
	for {
		for len(waiting) > 0 && waiting[0].position <= s.end {
			if err := s.compare(ctx, &waiting[0]); err != nil {
				return nil, err
			}
			waiting = waiting[1:]
		}
		if some && held.position <= s.end {
			moved = true
			if held, some, err = s.firstHeld(ctx); err != nil {
				return nil, err
			}
		}
		var next *entry
		arrived := false
		switch {
		case some && (len(waiting) == 0 || held.position <= waiting[0].position) && s.hash(held.record) == held.chain:
			next = &held
		case len(waiting) > 0 && (!some || waiting[0].position <= held.position) && s.hash(waiting[0].record) == waiting[0].chain:
			next, arrived = &waiting[0], true
		}
		if next == nil {
			break
		}
		if err := s.add(ctx, next); err != nil {
			return nil, err
		}
		if arrived {
			waiting = waiting[1:]
		}
	}
	if moved {
		err = s.release(ctx)
	}
	return waiting, err
}

// compare notes a delivery that was delivered before if it is not the ledger's event.
func (s *step) compare(ctx context.Context, e *entry) error {
	verified, ok, err := newestAt(ctx, s.tx, e.position)
	if err != nil {
		return err
	}
	if !ok || verified.position != e.position || e.chain != verified.chain && (e.chain != eventstore.Hash{} || !bytes.Equal(e.record, verified.record)) {
		s.dispute(e.position, 1)
	}
	return nil
}

func (s *step) dispute(at eventstore.Position, deliveries int) {
	if s.forged == 0 || at < s.forgedAt {
		s.forgedAt = at
	}
	s.forged += deliveries
}

// firstHeld returns the held delivery that comes next after the verified end.
func (s *step) firstHeld(ctx context.Context) (entry, bool, error) {
	if s.held == 0 {
		return entry{}, false, nil
	}
	return one(s.tx.QueryRowContext(ctx, `SELECT position, chain, record FROM held WHERE incarnation = ? AND position > ? ORDER BY position LIMIT 1`,
		int64(s.identity.Incarnation), int64(s.end)))
}

// hold keeps a delivery that does not link, if there is room for it.
func (s *step) hold(ctx context.Context, incarnation uint32, e *entry) error {
	if s.held >= s.m.limits.held || s.heldBytes+len(e.record) > s.m.limits.heldBytes {
		s.overflow = true
		return nil
	}
	result, err := s.tx.ExecContext(ctx, `INSERT INTO held (incarnation, position, chain, record) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		int64(incarnation), int64(e.position), e.chain[:], e.record)
	if err != nil {
		return fmt.Errorf("holding the delivery at position %d: %w", e.position, err)
	}
	n, err := result.RowsAffected()
	if n > 0 {
		s.held++
		s.heldBytes += len(e.record)
	}
	return err
}

// release lets go of held deliveries that the verified end has passed, and of those of earlier incarnations. It notes those
// that are not the ledger's events.
func (s *step) release(ctx context.Context) error {
	if s.held == 0 {
		return nil
	}
	incarnation, end := int64(s.identity.Incarnation), int64(s.end)
	var forged, disputed int
	var at sql.NullInt64
	err := s.tx.QueryRowContext(ctx, `SELECT
			count(*) FILTER (WHERE e.record IS NOT h.record OR e.chain <> h.chain),
			count(*) FILTER (WHERE e.record IS h.record AND e.chain <> h.chain),
			min(h.position) FILTER (WHERE e.record IS NOT h.record OR e.chain <> h.chain)
		FROM held h LEFT JOIN events e ON e.position = h.position
		WHERE h.incarnation = ? AND h.position <= ?`, incarnation, end).Scan(&forged, &disputed, &at)
	if err != nil {
		return fmt.Errorf("comparing what is held: %w", err)
	}
	if forged > 0 {
		s.dispute(eventstore.Position(at.Int64), forged)
		s.disputed += disputed
	}
	if _, err := s.tx.ExecContext(ctx, `DELETE FROM held WHERE incarnation < ?1 OR incarnation = ?1 AND position <= ?2`, incarnation, end); err != nil {
		return fmt.Errorf("releasing what is held: %w", err)
	}
	return s.count(ctx)
}

// count counts what is held.
func (s *step) count(ctx context.Context) error {
	return s.tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(length(record)), 0) FROM held`).Scan(&s.held, &s.heldBytes)
}
