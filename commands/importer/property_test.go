package importer_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/commands/importer"
)

// scraps are what files are made of, good and bad.
var scraps = []string{
	"1", "2", "C1", "A", "B", "10", "-10", "0", "1.5", "-0.01", "2024-05-01 10:00:00", "C7", "DE", "Atlantis", ",", ",", ",", ",,,,,,", "\n", "\r\n", "\n\n", "\r",
	`"`, `""`, `","`, " ", "\t", "\x00", "\xff", "\ufeff", "é", "POSTAGE", "x'; DROP TABLE orders", strings.Repeat("y", 300), strings.Repeat("z", 70_000),
}

// Whatever a file holds, each of its lines is used or rejected, whoever submits how fast, and another run ends alike.
func TestEveryLineIsAccountedFor(t *testing.T) {
	mapping := mappingOf(t, shop)
	line := rapid.OneOf(
		rapid.Custom(func(t *rapid.T) string {
			return good(rapid.SampledFrom([]string{"1", "2", "3", "C4"}).Draw(t, "order"), rapid.SampledFrom([]string{"A", "B", "TEST"}).Draw(t, "sku"))
		}),
		rapid.Custom(func(t *rapid.T) string {
			cells := rapid.SliceOfN(rapid.SampledFrom(scraps), 7, 7).Draw(t, "cells")
			return strings.Join(cells, ",") + "\n"
		}),
		rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom(scraps), 0, 20).Draw(t, "scraps"), "")
		}),
	)
	file := write(t, "o.csv", "")
	rapid.Check(t, func(rt *rapid.T) {
		lines := rapid.SliceOfN(line, 0, 60).Draw(rt, "lines")
		if err := os.WriteFile(file, []byte(heading+strings.Join(lines, "")), 0o600); err != nil {
			rt.Fatal(err)
		}
		first, used := newLedger(), int64(0)
		o := first.into(t, mapping, rapid.IntRange(1, 8).Draw(rt, "workers"), file)
		if o.err != nil {
			rt.Fatal(o.err)
		}
		for _, order := range first.orders {
			used += int64(len(order.Submit.Lines))
			if strings.TrimSpace(strings.TrimPrefix(order.Key, "shop/")) == "" {
				rt.Fatalf("an order without name: %q", order.Key)
			}
		}
		// Lines that came late and say the same as those in time are used twice.
		if used > o.Used || int64(len(first.orders)) != o.Orders-o.Repeated {
			rt.Fatalf("%d lines in the ledger, %+v", used, o.Summary)
		}
		again := first.into(t, mapping, 3, file)
		if again.rejects != o.rejects || again.Used != o.Used || again.Repeated != again.Orders {
			rt.Fatalf("another run ends otherwise:\n%+v\n%+v", o, again)
		}
	})
}

func FuzzRun(f *testing.F) {
	f.Add(heading+good("1", "A"), byte(0))
	f.Add(sample(9), byte(1))
	f.Add("{\"key\":\"1\"}\n\n{", byte(2))
	f.Add("\"order\",sku\n\"a\nb\",\"", byte(0))
	mappings := []*importer.Mapping{
		mappingOf(f, shop), mappingOf(f, strings.Replace(shop, "group: order", "group: order\nformat: tsv", 1)), mappingOf(f, "version: 1\nsource: a\nformat: jsonl"),
	}
	file := write(f, "o.csv", "")
	f.Fuzz(func(t *testing.T, text string, form byte) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		newLedger().run(context.Background(), t, mappings[int(form)%len(mappings)], 2, file)
	})
}
