package rules

import (
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/orderledger/orderledger/domain"
)

// An entry is a name and what stands after its colon.
type entry struct{ key, value *yaml.Node }

// pairs returns the entries of a mapping; of anything else, none.
func pairs(n *yaml.Node) []entry {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	entries := make([]entry, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		entries = append(entries, entry{n.Content[i], n.Content[i+1]})
	}
	return entries
}

// entries reads a mapping with names of the user's own.
func (p *parser) entries(n *yaml.Node, what string, limit int) []entry {
	all := pairs(n)
	if len(all) == 0 {
		p.fail(n, "%s needs names with a colon and a value each", what)
	}
	if len(all) > limit {
		p.fail(n, "%s has %d entries, at most %d are allowed", what, len(all), limit)
		return nil
	}
	return all
}

// members reads a mapping with names of ours. It reports false for anything else than a mapping.
func (p *parser) members(n *yaml.Node, what string, names ...string) (map[string]*yaml.Node, bool) {
	if n.Kind != yaml.MappingNode {
		p.fail(n, "%s is made of names with a colon and a value each: %s", what, strings.Join(names, ", "))
		return nil, false
	}
	m := map[string]*yaml.Node{}
	for _, e := range pairs(n) {
		if !slices.Contains(names, e.key.Value) {
			p.fail(e.key, "%s has no %.40q, only %s", what, e.key.Value, strings.Join(names, ", "))
			continue
		}
		m[e.key.Value] = e.value
	}
	return m, true
}

// items reads a list, or the one value that stands in its place.
func (p *parser) items(n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		return []*yaml.Node{n}
	}
	if len(n.Content) == 0 {
		p.fail(n, "the list is empty")
	}
	return n.Content
}

// scalar reads one value as it was written.
func (p *parser) scalar(n *yaml.Node) (string, bool) { return p.line(n, "the value", domain.MaxName) }

// words reads one value for people. It is empty where something is wrong with it.
func (p *parser) words(n *yaml.Node, what string, limit int) string {
	s, _ := p.line(n, what, limit)
	return s
}

func (p *parser) line(n *yaml.Node, what string, limit int) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		p.fail(n, "one value is expected here")
		return "", false
	}
	s := strings.TrimSpace(n.Value)
	switch {
	case n.Tag == "!!null" || s == "":
		p.fail(n, "a value is missing here")
	case len(s) > limit:
		p.fail(n, "%s has %d bytes, at most %d are allowed", what, len(s), limit)
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		p.fail(n, "%s must stand on one line", what)
	default:
		return s, true
	}
	return "", false
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// name reads the name of a row, list or site.
func (p *parser) name(n *yaml.Node) string {
	s, ok := p.scalar(n)
	if ok && (len(s) > maxNameLength || !namePattern.MatchString(s)) {
		p.fail(n, "a name is up to %d letters, digits, hyphens, dots and underscores, not %.40q", maxNameLength, s)
		return ""
	}
	return s
}

// placed reads the name of a row, list or site, in which p is from here on.
func (p *parser) placed(what string, n *yaml.Node) string {
	p.place = ""
	name := p.name(n)
	if name != "" {
		p.place = what + " " + name
	}
	return name
}

// A vocabulary is the facts that cells may ask for in some places.
type vocabulary struct {
	of     string
	places string
	find   func(string) *fact
	all    []fact
}

var (
	ofOrders = vocabulary{"an order", "when", orderFact, orderFacts}
	ofLines  = vocabulary{"a line", "line, any_line or every_line", lineFact, lineFacts}
)

// cells reads conditions on the facts of an order or a line.
func (p *parser) cells(n *yaml.Node, v vocabulary) []cell {
	if n == nil {
		return nil
	}
	var cells []cell
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		p.fail(n, "a fact of %s and a cell are expected, such as %s: …", v.of, v.all[0].name)
	}
	for _, e := range pairs(n) {
		f := v.find(e.key.Value)
		if f == nil {
			p.unknownFact(e.key, v)
			continue
		}
		cells = append(cells, p.cell(f, e.value))
	}
	return cells
}

func (p *parser) unknownFact(n *yaml.Node, v vocabulary) {
	for _, other := range []vocabulary{ofOrders, ofLines} {
		if other.of != v.of && other.find(n.Value) != nil {
			p.fail(n, "%s is a fact of %s: it stands under %s", n.Value, other.of, other.places)
			return
		}
	}
	p.fail(n, "%.40q is no fact of %s; the facts are %s", n.Value, v.of, names(v.all))
}

