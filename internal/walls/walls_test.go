// Package walls holds the walls between the packages of this module: which of them may know which others.
package walls

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/orderledger/orderledger/"

// allowed are the arrows of the house: what a package may import of this module. They all point down. A package that
// is not listed here has no place in the house yet; "…" is everything.
var allowed = map[string][]string{
	"cmd/orderledger":        {"…"},
	"cmd/orderledger/optics": {"domain"},

	"readapi":             {"projections", "projections/history", "domain", "eventstore", "internal/web"},
	"commands":            {"commands/rules", "domain", "eventstore", "internal/keyring", "internal/message", "internal/web"},
	"commands/importer":   {"domain", "internal/web"},
	"commands/rules":      {"domain", "eventstore"},
	"projections":         {"domain", "eventstore"},
	"projections/history": {"domain", "eventstore"},

	"eventstore/relay":              {"eventstore", "internal/message", "internal/retry"},
	"eventstore/esdb":               {"eventstore"},
	"eventstore/esdb/esdbserver":    {"eventstore"},
	"eventstore/feed":               {"eventstore"},
	"eventstore/mirror":             {"eventstore"},
	"eventstore/pebblestore":        {"eventstore"},
	"eventstore/pebblestore/faults": {},
	"internal/planted":              {},
	"eventstore/eventstoretest":     {"eventstore"},
	"eventstore":                    {},

	"eventstore/relay/servicebus":                              {"internal/retry"},
	"eventstore/relay/servicebus/servicebustest":               {"eventstore/relay/servicebus/servicebustest/internal/amqp"},
	"eventstore/relay/servicebus/servicebustest/internal/amqp": {},

	"domain":            {},
	"domain/domaintest": {"domain"},

	"internal/bench":    {},
	"internal/web":      {},
	"internal/message":  {"eventstore"},
	"internal/keyring":  {},
	"internal/realdata": {},
	"internal/edge":     {"internal/topology", "internal/web"},
	"internal/topology": {"domain"},
	"internal/faultnet": {},
	"internal/retry":    {},
	"internal/simulate": {
		"commands", "domain", "eventstore", "eventstore/mirror", "eventstore/relay", "internal/edge", "internal/keyring", "internal/message",
		"internal/topology", "internal/web", "projections", "readapi",
	},
	"internal/walls": {},
}

// outside is what a package may import of other modules, directly or through others. Packages that are not listed may
// import what they need.
var outside = map[string][]string{
	"domain":     {"github.com/google/uuid", "github.com/govalues/decimal"},
	"eventstore": {"github.com/google/uuid"},
}

// never is what must not come into a package, not even through others.
var never = map[string][]string{
	"domain":              {"net/http", "database/sql", "os/exec", "log/slog"},
	"eventstore":          {"net/http", "database/sql", "os/exec"},
	"projections":         {"github.com/ThreeDotsLabs/watermill", "github.com/Azure", "github.com/cockroachdb/pebble", "net/http"},
	"projections/history": {"github.com/ThreeDotsLabs/watermill", "database/sql"},
	"readapi":             {"github.com/ThreeDotsLabs/watermill", "github.com/cockroachdb/pebble"},
	"commands/rules":      {"github.com/ThreeDotsLabs/watermill", "net/http", "database/sql"},
	"internal/message":    {"github.com/cockroachdb/pebble", "database/sql"},
}

// forTests are packages that only tests import.
var forTests = []string{"domain/domaintest", "eventstore/eventstoretest", "internal/realdata", "internal/faultnet", "testing", "pgregory.net/rapid", "github.com/google/go-cmp"}

// A listed package, as go list describes it.
type listed struct {
	ImportPath string
	Standard   bool
	Doc        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func list(t *testing.T) map[string]listed {
	t.Helper()
	command := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Doc,GoFiles,Imports,Deps", "./...")
	command.Dir = "../.."
	var complaint bytes.Buffer
	command.Stderr = &complaint
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &complaint)
	}
	packages := make(map[string]listed)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
}

func TestWalls(t *testing.T) {
	packages := list(t)
	for _, path := range slices.Sorted(maps.Keys(packages)) {
		name, ours := strings.CutPrefix(path, module)
		if !ours {
			continue
		}
		p := packages[path]
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("package %s has no comment", name)
		}
		arrows, known := allowed[name]
		if !known {
			t.Errorf("package %s has no place among the walls", name)
			continue
		}
		for _, imported := range p.Imports {
			if to, ours := strings.CutPrefix(imported, module); ours && !slices.Contains(arrows, to) && !slices.Contains(arrows, "…") {
				t.Errorf("%s imports %s", name, to)
			}
			if !slices.Contains(forTests, name) && under(strings.TrimPrefix(imported, module), forTests) {
				t.Errorf("%s imports %s, which is for tests", name, imported)
			}
		}
		for _, dep := range p.Deps {
			if only, ok := outside[name]; ok && !packages[dep].Standard && !under(dep, only) {
				t.Errorf("%s depends on %s", name, dep)
			}
			if slices.Contains(never[name], dep) || !packages[dep].Standard && under(dep, never[name]) {
				t.Errorf("%s depends on %s", name, dep)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(allowed)) {
		if _, ok := packages[module+name]; !ok {
			t.Errorf("there is no package %s", name)
		}
	}
}

// under reports whether a package is one of some, or lies below one of them.
func under(path string, these []string) bool {
	return slices.ContainsFunc(these, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}
