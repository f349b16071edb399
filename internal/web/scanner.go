package web

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A scanner reads one JSON value from left to right, and decodes it if it has a shape.
type scanner struct {
	data  []byte
	pos   int
	depth int // how much deeper it may go
	path  []step
	names [][]byte // of the members of the objects that are open, inner ones behind outer ones
	text  string   // data, which the decoded strings are part of; empty until there is one
	bad   error    // about the first value that its type refuses; what is wrong with the text itself goes before it
}

// A step leads from a value into a part of it.
type step struct {
	name  []byte // of a member; nil: an element
	index int
}

func (s *scanner) fail(code, message string) *JSONError {
	return s.failAt(s.pos, code, message)
}

func (s *scanner) failAt(pos int, code, message string) *JSONError {
	var b strings.Builder
	for _, p := range s.path {
		b.WriteByte('/')
		if p.name == nil {
			b.WriteString(strconv.Itoa(p.index))
		} else {
			name := clip(string(p.name))
			b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
		}
		if b.Len() > maxText {
			break
		}
	}
	return &JSONError{Code: code, Pointer: clip(b.String()), Offset: pos, Message: message}
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// next returns the byte at the cursor, or 0 at the end; a NUL in the text is no JSON either.
func (s *scanner) next() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) unexpected(wanted string) *JSONError {
	switch c := s.next(); {
	case s.pos >= len(s.data):
		return s.fail(codeMalformedBody, "the text ends where "+wanted+" is due")
	case c >= utf8.RuneSelf || c < ' ':
		return s.fail(codeMalformedBody, "not "+wanted)
	default:
		return s.fail(codeMalformedBody, "'"+string(rune(c))+"' where "+wanted+" is due")
	}
}

// value reads a value, which goes into what is not the zero reflect.Value.
func (s *scanner) value(want *shape, into reflect.Value) *JSONError {
	for want != nil && want.target != nil {
		if want = want.target; s.next() == 'n' {
			want = nil
			if into.IsValid() {
				into.SetZero()
			}
		} else if into.IsValid() {
			into = pointed(into)
		}
	}
	parts := into
	if want != nil && want.whole {
		parts = reflect.Value{}
	}
	start, escaped := s.pos, false
	var err *JSONError
	switch c := s.next(); c {
	case '{':
		if err := s.expect(want, kindObject, "an object"); err != nil {
			return err
		}
		err = s.object(want, parts)
	case '[':
		if err := s.expect(want, kindArray, "an array"); err != nil {
			return err
		}
		err = s.array(want, parts)
	case '"':
		if err := s.expect(want, kindString, "a string"); err != nil {
			return err
		}
		_, escaped, err = s.str()
	case 't':
		err = s.literal("true", want, kindBool, "a boolean")
	case 'f':
		err = s.literal("false", want, kindBool, "a boolean")
	case 'n':
		err = s.literal("null", want, kindNull, "null")
	default:
		if c != '-' && (c < '0' || c > '9') {
			return s.unexpected("a value")
		}
		if err := s.expect(want, kindNumber, "a number"); err != nil {
			return err
		}
		err = s.number()
	}
	if err == nil && want != nil {
		s.store(want, into, start, escaped)
	}
	return err
}

// pointed returns what a pointer points to, and makes that if there is nothing.
func pointed(pointer reflect.Value) reflect.Value {
	if pointer.IsNil() {
		pointer.Set(reflect.New(pointer.Type().Elem()))
	}
	return pointer.Elem()
}

// store stores the value that was read from start on, where its parts have not been stored already.
func (s *scanner) store(want *shape, into reflect.Value, start int, escaped bool) {
	if want.leaf && !into.IsValid() { // in a map, which is decoded as a whole; where a leaf is bad is to be told all the same
		into = reflect.New(want.typ).Elem()
	}
	switch {
	case !into.IsValid():
	case want.whole:
		raw := s.data[start:s.pos]
		if want.text && !escaped && into.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(raw[1:len(raw)-1]) == nil {
			return
		}
		if want.quoted {
			raw = unescape(raw)
		}
		err := json.Unmarshal(raw, into.Addr().Interface())
		switch {
		case err == nil || s.bad != nil:
		case want.leaf:
			s.bad = s.failAt(start, "invalid_value", clip(err.Error()))
		default:
			s.bad = &JSONError{Code: "invalid_value", Message: clip(err.Error())}
		}
	case want.kinds == kindString:
		into.SetString(s.string(start, escaped))
	case want.kinds == kindBool:
		into.SetBool(s.data[start] == 't')
	}
}

