package domain_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
)

const transitionsHead = `# What each command does in each state: one row per (state, command).
#
# A row says: state, command, the status that the order has then, and the events that happened, joined by +. A command that
# the state does not allow stores nothing; its row has - and the code of the refusal. The tests compute this table: it is
# written anew by go test ./domain -update.
#
# The order has two lines: 10 of "lens" and 5 of "frame", both of which site A fulfils as f1 unless the state says otherwise.
# The next sites are B and C. The states, each with its status:
#
`

func TestTransitions(t *testing.T) {
	const file = "testdata/transitions.txt"
	var b bytes.Buffer
	b.WriteString(transitionsHead)
	row := func(format string, columns ...any) {
		b.WriteString(strings.TrimRight(fmt.Sprintf(format, columns...), " ") + "\n")
	}
	states, commands := transitionStates(t), transitionCommands()
	for _, s := range states {
		row("#   %-16s %-18s %s", s.name, statusOr(s.order), s.means)
	}
	row("#\n# The commands:\n#")
	for _, c := range commands {
		row("#   %-16s %s", c.name, c.means)
	}
	for _, s := range states {
		row("")
		for _, c := range commands {
			events, err := domain.Decide(s.order, asked(s.order, c.do), domaintest.Policy{}, now)
			refused := new(domain.Refused)
			switch {
			case err == nil:
				o := s.order
				for _, e := range events {
					o = domain.Evolve(o, e)
				}
				row("%-16s %-14s %-18s %s", s.name, c.name, statusOr(o), strings.Join(typesOf(events), " + "))
			case errors.As(err, &refused):
				row("%-16s %-14s %-18s %s", s.name, c.name, "-", refused.Code)
			default:
				t.Errorf("%s, %s: %v", s.name, c.name, err)
			}
		}
	}
	got := b.String()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the table has changed (-update writes it anew):\n%s", diff)
	}
}

// Every status, action and kind of trouble is in the table.
func TestTransitionsAreComplete(t *testing.T) {
	statuses := map[domain.Status]bool{}
	for _, s := range transitionStates(t) {
		statuses[s.order.Status()] = true
	}
	for _, s := range domain.Statuses() {
		if !statuses[s] {
			t.Errorf("no state has status %s", s)
		}
	}
	actions := map[string]bool{}
	for _, c := range transitionCommands() {
		actions[c.do.Name()] = true
	}
	for _, a := range domaintest.Actions() {
		if !actions[a.Name()] {
			t.Errorf("no command is a %s", a.Name())
		}
	}
}

type transitionState struct {
	name, means string
	order       domain.Order
}

func transitionStates(t testing.TB) []transitionState {
	lens, frame := article("lens", "10"), article("frame", "5")
	plain := after(t, order(lens, frame))
	confirmed := going(t, plain, domain.Confirm{Fulfilment: "f1", Confirmation: domain.Confirmation{
		Outcome: domain.Accepts,
		Lines: []domain.LineConfirmation{{
			Line: "1", Promises: []domain.Promise{{Quantity: num("10"), Kind: "deliver", Date: domain.Date{Day: "2026-03-20"}}},
		}},
	}})
	started := going(t, confirmed, domain.StartFulfilment{Fulfilment: "f1"})
	part := going(t, started, shipLines("f1", of("1", "4")))
	shipped := going(t, part, domain.Ship{Fulfilment: "f1"})
	delivered := going(t, shipped, domain.Deliver{Fulfilment: "f1"})
	homeless := after(t, order(lens, article(domaintest.Nowhere, "5")))
	complete := order(lens, frame)
	complete.Terms.CompleteDelivery = true
	settled := order(lens, frame)
	settled.Channel, settled.Settled = domain.ChannelImport, true
	hold := domain.PlaceHold{Reason: because("asked"), Role: "finance"}
	move := domain.Move{Home: "ledger-1", Source: "ledger-2", Last: 2, Epoch: 1}
	conflict := domain.RecordConflict{Conflict: domain.Conflict{Ledger: "ledger-2", Command: "ship-1", Action: "ship", Code: "over_shipment", Revision: 3}}

	events, err := domain.Decide(domain.Order{}, asked(domain.Order{}, order(lens, frame)), domaintest.Policy{}, now)
	if err != nil {
		t.Fatal(err)
	}
	submitted := domain.Fold(events[:1])

	return []transitionState{
		{"none", "there is no such order", domain.Order{}},
		{"submitted", "not judged yet; no order stays there", submitted},
		{"rejected", "the rules rejected it", after(t, order(lens, article(domaintest.Bad, "5")))},
		{"held-new", "the rules hold it, it is not accepted yet", after(t, order(lens, article(domaintest.Dubious, "5")))},
		{"held-no-site", "accepted, but no site is left for it", homeless},
		{"held-routed", "routed, then held by hand", going(t, plain, hold)},
		{"held-twice", "routed, then held twice", going(t, plain, hold, hold)},
		{"held-part", "shipped in part, then held by hand", going(t, part, hold)},
		{"accepted", "no site was left, then it was released", going(t, homeless, domain.Release{})},
		{"routed", "f1 is at A", plain},
		{"split", "f1 has line 1 at A, f2 has line 2 at B", after(t, order(lens, article("only-B", "5")))},
		{"complete", "routed, to be delivered at once", after(t, complete)},
		{"confirmed", "A has confirmed f1 with a promise for line 1", confirmed},
		{"in-fulfilment", "A has begun to work", started},
		{"part-shipped", "A has shipped 4 of line 1", part},
		{"replaced", "A has shipped 4 of line 1 and failed: f2 is at B", going(t, part, domain.ReportFailure{Fulfilment: "f1", Reason: because("fire")})},
		{"shipped", "A has shipped all, in two shipments", shipped},
		{"part-delivered", "of this, 4 of line 1 have arrived", going(t, shipped, domain.Deliver{Fulfilment: "f1", Shipment: "s1"})},
		{"delivered", "all has arrived", delivered},
		{"closed", "delivered, then closed", going(t, delivered, domain.Close{})},
		{"closed-ex-works", "shipped, then closed", going(t, shipped, domain.Close{})},
		{"settled", "imported: fulfilled before the ledger knew it", after(t, settled)},
		{"cancelled", "cancelled before anything was shipped", going(t, plain, domain.Cancel{Reason: because("asked")})},
		{"withdrawn", "another ledger keeps it", going(t, plain, domain.Withdraw{Winner: "ledger-2"})},
		{"moved", "withdrawn, then taken over after all", going(t, plain, domain.Withdraw{Winner: "ledger-2"}, move)},
		{"in-conflict", "routed; ledger-2 has shipped more", going(t, plain, conflict)},
	}
}

