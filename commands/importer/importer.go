// Package importer reads orders from CSV, TSV or JSON lines, also gzipped, in bounded memory, and accounts for every
// line: it is used, or stands in the rejects with the reason.
//
// An import may be stopped and run again: the key of an order is made of the mapping's source and the order's own
// number, so that the ledger recognises what it has. What becomes of a line depends on the files and the ledger alone,
// never on how many orders are submitted at once.
package importer

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/orderledger/orderledger/domain"
)

// Config says what to import, and where to. Mapping, Submit and Rejects are required.
type Config struct {
	Mapping *Mapping
	Files   []string
	// Submit hands an order to the ledger and reports whether it stood there already. A [*Refusal] puts the order's
	// lines among the rejects; any other error stops the import. It is called by several goroutines at once, but never
	// for two orders of one key at a time: those come in the order of the files.
	Submit func(ctx context.Context, o Order) (repeated bool, err error)
	// Rejects takes the lines that could not be used, as CSV: file, line, field, code, detail, text.
	Rejects io.Writer
	// Workers is how many orders are submitted at once; 0: 64.
	Workers int
	// Progress is told after each order how far the import is, by one goroutine at a time; nil: nobody is.
	Progress func(Summary)
}

// An Order is what the importer submits.
type Order struct {
	Key      string    // idempotency key, the same at every run
	Occurred time.Time // in UTC; zero where the file does not say
	Submit   domain.Submit
	Personal domain.Personal
}

// A Refusal is an order that the ledger does not take, now or later.
type Refusal struct {
	Field, Code, Detail string
}

func (r *Refusal) Error() string { return r.Detail }

// A Summary accounts for an import: Lines = Used + Rejected.
type Summary struct {
	Files    int              `json:"files"`    // read to their end
	Bytes    int64            `json:"bytes"`    // read so far, as they lie on the disk
	Size     int64            `json:"size"`     // of all files together
	Lines    int64            `json:"lines"`    // whose fate is known, without headings and blank lines
	Used     int64            `json:"used"`     // that belong to an order in the ledger
	Rejected int64            `json:"rejected"` // that stand among the rejects
	Orders   int64            `json:"orders"`   // in the ledger now; one that stands twice in the files counts twice
	Repeated int64            `json:"repeated"` // of these, which stood there already
	Codes    map[string]int64 `json:"codes"`    // rejected lines by reason
}

const (
	defaultWorkers = 64
	maxInFlight    = 32 << 20 // bytes of memory, roughly, of what has been read and not yet accounted for
)

// Run imports the files one after the other. The summary that it returns beside an error accounts for the lines whose
// fate was known by then; running it again goes on from there. When ctx ends, so does Run, with its error.
func Run(ctx context.Context, c Config) (Summary, error) {
	if c.Workers == 0 {
		c.Workers = defaultWorkers
	}
	r := &run{Config: c, rejects: csv.NewWriter(c.Rejects)}
	r.summary.Codes = make(map[string]int64)
	for _, name := range c.Files {
		info, err := os.Stat(name)
		if err != nil {
			return r.summary, fmt.Errorf("looking at the file: %w", err)
		}
		r.summary.Size += info.Size()
	}
	err := r.rejects.Write([]string{"file", "line", "field", "code", "detail", "text"})
	for _, name := range c.Files {
		if err == nil {
			err = r.file(ctx, name)
		}
	}
	r.rejects.Flush()
	if flushed := r.rejects.Error(); flushed != nil {
		err = errors.Join(err, fmt.Errorf("writing the rejects: %w", flushed))
	}
	r.tell()
	return r.summary, err
}

type run struct {
	Config
	summary Summary
	rejects *csv.Writer
	read    atomic.Int64 // bytes
}

// An item travels from the reader to the accountant in the order of the file, an order by way of a worker.
type item struct {
	entry
	weight  int64
	done    chan struct{} // closed when the order's fate is known
	again   bool
	refused *Refusal
}

