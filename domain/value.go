package domain

import "time"

// Details are what an order says beside its lines, as the buyer gave it and the parties amended it. Personal data is
// not among them: see [Personal].
type Details struct {
	Kind          Kind         `json:"kind,omitempty"`
	Channel       string       `json:"channel,omitempty"`        // how it came: web, edi, import, …
	PurchaseOrder string       `json:"purchase_order,omitempty"` // the buyer's own number
	References    []Reference  `json:"references,omitempty"`
	Currency      string       `json:"currency"` // ISO 4217
	Parties       Parties      `json:"parties,omitzero"`
	Terms         Terms        `json:"terms,omitzero"`
	Deadlines     Deadlines    `json:"deadlines,omitzero"`
	Adjustments   []Adjustment `json:"adjustments,omitempty"` // allowances and charges on the whole order
	Taxes         []Tax        `json:"taxes,omitempty"`       // as given, on the whole order
	TotalGiven    *Decimal     `json:"total_given,omitempty"` // what the buyer believes the order costs
	Documents     []Document   `json:"documents,omitempty"`
	Extensions    []Extension  `json:"extensions,omitempty"`
}

// A Kind says why an order exists.
type Kind string

// The kinds of orders. An order that names none is a standard one.
const (
	Standard    Kind = "standard"
	Sample      Kind = "sample"
	Replacement Kind = "replacement"
	ReturnKind  Kind = "return"
)

// A Reference ties an order to something elsewhere: a contract, a quotation, another order.
type Reference struct {
	Kind  string `json:"kind"`
	Value string `json:"value"`
}

// An Identifier names a party within a scheme: customer, gln, duns, vat, ….
type Identifier struct {
	Scheme string `json:"scheme"`
	Value  string `json:"value"`
}

// A Party is what is known of a party in the clear. Its name, address and contacts are personal: see [Person].
type Party struct {
	Identifiers []Identifier `json:"identifiers,omitempty"`
	Country     string       `json:"country,omitempty"` // ISO 3166-1 alpha-2
	Region      string       `json:"region,omitempty"`  // ISO 3166-2 without the country, such as CA
}

// Customer is the one identifier by which a buyer is known in keys, rules and lists: that of the scheme customer, or
// else the first when they are sorted by scheme and value. It reports false for a buyer of whom nothing is known.
func (p Party) Customer() (Identifier, bool) {
	var first Identifier
	known := false
	for _, id := range p.Identifiers {
		if id.Value != "" && id.Value != UnknownParty && (!known || id.before(first)) {
			first, known = id, true
		}
	}
	return first, known
}

func (i Identifier) before(other Identifier) bool {
	const number = "customer"
	switch {
	case i.Scheme == other.Scheme:
		return i.Value < other.Value
	case i.Scheme == number || other.Scheme == number:
		return i.Scheme == number
	}
	return i.Scheme < other.Scheme
}

// Parties are those whom an order concerns. Where one is empty, the buyer stands in for it.
type Parties struct {
	Buyer       Party `json:"buyer,omitzero"`
	ShipTo      Party `json:"ship_to,omitzero"`
	BillTo      Party `json:"bill_to,omitzero"`
	Payer       Party `json:"payer,omitzero"`
	EndCustomer Party `json:"end_customer,omitzero"`
}

// Terms are the conditions of an order.
type Terms struct {
	Incoterms        Incoterms `json:"incoterms,omitzero"`
	Payment          string    `json:"payment,omitempty"`
	CompleteDelivery bool      `json:"complete_delivery,omitempty"` // all at once or not at all: the order is never split
	Substitution     bool      `json:"substitution,omitempty"`      // the site may deliver an equivalent article
	Priority         int       `json:"priority,omitempty"`          // 0 (normal) to 9 (most urgent)
}

// Incoterms say who bears cost and risk of the transport.
type Incoterms struct {
	Rule    string `json:"rule,omitempty"`    // EXW, FCA, DAP, …
	Version string `json:"version,omitempty"` // 2020
	Place   string `json:"place,omitempty"`
}

// Deadlines are the latest moments that parties agreed on.
type Deadlines struct {
	ConfirmBy time.Time `json:"confirm_by,omitzero"`
	ShipBy    time.Time `json:"ship_by,omitzero"`
}

