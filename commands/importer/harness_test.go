package importer_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/orderledger/orderledger/commands/importer"
	"github.com/orderledger/orderledger/domain"
)

// shop is a mapping of lines such as 1,A,2,9.99,2024-05-01 10:00:00,C7,DE.
const shop = `
version: 1
source: shop
group: order
window: 3
settled: true
credits: {column: order, prefix: C}
skip:
  - {column: sku, equals: [POSTAGE], code: postage}
  - {column: sku, prefix: TEST}
occurred: {column: time, layouts: ["2006-01-02 15:04:05"], zone: Europe/Berlin}
order:
  currency: {constant: EUR}
  customer: customer
  country: {column: country, only: true, values: {DE: DE, Österreich: AT, nowhere: ""}}
line:
  sku: sku
  quantity: quantity
  price: price
`

const heading = "order,sku,quantity,price,time,customer,country\n"

// good returns a line of an order that nothing is wrong with.
func good(order, sku string) string {
	return order + "," + sku + ",2,9.99,2024-05-01 10:00:00,C7,DE\n"
}

func mappingOf(t testing.TB, text string) *importer.Mapping {
	t.Helper()
	m, err := importer.ParseMapping(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A ledger keeps orders by their keys, and takes each content of a key but once.
type ledger struct {
	mu      sync.Mutex
	orders  map[string]importer.Order
	digests map[string]domain.Digest
	before  func(context.Context, importer.Order) error // called first, if there is one
}

func newLedger() *ledger {
	return &ledger{orders: make(map[string]importer.Order), digests: make(map[string]domain.Digest)}
}

func (l *ledger) submit(ctx context.Context, o importer.Order) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if l.before != nil {
		if err := l.before(ctx, o); err != nil {
			return false, err
		}
	}
	return l.take(o)
}

// commandOf returns the command that submits an order, or the refusal that it gets everywhere.
func commandOf(o importer.Order) (domain.Command, error) {
	id := domain.OrderID("unit", "test", o.Key)
	c := domain.Command{
		ID: domain.CommandID(id, "test", o.Key), Order: id, BusinessUnit: "unit",
		Actor: domain.Actor{Kind: "system", Subject: "test"}, Occurred: o.Occurred, Do: o.Submit,
	}
	var malformed *domain.Malformed
	if errors.As(c.Check(), &malformed) || errors.As(o.Personal.Check(), &malformed) {
		return c, &importer.Refusal{Field: malformed.Field, Code: malformed.Code, Detail: malformed.Detail}
	}
	return c, nil
}

func (l *ledger) take(o importer.Order) (repeated bool, err error) {
	c, err := commandOf(o)
	if err != nil {
		return false, err
	}
	digest, err := domain.DigestOf(make([]byte, 32), c, &o.Personal)
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if first, ok := l.digests[o.Key]; ok {
		if first != digest {
			return false, &importer.Refusal{Code: "idempotency_key_reused", Detail: "the ledger has another order of this key"}
		}
		return true, nil
	}
	l.orders[o.Key], l.digests[o.Key] = o, digest
	return false, nil
}

// skus lists the orders of a ledger with the articles of their lines.
func (l *ledger) skus() string {
	var all []string
	for key, o := range l.orders {
		s := key + ":"
		for _, line := range o.Submit.Lines {
			s += " " + line.SKU
		}
		all = append(all, s)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// An outcome is what an import has led to.
type outcome struct {
	importer.Summary
	rejects string // the file
	err     error
}

// codes lists the rejects as line, field and code.
func (o outcome) codes(t testing.TB) []string {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(o.rejects)).ReadAll()
	if err != nil {
		t.Fatalf("the rejects are no CSV: %v\n%s", err, o.rejects)
	}
	var all []string
	for i, row := range rows {
		if i == 0 {
			continue
		}
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", row[1], row[3], row[2])))
	}
	return all
}

// into imports files into a ledger and checks what holds of every import.
func (l *ledger) into(t testing.TB, m *importer.Mapping, workers int, files ...string) outcome {
	t.Helper()
	return l.run(t.Context(), t, m, workers, files...)
}

func (l *ledger) run(ctx context.Context, t testing.TB, m *importer.Mapping, workers int, files ...string) outcome {
	t.Helper()
	var rejects bytes.Buffer
	var told []importer.Summary
	s, err := importer.Run(ctx, importer.Config{
		Mapping: m, Files: files, Submit: l.submit, Rejects: &rejects, Workers: workers,
		Progress: func(s importer.Summary) { told = append(told, s) },
	})
	o := outcome{s, rejects.String(), err}
	rejected := int64(len(o.codes(t)))
	if s.Rejected != rejected {
		t.Fatalf("%d lines are rejected, and %d stand among the rejects", s.Rejected, rejected)
	}
	for i, told := range append(told, s) {
		sum := int64(0)
		for _, n := range told.Codes {
			sum += n
		}
		if told.Lines != told.Used+told.Rejected || told.Rejected != sum || told.Lines > s.Lines || told.Repeated > told.Orders {
			t.Fatalf("progress %d does not add up: %+v", i, told)
		}
	}
	return o
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(text))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// importText imports one file through a mapping into a new ledger.
func importText(t testing.TB, mapping, name, text string) (*ledger, outcome) {
	t.Helper()
	l := newLedger()
	return l, l.into(t, mappingOf(t, mapping), 4, write(t, name, text))
}
