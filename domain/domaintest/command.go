package domaintest

import (
	"strconv"
	"time"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
)

// Submission draws a command that submits a new order.
func Submission(t *rapid.T) domain.Command {
	key := rapid.StringMatching(`[a-z0-9]{12}`).Draw(t, "key")
	order := domain.OrderID(BusinessUnit, "tester", key)
	return command(t, order.String()[:8], domain.Order{ID: order}, submit(t))
}

// Command draws a command for an order in any state, or a submission where the order does not exist. It is well
// formed; most of what it asks for fits the order, and some does not.
func Command(t *rapid.T, o domain.Order) domain.Command {
	if !o.Exists() {
		return Submission(t)
	}
	key := strconv.FormatUint(o.Events, 10) + "/" + rapid.StringMatching(`[a-z0-9]{8}`).Draw(t, "key")
	c := command(t, key, o, action(t, o))
	if rapid.IntRange(0, 19).Draw(t, "expects") == 19 {
		revision := rapid.Uint64Range(0, o.Revision()).Draw(t, "expected")
		c.Expected = &revision
	}
	return c
}

func command(t *rapid.T, key string, o domain.Order, a domain.Action) domain.Command {
	c := domain.Command{
		ID:           domain.CommandID(o.ID, "tester", key),
		Order:        o.ID,
		BusinessUnit: BusinessUnit,
		Actor:        domain.Actor{Kind: "person", Subject: "tester"},
		Cause:        domain.Cause{Correlation: "day-1"},
		Do:           a,
	}
	if rapid.IntRange(0, 9).Draw(t, "backfilled") == 9 {
		c.Occurred = Start.Add(-time.Duration(rapid.IntRange(1, 1000).Draw(t, "age")) * time.Hour)
	}
	return c
}

// action draws what to ask of an order that exists. Work on fulfilments comes most often, so that orders get on.
func action(t *rapid.T, o domain.Order) domain.Action {
	kinds := []func(*rapid.T, domain.Order) domain.Action{
		confirm, confirm, start, ship, ship, ship, ship, deliver, deliver, deliver,
		reportFailure, reroute, route, release, release, hold, amend, amend, cancel, takeBack, closeOrder,
		withdraw, again, conflict, // which end, lead nowhere or concern few orders
	}
	const rare = 3
	often := len(kinds) - rare
	n := rapid.IntRange(0, 4*often+rare-1).Draw(t, "action")
	if n < 4*often {
		return kinds[n%often](t, o)
	}
	return kinds[n-3*often](t, o)
}

func again(t *rapid.T, _ domain.Order) domain.Action { return submit(t) }

func submit(t *rapid.T) domain.Submit {
	s := domain.Submit{
		Details: domain.Details{
			Kind:          rapid.SampledFrom([]domain.Kind{"", domain.Standard, domain.Sample, domain.Replacement}).Draw(t, "kind"),
			Channel:       rapid.SampledFrom([]string{"", "web", "edi"}).Draw(t, "channel"),
			PurchaseOrder: rapid.StringMatching(`(PO-[0-9]{4})?`).Draw(t, "purchase order"),
			Currency:      rapid.SampledFrom([]string{"EUR", "JPY", "USD"}).Draw(t, "currency"),
			Parties:       domain.Parties{Buyer: party(t)},
			Terms:         terms(t),
		},
		Lines:    rapid.SliceOfN(rapid.Custom(line), 1, 4).Draw(t, "lines"),
		Personal: sealed(t),
	}
	if rapid.Bool().Draw(t, "ships elsewhere") {
		s.Parties.ShipTo = domain.Party{Country: rapid.SampledFrom([]string{"AT", "BR", "JP"}).Draw(t, "country")}
	}
	if rapid.IntRange(0, 3).Draw(t, "adjusted") == 3 {
		s.Adjustments = adjustments(t)
		s.Taxes = []domain.Tax{{Category: "S", Amount: amount(t)}}
	}
	if rapid.IntRange(0, 19).Draw(t, "settled") == 19 {
		s.Channel, s.Settled = domain.ChannelImport, true
	}
	return s
}

