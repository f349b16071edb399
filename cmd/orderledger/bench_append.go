package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/internal/bench"
)

// Sizes of what is appended.
const (
	appendBytes  = 250 // of an event
	appendStream = 10  // events of a stream
)

// appendWriters are how many write at once.
var appendWriters = []int{1, 64, 256, 1024}

// measureAppend measures durable appends of one event at its expected revision.
func (b *benchmark) measureAppend(ctx context.Context) (bench.Section, error) {
	s := bench.Section{
		Name:  "append",
		About: fmt.Sprintf("one event of %d B at its expected revision, streams of %d events, durable and visible when acknowledged", appendBytes, appendStream),
		Limit: "raw group commit: a preallocated file, one write and fdatasync for all that waits",
	}
	total := 0
	for _, writers := range appendWriters {
		figures, events, err := b.appendWith(ctx, writers)
		if err != nil {
			return s, fmt.Errorf("%d writers: %w", writers, err)
		}
		s.Figures = append(s.Figures, figures...)
		total += events
		if b.eventStoreDB == "" {
			continue
		}
		if figures, events, err = b.appendToEventStoreDB(ctx, writers); err != nil {
			return s, fmt.Errorf("%d writers, EventStoreDB: %w", writers, err)
		}
		s.Figures = append(s.Figures, figures...)
		total += events
	}
	s.Checked = fmt.Sprintf("after opening anew, all %d acknowledged events are there once, at their revisions, with their bytes, in the order of each writer, and form one chain", total)
	return s, nil
}

// appendWith measures with a number of writers on a ledger of its own, and checks that ledger.
func (b *benchmark) appendWith(ctx context.Context, writers int) (_ []bench.Figure, events int, err error) {
	dir, tidy, err := b.scratch("append")
	if err != nil {
		return nil, 0, err
	}
	defer tidy(&err)
	ledger, err := pebblestore.Open(dir, &pebblestore.Config{Logger: b.log})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	limit, err := newGroupCommit(filepath.Join(dir, "limit"), groupCommitSize)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, limit.close()) }()

	load := newAppendLoad(ledger, "", writers)
	raw := newAppendLoad(nil, "", writers) // the same events
	name := counted(writers, "writer")
	figures, err := b.beside(ctx, besides{
		name: name, unit: "events/s", workers: writers, aim: &bench.Aim{Value: 0.5},
		subject: load.append,
		limit: func(_ context.Context, worker int) error {
			w := &raw.writers[worker]
			raw.next(worker)
			w.acked++
			return limit.append(w.event[0].Data)
		},
	})
	if err != nil {
		return nil, 0, err
	}
	memory := bench.ResidentMemory()
	if err := ledger.Close(); err != nil {
		return nil, 0, err
	}
	size, err := bench.DiskUsage(filepath.Join(dir, "ledger"))
	if err != nil {
		return nil, 0, err
	}
	if events, err = load.check(ctx, dir, b); err != nil {
		return nil, 0, err
	}
	return append(figures,
		plainFigure(name+": on disk", "B/event", float64(size)/float64(events)),
		plainFigure(name+": memory, this load included", "MB", float64(memory)/1e6),
	), events, nil
}

// An appendLoad appends events from many writers, and remembers what was acknowledged.
type appendLoad struct {
	ledger  eventstore.Appender
	name    string // begins the names of its streams
	writers []appendWriter
}

// An appendWriter appends one event after the other.
type appendWriter struct {
	acked  int    // how many were acknowledged
	stream string // of the next event
	event  [1]eventstore.Event
}

func newAppendLoad(ledger eventstore.Appender, name string, writers int) *appendLoad {
	return &appendLoad{ledger: ledger, name: "bench-" + name, writers: make([]appendWriter, writers)}
}

// append appends the next event of a writer.
func (l *appendLoad) append(ctx context.Context, worker int) error {
	w := &l.writers[worker]
	expected, revision := l.next(worker)
	appended, err := l.ledger.Append(ctx, w.stream, expected, w.event[:])
	if err != nil {
		return err
	}
	if appended.Revision != revision || appended.Repeated {
		return fmt.Errorf("%s: revision %d was acknowledged as %+v", w.stream, revision, appended)
	}
	w.acked++
	return nil
}

