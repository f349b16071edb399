// Package planted holds bugs that an event-sourced ledger must never have, and proves that each would be caught. Every
// file in testdata is one bug: what it is, which test catches it, and which text of which file to replace by which other
// one to have it back.
//
// Each run checks that the bugs can still be planted. With ORDERLEDGER_FULL=1, each is planted in a copy of the module,
// where its test must fail.
package planted

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// root is the directory of the module.
var root = filepath.Join("..", "..")

// A bug is a file in testdata.
type bug struct {
	test string // its name
	pkg  string // where it is, from the root
	// edits are what to replace in which file, old before new. They are made in order.
	edits []edit
}

type edit struct{ file, old, new string }

func readBug(path string) (b bug, err error) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		return b, err
	}
	for line := range strings.Lines(string(archive.Comment)) {
		if caught, ok := strings.CutPrefix(line, "Caught by "); ok {
			b.test, b.pkg, _ = strings.Cut(strings.TrimSpace(caught), " in ")
		}
	}
	if b.test == "" || b.pkg == "" {
		return b, fmt.Errorf("%s has no line 'Caught by TEST in FOLDER'", path)
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

func TestBugsAreCaught(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil || len(paths) < 6 {
		t.Fatalf("there are %d bugs, error %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			b, err := readBug(path)
			if err != nil {
				t.Fatal(err)
			}
			files, err := b.planted()
			if err != nil {
				t.Fatalf("the bug cannot be planted any more: %v", err)
			}
			if !b.named(t) {
				t.Fatalf("%s has no %s", b.pkg, b.test)
			}
			if os.Getenv("ORDERLEDGER_FULL") != "1" {
				return
			}
			b.plant(t, files)
		})
	}
}

// named reports whether the test exists.
func (b bug) named(t *testing.T) bool {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(b.pkg), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(sources, func(path string) bool {
		source, err := os.ReadFile(path)
		return err == nil && bytes.Contains(source, []byte("\nfunc "+b.test+"("))
	})
}

// plant runs the test in a copy of the module that has the bug. It must fail by itself.
func (b bug) plant(t *testing.T, files map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	if err := copyModule(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), files[name], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-timeout=5m", "-run=^"+b.test+"$", "./"+b.pkg)
	command.Dir = dir
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "ORDERLEDGER_") {
			command.Env = append(command.Env, variable)
		}
	}
	out, err := command.CombinedOutput()
	if err == nil {
		t.Errorf("%s does not see the bug", b.test)
	} else if !bytes.Contains(out, []byte("--- FAIL: "+b.test)) {
		t.Errorf("%s did not fail, but this happened:\n%.4000s", b.test, out)
	}
	t.Logf("%.600s", out)
}

// copyModule copies the module without what git keeps for itself.
func copyModule(to string) error {
	names, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, name := range names {
		from, to := filepath.Join(root, name.Name()), filepath.Join(to, name.Name())
		switch {
		case name.Name() == ".git":
		case name.IsDir():
			err = os.CopyFS(to, os.DirFS(from))
		case name.Type().IsRegular():
			var b []byte
			if b, err = os.ReadFile(from); err == nil {
				err = os.WriteFile(to, b, 0o600)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
