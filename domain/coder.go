package domain

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
// While reading, the first letter of the member that comes next is always known. Most members that code names are not
// there; passing most of these by takes one comparison.
//
// A later version of a type may add members, which old events lack, and must never remove or move one.
type coder struct {
	writing bool
	out     []byte // what was written
	first   bool   // the next member is the first of its object

	in   string // what is read, and padding
	size int    // of in without the padding
	pos  int    // how much of in has been read
	next byte   // begins the name of the next member, which stands at pos; 0 at the end of an object
	err  error
}

// padding follows what is read. A NUL may stand nowhere, so whatever looks for something comes to an end there.
const padding = "\x00\x00\x00\x00\x00\x00\x00\x00"

// A coded value describes its members.
type coded interface{ code(*coder) }

// encode returns the canonical JSON of a value.
func encode(v coded) ([]byte, error) {
	c := &coder{out: make([]byte, 0, 512), writing: true}
	c.open()
	v.code(c)
	c.close()
	return c.out, c.err
}

// decode reads the canonical JSON of a value. The strings it sets share one copy of data.
func decode(data []byte, v coded) error {
	var text strings.Builder
	return new(coder).read(data, &text, v)
}

// read reads a value. It keeps a copy of data at the end of text, which the strings it sets are part of.
func (c *coder) read(data []byte, text *strings.Builder, v coded) error {
	start, size := text.Len(), len(data)
	text.Grow(size + len(padding))
	_, _ = text.Write(data)
	_, _ = text.WriteString(padding)
	*c = coder{in: text.String()[start:], size: size}
	c.open()
	v.code(c)
	c.close()
	if c.err == nil && c.pos != size {
		c.fail("more follows the value")
	}
	return c.err
}

// fail remembers the first failure. Nothing is read after it.
func (c *coder) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("byte %d: %s", c.pos, fmt.Sprintf(format, args...))
		c.next, c.pos = 0, c.size
	}
}

// open begins an object. Its members follow, and then close.
func (c *coder) open() {
	switch {
	case c.writing:
		c.out = append(c.out, '{')
		c.first = true
	case !c.at('{'):
		c.fail("expected an object")
	case c.in[c.pos+1] == '}':
		c.pos++
		c.next = 0
	default:
		c.name()
	}
}

func (c *coder) close() {
	switch {
	case c.writing:
		c.out = append(c.out, '}')
		c.first = false
	case c.next != 0 || !c.at('}'):
		c.fail("unknown, repeated or misplaced member")
	default:
		c.pos++
	}
}

// member begins a member and reports whether its value is to be written or read. After one that was read stands done.
func (c *coder) member(name string, present bool) bool {
	if c.writing {
		return present && c.begin(name)
	}
	return c.next == name[0] && c.named(name)
}

// named passes over the name of the next member and reports true if it is the given one.
func (c *coder) named(name string) bool {
	end := c.pos + len(name)
	if in := c.in; end+1 < len(in) && in[end] == '"' && in[end+1] == ':' && in[c.pos:end] == name {
		c.pos = end + 2
		return true
	}
	return false
}

func (c *coder) begin(name string) bool {
	if !c.first {
		c.out = append(c.out, ',')
	}
	c.first = false
	c.out = append(c.out, '"')
	c.out = append(c.out, name...)
	c.out = append(c.out, '"', ':')
	return true
}

// done ends a member. After one that was read it comes to the name of the next.
func (c *coder) done() {
	if c.writing {
		return
	}
	switch c.in[c.pos] {
	case ',':
		c.name()
	case '}':
		c.next = 0
	default:
		c.fail("expected , or }")
	}
}

// name passes over a brace or comma and comes to the name of the member that follows.
func (c *coder) name() {
	at := c.pos + 2
	if c.in[at-1] != '"' {
		c.fail("expected a member")
		return
	}
	c.pos, c.next = at, c.in[at]
}

func (c *coder) at(b byte) bool { return c.in[c.pos] == b }

// str codes a string, left out where empty. S may be any string type.
func str[S ~string](c *coder, name string, v *S) {
	if c.next == name[0] || c.writing {
		text(c, name, v)
	}
}

func text[S ~string](c *coder, name string, v *S) {
	if c.writing {
		if *v != "" {
			c.begin(name)
			c.quote(string(*v))
		}
		return
	}
	if s, ok := c.quoted(name); ok {
		*v = S(s)
	}
}

