package rules

import (
	"slices"
	"strings"

	"github.com/orderledger/orderledger/domain"
)

// A cell is one condition: that a fact has one of the values which the cell lists, or none of them.
type cell struct {
	fact *fact
	not  bool
	test func(value) bool
}

func (c *cell) match(s subject) bool { return c.test(c.fact.get(s)) != c.not }

func matchAll(cells []cell, s subject) bool {
	return miss(cells, s) == nil
}

// miss returns the first cell that does not hold, or nil.
func miss(cells []cell, s subject) *cell {
	for i := range cells {
		if !cells[i].match(s) {
			return &cells[i]
		}
	}
	return nil
}

// Texts are what a text may be: one of a list, or of the lists that it refers to.
type texts struct {
	values   []string            // each once
	index    map[string]struct{} // of values, once they are many
	patterns []pattern
	missing  bool
	present  bool
	lists    []*texts // shared by all that refer to them; these have no lists themselves
}

// fewTexts are compared one by one faster than they are looked up.
const fewTexts = 8

func (t *texts) add(s string) {
	if t.has(s) {
		return
	}
	t.values = append(t.values, s)
	if len(t.values) <= fewTexts {
		return
	}
	if t.index == nil {
		t.index = map[string]struct{}{}
		for _, v := range t.values {
			t.index[v] = struct{}{}
		}
	}
	t.index[s] = struct{}{}
}

func (t *texts) has(s string) bool {
	if t.index != nil {
		_, ok := t.index[s]
		return ok
	}
	return slices.Contains(t.values, s)
}

func (t *texts) match(v value) bool {
	if v.text == "" {
		return t.missing
	}
	if t.present || t.has(v.text) {
		return true
	}
	for i := range t.patterns {
		if t.patterns[i].match(v.text) {
			return true
		}
	}
	for _, l := range t.lists {
		if l.match(v) {
			return true
		}
	}
	return false
}

// A pattern is a text in which each * stands for anything, also for nothing.
type pattern struct {
	first, last string
	middle      []string
}

func newPattern(s string) pattern {
	parts := strings.Split(s, "*")
	end := len(parts) - 1
	return pattern{first: parts[0], last: parts[end], middle: parts[1:end]}
}

// match takes time in proportion to the length of s: what stands between two stars is taken where it first occurs.
func (p *pattern) match(s string) bool {
	if len(s) < len(p.first)+len(p.last) || !strings.HasPrefix(s, p.first) || !strings.HasSuffix(s, p.last) {
		return false
	}
	s = s[len(p.first) : len(s)-len(p.last)]
	for _, part := range p.middle {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}

// Spans are what a number may be.
type spans []span

// A span is the numbers from low to high, the ends included unless they are open.
type span struct {
	low, high         *domain.Decimal // nil: no end
	lowOpen, highOpen bool
}

func (all spans) match(v value) bool {
	for i := range all {
		if all[i].contains(v.number) {
			return true
		}
	}
	return false
}

func (s *span) contains(n domain.Decimal) bool {
	if s.low != nil {
		if c := n.Cmp(*s.low); c < 0 || c == 0 && s.lowOpen {
			return false
		}
	}
	if s.high != nil {
		if c := n.Cmp(*s.high); c > 0 || c == 0 && s.highOpen {
			return false
		}
	}
	return true
}
