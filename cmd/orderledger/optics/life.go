// Package optics makes up the orders of an optics maker that does not exist: a catalogue, customers in forty
// countries, and lives of orders with everything that goes wrong in them. The same seed makes the same lives.
package optics

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/orderledger/orderledger/domain"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// A plan is what is special about the life of an order.
type plan int

const (
	plain        plan = iota
	split             // several sites fulfil it
	amended           // the customer wants more
	shrunk            // the customer wants less, after a site has confirmed
	costly            // finance looks at it
	stuck             // nobody releases it
	questioned        // a person holds it for a while
	embargoed         // rejected
	uncatalogued      // rejected
	unprescribed      // held, then amended and released
	failing           // a site fails
	refused           // a site refuses
	moved             // somebody gives it to another site
	late              // arrives days after it was promised
	cancelled         // before anything was shipped
	abandoned         // its rest is cancelled after a part was shipped
	returned          // a piece comes back after delivery
	regretted         // a piece comes back after it was closed
	delivered         // and never closed
	doubled           // its delivery is reported twice
)

// plans in a hundred orders.
var plans = []struct {
	plan plan
	n    int
}{
	{plain, 38}, {split, 12}, {amended, 5}, {shrunk, 2}, {costly, 4}, {stuck, 1}, {questioned, 3}, {embargoed, 2},
	{uncatalogued, 1}, {unprescribed, 2}, {failing, 6}, {refused, 3}, {moved, 2}, {late, 5}, {cancelled, 4}, {abandoned, 2},
	{returned, 3}, {regretted, 1}, {delivered, 3}, {doubled, 1},
}

// A Life is one order from its submission on. It is used by one goroutine.
type Life struct {
	Submit   domain.Submit
	Personal domain.Personal
	Arrives  time.Duration // after the beginning of all lives

	key  string
	plan plan
	rand *rand.Rand
	now  time.Duration
	base time.Time
	done map[string]bool // what happens once
	step int
}

// A Step is what happens next in a life.
type Step struct {
	Key    string // idempotency key
	Actor  domain.Actor
	Do     domain.Action
	At     time.Duration // after the beginning of all lives
	Refuse bool          // the ledger is expected to refuse it
}

// NewLife makes the n-th life of a seed. Lives begin within span after base, which must not change between runs.
func NewLife(seed uint64, n int, base time.Time, span time.Duration) *Life {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	l := &Life{
		key: fmt.Sprintf("demo-%d-%d", seed, n), rand: r, base: base, done: make(map[string]bool),
		Arrives: time.Duration(r.Int64N(int64(span))),
	}
	if n == 0 {
		l.Arrives, l.plan = 0, failing // the one to follow
	} else {
		l.plan = draw(r)
	}
	l.now = l.Arrives
	l.order()
	return l
}

func draw(r *rand.Rand) plan {
	n := r.IntN(100)
	for _, p := range plans {
		if n -= p.n; n < 0 {
			return p.plan
		}
	}
	return plain
}

// order makes up what is ordered.
func (l *Life) order() {
	r := l.rand
	m := markets[r.IntN(len(markets))]
	customer := fmt.Sprintf("%s-%04d", m.country, 1000+r.IntN(25))
	s := &l.Submit
	s.Channel = []string{"web", "web", "edi", "phone"}[r.IntN(4)]
	s.Currency = m.currency
	s.PurchaseOrder = fmt.Sprintf("PO-%06d", r.IntN(1_000_000))
	s.Parties.Buyer = domain.Party{Identifiers: []domain.Identifier{{Scheme: "customer", Value: customer}}, Country: m.country}
	if m.country == "UA" {
		s.Parties.Buyer.Region = "46"
	}
	s.Terms = domain.Terms{Incoterms: domain.Incoterms{Rule: "DAP", Version: "2020"}, Payment: "net 30", Priority: r.IntN(3)}
	l.Personal = domain.Personal{
		Buyer: domain.Person{Name: m.name, Contact: contacts[r.IntN(len(contacts))], Email: "orders@" + customer + ".example"},
		ShipTo: domain.Person{Name: m.name, Street: []string{fmt.Sprintf("%d %s", 1+r.IntN(180), streets[r.IntN(len(streets))])},
			PostalCode: fmt.Sprintf("%05d", r.IntN(100_000))},
	}
	l.lines(m)
}

