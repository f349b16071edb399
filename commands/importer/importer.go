// Package importer reads orders from CSV, TSV or JSON lines, also gzipped, in bounded memory, and accounts for every
// line: it is used, or stands in the rejects with the reason.
//
// An import may be stopped and run again: the key of an order is made of the mapping's source and the order's own
// number, so that the ledger recognises what it has.
package importer

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
)

// Config says what to import, and where to.
type Config struct {
	Mapping *Mapping
	Files   []string
	// Submit hands an order to the ledger and reports whether it stood there already. A [*Refusal] puts the order's
	// lines among the rejects; any other error stops the import. It is called by several goroutines at once.
	Submit func(ctx context.Context, o Order) (repeated bool, err error)
	// Rejects takes the lines that could not be used, as CSV: file, line, field, code, detail, text.
	Rejects io.Writer
	// Workers is how many orders are submitted at once; 0: 64.
	Workers int
	// Progress is told now and then how far the import is, by one goroutine at a time; nil: nobody is.
	Progress func(Summary)
}

// A Refusal is an order that the ledger does not take.
type Refusal struct {
	Field, Code, Detail string
}

func (r *Refusal) Error() string { return r.Detail }

// A Summary accounts for an import. At its end Lines = Used + Rejected.
type Summary struct {
	Files    int              `json:"files"`
	Bytes    int64            `json:"bytes"`    // read so far, as they lie on the disk
	Size     int64            `json:"size"`     // of all files together
	Lines    int64            `json:"lines"`    // read, without headings and empty lines
	Used     int64            `json:"used"`     // that belong to an order in the ledger
	Rejected int64            `json:"rejected"` // that stand among the rejects
	Orders   int64            `json:"orders"`   // in the ledger now
	Repeated int64            `json:"repeated"` // of these, which stood there already
	Codes    map[string]int64 `json:"codes"`    // rejected lines by reason
}

// Run imports the files one after the other. What it returns beside an error accounts for what was done until then;
// running it again goes on from there.
func Run(ctx context.Context, c Config) (Summary, error) {
	if c.Workers == 0 {
		c.Workers = 64
	}
	run := &importRun{Config: c, rejects: csv.NewWriter(c.Rejects), read: new(atomic.Int64)}
	run.summary.Codes = make(map[string]int64)
	for _, name := range c.Files {
		info, err := os.Stat(name)
		if err != nil {
			return run.summary, fmt.Errorf("looking at the file: %w", err)
		}
		run.summary.Size += info.Size()
	}
	err := run.rejects.Write([]string{"file", "line", "field", "code", "detail", "text"})
	for _, name := range c.Files {
		if err == nil {
			err = run.file(ctx, name)
		}
	}
	run.rejects.Flush()
	if err == nil {
		err = run.rejects.Error()
	}
	run.tell()
	return run.summary, err
}

type importRun struct {
	Config
	summary Summary
	rejects *csv.Writer
	read    *atomic.Int64
}

// An item is what the reader hands on in the order of the file: an order that is being submitted, or a reject.
type item struct {
	reject *Reject
	draft  *draft
	file   string
	done   chan struct{} // closed when the order has been submitted
	again  bool
	err    error
}

// file reads one file, submits its orders and accounts for its lines, each in its own goroutines, and all in the
// order of the file.
func (r *importRun) file(ctx context.Context, name string) error {
	input, err := open(name, r.read)
	if err != nil {
		return err
	}
	defer input.Close()
	group, ctx := errgroup.WithContext(ctx)
	todo := make(chan *item)
	items := make(chan *item, 4*r.Workers)
	group.Go(func() error {
		defer close(items)
		defer close(todo)
		return r.readFile(ctx, name, input, todo, items)
	})
	for range r.Workers {
		group.Go(func() error {
			for i := range todo {
				i.again, i.err = r.Submit(ctx, i.draft.order)
				close(i.done)
			}
			return nil
		})
	}
	group.Go(func() error { return r.account(ctx, items) })
	if err := group.Wait(); err != nil {
		return err
	}
	r.summary.Files++
	return nil
}

