package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// An Entry is one event of an order as its timeline shows it.
type Entry struct {
	BusinessUnit string
	Order        uuid.UUID
	Source       uuid.UUID
	Revision     uint64
	Position     eventstore.Position
	EventID      uuid.UUID
	Type         string    // the event's wire name
	Occurred     time.Time // when it happened
	Recorded     time.Time // when the ledger took it
	Actor        domain.Actor
	Status       domain.Status // after the event
	Summary      Summary
	Reason       domain.Reason
	RuleSet      string // hash of the rule set that decided; empty: none did
	RuleRow      string // its row that decided
}

const entryColumns = `business_unit, order_id, source, revision, position, event_id, type, occurred, recorded,
	actor_kind, actor, on_behalf_of, status, summary, reason_code, reason_text, rule_set, rule_row`

func (e *Entry) fields() []any {
	return []any{
		&e.BusinessUnit, &e.Order, &e.Source, &e.Revision, &e.Position, &e.EventID, &e.Type,
		(*moment)(&e.Occurred), (*moment)(&e.Recorded), &e.Actor.Kind, &e.Actor.Subject, &e.Actor.OnBehalfOf, &e.Status,
		&e.Summary, &e.Reason.Code, &e.Reason.Text, &e.RuleSet, &e.RuleRow,
	}
}

func (e *Entry) values() ([]any, error) {
	summary, err := e.Summary.encode()
	if err != nil {
		return nil, err
	}
	return []any{
		e.BusinessUnit, e.Order[:], e.Source[:], int64(e.Revision), int64(e.Position), e.EventID[:], e.Type,
		micros(e.Occurred), micros(e.Recorded), e.Actor.Kind, e.Actor.Subject, e.Actor.OnBehalfOf, string(e.Status),
		summary, e.Reason.Code, e.Reason.Text, e.RuleSet, e.RuleRow,
	}, nil
}

// Timeline returns up to limit entries of an order, from a revision on, in order. The limit is at most [MaxLimit]; 0: 50.
func (v *Views) Timeline(ctx context.Context, businessUnit string, source, order uuid.UUID, from uint64, limit int) ([]Entry, error) {
	rows, err := v.reader.QueryContext(ctx, `SELECT `+entryColumns+` FROM timeline
		WHERE business_unit = $1 AND order_id = $2 AND source = $3 AND revision >= $4 ORDER BY revision LIMIT $5`,
		businessUnit, order[:], source[:], int64(from), pageSize(limit))
	if err != nil {
		return nil, fmt.Errorf("reading the timeline of order %s: %w", order, err)
	}
	defer func() { _ = rows.Close() }() // its error is read below
	var entries []Entry
	for rows.Next() {
		var e Entry
		if err := rows.Scan(e.fields()...); err != nil {
			return nil, fmt.Errorf("reading the timeline of order %s: %w", order, err)
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the timeline of order %s: %w", order, err)
	}
	return entries, nil
}
