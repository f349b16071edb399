package main

import (
	"context"
	"encoding/json"
	"net/http"
)

// rulesCommand shows and changes the rules of a business unit.
type rulesCommand struct {
	Show     rulesShowCommand     `cmd:"" help:"Show the rule set in force."`
	Activate rulesActivateCommand `cmd:"" help:"Put a rule set into force, at once and without a restart."`
}

type rulesShowCommand struct {
	Text bool `help:"Print only the text of the rule set."`
}

func (r rulesShowCommand) Run(ctx context.Context, e *environment) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if _, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/rules"}, &raw); err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(raw)
	}
	var rules struct {
		SHA256    string `json:"sha256"`
		Name      string `json:"name"`
		Activated string `json:"activated"`
		By        string `json:"by"`
		Text      string `json:"text"`
	}
	if err := json.Unmarshal(raw, &rules); err != nil {
		return err
	}
	if !r.Text {
		e.printf("# %s\n# SHA-256 %s\n# in force since %s, activated by %s\n", rules.Name, rules.SHA256, rules.Activated, rules.By)
	}
	e.printf("%s", rules.Text)
	return nil
}

type rulesActivateCommand struct {
	File string `arg:"" help:"The rule set (YAML; -: standard input)."`
	Key  string `placeholder:"KEY" help:"Idempotency key (default: a random one)."`
}

func (r rulesActivateCommand) Run(ctx context.Context, e *environment) error {
	text, err := readInput(e, r.File)
	if err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	header := http.Header{"Content-Type": {"application/yaml"}}
	var raw json.RawMessage
	given, err := c.put(ctx, "/v1/rules", r.Key, header, text, &raw)
	if err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(raw)
	}
	var result struct {
		SHA256   string `json:"sha256"`
		Warnings []struct {
			Message string `json:"message"`
			Line    int    `json:"line"`
		} `json:"warnings"`
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return err
	}
	for _, w := range result.Warnings {
		e.note("warning: line %d: %s", w.Line, w.Message)
	}
	if given.Get("Idempotent-Replayed") == "true" {
		e.printf("in force already: %s\n", result.SHA256)
	} else {
		e.printf("in force: %s\n", result.SHA256)
	}
	return nil
}
