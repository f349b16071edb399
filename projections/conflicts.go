package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
)

// A Conflict is the row of a conflict: what one ledger's history of an order has and the one that counts does not take
// over.
type Conflict struct {
	BusinessUnit string
	Order        uuid.UUID
	Source       uuid.UUID // the ledger that the order's events come from
	Number       string    // the order's
	domain.Conflict
	Found   time.Time
	Settled time.Time     // zero: it is open
	Answer  domain.Reason // how it was settled
}

const conflictColumns = `business_unit, order_id, source, conflict, number, is_open, found, ledger, command, action, code, site,
	fulfilment, revision, settled, reason_code, reason_text`

// A ConflictQuery chooses conflicts of the orders of one business unit.
type ConflictQuery struct {
	BusinessUnit string
	All          bool           // those too that are settled, after those that are open
	After        ConflictCursor // begin after this conflict; zero: at the first
	Limit        int            // 1 to MaxLimit; 0: 50
}

// A ConflictCursor is a place in a list of conflicts.
type ConflictCursor struct {
	Open  bool
	Found time.Time
	Order uuid.UUID
	ID    string
}

// Cursor returns the place of the conflict in a list.
func (c Conflict) Cursor() ConflictCursor {
	return ConflictCursor{c.Settled.IsZero(), c.Found, c.Order, c.ID}
}

// Conflicts returns the conflicts that a query chooses, those that are open first, of each kind the newest first. What a
// ledger has found whose copy of the order does not count is left out. A page that has as many conflicts as the limit may
// be followed by more: continue after the cursor of its last one.
func (v *Views) Conflicts(ctx context.Context, q ConflictQuery) ([]Conflict, error) {
	b := builder{unit: q.BusinessUnit}
	b.add(`SELECT ` + conflictColumns + ` FROM conflicts WHERE business_unit = `).arg(q.BusinessUnit).add(notDouble("conflicts."))
	if !q.All {
		b.add(` AND is_open = 1`)
	}
	if q.After != (ConflictCursor{}) {
		b.add(` AND (is_open, found, order_id, conflict) < (`).arg(flag(q.After.Open)).add(", ").arg(micros(q.After.Found)).
			add(", ").arg(q.After.Order[:]).add(", ").arg(q.After.ID).add(")")
	}
	b.add(` ORDER BY is_open DESC, found DESC, order_id DESC, conflict DESC LIMIT `).arg(pageSize(q.Limit))
	rows, err := v.reader.QueryContext(ctx, b.text.String(), b.args...)
	if err != nil {
		return nil, fmt.Errorf("listing conflicts: %w", err)
	}
	defer func() { _ = rows.Close() }() // its error is read below
	var list []Conflict
	for rows.Next() {
		var c Conflict
		var open bool
		err := rows.Scan(&c.BusinessUnit, &c.Order, &c.Source, &c.ID, &c.Number, &open, (*moment)(&c.Found), &c.Ledger, &c.Command,
			&c.Action, &c.Code, &c.Site, &c.Fulfilment, &c.Revision, (*moment)(&c.Settled), &c.Answer.Code, &c.Answer.Text)
		if err != nil {
			return nil, fmt.Errorf("listing conflicts: %w", err)
		}
		if open {
			c.Settled = time.Time{}
		}
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing conflicts: %w", err)
	}
	return list, nil
}

// OpenConflicts returns how many conflicts of a business unit nobody has settled.
func (v *Views) OpenConflicts(ctx context.Context, businessUnit string) (uint64, error) {
	var n uint64
	err := v.reader.QueryRowContext(ctx, `SELECT count(*) FROM conflicts WHERE business_unit = $1 AND is_open = 1`+
		notDouble("conflicts."), businessUnit).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("counting conflicts: %w", err)
	}
	return n, nil
}

// conflicting returns the conflict that an event finds or settles, as its row is after it; nil: it does neither.
func conflicting(e domain.Event, entry *Entry, number string) *Conflict {
	c := &Conflict{BusinessUnit: entry.BusinessUnit, Order: entry.Order, Source: entry.Source, Number: number}
	switch e := e.(type) {
	case *domain.ConflictFound:
		c.Conflict, c.Found = e.Conflict, entry.Occurred
	case *domain.ConflictSettled:
		c.ID, c.Settled, c.Answer = e.Conflict, entry.Occurred, e.Reason
	default:
		return nil
	}
	return c
}
