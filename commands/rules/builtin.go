package rules

import (
	_ "embed"
	"fmt"
)

//go:embed default.yaml
var minimal string

//go:embed optics.yaml
var optics string

// Minimal returns the rule set of a fresh server: every order is accepted and goes to the site main.
func Minimal() *RuleSet { return builtIn("default.yaml", minimal) }

// Optics returns the rule set of an optics maker with plants and warehouses on three continents, an example.
func Optics() *RuleSet { return builtIn("optics.yaml", optics) }

// builtIn panics on a text that is part of the program and wrong.
func builtIn(file, text string) *RuleSet {
	set, err := Parse([]byte(text))
	if err != nil {
		panic(fmt.Sprintf("%s: %v", file, err))
	}
	return set
}
