package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// An injection makes the n-th call of one kind, of those that touch a file of the server, kill the server or fail.
// strace counts the calls of each thread for itself.
type injection struct {
	call string
	how  string // signal=SIGKILL, error=EIO or error=ENOSPC
	nth  int
}

func (i injection) String() string { return fmt.Sprintf("%s of the %d. %s", i.how, i.nth, i.call) }

// fileCalls are the system calls that matter to files.
var fileCalls = []string{
	"open", "openat", "read", "pread64", "write", "pwrite64", "fsync", "fdatasync", "sync_file_range", "fallocate", "ftruncate",
	"rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdirat", "link", "linkat", "close", "lseek",
	"fstat", "stat", "lstat", "newfstatat", "getdents64", "fcntl", "fstatfs", "statfs",
}

// A straced is the program under strace, in a directory that has the same name in each run.
type straced struct {
	t       *testing.T
	dir     string
	address string
	paths   []string // files that it has touched in a run without injection
}

func (s *straced) data() string { return filepath.Join(s.dir, "data") }

// start starts the program with the arguments under strace. The process is the program itself.
func (s *straced) start(stderr *bytes.Buffer, trace []string, args ...string) *exec.Cmd {
	s.t.Helper()
	options := append([]string{"-D", "-f", "-qq", "-o", filepath.Join(s.dir, "trace")}, trace...)
	command := exec.CommandContext(s.t.Context(), "strace", append(append(options, "orderledger"), args...)...)
	command.Stderr = stderr
	check(s.t, command.Start())
	return command
}

// ended waits until the program has ended. It kills one that hangs, and reports whether it had to. A program that was
// refused to give a lock back waits for that lock ten seconds each time it needs it until it ends, which may be several
// times: two minutes are for that.
func ended(command *exec.Cmd) (hung bool) {
	done := make(chan struct{})
	go func() {
		_ = command.Wait() // how it has ended stands in its state
		close(done)
	}()
	select {
	case <-done:
		return false
	case <-time.After(2 * time.Minute):
		_ = command.Process.Kill()
		<-done
		return true
	}
}

// serve lets the server take some orders and be stopped, as far as it comes.
func (s *straced) serve(trace []string, orders []*rememberedOrder) (command *exec.Cmd, stderr string) {
	s.t.Helper()
	var log bytes.Buffer
	command = s.start(&log, trace, "serve", "--data", s.data(), "--listen", s.address, "--log-level", "warn")
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	alive := func() bool { return syscall.Kill(command.Process.Pid, 0) == nil && !zombie(command.Process.Pid) }
	answers := poll(func() bool {
		a, err := pebblestore.Announced(s.data())
		if err == nil && a.PID == command.Process.Pid && a.Address != "" {
			return true
		}
		return !alive()
	})
	if !answers {
		s.t.Error("the server neither answers nor ends")
	}
	c := &remembering{t: s.t, name: "client", base: "http://" + s.address, http: client}
	for _, o := range orders {
		if !alive() {
			break
		}
		q := o.submission()
		header, body, err := c.post(&q)
		if err != nil {
			if text := err.Error(); !errors.Is(err, errUnanswered) && !strings.Contains(text, "503 Service Unavailable: {") {
				s.t.Errorf("a refusal that is not clear: %v", err)
			}
			continue
		}
		check(s.t, json.Unmarshal(body, &struct {
			ID       *string `json:"id"`
			Revision *uint64 `json:"revision"`
		}{&o.id, &o.revision}))
		o.mark = header.Get("Orderledger-Mark")
	}
	_ = command.Process.Signal(os.Interrupt) // it may have ended
	if ended(command) {
		s.t.Error("the server does not stop")
	}
	return command, log.String()
}

// zombie reports whether a process has ended and nobody has asked how.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	return err != nil || strings.HasPrefix(after, "Z")
}

// submission asks for the order.
func (o *rememberedOrder) submission() question {
	return question{order: o, path: "/v1/orders", key: o.key, body: `{"currency":"EUR","purchase_order":"` + o.key + `",
		"parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"C1"}],"country":"DE"}},
		"lines":[{"sku":"LENS","quantity":"2","price":{"amount":"12.50"}}],"personal":{"buyer":{"name":"Ms ` + o.key + `"}}}`}
}

