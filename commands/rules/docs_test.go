package rules_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/orderledger/orderledger/commands/rules"
)

// TestDocs reads the rule set in docs/rules.md, and looks there for every fact that there is.
func TestDocs(t *testing.T) {
	docs, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(docs), "```yaml\n")
	example, _, _ = strings.Cut(example, "```\n")
	set := mustParse(t, example)
	if len(set.Warnings()) > 0 {
		t.Errorf("the example has warnings: %v", set.Warnings())
	}

	// The refusal of an unknown fact names all that are known.
	for _, place := range []string{"when", "any_line"} {
		_, err := rules.Parse([]byte(oneRow(place + ": {unheard_of: 1}")))
		if err == nil {
			t.Fatal("an unknown fact was taken")
		}
		_, names, _ := strings.Cut(err.Error(), "the facts are ")
		for _, name := range strings.Split(names, ", ") {
			if !regexp.MustCompile("(?m)^\\| `" + name + "` \\|").Match(docs) {
				t.Errorf("the fact %q is not in docs/rules.md", name)
			}
		}
	}
}
