package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	SKU           string // the seller's, the buyer's, or the GTIN
	Tracking      string
	Words         string // each word begins one of the above, or a word in it; words of one or two characters are compared whole
	Statuses      []domain.Status
	After         Cursor // begin after this order; zero: at the newest
	Limit         int    // 1 to MaxLimit; 0: 50
}

// A Cursor is a place in a list of orders, the newest first.
type Cursor struct {
	Submitted time.Time
	ID        uuid.UUID // of which one copy is listed, wherever the order lives
}

// Cursor returns the place of the order in a list.
func (o Order) Cursor() Cursor { return Cursor{o.Submitted, o.ID} }

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

// text returns the query in SQL with its arguments. It begins at the table that leaves least to look at, which SQLite
// would not find by itself: the terms of one value, of one word, or the statuses; CROSS JOIN keeps it there.
func (q Query) text() (string, []any, error) {
	words := strings.Fields(fold(q.Words))
	if len(words) > 8 {
		return "", nil, ErrTooManyWords
	}
	slices.SortFunc(words, func(a, b string) int { return len(b) - len(a) })
	exact := q.exact()
	b := builder{unit: q.BusinessUnit, after: q.After, limit: pageSize(q.Limit)}
	b.add("SELECT o." + strings.ReplaceAll(orderColumns, ", ", ", o.") + " FROM ")
	at := "t."
	switch {
	case len(exact) > 0:
		b.add("order_terms t CROSS JOIN orders o WHERE ").term("t.", exact[0]).add(" AND o.order_id = t.order_id AND o.source = t.source")
		exact = exact[1:]
	case len(words) > 0:
		b.add("(SELECT DISTINCT submitted, order_id, source FROM order_terms WHERE ").word("", words[0])
		b.add(") t CROSS JOIN orders o WHERE o.order_id = t.order_id AND o.source = t.source")
		words = words[1:]
	case len(q.Statuses) > 1:
		b.statuses(q.Statuses).add(" t CROSS JOIN orders o WHERE o.order_id = t.order_id AND o.source = t.source")
	default:
		at = "o."
		b.add("orders o WHERE o.business_unit = ").arg(q.BusinessUnit)
	}
	b.add(notDouble("o."))
	for _, t := range exact {
		b.add(" AND EXISTS (SELECT 1 FROM order_terms u WHERE ").term("u.", t)
		b.add(" AND u.submitted = t.submitted AND u.order_id = t.order_id AND u.source = t.source)")
	}
	for _, w := range words {
		b.add(" AND (o.order_id, o.source) IN (SELECT u.order_id, u.source FROM order_terms u WHERE ").word("u.", w).add(")")
	}
	for i, s := range q.Statuses {
		b.add([]string{" AND o.status IN (", ", "}[min(i, 1)]).arg(string(s))
	}
	if len(q.Statuses) > 0 {
		b.add(")")
	}
	b.page(at)
	return b.text.String(), b.args, nil
}

// exact returns the terms that an order must have.
func (q Query) exact() []term {
	all := []term{
		{kindNumber, number(q.Number)},
		{kindTracking, fold(q.Tracking)},
		{kindPurchaseOrder, fold(q.PurchaseOrder)},
		{kindReference, fold(q.Reference)},
		{kindCustomer, fold(q.Customer)},
		{kindSKU, fold(q.SKU)},
		{kindSite, fold(q.Site)},
	}
	return slices.DeleteFunc(all, func(t term) bool { return t.value == "" })
}

// pageSize is how many rows a limit stands for.
func pageSize(limit int) int {
	if limit <= 0 {
		return 50
	}
	return min(limit, MaxLimit)
}

// A builder puts a query together. Values go only into its arguments.
type builder struct {
	unit  string
	after Cursor
	limit int

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

// term requires that a row of order_terms is a term.
func (b *builder) term(at string, t term) *builder {
	return b.add(at + "business_unit = ").arg(b.unit).add(" AND " + at + "value = ").arg(t.value).add(" AND " + at + "kind = ").arg(t.kind)
}

// word requires that the term in a row of order_terms begins with a word, or with the order number that it may mean.
func (b *builder) word(at, word string) *builder {
	b.add(at + "business_unit = ").arg(b.unit).add(" AND (")
	b.begins(at, word)
	if n := number(word); n != word {
		b.add(" OR " + at + "kind = ").arg(kindNumber).add(" AND ")
		b.begins(at, n)
	}
	return b.add(")")
}

// begins requires that a term begins with a word, or is it where the word is short.
func (b *builder) begins(at, word string) {
	if len([]rune(word)) < 3 {
		b.add(at + "value = ").arg(word)
		return
	}
	b.add(at + "value >= ").arg(word).add(" AND " + at + "value < ").arg(word + "\U0010FFFF")
}

// statuses adds a table of the places of the newest orders in each status.
func (b *builder) statuses(statuses []domain.Status) *builder {
	for i, s := range statuses {
		b.add([]string{"(", " UNION "}[min(i, 1)])
		b.add("SELECT * FROM (SELECT o.submitted, o.order_id, o.source FROM orders o WHERE o.business_unit = ").arg(b.unit)
		b.add(" AND o.status = ").arg(string(s)).add(notDouble("o.")).page("o.").add(fmt.Sprintf(") AS s%d", i))
	}
	return b.add(")")
}

// page chooses the newest of what has not been shown yet.
func (b *builder) page(at string) *builder {
	if b.after != (Cursor{}) {
		b.add(" AND (" + at + "submitted, " + at + "order_id) < (").arg(micros(b.after.Submitted)).add(", ").arg(b.after.ID[:]).add(")")
	}
	b.add(" ORDER BY " + at + "submitted DESC, " + at + "order_id DESC, " + at + "source DESC LIMIT ")
	return b.arg(b.limit)
}
