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
func totalsOf(d *Details, lines []OrderLine) (Totals, error) {
	var sum adder
	for i := range lines {
		sum.line(&lines[i].Line, lines[i].Active())
	}
	return sum.total(d)
}

// totalsAsked are the totals of a new order, all of which is wanted.
func totalsAsked(d *Details, lines []Line) (Totals, error) {
	var sum adder
	for i := range lines {
		sum.line(&lines[i], lines[i].Quantity)
	}
	return sum.total(d)
}

// An adder sums up and remembers the first failure.
type adder struct {
	Totals
	any bool // something is wanted
	err error
}

func (s *adder) line(l *Line, wanted Decimal) {
	if wanted.IsZero() {
		return
	}
	s.any = true
	amount, err := l.Price.AmountOf(wanted)
	s.check(err)
	s.add(&s.Lines, amount)
	s.adjust(l.Adjustments, l.Taxes)
}

func (s *adder) total(d *Details) (Totals, error) {
	if s.any {
		s.adjust(d.Adjustments, d.Taxes)
	}
	total, err := s.Lines.Add(s.Charges)
	s.check(err)
	total, err = total.Sub(s.Allowances)
	s.check(err)
	total, err = total.Add(s.Taxes)
	s.check(err)
	s.Total = total
	return s.Totals, s.err
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
