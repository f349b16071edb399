package rules

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/orderledger/orderledger/domain"
)

// Bounds of a rule set.
const (
	MaxText       = 256 << 10 // bytes
	maxProblems   = 50
	maxDepth      = 8 // of the text's structure
	maxTableRows  = 500
	maxSites      = 500
	maxLists      = 100
	maxListValues = 20_000 // of all lists together, counted again where a list refers to another
	maxPatterns   = 500    // of one list or cell
	maxNameLength = 40     // bytes of the name of a row, list or site
)

// Parse reads a rule set. It returns an [*Invalid] that tells all that is wrong with the text.
func Parse(text []byte) (*RuleSet, error) {
	p := &parser{lists: map[string]*texts{}, used: map[string]bool{}, sites: map[string]*site{}}
	set := &RuleSet{text: string(text), hash: hashOf(text)}
	if root := p.root(text); root != nil {
		p.ruleSet(root, set)
	}
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, inTextOrder)
		return nil, &Invalid{Problems: p.problems}
	}
	slices.SortStableFunc(p.warnings, inTextOrder)
	set.warnings = p.warnings
	return set, nil
}

func inTextOrder(a, b Problem) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) }

// A parser collects what is wrong and goes on.
type parser struct {
	problems []Problem
	warnings []Problem
	place    string // where it is reading
	lists    map[string]*texts
	used     map[string]bool // lists that something refers to
	values   int             // of all lists
	sites    map[string]*site
}

func (p *parser) fail(n *yaml.Node, format string, args ...any) {
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, p.problem(n, format, args...))
	}
}

func (p *parser) warn(n *yaml.Node, format string, args ...any) {
	if len(p.warnings) < maxProblems {
		p.warnings = append(p.warnings, p.problem(n, format, args...))
	}
}

func (p *parser) problem(n *yaml.Node, format string, args ...any) Problem {
	problem := Problem{Place: p.place, Text: fmt.Sprintf(format, args...)}
	if n != nil {
		problem.Line, problem.Column = n.Line, n.Column
	}
	return problem
}

// root reads the text's structure. It returns nil where that is beyond use.
func (p *parser) root(text []byte) *yaml.Node {
	if len(text) > MaxText {
		p.fail(nil, "the text has %d bytes, at most %d are allowed", len(text), MaxText)
		return nil
	}
	if !utf8.Valid(text) {
		p.fail(nil, "the text is not UTF-8")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		p.syntax(err)
		return nil
	}
	if err := decoder.Decode(new(yaml.Node)); err == nil {
		p.fail(nil, "the text holds more than one document: remove the lines ---")
		return nil
	} else if !errors.Is(err, io.EOF) {
		p.syntax(err)
		return nil
	}
	p.plain(document.Content[0], 0)
	if len(p.problems) > 0 {
		return nil
	}
	return document.Content[0]
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntax tells what the YAML reader tells.
func (p *parser) syntax(err error) {
	if errors.Is(err, io.EOF) {
		p.fail(nil, "the text is empty")
		return
	}
	problem := Problem{Text: "this is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlError.FindStringSubmatch(err.Error()); m != nil {
		problem.Line, _ = strconv.Atoi(m[1])
		problem.Text = "this is not YAML: " + m[2]
	}
	p.problems = append(p.problems, problem)
}

// plain refuses what makes a text hard to read for people, or costly for us.
func (p *parser) plain(n *yaml.Node, depth int) {
	switch {
	case depth > maxDepth:
		p.fail(n, "the text is nested too deeply here")
		return
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		p.fail(n, "anchors and aliases are not allowed: name the values under lists and refer to them as $name")
		return
	case n.Style&yaml.TaggedStyle != 0:
		p.fail(n, "tags such as %.40s are not allowed", n.Tag)
		return
	}
	if n.Kind == yaml.MappingNode {
		seen := map[string]int{}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				p.fail(key, "a name is expected before the colon")
			} else if line, twice := seen[key.Value]; twice {
				p.fail(key, "%.40q stands here a second time, first in line %d", key.Value, line)
			}
			seen[key.Value] = key.Line
		}
	}
	for _, c := range n.Content {
		p.plain(c, depth+1)
	}
}

