package readapi_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain makes properties cheaper than rapid does by default: each of their checks is dozens of real requests. A flag
// on the command line counts more.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	flag.Parse()
	os.Exit(m.Run())
}
