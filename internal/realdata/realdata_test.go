package realdata_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/orderledger/orderledger/internal/realdata"
)

// A double notes how a test would have ended.
type double struct {
	testing.TB
	skipped, failed bool
}

func (d *double) Helper()               {}
func (d *double) Skipf(string, ...any)  { d.skipped = true }
func (d *double) Fatalf(string, ...any) { d.failed = true }

func TestPath(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "here"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ORDERLEDGER_TEST_DATA", dir)
	if got := realdata.Path(t, "here"); got != filepath.Join(dir, "here") {
		t.Errorf("path %s", got)
	}
	said := &double{TB: t}
	realdata.Path(said, "elsewhere")
	if !said.failed || said.skipped {
		t.Error("data that are not where somebody said do not fail the test")
	}
	if err := os.Unsetenv("ORDERLEDGER_TEST_DATA"); err != nil { // put back by Setenv above
		t.Fatal(err)
	}
	silent := &double{TB: t}
	realdata.Path(silent, "no", "such", "file")
	if !silent.skipped || silent.failed {
		t.Error("data that nobody has do not skip the test")
	}
}
