package domain_test

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/internal/realdata"
)

// A stored is an event as a ledger keeps it.
type stored struct {
	typ  string
	data []byte
}

// BenchmarkReplay folds histories from their stored bytes. Beside it stands the limit: encoding/json reading the same
// bytes into the same structs, without folding them. Both run in turn, so that a busy machine slows both.
func BenchmarkReplay(b *testing.B) {
	b.Run("typical", func(b *testing.B) { benchmarkReplay(b, copies(typicalHistory(b), 2_000)) })
	b.Run("drawn", func(b *testing.B) { benchmarkReplay(b, drawnHistories(b, 1_000)) })
	b.Run("retail", func(b *testing.B) { benchmarkReplay(b, retailHistories(b, 1_000)) })
	b.Run("large", func(b *testing.B) { benchmarkReplay(b, [][]stored{largeHistory(b)}) })
}

func benchmarkReplay(b *testing.B, histories [][]stored) {
	types := eventTypes()
	events, size := 0, 0
	for _, history := range histories {
		var ours, theirs domain.Order
		for _, s := range history {
			e := mustDecode(b, s)
			ours = domain.Evolve(ours, e)
			v := fromJSON(b, s.data, e).(domain.Event)
			theirs = domain.Evolve(theirs, v)
			events, size = events+1, size+len(s.data)
		}
		wantSame(b, ours, theirs)
	}
	var f domain.Folder
	var folding, limit time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		for _, history := range histories {
			fold(b, &f, history)
		}
		middle := time.Now()
		for _, history := range histories {
			unmarshal(b, history, types)
		}
		folding += middle.Sub(start)
		limit += time.Since(middle)
	}
	n := float64(b.N * events)
	b.ReportMetric(float64(size)/float64(events), "B/event")
	b.ReportMetric(float64(folding.Nanoseconds())/n, "ns/event")
	b.ReportMetric(float64(limit.Nanoseconds())/n, "json-ns/event")
	b.ReportMetric(float64(limit)/float64(folding), "×json")
}

// copies returns a history many times over, each in its own memory.
func copies(history []stored, n int) [][]stored {
	histories := make([][]stored, n)
	for i := range histories {
		histories[i] = slices.Clone(history)
		for j := range histories[i] {
			histories[i][j].data = bytes.Clone(histories[i][j].data)
		}
	}
	return histories
}