// A Line is one article of an order.
type Line struct {
	ID            string        `json:"id,omitempty"`         // ours, stable; given at submission as 1, 2, 3, …
	BuyerLine     string        `json:"buyer_line,omitempty"` // the buyer's own number of the line
	SKU           string        `json:"sku,omitempty"`        // the seller's
	BuyerSKU      string        `json:"buyer_sku,omitempty"`
	GTIN          string        `json:"gtin,omitempty"`
	Description   string        `json:"description,omitempty"`
	Configuration Configuration `json:"configuration,omitzero"`
	Quantity      Decimal       `json:"quantity"`
	Unit          string        `json:"unit,omitempty"` // UN/ECE Recommendation 20; C62 (piece) where none is given
	Requested     Date          `json:"requested,omitzero"`
	Price         Price         `json:"price,omitzero"`
	Adjustments   []Adjustment  `json:"adjustments,omitempty"`
	Taxes         []Tax         `json:"taxes,omitempty"`
}

// A Configuration describes an article made to order. Data that is personal, such as a prescription, belongs into
// the personal section; its hash may stand here.
type Configuration struct {
	Schema string `json:"schema,omitempty"` // names the form of the data
	Data   string `json:"data,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // hexadecimal, of data kept elsewhere
}

// A Date is a calendar day where people are, not a moment.
type Date struct {
	Day  string `json:"day,omitempty"`  // 2006-01-02
	Zone string `json:"zone,omitempty"` // IANA name; empty: the ship-to's
}

// A Price is what one line costs for each BaseQuantity of its units. It may be finer than the currency's minor unit.
type Price struct {
	Amount       Decimal  `json:"amount"`
	BaseQuantity *Decimal `json:"base_quantity,omitempty"` // 1 where none is given
	List         *Decimal `json:"list,omitempty"`          // before discounts, for the record
}

// An Adjustment lowers (allowance) or raises (charge) what a line or an order costs.
type Adjustment struct {
	Kind   string  `json:"kind"` // allowance or charge
	Code   string  `json:"code,omitempty"`
	Reason string  `json:"reason,omitempty"`
	Amount Decimal `json:"amount"`
}

// The kinds of adjustments.
const (
	Allowance = "allowance"
	Charge    = "charge"
)

// A Tax is a tax as the buyer or the seller's shop computed it. The ledger adds it up and does not judge it.
type Tax struct {
	Category string   `json:"category,omitempty"`
	Rate     *Decimal `json:"rate,omitempty"` // percent
	Amount   Decimal  `json:"amount"`
}

// Totals are the sums of an order in its currency, exact: Total = Lines + Charges − Allowances + Taxes.
type Totals struct {
	Lines      Decimal `json:"lines"`
	Allowances Decimal `json:"allowances,omitzero"`
	Charges    Decimal `json:"charges,omitzero"`
	Taxes      Decimal `json:"taxes,omitzero"`
	Total      Decimal `json:"total"`
}

// A Document is a file that belongs to an order and is kept elsewhere.
type Document struct {
	Name      string `json:"name"`
	SHA256    string `json:"sha256"` // hexadecimal
	Size      int64  `json:"size"`   // bytes
	MediaType string `json:"media_type,omitempty"`
}

// An Extension is a fact about an order that has no field of its own.
type Extension struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A Reason says why something was done: a code that programs read, and a text for people, which holds no personal data.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text,omitempty"`
}

// A LineQuantity is some of a line.
type LineQuantity struct {
	Line     string  `json:"line"`
	Quantity Decimal `json:"quantity"`
}

// A Decision is what the rules said, and why: enough to explain it years later.
type Decision struct {
	RuleSet string `json:"rule_set,omitempty"` // SHA-256 of the rule set's text, hexadecimal; empty: no rules were asked
	Row     string `json:"row,omitempty"`      // the row that decided
	Facts   []Fact `json:"facts,omitempty"`    // what that row looked at
}

// A Fact is one thing a rule looked at.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// An Actor is who asked.
type Actor struct {
	Kind       string `json:"kind"`                   // person, system or site
	Issuer     string `json:"issuer,omitempty"`       // who vouches for the subject
	Subject    string `json:"subject"`                // the authenticated name
	OnBehalfOf string `json:"on_behalf_of,omitempty"` // for whom the subject acted
}
