package rules

import (
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/orderledger/orderledger/domain"
)

// A table is what both tables have in common while they are read.
type table struct {
	name    string
	rows    map[string]int    // the line in which a row's name stands
	asked   map[string]string // the row that first asked for the same conditions
	all     string            // the row that matches everything, once there was one
	noMatch string            // what happens where no row matches
}

// rows yields the rows of a table, each with its members, having checked what all rows have in common.
func (p *parser) rows(root, n *yaml.Node, t *table, keys []string, read func(row *yaml.Node, m map[string]*yaml.Node, name string)) {
	p.place = ""
	if n == nil {
		p.fail(root, "%s is missing", t.name)
		return
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 || len(n.Content) > maxTableRows {
		p.fail(n, "%s is a list of 1 to %d rows", t.name, maxTableRows)
		return
	}
	for _, row := range n.Content {
		p.place = t.name
		m, ok := p.members(row, "a row", keys...)
		if !ok {
			continue
		}
		name := p.rowName(row, m["row"], t)
		p.reachable(row, m, name, t)
		read(row, m, name)
	}
	p.place = ""
	if t.all == "" && len(p.problems) == 0 {
		p.warn(n.Content[len(n.Content)-1], "the last row of %s does not match everything: %s", t.name, t.noMatch)
	}
}

func (p *parser) rowName(row, n *yaml.Node, t *table) string {
	if n == nil {
		p.fail(row, "the row has no name: begin it with row: and a name")
		return ""
	}
	name := p.placed("row", n)
	if line := t.rows[name]; line > 0 {
		p.fail(n, "a row of this name stands in line %d", line)
	} else if name != "" {
		t.rows[name] = n.Line
	}
	return name
}

// reachable warns of a row that no order can come to.
func (p *parser) reachable(row *yaml.Node, m map[string]*yaml.Node, name string, t *table) {
	asked := signature(m["when"]) + "\n" + signature(m["any_line"]) + "\n" + signature(m["every_line"]) + "\n" + signature(m["line"])
	switch first, same := t.asked[asked]; {
	case t.all != "":
		p.warn(row, "this row never decides: row %s before it matches everything", t.all)
	case same:
		p.warn(row, "this row never decides: row %s before it has the same conditions", first)
	}
	if _, same := t.asked[asked]; !same {
		t.asked[asked] = name
	}
	if len(pairs(m["when"]))+len(pairs(m["any_line"]))+len(pairs(m["every_line"]))+len(pairs(m["line"])) == 0 && t.all == "" {
		t.all = name
	}
}

// signature is the same for conditions that ask for the same in the same words.
func signature(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	if n.Kind == yaml.ScalarNode {
		return strings.ReplaceAll(n.Value, "\n", " ")
	}
	var parts []string
	if n.Kind == yaml.MappingNode {
		for _, e := range pairs(n) {
			parts = append(parts, signature(e.key)+"\x1f"+signature(e.value))
		}
	} else {
		for _, c := range n.Content {
			parts = append(parts, signature(c))
		}
	}
	slices.Sort(parts)
	return "\x02" + strings.Join(parts, "\x1e") + "\x03"
}

func (p *parser) conditions(m map[string]*yaml.Node) conditions {
	c := conditions{
		when:      p.cells(m["when"], ofOrders),
		anyLine:   p.cells(m["any_line"], ofLines),
		everyLine: p.cells(m["every_line"], ofLines),
	}
	p.moneyNeedsCurrency(m, c.when)
	return c
}

// moneyNeedsCurrency warns of rows that compare amounts of any currency with one number.
func (p *parser) moneyNeedsCurrency(m map[string]*yaml.Node, when []cell) {
	if slices.ContainsFunc(when, func(c cell) bool { return c.fact.name == "currency" }) {
		return
	}
	for _, section := range []string{"when", "any_line", "every_line", "line"} {
		for _, e := range pairs(m[section]) {
			if e.key.Value == "total" || e.key.Value == "price" {
				p.warn(e.key, "%s is compared in any currency: add a cell currency to the row", e.key.Value)
			}
		}
	}
}

var codePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func (p *parser) readValidation(root, n *yaml.Node, set *RuleSet) {
	t := &table{name: "validation", rows: map[string]int{}, asked: map[string]string{},
		noMatch: "an order that no row matches is held with the code " + CodeNoRule}
	keys := []string{"row", "when", "any_line", "every_line", "then", "code", "text", "role"}
	p.rows(root, n, t, keys, func(node *yaml.Node, m map[string]*yaml.Node, name string) {
		row := validationRow{name: name, conditions: p.conditions(m)}
		p.outcome(node, m, &row)
		set.validation = append(set.validation, row)
	})
}

// outcome reads what a validation row says of the orders that it matches.
func (p *parser) outcome(node *yaml.Node, m map[string]*yaml.Node, row *validationRow) {
	then := m["then"]
	if then == nil {
		p.fail(node, "then is missing: it says accept, hold or reject")
		return
	}
	word, ok := p.scalar(then)
	if !ok {
		return
	}
	forbid := func(keys ...string) {
		for _, key := range keys {
			if n := m[key]; n != nil {
				p.fail(n, "%s has no place in a row that says %s", key, word)
			}
		}
	}
	switch word {
	case "accept":
		row.verdict = domain.VerdictAccepted
		forbid("code", "text", "role")
		return
	case "reject":
		row.verdict = domain.VerdictRejected
		forbid("role")
	case "hold":
		if n := m["role"]; n != nil {
			row.role = p.words(n, "the role", domain.MaxName)
		}
	default:
		p.fail(then, "then says accept, hold or reject, not %.40q", word)
		return
	}
	if n := m["code"]; n == nil {
		p.fail(node, "code is missing: programs know a reason by its code, such as credit_check")
	} else if row.reason.Code = p.words(n, "the code", 40); row.reason.Code != "" && !codePattern.MatchString(row.reason.Code) {
		p.fail(n, "a code is small letters, digits and _, such as credit_check, not %.40q", row.reason.Code)
	}
	if n := m["text"]; n == nil {
		p.fail(node, "text is missing: a sentence that tells people the reason")
	} else {
		row.reason.Text = p.words(n, "the text", domain.MaxText)
	}
}

func (p *parser) readRouting(root, n *yaml.Node, set *RuleSet) {
	t := &table{name: "routing", rows: map[string]int{}, asked: map[string]string{},
		noMatch: "an order with a line that no row matches finds no site"}
	keys := []string{"row", "when", "any_line", "every_line", "line", "to"}
	p.rows(root, n, t, keys, func(node *yaml.Node, m map[string]*yaml.Node, name string) {
		row := routingRow{name: name, conditions: p.conditions(m)}
		row.line = p.cells(m["line"], ofLines)
		if m["to"] == nil {
			p.fail(node, "to is missing: it names the sites, the best first")
		} else {
			row.to = p.destinations(m["to"])
		}
		set.routing = append(set.routing, row)
	})
}

// destinations reads the sites that a row routes to.
func (p *parser) destinations(n *yaml.Node) []*site {
	var to []*site
	for _, item := range p.items(n) {
		code, ok := p.scalar(item)
		if !ok {
			continue
		}
		s := p.sites[code]
		switch {
		case s == nil:
			p.fail(item, "there is no site %.40q under sites", code)
		case slices.Contains(to, s):
			p.fail(item, "the site %s is named twice", code)
		default:
			to = append(to, s)
		}
	}
	return to
}
