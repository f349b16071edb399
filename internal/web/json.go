package web

import (
	"bytes"
	"net/http"
	"reflect"
	"strconv"
	"strings"
)

// Limits bound a JSON text. The zero value is what requests are held to.
type Limits struct {
	Bytes int // 0: no limit
	Depth int // nested arrays and objects; 0: 16
}

const (
	defaultDepth = 16
	maxInteger   = 1<<53 - 1 // beyond it, implementations of JSON disagree about numbers
	maxText      = 200       // bytes of a location or a message in an error
)

// A JSONError tells why a JSON text was refused.
type JSONError struct {
	Code    string // stable: malformed_body, duplicate_field, unknown_field, wrong_type …
	Pointer string // JSON pointer to the place; empty for the whole text; cut if it is very long
	Offset  int    // in bytes
	Message string // never repeats more than a few bytes of the text
}

func (e *JSONError) Error() string {
	s := e.Message + " at byte " + strconv.Itoa(e.Offset)
	if e.Pointer != "" {
		s += " (" + e.Pointer + ")"
	}
	return s
}

func (e *JSONError) violation() Violation {
	return Violation{Location: e.Pointer, Code: e.Code, Message: e.Message}
}

func (e *JSONError) refusal() *Error {
	status := http.StatusBadRequest
	if e.Code == codeBodyTooLarge {
		status = http.StatusRequestEntityTooLarge
	}
	return &Error{Status: status, Code: e.Code, Detail: "The body is refused: " + e.Error() + ".", Errors: []Violation{e.violation()}}
}

// CheckJSON reports whether data is one JSON value in strict form: UTF-8 without byte order mark, no two members of
// one name in an object, no half surrogate pairs, nothing after the value, nested no deeper than the limit, and
// every number a whole one between -(2^53-1) and 2^53-1. Its error is a [*JSONError]. It takes time linear in
// len(data).
func CheckJSON(data []byte, limits Limits) error {
	return check(data, limits, nil, reflect.Value{})
}

// DecodeStrict decodes data, which [CheckJSON] accepts, into the value that v points to. Unlike encoding/json it
// refuses members that the type does not have, also where only the case differs, and null for anything but pointers
// and interfaces. Its error is a [*JSONError]; the value is then undefined.
func DecodeStrict(data []byte, v any) error {
	target := reflect.TypeOf(v)
	if target == nil || target.Kind() != reflect.Pointer || reflect.ValueOf(v).IsNil() {
		panic("web: DecodeStrict needs a pointer")
	}
	return check(data, Limits{}, shapeOf(target.Elem()), reflect.ValueOf(v).Elem())
}

// check scans data once. With a shape it holds the value to it and decodes it.
func check(data []byte, limits Limits, want *shape, into reflect.Value) error {
	if limits.Depth == 0 {
		limits.Depth = defaultDepth
	}
	if limits.Bytes > 0 && len(data) > limits.Bytes {
		return &JSONError{Code: codeBodyTooLarge, Message: "more than " + strconv.Itoa(limits.Bytes) + " bytes"}
	}
	s := scanner{data: data, depth: limits.Depth, path: make([]step, 0, 8), names: make([][]byte, 0, 16)}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return s.fail(codeMalformedBody, "a byte order mark")
	}
	s.space()
	if s.pos == len(data) {
		return s.fail("empty_body", "no JSON value")
	}
	if err := s.value(want, into); err != nil {
		return err
	}
	s.space()
	if s.pos < len(data) {
		return s.fail(codeMalformedBody, "more data after the value")
	}
	if s.bad != nil {
		return s.bad
	}
	return nil
}

// clip shortens a text for an error and makes it valid UTF-8.
func clip(text string) string {
	if len(text) <= maxText {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}
