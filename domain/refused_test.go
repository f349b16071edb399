package domain_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

// Each code of a refusal has an order and a command that meet it.
func TestRefusals(t *testing.T) {
	plain := after(t, order(article("lens", "10"), article("frame", "5")))
	part := going(t, plain, shipLines("f1", of("1", "4")))
	shipped := going(t, part, domain.Ship{Fulfilment: "f1"})
	complete := order(article("lens", "10"))
	complete.Terms.CompleteDelivery = true
	hold := domain.PlaceHold{Reason: because("asked")}
	held := going(t, plain, hold)
	crowded := held
	for len(crowded.Holds) < domain.MaxHolds {
		crowded = going(t, crowded, hold)
	}
	events, err := domain.Decide(domain.Order{}, asked(domain.Order{}, order(article("lens", "10"))), domaintest.Policy{}, now)
	if err != nil {
		t.Fatal(err)
	}
	submitted := domain.Fold(events[:1])
	long := clone(plain)
	for i := len(long.Lines); i < domain.MaxLines; i++ {
		l := long.Lines[0]
		l.ID = strconv.Itoa(i + 1)
		l.Cancelled = l.Quantity
		long.Lines = append(long.Lines, l)
	}
	restless := clone(plain)
	for i := len(restless.Fulfilments); i < domain.MaxFulfilments; i++ {
		restless.Fulfilments = append(restless.Fulfilments, domain.Fulfilment{ID: "f" + strconv.Itoa(i+1), Phase: domain.PhaseUnrouted, Site: "C"})
	}
	confirm := func(lines ...domain.LineConfirmation) domain.Confirm {
		return domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{Outcome: domain.Accepts, Lines: lines}}
	}
	amend := func(line, quantity string) domain.Amend {
		q := num(quantity)
		return domain.Amend{Lines: []domain.LineChange{{Line: line, Quantity: &q}}}
	}
	back := func(line, quantity string) domain.Return {
		return domain.Return{Lines: []domain.LineQuantity{of(line, quantity)}, Reason: because("broken")}
	}
	delivered := func(shipment string, lines ...domain.LineQuantity) domain.Deliver {
		return domain.Deliver{Fulfilment: "f1", Shipment: shipment, Lines: lines}
	}
	named := going(t, plain, domain.Ship{Fulfilment: "f1", Shipment: domain.Shipment{ID: "box-1", Lines: []domain.LineQuantity{of("1", "4")}}})

	if o := going(t, shipped, delivered("s2"), delivered("s1")); o.Status() != domain.StatusDelivered {
		t.Errorf("the second shipment arrived first, and the order is %s", o.Status())
	}

	// A shipment that is named without lines arrives with what is still under way of it.
	late := going(t, shipped, delivered("s2", of("1", "2")), delivered("s2"))
	if got := late.Fulfilments[0].Parts[0].Delivered; got != num("6") {
		t.Errorf("of the second shipment %v arrived", got)
	}

	over := func(ledger, command, site string) domain.RecordConflict {
		return domain.RecordConflict{Conflict: domain.Conflict{Ledger: ledger, Command: command, Site: site}}
	}
	moved := going(t, plain, domain.Move{Home: "ledger-2", Source: "ledger-1", Epoch: 4})
	disputed := going(t, plain, over("ledger-2", "ship-1", ""), over("ledger-2", "", "B"))
	settled := going(t, disputed, domain.Settle{Conflict: "c1", Reason: because("known")})

	met := map[domain.Code]bool{}
	for _, test := range []struct {
		code domain.Code
		o    domain.Order
		do   domain.Action
	}{
		{domain.CodeOrderExists, plain, order(article("lens", "10"))},
		{domain.CodeUnknownOrder, domain.Order{}, domain.Close{}},
		{domain.CodeRejected, after(t, order(article(domaintest.Bad, "1"))), domain.Close{}},
		{domain.CodeCancelled, going(t, plain, domain.Cancel{Reason: because("asked")}), back("1", "1")},
		{domain.CodeClosed, going(t, shipped, domain.Close{}), domain.Close{}},
		{domain.CodeWithdrawn, going(t, plain, domain.Withdraw{Winner: "x"}), back("1", "1")},
		{domain.CodeOnHold, held, domain.Ship{Fulfilment: "f1"}},
		{domain.CodeNotAccepted, submitted, domain.Route{}},
		{domain.CodeShipped, shipped, hold},
		{domain.CodeNotShipped, part, domain.Close{}},
		{domain.CodeNotShipped, plain, delivered("")},
		{domain.CodeUnknownLine, plain, amend("3", "1")},
		{domain.CodeUnknownLine, plain, domain.Cancel{Lines: []domain.LineQuantity{of("3", "1")}, Reason: because("asked")}},
		{domain.CodeUnknownLine, plain, shipLines("f1", of("3", "1"))},
		{domain.CodeUnknownLine, part, delivered("", of("3", "1"))},
		{domain.CodeUnknownLine, plain, back("3", "1")},
		{domain.CodeUnknownLine, plain, confirm(domain.LineConfirmation{Line: "3"})},
		{domain.CodeUnknownFulfilment, plain, domain.Ship{Fulfilment: "f9"}},
		{domain.CodeUnknownFulfilment, plain, domain.Deliver{Fulfilment: "f9"}},
		{domain.CodeUnknownShipment, part, delivered("s9")},
		{domain.CodeUnknownHold, held, domain.Release{Hold: "h9"}},
		{domain.CodeAmbiguousHold, going(t, held, hold), domain.Release{}},
		{domain.CodeFulfilmentEnded, shipped, domain.StartFulfilment{Fulfilment: "f1"}},
		{domain.CodeAlreadyStarted, going(t, plain, domain.StartFulfilment{Fulfilment: "f1"}), domain.StartFulfilment{Fulfilment: "f1"}},
		{domain.CodeShipmentExists, named, domain.Ship{Fulfilment: "f1", Shipment: domain.Shipment{ID: "box-1"}}},
		{domain.CodeOverShipment, part, shipLines("f1", of("1", "6.000001"))},
		{domain.CodeOverShipment, shipped, domain.Ship{Fulfilment: "f1"}},
		{domain.CodeOverDelivery, part, delivered("", of("1", "4.000001"))},
		{domain.CodeOverDelivery, part, delivered("", of("2", "1"))},
		{domain.CodeOverDelivery, shipped, delivered("s1", of("1", "5"))},
		{domain.CodeAlreadyDelivered, going(t, shipped, delivered("s1")), delivered("s1")},
		{domain.CodeAlreadyDelivered, going(t, shipped, delivered("s2")), delivered("s2")},
		{domain.CodeAlreadyDelivered, going(t, part, delivered("s1")), delivered("")},
		{domain.CodeAlreadyDelivered, going(t, shipped, delivered("", of("1", "10"))), delivered("", of("1", "1"))},
		{domain.CodeAlreadyDelivered, going(t, part, delivered(""), domain.Ship{Fulfilment: "f1"}), delivered("s1")},
		{domain.CodeIncomplete, after(t, complete), shipLines("f1", of("1", "1"))},
		{domain.CodeOverReturn, going(t, shipped, delivered("")), back("1", "10.000001")},
		{domain.CodeOverCancel, part, domain.Cancel{Lines: []domain.LineQuantity{of("1", "7")}, Reason: because("asked")}},
		{domain.CodeOverConfirmation, part, confirm(domain.LineConfirmation{Line: "1", Backordered: num("7")})},
		{domain.CodeOverConfirmation, part, confirm(domain.LineConfirmation{
			Line: "1", Cancelled: num("3"), Backordered: num("3"), Promises: []domain.Promise{{Quantity: num("1"), Kind: "ship", Date: *onDay("2026-03-12")}},
		})},
		{domain.CodeBelowShipped, part, amend("1", "3")},
		{domain.CodeNothingToRoute, plain, domain.Route{}},
		{domain.CodeNothingChanged, plain, domain.Amend{}},
		{domain.CodeNothingChanged, plain, domain.Reroute{Fulfilment: "f1", Site: "A", Reason: because("late")}},
		{domain.CodeNoSiteLeft, after(t, order(article("only-A", "1"))), domain.Reroute{Fulfilment: "f1", Reason: because("late")}},
		{domain.CodeAmendmentRejected, plain, domain.Amend{Add: []domain.Line{article(domaintest.Bad, "1")}}},
		{domain.CodeTooManyLines, long, domain.Amend{Add: []domain.Line{article("lens", "1")}}},
		{domain.CodeTooManyFulfilments, restless, domain.Reroute{Fulfilment: "f1", Site: "B", Reason: because("late")}},
		{domain.CodeTooManyFulfilments, restless, domain.ReportFailure{Fulfilment: "f1", Reason: because("late")}},
		{domain.CodeTooManyFulfilments, restless, amend("1", "11")},
		{domain.CodeTooManyHolds, crowded, hold},
		{domain.CodeStaleEpoch, moved, domain.Move{Home: "ledger-3", Source: "ledger-2", Epoch: 4}},
		{domain.CodeStaleEpoch, plain, domain.Move{Home: "ledger-3", Source: "ledger-2"}},
		{domain.CodeConflictExists, disputed, over("ledger-2", "ship-1", "")},
		{domain.CodeConflictExists, disputed, over("ledger-2", "", "B")},
		{domain.CodeConflictExists, settled, over("ledger-2", "ship-1", "")},
		{domain.CodeUnknownConflict, disputed, domain.Settle{Conflict: "c3", Reason: because("known")}},
		{domain.CodeConflictSettled, settled, domain.Settle{Conflict: "c1", Reason: because("known")}},
	} {
		wantRefused(t, test.o, test.do, test.code)
		met[test.code] = true
	}

	c := asked(plain, domain.Close{})
	revision := plain.Revision() - 1
	c.Expected = &revision
	refused := new(domain.Refused)
	if _, err := domain.Decide(plain, c, domaintest.Policy{}, now); !errors.As(err, &refused) || refused.Code != domain.CodeStaleRevision {
		t.Errorf("a stale revision: %v", err)
	}
	met[domain.CodeStaleRevision] = true
	c = asked(plain, domain.Close{})
	c.BusinessUnit = "another"
	if _, err := domain.Decide(plain, c, domaintest.Policy{}, now); !errors.As(err, &refused) || refused.Code != domain.CodeUnknownOrder {
		t.Errorf("another business unit's order: %v", err)
	}
	for _, code := range codes(t) {
		if !met[code] {
			t.Errorf("no command is refused with %s", code)
		}
	}
}

