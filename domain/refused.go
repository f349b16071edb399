package domain

import "fmt"

// A Refused is a well-formed command that the order's state does not allow. It stored nothing; the same command is
// decided anew when it comes again.
type Refused struct {
	Code   Code
	Detail string // a sentence for people
}

func (r *Refused) Error() string { return r.Detail }

// A Code names a refusal for programs. Codes never change.
type Code string

// The codes of refusals.
const (
	CodeOrderExists        Code = "order_exists"
	CodeUnknownOrder       Code = "unknown_order"
	CodeStaleRevision      Code = "stale_revision"
	CodeRejected           Code = "order_rejected"
	CodeCancelled          Code = "order_cancelled"
	CodeClosed             Code = "order_closed"
	CodeWithdrawn          Code = "order_withdrawn"
	CodeOnHold             Code = "order_on_hold"
	CodeNotAccepted        Code = "order_not_accepted"
	CodeShipped            Code = "order_shipped"
	CodeNotShipped         Code = "not_shipped"
	CodeUnknownLine        Code = "unknown_line"
	CodeUnknownFulfilment  Code = "unknown_fulfilment"
	CodeUnknownShipment    Code = "unknown_shipment"
	CodeUnknownHold        Code = "unknown_hold"
	CodeAmbiguousHold      Code = "ambiguous_hold"
	CodeFulfilmentEnded    Code = "fulfilment_ended"
	CodeAlreadyStarted     Code = "already_started"
	CodeShipmentExists     Code = "shipment_exists"
	CodeOverShipment       Code = "over_shipment"
	CodeOverDelivery       Code = "over_delivery"
	CodeAlreadyDelivered   Code = "already_delivered"
	CodeIncomplete         Code = "incomplete_delivery"
	CodeOverReturn         Code = "over_return"
	CodeOverCancel         Code = "over_cancel"
	CodeOverConfirmation   Code = "over_confirmation"
	CodeBelowShipped       Code = "below_shipped"
	CodeNothingToRoute     Code = "nothing_to_route"
	CodeNothingChanged     Code = "nothing_changed"
	CodeNoSiteLeft         Code = "no_site_left"
	CodeAmendmentRejected  Code = "amendment_rejected"
	CodeTooManyLines       Code = "too_many_lines"
	CodeTooManyFulfilments Code = "too_many_fulfilments"
	CodeTooManyHolds       Code = "too_many_holds"
	CodeStaleEpoch         Code = "stale_epoch"
	CodeConflictExists     Code = "conflict_exists"
	CodeUnknownConflict    Code = "unknown_conflict"
	CodeConflictSettled    Code = "conflict_settled"
)

func refuse(code Code, format string, args ...any) error {
	return &Refused{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// A Malformed is a command that makes no sense whatever the order's state: a quantity below zero, a currency that
// does not exist. It stored nothing, and never will.
type Malformed struct {
	Field  string // as in the API, such as lines[3].quantity
	Code   string // names the fault for programs
	Detail string // a sentence for people
}

func (m *Malformed) Error() string {
	if m.Field == "" {
		return m.Detail
	}
	return m.Field + ": " + m.Detail
}

func malformed(field, code, format string, args ...any) error {
	return &Malformed{Field: field, Code: code, Detail: fmt.Sprintf(format, args...)}
}
