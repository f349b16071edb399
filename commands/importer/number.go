package importer

import (
	"strings"

	"github.com/orderledger/orderledger/domain"
)

// number reads a number as the marks of its field have it. It is strict: a number in another country's form would else
// become a thousand times what it is.
func (b *builder) number(r record, f *boundField) (domain.Decimal, *reject) {
	value, known := f.value(r)
	switch {
	case !known:
		return domain.Decimal{}, r.unknown(f)
	case value == "":
		return domain.Decimal{}, r.reject(f.Column, "missing", "a number is required")
	}
	if f.Decimal != "" || f.Thousands != "" {
		value = plainNumber(value, f.decimal(), f.Thousands)
	}
	d, err := domain.ParseDecimal(value)
	if err != nil {
		return d, r.reject(f.Column, "not_a_number", "a number is written as -12.50, with the mapping's own marks")
	}
	return d, nil
}

// plainNumber writes a number with a point and without marks between groups of digits. It returns what is no number
// where the marks do not stand where they belong.
func plainNumber(value, decimal, thousands string) string {
	whole, fraction, fractional := strings.Cut(value, decimal)
	if strings.Contains(whole, ".") && thousands != "." || strings.Contains(fraction, ".") {
		return ""
	}
	if thousands != "" && strings.Contains(whole, thousands) {
		groups := strings.Split(whole, thousands)
		if first := strings.TrimPrefix(groups[0], "-"); first == "" || len(first) > 3 {
			return ""
		}
		for i, digits := range groups[1:] {
			// Three digits each, but for the Indian way: 12,34,567.
			if len(digits) != 3 && (len(digits) != 2 || i == len(groups)-2) {
				return ""
			}
		}
		whole = strings.Join(groups, "")
	}
	if fractional {
		return whole + "." + fraction
	}
	return whole
}