func mustDecode(t testing.TB, s stored) domain.Event {
	e, err := domain.DecodeEvent(s.typ, s.data)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func store(t testing.TB, events []domain.Event) []stored {
	t.Helper()
	history := make([]stored, len(events))
	for i, e := range events {
		data, err := domain.EncodeEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		history[i] = stored{e.Type(), data}
	}
	return history
}

// life returns the events of an order that is fulfilled without trouble, each fulfilment in two shipments.
func life(t testing.TB, submit domain.Submit) []stored {
	t.Helper()
	var o domain.Order
	var events []domain.Event
	do := func(a domain.Action) {
		t.Helper()
		more, err := domain.Decide(o, asked(o, a), domaintest.Policy{}, now)
		if err != nil {
			t.Fatalf("%s: %v", a.Name(), err)
		}
		for _, e := range more {
			o = domain.Evolve(o, e)
		}
		events = append(events, more...)
	}
	do(submit)
	for _, f := range o.Fulfilments {
		var answers []domain.LineConfirmation
		var all []domain.LineQuantity
		for _, p := range f.Parts {
			all = append(all, domain.LineQuantity{Line: p.Line, Quantity: p.Quantity})
			answers = append(answers, domain.LineConfirmation{Line: p.Line, Promises: []domain.Promise{
				{Quantity: p.Quantity, Kind: "deliver", Date: domain.Date{Day: "2026-03-20", Zone: "Europe/Berlin"}},
			}})
		}
		do(domain.Confirm{Fulfilment: f.ID, Confirmation: domain.Confirmation{Outcome: domain.Accepts, Reference: "AB-2026-00017", Lines: answers}})
		do(domain.StartFulfilment{Fulfilment: f.ID})
		for _, lines := range [][]domain.LineQuantity{all[:len(all)/2], all[len(all)/2:]} {
			if len(lines) > 0 {
				do(domain.Ship{Fulfilment: f.ID, Shipment: domain.Shipment{Carrier: "DHL", Tracking: "00340434161094015902", Lines: lines}})
				do(domain.Deliver{Fulfilment: f.ID, Lines: lines})
			}
		}
	}
	do(domain.Close{})
	return store(t, events)
}

// typicalHistory is a plain order of four lines: ten events.
func typicalHistory(t testing.TB) []stored {
	submit := order()
	submit.Channel, submit.PurchaseOrder = "edi", "4500017234"
	submit.Parties.Buyer.Identifiers = append(submit.Parties.Buyer.Identifiers, domain.Identifier{Scheme: "gln", Value: "4012345000009"})
	submit.Parties.ShipTo = domain.Party{Identifiers: []domain.Identifier{{Scheme: "gln", Value: "4012345000016"}}, Country: "DE", Region: "TH"}
	submit.Terms = domain.Terms{Incoterms: domain.Incoterms{Rule: "DAP", Version: "2020", Place: "Jena"}, Payment: "30 days net"}
	submit.Personal = domain.Sealed{Key: "01997f0e-5b1c-7e57-b0a9-6b1c2a1f7d33", Data: slices.Repeat([]byte("sealed bytes \x00\xff"), 14)}
	for i, sku := range []string{"lens-1.60-hc", "frame-2041-black", "case-standard", "cloth-15x15"} {
		l := article(sku, []string{"2", "1", "1", "10"}[i])
		l.BuyerLine, l.BuyerSKU, l.GTIN, l.Unit = []string{"10", "20", "30", "40"}[i], "48-"+sku, "4006381333931", "C62"
		l.Description = "Single vision lens, hard coated, 1.60"
		l.Requested = domain.Date{Day: "2026-03-18"}
		submit.Lines = append(submit.Lines, l)
	}
	return life(t, submit)
}

// largeHistory is an order of as many lines as there may be, shared by all sites.
func largeHistory(t testing.TB) []stored {
	submit := order()
	for i := range domain.MaxLines {
		sku := "lens"
		if i%3 > 0 {
			sku = domaintest.OnlyAt + domaintest.Sites[i%3]
		}
		submit.Lines = append(submit.Lines, article(sku, "150"))
	}
	return life(t, submit)
}

// drawnHistories are orders to which anything happens.
func drawnHistories(t testing.TB, n int) [][]stored {
	histories := make([][]stored, n)
	for i := range histories {
		histories[i] = drawnHistory(t, i)
	}
	return histories
}

func drawnHistory(t testing.TB, seed int) []stored {
	return store(t, domaintest.EventsOf(rapid.Custom(domaintest.History).Example(seed)))
}

// retailHistories are the lives of orders that a real shop got.
func retailHistories(t testing.TB, n int) [][]stored {
	file, err := os.Open(realdata.Path(t, "online-retail", "online_retail_cc0.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	rows := csv.NewReader(unzipped)
	if _, err := rows.Read(); err != nil {
		t.Fatal(err)
	}
	var histories [][]stored
	var invoice string
	var submit domain.Submit
	for len(histories) < n {
		// InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID, Country
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if row[0] != invoice {
			if len(submit.Lines) > 0 {
				histories = append(histories, life(t, submit))
			}
			invoice, submit = row[0], order()
			submit.PurchaseOrder = invoice
			if row[6] == "" {
				row[6] = domain.UnknownParty
			}
			submit.Parties.Buyer.Identifiers[0].Value = row[6]
		}
		if l := article(row[1], row[3]); l.Quantity.Sign() > 0 {
			l.Description, l.Price.Amount = strings.ToValidUTF8(row[2], ""), num(row[5])
			submit.Lines = append(submit.Lines, l)
		}
	}
	return histories
}

// The parts of a replay: reading, folding, both at once, and the limit.

func BenchmarkDecode(b *testing.B) {
	history := typicalHistory(b)
	for b.Loop() {
		for _, s := range history {
			mustDecode(b, s)
		}
	}
}

func BenchmarkEvolve(b *testing.B) {
	var events []domain.Event
	for _, s := range typicalHistory(b) {
		events = append(events, mustDecode(b, s))
	}
	for b.Loop() {
		var o domain.Order
		for _, e := range events {
			o = domain.Evolve(o, e)
		}
	}
}

func BenchmarkFolder(b *testing.B) {
	histories := copies(typicalHistory(b), 2_000)
	var f domain.Folder
	for i := 0; b.Loop(); i++ {
		fold(b, &f, histories[i%len(histories)])
	}
}

func BenchmarkLimit(b *testing.B) {
	histories, types := copies(typicalHistory(b), 2_000), eventTypes()
	for i := 0; b.Loop(); i++ {
		unmarshal(b, histories[i%len(histories)], types)
	}
}

// fold returns the order that a history comes to.
func fold(t testing.TB, f *domain.Folder, history []stored) domain.Order {
	f.Reset()
	for _, s := range history {
		if err := f.Add(s.typ, s.data); err != nil {
			t.Fatal(err)
		}
	}
	return f.Order()
}

// unmarshal reads a history with encoding/json.
func unmarshal(t testing.TB, history []stored, types map[string]reflect.Type) {
	for _, s := range history {
		if err := json.Unmarshal(s.data, reflect.New(types[s.typ]).Interface()); err != nil {
			t.Fatal(err)
		}
	}
}

func eventTypes() map[string]reflect.Type {
	types := map[string]reflect.Type{}
	for _, e := range domaintest.Events() {
		types[e.Type()] = reflect.TypeOf(e).Elem()
	}
	return types
}
