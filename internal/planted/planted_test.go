// Package planted holds bugs that an event-sourced ledger of several regions must never have, and proves that each would
// be caught. Every file in testdata is one bug: what it is, which tests catch it, and which text of which file to replace
// by which other one to have it back. README.md lists them.
//
// Each run checks that the bugs can still be planted. With ORDERLEDGER_FULL=1, each is planted in a build of its own, where
// its tests must fail, one by one and by themselves; the files of the module stay as they are. On two cores that takes some
// five minutes.
//
// A test of the simulator is named with its seed. As every change of the program tells other stories, a seed may catch
// nothing any more: with -update, ORDERLEDGER_FULL=1 looks for another one and writes it down. Each -update writes README.md
// anew.
package planted

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite README.md and, with ORDERLEDGER_FULL=1, seeds that catch nothing any more")

// root is the directory of the module.
var root = filepath.Join("..", "..")

// A bug is a file in testdata.
type bug struct {
	path  string
	what  string  // it is, in a sentence or two
	tests []catch // each of which catches it
	edits []edit  // what to replace, made in order
}

// A catch is a test that fails where there is the bug.
type catch struct {
	test string // its name, or that of a subtest
	pkg  string // where it is, from the root
}

func (c catch) String() string { return "Caught by " + c.test + " in " + c.pkg }

// An edit replaces one text in a file by another.
type edit struct{ file, old, new string }

func readBug(path string) (b bug, err error) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		return b, err
	}
	b.path = path
	var what []string
	for line := range strings.Lines(string(archive.Comment)) {
		line = strings.TrimSpace(line)
		if caught, ok := strings.CutPrefix(line, "Caught by "); ok {
			test, pkg, _ := strings.Cut(caught, " in ")
			b.tests = append(b.tests, catch{test, pkg})
		} else if line != "" {
			what = append(what, line)
		}
	}
	b.what = strings.Join(what, " ")
	if b.what == "" || len(b.tests) == 0 {
		return b, fmt.Errorf("%s does not say what it is, or has no line 'Caught by TEST in FOLDER'", path)
	}
	for i := 0; i < len(archive.Files); i += 2 {
		old, file, _ := strings.Cut(archive.Files[i].Name, " ")
		if old != "old" || i+1 == len(archive.Files) || archive.Files[i+1].Name != "new" {
			return b, fmt.Errorf("%s: after the comment comes '-- old FILE --' and then '-- new --'", path)
		}
		b.edits = append(b.edits, edit{file, string(archive.Files[i].Data), string(archive.Files[i+1].Data)})
	}
	if len(b.edits) == 0 {
		return b, fmt.Errorf("%s plants nothing", path)
	}
	return b, nil
}

func (b bug) name() string { return strings.TrimSuffix(filepath.Base(b.path), ".txtar") }

// files are what the bug changes.
func (b bug) files() []string {
	var all []string
	for _, e := range b.edits {
		if !slices.Contains(all, e.file) {
			all = append(all, e.file)
		}
	}
	return all
}

// planted returns the changed files.
func (b bug) planted() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, e := range b.edits {
		source, ok := files[e.file]
		if !ok {
			var err error
			if source, err = os.ReadFile(filepath.Join(root, filepath.FromSlash(e.file))); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(source, []byte(e.old)); n != 1 {
			return nil, fmt.Errorf("%s has %d times, and not once,\n%s", e.file, n, e.old)
		}
		files[e.file] = bytes.Replace(source, []byte(e.old), []byte(e.new), 1)
	}
	return files, nil
}

// readBugs reads all bugs, in the order of their names.
func readBugs(t *testing.T) []bug {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil || len(paths) < 36 {
		t.Fatalf("there are %d bugs, error %v", len(paths), err)
	}
	bugs := make([]bug, len(paths))
	for i, path := range paths {
		if bugs[i], err = readBug(path); err != nil {
			t.Fatal(err)
		}
	}
	return bugs
}

func TestBugsAreCaught(t *testing.T) {
	full := os.Getenv("ORDERLEDGER_FULL") == "1"
	began := time.Now()
	var planted atomic.Int64
	t.Cleanup(func() { t.Logf("%d bugs planted in %v", planted.Load(), time.Since(began).Round(time.Second)) })
	for _, b := range readBugs(t) {
		t.Run(b.name(), func(t *testing.T) {
			t.Parallel()
			files, err := b.planted()
			if err != nil {
				t.Fatalf("the bug cannot be planted any more: %v", err)
			}
			for _, c := range b.tests {
				if !c.exists(t) {
					t.Fatalf("%s has no %s", c.pkg, c.test)
				}
			}
			if full {
				b.plant(t, files)
				planted.Add(1)
			}
		})
	}
}

