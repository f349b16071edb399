package domain

import (
	"math/bits"
	"strings"
	"unicode/utf8"

	"github.com/govalues/decimal"
)

const hexDigits = "0123456789abcdef"

// unhex has the values of hexadecimal digits, and 255 for what is none.
var unhex = func() (values [256]byte) {
	for i := range values {
		values[i] = 255
	}
	for i, digit := range []byte(hexDigits) {
		values[digit] = byte(i)
	}
	return values
}()

// quote writes a JSON string. Only what must be escaped is.
func (c *coder) quote(s string) {
	c.out = append(c.out, '"')
	start, first := 0, plain(s, 0)
	if first < len(s) && !utf8.ValidString(s[first:]) {
		c.fail("a string is not UTF-8")
		return
	}
	for i := first; i < len(s); i++ {
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

// each has a 1 in each of the eight bytes of a word.
const each = 0x0101010101010101

// unquote reads a JSON string.
func (c *coder) unquote() string {
	if !c.at('"') {
		c.fail("expected a string")
		return ""
	}
	start := c.pos + 1
	end := plain(c.in, start)
	if c.peek(end) != '"' {
		return c.unescape(start, end)
	}
	c.pos = end + 1
	return c.in[start:end]
}

// plain returns the end of the run of plain bytes that begins at i: ASCII that stands in a JSON string for itself.
func plain(s string, i int) int {
	for ; i+8 <= len(s); i += 8 {
		if other := unplain(word(s, i)); other != 0 {
			return i + bits.TrailingZeros64(other)/8
		}
	}
	for i < len(s) && s[i] >= ' ' && s[i] != '"' && s[i] != '\\' && s[i] < utf8.RuneSelf {
		i++
	}
	return i
}

// unplain finds the first of eight bytes that is not plain: its highest bit is set, and of the bytes below it no bit.
// The others mean nothing. It returns 0 where all eight are plain.
func unplain(w uint64) uint64 {
	// Turning one bit over puts the quote beside the control characters, and leaves these where they are.
	quote, backslash := w^each*2, w^each*'\\'
	return ((quote - each*(' '+1)) | (backslash - each) | w) & (each * 0x80)
}

// word returns the eight bytes of s that begin at i, the first one lowest.
func word(s string, i int) uint64 {
	s = s[i : i+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// short reads a quoted number of at most 18 digits that begins at i, in the one form that String gives it, and returns
// where it ends, or 0 for anything else.
func short(s string, i int) (Decimal, int) {
	if uint(i) >= uint(len(s)) || s[i] != '"' {
		return Decimal{}, 0
	}
	i++
	negative := uint(i) < uint(len(s)) && s[i] == '-'
	if negative {
		i++
	}
	first, point := i, 0
	var n int64
	for ; uint(i) < uint(len(s)); i++ {
		if digit := s[i] - '0'; digit <= 9 {
			n = 10*n + int64(digit)
		} else if s[i] == '.' && point == 0 {
			point = i
		} else {
			break
		}
	}
	if uint(i) >= uint(len(s)) || s[i] != '"' || i == first || i-first > 18 {
		return Decimal{}, 0
	}
	scale := 0
	switch {
	case point == first, s[first] == '0' && point != first+1 && i > first+1, n == 0 && i > first+1, negative && n == 0:
		return Decimal{}, 0
	case point > 0:
		scale = i - point - 1
		if s[i-1] == '0' || scale == 0 {
			return Decimal{}, 0
		}
	}
	if negative {
		n = -n
	}
	d, err := decimal.New(n, scale)
	if err != nil {
		return Decimal{}, 0
	}
	return Decimal{d}, i + 1
}

// unescape reads the string that begins at start and is plain up to i.
func (c *coder) unescape(start, i int) string {
	var b strings.Builder
	escaped := false
	for {
		switch ch := c.peek(i); {
		case ch == '"':
			s := c.in[start:i]
			if escaped {
				_, _ = b.WriteString(s)
				s = b.String()
			}
			if !utf8.ValidString(s) {
				c.fail("a string is not UTF-8")
				return ""
			}
			c.pos = i + 1
			return s
		case ch >= utf8.RuneSelf:
			i = plain(c.in, i+1)
		case ch == '\\':
			ch, size := unescapeByte(c.in[i:])
			if size == 0 {
				c.pos = i
				c.fail("bad escape in a string")
				return ""
			}
			_, _ = b.WriteString(c.in[start:i])
			_ = b.WriteByte(ch)
			escaped = true
			start = i + size
			i = plain(c.in, start)
		case i == len(c.in):
			c.fail("a string has no end")
			return ""
		default:
			c.pos = i
			c.fail("control character in a string")
			return ""
		}
	}
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
