package rules

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/orderledger/orderledger/domain"
)

// Bounds of a decision. What is beyond them is left out.
const (
	maxRows      = 32
	maxFacts     = 32
	maxFactValue = 100 // bytes
)

// An explanation collects what a decision tells: the rows that decided, and what they looked at.
type explanation struct {
	rows  []string
	facts []domain.Fact
}

func (e *explanation) decision(r *RuleSet) domain.Decision {
	return domain.Decision{RuleSet: r.hash, Row: strings.Join(e.rows, ","), Facts: e.facts}
}

// row names a row that decided, and reports whether what it looked at is still to be told.
func (e *explanation) row(name string) bool {
	if slices.Contains(e.rows, name) || len(e.rows) == maxRows {
		return false
	}
	e.rows = append(e.rows, name)
	return true
}

func (e *explanation) fact(name, value string) {
	if len(e.facts) == maxFacts || slices.ContainsFunc(e.facts, func(f domain.Fact) bool { return f.Name == name }) {
		return
	}
	e.facts = append(e.facts, domain.Fact{Name: name, Value: cut(value, maxFactValue)})
}

// conditions tells the facts that a row's conditions looked at. Of any_line, that is the first line that matched.
func (e *explanation) conditions(c *conditions, o *domain.Order) {
	e.cells(c.when, subject{order: o})
	if len(c.anyLine) > 0 {
		if l := firstLine(o, c.anyLine); l != nil {
			e.cells(c.anyLine, subject{order: o, line: l, quantity: l.Active()})
		}
	}
	if len(c.everyLine) == 0 {
		return
	}
	for i := range o.Lines {
		l := &o.Lines[i]
		if q := l.Active(); q.Sign() > 0 && len(e.facts) < maxFacts {
			e.cells(c.everyLine, subject{order: o, line: l, quantity: q})
		}
	}
}

// cells tells what cells looked at. The facts of a line are named after it: line 2 sku.
func (e *explanation) cells(cells []cell, s subject) {
	for i := range cells {
		f := cells[i].fact
		e.fact(s.nameOf(f), f.show(f.get(s)))
	}
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
