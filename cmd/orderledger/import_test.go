package main

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orderledger/orderledger/commands/importer"
	"github.com/orderledger/orderledger/internal/realdata"
	"github.com/orderledger/orderledger/projections"
)

// TestRealOrders takes in the invoices of a real shop, and compares what the read models say per customer, country and
// day with what a plain loop adds up from the file.
func TestRealOrders(t *testing.T) {
	file := realdata.Path(t, "online-retail", "online_retail_cc0.csv.gz")
	if !full {
		file = firstLines(t, file, 10_000)
	}
	want := addUp(t, file)
	dir := t.TempDir()
	data, rejects := filepath.Join(dir, "data"), filepath.Join(dir, "rejects.csv")
	args := []string{"import", "--json", "--data", data, "--log-level", "warn", "--rejects", rejects,
		"--map", filepath.Join("..", "..", "docs", "mappings", "online-retail.yaml"), file}

	first := importSummary(t, args)
	if first.Lines != want.lines || first.Rejected != want.rejected || first.Used != want.lines-want.rejected || first.Orders != want.orders || first.Repeated != 0 {
		t.Errorf("the import counts %+v, the file has %d lines, %d of them to be rejected, and %d orders", first, want.lines, want.rejected, want.orders)
	}
	if got := recordsIn(t, rejects); got != want.rejected {
		t.Errorf("%d lines stand among the rejects, want %d", got, want.rejected)
	}
	compareTotals(t, data, want)
	mustCommand(t, "verify", "--data", data)

	second := importSummary(t, args)
	if second.Repeated != first.Orders || second.Orders != first.Orders {
		t.Errorf("a second run takes in %+v", second)
	}
	mustCommand(t, "verify", "--data", data)
	mustCommand(t, "rebuild", "--data", data)
	mustCommand(t, "verify", "--data", data)
	compareTotals(t, data, want)
}

func importSummary(t *testing.T, args []string) importer.Summary {
	t.Helper()
	var s importer.Summary
	check(t, json.Unmarshal([]byte(mustCommand(t, args...)), &s))
	return s
}

// shopTotals are what the invoices of a shop come to.
type shopTotals struct {
	lines, rejected, orders int64
	money                   map[string]*big.Rat // by customer, country and day
}

// addUp reads a file of invoices and knows nothing of the importer. A line counts unless its price is below zero, or
// its quantity outside of a credit.
func addUp(t *testing.T, name string) shopTotals {
	t.Helper()
	f, err := os.Open(name)
	check(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	check(t, err)
	codes := map[string]string{ // of the countries, as the ledger knows them
		"United Kingdom": "GB", "France": "FR", "Australia": "AU", "Netherlands": "NL", "Germany": "DE", "Norway": "NO", "EIRE": "IE",
		"Switzerland": "CH", "Spain": "ES", "Poland": "PL", "Portugal": "PT", "Italy": "IT", "Belgium": "BE", "Lithuania": "LT",
		"Japan": "JP", "Iceland": "IS", "Denmark": "DK", "Cyprus": "CY", "Sweden": "SE", "Austria": "AT", "Israel": "IL",
		"Finland": "FI", "Bahrain": "BH", "Greece": "GR", "Hong Kong": "HK", "Singapore": "SG", "Lebanon": "LB",
		"United Arab Emirates": "AE", "Saudi Arabia": "SA", "Czech Republic": "CZ", "Canada": "CA", "Brazil": "BR", "USA": "US",
		"Malta": "MT", "RSA": "ZA", "Channel Islands": "", "Unspecified": "", "European Community": "",
	}
	london, err := time.LoadLocation("Europe/London")
	check(t, err)
	totals := shopTotals{money: make(map[string]*big.Rat)}
	invoices := make(map[string]bool)
	rows := csv.NewReader(z)
	_, err = rows.Read()
	check(t, err)
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			totals.orders = int64(len(invoices))
			return totals
		}
		check(t, err)
		totals.lines++
		invoice, customer, country := row[0], row[6], row[7]
		quantity, ok1 := new(big.Rat).SetString(row[3])
		price, ok2 := new(big.Rat).SetString(row[5])
		at, err := time.ParseInLocation(time.DateTime, row[4], london)
		code, ok3 := codes[country]
		if err != nil || !ok1 || !ok2 || !ok3 {
			t.Fatalf("the test does not understand %q", row)
		}
		if strings.HasPrefix(invoice, "C") {
			quantity.Neg(quantity)
		}
		if price.Sign() < 0 || quantity.Sign() < 0 {
			totals.rejected++
			continue
		}
		invoices[invoice] = true
		key := strings.Join([]string{customer, code, at.UTC().Format(time.DateOnly)}, " ")
		if totals.money[key] == nil {
			totals.money[key] = new(big.Rat)
		}
		totals.money[key].Add(totals.money[key], quantity.Mul(quantity, price))
	}
}

// compareTotals adds up the orders that the read models list.
func compareTotals(t *testing.T, data string, want shopTotals) {
	t.Helper()
	views, err := projections.Open(t.Context(), filepath.Join(data, "views.db"), nil)
	check(t, err)
	defer func() { check(t, views.Close()) }()
	got := make(map[string]*big.Rat)
	var orders int64
	q := projections.Query{BusinessUnit: "main", Limit: projections.MaxLimit}
	for {
		list, err := views.Orders(t.Context(), q)
		check(t, err)
		for _, o := range list {
			orders++
			total, ok := new(big.Rat).SetString(o.Total.String())
			if !ok || o.Currency != "GBP" {
				t.Fatalf("order %s comes to %s %s", o.ID, o.Total, o.Currency)
			}
			key := strings.Join([]string{o.Customer, o.Country, o.Submitted.UTC().Format(time.DateOnly)}, " ")
			if got[key] == nil {
				got[key] = new(big.Rat)
			}
			got[key].Add(got[key], total)
		}
		if len(list) < projections.MaxLimit {
			break
		}
		q.After = list[len(list)-1].Cursor()
	}
	if orders != want.orders || len(got) != len(want.money) {
		t.Errorf("%d orders in %d groups, want %d in %d", orders, len(got), want.orders, len(want.money))
	}
	wrong := 0
	for key, money := range want.money {
		if got[key] == nil || got[key].Cmp(money) != 0 {
			if wrong++; wrong < 5 {
				t.Errorf("%s comes to %v, want %v", key, got[key], money)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d sums are wrong", wrong, len(want.money))
	}
}

// firstLines copies the beginning of a gzipped file.
func firstLines(t *testing.T, name string, n int) string {
	t.Helper()
	f, err := os.Open(name)
	check(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	check(t, err)
	path := filepath.Join(t.TempDir(), "first.csv.gz")
	out, err := os.Create(path)
	check(t, err)
	defer out.Close()
	w := gzip.NewWriter(out)
	lines := bufio.NewScanner(z)
	for range n {
		if !lines.Scan() {
			break
		}
		fmt.Fprintf(w, "%s\n", lines.Bytes())
	}
	check(t, errors.Join(lines.Err(), w.Close()))
	return path
}

// recordsIn counts the records of a CSV file without its heading.
func recordsIn(t *testing.T, name string) int64 {
	t.Helper()
	f, err := os.Open(name)
	check(t, err)
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	check(t, err)
	return int64(len(records)) - 1
}
