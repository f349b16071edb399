package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/orderledger/orderledger/internal/edge"
	"github.com/orderledger/orderledger/internal/topology"
	"github.com/orderledger/orderledger/internal/web"
)

// edgeCommand runs the entry in front of the regions until it is interrupted.
type edgeCommand struct {
	Topology      string   `required:"" env:"ORDERLEDGER_TOPOLOGY" type:"path" placeholder:"FILE" help:"File that names the regions. It is read again when it changes (${env})."`
	Listen        string   `default:"127.0.0.1:8000" env:"ORDERLEDGER_EDGE_LISTEN" placeholder:"ADDR" help:"Address to serve HTTP on, a loopback one unless --public is given (${env}; default: ${default}; port 0: any)."`
	Public        bool     `env:"ORDERLEDGER_EDGE_PUBLIC" help:"Serve other machines, too. The entry itself asks nobody who they are: the regions must have tokens (${env})."`
	Host          []string `env:"ORDERLEDGER_HOST" placeholder:"NAME" help:"Names that the entry answers for beside those of this machine (${env})."`
	CountryHeader string   `default:"Orderledger-Country" env:"ORDERLEDGER_COUNTRY_HEADER" placeholder:"NAME" help:"Header that names the country of a request (${env}; default: ${default})."`
}

func (c edgeCommand) Run(ctx context.Context, e *environment) error {
	first, err := topology.Load(c.Topology)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	listener, err := c.listen()
	if err != nil {
		return err
	}
	var current atomic.Pointer[topology.Topology]
	current.Store(first)
	log := e.logger()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	entry := edge.New(edge.Config{Topology: current.Load, CountryHeader: c.CountryHeader, Hosts: c.Host, Metrics: metrics, Log: log})
	e.note("orderledger passes requests from http://%s/ to %s.%s", listener.Addr(), regionNames(first), c.whoMayCome())

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var behind sync.WaitGroup
	behind.Go(func() { entry.Run(background) })
	behind.Go(func() { first.Watch(background, log, current.Store) })
	err = serveHTTP(ctx, edge.HTTPServer(entry), listener, entry.Close)
	stop()
	behind.Wait()
	return err
}

func regionNames(t *topology.Topology) string {
	var names []string
	for _, r := range t.Regions {
		names = append(names, r.Name)
	}
	return strings.Join(names, ", ")
}

func (c edgeCommand) whoMayCome() string {
	if c.Public {
		return " It answers everybody who reaches it: only the tokens of the regions keep strangers out."
	}
	return " It answers this machine only: --public is not given."
}

func (c edgeCommand) listen() (net.Listener, error) {
	if tcp, err := net.ResolveTCPAddr("tcp", c.Listen); !c.Public && err == nil && !tcp.IP.IsLoopback() {
		return nil, usage("listening on %q: without --public only a loopback address such as 127.0.0.1:8000 is served", c.Listen)
	}
	listener, err := web.Listen(c.Listen, true) // the regions authenticate
	var taken *net.OpError
	switch {
	case errors.As(err, &taken):
		return nil, &exitError{exitUnavailable, err}
	case err != nil:
		return nil, &exitError{exitUsage, err}
	}
	return listener, nil
}
