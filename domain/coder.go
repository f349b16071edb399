package domain

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// A coder writes or reads the canonical JSON of the ledger. Every type describes its members once, in a method code,
// which serves both directions:
//
//   - members stand in the order in which code names them, without white space, and those that are zero are left
//     out. So one value has one form, which a digest can be taken of, and reading is one pass that looks nothing up;
//   - reading is strict: an unknown, repeated or misplaced member is an error, as is anything that writing would
//     not have written in a value's place. What can be read is written again as the same bytes.
//
// A later version of a type may add members, which old events lack, and must never remove or move one.
type coder struct {
	out     []byte // what was written
	in      string // what is read
	pos     int    // how much of in has been read
	writing bool
	first   bool // the next member is the first of its object
	err     error
}

// encode returns the canonical JSON of what code describes.
func encode(code func(*coder)) ([]byte, error) {
	c := &coder{out: make([]byte, 0, 512), writing: true}
	c.object(code)
	return c.out, c.err
}

// decode reads the canonical JSON of what code describes. The strings it sets share one copy of data.
func decode(data []byte, code func(*coder)) error {
	c := &coder{in: string(data)}
	c.object(code)
	if c.err == nil && c.pos != len(c.in) {
		c.fail("more follows the value")
	}
	return c.err
}

func (c *coder) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("byte %d: %s", c.pos, fmt.Sprintf(format, args...))
	}
}

// object writes or reads one object with the members that code names.
func (c *coder) object(code func(*coder)) {
	if c.err != nil {
		return
	}
	if c.writing {
		c.out = append(c.out, '{')
	} else if !c.skip('{') {
		c.fail("expected an object")
		return
	}
	outer := c.first
	c.first = true
	code(c)
	c.first = outer
	if c.err != nil {
		return
	}
	if c.writing {
		c.out = append(c.out, '}')
	} else if !c.skip('}') {
		c.fail("unknown, repeated or misplaced member")
	}
}

// member begins a member. While writing it reports present; while reading, whether the member comes next.
func (c *coder) member(name string, present bool) bool {
	if c.err != nil {
		return false
	}
	if c.writing {
		if !present {
			return false
		}
		if !c.first {
			c.out = append(c.out, ',')
		}
		c.first = false
		c.out = append(c.out, '"')
		c.out = append(c.out, name...)
		c.out = append(c.out, '"', ':')
		return true
	}
	rest := c.in[c.pos:]
	skip := len(name) + 3
	if !c.first {
		if len(rest) == 0 || rest[0] != ',' {
			return false
		}
		rest = rest[1:]
		skip++
	}
	if len(rest) < len(name)+3 || rest[0] != '"' || rest[1:1+len(name)] != name || rest[1+len(name)] != '"' || rest[2+len(name)] != ':' {
		return false
	}
	c.first = false
	c.pos += skip
	return true
}

func (c *coder) skip(b byte) bool {
	if c.pos < len(c.in) && c.in[c.pos] == b {
		c.pos++
		return true
	}
	return false
}

// str codes a string, left out where empty. S may be any string type.
func str[S ~string](c *coder, name string, v *S) {
	if !c.member(name, *v != "") {
		return
	}
	if c.writing {
		c.quote(string(*v))
	} else {
		*v = S(c.unquote())
		c.present(name, *v != "")
	}
}

// present fails for a member that was read and, being zero, should have been left out.
func (c *coder) present(name string, present bool) {
	if !present {
		c.fail("%s: a zero value is left out", name)
	}
}

// text codes the value of a string.
func (c *coder) text(v *string) {
	if c.writing {
		c.quote(*v)
	} else {
		*v = c.unquote()
	}
}

func (c *coder) bool(name string, v *bool) {
	if !c.member(name, *v) {
		return
	}
	if c.writing {
		c.out = append(c.out, "true"...)
	} else if strings.HasPrefix(c.in[c.pos:], "true") {
		c.pos += 4
		*v = true
	} else {
		c.fail("%s: expected true", name)
	}
}

// number codes a whole number, left out where it is 0.
func number[N ~int | ~int64 | ~uint32 | ~uint64](c *coder, name string, v *N) {
	if !c.member(name, *v != 0) {
		return
	}
	if c.writing {
		if (int64(*v) < 0) != (*v < 0) {
			c.fail("%s: %d is too large", name, *v)
		}
		c.out = strconv.AppendInt(c.out, int64(*v), 10)
		return
	}
	end := c.pos
	for end < len(c.in) && (c.in[end] >= '0' && c.in[end] <= '9' || c.in[end] == '-') {
		end++
	}
	digits := c.in[c.pos:end]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || int64(N(n)) != n || (n < 0) != (N(n) < 0) || strings.HasPrefix(strings.TrimPrefix(digits, "-"), "0") {
		c.fail("%s: expected a whole number other than 0", name)
		return
	}
	*v = N(n)
	c.pos = end
}

