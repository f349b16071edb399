package domain

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/govalues/decimal"
)

// A Decimal is an exact decimal number of at most 19 digits in canonical form: without trailing zeros, so that equal
// numbers are equal values under ==. The zero Decimal is 0. No operation rounds: one that cannot be exact fails.
type Decimal struct{ d decimal.Decimal }

// ErrInexact is returned where a result, or a step on the way to it, has more digits than a Decimal holds.
var ErrInexact = errors.New("the result cannot be kept exactly in 19 digits")

// Whole returns n as a Decimal.
func Whole(n int64) Decimal { return canonical(decimal.MustNew(n, 0)) }

// ParseDecimal reads a number such as -12.50. It takes neither exponents nor a leading plus or point.
func ParseDecimal(s string) (Decimal, error) {
	if !plainNumber(s) {
		return Decimal{}, fmt.Errorf("%.40q is not a decimal number", s)
	}
	d, err := decimal.Parse(s)
	if err != nil || d.Scale() < fractionDigits(s) {
		return Decimal{}, fmt.Errorf("%.40q has more than 19 digits", s)
	}
	return canonical(d), nil
}

// MustDecimal is ParseDecimal for constants; it panics on anything that is not a number.
func MustDecimal(s string) Decimal {
	d, err := ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return d
}

// plainNumber reports whether s is -?digits(.digits)? without superfluous leading zeros.
func plainNumber(s string) bool {
	if len(s) > 0 && s[0] == '-' {
		s = s[1:]
	}
	digits := func() int {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	n := digits()
	if n == 0 || n > 1 && s[0] == '0' {
		return false
	}
	if s = s[n:]; s == "" {
		return true
	}
	if s[0] != '.' {
		return false
	}
	s = s[1:]
	n = digits()
	return n > 0 && n == len(s)
}

func fractionDigits(s string) int {
	for i := range len(s) {
		if s[i] == '.' {
			return len(s) - i - 1
		}
	}
	return 0
}

// canonical drops trailing zeros and the sign of zero.
func canonical(d decimal.Decimal) Decimal {
	d = d.Trim(0)
	if d.IsZero() {
		d = decimal.Zero
	}
	return Decimal{d}
}

func exact(d decimal.Decimal, err error) (Decimal, error) {
	if err != nil {
		return Decimal{}, ErrInexact
	}
	return canonical(d), nil
}

// alike reports whether two numbers differ in their coefficients only, and neither is negative or near the limits, as
// is true of most quantities. What they come to takes no more than whole numbers then.
func alike(a, b Decimal) bool {
	return a.d.Scale() == b.d.Scale() && !a.d.IsNeg() && !b.d.IsNeg() && a.d.Coef()|b.d.Coef() < 1<<62
}

// scaled returns n with the scale of like.
func scaled(n int64, like Decimal) (Decimal, error) {
	d, err := decimal.New(n, like.d.Scale())
	if err == nil && n != 0 && like.d.Scale() == 0 {
		return Decimal{d}, nil
	}
	return exact(d, err)
}

// Add returns a + b.
func (a Decimal) Add(b Decimal) (Decimal, error) {
	switch {
	case a == Decimal{}:
		return b, nil
	case b == Decimal{}:
		return a, nil
	case alike(a, b):
		return scaled(int64(a.d.Coef()+b.d.Coef()), a)
	}
	return exact(a.d.AddExact(b.d, max(a.d.Scale(), b.d.Scale())))
}

// Sub returns a − b.
func (a Decimal) Sub(b Decimal) (Decimal, error) {
	switch {
	case b == Decimal{}:
		return a, nil
	case alike(a, b):
		return scaled(int64(a.d.Coef())-int64(b.d.Coef()), a)
	}
	return exact(a.d.SubExact(b.d, max(a.d.Scale(), b.d.Scale())))
}

// Mul returns a × b.
func (a Decimal) Mul(b Decimal) (Decimal, error) {
	return exact(a.d.MulExact(b.d, a.d.Scale()+b.d.Scale()))
}

// Quo returns a ÷ b. It fails where the quotient has no end, and for a zero b.
func (a Decimal) Quo(b Decimal) (Decimal, error) {
	q, err := a.d.Quo(b.d)
	if err != nil {
		return Decimal{}, ErrInexact
	}
	if back, err := canonical(q).Mul(b); err != nil || back != a {
		return Decimal{}, ErrInexact
	}
	return canonical(q), nil
}

// Neg returns −a.
func (a Decimal) Neg() Decimal { return canonical(a.d.Neg()) }

// Cmp compares two numbers: −1 where a is smaller, 0 where they are equal, 1 where a is larger.
func (a Decimal) Cmp(b Decimal) int {
	if alike(a, b) {
		return cmp.Compare(a.d.Coef(), b.d.Coef())
	}
	return a.d.Cmp(b.d)
}

// Less reports whether a < b.
func (a Decimal) Less(b Decimal) bool { return a.Cmp(b) < 0 }

// Sign returns −1, 0 or 1.
func (a Decimal) Sign() int { return a.d.Sign() }

// IsZero reports whether a is 0.
func (a Decimal) IsZero() bool { return a.d.IsZero() }

// Scale returns the number of digits after the point.
func (a Decimal) Scale() int { return a.d.Scale() }

// Fixed writes the number with the given digits after the point, rounded half to even: for people, never for storage.
func (a Decimal) Fixed(digits int) string { return a.d.Rescale(digits).String() }

func (a Decimal) String() string { return a.d.String() }

// MarshalText writes the number as ParseDecimal reads it. In JSON a Decimal is a string.
func (a Decimal) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what ParseDecimal reads.
func (a *Decimal) UnmarshalText(text []byte) error {
	d, err := ParseDecimal(string(text))
	if err != nil {
		return err
	}
	*a = d
	return nil
}

// less returns a − b for quantities of which b is known to be part of a.
func less(a, b Decimal) Decimal {
	d, err := a.Sub(b)
	if err != nil {
		return Decimal{}
	}
	return d
}

// plus returns a + b for quantities whose sum is bounded by an order's own quantities.
func plus(a, b Decimal) Decimal {
	d, err := a.Add(b)
	if err != nil {
		return a
	}
	return d
}

func minDecimal(a, b Decimal) Decimal {
	if b.Less(a) {
		return b
	}
	return a
}
