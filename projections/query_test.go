package projections_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

func TestOrder(t *testing.T) {
	l := newLedger(t)
	x := newLife(t, l, "one", func(s *domain.Submit) {
		s.PurchaseOrder = "PO-1"
		s.Parties.ShipTo.Country = "AT"
		s.Personal = domain.Sealed{Key: "k", Data: []byte("sealed")}
	}).deliver()
	v, _ := caughtUp(t, l)
	head, err := l.Head(t.Context())
	check(t, err)
	got, folded, err := v.Order(t.Context(), domaintest.BusinessUnit, x.order.ID)
	check(t, err)
	want := projections.Order{
		BusinessUnit: domaintest.BusinessUnit, ID: x.order.ID, Source: head.ID, Number: domain.Number(x.order.ID),
		Status: domain.StatusDelivered, StatusSince: x.now, Kind: domain.Standard, Channel: "web", Customer: "C-4711", PurchaseOrder: "PO-1",
		Currency: "EUR", Total: domain.MustDecimal("105"), Country: "AT",
		Submitted: domaintest.Start.Add(time.Hour), Updated: x.now, Revision: 6, Position: head.Position, Promised: "2026-03-09",
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(domain.Decimal{}), cmp.Comparer(func(a, b domain.Decimal) bool { return a == b })); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	a, err := domain.EncodeOrder(folded)
	check(t, err)
	b, err := domain.EncodeOrder(x.order)
	check(t, err)
	if string(a) != string(b) {
		t.Errorf("folded order:\n%s\nwant\n%s", a, b)
	}
	for _, key := range []struct {
		unit string
		id   uuid.UUID
	}{{"other", x.order.ID}, {domaintest.BusinessUnit, uuid.New()}} {
		if _, _, err := v.Order(t.Context(), key.unit, key.id); !errors.Is(err, projections.ErrNotFound) {
			t.Errorf("got error %v, want %v", err, projections.ErrNotFound)
		}
	}
}