// sales is a file to import.
func sales() string {
	var b strings.Builder
	b.WriteString("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n")
	for i := range 30 {
		fmt.Fprintf(&b, "%d,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850,United Kingdom\n", 536_000+i)
	}
	return b.String()
}

func (s *straced) importArgs() []string {
	mapping, err := filepath.Abs(filepath.Join("..", "..", "docs", "mappings", "online-retail.yaml"))
	check(s.t, err)
	file := filepath.Join(s.dir, "sales.csv")
	check(s.t, os.WriteFile(file, []byte(sales()), 0o600))
	return []string{"import", "--data", s.data(), "--map", mapping, "--rejects", filepath.Join(s.dir, "rejects.csv"), file}
}

// importSales imports orders, as far as that comes.
func (s *straced) importSales(trace []string) (command *exec.Cmd, stderr string) {
	s.t.Helper()
	var log bytes.Buffer
	command = s.start(&log, trace, s.importArgs()...)
	if ended(command) {
		s.t.Error("the import does not end")
	}
	return command, log.String()
}

// calls runs without injection and counts the calls of the thread that makes most of a kind.
func (s *straced) calls(run func(trace []string)) map[string]int {
	s.t.Helper()
	known := regexp.MustCompile(regexp.QuoteMeta(s.data()) + `[^"]*`)
	traced := func(trace ...string) []string {
		check(s.t, os.RemoveAll(s.data()))
		run(trace)
		b, err := os.ReadFile(filepath.Join(s.dir, "trace"))
		check(s.t, err)
		return strings.Split(string(b), "\n")
	}
	touched := make(map[string]bool)
	for _, line := range traced("-e", "trace=file") {
		for _, path := range known.FindAllString(line, -1) {
			touched[path] = true
		}
	}
	s.paths = nil
	for _, path := range slices.Sorted(maps.Keys(touched)) {
		s.paths = append(s.paths, "-P", path)
	}
	counted := make(map[string]int)
	most := make(map[string]int)
	call := regexp.MustCompile(`^(\d+) +(\w+)\(`)
	for _, line := range traced(append([]string{"-e", "trace=file,desc"}, s.paths...)...) {
		if m := call.FindStringSubmatch(line); m != nil && slices.Contains(fileCalls, m[2]) {
			counted[m[0]]++
			most[m[2]] = max(most[m[2]], counted[m[0]])
		}
	}
	return most
}

// injections lists every way in which one of the calls may fail.
func injections(calls map[string]int) (list []injection) {
	for _, call := range slices.Sorted(maps.Keys(calls)) {
		for n := 1; n <= calls[call]; n++ {
			list = append(list, injection{call, "signal=SIGKILL", n}, injection{call, "error=EIO", n})
			switch call {
			case "open", "openat", "write", "pwrite64", "fsync", "fdatasync", "fallocate", "ftruncate", "renameat", "mkdirat":
				list = append(list, injection{call, "error=ENOSPC", n})
			}
		}
	}
	return list
}