// exists reports whether the package has the test. Which subtests it has shows only when it runs.
func (c catch) exists(t *testing.T) bool {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(c.pkg), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	test, _, _ := strings.Cut(c.test, "/")
	return slices.ContainsFunc(sources, func(path string) bool {
		source, err := os.ReadFile(path)
		return err == nil && bytes.Contains(source, []byte("\nfunc "+test+"("))
	})
}

// plant runs the tests in builds that have the bug. Each must fail by itself.
func (b bug) plant(t *testing.T, files map[string][]byte) {
	t.Helper()
	overlay := overlay(t, files)
	for _, c := range b.tests {
		began := time.Now()
		out, err := c.run(t, overlay)
		if err == nil && *update && c.seed() != "" {
			out, err = b.reseed(t, overlay, &c)
		}
		switch {
		case err == nil:
			t.Errorf("%s does not see the bug\n%.600s", c.test, out)
		case !bytes.Contains(out, []byte("--- FAIL: "+c.test+" ")):
			t.Errorf("%s did not fail, but this happened:\n%.4000s", c.test, out)
		default:
			t.Logf("%v %s: %s", time.Since(began).Round(time.Second), c.test, complaint(out))
		}
	}
}

// overlay tells the go command what to read in the place of some files of the module.
func overlay(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	var replace struct{ Replace map[string]string }
	replace.Replace = make(map[string]string)
	for name, text := range files {
		path, err := filepath.Abs(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		replace.Replace[path] = filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(replace.Replace[path], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(replace)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs the test in a build that has a bug.
func (c catch) run(t *testing.T, overlay string, flags ...string) ([]byte, error) {
	t.Helper()
	pattern := "^" + strings.ReplaceAll(c.test, "/", "$/^") + "$"
	arguments := append([]string{"test", "-count=1", "-vet=off", "-timeout=5m", "-overlay=" + overlay, "-run=" + pattern}, flags...)
	command := exec.CommandContext(t.Context(), "go", append(arguments, "./"+c.pkg)...)
	command.Dir = root
	command.Env = []string{"RAPID_NOFAILFILE=true"} // how a bug was found is of no use without it
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "ORDERLEDGER_") {
			command.Env = append(command.Env, variable)
		}
	}
	return command.CombinedOutput()
}

// seed is that of a history of the simulator; empty: it is another test.
func (c catch) seed() string {
	_, seed, _ := strings.Cut(c.test, "/seed=")
	return seed
}

// reseed looks for a seed that catches the bug, and writes it down.
func (b bug) reseed(t *testing.T, overlay string, c *catch) ([]byte, error) {
	t.Helper()
	was := *c
	c.test, _, _ = strings.Cut(c.test, "/")
	out, err := c.run(t, overlay, "-failfast")
	failed := regexp.MustCompile(`--- FAIL: (` + c.test + `/\S+) `).FindSubmatch(out)
	if failed == nil {
		return out, err
	}
	c.test = string(failed[1])
	text, readErr := os.ReadFile(b.path)
	if readErr != nil {
		t.Fatal(readErr)
	}
	if err := os.WriteFile(b.path, bytes.Replace(text, []byte(was.String()), []byte(c.String()), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	return out, err
}

// complaint is the first thing that a test says of what is wrong.
func complaint(out []byte) string {
	said := regexp.MustCompile(`(?m)^(?: +\w+_test\.go:\d+:|panic:) (.+)$`)
	for _, line := range said.FindAllSubmatch(out, -1) {
		if !bytes.HasPrefix(line[1], []byte("ORDERLEDGER_SEED=")) {
			return fmt.Sprintf("%.300s", line[1])
		}
	}
	return "nothing"
}

// TestList has README.md list the bugs that there are.
func TestList(t *testing.T) {
	var text strings.Builder
	text.WriteString("# Planted bugs\n\nBugs that must never get in, and what catches each of them. `go test ./internal/planted -update` writes this list from\n" +
		"[testdata](testdata), `ORDERLEDGER_FULL=1 go test -v ./internal/planted` plants each of them and has it caught.\n\n" +
		"| bug | where | caught by | seed |\n|---|---|---|---|\n")
	for _, b := range readBugs(t) {
		var tests, seeds []string
		for _, c := range b.tests {
			test, _, _ := strings.Cut(c.test, "/")
			tests = append(tests, "`"+test+"` in `"+c.pkg+"`")
			if seed := c.seed(); seed != "" {
				seeds = append(seeds, seed)
			}
		}
		fmt.Fprintf(&text, "| [%s](testdata/%s): %s | `%s` | %s | %s |\n", b.name(), filepath.Base(b.path), b.what,
			strings.Join(b.files(), "`, `"), strings.Join(tests, ", "), strings.Join(seeds, ", "))
	}
	const path = "README.md"
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(text.String(), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("README.md does not list what there is (-want +got); write it anew with -update:\n%s", diff)
	}
}
