package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

// TestScript runs the scripts in testdata/script against the program, each in a directory of its own. Beside the
// commands of testscript they have
//
//	serve ARG…         starts a server in the background, and waits until it is ready; with !, until it answers that
//	                   it is not, and what it logs may be errors
//	bus                starts a Service Bus with what 'orderledger local' makes, and puts its address into $BUS
//	eventstore DIR     starts 'orderledger local --eventstore' on a directory, and puts its address into $ESDB
//	halt               stops it, as an interrupt does; it must end well. (stop is testscript's own, and ends the script)
//	exits CODE ARG…    runs orderledger, which must end with the exit code
//	json PATH [VALUE]  what the last command has printed must be JSON, and have the value at a path such as lines.0.sku
//	let NAME PATH      puts what stands there into a variable
//	sql FILE QUERY     changes a database
func TestScript(t *testing.T) {
	mappings, err := filepath.Abs(filepath.Join("..", "..", "docs", "mappings"))
	check(t, err)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("ORDERLEDGER_DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("MAPPINGS", mappings)
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Values[scriptServer] = new(background)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"bus":        scriptBus,
			"eventstore": scriptEventStore,
			"serve":      scriptServe,
			"halt":       scriptHalt,
			"exits":      scriptExits,
			"json":       scriptJSON,
			"let":        scriptLet,
			"sql":        scriptSQL,
		},
	})
}

// scriptServer names the server of a script.
const scriptServer = "server"

// background is a process that runs beside a script.
type background struct {
	process *exec.Cmd
	exited  chan struct{} // closed when it has ended
}

func scriptBus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: bus")
	}
	bus, err := servicebustest.Start(servicebustest.Config{})
	ts.Check(err)
	ts.Defer(func() { ts.Check(bus.Close()) })
	ts.Check(localCommand{Regions: []string{"local"}}.furnish(bus))
	ts.Setenv("BUS", "servicebus://local:local@"+bus.Addr()+"/?emulator=true")
}

func scriptEventStore(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: eventstore DIR")
	}
	address, stop, err := startEventStore(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { ts.Check(stop()) })
	ts.Setenv("ESDB", address)
}

// startEventStore starts 'orderledger local --eventstore' on a directory, in a process of its own.
func startEventStore(dir string) (address string, stop func() error, err error) {
	local := exec.Command("orderledger", "local", "--json", "--data", dir, "--eventstore",
		"--eventstore-listen", "127.0.0.1:0", "--bus", "127.0.0.1:0", "--control", "127.0.0.1:0")
	var log bytes.Buffer
	local.Stderr = &log
	out, err := local.StdoutPipe()
	if err == nil {
		err = local.Start()
	}
	if err != nil {
		return "", nil, err
	}
	stop = func() error {
		if err := errors.Join(local.Process.Signal(os.Interrupt), local.Wait()); err != nil || faulty(log.String()) {
			return fmt.Errorf("orderledger local: %w\n%s", err, log.String())
		}
		return nil
	}
	var shown struct{ Ledger string }
	if err := json.NewDecoder(out).Decode(&shown); err != nil {
		return "", nil, errors.Join(fmt.Errorf("orderledger local: %w", err), stop())
	}
	return shown.Ledger, stop, nil
}

func scriptServe(ts *testscript.TestScript, neg bool, args []string) {
	status := http.StatusOK
	if neg {
		status = http.StatusServiceUnavailable
	}
	data := ts.Getenv("ORDERLEDGER_DATA")
	server := exec.Command("orderledger", append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, args...)...)
	server.Dir = ts.Getenv("WORK")
	server.Env = append(os.Environ(), "ORDERLEDGER_LOG_LEVEL=warn")
	log, err := os.CreateTemp(ts.Getenv("WORK"), "log")
	ts.Check(err)
	server.Stderr = log
	ts.Check(server.Start())
	b := ts.Value(scriptServer).(*background)
	b.process, b.exited = server, make(chan struct{})
	exited := b.exited
	go func() {
		_ = server.Wait() // how it has ended stands in its state
		close(exited)
	}()
	ts.Defer(func() {
		_ = server.Process.Kill() // it may have ended
		<-exited
		_ = log.Close()
		if text := ts.ReadFile(log.Name()); faulty(text) && !neg {
			ts.Fatalf("the server's log has\n%s", text)
		}
	})
	ts.Setenv("SERVER_PID", strconv.Itoa(server.Process.Pid))
	if !poll(func() bool {
		a, err := pebblestore.Announced(data)
		if err != nil || a.PID != server.Process.Pid {
			return false
		}
		response, err := http.Get(a.Address + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		ts.Setenv("ADDRESS", a.Address)
		return response.StatusCode == status
	}) {
		ts.Fatalf("the server does not answer as it should")
	}
}

func scriptHalt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: halt")
	}
	b := ts.Value(scriptServer).(*background)
	ts.Check(b.process.Process.Signal(os.Interrupt))
	select {
	case <-b.exited:
	case <-time.After(30 * time.Second):
		ts.Fatalf("the server does not stop")
	}
	if code := b.process.ProcessState.ExitCode(); code != exitOK {
		ts.Fatalf("the server has ended with %v", b.process.ProcessState)
	}
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: exits CODE ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec("orderledger", args[1:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\n%s%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case len(args) == 1 && !neg:
		jsonAt(ts, args[0])
	case len(args) == 2:
		if got := jsonAt(ts, args[0]); got == args[1] == neg {
			ts.Fatalf("%s is %s", args[0], got)
		}
	default:
		ts.Fatalf("usage: [!] json PATH [VALUE]")
	}
}

func scriptLet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: let NAME PATH")
	}
	ts.Setenv(args[0], jsonAt(ts, args[1]))
}

// jsonAt returns what stands at a path in the JSON that the last command has printed; strings without quotes.
func jsonAt(ts *testscript.TestScript, path string) string {
	var at any
	text := ts.ReadFile("stdout")
	if err := json.Unmarshal([]byte(text), &at); err != nil {
		ts.Fatalf("%v: %s", err, text)
	}
	for name := range strings.SplitSeq(path, ".") {
		switch v := at.(type) {
		case map[string]any:
			value, ok := v[name]
			if !ok {
				ts.Fatalf("%s: there is no %s in %s", path, name, text)
			}
			at = value
		case []any:
			if name == "length" {
				at = len(v)
				continue
			}
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(v) {
				ts.Fatalf("%s: there is no %s in %s", path, name, text)
			}
			at = v[i]
		default:
			ts.Fatalf("%s: there is no %s in %s", path, name, text)
		}
	}
	if s, ok := at.(string); ok {
		return s
	}
	return fmt.Sprint(at)
}

func scriptSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sql FILE QUERY")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	result, err := db.Exec(args[1])
	ts.Check(errors.Join(err, db.Close()))
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		ts.Fatalf("%s has changed nothing: %v", args[1], err)
	}
}
