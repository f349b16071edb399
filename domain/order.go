package domain

import (
	"slices"
	"sort"

	"github.com/google/uuid"
)

// An Order is the state that its events add up to. The zero Order has not been submitted. An Order is a value: Evolve
// never changes one that it was given, so orders may be kept and shared, and nobody may change their slices.
type Order struct {
	ID           uuid.UUID `json:"id"`
	BusinessUnit string    `json:"business_unit"`
	Number       string    `json:"number"` // for people
	Details
	Lines        []OrderLine  `json:"lines"`
	Totals       Totals       `json:"totals"` // of what is not cancelled
	Personal     []Sealed     `json:"personal,omitempty"`
	Fulfilments  []Fulfilment `json:"fulfilments,omitempty"`
	Holds        []Hold       `json:"holds,omitempty"`         // the open ones
	HoldsEver    int          `json:"holds_ever,omitempty"`    // how many there were, for the next one's id
	Verdict      Verdict      `json:"verdict,omitempty"`       // empty until the order is judged
	Reason       Reason       `json:"reason,omitzero"`         // of the rejection, cancellation or withdrawal
	Decision     Decision     `json:"decision,omitzero"`       // why it was accepted or rejected
	Closed       bool         `json:"closed,omitempty"`        //
	Settled      bool         `json:"settled,omitempty"`       // was fulfilled before the ledger knew it
	WithdrawnFor string       `json:"withdrawn_for,omitempty"` // the ledger that has the order instead
	Home         string       `json:"home,omitempty"`          // the ledger it lives in, where it has moved
	Epoch        uint32       `json:"epoch,omitempty"`         // how often it has moved
	Events       uint64       `json:"events"`                  // how many events this is the sum of

	Conflicts []OrderConflict `json:"conflicts,omitempty"` // all that were ever found
}

// A Verdict is the outcome of validation.
type Verdict string

// The verdicts. An order that the rules hold has none until it is released.
const (
	VerdictAccepted Verdict = "accepted"
	VerdictRejected Verdict = "rejected"
)

// An OrderLine is a line and what became of it.
type OrderLine struct {
	Line
	Cancelled     Decimal `json:"cancelled,omitzero"`
	Returned      Decimal `json:"returned,omitzero"`
	FirstPromised string  `json:"first_promised,omitempty"` // the first day that Promised has named

	// Promised is the day on which all that has not arrived is promised, the latest that a site has named. It is empty
	// unless the whole line has sites, and each site that has some of it left to ship has, in its newest answer, promised
	// all of that and put nothing of it on backorder. What a site has shipped keeps its day until it has arrived. An
	// amendment of the line voids all promises of it. Once nothing is left to ship, Promised stays as it is.
	Promised string `json:"promised,omitempty"`
}

// Active is the quantity that is still wanted, fulfilled or not.
func (l OrderLine) Active() Decimal { return less(l.Quantity, l.Cancelled) }

// A Fulfilment is the part of an order that one site fulfils.
type Fulfilment struct {
	ID           string        `json:"id"` // f1, f2, …
	Site         string        `json:"site"`
	Phase        Phase         `json:"phase"`
	Parts        []Part        `json:"parts,omitempty"`
	Decision     Decision      `json:"decision,omitzero"`      // why this site
	Confirmation *Confirmation `json:"confirmation,omitempty"` // the newest answer; of lines that it did not name, the one before; without promises that are void
	Shipments    []Shipment    `json:"shipments,omitempty"`
	Arrived      []Arrival     `json:"arrived,omitempty"`
	Reason       Reason        `json:"reason,omitzero"` // why it ended early
}

// A Phase is how far a site has come by its own word; what has been shipped and delivered is told by quantities.
type Phase string

// The phases. Failed and Unrouted fulfilments keep what they had shipped; the rest went to another site.
const (
	PhaseRouted    Phase = "routed"
	PhaseConfirmed Phase = "confirmed"
	PhaseStarted   Phase = "started"
	PhaseFailed    Phase = "failed"
	PhaseUnrouted  Phase = "unrouted"
)

// A Part is the share of a line in a fulfilment.
type Part struct {
	Line      string  `json:"line"`
	Quantity  Decimal `json:"quantity"`
	Shipped   Decimal `json:"shipped,omitzero"`
	Delivered Decimal `json:"delivered,omitzero"`
}

