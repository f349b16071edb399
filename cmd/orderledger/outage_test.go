package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// asked asks a server and returns its answer, which must have come.
func (s *server) asked(path string) (*http.Response, string) {
	s.t.Helper()
	response, err := http.Get(s.url() + path)
	check(s.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(s.t, err)
	return response, string(body)
}

// TestReaderWithoutItsWriter starts a process on a feed before the one that has the ledger, which it waits for, and takes that one
// away later: it stays ready, says how old its rows may be, and goes on when the other is back.
func TestReaderWithoutItsWriter(t *testing.T) {
	bus := servicebustest.New(t, nil)
	check(t, localCommand{Regions: []string{"eu"}}.furnish(bus))
	url := "servicebus://local:local@" + bus.Addr() + "/?emulator=true"
	writer := newServer(t)
	writer.flags = []string{"--roles", "commands,relay", "--bus", url}
	reader := newServer(t)
	reader.remote = true
	reader.flags = []string{"--roles", "projector,readapi", "--ledger", writer.url(), "--bus", url, "--region", "eu"}

	reader.start()
	if !poll(func() bool { return strings.Contains(reader.logged(), "waiting for the process that has the ledger") }) {
		t.Fatalf("the reader does not say that it waits:\n%s", reader.logged())
	}
	reader.stop130()
	reader.start()
	<-time.After(time.Second)
	writer.start()
	reader.ready()
	if lines := strings.Count(reader.logged(), "level=WARN"); lines != 2 { // one of each wait
		t.Errorf("the reader has logged %d warnings:\n%s", lines, reader.logged())
	}
	writer.ready()
	d := &distributed{t: t, bus: bus, writer: writer, regions: map[string]*server{"eu": reader}}
	customer := d.client("customer")
	d.live(customer)
	d.shown(customer)

	writer.kill()
	var ready struct {
		Status string
		Checks map[string]string
	}
	if !poll(func() bool {
		response, body := reader.asked("/readyz")
		if response.StatusCode != http.StatusOK {
			t.Fatalf("without the writer the reader is not ready: %s", body)
		}
		check(t, json.Unmarshal([]byte(body), &ready))
		return ready.Checks["projector"] == "degraded"
	}) {
		t.Errorf("without the writer: %+v", ready)
	}
	<-time.After(1500 * time.Millisecond)
	response, body := reader.asked("/v1/orders/" + customer.orders[0].id)
	if response.StatusCode != http.StatusOK {
		t.Errorf("without the writer a read is answered %s %s", response.Status, body)
	}
	_, seconds, _ := strings.Cut(response.Header.Get("Orderledger-Lag"), ";")
	if lag, err := strconv.ParseFloat(seconds, 64); err != nil || lag < 1 {
		t.Errorf("the lag is told as %q", response.Header.Get("Orderledger-Lag"))
	}
	// What only the ledger knows has to wait, and that is no fault of this process.
	if response, body := reader.asked("/v1/history/orders/" + customer.orders[0].id); response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "does not answer") {
		t.Errorf("without the writer, history is answered %s %s", response.Status, body)
	}

	writer.start()
	if !poll(func() bool {
		_, body := reader.asked("/readyz")
		check(t, json.Unmarshal([]byte(body), &ready))
		return ready.Checks["projector"] == "ok"
	}) {
		t.Errorf("with the writer again: %+v", ready)
	}
	customer.http.CloseIdleConnections()
	writer.ready()
	d.live(customer)
	d.shown(customer)
	d.stop()
	d.verify()
}

// stop130 interrupts a process that does not serve yet.
func (s *server) stop130() {
	s.t.Helper()
	check(s.t, s.process.Process.Signal(os.Interrupt))
	<-s.exited
	if code := s.process.ProcessState.ExitCode(); code != exitInterrupted {
		s.t.Fatalf("the server has stopped with %v", s.process.ProcessState)
	}
}

// TestReaderWithoutTheBus takes the bus away for as long as it takes until a process on a feed reads there what is new, and
// gives it back: nothing comes twice.
func TestReaderWithoutTheBus(t *testing.T) {
	t.Parallel() // it waits most of the time
	d := newDistributed(t, "eu")
	customer := d.client("customer")
	d.live(customer)
	d.shown(customer)
	d.bus.Stop()
	d.live(customer)
	d.shown(customer)
	reader := d.regions["eu"]
	if !strings.Contains(reader.logged(), "the bus does not bring what is in the ledger") {
		t.Error("the reader does not say that the bus brings nothing")
	}
	if response, body := reader.asked("/readyz"); response.StatusCode != http.StatusOK {
		t.Errorf("without the bus the reader is not ready: %s", body)
	}
	d.bus.Resume()
	d.live(customer)
	d.shown(customer)
	d.stop()
	d.verify()
}
