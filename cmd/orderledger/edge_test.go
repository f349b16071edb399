package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
)

// shownText is an output that is read while it is written.
type shownText struct {
	mu   sync.Mutex // protects the field below
	text bytes.Buffer
}

func (s *shownText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *shownText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func TestEdge(t *testing.T) {
	says := func(text string) *httptest.Server {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, text) }))
		t.Cleanup(server.Close)
		return server
	}
	topology := filepath.Join(t.TempDir(), "regions.yaml")
	use := func(server *httptest.Server) {
		check(t, os.WriteFile(topology, fmt.Appendf(nil, "regions:\n  - {name: eu, latitude: 50, longitude: 8, api: %q, ledger: 3f0c6a52-5f0e-4c55-9d0f-1b6f3f1f0a01, countries: [DE]}\n", server.URL), 0o600))
	}
	use(says("one"))
	ctx, stop := context.WithCancel(t.Context())
	var shown shownText
	exited := make(chan int)
	go func() {
		exited <- run(ctx, []string{"edge", "--topology", topology, "--listen", "127.0.0.1:0", "--country-header", "Country"}, streams{in: nil, out: &shown, err: &shown})
	}()
	address := regexp.MustCompile(`passes requests from (http://[0-9.:]+)/ to eu\. It answers this machine only`)
	if !poll(func() bool { return address.MatchString(shown.String()) }) {
		t.Fatalf("it does not say where it listens: %s", &shown)
	}
	base := address.FindStringSubmatch(shown.String())[1]
	get := func() string {
		answer, err := http.Get(base + "/")
		check(t, err)
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		check(t, err)
		return answer.Header.Get("Orderledger-Region") + " " + string(text)
	}
	if got := get(); got != "eu one" {
		t.Errorf("it answers %s", got)
	}
	use(says("two"))
	if !poll(func() bool { return get() == "eu two" }) {
		t.Errorf("the topology is as before: %s", &shown)
	}
	stop()
	if code := <-exited; code != exitOK {
		t.Errorf("it ends with %d: %s", code, &shown)
	}
}

func TestEdgeUsage(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "regions.yaml")
	check(t, os.WriteFile(bad, []byte("regions: [{name: eu}]"), 0o600))
	good := filepath.Join("..", "..", "docs", "topology.yaml")
	for _, args := range [][]string{
		{"edge"},
		{"edge", "--topology", "missing.yaml"},
		{"edge", "--topology", bad},
		{"edge", "--topology", good, "--listen", "0.0.0.0:0"},
		{"edge", "--topology", good, "--listen", "nonsense"},
	} {
		var shown shownText
		if code := run(t.Context(), args, streams{in: nil, out: &shown, err: &shown}); code != exitUsage {
			t.Errorf("%v ends with %d: %s", args, code, &shown)
		}
	}
}
