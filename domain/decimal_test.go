package domain_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
)

// Every operation is exact, as in rational numbers, or fails.
func TestDecimalArithmetic(t *testing.T) {
	operations := []struct {
		name string
		do   func(a, b domain.Decimal) (domain.Decimal, error)
		want func(a, b *big.Rat) *big.Rat
		// scale is how many digits after the point the operation works with: at that scale an exact result that
		// has no more than 19 digits must come.
		scale func(a, b domain.Decimal) int
	}{
		{
			"+", domain.Decimal.Add, func(a, b *big.Rat) *big.Rat { return a.Add(a, b) },
			func(a, b domain.Decimal) int { return max(a.Scale(), b.Scale()) },
		},
		{
			"−", domain.Decimal.Sub, func(a, b *big.Rat) *big.Rat { return a.Sub(a, b) },
			func(a, b domain.Decimal) int { return max(a.Scale(), b.Scale()) },
		},
		{
			"×", domain.Decimal.Mul, func(a, b *big.Rat) *big.Rat { return a.Mul(a, b) },
			func(a, b domain.Decimal) int { return a.Scale() + b.Scale() },
		},
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyDecimal().Draw(t, "a"), anyDecimal().Draw(t, "b")
		for _, o := range operations {
			got, err := o.do(a, b)
			want := o.want(rat(a), rat(b))
			if err == nil {
				if rat(got).Cmp(want) != 0 {
					t.Fatalf("%v %s %v is %v and should be %v", a, o.name, b, got, want)
				}
				wantCanonical(t, got)
				continue
			}
			if !errors.Is(err, domain.ErrInexact) || !got.IsZero() {
				t.Fatalf("%v %s %v: %v, %v", a, o.name, b, got, err)
			}
			scale := o.scale(a, b)
			if digits := strings.TrimLeft(strings.Replace(want.FloatString(scale), ".", "", 1), "-0"); scale <= 19 && len(digits) <= 19 {
				t.Fatalf("%v %s %v is %s and was refused", a, o.name, b, want.FloatString(scale))
			}
		}
		if a.Cmp(b) != rat(a).Cmp(rat(b)) || a.Less(b) != (rat(a).Cmp(rat(b)) < 0) || a.Sign() != rat(a).Sign() ||
			a.IsZero() != (rat(a).Sign() == 0) || (a == b) != (a.Cmp(b) == 0) {
			t.Fatalf("%v and %v are compared wrongly", a, b)
		}
		if rat(a.Neg()).Cmp(new(big.Rat).Neg(rat(a))) != 0 {
			t.Fatalf("−%v is %v", a, a.Neg())
		}
		wantCanonical(t, a.Neg())
	})
}

// A quotient is exact or refused, and amounts of a believable size that have an end are not refused.
func TestDecimalQuo(t *testing.T) {
	small := rapid.Map(rapid.StringMatching(`-?[1-9][0-9]{0,5}(\.[0-9]{1,3})?`), domain.MustDecimal)
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.OneOf(small, anyDecimal()).Draw(t, "a"), rapid.OneOf(small, anyDecimal()).Draw(t, "b")
		got, err := a.Quo(b)
		if err == nil {
			if rat(got).Cmp(new(big.Rat).Quo(rat(a), rat(b))) != 0 {
				t.Fatalf("%v ÷ %v is not %v", a, b, got)
			}
			wantCanonical(t, got)
		} else if !errors.Is(err, domain.ErrInexact) {
			t.Fatal(err)
		}
		// Whatever was multiplied can be divided again.
		c, d := small.Draw(t, "c"), small.Draw(t, "d")
		product, err := c.Mul(d)
		if err != nil {
			return
		}
		if back, err := product.Quo(d); err != nil || back != c {
			t.Fatalf("%v × %v ÷ %v is %v, %v", c, d, d, back, err)
		}
	})
	if _, err := domain.Whole(1).Quo(domain.Decimal{}); !errors.Is(err, domain.ErrInexact) {
		t.Errorf("1 ÷ 0: %v", err)
	}
	if q, err := domain.Whole(2).Quo(domain.Whole(3)); err == nil {
		t.Errorf("2 ÷ 3 is %v", q)
	}
}

func wantCanonical(t rapid.TB, d domain.Decimal) {
	t.Helper()
	s := d.String()
	if s == "-0" || strings.Contains(s, ".") && strings.HasSuffix(s, "0") {
		t.Fatalf("%s is not in canonical form", s)
	}
	if back, err := domain.ParseDecimal(s); err != nil || back != d {
		t.Fatalf("%s is read as %v, %v", s, back, err)
	}
}

