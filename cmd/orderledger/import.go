package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/commands/importer"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// importCommand takes in orders from files.
type importCommand struct {
	Map     string   `required:"" placeholder:"FILE" help:"How lines become orders (YAML, see docs/import.md)."`
	Rejects string   `required:"" placeholder:"FILE" help:"Where to write the lines that could not be used, with the reason."`
	Rules   bool     `help:"Let the rules judge and route the orders, as if they were new."`
	Workers int      `default:"64" placeholder:"N" help:"How many orders to submit at once (default: ${default})."`
	Files   []string `arg:"" type:"existingfile" help:"CSV, TSV or JSON lines, also gzipped."`
}

func (i importCommand) Run(ctx context.Context, e *environment) error {
	mapping, err := i.mapping()
	if err != nil {
		return err
	}
	if i.Workers < 1 || i.Workers > 1024 {
		return usage("--workers is 1 to 1024")
	}
	target, err := i.target(ctx, e)
	if err != nil {
		return err
	}
	rejects, err := i.createRejects()
	if err != nil {
		return errors.Join(err, target.close())
	}
	begun := time.Now()
	bar := e.progress("importing", "lines")
	summary, err := importer.Run(ctx, importer.Config{
		Mapping: mapping, Files: i.Files, Submit: target.submit, Rejects: rejects, Workers: i.Workers,
		Progress: func(s importer.Summary) { bar.set(s.Lines, float64(s.Bytes)/float64(max(s.Size, 1))) },
	})
	bar.done()
	took := time.Since(begun)
	if err == nil {
		err = rejects.Sync()
	}
	if err = errors.Join(err, rejects.Close(), target.close()); errors.Is(err, importer.ErrMapping) {
		return &exitError{exitUsage, err}
	}
	if err != nil {
		e.note("stopped after %d lines. Run the same command again to go on: nothing will be taken in twice.", summary.Lines)
		return err
	}
	return i.tell(e, summary, took)
}

func (i importCommand) mapping() (*importer.Mapping, error) {
	f, err := os.Open(i.Map)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	defer f.Close()
	m, err := importer.ParseMapping(f)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("%s: %w", i.Map, err)}
	}
	return m, nil
}

// createRejects makes the rejects file anew, unless it is one of the files to be read.
func (i importCommand) createRejects() (*os.File, error) {
	if old, err := os.Stat(i.Rejects); err == nil {
		for _, name := range append([]string{i.Map}, i.Files...) {
			if input, err := os.Stat(name); err == nil && os.SameFile(old, input) {
				return nil, usage("--rejects names %s, which is to be read", name)
			}
		}
	}
	f, err := os.Create(i.Rejects)
	if err != nil {
		return nil, usage("making the rejects file: %w", err)
	}
	return f, nil
}

// tell prints what became of the lines.
func (i importCommand) tell(e *environment, s importer.Summary, took time.Duration) error {
	if e.JSON {
		return e.printJSON(struct {
			importer.Summary
			Seconds float64 `json:"seconds"`
		}{s, took.Seconds()})
	}
	e.printf("%d lines in = %d used + %d rejected, in %v (%.0f lines/s)\n",
		s.Lines, s.Used, s.Rejected, took.Round(time.Millisecond), float64(s.Lines)/took.Seconds())
	e.printf("%d orders, %d of which the ledger had already\n", s.Orders, s.Repeated)
	if s.Rejected > 0 {
		e.printf("rejected lines stand in %s:\n", i.Rejects)
		codes := make([]string, 0, len(s.Codes))
		for code := range s.Codes {
			codes = append(codes, code)
		}
		slices.Sort(codes)
		for _, code := range codes {
			e.printf("%8d %s\n", s.Codes[code], code)
		}
	}
	return nil
}

// An importTarget is where orders go: a running server, or the ledger itself where none runs.
type importTarget struct {
	submit func(context.Context, importer.Order) (repeated bool, err error)
	close  func() error
}

