package main

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/internal/web"
)

// ledgerID is that of the region's ledger, by which a new one is made; zero: any.
func (c *nodeConfig) ledgerID() uuid.UUID {
	if c.Topology == nil {
		return uuid.Nil
	}
	r, _ := c.Topology.Region(c.Region)
	return r.Ledger
}

// openPeers opens what a region has of the others.
func (n *node) openPeers(ctx context.Context, c nodeConfig, dir string) error {
	here, ok := c.Topology.Region(c.Region)
	switch head, err := n.head(ctx); {
	case !ok:
		return usage("there is no region %s in the topology: name one of its regions with --region", c.Region)
	case err != nil:
		return err
	case head.ID != here.Ledger:
		return usage("the ledger is %s, and that of region %s is %s: name another data directory or ledger, or correct the topology", head.ID, here.Name, here.Ledger)
	case len(n.roles) != len(allRoles):
		return usage("a region of several has all of its roles in one process: leave --roles out")
	case c.Secret == nil:
		return usage("regions need a secret that they share: name its file with --shared-secret")
	}
	var err error
	if n.peers, err = openPeers(ctx, c, dir, n.publisher); err != nil {
		return err
	}
	n.opened(n.peers.close)
	return nil
}

// mirrorsPath is where other regions ask how far the mirrors of their ledgers are.
const mirrorsPath = "/v1/mirrors"

var mirrorsAllowed = web.Allowed{"GET " + mirrorsPath + "/*": web.RolePeer}

// serveMirrors lets other regions ask how far the mirrors of their ledgers are.
func (n *node) serveMirrors() {
	handler := mirror.NewHandler(mirror.HandlerConfig{
		Mirror: n.peers.mirrorOf,
		Fail: func(w http.ResponseWriter, r *http.Request, status int, detail string) {
			code := "invalid_parameter"
			switch status {
			case http.StatusNotFound:
				code = "unknown_ledger"
			case http.StatusConflict:
				code = "lost_mark"
			case http.StatusServiceUnavailable:
				code = "not_yet"
			}
			n.web.WriteProblem(w, r, &web.Error{Status: status, Code: code, Detail: detail})
		},
	})
	n.web.Router().Method(http.MethodGet, mirrorsPath+"/*", http.StripPrefix(mirrorsPath, handler))
}
