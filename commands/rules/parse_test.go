package rules_test

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/orderledger/orderledger/commands/rules"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// TestTexts reads each rule set in testdata/texts and compares what Parse says about it with what stands beside it.
func TestTexts(t *testing.T) {
	files, err := filepath.Glob("testdata/texts/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no texts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text := archive.Files[0].Data
			got := []txtar.File{archive.Files[0], {Name: "says", Data: []byte(says(text))}}
			if *update {
				archive.Files = got
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(&txtar.Archive{Files: archive.Files})), string(txtar.Format(&txtar.Archive{Files: got}))); diff != "" {
				t.Errorf("want −, got +; run the test with -update to take it over\n%s", diff)
			}
		})
	}
}

// says writes what Parse says about a text.
func says(text []byte) string {
	var b strings.Builder
	set, err := rules.Parse(text)
	if invalid := (*rules.Invalid)(nil); errors.As(err, &invalid) {
		fmt.Fprintf(&b, "refused\n")
		for _, p := range invalid.Problems {
			fmt.Fprintf(&b, "%s\n", p)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "taken\n")
	for _, w := range set.Warnings() {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}

func TestParseKeepsTheText(t *testing.T) {
	text := oneRow("{}")
	set, err := rules.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if set.Text() != text || set.Name() != "one row" {
		t.Errorf("text or name changed: %q", set.Name())
	}
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte(text))); set.Hash() != want {
		t.Errorf("hash %s, want %s", set.Hash(), want)
	}
	if diff := cmp.Diff([]rules.Site{{Code: "main"}}, set.Sites()); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefusesWithoutPosition(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"too large", "# " + strings.Repeat("x", rules.MaxText), "the text has 262146 bytes"},
		{"not UTF-8", "version: \xff", "the text is not UTF-8"},
		{"control character", "version: \x01", "this is not YAML"},
		{"empty", "", "the text is empty"},
		{"comment only", "# nothing\n", "the text is empty"},
		{"two documents", "version: 1\n---\nversion: 1\n", "more than one document"},
		{"second document broken", "version: 1\n---\n{", "this is not YAML"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := rules.Parse([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestParseBounds makes texts that are too much in one respect each.
func TestParseBounds(t *testing.T) {
	repeat := func(n int, line func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(line(i))
		}
		return b.String()
	}
	whole := func(lists, sites, validation, routing string) string {
		return "version: 1\nname: x\nlists:\n" + lists + "sites:\n" + sites + "validation:\n" + validation + "routing:\n" + routing
	}
	lists, sites := "  a: [A]\n", "  main: {}\n"
	validation, routing := "  - {row: V1, then: accept}\n", "  - {row: R1, to: main}\n"
	tests := []struct{ name, text, want string }{
		{"rows", whole(lists, sites, repeat(501, func(i int) string { return fmt.Sprintf("  - {row: V%d, then: accept}\n", i) }), routing),
			"validation is a list of 1 to 500 rows"},
		{"sites", whole(lists, repeat(501, func(i int) string { return fmt.Sprintf("  s%d: {}\n", i) }), validation, routing),
			"sites has 501 entries, at most 500"},
		{"lists", whole(repeat(101, func(i int) string { return fmt.Sprintf("  l%d: [A]\n", i) }), sites, validation, routing),
			"lists has 101 entries, at most 100"},
		{"patterns", whole("  a: ["+repeat(501, func(i int) string { return fmt.Sprintf("A%d*, ", i) })+"]\n", sites, validation, routing),
			"there are 501 values with a *, at most 500"},
		{"values that lists take from each other", whole(
			"  l0: ["+repeat(2000, func(i int) string { return fmt.Sprintf("A%d, ", i) })+"]\n"+
				repeat(20, func(i int) string { return fmt.Sprintf("  l%d: [$l%d]\n", i+1, i) }), sites, validation, routing),
			"the lists hold more than 20000 values together"},
		{"length of a value", whole("  a: ["+strings.Repeat("A", 201)+"]\n", sites, validation, routing),
			"the value has 201 bytes, at most 200"},
		{"problems", whole(lists, sites, repeat(100, func(i int) string { return fmt.Sprintf("  - {row: V%d, then: x}\n", i) }), routing),
			"(and 49 more)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := rules.Parse([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestParseOfHostileTexts reads texts of the greatest length that are known to be hard on readers of YAML.
func TestParseOfHostileTexts(t *testing.T) {
	fill := func(s string) string { return strings.Repeat(s, rules.MaxText/len(s)) }
	for name, text := range map[string]string{
		"brackets": fill("["), "braces": fill("{"), "nested maps": fill("{a: "), "nested lists": fill("- "), "questions": fill("? "),
		"comments": fill("a: #\n"), "comments between items": fill("- a\n# c\n\n"), "comments in flow": "[" + fill("a, #\n")[2:] + "]",
		"repeated names": fill("a:\n "), "tag": fill("!"), "anchors": fill("&a "), "quotes": fill("\""), "documents": fill("---\n"),
	} {
		began := time.Now()
		_, err := rules.Parse([]byte(text))
		if err == nil || len(err.Error()) > 1000 {
			t.Errorf("%s: %.100v", name, err)
		}
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("%s: %v", name, d)
		}
	}
}

// FuzzParse looks for texts that make Parse panic, run long, or take a rule set that then does not decide.
func FuzzParse(f *testing.F) {
	f.Add([]byte(rules.Minimal().Text()))
	f.Add([]byte(rules.Optics().Text()))
	files, err := filepath.Glob("testdata/texts/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		began := time.Now()
		set, err := rules.Parse(text)
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("%d bytes took %v", len(text), d)
		}
		if invalid := (*rules.Invalid)(nil); err != nil && (!errors.As(err, &invalid) || len(invalid.Problems) == 0) {
			t.Fatalf("refused without a reason: %v", err)
		}
		if err == nil {
			o := sampleOrder()
			set.Validate(&o)
			set.Route(&o, o.Unallocated(), nil)
		}
	})
}

func sha(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
