package web

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
)

// A Body is the JSON body of an operation: a field "Body web.Body[T]" in its input, or "Body *web.Body[T]" if
// it is optional. It is decoded by [DecodeStrict], so that the client learns code and place of what is wrong. The
// OpenAPI document shows T.
//
// Before that, huma validates the body against T's schema, which decodes it a second time; an operation that
// validates by itself saves that with SkipValidateBody.
type Body[T any] struct {
	Value T
	err   error
}

// decode keeps the error for Resolve, because huma passes on no more than the text of what a format returns.
func (b *Body[T]) decode(data []byte) { b.err = DecodeStrict(data, &b.Value) }

// Resolve reports what was wrong with the body.
func (b *Body[T]) Resolve(huma.Context) []error {
	if b.err != nil {
		return []error{b.err}
	}
	return nil
}

// Schema is T's.
func (Body[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "Body")
}

// strictFormat is how bodies are read and answers are written.
var strictFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		body, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
		return nil
	},
	Unmarshal: func(data []byte, v any) error {
		type body interface{ decode([]byte) }
		if b, ok := v.(body); ok {
			b.decode(data)
			return nil
		}
		if field := reflect.ValueOf(v).Elem(); field.Kind() == reflect.Pointer {
			target := reflect.New(field.Type().Elem())
			if b, ok := target.Interface().(body); ok {
				b.decode(data)
				field.Set(target)
				return nil
			}
		}
		return DecodeStrict(data, v)
	},
}

// setUpHuma makes huma answer in our problems, and describe what DecodeStrict takes: names in their case, no null for
// arrays. Huma keeps all this in package variables; it is the same for every Server and set once.
var setUpHuma = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return newProblem(humaRefusal(status, msg, errs))
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		q := requestFrom(ctx.Context())
		if q == nil {
			return newProblem(humaRefusal(status, msg, errs))
		}
		if msg == "cannot read request body" { // chunks that are none, or too few bytes: it is the client's doing
			return q.server.Problem(ctx.Context(), &Error{Status: http.StatusBadRequest, Code: codeMalformedBody, Detail: "The body cannot be read to its end."})
		}
		if status == http.StatusInternalServerError && len(errs) == 1 { // what a handler returned
			return q.server.Problem(ctx.Context(), errs[0])
		}
		return q.server.Problem(ctx.Context(), worst(status, msg, errs))
	}
})

// worst chooses among what is wrong with one request: what huma found in particular places, all of it together, before
// the first error of our own, before huma's remark that the body as a whole is bad.
func worst(status int, msg string, errs []error) error {
	var own error
	for _, err := range errs {
		d, ok := err.(huma.ErrorDetailer)
		switch {
		case ok && d.ErrorDetail().Location != "body":
			return humaRefusal(status, msg, errs)
		case !ok && own == nil:
			own = err
		}
	}
	if own != nil {
		return own
	}
	return humaRefusal(status, msg, errs)
}

// humaRefusal makes an Error of what huma found wrong with a request. 422 becomes 400: it is kept for an idempotency
// key that comes again with other content.
func humaRefusal(status int, msg string, errs []error) *Error {
	e := &Error{Status: status, Detail: sentence(msg)}
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		e.Status, e.Code = http.StatusBadRequest, "invalid_request"
		if msg == "request body is required" {
			e.Code = "empty_body"
		}
	case http.StatusRequestEntityTooLarge:
		e.Code, e.Detail = codeBodyTooLarge, "The body is larger than this route takes."
	case http.StatusRequestTimeout:
		e.Code = "request_timeout"
	case http.StatusUnsupportedMediaType:
		e.Code = "unsupported_media_type"
	case http.StatusNotFound:
		e.Code = codeNotFound
	case http.StatusServiceUnavailable:
		e.Code = codeUnavailable
	case http.StatusInternalServerError:
		e.Code, e.Detail = codeInternal, "The server failed."
	default:
		e.Code = strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "_")
	}
	for _, err := range errs {
		if detailer, ok := err.(huma.ErrorDetailer); ok {
			e.Errors = append(e.Errors, violation(detailer.ErrorDetail()))
		}
	}
	if len(e.Errors) > 0 {
		e.Code = e.Errors[0].Code
		e.Detail = sentence(e.Errors[0].Message)
	}
	if len(e.Errors) > maxViolations {
		e.Errors = e.Errors[:maxViolations]
	}
	return e
}

// maxViolations bounds the answer to a request that is wrong in very many places.
const maxViolations = 20

