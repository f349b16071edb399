package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"

	"github.com/orderledger/orderledger/eventstore"
)

// A Report is what [Store.Verify] found.
type Report struct {
	Head   eventstore.Head    // of the ledger when the check began
	Anchor *eventstore.Anchor // nil: there is none
	Events uint64             // that were checked, internal ones included
	// Problem says what is wrong first, and Bad where: at or just before this position. The events before it are as
	// they were written. An empty Problem means that all is well.
	Problem string
	Bad     eventstore.Position
}

// Unanchored is the range of positions, both included, that no anchor vouches for yet: were they cut off, or written
// anew with a chain of their own, only somebody outside who has seen them could tell. ok is false if there are none.
func (r Report) Unanchored() (first, last eventstore.Position, ok bool) {
	if r.Anchor != nil {
		first = r.Anchor.Position
	}
	return first + 1, r.Head.Position, first < r.Head.Position
}

// Verify reads the whole ledger and checks that it is what was written: it recomputes the chain, compares it with the
// anchor, and compares streams and records both ways. It may run beside writers, and checks what was durable when it
// began. It calls progress, if that is not nil, now and then.
//
// What it finds stands in the report. An error means that the check was not done to its end.
func (s *Store) Verify(ctx context.Context, progress func(done, total uint64)) (Report, error) {
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	v := verifier{store: s, progress: progress, report: Report{Head: s.durable()}}
	for _, check := range []func(context.Context) error{v.loadAnchor, v.checkRecords, v.checkStreams} {
		err := check(ctx)
		if found := (*finding)(nil); errors.As(err, &found) {
			v.report.Bad, v.report.Problem = found.position, found.problem
			return v.report, nil
		}
		if err != nil {
			return v.report, fmt.Errorf("verifying the ledger in %s: %w", s.dir, err)
		}
	}
	return v.report, nil
}

// A finding is what is wrong with a ledger.
type finding struct {
	position eventstore.Position
	problem  string
}

func (f *finding) Error() string { return f.problem }

func found(p eventstore.Position, format string, args ...any) error {
	return &finding{p, fmt.Sprintf(format, args...)}
}

type verifier struct {
	store    *Store
	progress func(done, total uint64)
	report   Report
}

// loadAnchor reads the anchor.
func (v *verifier) loadAnchor(context.Context) error {
	a, err := v.store.readAnchor()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, eventstore.ErrCorrupt):
		return found(0, "%v", err)
	case err != nil:
		return err
	}
	v.report.Anchor = &a
	if a.ID != v.store.identity.ID || a.Incarnation != v.store.identity.Incarnation {
		return found(0, "the anchor is of ledger %s, incarnation %d", a.ID, a.Incarnation)
	}
	// While writers are at work the anchor may be newer than the head with which this check began.
	v.report.Head = v.store.durable()
	return nil
}

// verifyChunk is how many keys are checked before others get a turn.
const verifyChunk = 4096

// checkRecords checks every record: positions without gap (this store leaves none), the chain, and that the index of its
// stream points back to it.
func (v *verifier) checkRecords(ctx context.Context) error {
	var (
		chain  eventstore.Hash
		head   = v.report.Head
		anchor = v.report.Anchor
		next   = eventstore.Position(1)
	)
	for next <= head.Position {
		if err := v.store.alive(ctx); err != nil {
			return err
		}
		err := v.store.read(func() error {
			it, err := v.store.records(next, head.Position)
			if err != nil {
				return err
			}
			defer func() { _ = it.Close() }() // its error is read below
			for ok, n := it.First(), 0; ok && n < verifyChunk; ok, n = it.Next(), n+1 {
				if chain, err = v.checkRecord(it, next, chain); err != nil {
					return err
				}
				if anchor != nil && anchor.Position == next && anchor.Chain != chain {
					return found(next, "the chain is %s, and the anchor says %s: the history up to here is another one", chain, anchor.Chain)
				}
				v.report.Events++
				next++
			}
			if err := it.Error(); err != nil {
				return err
			}
			if !it.Valid() && next <= head.Position {
				return found(next, "the record is missing")
			}
			return nil
		})
		if errors.Is(err, eventstore.ErrCorrupt) {
			return found(next, "%v", err)
		}
		if err != nil {
			return err
		}
		v.progress(uint64(next-1), 2*uint64(head.Position))
	}
	if anchor != nil && anchor.Position > head.Position {
		return found(next, "the ledger ends here, and stood at position %d when its anchor was written: its end was cut off", anchor.Position)
	}
	if chain != head.Chain {
		return found(head.Position, "the chain ends in %s, and its records end in %s", head.Chain, chain)
	}
	return nil
}

