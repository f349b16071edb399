package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/topology"
)

// TestCutOff lets a region answer slowly and cuts it off meanwhile: what is under way breaks in both directions, nothing
// new gets through, and other regions do not notice.
func TestCutOff(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			select {
			case asked <- struct{}{}:
			case <-answer: // the client has asked once more
			}
			<-answer
		}
	}))
	defer slow.Close()
	defer close(answer)
	a, b := places[0], places[1]
	a.API, b.API = slow.URL, "http://127.0.0.1:1"
	n := newFleetNetwork(&topology.Topology{Regions: []topology.Region{a, b}})
	entry := &http.Client{Transport: n.from("entry")}
	defer entry.CloseIdleConnections()
	get := func(path string) error {
		response, err := entry.Get(slow.URL + path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		return errors.Join(err, response.Body.Close())
	}
	check(t, get("/"))
	broken := make(chan error, 1)
	go func() { broken <- get("/slow") }()
	<-asked
	n.cutOff(b.Name)
	check(t, get("/"))
	n.cutOff(a.Name)
	if err := <-broken; err == nil {
		t.Error("a request under way was answered")
	}
	var dialling *net.OpError
	if err := get("/"); !errors.As(err, &dialling) || dialling.Op != "dial" || !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("a region that is cut off is asked: %v", err)
	}
	n.heal(a.Name)
	check(t, get("/"))
	n.cutOff("entry")
	if err := get("/"); err == nil {
		t.Error("a client that is cut off gets through")
	}
}

// TestCrowdNoticesWrongAnswers gives a crowd answers that no region should give.
func TestCrowdNoticesWrongAnswers(t *testing.T) {
	regions, err := topology.Parse([]byte("regions: [{name: a, latitude: 1, longitude: 1, api: 'http://127.0.0.1:1', ledger: 3f0c6a52-5f0e-4c55-9d0f-000000000001}]"))
	check(t, err)
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"refused for ever", 400, `{"code":"malformed_body"}`, "was answered 400"},
		{"a conflict of a new order", 409, `{"code":"conflict"}`, "was answered 409"},
		{"no JSON", 200, `<html>`, ""},
		{"another order", 200, `{"id":"NEW","status":"routed"}`, "was answered"},
		{"a command that is always refused", 201, `{"id":"x","status":"routed"}`, "was answered 409"},
	} {
		t.Run(c.name, func(t *testing.T) {
			entry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				status, body := c.status, c.body
				if c.status == 201 && strings.HasSuffix(r.URL.Path, "/confirm") {
					status, body = 409, `{"code":"conflict"}`
				}
				w.WriteHeader(status)
				_, _ = io.WriteString(w, strings.ReplaceAll(body, "NEW", r.Header.Get("Idempotency-Key")))
			}))
			defer entry.Close()
			crowd, err := newCrowd(demoCommand{Orders: 1, Seed: 1, Speed: 1, Exit: true}, entry.URL, regions, time.Now())
			check(t, err)
			crowd.pause = time.Millisecond
			if c.want == "" { // it may be well next time
				trip := crowd.queue[0]
				crowd.ask(t.Context(), trip)
				if n := crowd.counts(); n.Again != 1 || n.Waiting != 1 || n.Acknowledged != 0 {
					t.Errorf("counts: %+v", n)
				}
				return
			}
			if err := crowd.run(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the crowd ended with %v, want %s", err, c.want)
			}
		})
	}
}

// TestRegionsThatDiffer shows a region in which something is missing or wrong.
func TestRegionsThatDiffer(t *testing.T) {
	f, err := openFleet(t.Context(), t.TempDir(), 1, quiet)
	check(t, err)
	defer func() { check(t, f.close()) }()
	m := f.members[0]
	s, err := submitTo(t.Context(), m.node, "one", 1)
	check(t, err)
	check(t, m.settle(t.Context()))
	id := s.order.String()
	for _, c := range []struct {
		name  string
		known map[string]domain.Status
		twice map[string]bool
		want  string
	}{
		{"right", map[string]domain.Status{id: domain.StatusRouted}, nil, ""},
		{"elsewhere", map[string]domain.Status{id: domain.StatusClosed}, nil, "as routed, and it was answered as closed"},
		{"made twice", map[string]domain.Status{id: domain.StatusClosed}, map[string]bool{id: true}, ""},
		{"missing", map[string]domain.Status{id: domain.StatusRouted, "another": domain.StatusRouted}, nil, "shows order another 0 times"},
		{"too many", nil, nil, "shows 1 orders, and 0 were acknowledged"},
	} {
		err := m.showsAll(t.Context(), c.known, c.twice)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	if _, err := f.check(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "counts") {
		t.Errorf("two orders of one: %v", err)
	}
}

// TestRegionsScreen draws two regions, one of which is cut off and lacks what the other one has.
func TestRegionsScreen(t *testing.T) {
	f, err := openFleet(t.Context(), t.TempDir(), 2, quiet)
	check(t, err)
	defer func() { check(t, f.close()) }()
	home, away := f.members[0], f.members[1]
	_, err = submitTo(t.Context(), home.node, "one", 1)
	check(t, err)
	check(t, home.settle(t.Context()))
	d := demoCommand{Orders: 3, Seed: 1, Speed: 1, Regions: 2}
	crowd, err := newCrowd(d, "http://entry.example", f.topology, time.Now())
	check(t, err)
	var out, drawn bytes.Buffer
	e := &environment{streams: streams{out: &out, err: &drawn}}
	tour := &tour{fleet: f, crowd: crowd, orders: 3, away: away, begun: time.Now()}
	s := newRegionsScreen(e, d, tour, prometheus.NewRegistry(), "somewhere")
	frame := func(want ...string) {
		t.Helper()
		for _, text := range want {
			if !regexp.MustCompile(text).Match(drawn.Bytes()) {
				t.Errorf("%q is not on the screen:\n%s", text, &drawn)
			}
		}
		drawn.Reset()
	}
	frame("the entry +http://entry.example/\n", "us-east +http://127.0.0.1:[0-9]+/regions\n", "the data +somewhere\n")
	s.live = true
	f.network.cutOff(away.region.Name)
	s.tell("%s is cut off", away.region.Name)
	check(t, s.show(t.Context()))
	check(t, s.show(t.Context())) // too soon
	frame(`^  region `, `eu-west +1 +- +takes orders\n`, `us-east +0 +[0-9]+ events, [0-9.]+ s +cut off\n`, `orders 0 of 3 `, ` s  us-east is cut off\n$`)
	f.network.heal(away.region.Name)
	tour.healed = time.Now()
	s.tell("%s is back", away.region.Name)
	check(t, s.show(t.Context()))
	frame("^\x1b\\[9A\x1b\\[J  region ", `us-east .* catches up\n`, `us-east is cut off\n.*us-east is back\n$`)
	if out.Len() > 0 {
		t.Errorf("told elsewhere: %s", &out)
	}
	if err := tour.goOn(t.Context(), s.tell); err != nil || !tour.cut.IsZero() {
		t.Errorf("cut off before anything was sent: %v", err)
	}
}