// quoted reads a member whose value is a string, if it is the next one.
func (c *coder) quoted(name string) (string, bool) {
	if !c.named(name) {
		return "", false
	}
	in := c.in
	if in[c.pos] == '"' { // then this is almost always there: a plain string, and the next member or the object's end
		start := c.pos + 1
		end := plain(in, start)
		switch {
		case in[end] != '"' || end == start:
		case in[end+1] == ',' && in[end+2] == '"':
			c.pos, c.next = end+3, in[end+3]
			return in[start:end], true
		case in[end+1] == '}':
			c.pos, c.next = end+1, 0
			return in[start:end], true
		}
	}
	s := c.unquote()
	c.present(name, s != "")
	c.done()
	return s, true
}

// present fails for a member that was read and, being zero, should have been left out.
func (c *coder) present(name string, present bool) {
	if !present {
		c.fail("%s: a zero value is left out", name)
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
	c.done()
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
	for c.in[end] >= '0' && c.in[end] <= '9' || c.in[end] == '-' {
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
	c.done()
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
	} else {
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

// digits codes the value of a number, and ends its member.
func (c *coder) digits(name string, v *Decimal) {
	if c.writing {
		c.out = append(c.out, '"')
		c.out = append(c.out, v.String()...)
		c.out = append(c.out, '"')
		return
	}
	if d, size := short(c.in[c.pos:]); size > 0 {
		*v = d
		c.pos += size
		c.done()
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
	c.done()
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
	c.done()
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
	c.done()
}

// strictBase64 refuses bits that do not count.
var strictBase64 = base64.StdEncoding.Strict()

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
	b, err := strictBase64.DecodeString(s)
	if err != nil || len(s) != base64.StdEncoding.EncodedLen(len(b)) { // the decoder passes over ends of lines
		c.fail("%s: expected base64", name)
	}
	*v = b
	c.present(name, len(b) > 0)
	c.done()
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
	c.done()
}

// structure codes a struct, left out where it is not present, which is where all its members are zero.
func structure[T any](c *coder, name string, v *T, present bool, code func(*T, *coder)) {
	if c.next == name[0] || c.writing && present {
		substructure(c, name, v, code)
	}
}

func substructure[T any](c *coder, name string, v *T, code func(*T, *coder)) {
	if c.member(name, true) {
		c.open()
		c.present(name, c.writing || c.next != 0)
		code(v, c)
		c.close()
		c.done()
	}
}

// required codes a struct that is written also where all its members are zero.
func required[T any](c *coder, name string, v *T, code func(*T, *coder)) {
	if c.member(name, true) {
		c.open()
		code(v, c)
		c.close()
		c.done()
	} else {
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
	c.open()
	code(*v, c)
	c.close()
	c.done()
}

// list codes structs, left out where there are none.
func list[T any](c *coder, name string, v *[]T, code func(*T, *coder)) {
	if c.next == name[0] || c.writing {
		elements(c, name, v, code)
	}
}

func elements[T any](c *coder, name string, v *[]T, code func(*T, *coder)) {
	if c.writing {
		if len(*v) > 0 {
			c.begin(name)
			for i := range *v {
				c.separate(i)
				c.open()
				code(&(*v)[i], c)
				c.close()
			}
			c.out = append(c.out, ']')
		}
		return
	}
	if !c.named(name) {
		return
	}
	start := c.pos
	list := make([]T, 0, c.count())
	for c.another(len(list)) {
		if n := len(list); n == cap(list) {
			// As many more as there is room for, were they like those so far.
			list = slices.Grow(list, min(7*n, (c.size-c.pos)*n/(c.pos-start)+1))
		}
		list = list[:len(list)+1]
		c.open()
		code(&list[len(list)-1], c)
		c.close()
	}
	*v = list
	c.done()
}

// count returns how many structs to make room for in the list that comes next: as many as it seems to have, or a few.
func (c *coder) count() int {
	rest := c.in[c.pos:]
	return max(1, min(strings.Count(rest[:strings.IndexByte(rest, ']')+1], "{"), 4))
}

// strs codes strings, left out where there are none.
func (c *coder) strs(name string, v *[]string) {
	if !c.member(name, len(*v) > 0) {
		return
	}
	if c.writing {
		for i, s := range *v {
			c.separate(i)
			c.quote(s)
		}
		c.out = append(c.out, ']')
		return
	}
	for c.another(len(*v)) {
		*v = append(*v, c.unquote())
	}
	c.done()
}

// separate writes what stands before the n-th element of a list.
func (c *coder) separate(n int) {
	if n == 0 {
		c.out = append(c.out, '[')
	} else {
		c.out = append(c.out, ',')
	}
}

// another passes over what stands before the n-th element of a list, or after the last, and reports whether there is
// an n-th. A list has a first one.
func (c *coder) another(n int) bool {
	switch {
	case n == 0 && !c.at('['):
		c.fail("expected a list")
	case n == 0 || c.at(','):
		c.pos++
		return true
	case c.at(']'):
		c.pos++
	default:
		c.fail("expected , or ]")
	}
	return false
}
