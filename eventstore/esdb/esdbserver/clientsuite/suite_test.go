// Package clientsuite runs the test suite of the official Go client of EventStoreDB, as it stands in the module cache,
// against esdbserver. It is a module of its own, so that what the suite needs does not become ours.
package clientsuite

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/EventStore/EventStore-Client-Go/v4/esdb" // its tests are run: this keeps them and what they need in go.mod
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore/esdb/esdbserver"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

const suite = "github.com/EventStore/EventStore-Client-Go/v4/esdb"

// start serves a new ledger where the suite looks for a cluster.
func start(t *testing.T) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	store, err := pebblestore.Open("ledger", &pebblestore.Config{FS: vfs.NewMem(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	server, err := esdbserver.New(esdbserver.Config{
		Store: store, Addr: "localhost:2111", Followers: []string{"localhost:2112", "localhost:2113"},
		TLS: certificate(t), Users: map[string]string{"admin": "changeit"}, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// certificate makes one that nobody verifies.
func certificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

// skipped are the tests that the suite itself leaves out in this mode, with the reason.
var skipped = map[string]string{
	"AppendTests/appendToSystemStreamWithIncorrectCredentials":                            "needs a container",
	"ReadStreamTests/readStreamEventsForwardsFromZeroPosition":                            "needs the vendor's prepared database",
	"ReadStreamTests/readStreamEventsBackwardsFromEndPosition":                            "needs the vendor's prepared database",
	"SubscriptionTests/streamSubscriptionDeliversAllEventsInStreamAndListensForNewEvents": "needs the vendor's prepared database",
	"SubscriptionTests/allSubscriptionWithFilterDeliversCorrectEvents":                    "needs the vendor's prepared database",
	"SubscriptionTests/connectionClosing":                                                 "needs the vendor's prepared database",
	"SubscriptionTests/subscriptionAllWithCredentialsOverride":                            "needs the vendor's prepared database",
	"SubscriptionTests/subscriptionToStreamCaughtUpMessage":                               "needs the vendor's prepared database",
}

// TestTheOfficialSuiteAcceptsTheServer runs the tests of streams, $all, deletion, connection and cluster. Each function
// gets a new ledger: the names that the suite makes up repeat.
func TestTheOfficialSuiteAcceptsTheServer(t *testing.T) {
	for name, least := range map[string]int{"TestStreams": 13, "TestMisc": 3} {
		t.Run(name, func(t *testing.T) {
			start(t)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-run", "^"+name+"$", suite)
			command.Env = append(os.Environ(), "CLUSTER=true", "EVENTSTORE_INSECURE=false")
			var stderr bytes.Buffer
			command.Stderr = &stderr
			out, err := command.Output()
			passed := report(t, name, out)
			if err != nil && !t.Failed() {
				t.Errorf("the suite: %v\n%s%s", err, out, stderr.Bytes())
			}
			if passed < least {
				t.Errorf("%d tests have passed, and there are at least %d", passed, least)
			}
		})
	}
	t.Log("not run: TestPersistentSubscriptions (persistent subscriptions), TestProjections (projections), " +
		"TestExpectations (the vendor's prepared database), TestPlugins (certificates of users)")
}

// report reads what go test has written, and returns how many of the innermost tests have passed.
func report(t *testing.T, top string, out []byte) (passed int) {
	t.Helper()
	results := make(map[string]string)
	output := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Test == "" {
			continue
		}
		switch e.Action {
		case "output":
			output[e.Test] += e.Output
		case "pass", "fail", "skip":
			results[e.Test] = e.Action
		}
	}
	for _, test := range slices.Sorted(maps.Keys(results)) {
		hasMore := func(other string) bool { return strings.HasPrefix(other, test+"/") }
		if slices.ContainsFunc(slices.Collect(maps.Keys(results)), hasMore) {
			continue
		}
		switch short, result := strings.TrimPrefix(test, top+"/"), results[test]; {
		case result == "pass":
			passed++
			t.Logf("passed: %s", short)
		case result == "skip" && skipped[short] != "":
			t.Logf("skipped: %s: %s", short, skipped[short])
		default:
			t.Errorf("%s: %s\n%s", short, result, output[test])
		}
	}
	return passed
}
