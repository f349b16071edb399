package domain_test

import (
	"errors"
	"testing"
	"time"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

var now = domaintest.Start

// asked wraps an action in a command to an order, which the first command names.
func asked(o domain.Order, a domain.Action) domain.Command {
	id := o.ID
	if !o.Exists() {
		id = domain.OrderID(domaintest.BusinessUnit, "tester", "order-1")
	}
	return domain.Command{
		ID:           domain.CommandID(id, "tester", a.Name()),
		Order:        id,
		BusinessUnit: domaintest.BusinessUnit,
		Actor:        domain.Actor{Kind: "person", Subject: "tester"},
		Do:           a,
	}
}

// after returns the order that actions lead to, none of which may be refused.
func after(t testing.TB, actions ...domain.Action) domain.Order {
	t.Helper()
	return going(t, domain.Order{}, actions...)
}

func going(t testing.TB, o domain.Order, actions ...domain.Action) domain.Order {
	t.Helper()
	for i, a := range actions {
		events, err := domain.Decide(o, asked(o, a), domaintest.Policy{}, now)
		if err != nil {
			t.Fatalf("action %d, %s: %v", i, a.Name(), err)
		}
		for _, e := range events {
			o = domain.Evolve(o, e)
		}
	}
	return o
}

func wantRefused(t testing.TB, o domain.Order, a domain.Action, code domain.Code) {
	t.Helper()
	events, err := domain.Decide(o, asked(o, a), domaintest.Policy{}, now)
	refused := new(domain.Refused)
	if !errors.As(err, &refused) || refused.Code != code {
		t.Errorf("%s: %v, %v, and not %s", a.Name(), typesOf(events), err, code)
	}
}

func typesOf(events []domain.Event) []string {
	var types []string
	for _, e := range events {
		types = append(types, e.Type())
	}
	return types
}

// order is a submission of lines named by article and quantity, at 12.50 EUR each.
func order(lines ...domain.Line) domain.Submit {
	return domain.Submit{
		Details: domain.Details{
			Currency: "EUR",
			Parties: domain.Parties{Buyer: domain.Party{
				Identifiers: []domain.Identifier{{Scheme: "customer", Value: "4711"}}, Country: "DE",
			}},
		},
		Lines: lines,
	}
}

func article(sku, quantity string) domain.Line {
	return domain.Line{SKU: sku, Quantity: num(quantity), Price: domain.Price{Amount: num("12.5")}}
}

func num(s string) domain.Decimal { return domain.MustDecimal(s) }

func of(line, quantity string) domain.LineQuantity {
	return domain.LineQuantity{Line: line, Quantity: num(quantity)}
}

func because(code string) domain.Reason { return domain.Reason{Code: code} }

func onDay(d string) *domain.Date { return &domain.Date{Day: d} }

func hoursLater(n int) time.Time { return now.Add(time.Duration(n) * time.Hour) }
