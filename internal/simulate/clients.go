package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/edge"
	"github.com/orderledger/orderledger/internal/web"
)

// clients are all who send commands, and what they know.
type clients struct {
	requests map[int]*request // by the operation that sent them first
	sent     []*request
	orders   map[int]*order // by number
	byID     map[uuid.UUID]*order
}

func newClients() clients {
	return clients{requests: make(map[int]*request), orders: make(map[int]*order), byID: make(map[uuid.UUID]*order)}
}

// An order is one that a client submits.
type order struct {
	id       uuid.UUID
	number   string // of the first answer
	last     commands.Answer
	mark     string // of the last answer
	answered bool
}

// A request is something that a client wants done, under one key.
type request struct {
	id      int
	order   *order
	action  string
	path    string
	key     string
	body    string
	command uuid.UUID
	remote  bool // it asks that another region has it

	first    *reply   // the first answer that said it was done
	survives bool     // it was answered that another region has it
	original *request // has the same key, and asks for something else
}

// A reply is an answer that says that a command was done.
type reply struct {
	by       *region // who was asked
	body     []byte
	answer   commands.Answer
	mark     eventstore.Mark
	replayed bool
	remote   bool // another region has it
}

// subject is who all clients are.
const subject = "local"

func (c *clients) request(id int, o *order, action, path, key, body string) *request {
	q := &request{id: id, order: o, action: action, path: path, key: key, body: body, command: domain.CommandID(o.id, subject, key)}
	c.requests[id] = q
	c.sent = append(c.sent, q)
	return q
}

// submission is the request for a new order.
func (w *world) submission(op operation) *request {
	key := fmt.Sprintf("order-%d", op.order)
	o := &order{id: domain.OrderID(web.DefaultBusinessUnit, subject, key)}
	w.clients.orders[op.order], w.clients.byID[o.id] = o, o
	purchase := [...]string{"PO", "PO", "PO", "PO", "PO", "PO", "PO", "PO", "hold", "reject"}[w.chance.IntN(10)]
	body := fmt.Sprintf(`{"currency":"EUR","purchase_order":"%s-%d","parties":{"buyer":{"identifiers":[{"scheme":"customer","value":"C%d"}],"country":"DE"}},`+
		`"lines":[{"sku":"A","quantity":"%d","price":{"amount":"10"}},{"sku":"B","quantity":"%d","price":{"amount":"1.5"}}]}`,
		purchase, op.order, w.chance.IntN(5), 1+w.chance.IntN(9), 1+w.chance.IntN(9))
	return w.clients.request(op.id, o, "submit", "/v1/orders", key, body)
}

// changeOf is a request to change an order as its client knows it; nil: there is no such order.
func (w *world) changeOf(op operation) *request {
	o := w.clients.orders[op.order]
	if o == nil {
		return nil
	}
	action, path, body := w.action(o)
	return w.clients.request(op.id, o, action, "/v1/orders/"+o.id.String()+path, fmt.Sprintf("change-%d", op.id), body)
}

// action chooses what is asked of an order: mostly what would come next.
func (w *world) action(o *order) (name, path, body string) {
	const because = `{"reason":{"code":"asked"}}`
	n := w.chance.IntN(100)
	switch {
	case n < 8:
		return "hold", "/hold", because
	case n < 18 || len(o.last.Holds) > 0 && n < 60:
		if len(o.last.Holds) > 0 && w.chance.IntN(2) == 0 {
			return "release", "/release", fmt.Sprintf(`{"hold":%q}`, o.last.Holds[0].ID)
		}
		return "release", "/release", `{}`
	case n < 26:
		return "amend", "/amend", fmt.Sprintf(`{"lines":[{"line":"%d","quantity":"%d"}],"reason":{"code":"asked"}}`, 1+w.chance.IntN(2), 1+w.chance.IntN(12))
	case n < 29:
		return "cancel", "/cancel", because
	case n < 32:
		return "return", "/return", `{"lines":[{"line":"1","quantity":"1"}],"reason":{"code":"damaged"}}`
	case n < 35:
		return "close", "/close", `{}`
	case n < 37:
		return "route", "/route", `{}`
	}
	site := "f1"
	live := slices.DeleteFunc(slices.Clone(o.last.Fulfilments), func(f commands.FulfilmentState) bool {
		return f.Phase == domain.PhaseFailed || f.Phase == domain.PhaseUnrouted
	})
	if len(live) > 0 {
		site = live[w.chance.IntN(len(live))].ID
	}
	path = "/fulfilments/" + site
	switch {
	case n < 50:
		return "confirm", path + "/confirm", `{"outcome":"accepted","lines":[{"line":"1","promises":[{"quantity":"1","kind":"ship","date":{"day":"2026-12-01"}}]}]}`
	case n < 60:
		return "start", path + "/start", `{}`
	case n < 78:
		if w.chance.IntN(2) == 0 {
			return "ship", path + "/ship", `{"lines":[{"line":"1","quantity":"1"}]}`
		}
		return "ship", path + "/ship", `{}`
	case n < 90:
		return "deliver", path + "/deliver", `{}`
	case n < 95:
		return "fail", path + "/fail", `{"reason":{"code":"out_of_stock"}}`
	}
	return "reroute", path + "/reroute", `{"reason":{"code":"capacity"}}`
}

