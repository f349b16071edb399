package projections

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/orderledger/orderledger/domain"
)

// A Summary is what a sentence about an event is made of. It holds no personal data.
type Summary struct {
	Code           string          `json:"code"` // what happened in one word: submitted, shipped, promise_changed, …
	Fulfilment     string          `json:"fulfilment,omitempty"`
	Sites          []string        `json:"sites,omitempty"`
	Lines          int             `json:"lines,omitempty"` // how many lines it concerns
	Total          *domain.Decimal `json:"total,omitempty"` // of the order, where the event set it
	Currency       string          `json:"currency,omitempty"`
	Hold           string          `json:"hold,omitempty"`
	Role           string          `json:"role,omitempty"` // that may release the hold
	Outcome        domain.Outcome  `json:"outcome,omitempty"`
	Reference      string          `json:"reference,omitempty"`
	Shipment       string          `json:"shipment,omitempty"`
	Carrier        string          `json:"carrier,omitempty"`
	Tracking       string          `json:"tracking,omitempty"`
	PromisedBefore string          `json:"promised_before,omitempty"` // day; where the event changed what is promised
	Promised       string          `json:"promised,omitempty"`        // day
	Ledger         string          `json:"ledger,omitempty"`          // that has the order now, or whose history has what is in conflict
	From           string          `json:"from,omitempty"`            // the ledger that had the order before it moved
	Conflict       string          `json:"conflict,omitempty"`
	Action         string          `json:"action,omitempty"` // that is in conflict
}

// The codes of summaries, which are also the kinds of notifications. They never change.
const (
	CodeSubmitted       = "submitted"
	CodeAccepted        = "accepted"
	CodeRejected        = "rejected"
	CodeHeld            = "held"
	CodeReleased        = "released"
	CodeAmended         = "amended"
	CodeRouted          = "routed"
	CodeUnrouted        = "unrouted"
	CodeConfirmed       = "confirmed"
	CodeStarted         = "started"
	CodeShipped         = "shipped"
	CodeDelivered       = "delivered"
	CodeFailed          = "failed"
	CodeCancelled       = "cancelled"
	CodeReturned        = "returned"
	CodeClosed          = "closed"
	CodeWithdrawn       = "withdrawn"
	CodeHomeMoved       = "home_moved"
	CodeConflictFound   = "conflict_found"
	CodeConflictSettled = "conflict_settled"
	CodePromiseChanged  = "promise_changed" // of notifications only
)

// What stands beside the code, reason and decision of an event.
type told struct {
	Summary
	reason   domain.Reason
	decision domain.Decision
}

// tell sums up an event that led from one state of an order to the next. It reports false for an event that no order has.
func tell(e domain.Event, before, after *domain.Order) (t told, ok bool) {
	switch e := e.(type) {
	case *domain.Submitted:
		t.Code, t.Lines, t.Total, t.Currency = CodeSubmitted, len(e.Lines), &e.Totals.Total, e.Currency
	case *domain.Accepted:
		t.Code, t.decision = CodeAccepted, e.Decision
	case *domain.Rejected:
		t.Code, t.reason, t.decision = CodeRejected, e.Reason, e.Decision
	case *domain.Held:
		t.Code, t.Hold, t.Role, t.reason, t.decision = CodeHeld, e.Hold.ID, e.Hold.Role, e.Hold.Reason, e.Hold.Decision
	case *domain.Released:
		t.Code, t.Hold, t.reason = CodeReleased, e.Hold, e.Reason
	case *domain.Amended:
		t.Code, t.Lines, t.Total, t.Currency, t.reason = CodeAmended, len(e.Lines)+len(e.Added), &e.Totals.Total, after.Currency, e.Reason
	case *domain.Routed:
		t.Code, t.reason, t.decision = CodeRouted, e.Reason, e.Decision
		for _, a := range e.Fulfilments {
			if !slices.Contains(t.Sites, a.Site) {
				t.Sites = append(t.Sites, a.Site)
			}
		}
		if len(e.Fulfilments) == 1 {
			t.Fulfilment = e.Fulfilments[0].ID
		}
	case *domain.Unrouted:
		t.Code, t.Fulfilment, t.reason = CodeUnrouted, e.Fulfilment, e.Reason
	case *domain.Confirmed:
		t.Code, t.Fulfilment, t.reason = CodeConfirmed, e.Fulfilment, e.Confirmation.Reason
		t.Outcome, t.Reference = e.Confirmation.Outcome, e.Confirmation.Reference
	case *domain.FulfilmentStarted:
		t.Code, t.Fulfilment = CodeStarted, e.Fulfilment
	case *domain.Shipped:
		t.Code, t.Fulfilment, t.Lines = CodeShipped, e.Fulfilment, len(e.Shipment.Lines)
		t.Shipment, t.Carrier, t.Tracking = e.Shipment.ID, e.Shipment.Carrier, e.Shipment.Tracking
	case *domain.Delivered:
		t.Code, t.Fulfilment, t.Lines, t.Shipment = CodeDelivered, e.Fulfilment, len(e.Lines), e.Shipment
	case *domain.FulfilmentFailed:
		t.Code, t.Fulfilment, t.reason = CodeFailed, e.Fulfilment, e.Reason
	case *domain.Cancelled:
		t.Code, t.Lines, t.Total, t.Currency, t.reason = CodeCancelled, len(e.Lines), &e.Totals.Total, after.Currency, e.Reason
	case *domain.Returned:
		t.Code, t.Lines, t.Reference, t.reason = CodeReturned, len(e.Lines), e.Reference, e.Reason
	case *domain.Closed:
		t.Code, t.reason = CodeClosed, e.Reason
	case *domain.Withdrawn:
		t.Code, t.Ledger, t.reason = CodeWithdrawn, e.Winner, e.Reason
	case *domain.HomeMoved:
		t.Code, t.Ledger, t.From = CodeHomeMoved, e.Home, e.Source
	case *domain.ConflictFound:
		t.Summary, t.reason.Code = ConflictSummary(e.Conflict), e.Conflict.Code
	case *domain.ConflictSettled:
		if c := after.Conflict(e.Conflict); c != nil {
			t.Summary = ConflictSummary(c.Conflict)
		}
		t.Code, t.Conflict, t.reason = CodeConflictSettled, e.Conflict, e.Reason
	default:
		return t, false
	}
	if t.Fulfilment != "" && len(t.Sites) == 0 {
		if f := after.Fulfilment(t.Fulfilment); f != nil {
			t.Sites = []string{f.Site}
		}
	}
	if was, is := promised(before), promised(after); was != is {
		t.PromisedBefore, t.Promised = was, is
	}
	return t, true
}

