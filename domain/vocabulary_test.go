package domain_test

import (
	"bytes"
	"encoding/csv"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/realdata"
)

// The lists in the code are those of the standards' publishers.
func TestCountries(t *testing.T) {
	rows := table(t, "country-codes.csv")
	published := map[string]bool{}
	for _, row := range rows {
		if code := row["ISO3166-1-Alpha-2"]; code != "" {
			published[code] = true
		}
	}
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			if code := string([]rune{a, b}); domain.ValidCountry(code) != published[code] {
				t.Errorf("country %s: valid %v, published %v", code, domain.ValidCountry(code), published[code])
			}
		}
	}
}

func TestCurrencies(t *testing.T) {
	notPaid := []string{"BOV", "CHE", "CHW", "COU", "MXV", "USN", "XAD"} // units of account
	published, withdrawn := map[string]string{}, map[string]bool{}
	for _, row := range table(t, "iso4217-codes-all.csv") {
		switch code := row["AlphabeticCode"]; {
		case code == "":
		case row["WithdrawalDate"] == "":
			published[code] = row["MinorUnit"]
		case row["WithdrawalDate"] >= "2025":
			withdrawn[code] = true
		}
	}
	for code, minor := range published {
		want, err := strconv.Atoi(minor)
		got, ok := domain.MinorUnits(code)
		if taken := err == nil && !slices.Contains(notPaid, code); ok != taken || ok && got != want {
			t.Errorf("currency %s has %q digits; %d, %v here", code, minor, got, ok)
		}
	}
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			for c := 'A'; c <= 'Z'; c++ {
				code := string([]rune{a, b, c})
				if _, ok := domain.MinorUnits(code); ok && published[code] == "" && !withdrawn[code] {
					t.Errorf("currency %s is not published", code)
				}
			}
		}
	}
}

func TestVocabularyTakesWholeCodesOnly(t *testing.T) {
	for _, code := range []string{"", " ", "  ", "   ", "D", "DEU", "de", "D ", " D", "E D", "EU ", " EU", "EUROS", "R U", "UR ", "eur", "UK", "ZZ"} {
		if domain.ValidCountry(code) {
			t.Errorf("%q is a country", code)
		}
		if _, ok := domain.MinorUnits(code); ok {
			t.Errorf("%q is a currency", code)
		}
	}
	for currency, want := range map[string]int{"JPY": 0, "EUR": 2, "TND": 3, "CLF": 4} {
		if digits, ok := domain.MinorUnits(currency); !ok || digits != want {
			t.Errorf("%s: %d, %v", currency, digits, ok)
		}
	}
}

func table(t *testing.T, name string) []map[string]string {
	t.Helper()
	text, err := os.ReadFile(realdata.Path(t, "vocab", name))
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(records) < 100 {
		t.Fatal(len(records), err)
	}
	var rows []map[string]string
	for _, record := range records[1:] {
		row := map[string]string{}
		for i, column := range records[0] {
			row[column] = record[i]
		}
		rows = append(rows, row)
	}
	return rows
}