var (
	contacts = []string{"A. Almeida", "B. Brandt", "C. Castellanos", "D. Dvořák", "E. Eriksen", "F. Fontaine", "G. Gupta", "H. Hayashi"}
	streets  = []string{"Harbour Street", "Market Square", "Mill Lane", "Station Road", "Garden Walk", "Bridge Street"}
)

func (l *Life) lines(m market) {
	r, s := l.rand, &l.Submit
	add := func(a article, quantity int) {
		line := domain.Line{
			BuyerLine: fmt.Sprint(10 * (len(s.Lines) + 1)), SKU: a.sku, Description: a.name, Unit: "C62",
			Quantity: domain.Whole(int64(quantity)), Price: domain.Price{Amount: price(a, m)},
			Requested: domain.Date{Day: l.day(l.Arrives + 7*day)},
		}
		s.Lines = append(s.Lines, line)
	}
	prescription := func(known bool) {
		a := made[r.IntN(3)]
		add(a, a.most)
		if known {
			line := &s.Lines[len(s.Lines)-1]
			line.Configuration = domain.Configuration{Schema: "lens-rx/1", SHA256: fmt.Sprintf("%064x", r.Uint64())}
			sphere := float32(r.IntN(24)-12) / 4
			l.Personal.Lines = append(l.Personal.Lines, domain.PersonalLine{
				Line: fmt.Sprint(len(s.Lines)), Configuration: fmt.Sprintf(`{"sphere":"%+.2f","axis":%d}`, sphere, r.IntN(180)),
			})
		}
	}
	for _, i := range r.Perm(len(stock))[:1+r.IntN(4)] {
		add(stock[i], 1+r.IntN(stock[i].most))
	}
	switch l.plan {
	case split, failing:
		prescription(true)
		add(made[3+r.IntN(2)], 1)
	case costly, stuck:
		add(made[3], 30)
	case embargoed:
		s.Parties.ShipTo = domain.Party{Country: []string{"IR", "KP", "SY"}[r.IntN(3)]}
	case uncatalogued:
		add(article{"TELESCOPE-X", "Telescope", 99900, 1}, 1)
	case unprescribed:
		prescription(false)
	default:
		if r.IntN(4) == 0 {
			prescription(true)
		}
	}
}

// day is the calendar day of a moment in the lives.
func (l *Life) day(at time.Duration) string { return l.base.Add(at).Format(time.DateOnly) }

// between draws a duration.
func (l *Life) between(from, to time.Duration) time.Duration {
	return from + time.Duration(l.rand.Int64N(int64(to-from)))
}

// once reports true the first time it is asked for a name.
func (l *Life) once(name string) bool {
	first := !l.done[name]
	l.done[name] = true
	return first
}

// First is the submission.
func (l *Life) First() Step {
	return Step{Key: l.key, Actor: domain.Actor{Kind: "system", Issuer: "demo", Subject: l.Submit.Channel}, Do: l.Submit, At: l.Arrives}
}

// step makes the next step, a while after the last one.
func (l *Life) after(wait time.Duration, actor domain.Actor, do domain.Action) (Step, bool) {
	l.step++
	l.now += wait
	return Step{Key: fmt.Sprintf("%s-%d", l.key, l.step), Actor: actor, Do: do, At: l.now}, true
}

func person(name string) domain.Actor {
	return domain.Actor{Kind: "person", Issuer: "demo", Subject: name}
}
func site(name string) domain.Actor { return domain.Actor{Kind: "site", Issuer: "demo", Subject: name} }