// violation translates huma's finding; the value that it echoes is left out.
func violation(d *huma.ErrorDetail) Violation {
	v := Violation{Location: clip(d.Location), Message: clip(d.Message), Code: codeInvalidParam}
	inBody := d.Location == "body" || strings.HasPrefix(d.Location, "body.") || strings.HasPrefix(d.Location, "body[")
	if inBody {
		path := strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(strings.TrimPrefix(d.Location, "body"))
		v.Location, v.Code = clip(path), "invalid_value"
	}
	switch {
	case strings.HasPrefix(d.Message, "unexpected property"):
		v.Code = "unknown_field"
	case strings.HasPrefix(d.Message, "expected required property"):
		v.Code = "missing_field"
	case strings.HasPrefix(d.Message, "required ") && strings.HasSuffix(d.Message, " parameter is missing"):
		v.Code = "missing_parameter"
		if d.Location == "header.Idempotency-Key" {
			v.Code = "missing_idempotency_key"
		}
	case inBody && slices.Contains([]string{"expected string", "expected number", "expected integer", "expected boolean",
		"expected array", "expected object"}, d.Message):
		v.Code = "wrong_type"
	}
	if text, ok := d.Value.(string); ok && d.Location == "body" { // huma could not decode the body, which is text
		var bad *JSONError
		if errors.As(CheckJSON([]byte(text), Limits{}), &bad) {
			return bad.violation()
		}
	}
	return v
}

// sentence makes a sentence of huma's phrases.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	s = clip(strings.ToUpper(s[:1]) + s[1:])
	if strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

// finishProblem adds what a problem says in headers and what only the request knows. It is a huma.Transformer.
func finishProblem(ctx huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*Problem)
	if !ok {
		return v, nil
	}
	if p.Instance == "" {
		finished := *p
		finished.Instance = RequestID(ctx.Context())
		p = &finished
	}
	h := http.Header{}
	p.setHeaders(h)
	for name, values := range h {
		ctx.SetHeader(name, values[0])
	}
	return p, nil
}

// document completes an operation: its limit for bodies, and the parameters that every operation has.
func document(op *huma.Operation, cfg Config) {
	if op.MaxBodyBytes == 1<<20 { // huma's own default
		op.MaxBodyBytes = cfg.MaxBody
	}
	if op.MaxBodyBytes > 0 {
		op.MaxBodyBytes++ // huma refuses a body of just its limit
	}
	if op.Method == http.MethodGet {
		delete(op.Responses, "422") // huma adds it to every operation with parameters
	}
	unit := &huma.Schema{Type: huma.TypeString, Pattern: unitPattern.String(), Default: DefaultBusinessUnit}
	op.Parameters = append(op.Parameters,
		&huma.Param{Name: "Business-Unit", In: "header", Schema: unit, Description: "Business unit that the request is about"},
		&huma.Param{Name: "business_unit", In: "query", Schema: unit, Description: "The same, where a header cannot be set"})
}

// checkQuery refuses query parameters that an operation does not have, and single ones that come twice. It is a huma
// middleware.
func (s *Server) checkQuery(ctx huma.Context, next func(huma.Context)) {
	r, w := humachi.Unwrap(ctx)
	if err := checkParameters(r.URL.RawQuery, ctx.Operation()); err != nil {
		s.WriteProblem(w, r, err)
		return
	}
	next(ctx)
}

func checkParameters(raw string, op *huma.Operation) error {
	if raw == "" {
		return nil
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return &Error{Status: http.StatusBadRequest, Code: codeInvalidParam, Detail: "The query is malformed."}
	}
	for name, values := range query {
		i := slices.IndexFunc(op.Parameters, func(p *huma.Param) bool { return p.In == "query" && p.Name == name })
		location := clip("query." + name)
		if i < 0 {
			return &Error{Status: http.StatusBadRequest, Code: "unknown_parameter", Detail: "The route does not know a query parameter.",
				Errors: []Violation{{Location: location, Code: "unknown_parameter", Message: "unknown query parameter"}}}
		}
		if len(values) > 1 && (op.Parameters[i].Schema == nil || op.Parameters[i].Schema.Type != huma.TypeArray) {
			return &Error{Status: http.StatusBadRequest, Code: "duplicate_parameter", Detail: "A query parameter was given " + strconv.Itoa(len(values)) + " times.",
				Errors: []Violation{{Location: location, Code: "duplicate_parameter", Message: "given more than once"}}}
		}
	}
	return nil
}
