package esdb

import (
	"regexp"
	"testing"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/eventstore"
)

func TestServerFilterChoosesAtLeastWhatTheFilterDoes(t *testing.T) {
	nameOf := rapid.StringOf(rapid.SampledFrom([]rune("$relay-o\né")))
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(nameOf, rapid.Custom(func(t *rapid.T) string { return "relay-"[:rapid.IntRange(0, 6).Draw(t, "n")] + nameOf.Draw(t, "rest") })).Draw(t, "name")
		if name == "" {
			return // no stream has it
		}
		if got, want := regexp.MustCompile(public).MatchString(name), !eventstore.Internal(name); got != want {
			t.Errorf("%q: the expression says %v, want %v", name, got, want)
		}
	})
	for _, c := range []struct {
		filter   eventstore.Filter
		all      bool
		prefixes int
		regex    bool
	}{
		{eventstore.Filter{}, true, 0, false},
		{eventstore.Filter{Public: true}, false, 0, true},
		{eventstore.Filter{Prefixes: []string{"order-", "command-"}, Public: true}, false, 2, false},
		{eventstore.Filter{Prefixes: []string{"order-", ""}}, true, 0, false},
	} {
		got := serverFilter(c.filter)
		if (got == nil) != c.all || got != nil && (len(got.Prefixes) != c.prefixes || (got.Regex != "") != c.regex) {
			t.Errorf("%+v becomes %+v", c.filter, got)
		}
	}
}