// codes reads the codes from the source.
func codes(t *testing.T) []domain.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "refused.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []domain.Code
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, domain.Code(code))
		}
		return true
	})
	if len(codes) < 30 {
		t.Fatalf("only %d codes found", len(codes))
	}
	return codes
}

// An order that no rules apply to is accepted and waits, unheld, for somebody to route it.
func TestUnruled(t *testing.T) {
	events, err := domain.Decide(domain.Order{}, asked(domain.Order{}, order(article("lens", "1"))), domain.Unruled{}, now)
	if err != nil || !slices.Equal(typesOf(events), []string{"order.submitted.v1", "order.accepted.v1"}) {
		t.Fatalf("%v, %v", typesOf(events), err)
	}
	o := domain.Fold(events)
	if o.Status() != domain.StatusAccepted {
		t.Errorf("the order is %s", o.Status())
	}
	if o = going(t, o, domain.Route{Site: "A"}); o.Status() != domain.StatusRouted {
		t.Errorf("the order is %s", o.Status())
	}
}

// A policy that deals too much, too little, to nobody or to sites that are excluded deals nothing.
func TestPoliciesAreNotTrusted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := domain.Fold(domaintest.EventsOf(domaintest.History(t)))
		for range 3 {
			c := domaintest.Command(t, o)
			events, err := domain.Decide(o, c, anyhow{t}, now)
			if err != nil {
				continue
			}
			for _, e := range events {
				o = domain.Evolve(o, e)
				if r, ok := e.(*domain.Routed); ok && r.Decision.Row == "anyhow" {
					for _, a := range r.Fulfilments {
						if slices.Contains(o.FailedSites(), a.Site) {
							t.Fatalf("routed to %s, which has failed", a.Site)
						}
					}
				}
			}
			wantConsistent(t, o)
			wantTotals(t, o)
		}
	})
}

