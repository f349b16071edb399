package domain_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

// The files in testdata/scenarios tell stories of orders. Each line says one thing:
//
//	# a remark
//	given COMMAND    what happened before; none of it may be refused
//	when COMMAND     what somebody asks for
//	then EVENT       what happens, one line for each event
//	refused CODE     that nothing happens, and why
//	promise …        what is promised for a line now, where that has changed
//	status STATUS    what the order is then
//
// A command is a verb and arguments of the form name=value; see [verbs]. LINE:QUANTITY is some of a line. The lines
// after a when are computed: -update writes them anew.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("the story goes on in another way (-update writes it anew):\n%s", diff)
			}
		})
	}
}

// tell returns a scenario with its computed lines as they are now.
func tell(t *testing.T, text string) string {
	t.Helper()
	var o domain.Order
	var told []string
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "then", "refused", "promise", "status":
			continue
		case "#", "":
			told = append(told, line)
			continue
		case "given", "when":
			told = append(told, line)
		default:
			t.Fatalf("line %d: %q is not the start of a line", n+1, word)
		}
		action, err := parseAction(rest)
		if err != nil {
			t.Fatalf("line %d: %v", n+1, err)
		}
		before := o
		events, err := domain.Decide(o, asked(o, action), domaintest.Policy{}, now)
		for _, e := range events {
			o = domain.Evolve(o, e)
			if word == "when" {
				told = append(told, "then "+strings.TrimRight(describe(e), " "))
			}
		}
		refused, malformed := new(domain.Refused), new(domain.Malformed)
		switch {
		case err == nil:
		case word == "given":
			t.Fatalf("line %d: %v", n+1, err)
		case errors.As(err, &refused):
			told = append(told, fmt.Sprintf("refused %s: %s", refused.Code, refused.Detail))
		case errors.As(err, &malformed):
			told = append(told, fmt.Sprintf("refused %s: %v", malformed.Code, err))
		default:
			t.Fatalf("line %d: %v", n+1, err)
		}
		if word == "when" {
			told = append(told, promises(before, o)...)
			told = append(told, "status "+string(o.Status()))
		}
	}
	return strings.Join(told, "\n") + "\n"
}

func promises(before, after domain.Order) []string {
	var told []string
	for i, l := range after.Lines {
		if i < len(before.Lines) && before.Lines[i].Promised == l.Promised || l.FirstPromised == "" {
			continue
		}
		promised := l.Promised
		if promised == "" {
			promised = "nothing"
		}
		told = append(told, fmt.Sprintf("promise line %s: %s, at first %s", l.ID, promised, l.FirstPromised))
	}
	return told
}

// Arguments of a command, by name. Reading one uses it up, so that one which nobody reads is found.
type arguments struct {
	values map[string][]string
	err    error
}

func parseAction(s string) (domain.Action, error) {
	words := strings.Fields(s)
	if len(words) == 0 {
		return nil, errors.New("no command")
	}
	handler, ok := verbs[words[0]]
	if !ok {
		return nil, fmt.Errorf("%q is no command", words[0])
	}
	args := &arguments{values: map[string][]string{}}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		args.values[name] = append(args.values[name], value)
	}
	action := handler(args)
	for name := range args.values {
		args.fail("%s takes no %s", words[0], name)
	}
	return action, args.err
}

func (a *arguments) fail(format string, args ...any) {
	if a.err == nil {
		a.err = fmt.Errorf(format, args...)
	}
}

func (a *arguments) all(name string) []string {
	values := a.values[name]
	delete(a.values, name)
	return values
}

