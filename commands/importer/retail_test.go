package importer_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/commands/importer"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/realdata"
)

// retail returns a file of real invoices, which is not part of the project, and the mapping for it, which is.
func retail(t testing.TB) (file string, mapping *importer.Mapping) {
	t.Helper()
	file = realdata.Path(t, "online-retail", "online_retail_cc0.csv.gz")
	text, err := os.ReadFile("../../docs/mappings/online-retail.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return file, mappingOf(t, string(text))
}

// A sum is how many pieces were sold or taken back, and for how much.
type sum struct{ quantity, money domain.Decimal }

func (s sum) plus(t sum) (sum, error) {
	quantity, err := s.quantity.Add(t.quantity)
	money, failed := s.money.Add(t.money)
	return sum{quantity, money}, errors.Join(err, failed)
}

func (s sum) String() string { return s.quantity.String() + "," + s.money.String() }

// A tally adds up orders by kind and then by customer, country and day.
type tally struct {
	mu     sync.Mutex
	keys   map[string]bool
	orders map[domain.Kind]int
	tables map[string]map[string]sum
}

// add adds an order, unless it has done so before.
func (y *tally) add(o importer.Order, london *time.Location) (repeated bool, err error) {
	s := o.Submit
	country := ""
	for _, x := range s.Extensions {
		if x.Name == "country_name" {
			country = x.Value
		}
	}
	var whole sum
	for _, l := range s.Lines {
		money, err := l.Price.AmountOf(l.Quantity)
		if err == nil {
			whole, err = whole.plus(sum{l.Quantity, money})
		}
		if err != nil {
			return false, err
		}
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.keys[o.Key] {
		return true, nil
	}
	y.keys[o.Key] = true
	y.orders[s.Kind]++
	for table, key := range map[string]string{
		"all": "all", "customer": s.Parties.Buyer.Identifiers[0].Value, "country": country, "day": o.Occurred.In(london).Format(time.DateOnly),
	} {
		table += " " + string(s.Kind)
		if y.tables[table] == nil {
			y.tables[table] = make(map[string]sum)
		}
		row, err := y.tables[table][key].plus(whole)
		if err != nil {
			return false, err
		}
		y.tables[table][key] = row
	}
	return false, nil
}

// The figures come from testdata/totals.py, which knows nothing of this project. A table's hash is the SHA-256 of all
// its rows "key,quantity,money", each with a line feed, in the order of their bytes, numbers without superfluous zeros.
func TestRealInvoices(t *testing.T) {
	file, mapping := retail(t)
	london, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal(err)
	}
	totals := &tally{keys: make(map[string]bool), orders: make(map[domain.Kind]int), tables: make(map[string]map[string]sum)}
	got, err := importer.Run(t.Context(), importer.Config{
		Mapping: mapping, Files: []string{file}, Rejects: io.Discard,
		Submit: func(_ context.Context, o importer.Order) (bool, error) {
			if _, err := commandOf(o); err != nil {
				return false, err
			}
			return totals.add(o, london)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := importer.Summary{
		Files: 1, Bytes: got.Size, Size: got.Size, Lines: 541_909, Used: 540_571, Rejected: 1_338, Orders: 24_562,
		Codes: map[string]int64{"negative_quantity": 1_336, "negative_price": 2},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[domain.Kind]int{domain.Standard: 20_726, domain.ReturnKind: 3_836}, totals.orders); d != "" {
		t.Error(d)
	}
	for row, want := range map[string]string{
		"all standard/all":                    "5660979,10666684.544",
		"all return/all":                      "277574,896812.49",
		"country standard/United Kingdom":     "4733817,9025222.084",
		"country return/United Kingdom":       "263033,815291.6",
		"country standard/EIRE":               "147447,283453.96",
		"country return/EIRE":                 "4810,20177.14",
		"country standard/Channel Islands":    "9491,20450.44",
		"country standard/European Community": "499,1300.25",
		"country standard/RSA":                "352,1002.31",
		"customer standard/unknown":           "479283,1755276.64",
		"customer return/unknown":             "2766,285470.4",
		"customer standard/14646":             "197491,280206.02",
		"customer return/14646":               "772,717",
		"customer standard/12346":             "74215,77183.6",
		"customer return/12346":               "74215,77183.6",
		"customer standard/17850":             "1733,5391.21",
		"day standard/2010-12-01":             "27007,58960.79",
		"day standard/2011-03-27":             "4530,9241.35",
		"day return/2011-10-30":               "6,25.95",
		"day standard/2011-12-09":             "93979,200920.6",
		"day return/2011-12-09":               "81030,168789.07",
	} {
		table, key, _ := strings.Cut(row, "/")
		if got := totals.tables[table][key].String(); got != want {
			t.Errorf("%s: got %s, want %s", row, got, want)
		}
	}
	for table, want := range map[string]string{
		"country return":    "30 13defea1a6f5464909a726925bdcd89dece7b74c4769a81859f75b0b3b3e8dbc",
		"country standard":  "38 c7002dda5ea7980bdc0e5911e63db1a4201ce53ec09002f657e792e07a7da56c",
		"customer return":   "1590 4da1ef0fd11735fc2ecb040602f2072141a2758cb88d9269b1db16db44d0e934",
		"customer standard": "4340 eeaa2fa22452092d998d1fc7d75235c554e66741c2c383b23a3c5b2c1cbea61e",
		"day return":        "302 cc4c3c528769a4bd235dcdd6ff467dca82a286232dd1b448ca33a26034ac101e",
		"day standard":      "305 1376e82595cf13b518eb9f9d7b36141cca43077ec42cb050e46355625638dac6",
	} {
		var rows []string
		for key, s := range totals.tables[table] {
			rows = append(rows, key+","+s.String()+"\n")
		}
		slices.Sort(rows)
		if got := fmt.Sprintf("%d %x", len(rows), sha256.Sum256([]byte(strings.Join(rows, "")))); got != want {
			t.Errorf("%s: got %s, want %s", table, got, want)
		}
	}
}

// BenchmarkRun tells how fast the importer is without a ledger, and how much memory the process has at most.
func BenchmarkRun(b *testing.B) {
	file, mapping := retail(b)
	var lines int64
	var most atomic.Uint64
	for b.Loop() {
		var n atomic.Int64
		s, err := importer.Run(b.Context(), importer.Config{
			Mapping: mapping, Files: []string{file}, Rejects: io.Discard,
			Submit: func(context.Context, importer.Order) (bool, error) {
				if n.Add(1)%1000 == 0 {
					m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
					metrics.Read(m)
					most.Store(max(most.Load(), m[0].Value.Uint64()-m[1].Value.Uint64()))
				}
				return false, nil
			},
		})
		if err != nil {
			b.Fatal(err)
		}
		lines += s.Lines
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(most.Load())/(1<<20), "MiB")
}