// decimal codes a number, left out where it is 0.
func (c *coder) decimal(name string, v *Decimal) {
	if c.member(name, !v.IsZero()) {
		c.digits(name, v)
		c.present(name, !v.IsZero())
	}
}

// always codes a number that is written also where it is 0.
func (c *coder) always(name string, v *Decimal) {
	if c.member(name, true) {
		c.digits(name, v)
	} else if c.err == nil {
		c.fail("%s is missing", name)
	}
}

// option codes a number that may be missing.
func (c *coder) option(name string, v **Decimal) {
	if !c.member(name, *v != nil) {
		return
	}
	if !c.writing {
		*v = new(Decimal)
	}
	c.digits(name, *v)
}

func (c *coder) digits(name string, v *Decimal) {
	if c.writing {
		c.out = append(c.out, '"')
		c.out = append(c.out, v.String()...)
		c.out = append(c.out, '"')
		return
	}
	s := c.unquote()
	d, err := ParseDecimal(s)
	if err != nil {
		c.fail("%s: %v", name, err)
		return
	}
	if s[0] == '-' && d.IsZero() || strings.Contains(s, ".") && s[len(s)-1] == '0' {
		c.fail("%s: %s is not in canonical form", name, s)
	}
	*v = d
}

// time codes a moment in UTC, left out where it is zero.
func (c *coder) time(name string, v *time.Time) {
	if !c.member(name, !v.IsZero()) {
		return
	}
	if c.writing {
		utc := v.UTC()
		if utc.Year() < 0 || utc.Year() > 9999 {
			c.fail("%s: the year %d cannot be written", name, utc.Year())
		}
		c.out = append(c.out, '"')
		c.out = utc.AppendFormat(c.out, time.RFC3339Nano)
		c.out = append(c.out, '"')
		return
	}
	s := c.unquote()
	t, err := time.Parse(time.RFC3339Nano, s)
	var written [len(time.RFC3339Nano)]byte
	if err != nil || string(t.UTC().AppendFormat(written[:0], time.RFC3339Nano)) != s {
		c.fail("%s: expected a time in UTC", name)
	}
	*v = t.UTC()
	c.present(name, !v.IsZero())
}

func (c *coder) uuid(name string, v *uuid.UUID) {
	if !c.member(name, *v != uuid.Nil) {
		return
	}
	if c.writing {
		c.quote(v.String())
		return
	}
	s := c.unquote()
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 || strings.ToLower(s) != s {
		c.fail("%s: expected a UUID", name)
	}
	*v = id
	c.present(name, *v != uuid.Nil)
}

// base64 codes bytes, left out where there are none.
func (c *coder) base64(name string, v *[]byte) {
	if !c.member(name, len(*v) > 0) {
		return
	}
	if c.writing {
		c.out = append(c.out, '"')
		c.out = base64.StdEncoding.AppendEncode(c.out, *v)
		c.out = append(c.out, '"')
		return
	}
	s := c.unquote()
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(s) != base64.StdEncoding.EncodedLen(len(b)) { // the decoder passes over ends of lines
		c.fail("%s: expected base64", name)
	}
	*v = b
	c.present(name, len(b) > 0)
}

func (c *coder) digest(name string, v *Digest) {
	if !c.member(name, *v != Digest{}) {
		return
	}
	if c.writing {
		c.out = append(c.out, '"')
		c.out = hex.AppendEncode(c.out, v[:])
		c.out = append(c.out, '"')
		return
	}
	s := c.unquote()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(v) || strings.ToLower(s) != s {
		c.fail("%s: expected %d hexadecimal bytes", name, len(v))
		return
	}
	*v = Digest(b)
	c.present(name, *v != Digest{})
}

// structure codes a struct, left out where it is not present, which is where all its members are zero.
func structure[T any](c *coder, name string, v *T, present bool, code func(*T, *coder)) {
	if c.member(name, present) {
		c.object(func(c *coder) {
			code(v, c)
			c.present(name, !c.first)
		})
	}
}

// required codes a struct that is written also where all its members are zero.
func required[T any](c *coder, name string, v *T, code func(*T, *coder)) {
	if c.member(name, true) {
		c.object(func(c *coder) { code(v, c) })
	} else if c.err == nil {
		c.fail("%s is missing", name)
	}
}

