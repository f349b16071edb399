// Package rules holds the rules that the business edits: which orders are good, and which sites fulfil them.
//
// A [RuleSet] is one text in YAML with two tables, validation and routing, that are read from the top: the first row
// whose conditions hold decides. It is a [domain.Policy]: pure, immutable, and safe for concurrent use; the same
// order always gets the same answer, and the answer names the row and the facts that led to it.
//
// [Active] keeps one rule set in force for each business unit. Their texts live in the ledger: a text is stored there
// before it decides anything, and another one comes into force without a restart.
package rules

import (
	"slices"

	"github.com/orderledger/orderledger/domain"
)

// CodeNoRule is the code of the hold of an order that no validation row matches.
const CodeNoRule = "no_rule"

// noRow stands in a decision where no row matched. No row can have this name.
const noRow = "(none)"

// A RuleSet is a rule set's text, ready to decide. Make one with [Parse].
type RuleSet struct {
	text       string
	hash       string
	name       string
	sites      []*site
	validation []validationRow
	routing    []routingRow
	warnings   []Problem
}

// A Site is a place that fulfils orders, as a rule set describes it.
type Site struct {
	Code    string
	Name    string
	Country string // ISO 3166-1 alpha-2
}

// A site takes the lines of orders that its cells hold for.
type site struct {
	Site
	when []cell // of the order
	line []cell // of the line
}

// Conditions are what a row asks of an order. Without any, it matches every order.
type conditions struct {
	when      []cell // of the order
	anyLine   []cell // one line of the order satisfies all of them
	everyLine []cell // each line of the order satisfies all of them
}

type validationRow struct {
	conditions
	name    string
	verdict domain.Verdict // empty: held
	reason  domain.Reason
	role    string
}

// Hash is the SHA-256 of the text, hexadecimal: what decisions name the rule set by.
func (r *RuleSet) Hash() string { return r.hash }

// Text is the text that Parse was given.
func (r *RuleSet) Text() string { return r.text }

// Name is what the text calls itself.
func (r *RuleSet) Name() string { return r.name }

// Sites are the sites that the text describes, in its order.
func (r *RuleSet) Sites() []Site {
	sites := make([]Site, len(r.sites))
	for i, s := range r.sites {
		sites[i] = s.Site
	}
	return sites
}

// Warnings are what looks like a mistake in the text and does no harm to its reading.
func (r *RuleSet) Warnings() []Problem { return slices.Clone(r.warnings) }

// Validate judges an order by the first row of the validation table that matches. An order that none matches is held
// with [CodeNoRule].
func (r *RuleSet) Validate(o *domain.Order) domain.Judgement {
	for i := range r.validation {
		row := &r.validation[i]
		if row.match(o) {
			e := explanation{}
			e.row(row.name)
			e.conditions(&row.conditions, o)
			return domain.Judgement{Verdict: row.verdict, Reason: row.reason, Role: row.role, Decision: e.decision(r)}
		}
	}
	return domain.Judgement{
		Reason:   domain.Reason{Code: CodeNoRule, Text: "No rule says what to do with this order."},
		Decision: domain.Decision{RuleSet: r.hash, Row: noRow},
	}
}

func (c *conditions) match(o *domain.Order) bool {
	return matchAll(c.when, subject{order: o}) &&
		(len(c.anyLine) == 0 || firstLine(o, c.anyLine) != nil) &&
		(len(c.everyLine) == 0 || everyLine(o, c.everyLine))
}

// firstLine returns the first line that satisfies all cells, or nil. Lines that were cancelled do not count.
func firstLine(o *domain.Order, cells []cell) *domain.OrderLine {
	for i := range o.Lines {
		s := subject{order: o, line: &o.Lines[i], quantity: o.Lines[i].Active()}
		if s.quantity.Sign() > 0 && matchAll(cells, s) {
			return s.line
		}
	}
	return nil
}

func everyLine(o *domain.Order, cells []cell) bool {
	for i := range o.Lines {
		s := subject{order: o, line: &o.Lines[i], quantity: o.Lines[i].Active()}
		if s.quantity.Sign() > 0 && !matchAll(cells, s) {
			return false
		}
	}
	return true
}
