package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/readapi"
)

// orderCommand holds the verbs of one order. ORDER is an id or an order number, as people write it.
type orderCommand struct {
	Submit  submitCommand  `cmd:"" help:"Submit an order: from a JSON file, or from flags."`
	Show    showCommand    `cmd:"" help:"Show where an order stands."`
	List    listCommand    `cmd:"" help:"List orders, newest first."`
	Watch   watchCommand   `cmd:"" help:"Follow an order, or all of them, as they move."`
	History historyCommand `cmd:"" help:"Replay an order: every step, its state at a moment, or what changed between two."`

	Amend   amendCommand   `cmd:"" help:"Change quantities, dates, addresses or terms."`
	Hold    holdCommand    `cmd:"" help:"Keep an order from going on."`
	Release releaseCommand `cmd:"" help:"End a hold."`
	Cancel  cancelCommand  `cmd:"" help:"Take back what has not been shipped."`
	Route   routeCommand   `cmd:"" help:"Find sites for what has none."`
	Reroute rerouteCommand `cmd:"" help:"Move a fulfilment to another site."`
	Confirm confirmCommand `cmd:"" help:"Report a site's answer."`
	Start   startCommand   `cmd:"" help:"Report that a site has begun to work."`
	Ship    shipCommand    `cmd:"" help:"Report that goods have left a site."`
	Deliver deliverCommand `cmd:"" help:"Report that goods have arrived."`
	Fail    failCommand    `cmd:"" help:"Report that a site cannot fulfil what it has not shipped."`
	Return  returnCommand  `cmd:"" help:"Report that delivered goods came back."`
	Close   closeCommand   `cmd:"" help:"Close an order that has been shipped in full."`
}

// writeFlags are what every change of an order takes.
type writeFlags struct {
	Key     string `placeholder:"KEY" help:"Idempotency key: the same key never does a thing twice (default: a random one)."`
	IfMatch string `placeholder:"ETAG" help:"Refuse unless the order still has this ETag."`
	File    string `short:"f" placeholder:"FILE" help:"JSON body of the request, instead of the other flags (-: standard input)."`
	Async   bool   `help:"Do not wait for the answer if the server has a queue: see 'orderledger command'."`
}

// answer is what the server says to a change of an order.
type answer struct {
	ID     string        `json:"id"`
	Number string        `json:"number"`
	Status string        `json:"status"`
	Events []string      `json:"events"`
	Reason domain.Reason `json:"reason"`
	Holds  []domain.Hold `json:"holds"`
}

// post sends a change and prints what came of it.
func (w writeFlags) post(ctx context.Context, e *environment, path string, body any) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	if w.File != "" {
		if body, err = readInput(e, w.File); err != nil {
			return err
		}
	}
	header := http.Header{}
	if w.IfMatch != "" {
		header.Set("If-Match", w.IfMatch)
	}
	if w.Async {
		header.Set("Prefer", "respond-async")
	}
	var raw json.RawMessage
	given, err := c.write(ctx, path, w.Key, header, body, &raw)
	if err != nil {
		return err
	}
	if given.Get("Preference-Applied") != "" {
		return e.printQueued(raw)
	}
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	c.awaitShown(ctx, a.ID, given.Get("Orderledger-Mark"))
	if e.JSON {
		return e.printJSON(raw)
	}
	e.printf("%s  %s  %s\n", a.Number, a.Status, a.ID)
	if a.Status == string(domain.StatusRejected) {
		e.printf("reason  %s %s\n", a.Reason.Code, a.Reason.Text)
	}
	for _, h := range a.Holds {
		e.printf("hold  %s  %s %s\n", h.ID, h.Reason.Code, h.Reason.Text)
	}
	return nil
}

// awaitShown waits until the read models show a change, so that the next command of a script sees it. That they do not
// in time is no failure: the change is durable.
func (c *client) awaitShown(ctx context.Context, order, mark string) {
	header := http.Header{"Orderledger-Mark": {mark}}
	_, _ = c.call(ctx, request{method: http.MethodGet, path: "/v1/orders/" + order, header: header}, nil)
}

// change sends a change of an existing order.
func (w writeFlags) change(ctx context.Context, e *environment, order, action string, body any) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	id, err := c.orderID(ctx, order)
	if err != nil {
		return err
	}
	return w.post(ctx, e, "/v1/orders/"+id+"/"+action, body)
}

// orderID returns the id of an order that is named by id or number.
func (c *client) orderID(ctx context.Context, order string) (string, error) {
	if _, ok := domain.StreamOrder(domain.StreamPrefix + order); ok {
		return order, nil
	}
	var found struct {
		ID string `json:"id"`
	}
	_, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/orders/" + url.PathEscape(order)}, &found)
	return found.ID, err
}

