package domaintest

import (
	"slices"
	"strings"

	"github.com/orderledger/orderledger/domain"
)

// Marks that [Policy] looks for. The first three are whole SKUs, and OnlyAt begins one: "only-B" is made at site B.
const (
	Bad     = "bad"     // an order of it is rejected
	Dubious = "dubious" // an order of it is held
	Nowhere = "nowhere" // no site has it
	OnlyAt  = "only-"   // one site has it
	Advance = "advance" // terms of payment: the order is held until somebody of the role finance releases it
)

// Sites are the sites that [Policy] knows, in the order in which it prefers them.
var Sites = []string{"A", "B", "C"}

// Share is the most of one line that [Policy] gives to one site, unless the order is to be delivered at once.
var Share = domain.Whole(100)

// A Policy judges and routes orders by the marks in them: bad is rejected, dubious or advance is held, and everything
// else goes to the first of the sites A, B and C that has it and is not excluded, a large line in shares.
type Policy struct{}

// Validate judges by the marks.
func (Policy) Validate(o *domain.Order) domain.Judgement {
	switch {
	case has(o, Bad):
		return domain.Judgement{
			Verdict:  domain.VerdictRejected,
			Reason:   domain.Reason{Code: "bad_article", Text: "nobody makes this any more"},
			Decision: decision("V1", "sku", Bad),
		}
	case has(o, Dubious):
		return domain.Judgement{
			Reason:   domain.Reason{Code: "dubious_article", Text: "somebody should look at this"},
			Decision: decision("V2", "sku", Dubious),
		}
	case o.Terms.Payment == Advance:
		return domain.Judgement{
			Reason:   domain.Reason{Code: "payment_awaited", Text: "the money comes first"},
			Role:     "finance",
			Decision: decision("V3", "payment", Advance),
		}
	}
	return domain.Judgement{Verdict: domain.VerdictAccepted, Decision: decision("V4", "total", o.Totals.Total.String())}
}

// Route deals what is open to sites.
func (Policy) Route(o *domain.Order, open []domain.LineQuantity, excluded []string) domain.Routing {
	sites := slices.DeleteFunc(slices.Clone(Sites), func(s string) bool { return slices.Contains(excluded, s) })
	if o.Terms.CompleteDelivery {
		sites = slices.DeleteFunc(sites, func(s string) bool {
			return slices.ContainsFunc(open, func(q domain.LineQuantity) bool { return !makes(s, o.Line(q.Line).SKU) })
		})
		if len(sites) == 0 {
			return domain.Routing{}
		}
		return domain.Routing{
			Allocations: []domain.Allocation{{Site: sites[0], Lines: open}},
			Decision:    decision("R1", "complete_delivery", "true"),
		}
	}
	given := make(map[string][]domain.LineQuantity)
	for _, q := range open {
		able := slices.DeleteFunc(slices.Clone(sites), func(s string) bool { return !makes(s, o.Line(q.Line).SKU) })
		if len(able) == 0 {
			return domain.Routing{}
		}
		for i, rest := 0, q.Quantity; rest.Sign() > 0; i++ {
			share := rest
			if i < len(able)-1 && Share.Less(rest) {
				share = Share
			}
			given[able[i]] = append(given[able[i]], domain.LineQuantity{Line: q.Line, Quantity: share})
			rest, _ = rest.Sub(share)
		}
	}
	routing := domain.Routing{Decision: decision("R2", "lines", open[0].Line)}
	for _, s := range sites {
		if len(given[s]) > 0 {
			routing.Allocations = append(routing.Allocations, domain.Allocation{Site: s, Lines: given[s]})
		}
	}
	return routing
}

func has(o *domain.Order, mark string) bool {
	return slices.ContainsFunc(o.Lines, func(l domain.OrderLine) bool { return l.SKU == mark && l.Active().Sign() > 0 })
}

func makes(site, sku string) bool {
	only, ok := strings.CutPrefix(sku, OnlyAt)
	return sku != Nowhere && (!ok || only == site)
}

func decision(row, fact, value string) domain.Decision {
	return domain.Decision{
		RuleSet: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Row:     row,
		Facts:   []domain.Fact{{Name: fact, Value: value}},
	}
}