// An anyhow routes at random, mostly wrong.
type anyhow struct{ t *rapid.T }

func (anyhow) Validate(*domain.Order) domain.Judgement {
	return domain.Judgement{Verdict: domain.VerdictAccepted}
}

func (p anyhow) Route(_ *domain.Order, open []domain.LineQuantity, _ []string) domain.Routing {
	r := domain.Routing{Decision: domain.Decision{Row: "anyhow"}}
	for range rapid.IntRange(0, 3).Draw(p.t, "allocations") {
		a := domain.Allocation{ID: "f1", Site: rapid.SampledFrom([]string{"", "A", "B", "C", "D"}).Draw(p.t, "site")}
		for _, q := range open {
			switch rapid.IntRange(0, 5).Draw(p.t, "share") {
			case 0:
			case 1:
				q.Quantity = num("-1")
				a.Lines = append(a.Lines, q)
			case 2:
				q.Quantity = num("0.5")
				a.Lines = append(a.Lines, q, q)
			case 3:
				q.Line = "99"
				a.Lines = append(a.Lines, q)
			default:
				a.Lines = append(a.Lines, q)
			}
		}
		r.Allocations = append(r.Allocations, a)
	}
	return r
}

// The same line twice in one allocation, each with half of it, adds up and is refused all the same.
func TestPolicyNamesALineTwice(t *testing.T) {
	half := domain.Allocation{Site: "A", Lines: []domain.LineQuantity{of("1", "5"), of("1", "5")}}
	o := decided(t, domain.Order{}, order(article("lens", "10")), fixed{half})
	if o.Status() != domain.StatusOnHold || len(o.Fulfilments) > 0 {
		t.Errorf("the order is %s with %+v", o.Status(), o.Fulfilments)
	}
}

