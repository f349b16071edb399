package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"text/tabwriter"

	"github.com/orderledger/orderledger/readapi"
)

// regionsCommand lists the regions.
type regionsCommand struct{}

func (regionsCommand) Run(ctx context.Context, e *environment) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if _, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/regions"}, &raw); err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(raw)
	}
	var list readapi.RegionList
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("reading the regions: %w", err)
	}
	if len(list.Regions) == 0 {
		e.note("There is one region: the server was started without --topology.")
		return nil
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REGION\tCONTINENT\tORDERS\tBEHIND\tSTATE")
	for _, r := range list.Regions {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", r.Name, r.Continent, r.Orders, behind(r.Lag), regionState(r))
	}
	return w.Flush()
}

func (c *client) regions(ctx context.Context) ([]readapi.RegionStatus, error) {
	var list readapi.RegionList
	_, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/regions"}, &list)
	return list.Regions, err
}

// behind says how far the server is behind a region.
func behind(lag *readapi.LagStatus) string {
	if lag == nil {
		return "-"
	}
	return fmt.Sprintf("%d events, %.1f s", lag.Events, lag.Seconds)
}

func regionState(r readapi.RegionStatus) string {
	switch {
	case r.Here:
		return "takes orders: this is the server's own"
	case r.Mirror == nil:
		return "not followed"
	case r.Mirror.Problem != "" && r.Mirror.Heard != nil:
		return r.Mirror.Problem + ", last heard of " + local(*r.Mirror.Heard)
	case r.Mirror.Problem != "":
		return r.Mirror.Problem
	case r.Mirror.Heard == nil:
		return "not heard of yet"
	}
	return "followed"
}
