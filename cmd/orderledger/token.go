package main

import (
	"github.com/orderledger/orderledger/internal/web"
)

// tokenCommand makes a token.
type tokenCommand struct {
	Name string     `arg:"" help:"Whose token it is. The ids of this name's orders depend on it: a new token for the same name keeps them."`
	Role []web.Role `required:"" placeholder:"ROLE" help:"What the token is for: submit, read, replay, admin, peer. May be repeated."`
	Unit []string   `placeholder:"NAME" help:"Business units that the token may act for (default: all). May be repeated."`
}

func (t tokenCommand) Run(e *environment) error {
	token, entry, err := web.NewToken(t.Name, t.Unit, t.Role)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if e.JSON {
		return e.printJSON(map[string]string{"token": token, "entry": entry})
	}
	e.printf("%s", entry)
	e.note("Add this to the server's file of tokens. The token itself, which stands nowhere else:")
	e.note("%s", token)
	return nil
}