// Live reports whether the site is still expected to do something.
func (f Fulfilment) Live() bool {
	return f.Phase != PhaseFailed && f.Phase != PhaseUnrouted && slices.ContainsFunc(f.Parts, func(p Part) bool { return p.Shipped.Less(p.Quantity) })
}

// part returns the share of a line, or nil.
func (f *Fulfilment) part(line string) *Part {
	// Sites are given lines in their order, so a line stands at its number or, where lines are missing, before it.
	if i := lineIndex(line); uint(i) < uint(len(f.Parts)) && f.Parts[i].Line == line {
		return &f.Parts[i]
	}
	return ofLine(f.Parts, line, func(p *Part) string { return p.Line })
}

// ofLine returns what a list says of a line, or nil. It finds that fast where the list is in the order of the lines.
func ofLine[T any](list []T, line string, of func(*T) string) *T {
	index := lineIndex(line)
	guess := min(index, len(list)-1)
	if guess >= 0 && of(&list[guess]) == line {
		return &list[guess]
	}
	guess = sort.Search(guess, func(i int) bool { return lineIndex(of(&list[i])) >= index })
	if guess < len(list) && of(&list[guess]) == line {
		return &list[guess]
	}
	for i := range list {
		if of(&list[i]) == line {
			return &list[i]
		}
	}
	return nil
}

// lineIndex is where a line stands in its order, whose lines are numbered from 1; −1 for what is no number of a line.
func lineIndex(id string) int {
	n := 0
	for i := range len(id) {
		digit := id[i] - '0'
		if digit > 9 || i > 8 {
			return -1
		}
		n = 10*n + int(digit)
	}
	return n - 1
}

// A Shipment is what left a site at once.
type Shipment struct {
	ID        string         `json:"id,omitempty"` // the site's own, or s1, s2, …
	Carrier   string         `json:"carrier,omitempty"`
	Tracking  string         `json:"tracking,omitempty"`
	Lines     []LineQuantity `json:"lines,omitempty"` // empty in a command: all that is left
	Documents []Document     `json:"documents,omitempty"`
}

// An Arrival is how much of a line of a shipment has been delivered.
type Arrival struct {
	Shipment string  `json:"shipment"`
	Line     string  `json:"line"`
	Quantity Decimal `json:"quantity"`
}

// underWay is how much of each line of a shipment has not been delivered.
func (f *Fulfilment) underWay(s Shipment) map[string]Decimal { return s.underWay(f.Arrived) }

// underWay is how much of each line is not among what has arrived.
func (s *Shipment) underWay(arrived []Arrival) map[string]Decimal {
	rest := make(map[string]Decimal, len(s.Lines))
	for _, q := range s.Lines {
		rest[q.Line] = plus(rest[q.Line], q.Quantity)
	}
	for i := range arrived {
		if a := &arrived[i]; a.Shipment == s.ID {
			rest[a.Line] = less(rest[a.Line], a.Quantity)
		}
	}
	return rest
}

// left is what underWay says of one line.
func (s *Shipment) left(line string, arrived []Arrival) Decimal {
	var rest Decimal
	for i := range s.Lines {
		if q := &s.Lines[i]; q.Line == line {
			rest = plus(rest, q.Quantity)
		}
	}
	for i := range arrived {
		if a := &arrived[i]; a.Shipment == s.ID && a.Line == line {
			rest = less(rest, a.Quantity)
		}
	}
	return rest
}

// A Hold keeps an order from going on until somebody releases it. Its role tells people whose decision that is; the
// ledger does not enforce it, for it does not know who somebody is until there is authentication.
type Hold struct {
	ID     string `json:"id"` // h1, h2, …
	Reason Reason `json:"reason"`
	Role   string `json:"role,omitempty"` // who is to release it, not enforced; empty: whoever may change the order
	Until  Date   `json:"until,omitzero"` // when it is to be looked at again; nothing happens by itself

	Decision Decision `json:"decision,omitzero"` // why, where the rules held it
}

// A Confirmation is a site's answer.
type Confirmation struct {
	Outcome   Outcome            `json:"outcome"`
	Reference string             `json:"reference,omitempty"` // the site's own number
	Lines     []LineConfirmation `json:"lines,omitempty"`
	Reason    Reason             `json:"reason,omitzero"`
}

