package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
)

// MaxLimit is the largest number of rows that one query returns.
const MaxLimit = 200

// A Query chooses orders of one business unit. Fields that are empty choose all; an order must meet all the others.
// Values are compared without regard to capital letters.
type Query struct {
	BusinessUnit  string
	Number        string // for people, as typed
	Reference     string // the value of one of the order's references, or of a site's confirmation
	PurchaseOrder string
	Customer      string // an identifier of the buyer
	Site          string // that fulfils, or has fulfilled, a part of the order
	SKU           string // of any party
	Tracking      string
	Words         string // each word begins one of the above, or a word in it; words of one or two characters are compared whole
	Statuses      []domain.Status
	After         Cursor // begin after this order; zero: at the newest
	Limit         int    // 1 to MaxLimit; 0: 50
}

// A Cursor is a place in a list of orders, the newest first.
type Cursor struct {
	Submitted time.Time
	ID        uuid.UUID
	Source    uuid.UUID
}

// Cursor returns the place of the order in a list.
func (o Order) Cursor() Cursor { return Cursor{o.Submitted, o.ID, o.Source} }

// ErrTooManyWords is returned for a query of more than eight words.
var ErrTooManyWords = errors.New("a search has at most 8 words")

// Orders returns the orders that a query chooses, the newest submission first. A page that has as many orders as the
// limit may be followed by more: continue after the cursor of its last one.
func (v *Views) Orders(ctx context.Context, q Query) ([]Order, error) {
	text, args, err := q.text()
	if err != nil {
		return nil, err
	}
	rows, err := v.reader.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("listing orders: %w", err)
	}
	defer func() { _ = rows.Close() }() // its error is read below
	var orders []Order
	for rows.Next() {
		var o Order
		if err := rows.Scan(o.fields()...); err != nil {
			return nil, fmt.Errorf("listing orders: %w", err)
		}
		orders = append(orders, o)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing orders: %w", err)
	}
	return orders, nil
}

// text returns the query in SQL with its arguments.
func (q Query) text() (string, []any, error) {
	var b builder
	b.add("SELECT " + orderColumns + " FROM orders o WHERE business_unit = ").arg(q.BusinessUnit)
	for _, t := range []term{
		{kindNumber, number(q.Number)},
		{kindReference, fold(q.Reference)},
		{kindPurchaseOrder, fold(q.PurchaseOrder)},
		{kindCustomer, fold(q.Customer)},
		{kindSite, fold(q.Site)},
		{kindSKU, fold(q.SKU)},
		{kindTracking, fold(q.Tracking)},
	} {
		if t.value == "" {
			continue
		}
		b.having(q.BusinessUnit)
		b.add(" AND t.kind = ").arg(t.kind).add(" AND t.value = ").arg(t.value).add(")")
	}
	words := strings.Fields(fold(q.Words))
	if len(words) > 8 {
		return "", nil, ErrTooManyWords
	}
	for _, w := range words {
		b.having(q.BusinessUnit)
		b.add(" AND (").begins(w)
		if n := number(w); n != w {
			b.add(" OR t.kind = ").arg(kindNumber).add(" AND ").begins(n)
		}
		b.add("))")
	}
	for i, s := range q.Statuses {
		b.add([]string{" AND status IN (", ", "}[min(i, 1)]).arg(string(s))
	}
	if len(q.Statuses) > 0 {
		b.add(")")
	}
	if q.After != (Cursor{}) {
		b.add(" AND (submitted, order_id, source) < (").arg(micros(q.After.Submitted)).add(", ").
			arg(q.After.ID[:]).add(", ").arg(q.After.Source[:]).add(")")
	}
	b.add(" ORDER BY submitted DESC, order_id DESC, source DESC LIMIT ").arg(limit(q.Limit))
	return b.text.String(), b.args, nil
}

func limit(n int) int {
	if n <= 0 {
		return 50
	}
	return min(n, MaxLimit)
}

// A builder puts a query together. Values go only into its arguments.
type builder struct {
	text strings.Builder
	args []any
}

func (b *builder) add(text string) *builder {
	b.text.WriteString(text)
	return b
}

func (b *builder) arg(v any) *builder {
	b.args = append(b.args, v)
	fmt.Fprintf(&b.text, "$%d", len(b.args))
	return b
}

// having begins the condition that an order has a term.
func (b *builder) having(businessUnit string) {
	b.add(" AND (order_id, source) IN (SELECT t.order_id, t.source FROM order_terms t WHERE t.business_unit = ").arg(businessUnit)
}

// begins requires that a term begins with a word, or is it where the word is short.
func (b *builder) begins(word string) *builder {
	if len([]rune(word)) < 3 {
		return b.add("t.value = ").arg(word)
	}
	return b.add("t.value >= ").arg(word).add(" AND t.value < ").arg(word + "\U0010FFFF")
}
