package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
)

// cli is every command and flag. A flag's default can be set by the variable that the help names beside it.
type cli struct {
	globals

	Serve     serveCommand     `cmd:"" help:"Run the server: commands, relay, projector and queries, in one process or in several."`
	Edge      edgeCommand      `cmd:"" help:"Run the entry in front of the regions: the nearest healthy one answers."`
	Demo      demoCommand      `cmd:"" help:"Run a server that plays the orders of an optics maker, faster than life."`
	Order     orderCommand     `cmd:"" help:"Submit, show, follow and change orders."`
	Command   commandCommand   `cmd:"" help:"Ask what has become of a command that was sent over the bus."`
	Import    importCommand    `cmd:"" help:"Take in orders from CSV, TSV or JSON lines."`
	Rules     rulesCommand     `cmd:"" help:"Show or activate the rules that judge and route orders."`
	Rebuild   rebuildCommand   `cmd:"" help:"Build the read models anew from the ledger. The server of the read models must be stopped."`
	Verify    verifyCommand    `cmd:"" help:"Check the ledger's chain, and the read models against it. The server of the ledger must be stopped, or be named by --ledger."`
	Backup    backupCommand    `cmd:"" help:"Copy the ledger, also while a server is running."`
	Copy      copyCommand      `cmd:"" help:"Copy a ledger from the embedded form to EventStoreDB, or back. Its server must be stopped."`
	Ledger    ledgerCommand    `cmd:"" name:"ledger" help:"Show the ledger, or let a copy of it go on."`
	DLQ       dlqCommand       `cmd:"" name:"dlq" help:"Look after messages on the bus that could not be read."`
	Regions   regionsCommand   `cmd:"" help:"List the regions, and how far each can be seen from the server."`
	Region    regionCommand    `cmd:"" help:"Let a region take over the orders of one that is gone, or return them."`
	Conflicts conflictsCommand `cmd:"" help:"List what two regions have done with the same order and only people can decide."`
	Conflict  conflictCommand  `cmd:"" help:"Settle such a conflict."`
	Parked    parkedCommand    `cmd:"" help:"Look after orders of which an event could not be applied to the read models."`
	Local     localCommand     `cmd:"" help:"Run a Service Bus, and what EventStoreDB speaks in front of a ledger, on this machine, for this program and for others."`
	Token     tokenCommand     `cmd:"" help:"Make a token that lets somebody use a server."`
	Erase     eraseCommand     `cmd:"" help:"Make a buyer's personal data unreadable, for ever."`
	Bench     benchCommand     `cmd:"" help:"Measure how fast this is on this machine, beside what the machine could do."`
	Simulate  simulateCommand  `cmd:"" help:"Look for a history in which regions that fail break a promise."`

	Completion completionCommand `cmd:"" help:"Print a script that completes commands in a shell."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
}

// globals are the flags of all commands.
type globals struct {
	Data         string `env:"ORDERLEDGER_DATA" type:"path" placeholder:"DIR" help:"Directory of the ledger, the read models and the keys (${env}; default: orderledger-data)."`
	Ledger       string `env:"ORDERLEDGER_LEDGER" placeholder:"URL" help:"The ledger: pebble:DIR, memory:, esdb://[NAME:PASSWORD@]HOST:PORT (EventStoreDB; better by its variable), or the address of a server that has it, such as http://127.0.0.1:8080 (${env}; default: pebble in the data directory)."`
	Views        string `env:"ORDERLEDGER_VIEWS" placeholder:"URL" help:"The read models: sqlite:FILE (${env}; default: views.db in the data directory)."`
	Server       string `env:"ORDERLEDGER_SERVER" placeholder:"URL" help:"Address of the server to talk to (${env}; default: the one that serves the data directory)."`
	Token        string `env:"ORDERLEDGER_TOKEN" placeholder:"TOKEN" help:"Token for a server that asks for one; better by its variable than on the command line (${env})."`
	BusinessUnit string `default:"main" env:"ORDERLEDGER_BUSINESS_UNIT" placeholder:"NAME" help:"Business unit whose orders are meant (${env}; default: ${default})."`
	JSON         bool   `env:"ORDERLEDGER_JSON" help:"Print JSON, for scripts (${env})."`
	LogLevel     string `default:"info" enum:"debug,info,warn,error" env:"ORDERLEDGER_LOG_LEVEL" placeholder:"LEVEL" help:"What the server logs to standard error: debug, info, warn or error (${env}; default: ${default})."`
}

// environment is what a command runs in.
type environment struct {
	globals
	streams
	model     *kong.Application
	dataGiven bool // the user has named the data directory
}

// defaultData is the data directory where none is named.
const defaultData = "orderledger-data"

// logger writes to standard error.
func (e *environment) logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(e.LogLevel)) // the parser has checked it
	return slog.New(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: level}))
}

// printf writes to standard output. A reader who has gone away is no failure of the command.
func (e *environment) printf(format string, args ...any) { fmt.Fprintf(e.out, format, args...) }

// note writes to standard error what is not the result.
func (e *environment) note(format string, args ...any) { fmt.Fprintf(e.err, format+"\n", args...) }

// printJSON writes a value as indented JSON.
func (e *environment) printJSON(v any) error {
	enc := json.NewEncoder(e.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// The exit codes, which scripts may rely on.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitRefused     = 3
	exitNotFound    = 4
	exitUnavailable = 5
	exitDifferent   = 6
	exitInterrupted = 130
)

const exitCodesHelp = "Exit codes: 0 done; 1 failed; 2 wrong usage or malformed input; 3 refused, by the order's state or for want of a token or role; 4 not found; " +
	"5 server or ledger not available; 6 a verification found a difference; 130 interrupted, but for what only watches."

// An exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// report tells the user about an error and returns the exit code.
func (e *environment) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitFailure
	var exit *exitError
	var answer *problem
	var locked *eventstore.LockedError
	var unreachable *unreachableError
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case errors.As(err, &answer):
		code = answer.exitCode()
	case errors.As(err, &locked), errors.As(err, &unreachable):
		code = exitUnavailable
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		code = exitInterrupted
		err = errors.New("interrupted")
	}
	if e.JSON {
		_ = json.NewEncoder(e.err).Encode(struct {
			Error string `json:"error"`
			Code  string `json:"code,omitempty"`
			Exit  int    `json:"exit"`
		}{err.Error(), answer.code(), code})
		return code
	}
	e.note("orderledger: %v", err)
	return code
}

// ledgerDir is the directory of the ledger; empty for one that lives in memory.
func (g *globals) ledgerDir() (string, error) {
	if g.Ledger == "" {
		return g.Data, nil
	}
	scheme, dir, _ := strings.Cut(g.Ledger, ":")
	switch {
	case scheme == "memory" && dir == "":
		return "", nil
	case scheme == "pebble" && dir != "":
		return dir, nil
	case esdb.IsConnectionString(g.Ledger):
		return "", usage("this needs an embedded ledger, and not one in EventStoreDB")
	}
	// What follows the scheme may hold a password.
	return "", usage("a ledger is pebble:DIR, memory:, esdb://HOST or the address of a server, and %q is none of these", scheme+":…")
}

// announcedIn is where the server of the ledger tells its address; empty for a ledger that lives in memory.
func (g *globals) announcedIn() (string, error) {
	if esdb.IsConnectionString(g.Ledger) {
		return g.Data, nil
	}
	return g.ledgerDir()
}

// feed is where another process serves the ledger; ok is false if it is not in another process.
func (g *globals) feed() (address string, ok bool) {
	if !strings.HasPrefix(g.Ledger, "http://") && !strings.HasPrefix(g.Ledger, "https://") {
		return "", false
	}
	return strings.TrimSuffix(g.Ledger, "/") + feedPath, true
}

// viewsFile is the file of the read models.
func (g *globals) viewsFile() (string, error) {
	if g.Views == "" {
		return filepath.Join(g.Data, "views.db"), nil
	}
	if path, ok := strings.CutPrefix(g.Views, "sqlite:"); ok && path != "" {
		return path, nil
	}
	return "", usage("read models are sqlite:FILE, not %q", g.Views)
}

// baseURL checks the address of a server.
func baseURL(s string) (string, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" {
		return "", usage("server %q is not an address such as http://127.0.0.1:8080", s)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}