// readFile sends every reject and every order of a file to items, and the orders to todo, too.
func (r *importRun) readFile(ctx context.Context, name string, input io.Reader, todo, items chan<- *item) error {
	send := func(to chan<- *item, i *item) error {
		select {
		case to <- i:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	source, err := r.source(name, input)
	if err != nil {
		return err
	}
	for {
		drafts, reject, err := source()
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, d := range drafts {
			if len(d.lines) == 0 {
				continue
			}
			i := &item{draft: d, file: name, done: make(chan struct{})}
			if err := send(items, i); err != nil {
				return err
			}
			if err := send(todo, i); err != nil {
				return err
			}
		}
		if reject != nil {
			if err := send(items, &item{reject: reject}); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// source returns a function that reads one record and returns the orders that it completes, and a reject where the
// record can be given to no order. With io.EOF it returns the last orders.
func (r *importRun) source(name string, input io.Reader) (func() ([]*draft, *Reject, error), error) {
	switch r.Mapping.Format {
	case "jsonl":
		records := newRecordReader(input, 0)
		return func() ([]*draft, *Reject, error) {
			rec, err := records.next()
			if err != nil {
				return nil, nil, err
			}
			d, reject := r.jsonOrder(name, rec)
			return d, reject, nil
		}, nil
	default:
		comma := byte(',')
		if r.Mapping.Format == "tsv" {
			comma = '\t'
		}
		records := newRecordReader(input, comma)
		heading, err := records.next()
		if errors.Is(err, io.EOF) {
			return func() ([]*draft, *Reject, error) { return nil, nil, io.EOF }, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		g, reject := newGrouper(r.Mapping, name, heading)
		if reject != nil {
			return nil, fmt.Errorf("%s does not fit the mapping: %s", name, reject.Detail)
		}
		return func() ([]*draft, *Reject, error) {
			rec, err := records.next()
			if err != nil {
				return g.rest(), nil, err
			}
			drafts, reject := g.add(rec)
			return drafts, reject, nil
		}, nil
	}
}

// jsonOrder reads a line that is a whole order.
func (r *importRun) jsonOrder(file string, rec record) ([]*draft, *Reject) {
	fail := func(field, code, detail string) ([]*draft, *Reject) {
		return nil, &Reject{File: file, Line: rec.number, Field: field, Code: code, Detail: detail, Text: rec.text}
	}
	if rec.fault != "" {
		return fail("", rec.fault, "the line cannot be read")
	}
	var in struct {
		Key      string    `json:"key"`
		Occurred time.Time `json:"occurred"`
		domain.Details
		Lines    []domain.Line   `json:"lines"`
		Personal domain.Personal `json:"personal"`
		Settled  bool            `json:"settled"`
	}
	if err := web.DecodeStrict([]byte(rec.text), &in); err != nil {
		return fail("", "malformed_json", err.Error())
	}
	if in.Key == "" || len(r.Mapping.Source)+1+len(in.Key) > 255 {
		return fail("key", "missing", "an order needs a key that is its own at every run")
	}
	d := &draft{lines: []record{rec}, order: Order{
		Key: r.Mapping.Source + "/" + in.Key, Occurred: in.Occurred, Personal: in.Personal,
		Submit: domain.Submit{Details: in.Details, Lines: in.Lines, Settled: in.Settled || r.Mapping.Settled},
	}}
	if d.order.Submit.Channel == "" {
		d.order.Submit.Channel = domain.ChannelImport
	}
	return []*draft{d}, nil
}

// account adds up what became of the lines, in the order of the file.
func (r *importRun) account(ctx context.Context, items <-chan *item) error {
	for i := range items {
		if i.reject != nil {
			r.summary.Lines++
			if err := r.reject(*i.reject); err != nil {
				return err
			}
			continue
		}
		select {
		case <-i.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		var refusal *Refusal
		n := int64(len(i.draft.lines))
		switch {
		case i.err == nil:
			r.summary.Lines += n
			r.summary.Used += n
			r.summary.Orders++
			if i.again {
				r.summary.Repeated++
			}
		case errors.As(i.err, &refusal):
			r.summary.Lines += n
			for _, line := range i.draft.lines {
				reject := Reject{File: i.file, Line: line.number, Field: refusal.Field, Code: refusal.Code, Detail: refusal.Detail, Text: line.text}
				if err := r.reject(reject); err != nil {
					return err
				}
			}
		default:
			return fmt.Errorf("submitting order %s of %s: %w", i.draft.order.Key, i.file, i.err)
		}
		r.tell()
	}
	return nil
}

func (r *importRun) reject(j Reject) error {
	r.summary.Rejected++
	r.summary.Codes[j.Code]++
	return r.rejects.Write([]string{filepath.Base(j.File), strconv.FormatInt(j.Line, 10), j.Field, j.Code, j.Detail, j.Text})
}

func (r *importRun) tell() {
	r.summary.Bytes = r.read.Load()
	if r.Progress != nil {
		r.Progress(r.summary)
	}
}

// fault names what is wrong with a malformed order.
func fault(err error) (field, code, detail string) {
	var m *domain.Malformed
	if errors.As(err, &m) {
		return m.Field, m.Code, m.Detail
	}
	return "", "unusable", err.Error()
}

// open opens a file, gzipped or not, and counts the bytes that are read from the disk.
func open(name string, read *atomic.Int64) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening the file: %w", err)
	}
	counted := bufio.NewReaderSize(&countingReader{f, read}, 256<<10)
	var input io.Reader = counted
	if magic, err := counted.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		unzipped, err := gzip.NewReader(counted)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		input = unzipped
	} else if err == nil && strings.HasSuffix(name, ".gz") {
		_ = f.Close()
		return nil, fmt.Errorf("%s is not gzipped", name)
	}
	return &file{input, f}, nil
}

type file struct {
	io.Reader
	io.Closer
}

type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