// pointer codes a struct that may be missing.
func pointer[T any](c *coder, name string, v **T, code func(*T, *coder)) {
	if !c.member(name, *v != nil) {
		return
	}
	if !c.writing {
		*v = new(T)
	}
	c.object(func(c *coder) { code(*v, c) })
}

// list codes structs, left out where there are none.
func list[T any](c *coder, name string, v *[]T, code func(*T, *coder)) {
	if c.member(name, len(*v) > 0) {
		elements(c, v, func(e *T) { c.object(func(c *coder) { code(e, c) }) })
	}
}

// strs codes strings, left out where there are none.
func (c *coder) strs(name string, v *[]string) {
	if c.member(name, len(*v) > 0) {
		elements(c, v, c.text)
	}
}

func elements[T any](c *coder, v *[]T, code func(*T)) {
	if c.writing {
		c.out = append(c.out, '[')
		for i := range *v {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			code(&(*v)[i])
		}
		c.out = append(c.out, ']')
		return
	}
	if !c.skip('[') {
		c.fail("expected a list")
		return
	}
	for c.err == nil {
		var e T
		code(&e)
		*v = append(*v, e)
		if c.skip(']') {
			return
		}
		if !c.skip(',') {
			c.fail("expected , or ]")
		}
	}
}

const hexDigits = "0123456789abcdef"

// quote writes a JSON string. Only what must be escaped is.
func (c *coder) quote(s string) {
	if !utf8.ValidString(s) {
		c.fail("a string is not UTF-8")
		return
	}
	c.out = append(c.out, '"')
	start := 0
	for i := range len(s) {
		b := s[i]
		if b >= ' ' && b != '"' && b != '\\' {
			continue
		}
		c.out = append(c.out, s[start:i]...)
		start = i + 1
		switch b {
		case '"', '\\':
			c.out = append(c.out, '\\', b)
		case '\n':
			c.out = append(c.out, `\n`...)
		case '\r':
			c.out = append(c.out, `\r`...)
		case '\t':
			c.out = append(c.out, `\t`...)
		default:
			c.out = append(c.out, `\u00`...)
			c.out = append(c.out, hexDigits[b>>4], hexDigits[b&15])
		}
	}
	c.out = append(c.out, s[start:]...)
	c.out = append(c.out, '"')
}

// unquote reads a JSON string.
func (c *coder) unquote() string {
	if c.err != nil {
		return ""
	}
	if !c.skip('"') {
		c.fail("expected a string")
		return ""
	}
	for i := c.pos; i < len(c.in); i++ {
		switch b := c.in[i]; {
		case b == '"':
			s := c.in[c.pos:i]
			if !utf8.ValidString(s) {
				c.fail("a string is not UTF-8")
			}
			c.pos = i + 1
			return s
		case b == '\\':
			return c.unescape(i)
		case b < ' ':
			c.pos = i
			c.fail("control character in a string")
			return ""
		}
	}
	c.fail("a string has no end")
	return ""
}

// unescape reads the rest of a string whose first backslash stands at i.
func (c *coder) unescape(i int) string {
	var b strings.Builder
	b.WriteString(c.in[c.pos:i])
	for i < len(c.in) {
		switch ch := c.in[i]; {
		case ch == '"':
			c.pos = i + 1
			if !utf8.ValidString(b.String()) {
				c.fail("a string is not UTF-8")
			}
			return b.String()
		case ch < ' ':
			c.pos = i
			c.fail("control character in a string")
			return ""
		case ch != '\\':
			b.WriteByte(ch)
			i++
		default:
			ch, size := unescapeByte(c.in[i:])
			if size == 0 {
				c.pos = i
				c.fail("bad escape in a string")
				return ""
			}
			b.WriteByte(ch)
			i += size
		}
	}
	c.fail("a string has no end")
	return ""
}

// unescapeByte reads the escape at the start of s, in the one form that quote gives it, and returns its length, or 0
// where there is none.
func unescapeByte(s string) (byte, int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '"', '\\':
		return s[1], 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	if len(s) < 6 || s[1:4] != "u00" {
		return 0, 0
	}
	high, low := strings.IndexByte("01", s[4]), strings.IndexByte(hexDigits, s[5])
	b := byte(high<<4 | low)
	if high < 0 || low < 0 || b == '\n' || b == '\r' || b == '\t' {
		return 0, 0
	}
	return b, 6
}