// maxTries is how many regions the entry asks for one request, and how often a client asks the entry.
const maxTries = 3

// trySome sends a request until somebody answers, through the entry or to one region after the other.
func (w *world) trySome(q *request, first *region) {
	if w.healing || w.chance.IntN(4) > 0 {
		for range 1 + w.chance.IntN(2) {
			if w.throughEntry(q, first) {
				return
			}
		}
		return
	}
	for i := range 1 + w.chance.IntN(maxTries) { // a client who does as the entry does
		if done, _ := w.tell(q, w.regions[(first.index+i)%len(w.regions)]); done {
			return
		}
	}
}

// throughEntry lets the entry choose who is asked. It reports whether the client has an answer.
func (w *world) throughEntry(q *request, first *region) bool {
	w.probe()
	var tried []string
	for len(tried) < maxTries {
		choice, err := w.entry.Choose(w.now, edge.Keyed, countries[first.index], tried)
		if err != nil {
			w.note(nil, "entry: no region is fit to be asked")
			return false
		}
		to := w.regions[slices.IndexFunc(w.regions, func(r *region) bool { return r.name == choice.Region.Name })]
		done, well := w.tell(q, to)
		outcome := edge.Failed
		if well {
			outcome = edge.Answered
		}
		w.entry.Report(w.now, choice, outcome, time.Second)
		if done || well {
			return done
		}
		tried = append(tried, to.name)
	}
	return false
}

// probe has the entry look which regions are well.
func (w *world) probe() {
	due, _ := w.entry.Probes(w.now)
	for _, r := range due {
		health := edge.Ready
		if i := slices.IndexFunc(w.regions, func(x *region) bool { return x.name == r.Name }); w.regions[i].process == nil {
			health = edge.Silent
		}
		w.entry.Probed(w.now, r.Name, health, time.Millisecond)
	}
}

// tell sends a request to a region, and takes note of the answer. It reports whether the client has one that ends the
// matter, and whether the region is fit to be asked.
func (w *world) tell(q *request, to *region) (done, well bool) {
	request, err := http.NewRequestWithContext(w.ctx, http.MethodPost, "http://"+to.name+q.path, strings.NewReader(q.body))
	if err != nil {
		w.violated("no request can be made of %s: %v", q.path, err)
		return true, true
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", q.key)
	if q.remote {
		request.Header.Set("Orderledger-Durability", "remote")
	}
	a, err := w.fetch(to, request, w.mishap(), routes)
	if err != nil {
		w.note(to, "%s: %v", q, problem(err))
		return false, false
	}
	if a.status < 300 {
		w.accept(q, to, a)
		return true, true
	}
	code := codeOf(a.body)
	w.note(to, "%s: %d %s", q, a.status, code)
	if a.status >= http.StatusInternalServerError {
		w.checkFailure(q, to, a.status, code)
		return false, code == "home_unreachable"
	}
	w.checkRefusal(q, to, a.status, code)
	return true, true
}

func problem(err error) string {
	var dial interface{ Timeout() bool }
	if errors.As(err, &dial) {
		return "nobody answers"
	}
	return "the connection is lost"
}

func codeOf(body []byte) string {
	var p struct{ Code string }
	_ = json.Unmarshal(body, &p) // what is no problem has no code
	return p.Code
}

func (q *request) String() string {
	text := fmt.Sprintf("%s of order %.8s under the key %s", q.action, q.order.id, q.key)
	if q.remote {
		text += ", remote"
	}
	return text
}

// accept takes note of an answer that says that a command was done.
func (w *world) accept(q *request, to *region, a answer) {
	r := &reply{
		by: to, body: a.body, replayed: a.header.Get("Idempotent-Replayed") == "true",
		remote: a.header.Get("Orderledger-Durability") == "remote",
	}
	if err := json.Unmarshal(a.body, &r.answer); err != nil {
		w.violated("%s: the answer %s cannot be read", q, a.body)
		return
	}
	mark, err := eventstore.ParseMark(a.header.Get("Orderledger-Mark"))
	if err != nil {
		w.violated("%s: its mark cannot be read: %v", q, err)
		return
	}
	r.mark = mark
	said := ""
	if r.replayed {
		said = ", as before"
	}
	if r.remote {
		said += ", and another region has it"
	}
	w.note(to, "%s: %s at revision %d of ledger %s%s", q, r.answer.Status, r.answer.Revision, w.ledgerName(mark.Ledger), said)
	w.checkReply(q, r)
	if q.first == nil {
		q.first = r
	}
	q.survives = q.survives || r.remote
	q.order.last, q.order.mark, q.order.answered = r.answer, mark.String(), true
	if q.order.number == "" {
		q.order.number = r.answer.Number
	}
}

func (w *world) ledgerName(id uuid.UUID) string {
	for _, r := range w.regions {
		if r.disk.identity.ID == id {
			return r.name
		}
	}
	return id.String()
}
