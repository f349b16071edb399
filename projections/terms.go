package projections

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"github.com/orderledger/orderledger/domain"
)

// The kinds of terms.
const (
	kindNumber        = "number"
	kindReference     = "reference"
	kindPurchaseOrder = "purchase_order"
	kindCustomer      = "customer"
	kindParty         = "party" // an identifier of a party that is not the buyer
	kindSite          = "site"
	kindSKU           = "sku"
	kindTracking      = "tracking"
	kindWord          = "word" // of a value that has several
)

// A term is something that an order can be found by.
type term struct{ kind, value string }

func (t term) compare(u term) int {
	return cmp.Or(strings.Compare(t.value, u.value), strings.Compare(t.kind, u.kind))
}

// fold writes a value as it is compared: in small letters, with single spaces.
func fold(s string) string { return strings.Join(strings.Fields(strings.ToLower(s)), " ") }

// number writes an order number, or the beginning of one, as it is compared: without hyphens and usual mistakes.
func number(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '-', ' ':
			return -1
		case 'o':
			return '0'
		case 'i', 'l':
			return '1'
		}
		return r
	}, fold(s))
}

// terms returns all that an order can be found by, sorted, each once.
func terms(o *domain.Order) []term {
	ts := make([]term, 0, 8+2*len(o.Lines))
	add := func(kind, value string) {
		value = fold(value)
		if value == "" {
			return
		}
		ts = append(ts, term{kind, value})
		words := strings.FieldsFunc(value, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) })
		if len(words) > 1 {
			for _, w := range append(words, strings.Fields(value)...) {
				ts = append(ts, term{kindWord, w})
			}
		}
	}
	ts = append(ts, term{kindNumber, number(o.Number)})
	add(kindPurchaseOrder, o.PurchaseOrder)
	for _, r := range o.References {
		add(kindReference, r.Value)
	}
	for _, id := range o.Parties.Buyer.Identifiers {
		add(kindCustomer, id.Value)
	}
	for _, p := range []domain.Party{o.Parties.ShipTo, o.Parties.BillTo, o.Parties.Payer, o.Parties.EndCustomer} {
		for _, id := range p.Identifiers {
			add(kindParty, id.Value)
		}
	}
	for _, l := range o.Lines {
		for _, sku := range []string{l.SKU, l.BuyerSKU, l.GTIN} {
			if sku != "" {
				ts = append(ts, term{kindSKU, fold(sku)})
			}
		}
	}
	for _, f := range o.Fulfilments {
		if len(f.Parts) > 0 { // a site that lost all it had does not fulfil the order
			add(kindSite, f.Site)
		}
		if f.Confirmation != nil {
			add(kindReference, f.Confirmation.Reference)
		}
		for _, s := range f.Shipments {
			add(kindTracking, s.Tracking)
		}
	}
	slices.SortFunc(ts, term.compare)
	return slices.Compact(ts)
}

// findable reports whether an event may change what its order can be found by.
func findable(e domain.Event) bool {
	switch e.(type) {
	case *domain.Submitted, *domain.Amended, *domain.Routed, *domain.Unrouted, *domain.FulfilmentFailed,
		*domain.Confirmed, *domain.Shipped:
		return true
	}
	return false
}
