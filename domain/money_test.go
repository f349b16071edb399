package domain_test

import (
	"strings"
	"testing"

	"github.com/orderledger/orderledger/domain"
)

func TestMoney(t *testing.T) {
	for _, tt := range []struct{ amount, currency, want string }{
		{"0", "EUR", "0.00 EUR"},
		{"1249.5", "EUR", "1 249.50 EUR"},
		{"999.995", "EUR", "1 000.00 EUR"},
		{"0.125", "EUR", "0.12 EUR"},
		{"-123", "EUR", "-123.00 EUR"},
		{"-1234567.8", "EUR", "-1 234 567.80 EUR"},
		{"1249.5", "JPY", "1 250 JPY"},
		{"1.5", "KWD", "1.500 KWD"},
		{"1000.125", "???", "1 000.125 ???"},
		{"12", "???", "12 ???"},
	} {
		want := strings.ReplaceAll(tt.want, " ", "\u00a0")
		if got := domain.Money(domain.MustDecimal(tt.amount), tt.currency); got != want {
			t.Errorf("%s %s: got %q, want %q", tt.amount, tt.currency, got, want)
		}
	}
}
