package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/orderledger/orderledger/commands"
)

// commandCommand holds the verbs of commands that went to the queue.
type commandCommand struct {
	Show commandShowCommand `cmd:"" help:"Show what has become of a command."`
}

// commandShowCommand shows one command. What it says of a refused one is no failure of its own.
type commandShowCommand struct {
	ID   string        `arg:"" help:"The command's id."`
	Wait time.Duration `placeholder:"TIME" help:"How long to wait until it is known, such as 10s (default: not at all)."`
}

func (s commandShowCommand) Run(ctx context.Context, e *environment) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	raw, err := s.fetch(ctx, c)
	if err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(raw)
	}
	var o commands.Outcome
	if err := json.Unmarshal(raw, &o); err != nil {
		return fmt.Errorf("reading the outcome: %w", err)
	}
	e.printf("%s  order %s\n", o.State, o.Order)
	if o.Answer != nil {
		e.printf("%s  %s\n", o.Answer.Number, o.Answer.Status)
	}
	if o.Code != "" {
		e.printf("%s  %s\n", o.Code, o.Detail)
	}
	return nil
}

// fetch asks for the outcome until it is known or the time is up.
func (s commandShowCommand) fetch(ctx context.Context, c *client) (raw json.RawMessage, err error) {
	up := time.After(s.Wait)
	for {
		_, err = c.call(ctx, request{method: http.MethodGet, path: "/v1/commands/" + url.PathEscape(s.ID)}, &raw)
		if p := (*problem)(nil); !errors.As(err, &p) || p.Status != http.StatusNotFound {
			return raw, err
		}
		select {
		case <-up:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// printQueued prints the answer to a command that went to the queue.
func (e *environment) printQueued(raw json.RawMessage) error {
	if e.JSON {
		return e.printJSON(raw)
	}
	var queued struct {
		Command    string    `json:"command"`
		Order      string    `json:"order"`
		Number     string    `json:"number"`
		ApplyUntil time.Time `json:"apply_until"`
	}
	if err := json.Unmarshal(raw, &queued); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	e.printf("%s  queued until %s  %s\n", queued.Number, local(queued.ApplyUntil), queued.Order)
	e.printf("command  %s\n", queued.Command)
	return nil
}