// ConflictSummary sums up what is in conflict.
func ConflictSummary(c domain.Conflict) Summary {
	s := Summary{Code: CodeConflictFound, Conflict: c.ID, Ledger: c.Ledger, Action: c.Action}
	if c.Site != "" {
		s.Sites = []string{c.Site}
	}
	return s
}

// promised is the day on which all that is still wanted of an order is promised, or empty while some of it is not.
func promised(o *domain.Order) string {
	var last string
	for i := range o.Lines {
		l := &o.Lines[i]
		if l.Active().Sign() <= 0 {
			continue
		}
		if l.Promised == "" {
			return ""
		}
		last = max(last, l.Promised)
	}
	return last
}

func (s *Summary) encode() (string, error) {
	b, err := json.Marshal(s)
	return string(b), err
}

// Scan reads a summary from its column.
func (s *Summary) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return json.Unmarshal([]byte(v), s)
	case []byte:
		return json.Unmarshal(v, s)
	}
	return fmt.Errorf("a summary is stored as text, not %T", v)
}

// String is the summary as a sentence for people.
func (s Summary) String() string {
	return s.sentence() + s.promise() + "."
}

func (s Summary) sentence() string {
	switch s.Code {
	case CodeSubmitted:
		return "Order submitted with " + count(s.Lines, "line") + s.money()
	case CodeAccepted:
		return "Order accepted"
	case CodeRejected:
		return "Order rejected"
	case CodeHeld:
		if s.Role != "" {
			return "Put on hold until released by " + s.Role
		}
		return "Put on hold"
	case CodeReleased:
		return "Released from hold"
	case CodeAmended:
		return "Order amended" + s.money()
	case CodeRouted:
		return "Routed to " + s.sites()
	case CodeUnrouted:
		return "Taken from " + s.sites()
	case CodeConfirmed:
		return s.confirmation()
	case CodeStarted:
		return "Work begun at " + s.sites()
	case CodeShipped:
		text := "Shipped from " + s.sites()
		if s.Carrier != "" {
			text += " with " + s.Carrier
		}
		if s.Tracking != "" {
			text += ", tracking " + s.Tracking
		}
		return text
	case CodeDelivered:
		return "Delivered from " + s.sites()
	case CodeFailed:
		return s.sites() + " cannot fulfil its part"
	case CodeCancelled:
		return "Cancelled " + count(s.Lines, "line")
	case CodeReturned:
		return "Returned " + count(s.Lines, "line")
	case CodeClosed:
		return "Order closed"
	case CodeWithdrawn:
		return "Withdrawn: another region keeps the order"
	case CodeHomeMoved:
		return "Moved to another region"
	case CodeConflictFound:
		return s.conflict()
	case CodeConflictSettled:
		return "Settled: " + s.conflict()
	case CodePromiseChanged:
		return "The promise has changed"
	}
	return s.Code
}

func (s Summary) confirmation() string {
	switch s.Outcome {
	case domain.AcceptsWithChanges:
		return s.sites() + " confirmed with changes"
	case domain.Refuses:
		return s.sites() + " refused"
	}
	return s.sites() + " confirmed"
}

// conflict says what another region has done with the order. Only people can deal with it.
func (s Summary) conflict() string {
	switch {
	case len(s.Sites) > 0:
		return s.sites() + " was given the order by another region, and is not needed here"
	case s.Action != "":
		first, size := utf8.DecodeRuneInString(s.Action)
		return "“" + string(unicode.ToUpper(first)) + strings.ReplaceAll(s.Action[size:], "_", " ") + "” was done in another region and does not count here"
	}
	return "Work of another region does not count here"
}

func (s Summary) promise() string {
	switch {
	case s.PromisedBefore == s.Promised:
		return ""
	case s.Promised == "":
		return "; what was promised for " + s.PromisedBefore + " no longer holds"
	case s.PromisedBefore == "":
		return "; promised for " + s.Promised
	}
	return "; promised for " + s.Promised + " instead of " + s.PromisedBefore
}

func (s Summary) sites() string {
	switch n := len(s.Sites); n {
	case 0:
		return "a site"
	case 1:
		return s.Sites[0]
	default:
		return strings.Join(s.Sites[:n-1], ", ") + " and " + s.Sites[n-1]
	}
}

func (s Summary) money() string {
	if s.Total == nil {
		return ""
	}
	return ", total " + domain.Money(*s.Total, s.Currency)
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
