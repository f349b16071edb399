package domain

import (
	"encoding/hex"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of what a command may hold. They are far above what orders need.
const (
	MaxLines       = 5_000  // of an order
	MaxList        = 1_000  // of any other list in a command
	MaxFulfilments = 1_000  // of an order, ended ones included
	MaxHolds       = 100    // open at once
	MaxText        = 2_000  // bytes of a text for people
	MaxName        = 200    // bytes of a name, code or number
	MaxData        = 64_000 // bytes of a configuration
)

// The largest quantity and price: ten digits before the point, six after it.
var (
	maxNumber = Whole(10_000_000_000)
	maxScale  = 6
)

// Check returns a [*Malformed] for a command that makes no sense whatever the order's state. A command that passes
// can be decided and encoded.
func (c Command) Check() error {
	if c.Do == nil {
		return malformed("", "missing", "the command asks for nothing")
	}
	return firstFault(c.check)
}

func (c *Command) check(k *checker) {
	k.name("business_unit", c.BusinessUnit, true)
	k.name("actor.subject", c.Actor.Subject, true)
	k.name("actor.kind", c.Actor.Kind, true)
	k.name("actor.issuer", c.Actor.Issuer, false)
	k.name("actor.on_behalf_of", c.Actor.OnBehalfOf, false)
	k.name("cause.correlation", c.Cause.Correlation, false)
	k.name("cause.causation", c.Cause.Causation, false)
	k.name("cause.traceparent", c.Cause.Traceparent, false)
	k.moment("occurred", c.Occurred)
	if a, ok := c.Do.(interface{ check(*checker) }); ok {
		a.check(k)
	}
}

// Check returns a [*Malformed] for a personal section that no order takes. Its message repeats nothing of it.
func (p Personal) Check() error { return firstFault(p.check) }

func (p *Personal) check(k *checker) {
	for _, part := range []struct {
		field  string
		person *Person
	}{
		{"personal.buyer", &p.Buyer}, {"personal.ship_to", &p.ShipTo}, {"personal.bill_to", &p.BillTo},
		{"personal.payer", &p.Payer}, {"personal.end_customer", &p.EndCustomer},
	} {
		field := k.path(part.field)
		k.text(field+".name", part.person.Name)
		k.text(field+".contact", part.person.Contact)
		k.count(field+".street", len(part.person.Street), 10)
		for i, s := range part.person.Street {
			k.text(k.at(field+".street", i), s)
		}
		k.text(field+".postal_code", part.person.PostalCode)
		k.text(field+".city", part.person.City)
		k.text(field+".email", part.person.Email)
		k.text(field+".phone", part.person.Phone)
	}
	k.text("personal.instructions", p.Instructions)
	k.count("personal.lines", len(p.Lines), MaxLines)
	for i, l := range p.Lines {
		k.name(k.at("personal.lines", i)+".line", l.Line, true)
		k.data(k.at("personal.lines", i)+".configuration", l.Configuration)
		k.text(k.at("personal.lines", i)+".text", l.Text)
	}
}

func (a Submit) check(k *checker) {
	k.details(&a.Details)
	if len(a.Lines) == 0 {
		k.fail("lines", "missing", "an order has at least one line")
	}
	k.lines("lines", a.Lines)
	if k.err != nil {
		return
	}
	if _, err := totalsAsked(&a.Details, a.Lines); err != nil {
		k.err = inexact()
	}
}

func (a Amend) check(k *checker) {
	k.count("lines", len(a.Lines), MaxLines)
	seen := make(map[string]bool, len(a.Lines))
	for i, change := range a.Lines {
		field := k.at("lines", i)
		k.name(field+".line", change.Line, true)
		if seen[change.Line] {
			k.fail(field+".line", "repeated", "the line is named twice")
		}
		seen[change.Line] = true
		if change.Quantity == nil && change.Requested == nil && change.Price == nil {
			k.fail(field, "missing", "the line says nothing to change")
		}
		if change.Quantity != nil {
			k.positive(field+".quantity", *change.Quantity, true)
		}
		if change.Requested != nil {
			k.date(field+".requested", *change.Requested)
		}
		if change.Price != nil {
			k.price(field+".price", *change.Price)
		}
	}
	k.lines("add", a.Add)
	if a.ShipTo != nil {
		k.party("ship_to", *a.ShipTo)
	}
	if a.BillTo != nil {
		k.party("bill_to", *a.BillTo)
	}
	if a.Terms != nil {
		k.terms(*a.Terms)
	}
	k.reason(a.Reason, false)
}

func (a PlaceHold) check(k *checker) {
	k.reason(a.Reason, true)
	k.name("role", a.Role, false)
	k.date("until", a.Until)
}

func (a Release) check(k *checker) {
	k.name("hold", a.Hold, false)
	k.reason(a.Reason, false)
}

func (a Cancel) check(k *checker) {
	k.quantities(a.Lines)
	k.reason(a.Reason, true)
}

func (a Route) check(k *checker) {
	k.name("site", a.Site, false)
	k.reason(a.Reason, false)
}

func (a Reroute) check(k *checker) {
	k.name("fulfilment", a.Fulfilment, true)
	k.name("site", a.Site, false)
	k.reason(a.Reason, true)
}

func (a Confirm) check(k *checker) {
	k.name("fulfilment", a.Fulfilment, true)
	switch a.Outcome {
	case Accepts, AcceptsWithChanges, Refuses:
	default:
		k.fail("outcome", "unknown_value", "the outcome is accepted, accepted_with_changes or refused, not %.40q", a.Outcome)
	}
	k.name("reference", a.Reference, false)
	k.reason(a.Reason, a.Outcome == Refuses)
	if a.Outcome != AcceptsWithChanges && a.Outcome != Accepts && len(a.Lines) > 0 {
		k.fail("lines", "unexpected", "a refusal promises nothing")
	}
	k.count("lines", len(a.Lines), MaxLines)
	seen := make(map[string]bool, len(a.Lines))
	for i, l := range a.Lines {
		field := k.at("lines", i)
		k.name(field+".line", l.Line, true)
		if seen[l.Line] {
			k.fail(field+".line", "repeated", "the line is named twice")
		}
		seen[l.Line] = true
		k.name(field+".substitute", l.Substitute, false)
		k.positive(field+".backordered", l.Backordered, true)
		k.positive(field+".cancelled", l.Cancelled, true)
		k.reasonAt(field+".reason", l.Reason, false)
		k.count(field+".promises", len(l.Promises), 100)
		for j, p := range l.Promises {
			field := k.at(field+".promises", j)
			k.positive(field+".quantity", p.Quantity, false)
			if p.Kind != "ship" && p.Kind != "deliver" {
				k.fail(field+".kind", "unknown_value", "a promise is to ship or to deliver, not to %.40q", p.Kind)
			}
			if p.Date.Day == "" {
				k.fail(field+".date.day", "missing", "a promise has a day")
			}
			k.date(field+".date", p.Date)
		}
	}
}

func (a StartFulfilment) check(k *checker) { k.name("fulfilment", a.Fulfilment, true) }

func (a Ship) check(k *checker) {
	k.name("fulfilment", a.Fulfilment, true)
	k.name("id", a.ID, false)
	k.name("carrier", a.Carrier, false)
	k.name("tracking", a.Tracking, false)
	k.quantities(a.Lines)
	k.documents("documents", a.Documents)
}

func (a Deliver) check(k *checker) {
	k.name("fulfilment", a.Fulfilment, true)
	k.name("shipment", a.Shipment, false)
	k.quantities(a.Lines)
	k.documents("proof", a.Proof)
}

func (a ReportFailure) check(k *checker) {
	k.name("fulfilment", a.Fulfilment, true)
	k.reason(a.Reason, true)
}

func (a Return) check(k *checker) {
	if len(a.Lines) == 0 {
		k.fail("lines", "missing", "a return names what came back")
	}
	k.quantities(a.Lines)
	k.name("reference", a.Reference, false)
	k.reason(a.Reason, true)
}

func (a Close) check(k *checker) { k.reason(a.Reason, false) }

func (a Withdraw) check(k *checker) {
	k.name("winner", a.Winner, true)
	k.reason(a.Reason, false)
}

func (a Move) check(k *checker) {
	k.name("home", a.Home, true)
	k.name("source", a.Source, true)
	k.revision("last", a.Last)
}

func (a RecordConflict) check(k *checker) {
	if a.ID != "" {
		k.fail("id", "unexpected", "the ledger numbers conflicts")
	}
	k.name("ledger", a.Ledger, true)
	k.name("command", a.Command, a.Site == "")
	k.name("action", a.Action, false)
	k.name("code", a.Code, false)
	k.name("site", a.Site, false)
	k.name("fulfilment", a.Fulfilment, false)
	k.revision("revision", a.Revision)
}

func (a Settle) check(k *checker) {
	k.name("conflict", a.Conflict, true)
	k.reason(a.Reason, true)
}

// Check returns a [*Malformed] for a line that no order takes.
func (l Line) Check() error {
	return firstFault(func(k *checker) { k.line("", &l) })
}

// A checker remembers the first fault.
type checker struct {
	naming bool // tell which field is at fault, and why
	err    error
}

// firstFault returns what a check finds. To put together the names of all fields takes longer than to look at them, so
// that is done only once something is known to be wrong.
func firstFault(check func(*checker)) error {
	k := &checker{}
	if check(k); k.err == nil {
		return nil
	}
	k = &checker{naming: true}
	check(k)
	return k.err
}

var errUnnamed = errors.New("something is wrong")

// path returns the name of a field that has parts, for the names of these; empty where nothing is named.
func (k *checker) path(field string) string {
	if !k.naming {
		return ""
	}
	return field
}

// at names an element of a list; empty where nothing is named.
func (k *checker) at(field string, i int) string {
	if !k.naming {
		return ""
	}
	return field + "[" + strconv.Itoa(i) + "]"
}

func (k *checker) fail(field, code, format string, args ...any) {
	switch {
	case k.err != nil:
	case !k.naming:
		k.err = errUnnamed
	default:
		k.err = malformed(field, code, format, args...)
	}
}

const (
	capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits   = "0123456789"
)

// consists reports whether s has so many bytes, each of which is one of a set.
func consists(s string, least, most int, of string) bool {
	return least <= len(s) && len(s) <= most && strings.Trim(s, of) == ""
}

// printable reports whether s is ASCII without control characters.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// name checks a name, code or number: short, on one line, without control characters.
func (k *checker) name(field, s string, required bool) {
	switch {
	case s == "" && required:
		k.fail(field, "missing", "a value is required")
	case len(s) > MaxName:
		k.fail(field, "too_long", "at most %d bytes, not %d", MaxName, len(s))
	case printable(s): // most are
	case !utf8.ValidString(s):
		k.fail(field, "invalid_utf8", "the text is not UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		k.fail(field, "control_character", "control characters are not allowed here")
	}
}

// text checks a text for people, which may have several lines.
func (k *checker) text(field, s string) {
	switch {
	case len(s) > MaxText:
		k.fail(field, "too_long", "at most %d bytes, not %d", MaxText, len(s))
	case printable(s): // most are
	case !utf8.ValidString(s):
		k.fail(field, "invalid_utf8", "the text is not UTF-8")
	case strings.Contains(s, "\x00"):
		k.fail(field, "control_character", "a text holds no NUL")
	}
}

func (k *checker) data(field, s string) {
	switch {
	case len(s) > MaxData:
		k.fail(field, "too_long", "at most %d bytes, not %d", MaxData, len(s))
	case !utf8.ValidString(s):
		k.fail(field, "invalid_utf8", "the data is not UTF-8")
	case strings.Contains(s, "\x00"):
		k.fail(field, "control_character", "data holds no NUL")
	}
}

func (k *checker) count(field string, n, limit int) {
	if n > limit {
		k.fail(field, "too_many", "at most %d entries, not %d", limit, n)
	}
}

// number checks the size of a number.
func (k *checker) number(field string, d Decimal) {
	if !d.Less(maxNumber) || d.Cmp(Whole(-10_000_000_000)) <= 0 || d.Scale() > maxScale {
		k.fail(field, "out_of_range", "numbers are smaller than %v and have at most %d digits after the point", maxNumber, maxScale)
	}
}

// positive checks a quantity or amount that is not below zero.
func (k *checker) positive(field string, d Decimal, zero bool) {
	k.number(field, d)
	if d.Sign() < 0 {
		k.fail(field, "negative", "%v is below zero", d)
	} else if d.IsZero() && !zero {
		k.fail(field, "zero", "zero is not a quantity")
	}
}

// revision checks that a revision can be stored.
func (k *checker) revision(field string, r uint64) {
	if r > math.MaxInt64 {
		k.fail(field, "out_of_range", "no history is as long as %d", r)
	}
}

func (k *checker) moment(field string, t time.Time) {
	if !t.IsZero() && (t.Year() < 1900 || t.Year() > 2200) {
		k.fail(field, "out_of_range", "the year %d is not between 1900 and 2200", t.Year())
	}
}

var zone = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+){0,2}$`)

func (k *checker) date(field string, d Date) {
	field = k.path(field)
	if d.Day != "" {
		t, err := time.Parse(time.DateOnly, d.Day)
		if err != nil {
			k.fail(field+".day", "invalid_date", "a day is written as 2006-01-02, not %.40q", d.Day)
		}
		k.moment(field+".day", t)
	}
	if d.Zone != "" && (len(d.Zone) > MaxName || !zone.MatchString(d.Zone)) {
		k.fail(field+".zone", "invalid_zone", "a time zone has an IANA name such as Europe/Berlin, not %.40q", d.Zone)
	}
}

func (k *checker) reason(r Reason, required bool) { k.reasonAt("reason", r, required) }

func (k *checker) reasonAt(field string, r Reason, required bool) {
	field = k.path(field)
	k.name(field+".code", r.Code, required || r.Text != "")
	k.text(field+".text", r.Text)
}

func (k *checker) quantities(lines []LineQuantity) {
	k.count("lines", len(lines), MaxLines)
	seen := make(map[string]bool, len(lines))
	for i, q := range lines {
		k.name(k.at("lines", i)+".line", q.Line, true)
		if seen[q.Line] {
			k.fail(k.at("lines", i)+".line", "repeated", "the line is named twice")
		}
		seen[q.Line] = true
		k.positive(k.at("lines", i)+".quantity", q.Quantity, false)
	}
}

func (k *checker) details(d *Details) {
	switch d.Kind {
	case "", Standard, Sample, Replacement, ReturnKind:
	default:
		k.fail("kind", "unknown_value", "an order is standard, sample, replacement or return, not %.40q", d.Kind)
	}
	k.name("channel", d.Channel, false)
	k.name("purchase_order", d.PurchaseOrder, false)
	k.count("references", len(d.References), MaxList)
	for i, r := range d.References {
		k.name(k.at("references", i)+".kind", r.Kind, true)
		k.name(k.at("references", i)+".value", r.Value, true)
	}
	if _, ok := MinorUnits(d.Currency); !ok {
		k.fail("currency", "unknown_currency", "%.40q is not a currency of ISO 4217", d.Currency)
	}
	k.party("parties.buyer", d.Parties.Buyer)
	k.party("parties.ship_to", d.Parties.ShipTo)
	k.party("parties.bill_to", d.Parties.BillTo)
	k.party("parties.payer", d.Parties.Payer)
	k.party("parties.end_customer", d.Parties.EndCustomer)
	if len(d.Parties.Buyer.Identifiers) == 0 {
		k.fail("parties.buyer.identifiers", "missing", "an order names its buyer; who is not known is {customer, %s}", UnknownParty)
	}
	k.terms(d.Terms)
	k.moment("deadlines.confirm_by", d.Deadlines.ConfirmBy)
	k.moment("deadlines.ship_by", d.Deadlines.ShipBy)
	k.adjustments("adjustments", d.Adjustments)
	k.taxes("taxes", d.Taxes)
	if d.TotalGiven != nil {
		k.number("total_given", *d.TotalGiven)
	}
	k.documents("documents", d.Documents)
	k.count("extensions", len(d.Extensions), 100)
	for i, e := range d.Extensions {
		k.name(k.at("extensions", i)+".name", e.Name, true)
		k.text(k.at("extensions", i)+".value", e.Value)
	}
}

func (k *checker) party(field string, p Party) {
	field = k.path(field)
	k.count(field+".identifiers", len(p.Identifiers), 20)
	for i, id := range p.Identifiers {
		k.name(k.at(field+".identifiers", i)+".scheme", id.Scheme, true)
		k.name(k.at(field+".identifiers", i)+".value", id.Value, true)
	}
	if p.Country != "" && !ValidCountry(p.Country) {
		k.fail(field+".country", "unknown_country", "%.40q is not a country of ISO 3166-1 alpha-2", p.Country)
	}
	if p.Region != "" && !consists(p.Region, 1, 3, capitals+digits) {
		k.fail(field+".region", "unknown_region", "a region is the part of its ISO 3166-2 code after the country, not %.40q", p.Region)
	}
}

func (k *checker) terms(t Terms) {
	if t.Incoterms.Rule != "" && !consists(t.Incoterms.Rule, 3, 3, capitals) {
		k.fail("terms.incoterms.rule", "unknown_value", "an Incoterms rule has three letters such as DAP, not %.40q", t.Incoterms.Rule)
	}
	if v := t.Incoterms.Version; v != "" && (!consists(v, 4, 4, digits) || v[:2] != "19" && v[:2] != "20") {
		k.fail("terms.incoterms.version", "unknown_value", "an Incoterms version is a year such as 2020, not %.40q", v)
	}
	k.name("terms.incoterms.place", t.Incoterms.Place, false)
	k.name("terms.payment", t.Payment, false)
	if t.Priority < 0 || t.Priority > 9 {
		k.fail("terms.priority", "out_of_range", "a priority is 0 to 9, not %d", t.Priority)
	}
}

func (k *checker) lines(field string, lines []Line) {
	k.count(field, len(lines), MaxLines)
	for i := range lines {
		if k.err != nil {
			return
		}
		k.line(k.at(field, i)+".", &lines[i])
	}
}

// line checks a line, the names of whose fields begin with prefix.
func (k *checker) line(prefix string, l *Line) {
	prefix = k.path(prefix)
	if l.ID != "" {
		k.fail(prefix+"id", "unexpected", "the ledger numbers the lines; the buyer's own number goes into buyer_line")
	}
	k.name(prefix+"buyer_line", l.BuyerLine, false)
	k.name(prefix+"sku", l.SKU, false)
	k.name(prefix+"buyer_sku", l.BuyerSKU, false)
	k.gtin(prefix+"gtin", l.GTIN)
	if l.SKU == "" && l.BuyerSKU == "" && l.GTIN == "" {
		k.fail(prefix+"sku", "missing", "a line names its article by sku, buyer_sku or gtin")
	}
	k.text(prefix+"description", l.Description)
	k.name(prefix+"configuration.schema", l.Configuration.Schema, false)
	k.data(prefix+"configuration.data", l.Configuration.Data)
	k.sha256(prefix+"configuration.sha256", l.Configuration.SHA256, false)
	k.positive(prefix+"quantity", l.Quantity, false)
	k.unit(prefix+"unit", l.Unit)
	k.date(prefix+"requested", l.Requested)
	k.price(prefix+"price", l.Price)
	k.adjustments(prefix+"adjustments", l.Adjustments)
	k.taxes(prefix+"taxes", l.Taxes)
}

func (k *checker) unit(field, u string) {
	if u != "" && !consists(u, 2, 3, capitals+digits) {
		k.fail(field, "unknown_unit", "a unit is a code of UN/ECE Recommendation 20 such as C62 or KGM, not %.40q", u)
	}
}

// gtin checks a GTIN's length and its check digit (GS1 General Specifications).
func (k *checker) gtin(field, s string) {
	if s == "" {
		return
	}
	sum := 0
	for i := range len(s) {
		n := int(s[len(s)-1-i]) - '0'
		if n < 0 || n > 9 {
			sum = 1
			break
		}
		if i%2 == 1 {
			n *= 3
		}
		sum += n
	}
	if l := len(s); l != 8 && l != 12 && l != 13 && l != 14 || sum%10 != 0 {
		k.fail(field, "invalid_gtin", "%.40q is not a GTIN: 8, 12, 13 or 14 digits, the last of which checks the others", s)
	}
}

func (k *checker) sha256(field, s string, required bool) {
	if s == "" && !required {
		return
	}
	if b, err := hex.DecodeString(s); err != nil || len(b) != 32 || s != strings.ToLower(s) {
		k.fail(field, "invalid_hash", "a SHA-256 has 64 small hexadecimal digits")
	}
}

func (k *checker) price(field string, p Price) {
	field = k.path(field)
	k.positive(field+".amount", p.Amount, true)
	if p.BaseQuantity != nil {
		k.positive(field+".base_quantity", *p.BaseQuantity, false)
	}
	if p.List != nil {
		k.positive(field+".list", *p.List, true)
	}
}

func (k *checker) adjustments(field string, list []Adjustment) {
	k.count(field, len(list), MaxList)
	for i, a := range list {
		if a.Kind != Allowance && a.Kind != Charge {
			k.fail(k.at(field, i)+".kind", "unknown_value", "an adjustment is an allowance or a charge, not %.40q", a.Kind)
		}
		k.name(k.at(field, i)+".code", a.Code, false)
		k.text(k.at(field, i)+".reason", a.Reason)
		k.positive(k.at(field, i)+".amount", a.Amount, true)
	}
}

func (k *checker) taxes(field string, list []Tax) {
	k.count(field, len(list), MaxList)
	for i, t := range list {
		k.name(k.at(field, i)+".category", t.Category, false)
		if t.Rate != nil {
			k.positive(k.at(field, i)+".rate", *t.Rate, true)
		}
		k.number(k.at(field, i)+".amount", t.Amount)
	}
}

func (k *checker) documents(field string, list []Document) {
	k.count(field, len(list), 100)
	for i, d := range list {
		k.name(k.at(field, i)+".name", d.Name, true)
		k.sha256(k.at(field, i)+".sha256", d.SHA256, true)
		k.name(k.at(field, i)+".media_type", d.MediaType, false)
		if d.Size < 0 || d.Size > 1<<40 {
			k.fail(k.at(field, i)+".size", "out_of_range", "a document has 0 to 2^40 bytes, not %d", d.Size)
		}
	}
}