func TestFindOrders(t *testing.T) {
	l := newLedger(t)
	a := newLife(t, l, "a", func(s *domain.Submit) {
		s.PurchaseOrder = "ACME 2024/118"
		s.References = []domain.Reference{{Kind: "contract", Value: "K-77"}}
		s.Parties.EndCustomer.Identifiers = []domain.Identifier{{Scheme: "gln", Value: "4012345000009"}}
		s.Lines[0].GTIN = "4012345678901"
	}).deliver()
	b := newLife(t, l, "b", func(s *domain.Submit) {
		s.PurchaseOrder = "acme 2025/7"
		s.Parties.Buyer.Identifiers = []domain.Identifier{{Scheme: "customer", Value: "C-47110"}}
		s.Lines = s.Lines[:1]
		s.Lines[0].SKU = "only-B"
	})
	v, p := caughtUp(t, l)
	c := newLife(t, l, "c", func(s *domain.Submit) { s.Lines[0].SKU = domaintest.Bad })
	moved := newLife(t, l, "d", nil)
	moved.do(domain.ReportFailure{Fulfilment: "f1", Reason: domain.Reason{Code: "fire"}})
	b.do(domain.ReportFailure{Fulfilment: "f1", Reason: domain.Reason{Code: "fire"}}) // the only site
	check(t, p.CatchUp(t.Context()))
	for name, test := range map[string]struct {
		query projections.Query
		want  []*life
	}{
		"all":                   {projections.Query{}, []*life{a, b, c, moved}},
		"number":                {projections.Query{Number: a.order.Number}, []*life{a}},
		"sloppy number":         {projections.Query{Number: strings.ToLower(strings.ReplaceAll(a.order.Number, "-", " "))}, []*life{a}},
		"reference":             {projections.Query{Reference: "k-77"}, []*life{a}},
		"site's reference":      {projections.Query{Reference: "SITE 9/" + a.order.Number[:4]}, []*life{a}},
		"purchase order":        {projections.Query{PurchaseOrder: " acme  2024/118 "}, []*life{a}},
		"customer":              {projections.Query{Customer: "c-4711"}, []*life{a, c, moved}},
		"no customer":           {projections.Query{Customer: "4012345000009"}, nil},
		"site":                  {projections.Query{Site: "A"}, []*life{a}},
		"second site":           {projections.Query{Site: "B"}, []*life{moved}},
		"sku":                   {projections.Query{SKU: "frame"}, []*life{a, c, moved}},
		"gtin":                  {projections.Query{SKU: "4012345678901"}, []*life{a}},
		"tracking":              {projections.Query{Tracking: "track-" + a.order.Number[:4]}, []*life{a}},
		"status":                {projections.Query{Statuses: []domain.Status{domain.StatusRejected}}, []*life{c}},
		"statuses":              {projections.Query{Statuses: []domain.Status{domain.StatusRejected, domain.StatusDelivered}}, []*life{a, c}},
		"customer and status":   {projections.Query{Customer: "C-4711", Statuses: []domain.Status{domain.StatusRouted}}, []*life{moved}},
		"customer and sku":      {projections.Query{Customer: "C-4711", SKU: "frame", Site: "A"}, []*life{a}},
		"customer and word":     {projections.Query{Customer: "C-4711", Words: "acme"}, []*life{a}},
		"word and status":       {projections.Query{Words: "acme", Statuses: []domain.Status{domain.StatusDelivered, domain.StatusRouted}}, []*life{a}},
		"twice a status":        {projections.Query{Statuses: []domain.Status{domain.StatusRejected, domain.StatusRejected}}, []*life{c}},
		"word":                  {projections.Query{Words: "ACM"}, []*life{a, b}},
		"short word is whole":   {projections.Query{Words: "ac"}, nil},
		"short word":            {projections.Query{Words: "7"}, []*life{b}},
		"all words count":       {projections.Query{Words: "acme 118"}, []*life{a}},
		"beginning of customer": {projections.Query{Words: "c-47"}, []*life{a, b, c, moved}},
		"end customer":          {projections.Query{Words: "40123450"}, []*life{a}},
		"beginning of number":   {projections.Query{Words: strings.ToLower(b.order.Number[:7])}, []*life{b}},
		"middle of a word":      {projections.Query{Words: "cme"}, nil},
		"no pattern":            {projections.Query{Words: "%%%"}, nil},
		"other business unit":   {projections.Query{BusinessUnit: "other"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if test.query.BusinessUnit == "" {
				test.query.BusinessUnit = domaintest.BusinessUnit
			}
			orders, err := v.Orders(t.Context(), test.query)
			check(t, err)
			got, want := map[uuid.UUID]bool{}, map[uuid.UUID]bool{}
			for _, o := range orders {
				got[o.ID] = true
			}
			for _, x := range test.want {
				want[x.order.ID] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
	_, err := v.Orders(t.Context(), projections.Query{Words: strings.Repeat("word ", 9)})
	if !errors.Is(err, projections.ErrTooManyWords) {
		t.Errorf("got error %v, want %v", err, projections.ErrTooManyWords)
	}
}

// Pages show each order once, the newest first, also where several were submitted at once.
func TestPages(t *testing.T) {
	l := newLedger(t)
	for i := range 25 {
		x := newLife(t, l, strconv.Itoa(i), nil)
		if i%3 == 0 {
			x.do(domain.Cancel{Reason: domain.Reason{Code: "change_of_mind"}})
		}
	}
	v, _ := caughtUp(t, l)
	for _, q := range []projections.Query{
		{}, {Customer: "c-4711"}, {Customer: "c-4711", SKU: "lens"}, {Words: "c-471"}, {Words: "c-471 lens"}, {Statuses: []domain.Status{domain.StatusCancelled, domain.StatusRouted}},
	} {
		q.BusinessUnit = domaintest.BusinessUnit
		q.Limit = projections.MaxLimit
		all, err := v.Orders(t.Context(), q)
		check(t, err)
		if len(all) != 25 {
			t.Fatalf("%+v: %d orders, not 25", q, len(all))
		}
		if !slices.IsSortedFunc(all, func(a, b projections.Order) int { return b.Submitted.Compare(a.Submitted) }) {
			t.Errorf("%+v: not sorted", q)
		}
		var paged []projections.Order
		q.Limit = 4
		for {
			page, err := v.Orders(t.Context(), q)
			check(t, err)
			paged = append(paged, page...)
			if len(page) < 4 {
				break
			}
			q.After = page[3].Cursor()
		}
		if !slices.Equal(all, paged) {
			t.Errorf("%+v: the pages together are not the whole list", q)
		}
	}
}

func TestTimeline(t *testing.T) {
	l := newLedger(t)
	x := newLife(t, l, "one", nil).deliver()
	held := newLife(t, l, "held", func(s *domain.Submit) { s.Terms.Payment = domaintest.Advance })
	v, _ := caughtUp(t, l)
	row, _, err := v.Order(t.Context(), domaintest.BusinessUnit, x.order.ID)
	check(t, err)
	entries, err := v.Timeline(t.Context(), domaintest.BusinessUnit, row.Source, x.order.ID, 0, 100)
	check(t, err)
	var got []string
	for i, e := range entries {
		if e.Revision != uint64(i) || e.Actor.Subject != "tester" || e.EventID == uuid.Nil || e.Recorded.IsZero() {
			t.Errorf("entry %d: %+v", i, e)
		}
		got = append(got, string(e.Status)+": "+e.Summary.String())
	}
	want := []string{
		"submitted: Order submitted with 2 lines, total 105.00\u00a0EUR.",
		"accepted: Order accepted.",
		"routed: Routed to A.",
		"confirmed: A confirmed; promised for 2026-03-09.",
		"in_fulfilment: Work begun at A.",
		"shipped: Shipped from A with DHL, tracking TRACK-" + x.order.Number[:4] + ".",
		"delivered: Delivered from A.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	if entries[1].RuleRow != "V4" || entries[1].RuleSet == "" {
		t.Errorf("the decision is missing: %+v", entries[1])
	}
	some, err := v.Timeline(t.Context(), domaintest.BusinessUnit, row.Source, x.order.ID, 2, 3)
	check(t, err)
	if diff := cmp.Diff(entries[2:5], some, cmp.Comparer(func(a, b domain.Decimal) bool { return a == b })); diff != "" {
		t.Errorf("part of the timeline (-want +got):\n%s", diff)
	}
	entries, err = v.Timeline(t.Context(), domaintest.BusinessUnit, row.Source, held.order.ID, 1, 1)
	check(t, err)
	if e := entries[0]; e.Reason.Code != "payment_awaited" || e.Summary.Role != "finance" || e.RuleRow != "V3" {
		t.Errorf("a hold: %+v", e)
	}
}

// Every event that an order may have makes a sentence.
func TestSentences(t *testing.T) {
	l := newLedger(t)
	order := domain.OrderID(domaintest.BusinessUnit, "tester", "all")
	meta := domaintest.Filled[domain.Meta]()
	meta.BusinessUnit = domaintest.BusinessUnit
	var history []domaintest.Recorded
	for _, e := range domaintest.Events() {
		switch e := e.(type) {
		case *domain.Submitted:
			e.Order, e.BusinessUnit = order, meta.BusinessUnit
		case *domain.RuleSetActivated:
			continue
		}
		history = append(history, domaintest.Recorded{Event: e, Meta: meta})
	}
	record(t, l, order, 0, history...)
	v, _ := caughtUp(t, l)
	row, _, err := v.Order(t.Context(), domaintest.BusinessUnit, order)
	check(t, err)
	entries, err := v.Timeline(t.Context(), domaintest.BusinessUnit, row.Source, order, 0, 100)
	check(t, err)
	if len(entries) != len(history) {
		t.Errorf("%d entries for %d events", len(entries), len(history))
	}
	for _, e := range entries {
		s := e.Summary.String()
		if s == e.Summary.Code+"." || !strings.HasSuffix(s, ".") || strings.Contains(s, "  ") {
			t.Errorf("%s: %q is no sentence", e.Type, s)
		}
	}
	d := domain.MustDecimal("1249.5")
	for want, s := range map[string]projections.Summary{
		"A, B and C cannot fulfil its part.": {Code: projections.CodeFailed, Sites: []string{"A", "B", "C"}},
		"A refused.":                         {Code: projections.CodeConfirmed, Sites: []string{"A"}, Outcome: domain.Refuses},
		"A confirmed with changes; promised for 2026-01-02 instead of 2026-01-01.": {
			Code: projections.CodeConfirmed, Sites: []string{"A"}, Outcome: domain.AcceptsWithChanges, PromisedBefore: "2026-01-01", Promised: "2026-01-02",
		},
		"Order amended, total 1\u00a0249.50\u00a0EUR; what was promised for 2026-01-01 no longer holds.": {
			Code: projections.CodeAmended, Total: &d, Currency: "EUR", PromisedBefore: "2026-01-01",
		},
		"The promise has changed; promised for 2026-01-01.": {Code: projections.CodePromiseChanged, Promised: "2026-01-01"},
		"Put on hold.":      {Code: projections.CodeHeld},
		"Cancelled 1 line.": {Code: projections.CodeCancelled, Lines: 1},
		"news.":             {Code: "news"},
	} {
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A row shows the number of the customer wherever it stands among the identifiers, and all of them find it.
func TestCustomerOfRow(t *testing.T) {
	l := newLedger(t)
	x := newLife(t, l, "one", func(s *domain.Submit) {
		s.Parties.Buyer.Identifiers = []domain.Identifier{{Scheme: "vat", Value: "DE123"}, {Scheme: "customer", Value: "C-4711"}}
	})
	v, _ := caughtUp(t, l)
	row, _, err := v.Order(t.Context(), domaintest.BusinessUnit, x.order.ID)
	check(t, err)
	if row.Customer != "C-4711" {
		t.Errorf("the customer is %q", row.Customer)
	}
	for _, number := range []string{"DE123", "C-4711"} {
		orders, err := v.Orders(t.Context(), projections.Query{BusinessUnit: domaintest.BusinessUnit, Customer: number})
		check(t, err)
		if len(orders) != 1 {
			t.Errorf("%s finds %d orders", number, len(orders))
		}
	}
}

func TestNotifications(t *testing.T) {
	l := newLedger(t)
	x := newLife(t, l, "one", nil).deliver()
	y := newLife(t, l, "two", nil)
	late := domain.Confirmation{Outcome: domain.AcceptsWithChanges}
	for _, line := range []string{"1", "2"} {
		late.Lines = append(late.Lines, domain.LineConfirmation{Line: line, Promises: []domain.Promise{
			{Quantity: y.order.Line(line).Quantity, Kind: "ship", Date: domain.Date{Day: "2026-04-0" + line}},
		}})
	}
	y.do(domain.Confirm{Fulfilment: "f1", Confirmation: late})
	late.Lines[0].Promises[0].Date.Day = "2026-05-01"
	confirmed := y.now
	y.do(domain.Confirm{Fulfilment: "f1", Confirmation: late})
	v := newViews(t)
	p := newProjector(t, v, l)
	all := deliveries(t, l)
	events := slices.IndexFunc(all, func(d eventstore.Delivery) bool { return d.Event == nil })
	check(t, p.Apply(t.Context(), all[:events]))
	early, err := v.Notifications(t.Context(), domaintest.BusinessUnit, nil, 100)
	check(t, err)
	if len(early) != 0 {
		t.Errorf("%d notifications are shown before all lanes have passed them", len(early))
	}
	check(t, p.Apply(t.Context(), all[events:]))
	list, err := v.Notifications(t.Context(), domaintest.BusinessUnit, nil, 100)
	check(t, err)
	var got []string
	for _, n := range list {
		got = append(got, strings.Join([]string{n.Kind, string(n.Before), string(n.Status)}, " "))
	}
	want := []string{
		"submitted  submitted", "accepted submitted accepted", "routed accepted routed", "confirmed routed confirmed",
		"started confirmed in_fulfilment", "shipped in_fulfilment shipped", "delivered shipped delivered",
		"submitted  submitted", "accepted submitted accepted", "routed accepted routed", "confirmed routed confirmed",
		"confirmed confirmed confirmed", "promise_changed confirmed confirmed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("feed (-want +got):\n%s", diff)
	}
	if n := list[6]; n.Order != x.order.ID || n.Number != x.order.Number || n.Customer != "C-4711" || !n.Occurred.Equal(x.now) || n.Revision != 6 {
		t.Errorf("notification: %+v", n)
	}
	if s := list[12].Summary; s.PromisedBefore != "2026-04-02" || s.Promised != "2026-05-01" {
		t.Errorf("promise: %+v", s)
	}
	row, _, err := v.Order(t.Context(), domaintest.BusinessUnit, y.order.ID)
	check(t, err)
	if !row.StatusSince.Equal(confirmed) || !row.Updated.Equal(y.now) || row.Promised != "2026-05-01" {
		t.Errorf("after another promise: %+v", row)
	}
	// One at a time, also between the entries of one event.
	var places []projections.Place
	for i := range list {
		next, err := v.Notifications(t.Context(), domaintest.BusinessUnit, places, 1)
		check(t, err)
		if len(next) != 1 || next[0].Place != list[i].Place {
			t.Fatalf("after %v: %+v, want %+v", places, next, list[i])
		}
		places = projections.Advance(places, next[0].Place)
	}
	end, err := v.End(t.Context())
	check(t, err)
	for name, after := range map[string][]projections.Place{"the last": places, "the end": end} {
		rest, err := v.Notifications(t.Context(), domaintest.BusinessUnit, after, 100)
		check(t, err)
		if len(rest) != 0 {
			t.Errorf("%d notifications after %s", len(rest), name)
		}
	}
}

func TestCounts(t *testing.T) {
	l := newLedger(t)
	a := newLife(t, l, "a", nil)
	b := newLife(t, l, "b", nil).deliver()
	newLife(t, l, "c", nil)
	v, p := caughtUp(t, l)
	want := []projections.StatusCount{
		{Status: domain.StatusRouted, Orders: 2, Oldest: a.now},
		{Status: domain.StatusDelivered, Orders: 1, Oldest: b.now},
	}
	got, err := v.Counts(t.Context(), domaintest.BusinessUnit)
	check(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	b.do(domain.Close{})
	check(t, p.CatchUp(t.Context()))
	want[1] = projections.StatusCount{Status: domain.StatusClosed, Orders: 1, Oldest: b.now}
	got, err = v.Counts(t.Context(), domaintest.BusinessUnit)
	check(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