// maxInput bounds a file that is sent as a body. The server's own limit is lower.
const maxInput = 16 << 20

func readInput(e *environment, name string) ([]byte, error) {
	r := e.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(data) > maxInput {
		return nil, &exitError{exitUsage, fmt.Errorf("%s has more than %d bytes", name, maxInput)}
	}
	return data, nil
}

// reasonFlags say why.
type reasonFlags struct {
	Reason string `placeholder:"CODE" help:"Code of the reason, such as customer_request."`
	Text   string `placeholder:"TEXT" help:"The reason in words, without personal data."`
}

func (r reasonFlags) reason() domain.Reason { return domain.Reason{Code: r.Reason, Text: r.Text} }

// lineFlags name quantities of lines.
type lineFlags struct {
	Line []string `placeholder:"LINE=QTY" help:"Some of a line (may be repeated; default: all that is left)."`
}

func (l lineFlags) quantities() ([]domain.LineQuantity, error) {
	var lines []domain.LineQuantity
	for _, s := range l.Line {
		line, quantity, err := cutQuantity(s)
		if err != nil {
			return nil, err
		}
		lines = append(lines, domain.LineQuantity{Line: line, Quantity: quantity})
	}
	return lines, nil
}

// cutQuantity reads NAME=QUANTITY.
func cutQuantity(s string) (string, domain.Decimal, error) {
	name, number, ok := strings.Cut(s, "=")
	quantity, err := domain.ParseDecimal(number)
	if !ok || name == "" || err != nil {
		return "", domain.Decimal{}, usage("%q is not of the form LINE=QUANTITY", s)
	}
	return name, quantity, nil
}

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// A submitCommand submits an order.
type submitCommand struct {
	writeFlags
	Customer string   `placeholder:"ID" help:"Customer number of the buyer."`
	Country  string   `placeholder:"CC" help:"Country of the buyer (ISO 3166)."`
	Currency string   `default:"EUR" placeholder:"CUR" help:"Currency (ISO 4217; default: ${default})."`
	Line     []string `placeholder:"SKU=QTY@PRICE" help:"An article, how many, and the price of one (may be repeated)."`
	PO       string   `name:"po" placeholder:"NUMBER" help:"The buyer's purchase order number."`
	Name     string   `placeholder:"NAME" help:"Name of the buyer. It is encrypted."`
	Channel  string   `default:"cli" placeholder:"NAME" help:"How the order came (default: ${default})."`
}

func (s submitCommand) Run(ctx context.Context, e *environment) error {
	if s.File == "" && (s.Customer == "" || len(s.Line) == 0) {
		return usage("an order needs --customer and --line, or a --file")
	}
	type submission struct {
		domain.Details
		Lines    []domain.Line    `json:"lines"`
		Personal *domain.Personal `json:"personal,omitempty"`
	}
	body := submission{Details: domain.Details{
		Channel:       s.Channel,
		PurchaseOrder: s.PO,
		Currency:      s.Currency,
		Parties: domain.Parties{Buyer: domain.Party{
			Identifiers: []domain.Identifier{{Scheme: "customer", Value: s.Customer}},
			Country:     s.Country,
		}},
	}}
	if s.Name != "" {
		body.Personal = &domain.Personal{Buyer: domain.Person{Name: s.Name}}
	}
	for _, text := range s.Line {
		article, price, ok := strings.Cut(text, "@")
		amount, err := domain.ParseDecimal(price)
		if !ok || err != nil {
			return usage("%q is not of the form SKU=QUANTITY@PRICE", text)
		}
		sku, quantity, err := cutQuantity(article)
		if err != nil {
			return usage("%q is not of the form SKU=QUANTITY@PRICE", text)
		}
		body.Lines = append(body.Lines, domain.Line{SKU: sku, Quantity: quantity, Price: domain.Price{Amount: amount}})
	}
	return s.post(ctx, e, "/v1/orders", body)
}

type amendCommand struct {
	Order string `arg:"" help:"Id or number."`
	writeFlags
	reasonFlags
	lineFlags
	Requested []string `placeholder:"LINE=DAY" help:"Another requested day for a line (may be repeated)."`
	ShipTo    string   `placeholder:"CC" help:"Another country to ship to."`
}