func (p *parser) ruleSet(root *yaml.Node, set *RuleSet) {
	m, ok := p.members(root, "a rule set", "version", "name", "lists", "sites", "validation", "routing")
	if !ok {
		return
	}
	switch version := m["version"]; {
	case version == nil:
		p.fail(root, "version is missing: begin with version: 1")
	case version.Value != "1":
		p.fail(version, "this program reads version 1 of rule sets, not %.40q", version.Value)
	}
	if m["name"] == nil {
		p.fail(root, "name is missing: say what this rule set is called")
	} else {
		set.name = p.words(m["name"], "the name", domain.MaxName)
	}
	p.readLists(m["lists"])
	p.readSites(m["sites"], set)
	p.readValidation(root, m["validation"], set)
	p.readRouting(root, m["routing"], set)
	p.unused(m["lists"], m["sites"], set)
}

// readLists reads the named lists. One may refer to those above it.
func (p *parser) readLists(n *yaml.Node) {
	if n == nil {
		return
	}
	for _, e := range p.entries(n, "lists", maxLists) {
		p.placed("list", e.key)
		list := &texts{}
		for _, item := range p.items(e.value) {
			p.listItem(item, list)
		}
		p.values += len(list.values) + len(list.patterns)
		if p.values > maxListValues {
			p.fail(e.value, "the lists hold more than %d values together", maxListValues)
			return
		}
		p.bound(e.value, list)
		p.lists[e.key.Value] = list
	}
	p.place = ""
}

func (p *parser) listItem(n *yaml.Node, list *texts) {
	s, ok := p.scalar(n)
	if !ok {
		return
	}
	if s == "missing" || s == "present" {
		p.fail(n, "%s belongs into a cell, not into a list", s)
		return
	}
	if name, ok := strings.CutPrefix(s, "$"); ok {
		if other := p.list(n, name); other != nil {
			for _, v := range other.values {
				list.add(v)
			}
			list.patterns = append(list.patterns, other.patterns...)
		}
		return
	}
	p.text(n, s, list)
}

// readSites reads who fulfils orders.
func (p *parser) readSites(n *yaml.Node, set *RuleSet) {
	if n == nil {
		return
	}
	for _, e := range p.entries(n, "sites", maxSites) {
		p.placed("site", e.key)
		m, ok := p.members(e.value, "a site", "name", "country", "when", "line")
		if !ok {
			continue
		}
		s := &site{Site: Site{Code: e.key.Value}}
		if n := m["name"]; n != nil {
			s.Name = p.words(n, "the name", domain.MaxName)
		}
		if n := m["country"]; n != nil {
			if s.Country = p.words(n, "the country", 2); s.Country != "" && badCountry(s.Country) {
				p.fail(n, "%.40q is not a country of ISO 3166-1", s.Country)
			}
		}
		s.when = p.cells(m["when"], ofOrders)
		s.line = p.cells(m["line"], ofLines)
		p.sites[s.Code] = s
		set.sites = append(set.sites, s)
	}
	p.place = ""
}

// unused warns of lists and sites that nothing refers to.
func (p *parser) unused(lists, sites *yaml.Node, set *RuleSet) {
	p.place = ""
	for _, e := range pairs(lists) {
		if !p.used[e.key.Value] {
			p.warn(e.key, "nothing refers to the list %s", e.key.Value)
		}
	}
	routed := map[string]bool{}
	for i := range set.routing {
		for _, s := range set.routing[i].to {
			routed[s.Code] = true
		}
	}
	for _, e := range pairs(sites) {
		if !routed[e.key.Value] {
			p.warn(e.key, "no row routes to the site %s", e.key.Value)
		}
	}
}