// An order to be delivered at once is not split, even where the policy would.
func TestPolicySplitsCompleteDelivery(t *testing.T) {
	s := order(article("lens", "10"), article("frame", "5"))
	s.Terms.CompleteDelivery = true
	o := decided(t, domain.Order{}, s, fixed{
		{Site: "A", Lines: []domain.LineQuantity{of("1", "10")}}, {Site: "B", Lines: []domain.LineQuantity{of("2", "5")}},
	})
	if o.Status() != domain.StatusOnHold {
		t.Errorf("the order is %s with %+v", o.Status(), o.Fulfilments)
	}
}

type fixed []domain.Allocation

func (fixed) Validate(*domain.Order) domain.Judgement {
	return domain.Judgement{Verdict: domain.VerdictAccepted}
}

func (f fixed) Route(*domain.Order, []domain.LineQuantity, []string) domain.Routing {
	return domain.Routing{Allocations: f}
}

func decided(t *testing.T, o domain.Order, a domain.Action, p domain.Policy) domain.Order {
	t.Helper()
	events, err := domain.Decide(o, asked(o, a), p, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		o = domain.Evolve(o, e)
	}
	return o
}

// Totals are exact or a command is refused: what is left of a line may cost an amount without an end.
func TestTotalsStayExact(t *testing.T) {
	dozen := domain.Whole(12)
	l := article("lens", "24")
	l.Price = domain.Price{Amount: domain.Whole(10), BaseQuantity: &dozen}
	o := after(t, order(l))
	if o.Totals.Total != domain.Whole(20) {
		t.Errorf("two dozen cost %v", o.Totals.Total)
	}
	one := []domain.LineQuantity{of("1", "1")}
	q := num("23")
	for _, a := range []domain.Action{
		domain.Cancel{Lines: one, Reason: because("asked")},
		domain.Amend{Lines: []domain.LineChange{{Line: "1", Quantity: &q}}},
		domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{
			Outcome: domain.AcceptsWithChanges, Lines: []domain.LineConfirmation{{Line: "1", Cancelled: num("1")}},
		}},
	} {
		wantMalformed(t, o, asked(o, a), "lines", "amount_inexact")
	}
	o = going(t, o, domain.Cancel{Lines: []domain.LineQuantity{of("1", "6")}, Reason: because("asked")})
	if o.Totals.Total != domain.Whole(15) {
		t.Errorf("one and a half dozen cost %v", o.Totals.Total)
	}
}

func TestOrderAnswers(t *testing.T) {
	o := after(t, order(article("lens", "10")))
	if o.ShipTo().Country != "DE" {
		t.Errorf("the goods go to %v, not to the buyer", o.ShipTo())
	}
	o = going(t, o, domain.Amend{ShipTo: &domain.Party{Country: "AT"}, BillTo: &domain.Party{Country: "CH"}, Terms: &domain.Terms{Priority: 1}})
	if o.ShipTo().Country != "AT" || o.Parties.BillTo.Country != "CH" || o.Terms.Priority != 1 {
		t.Errorf("the amendment did not arrive: %+v, %+v", o.Parties, o.Terms)
	}
	if o.Line("9") != nil || o.Fulfilment("f9") != nil {
		t.Error("there is a line or fulfilment 9")
	}
	if o.Number != domain.Number(o.ID) || o.Kind != domain.Standard || o.ID == uuid.Nil {
		t.Errorf("%s, %s", o.Number, o.Kind)
	}
	if e := (&domain.Malformed{Detail: "nothing is asked"}).Error(); e != "nothing is asked" {
		t.Error(e)
	}
	if (domain.Order{}).Status() != "" || (domain.Order{}).Exists() {
		t.Error("an order exists that does not")
	}
}