type transitionCommand struct {
	name, means string
	do          domain.Action
}

func transitionCommands() []transitionCommand {
	const f1 = "f1"
	amend := func(quantity string) domain.Amend {
		q := num(quantity)
		return domain.Amend{Lines: []domain.LineChange{{Line: "1", Quantity: &q}}}
	}
	return []transitionCommand{
		{"submit", "the same order again", order(article("lens", "10"), article("frame", "5"))},
		{"amend-up", "12 of line 1", amend("12")},
		{"amend-down", "8 of line 1", amend("8")},
		{"amend-date", "another day for line 1", domain.Amend{Lines: []domain.LineChange{{Line: "1", Requested: onDay("2026-04-01")}}}},
		{"amend-bad", "a further line that the rules reject", domain.Amend{Add: []domain.Line{article(domaintest.Bad, "1")}}},
		{"hold", "the order", domain.PlaceHold{Reason: because("asked")}},
		{"release", "no hold named", domain.Release{}},
		{"release-h1", "the hold h1", domain.Release{Hold: "h1"}},
		{"cancel", "all that is left", domain.Cancel{Reason: because("asked")}},
		{"cancel-some", "2 of line 1", domain.Cancel{Lines: []domain.LineQuantity{of("1", "2")}, Reason: because("asked")}},
		{"route", "by the rules", domain.Route{}},
		{"route-C", "to site C, by hand", domain.Route{Site: "C"}},
		{"reroute", "f1, by the rules", domain.Reroute{Fulfilment: f1, Reason: because("late")}},
		{"reroute-C", "f1 to site C, by hand", domain.Reroute{Fulfilment: f1, Site: "C", Reason: because("late")}},
		{"confirm", "f1", domain.Confirm{Fulfilment: f1, Confirmation: domain.Confirmation{Outcome: domain.Accepts}}},
		{"confirm-less", "f1, but 1 of line 1 will not come", domain.Confirm{Fulfilment: f1, Confirmation: domain.Confirmation{
			Outcome: domain.AcceptsWithChanges, Lines: []domain.LineConfirmation{{Line: "1", Cancelled: num("1")}},
		}}},
		{"refuse", "the site refuses f1", domain.Confirm{Fulfilment: f1, Confirmation: domain.Confirmation{
			Outcome: domain.Refuses, Reason: because("busy"),
		}}},
		{"start", "f1", domain.StartFulfilment{Fulfilment: f1}},
		{"ship", "all that is left of f1", domain.Ship{Fulfilment: f1}},
		{"ship-some", "1 of line 1 from f1", shipLines(f1, of("1", "1"))},
		{"deliver", "all that is under way from f1", domain.Deliver{Fulfilment: f1}},
		{"fail", "f1", domain.ReportFailure{Fulfilment: f1, Reason: because("fire")}},
		{"return", "1 of line 1", domain.Return{Lines: []domain.LineQuantity{of("1", "1")}, Reason: because("broken")}},
		{"close", "the order", domain.Close{}},
		{"withdraw", "in favour of ledger-2", domain.Withdraw{Winner: "ledger-2"}},
		{"move", "to ledger-3, for the first time", domain.Move{Home: "ledger-3", Source: "ledger-1", Epoch: 1}},
		{"conflict", "ledger-2 has shipped more", domain.RecordConflict{Conflict: domain.Conflict{
			Ledger: "ledger-2", Command: "ship-1", Action: "ship", Code: "over_shipment", Revision: 3,
		}}},
		{"settle", "the conflict c1", domain.Settle{Conflict: "c1", Reason: because("sent_back")}},
	}
}

func shipLines(fulfilment string, lines ...domain.LineQuantity) domain.Ship {
	return domain.Ship{Fulfilment: fulfilment, Shipment: domain.Shipment{Lines: lines}}
}

func statusOr(o domain.Order) string {
	if !o.Exists() {
		return "-"
	}
	return string(o.Status())
}
