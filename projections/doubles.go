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

// flushDoubles decides anew which of the ledgers that hold an order counts. It is called when a ledger begins to hold it,
// and when what decides has changed.
func (b *batch) flushDoubles(o *Order) error {
	if !b.several {
		return nil
	}
	claims, err := b.claims(o.BusinessUnit, o.ID)
	if err != nil {
		return fmt.Errorf("reading which ledgers hold it: %w", err)
	}
	if len(claims) < 2 {
		return nil
	}
	winner := claims[0]
	for _, c := range claims[1:] {
		if c.Over(winner, o.ID) {
			winner = c
		}
	}
	if _, err := b.write.dropDoubles.Exec(o.BusinessUnit, o.ID[:]); err != nil {
		return err
	}
	for _, c := range claims {
		if c == winner {
			continue
		}
		if _, err := b.write.addDouble.Exec(o.BusinessUnit, o.ID[:], c.Ledger[:]); err != nil {
			return err
		}
	}
	return nil
}

// claims returns how the ledgers hold an order. Another business unit's is another order.
func (b *batch) claims(unit string, order uuid.UUID) (claims []domain.Claim, err error) {
	rows, err := b.write.selectClaims.Query(order[:])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var of string
		var status domain.Status
		var c domain.Claim
		if err := rows.Scan(&of, &c.Ledger, &c.Epoch, &status); err != nil {
			return nil, err
		}
		if of == unit {
			c.Withdrawn = status == domain.StatusWithdrawn
			claims = append(claims, c)
		}
	}
	return claims, rows.Err()
}