func party(t *rapid.T) domain.Party {
	return domain.Party{
		Identifiers: []domain.Identifier{{Scheme: "customer", Value: rapid.StringMatching(`[1-9][0-9]{3}`).Draw(t, "customer")}},
		Country:     rapid.SampledFrom([]string{"DE", "FR", "US"}).Draw(t, "country"),
	}
}

func terms(t *rapid.T) domain.Terms {
	return domain.Terms{
		Payment:          rapid.SampledFrom([]string{"", "", "", "30 days", Advance}).Draw(t, "payment"),
		CompleteDelivery: rapid.IntRange(0, 5).Draw(t, "complete") == 5,
		Priority:         rapid.IntRange(0, 9).Draw(t, "priority"),
	}
}

func line(t *rapid.T) domain.Line {
	l := domain.Line{
		SKU: rapid.SampledFrom([]string{
			"lens", "lens", "frame", "frame", "case", "cloth", OnlyAt + "B", OnlyAt + "C", Nowhere, Dubious, Bad,
		}).Draw(t, "sku"),
		Quantity: quantity(t),
		Price:    price(t),
	}
	if rapid.IntRange(0, 3).Draw(t, "adjusted") == 3 {
		l.Adjustments = adjustments(t)
	}
	if rapid.Bool().Draw(t, "dated") {
		l.Requested = day(t)
	}
	return l
}

// quantity draws mostly small whole numbers, some fractions and some that are large enough to be shared by sites.
func quantity(t *rapid.T) domain.Decimal {
	return rapid.OneOf(
		rapid.Map(rapid.Int64Range(1, 10), domain.Whole),
		rapid.Map(rapid.Int64Range(90, 450), domain.Whole),
		rapid.Map(rapid.StringMatching(`[1-9]\.[0-9]{1,3}`), domain.MustDecimal),
	).Draw(t, "quantity")
}

func amount(t *rapid.T) domain.Decimal {
	return rapid.Map(rapid.StringMatching(`[1-9][0-9]{0,3}(\.[0-9]{1,4})?`), domain.MustDecimal).Draw(t, "amount")
}

func price(t *rapid.T) domain.Price {
	p := domain.Price{Amount: amount(t)}
	if rapid.IntRange(0, 4).Draw(t, "per") == 4 {
		base := domain.Whole(rapid.SampledFrom([]int64{10, 100, 1000}).Draw(t, "base"))
		p.BaseQuantity = &base
	}
	return p
}

func adjustments(t *rapid.T) []domain.Adjustment {
	return []domain.Adjustment{{
		Kind:   rapid.SampledFrom([]string{domain.Allowance, domain.Charge}).Draw(t, "adjustment"),
		Amount: amount(t),
	}}
}

func day(t *rapid.T) domain.Date {
	n := rapid.IntRange(0, 60).Draw(t, "day")
	return domain.Date{Day: Start.AddDate(0, 0, n).Format(time.DateOnly)}
}

func sealed(t *rapid.T) domain.Sealed {
	if rapid.Bool().Draw(t, "impersonal") {
		return domain.Sealed{}
	}
	return domain.Sealed{Key: "key-1", Data: rapid.SliceOfN(rapid.Byte(), 28, 40).Draw(t, "sealed")}
}

func reason(t *rapid.T) domain.Reason {
	return domain.Reason{Code: rapid.SampledFrom([]string{"asked", "broken", "late"}).Draw(t, "reason")}
}

// lineOf draws a line's id, now and then one that does not exist.
func lineOf(t *rapid.T, o domain.Order) string {
	return strconv.Itoa(1 + seldomBeyond(t, len(o.Lines), "line"))
}

// fulfilmentOf draws a fulfilment's id, mostly one that is live, now and then one that does not exist.
func fulfilmentOf(t *rapid.T, o domain.Order) string {
	var live []string
	for _, f := range o.Fulfilments {
		if f.Live() {
			live = append(live, f.ID)
		}
	}
	if len(live) > 0 && rapid.IntRange(0, 9).Draw(t, "live") < 8 {
		return rapid.SampledFrom(live).Draw(t, "fulfilment")
	}
	return "f" + strconv.Itoa(1+seldomBeyond(t, len(o.Fulfilments), "fulfilment"))
}

