package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An Error is a refusal that the client is told about. Handlers return it, alone or wrapped; other packages give
// [Config.Errors] a function that makes one of their own errors.
type Error struct {
	Status     int           // HTTP status, 400 to 599
	Code       string        // stable, snake_case; clients branch on it
	Detail     string        // a sentence for people about this occurrence; never personal data
	Errors     []Violation   // what is wrong in detail, where that is known
	RetryAfter time.Duration // when to come again; 429 and 503 say one second if it is zero
	Cause      error         // logged for a status of 500 and above, never shown
}

func (e *Error) Error() string {
	s := e.Code
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// A Violation is one thing that is wrong with a request.
type Violation struct {
	Location string `json:"location,omitempty" doc:"Where: a JSON pointer into the body, or path.NAME, query.NAME or header.NAME" example:"/lines/0/quantity"`
	Code     string `json:"code" doc:"Stable code of what is wrong" example:"unknown_field"`
	Message  string `json:"message" doc:"What is wrong, for people"`
}

// A Problem is the body of every answer with an error status (RFC 9457).
type Problem struct {
	Type     string      `json:"type" format:"uri-reference" doc:"Where the kind of problem is explained" example:"/problems/malformed_body"`
	Title    string      `json:"title" doc:"The kind of problem, for people; the same for every occurrence" example:"Malformed body"`
	Status   int         `json:"status" doc:"HTTP status" example:"400"`
	Detail   string      `json:"detail,omitempty" doc:"This occurrence, for people"`
	Instance string      `json:"instance,omitempty" doc:"The request's id, as in the header Request-Id and in the log"`
	Code     string      `json:"code" doc:"Stable code to branch on" example:"malformed_body"`
	Errors   []Violation `json:"errors,omitempty" doc:"What is wrong in detail, where that is known"`

	retryAfter time.Duration
}

const problemType = "application/problem+json"

// Error makes a Problem an error that huma knows how to write.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus tells huma the status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType tells huma the media type.
func (p *Problem) ContentType(string) string { return problemType }

// Problem turns an error into what the client is told, and logs it if it is the server's own. An error that is
// neither an [*Error] nor known to [Config.Errors] is internal: the client gets a general sentence.
func (s *Server) Problem(ctx context.Context, err error) *Problem {
	var ready *Problem
	if errors.As(err, &ready) {
		p := *ready
		p.Instance = RequestID(ctx)
		return &p
	}
	e := s.classify(err)
	if e.Status >= http.StatusInternalServerError {
		s.logFailure(ctx, e, err)
	}
	p := newProblem(e)
	p.Instance = RequestID(ctx)
	return p
}

func newProblem(e *Error) *Problem {
	return &Problem{
		Type:       problemPath + e.Code,
		Title:      title(e.Code),
		Status:     e.Status,
		Detail:     e.Detail,
		Code:       e.Code,
		Errors:     e.Errors,
		retryAfter: e.RetryAfter,
	}
}

func (s *Server) classify(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	for _, classify := range s.cfg.Errors {
		if e := classify(err); e != nil {
			return e
		}
	}
	var bad *JSONError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &bad):
		return bad.refusal()
	case errors.As(err, &large):
		return tooLarge(large.Limit)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Status: http.StatusBadRequest, Code: codeMalformedBody, Detail: "The body ended early."}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Status: http.StatusServiceUnavailable, Code: codeUnavailable, Detail: "The server did not get it done in time.", Cause: err}
	case errors.Is(err, context.Canceled):
		return &Error{Status: http.StatusServiceUnavailable, Code: codeUnavailable, Detail: "The request was given up, or the server is stopping."}
	}
	return &Error{
		Status: http.StatusInternalServerError,
		Code:   codeInternal,
		Detail: "The server failed. Its log tells why, under the request's id.",
		Cause:  err,
	}
}

func (s *Server) logFailure(ctx context.Context, e *Error, err error) {
	level := slog.LevelError
	switch {
	case errors.Is(err, context.Canceled):
		return
	case e.Status == http.StatusServiceUnavailable:
		level = slog.LevelWarn
	}
	s.log.LogAttrs(ctx, level, "request failed",
		slog.String("request_id", RequestID(ctx)), slog.String("code", e.Code), slog.Any("error", err))
}

func tooLarge(limit int64) *Error {
	return &Error{
		Status: http.StatusRequestEntityTooLarge,
		Code:   codeBodyTooLarge,
		Detail: "The body is larger than the " + strconv.FormatInt(limit, 10) + " bytes that this route takes.",
	}
}

// title makes the heading of a code: malformed_body is "Malformed body".
func title(code string) string {
	if code == "" {
		return ""
	}
	return strings.ToUpper(code[:1]) + strings.ReplaceAll(code[1:], "_", " ")
}

// setHeaders adds what a problem says outside its body.
func (p *Problem) setHeaders(h http.Header) {
	h.Set("Cache-Control", "no-store")
	if p.retryAfter > 0 || p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		seconds := max(1, int(math.Ceil(p.retryAfter.Seconds())))
		h.Set("Retry-After", strconv.Itoa(seconds))
	}
}

// WriteProblem answers a request with an error. Routes outside huma use it.
func (s *Server) WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	s.Problem(r.Context(), err).write(w)
}

// WriteError answers a request with an error where that is for no [Server] to do.
func WriteError(w http.ResponseWriter, r *http.Request, e *Error) {
	p := newProblem(e)
	p.Instance = RequestID(r.Context())
	p.write(w)
}

func (p *Problem) write(w http.ResponseWriter) {
	body, err := json.Marshal(p)
	if err != nil { // a Problem holds nothing but strings and numbers
		panic(err)
	}
	h := w.Header()
	p.setHeaders(h)
	h.Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
}