// string decodes the string that was read from start on.
func (s *scanner) string(start int, escaped bool) string {
	if escaped {
		return string(unescape(s.data[start:s.pos]))
	}
	if s.text == "" {
		s.text = string(s.data)
	}
	return s.text[start+1 : s.pos-1]
}

// expect holds the value that begins at the cursor to a shape.
func (s *scanner) expect(want *shape, have kind, name string) *JSONError {
	if want == nil || want.kinds&have != 0 {
		return nil
	}
	return s.fail("wrong_type", name+" where "+want.name()+" is due")
}

func (s *scanner) literal(text string, want *shape, have kind, name string) *JSONError {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(text)) {
		return s.unexpected("a value")
	}
	if err := s.expect(want, have, name); err != nil {
		return err
	}
	s.pos += len(text)
	return nil
}

func (s *scanner) enter() *JSONError {
	if s.depth == 0 {
		return s.fail("too_deep", "nested too deeply")
	}
	s.depth--
	s.pos++
	s.space()
	return nil
}

func (s *scanner) leave() {
	s.depth++
	s.pos++
}

func (s *scanner) array(want *shape, into reflect.Value) *JSONError {
	if err := s.enter(); err != nil {
		return err
	}
	var element reflect.Value
	if into.IsValid() {
		into.Set(reflect.MakeSlice(into.Type(), 0, 0))
	}
	if s.next() == ']' {
		s.leave()
		return nil
	}
	for i := 0; ; i++ {
		s.path = append(s.path, step{index: i})
		if into.IsValid() {
			if i == into.Cap() {
				into.Grow(2) // rather than one by one: most lists are short
			}
			into.SetLen(i + 1)
			element = into.Index(i)
		}
		if err := s.value(want.element(), element); err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
		s.space()
		switch s.next() {
		case ',':
			s.pos++
			s.space()
		case ']':
			s.leave()
			return nil
		default:
			return s.unexpected("',' or ']'")
		}
	}
}

func (s *scanner) object(want *shape, into reflect.Value) *JSONError {
	if err := s.enter(); err != nil {
		return err
	}
	if s.next() == '}' {
		s.leave()
		return nil
	}
	seen := members{scanner: s, first: len(s.names)}
	for {
		if s.next() != '"' {
			return s.unexpected("a name in quotes")
		}
		start := s.pos
		name, escaped, err := s.str()
		if err != nil {
			return err
		}
		if escaped {
			name = unescape(s.data[start:s.pos])
		}
		s.path = append(s.path, step{name: name})
		if !seen.add(name) {
			return s.failAt(start, "duplicate_field", "a second member of this name")
		}
		field, known := want.field(name)
		if !known {
			return s.failAt(start, "unknown_field", "no such member is known")
		}
		s.space()
		if s.next() != ':' {
			return s.unexpected("':'")
		}
		s.pos++
		s.space()
		var member reflect.Value
		if into.IsValid() {
			member = field.of(into)
		}
		if err := s.value(field.shape, member); err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
		s.space()
		switch s.next() {
		case ',':
			s.pos++
			s.space()
		case '}':
			s.names = s.names[:seen.first]
			s.leave()
			return nil
		default:
			return s.unexpected("',' or '}'")
		}
	}
}

// members are the names that one object has had so far. Few of them are compared one by one, many looked up.
type members struct {
	*scanner
	first int // in scanner.names
	many  map[string]struct{}
}