func (i importCommand) target(ctx context.Context, e *environment) (importTarget, error) {
	if e.Server != "" {
		return i.serverTarget(ctx, e)
	}
	log := slog.New(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := openNode(ctx, nodeConfig{globals: e.globals, Log: log})
	var locked *eventstore.LockedError
	if errors.As(err, &locked) && locked.Address != "" {
		return i.serverTarget(ctx, e)
	}
	if err != nil {
		return importTarget{}, err
	}
	return i.nodeTarget(ctx, e, n), nil
}

// asked returns what to submit: history as it is, which no rules apply to, or a new order that they judge.
func (i importCommand) asked(s domain.Submit) domain.Submit {
	if i.Rules {
		s.Settled = false
		if s.Channel == domain.ChannelImport {
			s.Channel = "file"
		}
	}
	return s
}

// nodeTarget submits to a node in this process.
func (i importCommand) nodeTarget(ctx context.Context, e *environment, n *node) importTarget {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	stopped := make(chan error, 1)
	go func() { stopped <- n.run(running, nil) }()
	return importTarget{
		submit: func(ctx context.Context, o importer.Order) (bool, error) {
			id := domain.OrderID(e.BusinessUnit, localSubmitter, o.Key)
			result, err := n.handler.Handle(ctx, domain.Command{
				ID: domain.CommandID(id, localSubmitter, o.Key), Order: id, BusinessUnit: e.BusinessUnit,
				Actor:    domain.Actor{Kind: "system", Issuer: "local", Subject: localSubmitter},
				Occurred: o.Occurred, Do: i.asked(o.Submit),
			}, o.Personal)
			return result.Repeated, refusalOf(err)
		},
		close: func() error {
			// Who interrupts does not wait for the read models: they catch up at the next start.
			err := n.settle(ctx)
			if ctx.Err() != nil {
				err = nil
			}
			stop()
			return errors.Join(err, <-stopped, n.close())
		},
	}
}

// localSubmitter is who submits while there is no authentication.
const localSubmitter = "local"

// refusalOf makes a refusal of an error that will be the same for the same order, and leaves others as they are.
func refusalOf(err error) error {
	answer := commands.WebError(err)
	if err == nil || answer == nil || !final(answer.Status) {
		return err
	}
	refusal := &importer.Refusal{Code: answer.Code, Detail: answer.Detail}
	if len(answer.Errors) > 0 {
		refusal.Field = answer.Errors[0].Location
	}
	return refusal
}

// final reports whether an order that was answered with a status will always be.
func final(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// serverTarget submits to a running server.
func (i importCommand) serverTarget(ctx context.Context, e *environment) (importTarget, error) {
	c, err := e.client()
	if err != nil {
		return importTarget{}, err
	}
	c.http.Transport = &http.Transport{MaxIdleConnsPerHost: i.Workers}
	var newest newestMark
	return importTarget{
		submit: func(ctx context.Context, o importer.Order) (bool, error) {
			s := i.asked(o.Submit)
			body := struct {
				domain.Details
				Lines    []domain.Line   `json:"lines"`
				Personal domain.Personal `json:"personal,omitzero"`
				Settled  bool            `json:"settled,omitempty"`
				Occurred time.Time       `json:"occurred,omitzero"`
			}{s.Details, s.Lines, o.Personal, s.Settled, o.Occurred}
			header, err := c.write(ctx, "/v1/import/orders", o.Key, nil, body, nil)
			var p *problem
			if errors.As(err, &p) && final(p.Status) {
				refusal := &importer.Refusal{Code: p.Code, Detail: p.Detail}
				if len(p.Errors) > 0 {
					refusal.Field = p.Errors[0].Location
				}
				return false, refusal
			}
			if err != nil {
				return false, err
			}
			return header.Get("Idempotent-Replayed") == "true", newest.note(header.Get("Orderledger-Mark"))
		},
		close: func() error {
			defer c.http.CloseIdleConnections()
			return newest.await(ctx, c)
		},
	}, nil
}

// A newestMark is the mark of what was written last. It may be used by many at once.
type newestMark struct {
	mu   sync.Mutex // protects mark
	mark eventstore.Mark
}

func (n *newestMark) note(text string) error {
	mark, err := eventstore.ParseMark(text)
	if err != nil {
		return fmt.Errorf("the server answered %q as a mark: %w", text, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if mark.Position > n.mark.Position {
		n.mark = mark
	}
	return nil
}

// await returns when the read models show what was written, or the user does not wait for them any longer.
func (n *newestMark) await(ctx context.Context, c *client) error {
	if n.mark.Position == 0 {
		return nil
	}
	see := request{method: http.MethodGet, path: "/v1/orders?limit=1", header: http.Header{"Orderledger-Mark": {n.mark.String()}}}
	for {
		_, err := c.call(ctx, see, nil)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the orders are taken in; only the wait for the read models was cut short
		}
		p := (*problem)(nil)
		switch {
		case !errors.As(err, &p):
			return err
		case p.Status == http.StatusNotFound || p.Status == http.StatusMethodNotAllowed:
			return nil // the server has no read models
		case p.Code != "not_yet":
			return err
		}
	}
}
