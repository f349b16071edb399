package domain

import "strings"

// Money writes an amount for people: 1 249.50 EUR. It is rounded half to even to the currency's minor unit, or exact
// where the currency is not known. The spaces, one of which stands between every three digits before the point, do not
// break.
func Money(amount Decimal, currency string) string {
	digits, ok := MinorUnits(currency)
	if !ok {
		digits = amount.Scale()
	}
	const space = "\u00a0"
	whole, fraction, fractional := strings.Cut(amount.Fixed(digits), ".")
	var b strings.Builder
	if strings.HasPrefix(whole, "-") {
		b.WriteByte('-')
		whole = whole[1:]
	}
	for i, digit := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteString(space)
		}
		b.WriteRune(digit)
	}
	if fractional {
		b.WriteString("." + fraction)
	}
	return b.String() + space + currency
}

// AmountOf is what a line costs before allowances, charges and taxes: price × quantity ÷ base quantity, exact.
func (p Price) AmountOf(quantity Decimal) (Decimal, error) {
	amount, err := p.Amount.Mul(quantity)
	if err != nil || p.BaseQuantity == nil {
		return amount, err
	}
	return amount.Quo(*p.BaseQuantity)
}

// totalsOf sums up lines, of which quantity tells how much is wanted, and the adjustments and taxes of a whole order.
// Adjustments and taxes of lines of which nothing is wanted do not count, nor do those of an order without lines.
func totalsOf(d Details, lines []OrderLine) (Totals, error) {
	var sum adder
	any := false
	for _, l := range lines {
		active := l.Active()
		if active.IsZero() {
			continue
		}
		any = true
		amount, err := l.Price.AmountOf(active)
		sum.check(err)
		sum.add(&sum.Lines, amount)
		sum.adjust(l.Adjustments, l.Taxes)
	}
	if any {
		sum.adjust(d.Adjustments, d.Taxes)
	}
	total, err := sum.Lines.Add(sum.Charges)
	sum.check(err)
	total, err = total.Sub(sum.Allowances)
	sum.check(err)
	total, err = total.Add(sum.Taxes)
	sum.check(err)
	sum.Total = total
	return sum.Totals, sum.err
}

// An adder sums up and remembers the first failure.
type adder struct {
	Totals
	err error
}

func (s *adder) check(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *adder) add(to *Decimal, d Decimal) {
	sum, err := to.Add(d)
	s.check(err)
	*to = sum
}

func (s *adder) adjust(adjustments []Adjustment, taxes []Tax) {
	for _, a := range adjustments {
		if a.Kind == Allowance {
			s.add(&s.Allowances, a.Amount)
		} else {
			s.add(&s.Charges, a.Amount)
		}
	}
	for _, t := range taxes {
		s.add(&s.Taxes, t.Amount)
	}
}