// add reports whether the name is new.
func (m *members) add(name []byte) bool {
	const few = 16
	if m.many != nil {
		if _, twice := m.many[string(name)]; twice {
			return false
		}
		m.many[string(name)] = struct{}{}
		return true
	}
	for _, other := range m.names[m.first:] {
		if bytes.Equal(other, name) {
			return false
		}
	}
	m.names = append(m.names, name)
	if len(m.names)-m.first == few {
		m.many = make(map[string]struct{}, 2*few)
		for _, other := range m.names[m.first:] {
			m.many[string(other)] = struct{}{}
		}
	}
	return true
}

// unescape decodes a string that the scanner has accepted, quotes included.
func unescape(quoted []byte) []byte {
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		panic("web: the scanner accepted a string that encoding/json refuses: " + err.Error())
	}
	return []byte(text)
}

// str reads a string and returns what stands between its quotes, and whether that has escapes.
func (s *scanner) str() (text []byte, escaped bool, err *JSONError) {
	s.pos++
	start := s.pos
	for {
		if s.pos >= len(s.data) {
			return nil, false, s.fail(codeMalformedBody, "the text ends within a string")
		}
		switch c := s.data[s.pos]; {
		case c == '"':
			text = s.data[start:s.pos]
			s.pos++
			return text, escaped, nil
		case c == '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return nil, false, err
			}
		case c < ' ':
			return nil, false, s.fail(codeMalformedBody, "a control character within a string")
		case c < utf8.RuneSelf:
			s.pos++
		default:
			r, size := utf8.DecodeRune(s.data[s.pos:])
			if r == utf8.RuneError && size == 1 {
				return nil, false, s.fail("invalid_utf8", "bytes that are not UTF-8")
			}
			s.pos += size
		}
	}
}

func (s *scanner) escape() *JSONError {
	if s.pos+1 >= len(s.data) {
		return s.fail(codeMalformedBody, "the text ends within a string")
	}
	switch s.data[s.pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case 'u':
	default:
		return s.fail(codeMalformedBody, "an unknown escape in a string")
	}
	r, ok := s.hex(s.pos)
	if !ok {
		return s.fail(codeMalformedBody, `\u without four hexadecimal digits`)
	}
	switch {
	case r < 0xd800 || r > 0xdfff:
		s.pos += 6
		return nil
	case r < 0xdc00:
		if low, ok := s.hex(s.pos + 6); ok && low >= 0xdc00 && low <= 0xdfff {
			s.pos += 12
			return nil
		}
	}
	return s.fail("lone_surrogate", "half of a surrogate pair")
}

// hex reads an escape of the form \uXXXX.
func (s *scanner) hex(pos int) (rune, bool) {
	if pos+6 > len(s.data) || s.data[pos] != '\\' || s.data[pos+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range s.data[pos+2 : pos+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (s *scanner) number() *JSONError {
	start := s.pos
	if s.next() == '-' {
		s.pos++
	}
	first := s.pos
	switch {
	case s.next() == '0':
		s.pos++
	case s.digits() == 0:
		return s.unexpected("a digit")
	}
	digits := s.data[first:s.pos]
	whole := true
	if s.next() == '.' {
		whole = false
		s.pos++
		if s.digits() == 0 {
			return s.unexpected("a digit")
		}
	}
	if c := s.next(); c == 'e' || c == 'E' {
		whole = false
		s.pos++
		if c := s.next(); c == '+' || c == '-' {
			s.pos++
		}
		if s.digits() == 0 {
			return s.unexpected("a digit")
		}
	}
	if !whole {
		return s.failAt(start, "inexact_number", "a number that is not whole; decimals are written as strings")
	}
	const longest = len("9007199254740991")
	n, err := int64(0), error(nil)
	if len(digits) <= longest {
		n, err = strconv.ParseInt(string(digits), 10, 64)
	}
	if len(digits) > longest || err != nil || n > maxInteger {
		return s.failAt(start, "inexact_number", "a number beyond 2^53-1; large numbers are written as strings")
	}
	return nil
}

// digits skips digits and returns how many.
func (s *scanner) digits() int {
	start := s.pos
	for c := s.next(); '0' <= c && c <= '9'; c = s.next() {
		s.pos++
	}
	return s.pos - start
}