// seldomBeyond draws a number below n, and n itself one time in twenty.
func seldomBeyond(t *rapid.T, n int, label string) int {
	if n == 0 || rapid.IntRange(0, 19).Draw(t, label+" unknown") == 19 {
		return n
	}
	return rapid.IntRange(0, n-1).Draw(t, label)
}

// quantities draws some of the parts of a fulfilment, at times more than there is.
func quantities(t *rapid.T, o domain.Order, fulfilment string, left func(domain.Part) domain.Decimal) []domain.LineQuantity {
	f := o.Fulfilment(fulfilment)
	if f == nil || rapid.Bool().Draw(t, "all") {
		return nil
	}
	var lines []domain.LineQuantity
	for _, p := range f.Parts {
		if q := left(p); q.Sign() > 0 && rapid.IntRange(0, 3).Draw(t, "named") > 0 {
			lines = append(lines, domain.LineQuantity{Line: p.Line, Quantity: some(t, q)})
		}
	}
	return lines
}

// some draws a quantity that is q, less, or now and then more.
func some(t *rapid.T, q domain.Decimal) domain.Decimal {
	switch rapid.IntRange(0, 9).Draw(t, "some") {
	case 0, 1, 2, 3, 4:
		return q
	case 5:
		return quantity(t)
	}
	if part, err := q.Mul(domain.MustDecimal("0.5")); err == nil && part.Scale() <= 6 {
		return part
	}
	return q
}

func amend(t *rapid.T, o domain.Order) domain.Action {
	a := domain.Amend{Reason: reason(t)}
	n := rapid.IntRange(0, 7).Draw(t, "amend")
	if n < 5 {
		change := domain.LineChange{Line: lineOf(t, o)}
		if n < 3 {
			q := domain.Decimal{}
			if rapid.IntRange(0, 5).Draw(t, "out") < 5 {
				q = quantity(t)
			}
			change.Quantity = &q
		}
		if n == 3 {
			d := day(t)
			change.Requested = &d
		}
		if n == 4 {
			p := price(t)
			change.Price = &p
		}
		a.Lines = []domain.LineChange{change}
	}
	switch n {
	case 2, 5:
		a.Add = []domain.Line{line(t)}
	case 6:
		p := party(t)
		a.ShipTo, a.Personal = &p, sealed(t)
	case 7:
		terms := terms(t)
		a.Terms = &terms
	}
	return a
}

func hold(t *rapid.T, _ domain.Order) domain.Action {
	return domain.PlaceHold{Reason: reason(t), Role: rapid.SampledFrom([]string{"", "finance", "quality"}).Draw(t, "role")}
}

func release(t *rapid.T, o domain.Order) domain.Action {
	if len(o.Holds) == 0 || rapid.IntRange(0, 3).Draw(t, "unnamed") == 3 {
		return domain.Release{}
	}
	return domain.Release{Hold: rapid.SampledFrom(o.Holds).Draw(t, "hold").ID, Reason: reason(t)}
}

func cancel(t *rapid.T, o domain.Order) domain.Action {
	c := domain.Cancel{Reason: reason(t)}
	if l := o.Line(lineOf(t, o)); l != nil && l.Active().Sign() > 0 && rapid.IntRange(0, 3).Draw(t, "part") > 0 {
		c.Lines = []domain.LineQuantity{{Line: l.ID, Quantity: some(t, l.Active())}}
	}
	return c
}

func site(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "", "", "A", "B", "C", "D"}).Draw(t, "site")
}

func route(t *rapid.T, _ domain.Order) domain.Action {
	return domain.Route{Site: site(t), Reason: reason(t)}
}

func reroute(t *rapid.T, o domain.Order) domain.Action {
	return domain.Reroute{Fulfilment: fulfilmentOf(t, o), Site: site(t), Reason: reason(t)}
}

