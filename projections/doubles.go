package projections

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
)

// notDouble is a condition on rows of a table that has the columns of the table doubles.
func notDouble(at string) string {
	return ` AND NOT EXISTS (SELECT 1 FROM doubles d
		WHERE d.business_unit = ` + at + `business_unit AND d.order_id = ` + at + `order_id AND d.source = ` + at + `source)`
}

// flushDoubles weighs anew the orders that the batch changes and that several ledgers hold.
func (b *batch) flushDoubles() error {
	if !b.several {
		return nil
	}
	for _, id := range b.touched() {
		unit := b.orders[id].now.row.BusinessUnit
		claims, err := b.write.claims(unit, id)
		if err == nil && len(claims) > 1 {
			err = b.write.weigh(unit, id, claims)
		}
		if err != nil {
			return fmt.Errorf("weighing order %s: %w", id, err)
		}
	}
	return nil
}

// weigh decides which of the ledgers that hold an order counts, and which of them tells each of its events.
func (w *statements) weigh(unit string, order uuid.UUID, claims []domain.Claim) error {
	winner := claims[0]
	for _, c := range claims[1:] {
		if c.Over(winner, order) {
			winner = c
		}
	}
	if _, err := w.dropDoubles.Exec(unit, order[:]); err != nil {
		return err
	}
	for _, c := range claims {
		if c == winner {
			continue
		}
		if _, err := w.addDouble.Exec(unit, order[:], c.Ledger[:]); err != nil {
			return err
		}
	}
	return w.tell(unit, order, winner.Ledger)
}

// claims returns how the ledgers hold an order. Another business unit's is another order.
func (w *statements) claims(unit string, order uuid.UUID) (claims []domain.Claim, err error) {
	rows, err := w.selectClaims.Query(order[:])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var of string
		var status domain.Status
		var c domain.Claim
		if err := rows.Scan(&of, &c.Ledger, &c.Epoch, &status, &c.Left); err != nil {
			return nil, err
		}
		if of == unit {
			c.Withdrawn = status == domain.StatusWithdrawn
			claims = append(claims, c)
		}
	}
	return claims, rows.Err()
}

// tell shows the notifications of an order that are to be told, and no others.
func (w *statements) tell(unit string, order, winner uuid.UUID) error {
	all, err := w.copies(unit, order)
	if err != nil {
		return err
	}
	tellers := all.tellers(winner)
	for ledger, history := range all {
		for r, e := range history {
			told := int64(0)
			if r < len(tellers) && tellers[r] == ledger {
				told = 1
			}
			if !e.told.Valid || e.told.Int64 == told {
				continue
			}
			if _, err := w.tellNote.Exec(told, unit, ledger[:], int64(e.position)); err != nil {
				return err
			}
		}
	}
	return nil
}

// selectCopies finds every event of an order in every ledger that holds it.
var selectCopies = `SELECT t.source, t.event_id, t.position, CASE t.type WHEN '` + (*domain.HomeMoved)(nil).Type() + `' THEN t.summary ELSE '{}' END,
	(SELECT n.told FROM notifications n WHERE n.business_unit = t.business_unit AND n.source = t.source AND n.told IN (0, 1)
		AND n.position = t.position AND n.n = 0)
	FROM timeline t WHERE t.business_unit = $1 AND t.order_id = $2 ORDER BY t.source, t.revision`

func (w *statements) copies(unit string, order uuid.UUID) (all copies, err error) {
	rows, err := w.selectCopies.Query(unit, order[:])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	all = make(copies)
	for rows.Next() {
		var ledger uuid.UUID
		var e held
		var s Summary
		if err := rows.Scan(&ledger, &e.id, &e.position, &s, &e.told); err != nil {
			return nil, err
		}
		e.home, e.from = s.Ledger, s.From
		all[ledger] = append(all[ledger], e)
	}
	return all, rows.Err()
}
