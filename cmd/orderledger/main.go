// Command orderledger is an event-sourced order ledger: the server, and the tools around it, in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // so that time zones are known on machines that have none

	"github.com/alecthomas/kong"
)

// memoryTarget is how much memory the program tries to get along with where GOMEMLIMIT does not say otherwise. It is
// no limit: the collector works harder above it.
const memoryTarget = 160 << 20

// collectAt is how much the heap grows between two collections where GOGC does not say otherwise, in percent of what is
// in use. That is little, and the usual 100 % would have the collector run many times a second; what memoryTarget allows
// is there to be used.
const collectAt = 400

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryTarget)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends the process at once
	code := run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run executes one command line and returns the exit code. A second interrupt, after the first has cancelled ctx,
// ends the process at once.
func run(ctx context.Context, args []string, s streams) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("orderledger"),
		kong.Description("An event-sourced order ledger: submit orders, follow them, replay them.\n\n"+exitCodesHelp),
		kong.Writers(s.out, s.err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(s.err, "orderledger:", err)
		return exitFailure
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		fmt.Fprintf(s.err, "orderledger: %v\n", err)
		var parse *kong.ParseError
		if errors.As(err, &parse) && len(args) == 0 {
			_ = parse.Context.PrintUsage(true)
		}
		return exitUsage
	}
	e := &environment{globals: c.globals, streams: s, model: parser.Model, dataGiven: c.Data != ""}
	if !e.dataGiven {
		e.Data = defaultData
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(e)
	return e.report(ctx, err)
}
