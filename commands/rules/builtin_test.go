package rules_test

import (
	"testing"

	"github.com/orderledger/orderledger/commands/rules"
)

func TestBuiltInRuleSetsHaveNoWarnings(t *testing.T) {
	for _, set := range []*rules.RuleSet{rules.Minimal(), rules.Optics()} {
		for _, w := range set.Warnings() {
			t.Errorf("%s: %s", set.Name(), w)
		}
	}
	if n := len(rules.Optics().Sites()); n != 12 {
		t.Errorf("the optics maker has %d sites, not 12", n)
	}
}
