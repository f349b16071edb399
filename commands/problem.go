package commands

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/keyring"
	"github.com/orderledger/orderledger/internal/web"
)

// Codes of the write side's problems that are neither [domain.Refused] nor [domain.Malformed].
const (
	codeKeyReused      = "idempotency_key_reused"
	codeBusy           = "order_busy"
	codeOutcomeUnknown = "outcome_unknown"
	codeAppendTooLarge = "append_too_large"
	codeReadOnly       = "ledger_unavailable"
	codeNoKeys         = "keys_unavailable"
	codeInvalidRules   = "invalid_rules"
	codeRulesUnread    = "rules_unreadable"

	codeHomeUnreachable = "home_unreachable"
	codeMirrorUnread    = "mirror_unreadable"
	codeRoutingLoop     = "routing_loop"
	codeAskingPeers     = "asking_peers"
	codeNoSuchRegion    = "no_such_region"
	codeRegionAnswers   = "region_answers"
)

// WebError makes the problem that a client is told of an error of this package, of the domain, the rules, the keys or
// the ledger. It returns nil for an error that it does not know. It belongs into [web.Config.Errors].
func WebError(err error) *web.Error {
	var (
		refused   *domain.Refused
		malformed *domain.Malformed
		reused    *KeyReused
		there     *Elsewhere
		invalid   *rules.Invalid
	)
	switch {
	case errors.As(err, &refused):
		return &web.Error{Status: statusOf(refused.Code), Code: string(refused.Code), Detail: sentence(refused.Detail)}
	case errors.As(err, &malformed):
		return malformedRefusal(malformed)
	case errors.As(err, &invalid):
		return invalidRules(invalid)
	case errors.As(err, &reused), errors.Is(err, rules.ErrCommandReused):
		return &web.Error{Status: http.StatusUnprocessableEntity, Code: codeKeyReused,
			Detail: "The idempotency key was sent before with something else to do. Send a new key for a new thing."}
	case errors.As(err, &there):
		return unreachable(there.Home, "to which this way does not lead")
	case errors.Is(err, ErrAskingPeers):
		return unavailable(codeAskingPeers, "The region has just started and is finding out whether another one has taken the order over. Nothing was stored; send the command again with the same idempotency key.", nil)
	case errors.Is(err, errNoSuchRegion):
		return &web.Error{Status: http.StatusNotFound, Code: codeNoSuchRegion, Detail: sentence(err.Error())}
	case errors.Is(err, errMirror):
		return unavailable(codeMirrorUnread, "It cannot be found out just now which region has the order. Nothing was stored; send the command again with the same idempotency key.", err)
	case errors.Is(err, ErrOutcomeUnknown):
		return unavailable(codeOutcomeUnknown, "The ledger did not say whether it has stored the command. Send it again with the same idempotency key.", err)
	case errors.Is(err, ErrBusy):
		return unavailable(codeBusy, "Too many change the same order just now. Nothing was stored; send it again with the same idempotency key.", nil)
	case errors.Is(err, eventstore.ErrTooLarge):
		return &web.Error{Status: http.StatusRequestEntityTooLarge, Code: codeAppendTooLarge,
			Detail: "What the command leads to is larger than the ledger takes at once (1 MiB). Nothing was stored."}
	case eventstore.Unavailable(err), eventstore.IsConflict(err):
		return unavailable(codeReadOnly, "The ledger takes no writes just now. Send the command again with the same idempotency key.", err)
	case errors.Is(err, keyring.ErrFailed), errors.Is(err, keyring.ErrClosed):
		return unavailable(codeNoKeys, "Personal data cannot be sealed just now. Nothing was stored.", err)
	case errors.Is(err, rules.ErrUnreadable):
		return unavailable(codeRulesUnread, "The rules in force cannot be read by this version of the server. Nothing was stored; activate other rules.", err)
	case errors.Is(err, rules.ErrBusinessUnit):
		return &web.Error{Status: http.StatusBadRequest, Code: "invalid_business_unit", Detail: "The ledger decides for too many business units to begin with one more."}
	case errors.Is(err, errRules):
		return unavailable(codeReadOnly, "The rules cannot be had from the ledger just now. Nothing was stored; send the command again with the same idempotency key.", err)
	}
	return nil
}

// sentence makes a sentence of the text of an error.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func statusOf(code domain.Code) int {
	switch code {
	case domain.CodeUnknownOrder:
		return http.StatusNotFound
	case domain.CodeStaleRevision:
		return http.StatusPreconditionFailed
	}
	return http.StatusConflict
}