func (a *arguments) one(name string) string {
	values := a.all(name)
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func (a *arguments) has(name string) bool { return a.all(name) != nil }

func (a *arguments) number(s string) domain.Decimal {
	d, err := domain.ParseDecimal(s)
	if err != nil {
		a.fail("%v", err)
	}
	return d
}

func (a *arguments) quantities(name string) []domain.LineQuantity {
	var lines []domain.LineQuantity
	for _, v := range a.all(name) {
		line, quantity, _ := strings.Cut(v, ":")
		lines = append(lines, domain.LineQuantity{Line: line, Quantity: a.number(quantity)})
	}
	return lines
}

// articles reads SKU:QUANTITY@PRICE.
func (a *arguments) articles(name string) []domain.Line {
	var lines []domain.Line
	for _, v := range a.all(name) {
		sku, rest, _ := strings.Cut(v, ":")
		quantity, price, _ := strings.Cut(rest, "@")
		lines = append(lines, domain.Line{
			SKU: sku, Quantity: a.number(quantity), Price: domain.Price{Amount: a.number(price)},
		})
	}
	return lines
}

func (a *arguments) reason() domain.Reason { return because(a.one("because")) }

// verbs say what each command means and takes.
var verbs = map[string]func(*arguments) domain.Action{
	"submit": func(a *arguments) domain.Action {
		s := order(a.articles("line")...)
		s.Channel = a.one("channel")
		s.Settled = a.has("settled")
		s.Terms = domain.Terms{Payment: a.one("payment"), CompleteDelivery: a.has("complete")}
		for _, charge := range a.all("charge") {
			s.Adjustments = append(s.Adjustments, domain.Adjustment{Kind: domain.Charge, Amount: a.number(charge)})
		}
		return s
	},
	"amend": func(a *arguments) domain.Action {
		amend := domain.Amend{Add: a.articles("add"), Reason: a.reason()}
		for _, q := range a.quantities("line") {
			amend.Lines = append(amend.Lines, domain.LineChange{Line: q.Line, Quantity: &q.Quantity})
		}
		for _, v := range a.all("requested") {
			line, day, _ := strings.Cut(v, ":")
			amend.Lines = append(amend.Lines, domain.LineChange{Line: line, Requested: onDay(day)})
		}
		if country := a.one("ship_to"); country != "" {
			amend.ShipTo = &domain.Party{Country: country}
		}
		if a.has("complete") {
			amend.Terms = &domain.Terms{CompleteDelivery: true}
		}
		return amend
	},
	"hold": func(a *arguments) domain.Action {
		return domain.PlaceHold{Role: a.one("role"), Until: domain.Date{Day: a.one("until")}, Reason: a.reason()}
	},
	"release": func(a *arguments) domain.Action {
		return domain.Release{Hold: a.one("hold"), Reason: a.reason()}
	},
	"cancel": func(a *arguments) domain.Action {
		return domain.Cancel{Lines: a.quantities("line"), Reason: a.reason()}
	},
	"route": func(a *arguments) domain.Action {
		return domain.Route{Site: a.one("site"), Reason: a.reason()}
	},
	"reroute": func(a *arguments) domain.Action {
		return domain.Reroute{Fulfilment: a.one("fulfilment"), Site: a.one("site"), Reason: a.reason()}
	},
	"confirm": func(a *arguments) domain.Action {
		c := domain.Confirm{Fulfilment: a.one("fulfilment")}
		c.Outcome, c.Reference, c.Reason = domain.Accepts, a.one("reference"), a.reason()
		line := func(id string) *domain.LineConfirmation {
			i := slices.IndexFunc(c.Lines, func(l domain.LineConfirmation) bool { return l.Line == id })
			if i < 0 {
				i = len(c.Lines)
				c.Lines = append(c.Lines, domain.LineConfirmation{Line: id})
			}
			return &c.Lines[i]
		}
		for _, v := range a.all("promise") {
			id, rest, _ := strings.Cut(v, ":")
			quantity, day, _ := strings.Cut(rest, "@")
			l := line(id)
			l.Promises = append(l.Promises, domain.Promise{Quantity: a.number(quantity), Kind: "deliver", Date: domain.Date{Day: day}})
		}
		for _, q := range a.quantities("backordered") {
			c.Outcome = domain.AcceptsWithChanges
			line(q.Line).Backordered = q.Quantity
		}
		for _, q := range a.quantities("cancelled") {
			c.Outcome = domain.AcceptsWithChanges
			line(q.Line).Cancelled = q.Quantity
		}
		return c
	},
	"refuse": func(a *arguments) domain.Action {
		c := domain.Confirm{Fulfilment: a.one("fulfilment")}
		c.Outcome, c.Reason = domain.Refuses, a.reason()
		return c
	},
	"start": func(a *arguments) domain.Action {
		return domain.StartFulfilment{Fulfilment: a.one("fulfilment")}
	},
	"ship": func(a *arguments) domain.Action {
		s := shipLines(a.one("fulfilment"), a.quantities("line")...)
		s.ID = a.one("shipment")
		return s
	},
	"deliver": func(a *arguments) domain.Action {
		return domain.Deliver{Fulfilment: a.one("fulfilment"), Shipment: a.one("shipment"), Lines: a.quantities("line")}
	},
	"fail": func(a *arguments) domain.Action {
		return domain.ReportFailure{Fulfilment: a.one("fulfilment"), Reason: a.reason()}
	},
	"return": func(a *arguments) domain.Action {
		return domain.Return{Lines: a.quantities("line"), Reason: a.reason()}
	},
	"close":    func(*arguments) domain.Action { return domain.Close{} },
	"withdraw": func(a *arguments) domain.Action { return domain.Withdraw{Winner: a.one("winner"), Reason: a.reason()} },
	"move": func(a *arguments) domain.Action {
		epoch, err := strconv.ParseUint(a.one("epoch"), 10, 32)
		a.err = errors.Join(a.err, err)
		return domain.Move{Home: a.one("home"), Source: a.one("source"), Epoch: uint32(epoch)}
	},
	"conflict": func(a *arguments) domain.Action {
		return domain.RecordConflict{Conflict: domain.Conflict{
			Ledger: a.one("ledger"), Command: a.one("command"), Action: a.one("action"), Code: a.one("code"),
			Site: a.one("site"), Fulfilment: a.one("fulfilment"),
		}}
	},
	"settle": func(a *arguments) domain.Action {
		return domain.Settle{Conflict: a.one("conflict"), Reason: a.reason()}
	},
}

// describe says what matters of an event in one line.
func describe(e domain.Event) string {
	name := strings.TrimSuffix(strings.TrimPrefix(e.Type(), "order."), ".v1")
	switch e := e.(type) {
	case *domain.Submitted:
		return fmt.Sprintf("%s %d lines, %v %s in all", name, len(e.Lines), e.Totals.Total, e.Currency)
	case *domain.Rejected:
		return fmt.Sprintf("%s because %s", name, e.Reason.Code)
	case *domain.Held:
		s := fmt.Sprintf("%s %s because %s", name, e.Hold.ID, e.Hold.Reason.Code)
		if e.Hold.Role != "" {
			s += ", to be released by " + e.Hold.Role
		}
		if e.Hold.Until.Day != "" {
			s += ", to be looked at on " + e.Hold.Until.Day
		}
		return s
	case *domain.Released:
		return name + " " + e.Hold
	case *domain.Amended:
		s := name
		for _, l := range e.Lines {
			s += " line " + l.Line
			if l.Quantity != nil {
				s += ":" + l.Quantity.String()
			}
			if l.Requested != nil {
				s += " for " + l.Requested.Day
			}
			s += ","
		}
		for _, l := range e.Added {
			s += fmt.Sprintf(" line %s:%v is new,", l.ID, l.Quantity)
		}
		if e.ShipTo != nil {
			s += " to " + e.ShipTo.Country + ","
		}
		return s + taken(e.Taken) + fmt.Sprintf(" %v in all", e.Totals.Total)
	case *domain.Routed:
		var sites []string
		for _, f := range e.Fulfilments {
			sites = append(sites, f.ID+" to "+f.Site+" with"+lineQuantities(f.Lines))
		}
		return name + " " + strings.Join(sites, "; ")
	case *domain.Unrouted:
		return fmt.Sprintf("%s %s because %s", name, e.Fulfilment, e.Reason.Code)
	case *domain.Confirmed:
		return fmt.Sprintf("%s %s %s", name, e.Fulfilment, e.Confirmation.Outcome)
	case *domain.FulfilmentStarted:
		return name + " " + e.Fulfilment
	case *domain.Shipped:
		return fmt.Sprintf("%s %s from %s with%s", name, e.Shipment.ID, e.Fulfilment, lineQuantities(e.Shipment.Lines))
	case *domain.Delivered:
		return strings.Join(strings.Fields(fmt.Sprintf("%s %s from %s with%s", name, e.Shipment, e.Fulfilment, lineQuantities(e.Lines))), " ")
	case *domain.FulfilmentFailed:
		return fmt.Sprintf("%s %s because %s", name, e.Fulfilment, e.Reason.Code)
	case *domain.Cancelled:
		return fmt.Sprintf("%s%s because %s,%s %v in all", name, lineQuantities(e.Lines), e.Reason.Code, taken(e.Taken), e.Totals.Total)
	case *domain.Returned:
		return fmt.Sprintf("%s%s because %s", name, lineQuantities(e.Lines), e.Reason.Code)
	case *domain.Withdrawn:
		return name + " for " + e.Winner
	case *domain.HomeMoved:
		return fmt.Sprintf("%s to %s, epoch %d", name, e.Home, e.Epoch)
	case *domain.ConflictFound:
		c := e.Conflict
		if c.Command == "" {
			return fmt.Sprintf("%s %s: %s reached %s", name, c.ID, c.Ledger, c.Site)
		}
		return fmt.Sprintf("%s %s: %s of %s, %s", name, c.ID, c.Action, c.Ledger, c.Code)
	case *domain.ConflictSettled:
		return fmt.Sprintf("%s %s because %s", name, e.Conflict, e.Reason.Code)
	}
	return name
}

func lineQuantities(lines []domain.LineQuantity) string {
	var s string
	for _, q := range lines {
		s += fmt.Sprintf(" %s:%v", q.Line, q.Quantity)
	}
	return s
}

func taken(parts []domain.PartQuantity) string {
	var s string
	for _, p := range parts {
		s += fmt.Sprintf(" %s gives up %s:%v,", p.Fulfilment, p.Line, p.Quantity)
	}
	return s
}