func (a amendCommand) Run(ctx context.Context, e *environment) error {
	body := domain.Amend{Reason: a.reason()}
	quantities, err := a.quantities()
	if err != nil {
		return err
	}
	for _, q := range quantities {
		body.Lines = append(body.Lines, domain.LineChange{Line: q.Line, Quantity: &q.Quantity})
	}
	for _, s := range a.Requested {
		line, day, ok := strings.Cut(s, "=")
		if !ok {
			return usage("%q is not of the form LINE=DAY", s)
		}
		body.Lines = append(body.Lines, domain.LineChange{Line: line, Requested: &domain.Date{Day: day}})
	}
	if a.ShipTo != "" {
		body.ShipTo = &domain.Party{Country: a.ShipTo}
	}
	return a.change(ctx, e, a.Order, "amend", body)
}

type holdCommand struct {
	Order string `arg:"" help:"Id or number."`
	writeFlags
	reasonFlags
	Role  string `placeholder:"ROLE" help:"Who should release it; nothing enforces it yet."`
	Until string `placeholder:"DAY" help:"When it is to be looked at again."`
}

func (h holdCommand) Run(ctx context.Context, e *environment) error {
	return h.change(ctx, e, h.Order, "hold", domain.PlaceHold{Reason: h.reason(), Role: h.Role, Until: domain.Date{Day: h.Until}})
}

type releaseCommand struct {
	Order string `arg:"" help:"Id or number."`
	writeFlags
	reasonFlags
	Hold string `placeholder:"HOLD" help:"Which hold, where several are open."`
}

func (r releaseCommand) Run(ctx context.Context, e *environment) error {
	return r.change(ctx, e, r.Order, "release", domain.Release{Hold: r.Hold, Reason: r.reason()})
}

type cancelCommand struct {
	Order string `arg:"" help:"Id or number."`
	writeFlags
	reasonFlags
	lineFlags
}

func (c cancelCommand) Run(ctx context.Context, e *environment) error {
	lines, err := c.quantities()
	if err != nil {
		return err
	}
	return c.change(ctx, e, c.Order, "cancel", domain.Cancel{Lines: lines, Reason: c.reason()})
}

type routeCommand struct {
	Order string `arg:"" help:"Id or number."`
	writeFlags
	reasonFlags
	Site string `placeholder:"SITE" help:"The site (default: what the rules find)."`
}

func (r routeCommand) Run(ctx context.Context, e *environment) error {
	return r.change(ctx, e, r.Order, "route", domain.Route{Site: r.Site, Reason: r.reason()})
}

// fulfilmentArgs name the part of an order that a site fulfils.
type fulfilmentArgs struct {
	Order      string `arg:"" help:"Id or number."`
	Fulfilment string `arg:"" optional:"" help:"Fulfilment, such as f1 (default: the only one)."`
	writeFlags
}

func (f fulfilmentArgs) report(ctx context.Context, e *environment, action string, body any) error {
	if f.Fulfilment == "" {
		c, err := e.client()
		if err != nil {
			return err
		}
		if f.Fulfilment, err = c.onlyFulfilment(ctx, f.Order); err != nil {
			return err
		}
	}
	return f.change(ctx, e, f.Order, "fulfilments/"+url.PathEscape(f.Fulfilment)+"/"+action, body)
}

// onlyFulfilment names the fulfilment of an order that has one, those left out that have failed or were moved.
func (c *client) onlyFulfilment(ctx context.Context, order string) (string, error) {
	var found readapi.Order
	if _, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/orders/" + url.PathEscape(order)}, &found); err != nil {
		return "", err
	}
	var names []string
	for _, f := range found.Fulfilments {
		if f.Phase != domain.PhaseFailed && f.Phase != domain.PhaseUnrouted {
			names = append(names, f.ID)
		}
	}
	switch len(names) {
	case 0:
		return "", &exitError{exitRefused, errors.New("no site fulfils the order")}
	case 1:
		return names[0], nil
	}
	return "", usage("several sites fulfil the order, name the fulfilment: %s", strings.Join(names, ", "))
}

type rerouteCommand struct {
	fulfilmentArgs
	reasonFlags
	Site string `placeholder:"SITE" help:"The new site (default: what the rules find)."`
}

func (r rerouteCommand) Run(ctx context.Context, e *environment) error {
	return r.report(ctx, e, "reroute", domain.Reroute{Site: r.Site, Reason: r.reason()})
}

type confirmCommand struct {
	fulfilmentArgs
	reasonFlags
	Outcome   string   `default:"accepted" enum:"accepted,accepted_with_changes,refused" help:"accepted, accepted_with_changes or refused (default: ${default})."`
	Reference string   `placeholder:"NUMBER" help:"The site's own number."`
	Promise   []string `placeholder:"LINE=QTY@DAY" help:"What will be delivered when (may be repeated)."`
}