// checkRecord checks the record at which an iterator stands and returns the chain after it.
func (v *verifier) checkRecord(it *pebble.Iterator, next eventstore.Position, chain eventstore.Hash) (eventstore.Hash, error) {
	p, b, err := recordAt(it)
	if err != nil {
		return chain, err
	}
	if p != next {
		return chain, found(next, "the record is missing")
	}
	e, err := decodeRecord(p, b)
	if err != nil {
		return chain, err
	}
	if !eventstore.Internal(e.Stream) {
		chain = eventstore.Chain(chain, &e)
	}
	if recordHead(b) != chain {
		return chain, found(p, "the chain does not hold: this event of stream %q, or what stood before it, was changed, removed, inserted or moved", e.Stream)
	}
	pointer, err := v.pointer(e.Stream, e.Revision)
	if errors.Is(err, pebble.ErrNotFound) {
		return chain, found(p, "stream %q does not list its revision %d", e.Stream, e.Revision)
	}
	if err != nil {
		return chain, err
	}
	if pointer != p {
		return chain, found(p, "stream %q lists its revision %d at position %d", e.Stream, e.Revision, pointer)
	}
	return chain, nil
}

// pointer is what the index says about one event.
func (v *verifier) pointer(stream string, revision uint64) (eventstore.Position, error) {
	value, closer, err := v.store.db.Get(indexKey(stream, revision))
	if err != nil {
		return 0, err
	}
	p, err := parsePositionValue(value)
	if err != nil {
		err = corrupt(0, err)
	}
	return p, errors.Join(err, closer.Close())
}

// checkStreams checks the index: revisions without gap, rising positions, and no pointer without its record. Each record
// has its pointer already, so there are others only if there are more of them; then they are looked for.
func (v *verifier) checkStreams(ctx context.Context) error {
	pointers, err := v.checkIndex(ctx, false)
	if err == nil && pointers != v.report.Events {
		_, err = v.checkIndex(ctx, true)
	}
	return err
}

// checkIndex reads the index and returns how many pointers there are up to the head. Of those beyond it, which writers
// add meanwhile, it looks up the first one of each stream.
func (v *verifier) checkIndex(ctx context.Context, lookUpAll bool) (pointers uint64, err error) {
	var (
		head   = v.report.Head.Position
		key    = []byte{indexPrefix} // where to go on
		before entry
		more   = true
	)
	for more {
		if err := v.store.alive(ctx); err != nil {
			return 0, err
		}
		err := v.store.read(func() error {
			index, err := v.store.db.NewIter(&pebble.IterOptions{LowerBound: key, UpperBound: []byte{indexPrefix + 1}})
			if err != nil {
				return err
			}
			defer func() { _ = index.Close() }() // its error is read below
			records, err := v.store.records(0, ^eventstore.Position(0))
			if err != nil {
				return err
			}
			defer func() { _ = records.Close() }()
			n := 0
			for more = index.First(); more && n < verifyChunk; n++ {
				e, err := readEntry(index)
				if err != nil {
					return err
				}
				if err := e.follows(before); err != nil {
					return err
				}
				if lookUpAll || e.position > head {
					if err := e.check(records); err != nil {
						return err
					}
				}
				before = e
				if e.position > head { // the rest of the stream is newer still, and may grow while it is read
					more = index.SeekGE(streamEnd(e.stream))
					continue
				}
				pointers++
				more = index.Next()
			}
			if more {
				key = append([]byte(nil), index.Key()...)
			}
			return index.Error()
		})
		if errors.Is(err, eventstore.ErrCorrupt) {
			return 0, found(before.position, "the index of the streams: %v", err)
		}
		if err != nil {
			return 0, err
		}
		v.progress(uint64(head)+min(pointers, uint64(head)), 2*uint64(head))
	}
	return pointers, nil
}

// An entry is one pointer of the index.
type entry struct {
	stream   string
	revision uint64
	position eventstore.Position
}

func readEntry(it *pebble.Iterator) (entry, error) {
	stream, revision, err := parseIndexKey(it.Key())
	if err != nil {
		return entry{}, corrupt(0, err)
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return entry{}, err
	}
	p, err := parsePositionValue(value)
	if err != nil {
		return entry{}, corrupt(0, fmt.Errorf("stream %q, revision %d: %w", stream, revision, err))
	}
	return entry{stream, revision, p}, nil
}

// follows checks an entry against the one before it in the index.
func (e entry) follows(before entry) error {
	next := uint64(0)
	if e.stream == before.stream {
		next = before.revision + 1
	}
	switch {
	case e.revision != next:
		return found(e.position, "stream %q lacks revision %d", e.stream, next)
	case e.stream == before.stream && e.position <= before.position:
		return found(e.position, "stream %q has revision %d at position %d, before revision %d", e.stream, e.revision, e.position, before.revision)
	}
	return nil
}

// check looks the entry's record up.
func (e entry) check(records *pebble.Iterator) error {
	r, err := lookUp(records, e.position)
	if err == nil && (r.Stream != e.stream || r.Revision != e.revision) {
		err = corrupt(e.position, fmt.Errorf("revision %d of stream %q stands there", r.Revision, r.Stream))
	}
	if errors.Is(err, eventstore.ErrCorrupt) {
		return found(e.position, "stream %q lists revision %d, which the ledger does not hold: %v", e.stream, e.revision, err)
	}
	return err
}