func TestParseDecimal(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "-0": "0", "0.0": "0", "-0.000": "0", "1": "1", "10": "10", "1.0": "1", "1.50": "1.5", "-12.50": "-12.5",
		"0.1": "0.1", "100.00": "100", "9999999999999999999": "9999999999999999999", "-9999999999999999999": "-9999999999999999999",
		"0.9999999999999999999": "0.9999999999999999999", "0.0000000000000000001": "0.0000000000000000001",
		"123456789.1234567890": "123456789.123456789",
	} {
		got, err := domain.ParseDecimal(text)
		if err != nil || got.String() != want {
			t.Errorf("%s is read as %v, %v", text, got, err)
			continue
		}
		wantCanonical(t, got)
	}
	for _, text := range []string{
		"", " ", "-", ".", "+1", "1.", ".5", "-.5", "01", "00", "-01", "1e3", "1E3", "1e400", "0x1", "1,5", "1 000", "1_000",
		"1.2.3", "--1", "1-", "NaN", "Inf", "-Infinity", "١", "½", "1\x00", " 1", "1 ", "1\n",
		"10000000000000000000", "0.00000000000000000001", "1234567890.1234567890123", strings.Repeat("9", 1000), "0." + strings.Repeat("0", 1000),
	} {
		if d, err := domain.ParseDecimal(text); err == nil {
			t.Errorf("%.50q is read as %v", text, d)
		} else if len(err.Error()) > 100 {
			t.Errorf("%.50q: the error repeats it all", text)
		}
	}
}

func TestDecimalJSON(t *testing.T) {
	type document struct{ D *domain.Decimal }
	d := num("-12.5")
	b, err := json.Marshal(document{&d})
	if err != nil || string(b) != `{"D":"-12.5"}` {
		t.Errorf("%s, %v", b, err)
	}
	var back document
	if err := json.Unmarshal([]byte(`{"D":"-12.50"}`), &back); err != nil || *back.D != d {
		t.Errorf("%v, %v", back.D, err)
	}
	for _, text := range []string{`{"D":12.5}`, `{"D":"1e3"}`, `{"D":""}`, `{"D":true}`} {
		back = document{}
		if err := json.Unmarshal([]byte(text), &back); err == nil {
			t.Errorf("%s is read as %v", text, back.D)
		}
	}
}

// Fixed is for people: it rounds half to even and fills up with zeros.
func TestDecimalFixed(t *testing.T) {
	for _, test := range []struct {
		number string
		digits int
		want   string
	}{
		{"0", 2, "0.00"},
		{"12.5", 2, "12.50"},
		{"12.5", 0, "12"},
		{"13.5", 0, "14"},
		{"-12.5", 0, "-12"},
		{"0.125", 2, "0.12"},
		{"0.135", 2, "0.14"},
		{"0.1251", 2, "0.13"},
		{"-0.004", 2, "0.00"},
		{"1234567.891", 3, "1234567.891"},
		{"1234567.8911", 0, "1234568"},
		{"9999999999999999999", 0, "9999999999999999999"},
	} {
		if got := num(test.number).Fixed(test.digits); got != test.want {
			t.Errorf("%s with %d digits is %s and should be %s", test.number, test.digits, got, test.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.Map(rapid.StringMatching(`-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?`), domain.MustDecimal).Draw(t, "d")
		digits := rapid.IntRange(0, 4).Draw(t, "digits")
		off := new(big.Rat).Sub(rat(d), mustRat(t, d.Fixed(digits)))
		half := mustRat(t, "1/2")
		for range digits {
			half.Quo(half, big.NewRat(10, 1))
		}
		if off.Abs(off).Cmp(half) > 0 {
			t.Fatalf("%v with %d digits is %s", d, digits, d.Fixed(digits))
		}
	})
}

func mustRat(t rapid.TB, s string) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		t.Fatalf("%q is no number", s)
	}
	return r
}

func TestMustDecimalPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it did not")
		}
	}()
	domain.MustDecimal("twelve")
}

func FuzzParseDecimal(f *testing.F) {
	for _, s := range []string{"0", "-0", "12.50", "0.0000000000000000001", "9999999999999999999", "1e5", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := domain.ParseDecimal(s)
		if err != nil {
			return
		}
		wantCanonical(t, d)
		if rat(d).Cmp(mustRat(t, s)) != 0 {
			t.Fatalf("%q is read as %v", s, d)
		}
	})
}