func unavailable(code, detail string, cause error) *web.Error {
	return &web.Error{Status: http.StatusServiceUnavailable, Code: code, Detail: detail, RetryAfter: time.Second, Cause: cause}
}

func malformedRefusal(m *domain.Malformed) *web.Error {
	return &web.Error{Status: http.StatusBadRequest, Code: m.Code, Detail: "The command is malformed: " + m.Error() + ".",
		Errors: []web.Violation{{Location: location(m.Field), Code: m.Code, Message: m.Detail}}}
}

// location turns a field of the domain, such as lines[3].quantity, into a JSON pointer or the parameter that it came
// from.
func location(field string) string {
	switch field {
	case "":
		return ""
	case "fulfilment":
		return "path.fulfilment"
	}
	return "/" + strings.NewReplacer("[", "/", "]", "", ".", "/").Replace(field)
}

func invalidRules(invalid *rules.Invalid) *web.Error {
	e := &web.Error{Status: http.StatusBadRequest, Code: codeInvalidRules, Detail: "The text is no rule set. The rules in force stay."}
	for _, p := range invalid.Problems {
		e.Errors = append(e.Errors, web.Violation{Code: codeInvalidRules, Message: p.String()})
	}
	return e
}

// Codes documents the codes of [WebError]. It belongs into [web.Config.Codes].
func Codes() []web.Code {
	codes := []web.Code{
		{Code: codeKeyReused, Status: http.StatusUnprocessableEntity, Meaning: "The idempotency key was sent before with something else to do. Send a new key for a new thing."},
		{Code: codeBusy, Status: http.StatusServiceUnavailable, Meaning: "Too many change the same order at the same time. Send the command again with the same key."},
		{Code: codeOutcomeUnknown, Status: http.StatusServiceUnavailable, Meaning: "The ledger, or another region's, did not say whether it has stored the command. Send it again with the same key: that finds out, and never does it twice."},
		{Code: codeAppendTooLarge, Status: http.StatusRequestEntityTooLarge, Meaning: "What the command leads to is larger than the ledger takes at once (1 MiB). Nothing was stored."},
		{Code: codeReadOnly, Status: http.StatusServiceUnavailable, Meaning: "The ledger takes no writes: it is being stopped, its disk is full or has failed, or it was opened for reading only."},
		{Code: codeNoKeys, Status: http.StatusServiceUnavailable, Meaning: "Personal data cannot be sealed, because the file of keys cannot be written."},
		{Code: codeInvalidRules, Status: http.StatusBadRequest, Meaning: "The text is no rule set; the errors say where and why. The rules in force stay."},
		{Code: codeHomeUnreachable, Status: http.StatusServiceUnavailable, Meaning: "The command is for another region, which cannot be reached. Nothing was stored. Send it again with the same key as soon as Retry-After says, or with Prefer: respond-async."},
		{Code: codeMirrorUnread, Status: http.StatusServiceUnavailable, Meaning: "What is known here of another region's ledger cannot be read. Nothing was stored. Send the command again with the same key."},
		{Code: codeAskingPeers, Status: http.StatusServiceUnavailable, Meaning: "The region has just started and is asking the others whether they have taken over orders that lived here. Nothing was stored. Send the command again with the same key; new orders are taken all the same."},
		{Code: codeNoSuchRegion, Status: http.StatusNotFound, Meaning: "The topology names no other region so."},
		{Code: codeRegionAnswers, Status: http.StatusConflict, Meaning: "The region whose orders are to be taken over still answers. Stop it first, or insist: what it does in the meantime is offered to the new home, and some of it may be refused."},
		{Code: codeRoutingLoop, Status: http.StatusLoopDetected, Meaning: "The regions do not agree about the order's home, and have passed the command on too often. Nothing was stored."},
		{Code: codeRulesUnread, Status: http.StatusServiceUnavailable, Meaning: "The rules in force were activated by another version of the server, and this one cannot read them."},
	}
	codes = append(codes, outcomeCodes()...)
	for code, meaning := range refusals {
		codes = append(codes, web.Code{Code: string(code), Status: statusOf(code), Meaning: meaning})
	}
	for code, meaning := range faults {
		codes = append(codes, web.Code{Code: code, Status: http.StatusBadRequest, Meaning: meaning})
	}
	return codes
}