// file reads one file, submits its orders and accounts for its lines, each in its own goroutines.
func (r *run) file(ctx context.Context, name string) error {
	input, err := openFile(name, &r.read)
	if err != nil {
		return err
	}
	defer input.Close()
	group, ctx := errgroup.WithContext(ctx)
	items := make(chan *item, 4*r.Workers)
	todo := make([]chan *item, r.Workers)
	room := semaphore.NewWeighted(maxInFlight)
	for i := range todo {
		todo[i] = make(chan *item, 4)
		group.Go(func() error { return r.work(ctx, name, todo[i]) })
	}
	var lines int64
	group.Go(func() error {
		defer close(items)
		for _, t := range todo {
			defer close(t)
		}
		var err error
		if lines, err = r.deal(ctx, input, room, items, todo); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	before := r.summary.Lines
	group.Go(func() error { return r.account(ctx, name, room, items) })
	if err := group.Wait(); err != nil {
		return err
	}
	if known := r.summary.Lines - before; known != lines {
		return fmt.Errorf("%s: %d lines were read and %d are accounted for: the importer has a bug", name, lines, known)
	}
	r.summary.Files++
	return nil
}

// deal sends all entries of a file to items, and the orders to workers, too: those of one key to the same worker. It
// returns how many lines it has read.
func (r *run) deal(ctx context.Context, input io.Reader, room *semaphore.Weighted, items chan<- *item, todo []chan *item) (int64, error) {
	seed := maphash.MakeSeed()
	send := func(to chan<- *item, i *item) error {
		select {
		case to <- i:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	file := &reader{mapping: &r.Mapping.mapping, input: input}
	for e, err := range file.entries() {
		if err != nil {
			return file.lines, err
		}
		i := &item{entry: e, weight: min(e.weight(), maxInFlight), done: make(chan struct{})}
		if err := room.Acquire(ctx, i.weight); err != nil {
			return file.lines, err
		}
		if err := send(items, i); err != nil {
			return file.lines, err
		}
		if e.draft == nil {
			continue
		}
		worker := maphash.String(seed, e.draft.order.Key) % uint64(len(todo))
		if err := send(todo[worker], i); err != nil {
			return file.lines, err
		}
	}
	return file.lines, nil
}

// work submits orders until there are no more or one fails.
func (r *run) work(ctx context.Context, name string, todo <-chan *item) error {
	for i := range todo {
		again, err := r.Submit(ctx, i.draft.order)
		if err != nil && !errors.As(err, &i.refused) {
			return fmt.Errorf("%s: submitting order %s: %w", name, i.draft.order.Key, err)
		}
		i.again = again
		close(i.done)
	}
	return nil
}

// account adds up what became of the lines, in the order of the file.
func (r *run) account(ctx context.Context, name string, room *semaphore.Weighted, items <-chan *item) error {
	for i := range items {
		if err := r.settle(ctx, name, i); err != nil {
			return err
		}
		room.Release(i.weight)
	}
	return nil
}

// settle waits for one entry's fate and writes it down.
func (r *run) settle(ctx context.Context, name string, i *item) error {
	if i.reject != nil {
		return r.reject(name, i.reject)
	}
	select {
	case <-i.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if f := i.refused; f != nil {
		for _, line := range i.draft.lines {
			if err := r.reject(name, &reject{line, f.Field, f.Code, f.Detail}); err != nil {
				return err
			}
		}
	} else {
		lines := int64(len(i.draft.lines))
		r.summary.Lines += lines
		r.summary.Used += lines
		r.summary.Orders++
		if i.again {
			r.summary.Repeated++
		}
	}
	r.tell()
	return nil
}

func (r *run) reject(name string, j *reject) error {
	err := r.rejects.Write([]string{name, strconv.FormatInt(j.number, 10), j.field, j.code, j.detail, j.text})
	if err != nil {
		return fmt.Errorf("writing the rejects: %w", err)
	}
	r.summary.Lines++
	r.summary.Rejected++
	r.summary.Codes[j.code]++
	return nil
}

func (r *run) tell() {
	r.summary.Bytes = r.read.Load()
	if r.Progress != nil {
		s := r.summary
		s.Codes = maps.Clone(s.Codes)
		r.Progress(s)
	}
}
