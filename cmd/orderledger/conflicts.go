package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/readapi"
)

// conflictsCommand lists what two regions have done with the same order and no rule could reconcile.
type conflictsCommand struct {
	All bool `help:"Also those that somebody has settled."`
}

func (c conflictsCommand) Run(ctx context.Context, e *environment) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	all := readapi.ConflictList{Conflicts: []readapi.Conflict{}}
	for cursor := ""; ; {
		query := url.Values{"limit": {"200"}}
		if c.All {
			query.Set("all", "true")
		}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		var page readapi.ConflictList
		if _, err := cl.call(ctx, request{method: http.MethodGet, path: "/v1/conflicts?" + query.Encode()}, &page); err != nil {
			return err
		}
		all.Conflicts = append(all.Conflicts, page.Conflicts...)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if e.JSON {
		return e.printJSON(all)
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	if len(all.Conflicts) > 0 {
		fmt.Fprintln(w, "ORDER\tCONFLICT\tSTATE\tREGION\tWHAT")
	}
	for _, found := range all.Conflicts {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", found.Number, found.ID, found.State(), found.Region, found.Text)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	e.note("%d conflicts", len(all.Conflicts))
	return nil
}

// conflictCommand holds the verbs of one conflict.
type conflictCommand struct {
	Settle conflictSettleCommand `cmd:"" help:"Record how a conflict was settled."`
}

type conflictSettleCommand struct {
	Order    string `arg:"" help:"Id or number."`
	Conflict string `arg:"" help:"The conflict's id, as 'orderledger conflicts' says."`
	writeFlags
	Code string `placeholder:"CODE" help:"How it was settled, such as customer_called."`
	Text string `placeholder:"TEXT" help:"The same in words, without personal data."`
}

func (c conflictSettleCommand) Run(ctx context.Context, e *environment) error {
	return c.change(ctx, e, c.Order, "conflicts/"+url.PathEscape(c.Conflict)+"/settle", domain.Settle{Reason: domain.Reason{Code: c.Code, Text: c.Text}})
}
