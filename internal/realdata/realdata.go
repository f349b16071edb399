// Package realdata finds what tests use of the real world: orders of real shops, published lists, texts that are known
// to break programs. The project does not carry them.
package realdata

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// variable names the directory of the data. Where it is not set, they are looked for beside the project.
const variable = "ORDERLEDGER_TEST_DATA"

// Path returns the path of a file or directory of the data. Where the data are not there the test is skipped, and says
// so; where somebody has said where they are and they are not, it fails.
func Path(t testing.TB, elem ...string) string {
	t.Helper()
	name := filepath.Join(elem...)
	dir, said := os.LookupEnv(variable)
	if !said {
		dir = filepath.Join(root(t), "..", "shared", "data")
	}
	path := filepath.Join(dir, name)
	switch _, err := os.Stat(path); {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) && !said:
		t.Skipf("%s is not here: set %s to the directory that has it", name, variable)
	default:
		t.Fatalf("%s: %v", variable, err)
	}
	return path
}

// root is the directory of the module that the test belongs to.
func root(t testing.TB) string {
	dir, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatalf("no go.mod above the test: %v", err)
	return ""
}
