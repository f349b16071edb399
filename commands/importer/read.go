package importer

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync/atomic"
)

// A reject is a line that could not be used.
type reject struct {
	origin
	field  string // column or field of the order; empty: the line as a whole
	code   string // why, for programs
	detail string // why, for people
}

// An entry is an order that is complete, or a line that belongs to none.
type entry struct {
	draft  *draft
	reject *reject
}

// weight is roughly how many bytes of memory the entry takes.
func (e entry) weight() int64 {
	if e.draft != nil {
		return int64(e.draft.weight)
	}
	return int64(lineWeight + len(e.reject.text))
}

// A reader makes orders of one file.
type reader struct {
	mapping *mapping
	input   io.Reader
	lines   int64 // read so far, without heading and blank lines
}

// An assembler makes orders of records.
type assembler interface {
	// add takes a record. It returns the orders that are complete now, and a reject if the record is of no use.
	add(record) (done []*draft, reject *reject)
	// rest returns the orders that are left after the last record.
	rest() []*draft
}

// entries reads the file. Every line that it counts is in one entry.
func (f *reader) entries() iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		records, orders, err := f.begin()
		for err == nil {
			var rec record
			if rec, err = records.next(); err != nil {
				break
			}
			f.lines++
			done, reject := orders.add(rec)
			for _, d := range done {
				if !yield(entry{draft: d}, nil) {
					return
				}
			}
			if reject != nil && !yield(entry{reject: reject}, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(entry{}, err)
			return
		}
		if orders == nil {
			return
		}
		for _, d := range orders.rest() {
			if !yield(entry{draft: d}, nil) {
				return
			}
		}
	}
}

// begin reads the heading, if the format has one. It returns io.EOF for an empty file.
func (f *reader) begin() (*recordReader, assembler, error) {
	comma := byte(',')
	switch f.mapping.Format {
	case "jsonl":
		return newRecordReader(f.input, 0), wholeOrders{f.mapping}, nil
	case "tsv":
		comma = '\t'
	}
	records := newRecordReader(f.input, comma)
	heading, err := records.next()
	if err != nil {
		return nil, nil, err
	}
	b, err := newBuilder(f.mapping, heading)
	if err != nil {
		return nil, nil, err
	}
	return records, newGrouper(b), nil
}

// openFile opens a file, gzipped or not, and counts the bytes that are read from the disk.
func openFile(name string, read *atomic.Int64) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening the file: %w", err)
	}
	counted := bufio.NewReaderSize(&countingReader{f, read}, 256<<10)
	magic, _ := counted.Peek(2) // an error comes again with the first read
	if string(magic) == "\x1f\x8b" {
		unzipped, err := gzip.NewReader(counted)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return &file{unzipped, f}, nil
	}
	if strings.HasSuffix(name, ".gz") {
		_ = f.Close()
		return nil, fmt.Errorf("%s is not gzipped", name)
	}
	return &file{counted, f}, nil
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
