package web

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"
)

// Codes that more than one place of this package uses.
const (
	codeMalformedBody = "malformed_body"
	codeBodyTooLarge  = "body_too_large"
	codeUnavailable   = "unavailable"
	codeInternal      = "internal_error"
	codeNotFound      = "not_found"
	codeForbidden     = "forbidden"
	codeInvalidParam  = "invalid_parameter"
)

// A Code documents one kind of problem.
type Code struct {
	Code    string `json:"code"`
	Status  int    `json:"status"`
	Title   string `json:"title"`
	Meaning string `json:"meaning"` // what it means and what to do about it
}

const problemPath = "/problems/"

func ownCodes() []Code {
	return []Code{
		{Code: "ambiguous_business_unit", Status: 400, Meaning: "The header Business-Unit and the parameter business_unit name different business units."},
		{Code: codeBodyTooLarge, Status: 413, Meaning: "The body is larger than the route takes. Nothing was stored."},
		{Code: "cross_site", Status: 403, Meaning: "A browser sent a write from a page of another origin."},
		{Code: "duplicate_field", Status: 400, Meaning: "An object in the body has two members of one name."},
		{Code: "duplicate_parameter", Status: 400, Meaning: "A query parameter that stands for one value was given twice."},
		{Code: "empty_body", Status: 400, Meaning: "The route needs a body."},
		{Code: codeForbidden, Status: 403, Meaning: "The token lacks the role that the route needs, or that the header Orderledger-On-Behalf-Of needs."},
		{Code: "foreign_business_unit", Status: 403, Meaning: "The token may not act for the business unit that the request names."},
		{Code: "foreign_host", Status: 421, Meaning: "The header Host names a host that this server does not answer for."},
		{Code: "inexact_number", Status: 400, Meaning: "A JSON number is no whole number between -(2^53-1) and 2^53-1. Amounts and quantities are strings."},
		{Code: codeInternal, Status: 500, Meaning: "The server failed. Repeat the request with the same idempotency key."},
		{Code: "invalid_business_unit", Status: 400, Meaning: "A business unit is 1 to 32 of a-z, 0-9 and '-', and does not begin with '-'."},
		{Code: "invalid_cursor", Status: 400, Meaning: "The cursor was not made by this server for this list. Begin again without one."},
		{Code: "invalid_etag", Status: 400, Meaning: "If-Match or If-None-Match is neither * nor a list of quoted tags."},
		{Code: "invalid_idempotency_key", Status: 400, Meaning: "An idempotency key is 1 to 255 visible ASCII characters."},
		{Code: "invalid_request", Status: 400, Meaning: "The request is malformed; detail says how."},
		{Code: codeInvalidParam, Status: 400, Meaning: "A path, query or header parameter is not of its type."},
		{Code: "invalid_utf8", Status: 400, Meaning: "The body is not UTF-8."},
		{Code: "invalid_value", Status: 400, Meaning: "A value in the body breaks the rules of its field."},
		{Code: "lone_surrogate", Status: 400, Meaning: "A string in the body has half of a surrogate pair, which is no character."},
		{Code: codeMalformedBody, Status: 400, Meaning: "The body is not JSON."},
		{Code: "method_not_allowed", Status: 405, Meaning: "The path does not take this method; the header Allow lists those that it takes."},
		{Code: "missing_field", Status: 400, Meaning: "A required member is missing."},
		{Code: "missing_idempotency_key", Status: 400, Meaning: "Writes need the header Idempotency-Key."},
		{Code: "missing_parameter", Status: 400, Meaning: "A required parameter is missing."},
		{Code: codeNotFound, Status: 404, Meaning: "There is nothing at this path."},
		{Code: "rate_limited", Status: 429, Meaning: "This client sends too many requests. Wait as long as Retry-After says."},
		{Code: "request_timeout", Status: 408, Meaning: "The body came too slowly."},
		{Code: "too_deep", Status: 400, Meaning: "The body is nested too deeply."},
		{Code: codeUnavailable, Status: 503, Meaning: "The server cannot do this now. Wait as long as Retry-After says; a write with the same idempotency key is safe to repeat."},
		{Code: "unauthenticated", Status: 401, Meaning: "The request has no token, or none that the server knows. Send it as Authorization: Bearer …"},
		{Code: "unknown_field", Status: 400, Meaning: "An object in the body has a member that the route does not know. Names are case-sensitive."},
		{Code: "unknown_parameter", Status: 400, Meaning: "The route does not know a query parameter."},
		{Code: "unsupported_media_type", Status: 415, Meaning: "Bodies are application/json in UTF-8, without content encoding."},
		{Code: "wrong_type", Status: 400, Meaning: "A value in the body is of another JSON type than its field."},
	}
}

// serveCodes lists every documented code, or explains one.
func (s *Server) serveCodes() {
	codes := append(ownCodes(), s.cfg.Codes...)
	slices.SortFunc(codes, func(a, b Code) int { return cmp.Compare(a.Code, b.Code) })
	for i := range codes {
		if codes[i].Title == "" {
			codes[i].Title = title(codes[i].Code)
		}
	}
	s.router.Get("/problems", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, http.StatusOK, codes) })
	s.router.Get(problemPath+"{code}", func(w http.ResponseWriter, r *http.Request) {
		i, ok := slices.BinarySearchFunc(codes, chi.URLParam(r, "code"), func(c Code, code string) int { return cmp.Compare(c.Code, code) })
		if !ok {
			s.WriteProblem(w, r, notFound())
			return
		}
		writeJSON(w, http.StatusOK, codes[i])
	})
}

func notFound() *Error {
	return &Error{Status: http.StatusNotFound, Code: codeNotFound, Detail: "There is nothing at this path."}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // callers pass plain structs
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