func confirm(t *rapid.T, o domain.Order) domain.Action {
	c := domain.Confirm{Fulfilment: fulfilmentOf(t, o)}
	switch rapid.IntRange(0, 7).Draw(t, "outcome") {
	case 0:
		c.Outcome, c.Reason = domain.Refuses, reason(t)
		return c
	case 1, 2:
		c.Outcome = domain.AcceptsWithChanges
	default:
		c.Outcome = domain.Accepts
	}
	for i, q := range quantities(t, o, c.Fulfilment, unshipped) {
		l := domain.LineConfirmation{Line: q.Line}
		switch {
		case c.Outcome == domain.AcceptsWithChanges && i == 0:
			l.Cancelled, l.Reason = q.Quantity, reason(t)
		case rapid.IntRange(0, 9).Draw(t, "backordered") == 9:
			l.Backordered = q.Quantity
		default:
			l.Promises = []domain.Promise{{Quantity: q.Quantity, Kind: "deliver", Date: day(t)}}
		}
		c.Lines = append(c.Lines, l)
	}
	return c
}

func start(t *rapid.T, o domain.Order) domain.Action {
	return domain.StartFulfilment{Fulfilment: fulfilmentOf(t, o)}
}

func ship(t *rapid.T, o domain.Order) domain.Action {
	s := domain.Ship{Fulfilment: fulfilmentOf(t, o)}
	s.Lines = quantities(t, o, s.Fulfilment, unshipped)
	s.ID = rapid.SampledFrom([]string{"", "", "", "s1", "s2", "box-1", "box-2", "box-3"}).Draw(t, "shipment")
	return s
}

func deliver(t *rapid.T, o domain.Order) domain.Action {
	d := domain.Deliver{Fulfilment: fulfilmentOf(t, o)}
	if len(o.Fulfilments) > 0 && rapid.IntRange(0, 3).Draw(t, "any") > 0 {
		d.Fulfilment = rapid.SampledFrom(o.Fulfilments).Draw(t, "of").ID
	}
	d.Lines = quantities(t, o, d.Fulfilment, underWay)
	if f := o.Fulfilment(d.Fulfilment); f != nil && len(f.Shipments) > 0 && rapid.Bool().Draw(t, "names shipment") {
		d.Shipment = rapid.SampledFrom(f.Shipments).Draw(t, "shipment").ID
	}
	return d
}

func unshipped(p domain.Part) domain.Decimal { return minus(p.Quantity, p.Shipped) }

func underWay(p domain.Part) domain.Decimal { return minus(p.Shipped, p.Delivered) }

func minus(a, b domain.Decimal) domain.Decimal {
	d, _ := a.Sub(b)
	return d
}

func reportFailure(t *rapid.T, o domain.Order) domain.Action {
	return domain.ReportFailure{Fulfilment: fulfilmentOf(t, o), Reason: reason(t)}
}

func takeBack(t *rapid.T, o domain.Order) domain.Action {
	line := lineOf(t, o)
	q := o.Delivered(line)
	if q.IsZero() {
		q = quantity(t)
	}
	return domain.Return{Lines: []domain.LineQuantity{{Line: line, Quantity: some(t, q)}}, Reason: reason(t)}
}

func closeOrder(*rapid.T, domain.Order) domain.Action { return domain.Close{} }

func withdraw(t *rapid.T, _ domain.Order) domain.Action {
	return domain.Withdraw{Winner: "ledger-2", Reason: reason(t)}
}

// conflict settles a conflict, or finds one, now and then one that is known.
func conflict(t *rapid.T, o domain.Order) domain.Action {
	if len(o.Conflicts) > 0 && rapid.IntRange(0, 3).Draw(t, "settle") > 0 {
		return domain.Settle{Conflict: "c" + strconv.Itoa(1+seldomBeyond(t, len(o.Conflicts), "conflict")), Reason: reason(t)}
	}
	c := domain.Conflict{Ledger: "ledger-2", Revision: rapid.Uint64Range(0, 50).Draw(t, "revision")}
	if rapid.Bool().Draw(t, "reached") {
		c.Site, c.Fulfilment = rapid.SampledFrom(Sites).Draw(t, "site"), "f1"
	} else {
		c.Command, c.Action, c.Code = rapid.StringMatching(`[0-9a-f]{1,2}`).Draw(t, "of command"), "ship", "over_shipment"
	}
	return domain.RecordConflict{Conflict: c}
}
