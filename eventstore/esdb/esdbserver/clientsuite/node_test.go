package clientsuite

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore/esdb/esdbserver"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

const nodeClient = "@eventstore/db-client@6.2.1"

// TestTheOfficialJavaScriptClient installs the client in a temporary folder and lets it write and read. Where npm is missing
// it fails if ORDERLEDGER_TEST_JS asks for it, and is skipped otherwise.
func TestTheOfficialJavaScriptClient(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil {
		if os.Getenv("ORDERLEDGER_TEST_JS") != "" {
			t.Fatal(err)
		}
		t.Skip("npm is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		command := exec.CommandContext(ctx, name, args...)
		command.Dir = dir
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	script, err := os.ReadFile("testdata/client.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.mjs"), script, 0o600); err != nil {
		t.Fatal(err)
	}
	run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, nodeClient)

	logger := slog.New(slog.DiscardHandler)
	store, err := pebblestore.Open("ledger", &pebblestore.Config{FS: vfs.NewMem(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	server, err := esdbserver.New(esdbserver.Config{Store: store, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	run("node", "client.mjs", server.ConnectionString())
}