func (c confirmCommand) Run(ctx context.Context, e *environment) error {
	body := domain.Confirmation{Outcome: domain.Outcome(c.Outcome), Reference: c.Reference, Reason: c.reason()}
	byLine := map[string]int{}
	for _, s := range c.Promise {
		part, day, ok := strings.Cut(s, "@")
		line, quantity, err := cutQuantity(part)
		if !ok || err != nil {
			return usage("%q is not of the form LINE=QUANTITY@DAY", s)
		}
		i, ok := byLine[line]
		if !ok {
			i = len(body.Lines)
			byLine[line] = i
			body.Lines = append(body.Lines, domain.LineConfirmation{Line: line})
		}
		promise := domain.Promise{Quantity: quantity, Kind: "deliver", Date: domain.Date{Day: day}}
		body.Lines[i].Promises = append(body.Lines[i].Promises, promise)
	}
	return c.report(ctx, e, "confirm", body)
}

type startCommand struct{ fulfilmentArgs }

func (s startCommand) Run(ctx context.Context, e *environment) error {
	return s.report(ctx, e, "start", struct{}{})
}

type shipCommand struct {
	fulfilmentArgs
	lineFlags
	Shipment string `placeholder:"ID" help:"The site's number of the shipment."`
	Carrier  string `placeholder:"NAME" help:"Who carries it."`
	Tracking string `placeholder:"NUMBER" help:"The carrier's number."`
}

func (s shipCommand) Run(ctx context.Context, e *environment) error {
	lines, err := s.quantities()
	if err != nil {
		return err
	}
	return s.report(ctx, e, "ship", domain.Shipment{ID: s.Shipment, Carrier: s.Carrier, Tracking: s.Tracking, Lines: lines})
}

type deliverCommand struct {
	fulfilmentArgs
	lineFlags
	Shipment string `placeholder:"ID" help:"The shipment that arrived."`
}

func (d deliverCommand) Run(ctx context.Context, e *environment) error {
	lines, err := d.quantities()
	if err != nil {
		return err
	}
	return d.report(ctx, e, "deliver", domain.Deliver{Shipment: d.Shipment, Lines: lines})
}

type failCommand struct {
	fulfilmentArgs
	reasonFlags
}

func (f failCommand) Run(ctx context.Context, e *environment) error {
	return f.report(ctx, e, "fail", domain.ReportFailure{Reason: f.reason()})
}

type returnCommand struct {
	Order string `arg:"" help:"Id or number."`
	writeFlags
	reasonFlags
	lineFlags
	Reference string `placeholder:"NUMBER" help:"Number of the return."`
}

func (r returnCommand) Run(ctx context.Context, e *environment) error {
	lines, err := r.quantities()
	if err != nil {
		return err
	}
	return r.change(ctx, e, r.Order, "return", domain.Return{Lines: lines, Reference: r.Reference, Reason: r.reason()})
}

type closeCommand struct {
	Order string `arg:"" help:"Id or number."`
	writeFlags
	reasonFlags
}

func (c closeCommand) Run(ctx context.Context, e *environment) error {
	return c.change(ctx, e, c.Order, "close", domain.Close{Reason: c.reason()})
}

// An eraseCommand destroys the key of a buyer's personal data.
type eraseCommand struct {
	Subject string `arg:"" placeholder:"SCHEME=VALUE" help:"The buyer's identifier, such as customer=4711."`
	Yes     bool   `help:"Do not ask."`
	Key     string `placeholder:"KEY" help:"Idempotency key (default: a random one)."`
}

func (c eraseCommand) Run(ctx context.Context, e *environment) error {
	scheme, value, ok := strings.Cut(c.Subject, "=")
	if !ok || scheme == "" || value == "" {
		return usage("%q is not of the form SCHEME=VALUE", c.Subject)
	}
	if !c.Yes {
		e.note("This makes all personal data of %s unreadable, in every copy, for ever. Type 'erase' to go on:", c.Subject)
		var word string
		if _, err := fmt.Fscanln(e.in, &word); err != nil || word != "erase" {
			return &exitError{exitUsage, errors.New("nothing was erased")}
		}
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	var result json.RawMessage
	body := map[string]any{"subject": domain.Identifier{Scheme: scheme, Value: value}}
	if _, err := cl.write(ctx, "/v1/erasures", c.Key, nil, body, &result); err != nil {
		return err
	}
	if e.JSON {
		return e.printJSON(result)
	}
	var erased struct {
		Keys int `json:"keys"`
	}
	if err := json.Unmarshal(result, &erased); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if erased.Keys == 0 {
		return &exitError{exitNotFound, fmt.Errorf("there is no personal data of %s: nothing was erased", c.Subject)}
	}
	e.printf("erased %s\n", c.Subject)
	return nil
}
