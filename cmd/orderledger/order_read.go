package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/orderledger/orderledger/readapi"
)

// showCommand shows one order.
type showCommand struct {
	Order string `arg:"" help:"Id or number."`
}

func (s showCommand) Run(ctx context.Context, e *environment) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	header, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/orders/" + url.PathEscape(s.Order)}, &raw)
	if err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(raw)
	}
	var o readapi.Order
	if err := json.Unmarshal(raw, &o); err != nil {
		return fmt.Errorf("reading the order: %w", err)
	}
	printOrder(e, &o)
	if lag := header.Get("Orderledger-Lag"); lag != "" && !strings.HasPrefix(lag, "0;") {
		e.note("the read models are behind: %s (events;seconds)", lag)
	}
	return nil
}

func printOrder(e *environment, o *readapi.Order) {
	e.printf("%s  %s", o.Number, o.Status)
	if !o.StatusSince.IsZero() {
		e.printf("  since %s", local(o.StatusSince))
	}
	e.printf("\n")
	e.printf("%s  revision %d", o.ID, o.Revision)
	if o.Promised != "" {
		e.printf("  promised %s", o.Promised)
	}
	e.printf("\n")
	switch {
	case o.Erased:
		e.printf("buyer  (personal data erased)\n")
	case o.Personal != nil && o.Personal.Buyer.Name != "":
		e.printf("buyer  %s\n", o.Personal.Buyer.Name)
	}
	if o.Decision.Row != "" {
		e.printf("%s by row %s of rule set %.12s\n", o.Verdict, o.Decision.Row, o.Decision.RuleSet)
	}
	if o.Reason.Code != "" {
		e.printf("reason  %s %s\n", o.Reason.Code, o.Reason.Text)
	}
	for _, h := range o.Holds {
		e.printf("hold  %s  %s %s", h.ID, h.Reason.Code, h.Reason.Text)
		if h.Role != "" {
			e.printf("  (released by %s)", h.Role)
		}
		if h.Decision.Row != "" {
			e.printf("  by row %s of rule set %.12s", h.Decision.Row, h.Decision.RuleSet)
		}
		e.printf("\n")
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nLINE\tARTICLE\tORDERED\tSHIPPED\tDELIVERED\tPROMISED\tAMOUNT")
	for _, l := range o.Lines {
		fmt.Fprintf(w, "%s\t%s\t%v\t%v\t%v\t%s\t%s\n", l.ID, l.SKU, l.Active(), l.Shipped, l.Delivered, l.Promised, l.Display)
	}
	_ = w.Flush()
	e.printf("total  %s\n", o.Display.Total)
	for _, f := range o.Fulfilments {
		e.printf("%s  %s  %s", f.ID, f.Site, f.Progress())
		for _, s := range f.Shipments {
			e.printf("  shipment %s %s %s", s.ID, s.Carrier, s.Tracking)
		}
		e.printf("\n")
	}
}

// local writes a moment as people here read it.
func local(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// listCommand lists orders.
type listCommand struct {
	Number    string `placeholder:"NUMBER" help:"With this order number."`
	Reference string `placeholder:"VALUE" help:"With this reference or purchase order number."`
	Customer  string `placeholder:"ID" help:"Of this customer."`
	Site      string `placeholder:"SITE" help:"That this site fulfils."`
	Status    string `placeholder:"STATUS" help:"In this status."`
	Query     string `short:"q" placeholder:"WORD" help:"In which a word begins so."`
	Limit     int    `default:"20" placeholder:"N" help:"How many (default: ${default})."`
	Cursor    string `placeholder:"CURSOR" help:"Go on where the last list ended."`
}

func (l listCommand) Run(ctx context.Context, e *environment) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	query := url.Values{"limit": {strconv.Itoa(l.Limit)}}
	for name, value := range map[string]string{
		"number": l.Number, "reference": l.Reference, "customer": l.Customer, "site": l.Site,
		"status": l.Status, "q": l.Query, "cursor": l.Cursor,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	var raw json.RawMessage
	if _, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/orders?" + query.Encode()}, &raw); err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(raw)
	}
	var list readapi.OrderList
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("reading the list: %w", err)
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NUMBER\tSTATUS\tCUSTOMER\tCOUNTRY\tTOTAL\tSUBMITTED\tPROMISED")
	for _, o := range list.Orders {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", o.Number, o.Status, o.Customer, o.Country, o.Display, local(o.Submitted), o.Promised)
	}
	_ = w.Flush()
	if list.Next != "" {
		e.note("more: --cursor %s", list.Next)
	}
	return nil
}

// watchCommand follows an order, or all.
type watchCommand struct {
	Order string `arg:"" optional:"" help:"Id or number (default: all orders)."`
	After string `placeholder:"ID" help:"Go on behind this event."`
	Until string `placeholder:"STATUS" help:"End when the order has this status."`
}

func (w watchCommand) Run(ctx context.Context, e *environment) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	path := "/v1/notifications"
	if w.Order != "" {
		id, err := c.orderID(ctx, w.Order)
		if err != nil {
			return err
		}
		path = "/v1/orders/" + id + "/events"
	}
	reached := errors.New("reached")
	err = c.follow(ctx, path, w.After, func(event sseEvent) error {
		var entry struct {
			Number   string    `json:"number"`
			Text     string    `json:"text"`
			Status   string    `json:"status"`
			Occurred time.Time `json:"occurred"`
		}
		if err := json.Unmarshal(event.data, &entry); err != nil {
			return fmt.Errorf("reading an event: %w", err)
		}
		if e.JSON {
			e.printf("%s\n", event.data)
		} else {
			e.printf("%s  %-18s %s %s\n", local(entry.Occurred), entry.Status, entry.Number, entry.Text)
		}
		if w.Until != "" && entry.Status == w.Until {
			return reached
		}
		return nil
	})
	if errors.Is(err, reached) || errors.Is(err, context.Canceled) {
		err = nil // an interrupt is how watching ends
	}
	return err
}

