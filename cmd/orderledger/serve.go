package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/orderledger/orderledger/internal/web"
)

// serveCommand runs the server until it is interrupted.
type serveCommand struct {
	Listen string `default:"127.0.0.1:8080" env:"ORDERLEDGER_LISTEN" placeholder:"ADDR" help:"Loopback address to serve HTTP on (${env}; default: ${default}; port 0: any)."`
}

func (s serveCommand) Run(ctx context.Context, e *environment) error {
	n, err := openNode(ctx, nodeConfig{globals: e.globals, Log: e.logger()})
	if err != nil {
		return err
	}
	listener, err := n.listen(s.Listen)
	if err != nil {
		return errors.Join(err, n.close())
	}
	e.note("orderledger serves http://%s/ from %s. It answers this machine only: there is no authentication yet.", listener.Addr(), e.Data)
	return errors.Join(n.run(ctx, listener), n.close())
}

// listen opens a port and tells the tools of this data directory about it.
func (n *node) listen(address string) (net.Listener, error) {
	listener, err := web.Listen(address)
	var taken *net.OpError
	switch {
	case errors.As(err, &taken):
		return nil, &exitError{exitUnavailable, err}
	case err != nil:
		return nil, &exitError{exitUsage, err}
	}
	if err := n.ledger.Announce("http://" + listener.Addr().String()); err != nil {
		return nil, errors.Join(fmt.Errorf("announcing the server: %w", err), listener.Close())
	}
	return listener, nil
}