func (s *straced) trace(i injection) []string {
	return append([]string{"-e", "trace=" + i.call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", i.call, i.how, i.nth)}, s.paths...)
}

// explained checks that a program which an error made end says why in a sentence.
func explained(t *testing.T, i injection, command *exec.Cmd, stderr string) {
	t.Helper()
	state := command.ProcessState
	for _, bad := range []string{"panic", "fatal error", "goroutine ", "DATA RACE"} {
		if strings.Contains(stderr, bad) {
			t.Errorf("%v: it says\n%.3000s", i, stderr)
			return
		}
	}
	killed := state.ExitCode() < 0
	if killed && i.how != "signal=SIGKILL" {
		t.Errorf("%v: it has ended with %v\n%s", i, state, stderr)
	}
	if !killed && state.ExitCode() != exitOK && !strings.Contains(stderr, "orderledger: ") {
		t.Errorf("%v: it has ended with %v and does not say why: %q", i, state, stderr)
	}
}

// TestSystemCalls kills the program at a system call, or lets it fail, for calls that touch its files: while it serves
// and while it imports. Afterwards it starts without help, has what it acknowledged, takes again what it did not, and its
// ledger and read models are whole. It takes some calls at random; with ORDERLEDGER_FULL=1, each of them.
func TestSystemCalls(t *testing.T) {
	if err := exec.CommandContext(t.Context(), "strace", "-D", "-qq", "-o", os.DevNull, "true").Run(); err != nil {
		t.Skipf("strace does not work here: %v", err)
	}
	random := seeded(t)
	for name, run := range map[string]func(*testing.T, *straced, injection){
		"serve":  serveInjected,
		"import": importInjected,
	} {
		t.Run(name, func(t *testing.T) {
			s := &straced{t: t, dir: t.TempDir(), address: freeAddress(t)}
			all := injections(s.calls(func(trace []string) { s.whole(t, name, trace) }))
			chosen := all
			if !full {
				chosen = sample(random, all, 6)
			}
			t.Logf("%d of %d ways to fail, in calls of %d files", len(chosen), len(all), len(s.paths)/2)
			if len(all) < 200 {
				t.Errorf("strace shows only %d ways to fail", len(all))
			}
			for _, i := range chosen {
				t.Run(i.String(), func(t *testing.T) {
					s.t = t
					run(t, s, i)
				})
			}
		})
	}
}

// sample chooses some of the injections, with as many kinds of calls as possible.
func sample(random *rand.Rand, all []injection, n int) []injection {
	list := slices.Clone(all)
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	seen := make(map[string]int)
	var chosen []injection
	for round := 0; len(chosen) < n && round < n; round++ {
		for _, i := range list {
			if len(chosen) < n && seen[i.call+i.how] == round {
				seen[i.call+i.how]++
				chosen = append(chosen, i)
			}
		}
	}
	return chosen
}

// whole runs without injection.
func (s *straced) whole(t *testing.T, name string, trace []string) {
	t.Helper()
	if name == "serve" {
		s.serve(trace, remembered(3))
	} else {
		s.importSales(trace)
	}
}

func remembered(n int) (orders []*rememberedOrder) {
	for i := range n {
		orders = append(orders, &rememberedOrder{key: fmt.Sprintf("order-%d", i)})
	}
	return orders
}

func serveInjected(t *testing.T, s *straced, i injection) {
	t.Helper()
	check(t, os.RemoveAll(s.data()))
	orders := remembered(3)
	command, stderr := s.serve(s.trace(i), orders)
	explained(t, i, command, stderr)

	after := &server{t: t, data: s.data(), address: s.address}
	var err error
	after.log, err = os.Create(filepath.Join(s.dir, "log"))
	check(t, err)
	defer func() {
		after.kill()
		if text := after.logged(); t.Failed() || faulty(text) {
			t.Errorf("after the %v, which said\n%sthe next server's log is\n%.3000s", i, stderr, text)
		}
		check(t, after.log.Close())
	}()
	after.start()
	after.ready()
	c := &remembering{t: t, name: "client", base: after.url(), http: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}}
	defer c.http.CloseIdleConnections()
	for _, o := range orders {
		was := *o
		*o = rememberedOrder{key: o.key}
		q := o.submission()
		check(t, c.ask(&q))
		if was.id != "" && (o.id != was.id || o.revision != was.revision) {
			t.Errorf("order %s was acknowledged at revision %d, and is now order %s at %d", was.id, was.revision, o.id, o.revision)
		}
		c.again(&q)
		c.look(o)
	}
	after.stop()
	mustCommand(t, "verify", "--data", s.data())
	checkLedger(t, s.data(), []*remembering{c})
}

func importInjected(t *testing.T, s *straced, i injection) {
	t.Helper()
	check(t, os.RemoveAll(s.data()))
	command, stderr := s.importSales(s.trace(i))
	explained(t, i, command, stderr)
	var told struct{ Lines, Orders, Repeated int }
	check(t, json.Unmarshal([]byte(mustCommand(t, append([]string{"--json"}, s.importArgs()...)...)), &told))
	if told.Lines != 30 || told.Orders != 30 {
		t.Errorf("the next import has taken %d lines and %d orders, not 30", told.Lines, told.Orders)
	}
	if command.ProcessState.ExitCode() == exitOK && told.Repeated != 30 {
		t.Errorf("an import ended well, and the next one found %d of its 30 orders", told.Repeated)
	}
	mustCommand(t, "verify", "--data", s.data())
}