// historyCommand replays one order.
type historyCommand struct {
	Order    string `arg:"" help:"Id or number."`
	At       string `placeholder:"MOMENT" help:"The order as it was at a revision, at position:N, or at a time such as 2026-11-22T10:00:00Z."`
	Diff     string `placeholder:"FROM..TO" help:"What changed between two revisions or times."`
	Occurred bool   `help:"Times mean when things happened, not when the ledger took them."`
}

func (h historyCommand) Run(ctx context.Context, e *environment) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	id, err := c.orderID(ctx, h.Order)
	if err != nil {
		return err
	}
	query := url.Values{}
	if h.Occurred {
		if h.At == "" && h.Diff == "" {
			return usage("--occurred goes with --at or --diff")
		}
		query.Set("clock", "occurred")
	}
	path := "/v1/history/orders/" + id
	print := printSteps
	switch {
	case h.At != "" && h.Diff != "":
		return usage("--at and --diff exclude each other")
	case h.At != "":
		path += "/state"
		if position, ok := strings.CutPrefix(h.At, "position:"); ok {
			query.Set("position", position)
		} else if revision.MatchString(h.At) {
			query.Set("revision", h.At)
		} else {
			query.Set("at", h.At)
		}
		print = printState
	case h.Diff != "":
		from, to, ok := strings.Cut(h.Diff, "..")
		if !ok {
			return usage("--diff %q is not of the form FROM..TO", h.Diff)
		}
		path += "/diff"
		query.Set("from", from)
		query.Set("to", to)
		print = printDiff
	}
	for {
		var raw json.RawMessage
		if _, err := c.call(ctx, request{method: http.MethodGet, path: path + "?" + query.Encode()}, &raw); err != nil {
			return err
		}
		if e.JSON {
			err = e.printJSON(raw)
		} else {
			err = print(e, raw)
		}
		var page struct {
			Next *uint64 `json:"next"`
		}
		if err != nil || json.Unmarshal(raw, &page) != nil || page.Next == nil {
			return err
		}
		query.Set("from", strconv.FormatUint(*page.Next, 10))
	}
}

var revision = regexp.MustCompile(`^\d{1,10}$`)

func printSteps(e *environment, raw []byte) error {
	var h readapi.History
	if err := json.Unmarshal(raw, &h); err != nil {
		return fmt.Errorf("reading the history: %w", err)
	}
	for _, s := range h.Steps {
		e.printf("%3d  %s  %-17s %s\n", s.Revision, local(s.Occurred), s.After.Status, s.Text)
		e.printf("     by %s %s (%s)\n", s.Actor.Kind, s.Actor.Subject, s.Type)
		printChanges(e, s.Changes)
	}
	return nil
}

func printState(e *environment, raw []byte) error {
	var s readapi.Step
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	if s.After == nil {
		return errors.New("the order did not exist at that moment")
	}
	printOrder(e, s.After)
	return nil
}

func printDiff(e *environment, raw []byte) error {
	var d readapi.Difference
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("reading the difference: %w", err)
	}
	e.printf("%s  revision %d to %d\n", d.Number, d.From, d.To)
	printChanges(e, d.Changes)
	return nil
}

func printChanges(e *environment, changes []readapi.Change) {
	for _, c := range changes {
		switch {
		case c.Sealed:
			e.printf("     ~ %s (personal)\n", c.Path)
		case len(c.Before) == 0:
			e.printf("     + %s: %s\n", c.Path, c.After)
		case len(c.After) == 0:
			e.printf("     - %s: %s\n", c.Path, c.Before)
		default:
			e.printf("     ~ %s: %s → %s\n", c.Path, c.Before, c.After)
		}
	}
}