// next makes the next event of a writer.
func (l *appendLoad) next(worker int) (expected eventstore.Expected, revision uint64) {
	w := &l.writers[worker]
	revision = uint64(w.acked % appendStream)
	expected = eventstore.NoStream
	if revision == 0 {
		w.stream = l.stream(worker, w.acked)
	} else {
		expected = eventstore.At(revision - 1)
	}
	w.event[0] = appendEvent(worker, w.acked)
	return expected, revision
}

// stream names the stream of the n-th event of a writer.
func (l *appendLoad) stream(worker, n int) string {
	return fmt.Sprintf("%s-%d-%d", l.name, worker, n/appendStream)
}

// appendEvent is the n-th event of a writer.
func appendEvent(worker, n int) eventstore.Event {
	e := eventstore.Event{Type: "bench.event.v1", Data: make([]byte, 0, appendBytes)}
	binary.BigEndian.PutUint64(e.ID[:], uint64(worker)+1)
	binary.BigEndian.PutUint64(e.ID[8:], uint64(n))
	e.Data = append(e.Data, `{"id":"`...)
	e.Data = hexID(e.Data, e.ID)
	e.Data = append(e.Data, `","text":"`...)
	const end = `"}`
	length := appendBytes - len(end) - len(e.Data)
	at := (worker*977 + n*131) % (len(noise) - length)
	e.Data = append(append(e.Data, noise[at:at+length]...), end...)
	return e
}

// hexID is faster than the id's own method: making the load must cost little.
func hexID(b []byte, id uuid.UUID) []byte {
	const digits = "0123456789abcdef"
	for _, v := range id {
		b = append(b, digits[v>>4], digits[v&15])
	}
	return b
}

// noise is text that cannot be compressed by much.
var noise = func() string {
	b := make([]byte, 48<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // it never fails
	return base64.StdEncoding.EncodeToString(b)
}()

// check opens the ledger again and looks for what was acknowledged.
func (l *appendLoad) check(ctx context.Context, dir string, b *benchmark) (events int, err error) {
	b.step("checking what was appended")
	ledger, err := pebblestore.Open(dir, &pebblestore.Config{ReadOnly: true, Logger: b.log})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	if events, err = l.checkEvents(ctx, ledger); err != nil {
		return 0, &gateError{err}
	}
	report, err := ledger.Verify(ctx, nil)
	if err != nil {
		return 0, err
	}
	if report.Problem != "" {
		return 0, &gateError{fmt.Errorf("position %d: %s", report.Bad, report.Problem)}
	}
	return events, nil
}

// checkEvents compares a ledger with what was acknowledged: nothing may be lost, doubled, changed or out of order.
func (l *appendLoad) checkEvents(ctx context.Context, ledger eventstore.Reader) (events int, err error) {
	seen := make([]int, len(l.writers))
	var last eventstore.Position
	for e, err := range ledger.ReadAll(ctx, 0, eventstore.Filter{Prefixes: []string{l.name}}) {
		if err != nil {
			return 0, err
		}
		worker := int(binary.BigEndian.Uint64(e.ID[:])) - 1
		if worker < 0 || worker >= len(seen) {
			return 0, fmt.Errorf("position %d holds an event that nobody appended", e.Position)
		}
		n := seen[worker]
		want := appendEvent(worker, n)
		switch {
		case e.Position <= last:
			return 0, fmt.Errorf("position %d comes after position %d", e.Position, last)
		case e.ID != want.ID:
			return 0, fmt.Errorf("position %d holds event %d of writer %d, and event %d comes next", e.Position, binary.BigEndian.Uint64(e.ID[8:]), worker, n)
		case e.Stream != l.stream(worker, n) || e.Revision != uint64(n%appendStream):
			return 0, fmt.Errorf("event %d of writer %d stands at revision %d of %s", n, worker, e.Revision, e.Stream)
		case string(e.Data) != string(want.Data) || e.Type != want.Type || len(e.Metadata) > 0:
			return 0, fmt.Errorf("event %d of writer %d has changed", n, worker)
		}
		seen[worker]++
		last = e.Position
		events++
	}
	for worker := range l.writers {
		if seen[worker] != l.writers[worker].acked {
			return 0, fmt.Errorf("writer %d got %d events acknowledged, and %d are there", worker, l.writers[worker].acked, seen[worker])
		}
	}
	return events, nil
}