// cell reads a value, a list of values, or either of them negated: not X, or {not: [X, Y]}.
func (p *parser) cell(f *fact, n *yaml.Node) cell {
	c := cell{fact: f}
	if n.Kind == yaml.MappingNode {
		m, _ := p.members(n, "a cell", "not")
		if n = m["not"]; n == nil {
			return c
		}
		c.not = true
	}
	items := p.items(n)
	if len(items) == 0 {
		return c
	}
	values := make([]string, len(items))
	for i, item := range items {
		s, ok := p.scalar(item)
		if !ok {
			return c
		}
		values[i] = s
	}
	if rest, ok := strings.CutPrefix(values[0], "not "); ok && len(items) == 1 && n.Kind == yaml.ScalarNode && !c.not {
		c.not, values[0] = true, strings.TrimSpace(rest)
	}
	switch f.kind {
	case numberFact:
		var all spans
		for i, s := range values {
			all = append(all, p.span(items[i], f, s))
		}
		c.test = all.match
	case yesNoFact:
		want := p.yesNo(n, f, values)
		c.test = func(v value) bool { return v.yes == want }
	default:
		list := &texts{}
		for i, s := range values {
			p.textCell(items[i], f, s, list)
		}
		p.bound(n, list)
		c.test = list.match
	}
	return c
}

// textCell reads one value of a cell of a text.
func (p *parser) textCell(n *yaml.Node, f *fact, s string, list *texts) {
	switch name, isList := strings.CutPrefix(s, "$"); {
	case s == "missing":
		list.missing = true
	case s == "present":
		list.present = true
	case isList:
		other := p.list(n, name)
		if other == nil {
			return
		}
		for _, v := range other.values {
			p.possible(n, f, v)
		}
		list.lists = append(list.lists, other)
	default:
		before := len(list.values)
		p.text(n, s, list)
		for _, v := range list.values[before:] {
			p.possible(n, f, v)
		}
	}
}

// possible refuses a value that the fact never has.
func (p *parser) possible(n *yaml.Node, f *fact, s string) {
	if f.bad != nil && f.bad(s) {
		p.fail(n, "%s is never %.40q", f.name, s)
	}
}

// text adds a text or a pattern to a list. What follows a = is taken as it stands.
func (p *parser) text(n *yaml.Node, s string, list *texts) {
	literal, isLiteral := strings.CutPrefix(s, "=")
	switch {
	case isLiteral:
		list.add(strings.TrimSpace(literal))
	case strings.HasPrefix(s, "not "):
		p.fail(n, "not stands before a whole cell; before a list write not: [A, B]")
	case strings.HasPrefix(s, ">") || strings.HasPrefix(s, "<"):
		p.fail(n, "%.40q compares numbers, and this is a text; write = %s for the text itself", s, s)
	case strings.Contains(s, "*"):
		list.patterns = append(list.patterns, newPattern(s))
	default:
		list.add(s)
	}
}

func (p *parser) list(n *yaml.Node, name string) *texts {
	list := p.lists[name]
	if list == nil {
		p.fail(n, "there is no list %.40q above this place under lists", name)
		return nil
	}
	p.used[name] = true
	return list
}

func (p *parser) bound(n *yaml.Node, list *texts) {
	if len(list.patterns) > maxPatterns {
		p.fail(n, "there are %d values with a *, at most %d are allowed", len(list.patterns), maxPatterns)
	}
}

// span reads 5, > 5, >= 5, < 5, <= 5 or 1..5.
func (p *parser) span(n *yaml.Node, f *fact, s string) span {
	parse := func(s string) *domain.Decimal {
		d, err := domain.ParseDecimal(strings.TrimSpace(s))
		if err != nil {
			p.fail(n, "%s is a number: write 5, > 5, >= 5, < 5, <= 5 or 1..5, not %.40q", f.name, n.Value)
		}
		return &d
	}
	if low, high, ok := strings.Cut(s, ".."); ok {
		r := span{low: parse(low), high: parse(high)}
		if r.high.Less(*r.low) {
			p.fail(n, "the range %.40q is empty", s)
		}
		return r
	}
	switch {
	case strings.HasPrefix(s, ">="):
		return span{low: parse(s[2:])}
	case strings.HasPrefix(s, "<="):
		return span{high: parse(s[2:])}
	case strings.HasPrefix(s, ">"):
		return span{low: parse(s[1:]), lowOpen: true}
	case strings.HasPrefix(s, "<"):
		return span{high: parse(s[1:]), highOpen: true}
	}
	d := parse(strings.TrimPrefix(s, "="))
	return span{low: d, high: d}
}

func (p *parser) yesNo(n *yaml.Node, f *fact, values []string) bool {
	if len(values) == 1 {
		switch values[0] {
		case "yes", "true":
			return true
		case "no", "false":
			return false
		}
	}
	p.fail(n, "%s is yes or no", f.name)
	return false
}
