package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// An Order is the row of an order.
type Order struct {
	BusinessUnit  string
	ID            uuid.UUID
	Source        uuid.UUID // the ledger that its events come from
	Number        string
	Status        domain.Status
	StatusSince   time.Time // when what led to the status happened
	Kind          domain.Kind
	Channel       string
	Customer      string // by whose value the buyer is known, see [domain.Party.Customer]; empty: nobody knows
	PurchaseOrder string
	Currency      string
	Total         domain.Decimal // of what is not cancelled
	Country       string         // that the goods go to
	Submitted     time.Time      // when it happened, not when the ledger took it
	Updated       time.Time      // when the newest event happened
	Revision      uint64         // of the newest event
	Position      eventstore.Position
	Epoch         uint32
	Promised      string // day on which all that is wanted is promised; empty while some of it is not
	Left          bool   // the order lives in another ledger, as the history in this one says
}

const orderColumns = "business_unit, order_id, source, number, status, status_since, kind, channel, customer, " +
	"purchase_order, currency, total, country, submitted, updated, revision, position, epoch, promised, has_left"

// fields are the addresses that a row of orderColumns is read into.
func (o *Order) fields() []any {
	return []any{
		&o.BusinessUnit, &o.ID, &o.Source, &o.Number, &o.Status, (*moment)(&o.StatusSince), &o.Kind, &o.Channel, &o.Customer,
		&o.PurchaseOrder, &o.Currency, (*amount)(&o.Total), &o.Country, (*moment)(&o.Submitted), (*moment)(&o.Updated),
		&o.Revision, &o.Position, &o.Epoch, &o.Promised, &o.Left,
	}
}

// values are what a row of orderColumns is written from.
func (o *Order) values() []any {
	return []any{
		o.BusinessUnit, o.ID[:], o.Source[:], o.Number, string(o.Status), micros(o.StatusSince), string(o.Kind), o.Channel, o.Customer,
		o.PurchaseOrder, o.Currency, o.Total.String(), o.Country, micros(o.Submitted), micros(o.Updated),
		int64(o.Revision), int64(o.Position), int64(o.Epoch), o.Promised, flag(o.Left),
	}
}

// selectOrder finds an order of a business unit in every ledger that holds it.
const selectOrder = `SELECT ` + orderColumns + `, fold_version, folded FROM orders WHERE business_unit = $1 AND order_id = $2 ORDER BY source`

// Order returns an order of a business unit and its whole folded state, or [ErrNotFound]. Where several ledgers hold the
// order, [domain.Claim.Over] chooses.
func (v *Views) Order(ctx context.Context, businessUnit string, id uuid.UUID) (Order, domain.Order, error) {
	row, folded, err := v.readOrder(ctx, businessUnit, id)
	switch {
	case err != nil:
		return Order{}, domain.Order{}, fmt.Errorf("reading order %s: %w", id, err)
	case folded == nil:
		return Order{}, domain.Order{}, ErrNotFound
	}
	o, err := domain.DecodeOrder(folded)
	if err != nil {
		return Order{}, domain.Order{}, fmt.Errorf("reading order %s: %w", id, err)
	}
	return row, o, nil
}

// readOrder returns an order's row and its folded state as it is stored; nil: there is none.
func (v *Views) readOrder(ctx context.Context, businessUnit string, id uuid.UUID) (row Order, folded []byte, err error) {
	rows, err := v.ask.order.QueryContext(ctx, businessUnit, id[:])
	if err != nil {
		return Order{}, nil, err
	}
	defer func() { _ = rows.Close() }() // its error is read below
	version := domain.FoldVersion
	for rows.Next() {
		var o Order
		var by int
		var state []byte
		if err := rows.Scan(append(o.fields(), &by, &state)...); err != nil {
			return Order{}, nil, err
		}
		if folded == nil || o.claim().Over(row.claim(), id) {
			row, version, folded = o, by, state
		}
	}
	if version != domain.FoldVersion {
		return Order{}, nil, fmt.Errorf("it was folded by version %d, known is %d", version, domain.FoldVersion)
	}
	return row, folded, rows.Err()
}

// claim is what decides whether the row counts where several ledgers hold the order.
func (o *Order) claim() domain.Claim {
	return domain.Claim{Ledger: o.Source, Epoch: o.Epoch, Withdrawn: o.Status == domain.StatusWithdrawn, Left: o.Left}
}
