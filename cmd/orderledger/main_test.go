package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// TestMain makes this binary the program, too: scripts and tests find it on the PATH as orderledger.
func TestMain(m *testing.M) {
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // a second at the end of each process adds up
	testscript.Main(m, map[string]func(){"orderledger": main})
}

// full asks for the long runs.
var full = os.Getenv("ORDERLEDGER_FULL") == "1"

var quiet = slog.New(slog.DiscardHandler)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seeded returns a source of chance, the same in every run unless ORDERLEDGER_SEED asks for another one.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(1)
	if s := os.Getenv("ORDERLEDGER_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		check(t, err)
	}
	t.Logf("ORDERLEDGER_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// poll asks until the answer is yes, and reports whether it was in time.
func poll(ask func() bool) bool { return pollFor(30*time.Second, ask) }

func pollFor(longest time.Duration, ask func() bool) bool {
	deadline := time.After(longest)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ask() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// command runs a command line in this process.
func command(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, streams{in: strings.NewReader(""), out: &out, err: &err})
	return code, out.String(), err.String()
}

// mustCommand runs a command line that succeeds, and returns what it prints.
func mustCommand(t testing.TB, args ...string) string {
	t.Helper()
	code, stdout, stderr := command(t, args...)
	if code != exitOK {
		t.Fatalf("orderledger %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// A server is the program in a process of its own, serving a directory. It may be killed and started again, and has
// the same address then.
type server struct {
	t         *testing.T
	data      string
	address   string
	flags     []string // of serve, beside those of every server
	remote    bool     // the ledger is in another process, so the directory does not say who serves it
	complains bool     // what it logs as an error is as it should be
	log       *os.File

	process *exec.Cmd
	exited  chan struct{} // closed when the process has ended
}

func newServer(t *testing.T) *server {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	check(t, err)
	s := &server{t: t, data: t.TempDir(), address: freeAddress(t), log: log}
	t.Cleanup(func() {
		s.kill()
		if text := s.logged(); t.Failed() || faulty(text) && !s.complains {
			t.Errorf("the server's log ends\n%s", text[max(0, len(text)-8_000):])
		}
		check(t, log.Close())
	})
	return s
}

// faulty reports whether a log tells of what must never happen.
func faulty(log string) bool {
	return strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") || strings.Contains(log, "level=ERROR")
}

func (s *server) logged() string {
	text, err := os.ReadFile(s.log.Name())
	check(s.t, err)
	return string(text)
}

// freeAddress finds a port that nobody uses. It is not one of those that the system gives to outgoing connections: one
// of them might get it while the server is down.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (s *server) url() string { return "http://" + s.address }

// start starts the process and does not wait for it.
func (s *server) start() {
	s.t.Helper()
	process := exec.Command("orderledger", append([]string{"serve", "--data", s.data, "--listen", s.address, "--log-level", "warn"}, s.flags...)...)
	process.Stderr = s.log
	check(s.t, process.Start())
	exited := make(chan struct{})
	go func() {
		_ = process.Wait() // how it has ended stands in its state
		close(exited)
	}()
	s.process, s.exited = process, exited
}

// ready waits until the started process answers requests.
func (s *server) ready() {
	s.t.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	if !poll(func() bool {
		select {
		case <-s.exited:
			s.t.Fatalf("the server has ended: %v", s.process.ProcessState)
		default:
		}
		if a, err := pebblestore.Announced(s.data); !s.remote && (err != nil || a.PID != s.process.Process.Pid) {
			return false
		}
		response, err := client.Get(s.url() + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode == http.StatusOK
	}) {
		s.t.Fatal("the server does not become ready")
	}
}

// kill ends the process as a crash would.
func (s *server) kill() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill() // it may have ended by itself
	<-s.exited
	s.process = nil
}

// stop asks the process to end, and waits until it has.
func (s *server) stop() {
	s.t.Helper()
	check(s.t, s.process.Process.Signal(os.Interrupt))
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		s.t.Fatal("the server does not stop")
	}
	if code := s.process.ProcessState.ExitCode(); code != exitOK {
		s.t.Fatalf("the server has stopped with %v", s.process.ProcessState)
	}
	s.process = nil
}
