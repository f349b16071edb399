package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/orderledger/orderledger/internal/topology"
	"github.com/orderledger/orderledger/internal/web"
)

// serveCommand runs the server until it is interrupted.
type serveCommand struct {
	Listen       string   `default:"127.0.0.1:8080" env:"ORDERLEDGER_LISTEN" placeholder:"ADDR" help:"Address to serve HTTP on, a loopback one unless there are tokens (${env}; default: ${default}; port 0: any)."`
	Host         []string `env:"ORDERLEDGER_HOST" placeholder:"NAME" help:"Names that the server answers for beside those of this machine (${env})."`
	Tokens       string   `env:"ORDERLEDGER_TOKENS" type:"path" placeholder:"FILE" help:"Who may use the server: see 'orderledger token'. It is read again when it changes (${env}; default: everybody on this machine)."`
	Roles        []string `env:"ORDERLEDGER_ROLES" placeholder:"ROLE" help:"What this process does: commands, relay, projector, readapi (${env}; default: all)."`
	Bus          string   `env:"ORDERLEDGER_BUS" placeholder:"URL" help:"The bus: inprocess: or servicebus://[NAME:KEY@]HOST/?topic=…&subscription=…&commands=… (${env}; default: inprocess:)."`
	Topology     string   `env:"ORDERLEDGER_TOPOLOGY" type:"path" placeholder:"FILE" help:"File that names all regions, of which this is one (${env}; default: there is one region)."`
	SharedSecret string   `env:"ORDERLEDGER_SHARED_SECRET" type:"path" placeholder:"FILE" help:"File with the secret that all regions share: 64 hexadecimal digits (${env})."`
	Region       string   `default:"local" env:"ORDERLEDGER_REGION" placeholder:"NAME" help:"Region of this process, and name of its subscription to the bus (${env}; default: ${default})."`
}

func (s serveCommand) Run(ctx context.Context, e *environment) error {
	config := nodeConfig{globals: e.globals, Log: e.logger(), Hosts: s.Host, Region: s.Region, Roles: s.Roles}
	err := s.several(&config)
	if err != nil {
		return err
	}
	if config.Bus, err = parseBus(s.Bus, s.Region); err != nil {
		return err
	}
	if s.Tokens != "" {
		if config.Tokens, err = web.OpenTokens(s.Tokens); err != nil {
			return &exitError{exitUsage, err}
		}
	}
	n, err := openPatiently(ctx, config)
	if err != nil {
		return err
	}
	listener, err := n.listen(s.Listen)
	if err != nil {
		return errors.Join(err, n.close())
	}
	e.note("orderledger serves http://%s/ from %s.%s", listener.Addr(), e.Data, s.whoMayCome())
	return errors.Join(n.run(ctx, listener), n.close())
}

// several reads what a region of several needs.
func (s *serveCommand) several(c *nodeConfig) (err error) {
	if s.SharedSecret != "" {
		if c.Secret, err = readSecret(s.SharedSecret); err != nil {
			return &exitError{exitUsage, err}
		}
	}
	if s.Topology == "" {
		return nil
	}
	if c.Topology, err = topology.Load(s.Topology); err != nil {
		return &exitError{exitUsage, err}
	}
	here, ok := c.Topology.Region(s.Region)
	if !ok {
		return nil // opening the node says so
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryTarget + int64(len(here.Follows))*peerMemory)
	}
	if s.Bus == "" {
		s.Bus = here.Bus
	}
	if u, err := url.Parse(here.API); err == nil { // the topology has been checked
		c.Hosts = append(c.Hosts, u.Hostname())
	}
	return nil
}

// peerMemory is how much more memory the program tries to get along with for each region that it follows: the sessions of
// another bus, and a database.
const peerMemory = 64 << 20

// readSecret reads the secret that regions share.
func readSecret(path string) (*[32]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the shared secret: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return nil, fmt.Errorf("reading the shared secret: %w", err)
	}
	secret := new([32]byte)
	digits := bytes.TrimSpace(text)
	if n, err := hex.Decode(secret[:], digits[:min(len(digits), 2*len(secret))]); err != nil || n != len(secret) || len(digits) != 2*len(secret) {
		return nil, fmt.Errorf("%s does not hold a secret of %d hexadecimal digits: make one with 'openssl rand -hex %d'", path, 2*len(secret), len(secret))
	}
	return secret, nil
}

func (s serveCommand) whoMayCome() string {
	if s.Tokens == "" {
		return " It answers this machine only: no tokens are given."
	}
	return ""
}

// listen opens a port and tells the tools of this data directory about it.
func (n *node) listen(address string) (net.Listener, error) {
	listener, err := web.Listen(address, n.tokens != nil)
	var taken *net.OpError
	switch {
	case errors.As(err, &taken):
		return nil, &exitError{exitUnavailable, err}
	case err != nil:
		return nil, &exitError{exitUsage, err}
	}
	if err := n.announce(listener); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// announce tells the tools of this data directory where the server is.
func (n *node) announce(listener net.Listener) error {
	if n.ledger == nil {
		return nil
	}
	if err := n.ledger.Announce("http://" + reachable(listener.Addr())); err != nil {
		return fmt.Errorf("announcing the server: %w", err)
	}
	return nil
}

// reachable is an address under which this machine reaches a listener.
func reachable(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return a.String()
}
