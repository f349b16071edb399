package domain

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
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

	in   string // what is read
	pos  int    // how much of in has been read
	next byte   // begins the name of the next member, which stands at pos; 0 at the end of an object
	err  error

	room room // for lists
}

// A coded value describes its members.
type coded interface{ code(*coder) }

// writers are coders that have written and have memory to write more.
var writers = sync.Pool{New: func() any { return &coder{writing: true} }}

// maxWriter is how much memory a writer may keep, in bytes: more than most events need.
const maxWriter = 64 << 10

// newWriter returns a coder that has written nothing. It is to be freed.
func newWriter() *coder { return writers.Get().(*coder) }

// free ends the use of what the coder has written, and leaves no trace of it.
func (c *coder) free() {
	clear(c.out)
	c.out, c.err = c.out[:0], nil
	if cap(c.out) <= maxWriter {
		writers.Put(c)
	}
}

// write writes a value behind what was written.
func (c *coder) write(v coded) {
	c.open()
	v.code(c)
	c.close()
}

// encode returns the canonical JSON of a value.
func encode(v coded) ([]byte, error) {
	w := newWriter()
	defer w.free()
	w.write(v)
	return slices.Clone(w.out), w.err
}

// decode reads the canonical JSON of a value. The strings it sets share one copy of data.
func decode(data []byte, v coded) error {
	return new(coder).read(string(data), v)
}

// read reads a value. The strings it sets are parts of data.
func (c *coder) read(data string, v coded) error {
	c.in, c.pos, c.next, c.err = data, 0, 0, nil
	c.open()
	v.code(c)
	c.close()
	if c.err == nil && c.pos != len(data) {
		c.fail("more follows the value")
	}
	return c.err
}

// fail remembers the first failure. Nothing is read after it.
func (c *coder) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("byte %d: %s", c.pos, fmt.Sprintf(format, args...))
		c.next, c.pos = 0, len(c.in)
	}
}

// open begins an object. Its members follow, and then close.
func (c *coder) open() {
	if i := c.pos + 2; uint(i) < uint(len(c.in)) && c.in[i-1] == '"' && c.in[i-2] == '{' {
		c.pos, c.next = i, c.in[i]
	} else {
		c.anyObject()
	}
}

func (c *coder) anyObject() {
	switch {
	case c.writing:
		c.out = append(c.out, '{')
		c.first = true
	case c.at('{') && c.peek(c.pos+1) == '}':
		c.pos++
		c.next = 0
	default:
		c.fail("expected an object")
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
	end := c.pos + len(name) + 2
	if end <= len(c.in) && c.in[end-2:end] == `":` && c.in[c.pos:end-2] == name {
		c.pos = end
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
	if !c.writing && !c.follow(c.pos) {
		c.fail("expected , or } after a value")
	}
}

// follow passes over what stands at i after the value of a member: a comma and what begins the name of the next one, or
// nothing where the object ends.
func (c *coder) follow(i int) bool {
	in := c.in
	if uint(i) < uint(len(in)) {
		if in[i] == '}' {
			c.pos, c.next = i, 0
			return true
		}
		if i += 2; uint(i) < uint(len(in)) && in[i-1] == '"' && in[i-2] == ',' {
			c.pos, c.next = i, in[i]
			return true
		}
	}
	return false
}

// peek returns the byte at i, or 0 behind the last. A NUL may stand nowhere.
func (c *coder) peek(i int) byte {
	if uint(i) < uint(len(c.in)) {
		return c.in[i]
	}
	return 0
}

func (c *coder) at(b byte) bool { return c.peek(c.pos) == b }

// str codes a string, left out where empty.
func str(c *coder, name string, v *string) {
	if c.next == name[0] || c.writing {
		c.text(name, v)
	}
}

func (c *coder) text(name string, v *string) {
	if !c.named(name) {
		if c.writing && *v != "" {
			c.begin(name)
			c.quote(*v)
		}
		return
	}
	// This is almost always there: a plain string, and then the next member or the object's end.
	if rest := c.in[c.pos:]; len(rest) > 0 && rest[0] == '"' {
		end := plain(rest, 1)
		if end > 1 && end+3 < len(rest) && rest[end] == '"' {
			switch rest[end+1] {
			case '}':
				*v = rest[1:end]
				c.pos, c.next = c.pos+end+1, 0
				return
			case ',':
				if rest[end+2] == '"' {
					*v = rest[1:end]
					c.pos, c.next = c.pos+end+3, rest[end+3]
					return
				}
			}
		}
	}
	c.anyText(name, v)
}

func (c *coder) anyText(name string, v *string) {
	*v = c.unquote()
	c.present(name, *v != "")
	c.done()
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
	for c.peek(end)-'0' <= 9 || c.peek(end) == '-' {
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
	switch {
	case c.writing:
		c.begin(name)
		c.digits(name, v)
	case c.next == name[0] && c.named(name):
		c.digits(name, v)
	default:
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
		c.out, _ = v.d.AppendText(c.out) // it never fails
		c.out = append(c.out, '"')
		return
	}
	if d, end := short(c.in, c.pos); end > 0 && c.follow(end) {
		*v = d
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
		c.out = append(c.out, '"')
		c.out = appendUUID(c.out, *v)
		c.out = append(c.out, '"')
		return
	}
	s := c.unquote()
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		c.fail("%s: expected a UUID", name)
		return
	}
	bad := byte(0)
	for i, at := range [...]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34} {
		high, low := unhex[s[at]], unhex[s[at+1]]
		v[i] = high<<4 | low
		bad |= high | low
	}
	if bad > 15 {
		c.fail("%s: expected a UUID", name)
	}
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
	b, err := strictBase64.AppendDecode(c.room.bytes.take(strictBase64.DecodedLen(len(s))), []byte(s))
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
	if c.writing {
		c.begin(name)
	} else if !c.named(name) {
		return
	}
	c.open()
	if c.next == 0 {
		c.present(name, c.writing)
	}
	code(v, c)
	c.close()
	c.done()
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
		elements(c, name, v, nil, code)
	}
}

// roomy is list for structs of which there are many. They are read into the area of the room that is for them.
func roomy[T any](c *coder, name string, v *[]T, area *area[T], code func(*T, *coder)) {
	if c.next == name[0] || c.writing {
		elements(c, name, v, area, code)
	}
}

func elements[T any](c *coder, name string, v *[]T, area *area[T], code func(*T, *coder)) {
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
	if !c.at('[') {
		c.fail("expected a list")
		return
	}
	list := area.begin()
	for more := true; more; more = c.at(',') {
		c.pos++
		if n := len(list); n == cap(list) {
			list = area.grow(list, max(1, c.more(n, start)))
		}
		list = list[:len(list)+1]
		c.open()
		code(&list[len(list)-1], c)
		c.close()
	}
	area.keep(list)
	*v = list[:len(list):len(list)]
	if !c.at(']') {
		c.fail("expected , or ]")
		return
	}
	c.pos++
	c.done()
}

// more returns how many structs to make room for in a list that began at start, of which n have been read.
func (c *coder) more(n, start int) int {
	if n > 0 { // as many more as there is input for, were they like those so far
		return min(7*n, (len(c.in)-c.pos)*n/(c.pos-start)+1)
	}
	rest := c.in[c.pos:] // as many as there seem to be, or a few
	return min(strings.Count(rest[:strings.IndexByte(rest, ']')+1], "{"), 4)
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