// line returns the answer for a line, or nil.
func (c *Confirmation) line(id string) *LineConfirmation {
	return ofLine(c.Lines, id, func(l *LineConfirmation) string { return l.Line })
}

// An Outcome is what a site says to a fulfilment.
type Outcome string

// The outcomes.
const (
	Accepts            Outcome = "accepted"
	AcceptsWithChanges Outcome = "accepted_with_changes"
	Refuses            Outcome = "refused"
)

// A LineConfirmation is a site's answer for one line.
type LineConfirmation struct {
	Line        string    `json:"line"`
	Promises    []Promise `json:"promises,omitempty"`
	Substitute  string    `json:"substitute,omitempty"` // the SKU that comes instead
	Backordered Decimal   `json:"backordered,omitzero"` // will come, nobody knows when
	Cancelled   Decimal   `json:"cancelled,omitzero"`   // will not come
	Reason      Reason    `json:"reason,omitzero"`
}

// A Promise is a quantity on a day.
type Promise struct {
	Quantity Decimal `json:"quantity"`
	Kind     string  `json:"kind"` // ship or deliver
	Date     Date    `json:"date"`
}

// Exists reports whether the order has been submitted.
func (o Order) Exists() bool { return o.Events > 0 }

// Revision is the revision of the newest event in an order that exists.
func (o Order) Revision() uint64 { return o.Events - 1 }

// Line returns a line by its id, or nil.
func (o *Order) Line(id string) *OrderLine {
	if i := o.line(id); i >= 0 {
		return &o.Lines[i]
	}
	return nil
}

// line returns where a line stands, or −1.
func (o *Order) line(id string) int {
	if i := lineIndex(id); i >= 0 && i < len(o.Lines) && o.Lines[i].ID == id {
		return i
	}
	for i := range o.Lines {
		if o.Lines[i].ID == id {
			return i
		}
	}
	return -1
}

// Fulfilment returns a fulfilment by its id, or nil.
func (o *Order) Fulfilment(id string) *Fulfilment {
	for i := range o.Fulfilments {
		if o.Fulfilments[i].ID == id {
			return &o.Fulfilments[i]
		}
	}
	return nil
}

// Shipped is how much of a line has left all sites.
func (o Order) Shipped(line string) Decimal {
	return o.sum(line, func(p Part) Decimal { return p.Shipped })
}

// Delivered is how much of a line has arrived.
func (o Order) Delivered(line string) Decimal {
	return o.sum(line, func(p Part) Decimal { return p.Delivered })
}

// Allocated is how much of a line sites have been given.
func (o Order) Allocated(line string) Decimal {
	return o.sum(line, func(p Part) Decimal { return p.Quantity })
}

func (o Order) sum(line string, of func(Part) Decimal) Decimal {
	var total Decimal
	for i := range o.Fulfilments {
		if p := o.Fulfilments[i].part(line); p != nil {
			total = plus(total, of(*p))
		}
	}
	return total
}

// Unallocated is what no site has been given yet.
func (o Order) Unallocated() []LineQuantity {
	var open []LineQuantity
	shares := o.shares(len(o.Lines))
	for i := range o.Lines {
		l := &o.Lines[i]
		var allocated Decimal
		at := shares.of(l.ID)
		for f, p := shares.next(l.ID, &at); f != nil; f, p = shares.next(l.ID, &at) {
			allocated = plus(allocated, p.Quantity)
		}
		if q := less(l.Active(), allocated); q.Sign() > 0 {
			open = append(open, LineQuantity{l.ID, q})
		}
	}
	return open
}

// FailedSites are the sites that have failed this order, in the order in which they did.
func (o Order) FailedSites() []string {
	var sites []string
	for _, f := range o.Fulfilments {
		if f.Phase == PhaseFailed && !slices.Contains(sites, f.Site) {
			sites = append(sites, f.Site)
		}
	}
	return sites
}

// ShipTo is the party that the goods go to.
func (o Order) ShipTo() Party {
	if s := o.Parties.ShipTo; s.Country != "" || len(s.Identifiers) > 0 {
		return s
	}
	return o.Parties.Buyer
}
