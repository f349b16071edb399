package servicebustest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// TestJavaScriptClient runs the official JavaScript client against the bus. It fetches the client from npm, and
// therefore only runs when it is asked to.
func TestJavaScriptClient(t *testing.T) {
	if os.Getenv("ORDERLEDGER_TEST_JS") != "1" {
		t.Skip("set ORDERLEDGER_TEST_JS=1 to fetch and run the JavaScript client")
	}
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateQueue("plain", servicebustest.Queue{}))
	succeed(t, bus.CreateQueue("sessions", servicebustest.Queue{RequiresSession: true}))
	succeed(t, bus.CreateTopic("events", servicebustest.Topic{}))
	succeed(t, bus.CreateSubscription("events", "all", servicebustest.Subscription{}))

	dir := t.TempDir()
	succeed(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "js"))))
	for _, args := range [][]string{
		{"npm", "install", "--no-audit", "--no-fund", "--loglevel=error"},
		{"node", "proof.mjs"},
	} {
		command := exec.CommandContext(t.Context(), args[0], args[1:]...)
		command.Dir = dir
		command.Env = append(os.Environ(), "SERVICEBUS="+bus.ConnectionString())
		output, err := command.CombinedOutput()
		t.Logf("%v\n%s", args, output)
		succeed(t, err)
	}
}
