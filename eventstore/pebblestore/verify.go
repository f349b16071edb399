package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
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
// anchor, and compares the index with the events. It may run beside writers, and checks what was durable when it began.
// It calls progress, if that is not nil, now and then.
//
// What it finds stands in the report. An error means that the check was not done to its end.
func (s *Store) Verify(ctx context.Context, progress func(done, total uint64)) (Report, error) {
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	v := verifier{store: s, progress: progress, report: Report{Head: s.durable()}}
	for _, check := range []func(context.Context) error{v.loadAnchor, v.checkLog, v.checkIndex} {
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
	end      address // of the log at the head
}

// loadAnchor reads the anchor.
func (v *verifier) loadAnchor(context.Context) error {
	a, err := v.store.readAnchor()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, eventstore.ErrCorrupt):
		return found(0, "%v", err)
	case err != nil:
		return err
	default:
		v.report.Anchor = &a
	}
	// While writers are at work the anchor may be newer than the head with which this check began.
	h := v.store.head.Load()
	v.report.Head, v.end = v.store.headOf(h), h.end
	if v.report.Anchor != nil && (a.ID != v.store.identity.ID || a.Incarnation != v.store.identity.Incarnation) {
		return found(0, "the anchor is of ledger %s, incarnation %d", a.ID, a.Incarnation)
	}
	return nil
}

// verifyChunk is how many events are checked before others get a turn.
const verifyChunk = 4096

// checkLog checks every event: positions without gap (this ledger leaves none), the chain, whole appends, and that each
// points to the one before it in its stream.
func (v *verifier) checkLog(ctx context.Context) error {
	var (
		s      = v.store
		head   = v.report.Head
		anchor = v.report.Anchor
		now    = s.segments.origin()
		scan   = s.segments.scan(now.next, v.end)
		left   uint32
		link   []byte
		done   bool
	)
	for !done {
		if err := s.alive(ctx); err != nil {
			return err
		}
		err := s.read(func() error {
			for range verifyChunk {
				at, f, err := scan.next()
				if errors.Is(err, io.EOF) {
					done = true
					return nil
				}
				if err != nil {
					return s.brokenAt(at, err)
				}
				if link, err = checkNext(now, f, link); err != nil {
					return wrongNext(now, f, err)
				}
				if left > 0 && f.left() != left-1 {
					return found(f.position(), "%d events of the append before this one are missing", left)
				}
				left = f.left()
				if err := v.checkPrevious(f); err != nil {
					return err
				}
				now = place{scan.at, f.position(), f.chain()}
				if err := v.checkSegment(at, now); err != nil {
					return err
				}
				if anchor != nil && anchor.Position == now.position && anchor.Chain != now.chain {
					return found(now.position, "the chain is %s, and the anchor says %s: the history up to here is another one", now.chain, anchor.Chain)
				}
				v.report.Events++
			}
			return nil
		})
		if errors.Is(err, eventstore.ErrCorrupt) {
			return found(now.position+1, "%v", err)
		}
		if err != nil {
			return err
		}
		v.progress(uint64(now.position), 2*uint64(head.Position))
	}
	switch {
	case anchor != nil && anchor.Position > head.Position:
		return found(now.position+1, "the ledger ends here, and stood at position %d when its anchor was written: its end was cut off", anchor.Position)
	case now.position != head.Position || now.chain != head.Chain:
		return found(now.position+1, "the log ends at position %d with %s, and the head is %d with %s", now.position, now.chain, head.Position, head.Chain)
	case left > 0:
		return found(now.position+1, "%d events of the last append are missing", left)
	}
	return nil
}

// wrongNext says what is wrong with an event that does not follow.
func wrongNext(p place, f frame, err error) error {
	if errors.Is(err, errTwice) {
		return found(p.position+1, "the event is missing: position %d stands in its place", f.position())
	}
	return found(f.position(), "the chain does not hold: this event of stream %q, or what stood before it, was changed, removed, inserted or moved", f.stream())
}

// checkSegment checks what the next segment says of the place where it begins.
func (v *verifier) checkSegment(at address, now place) error {
	if now.next.segment() == at.segment() || now.next >= v.end {
		return nil
	}
	next, err := v.store.segments.segment(now.next.segment())
	if err != nil {
		return err
	}
	if next.first != now.position+1 || next.chain != now.chain {
		return found(now.position+1, "%s says that it begins with position %d after %s, and it begins with %d after %s",
			segmentName(next.number), next.first, next.chain, now.position+1, now.chain)
	}
	return nil
}

// checkPrevious checks that an event points to the one before it in its stream.
func (v *verifier) checkPrevious(f frame) error {
	e, err := f.event()
	if err != nil {
		return err
	}
	if e.Revision == 0 && f.previous() == 0 {
		return nil
	}
	if e.Revision == 0 || f.previous() == 0 {
		return found(e.Position, "revision %d of stream %q points to %v", e.Revision, e.Stream, f.previous())
	}
	before, err := v.store.segments.frame(f.previous(), v.end)
	if err != nil {
		return err
	}
	b, err := before.event()
	if err != nil {
		return err
	}
	if b.Stream != e.Stream || b.Revision+1 != e.Revision || b.Position >= e.Position {
		return found(e.Position, "revision %d of stream %q points to revision %d of %q", e.Revision, e.Stream, b.Revision, b.Stream)
	}
	return nil
}

// checkIndex checks that the index knows the end of every stream, and the way to its events. Each stream that it knows
// has as many events as the last one's revision says, because the log holds. If together these are all events, none is
// missing.
func (v *verifier) checkIndex(ctx context.Context) error {
	x := v.store.index
	x.mu.RLock()
	h := v.store.head.Load()
	tails := make(map[string]tail, len(x.young.streams)+len(x.old.streams))
	for _, half := range []map[string]*entry{x.old.streams, x.young.streams} {
		for stream, e := range half {
			tails[stream] = e.tail
		}
	}
	snapshot := x.db.NewSnapshot()
	x.mu.RUnlock()
	defer func() { _ = snapshot.Close() }() // nothing was written to it

	var events, done uint64
	count := func(stream string, t tail) error {
		if t.revision < 0 {
			return nil
		}
		events += uint64(t.revision) + 1
		return v.checkStream(stream, t, h.end)
	}
	each := func(f func(it *pebble.Iterator) error) error {
		key, more := []byte{streamPrefix}, true
		for more {
			if err := v.store.alive(ctx); err != nil {
				return err
			}
			err := v.store.read(func() error {
				it, err := snapshot.NewIter(&pebble.IterOptions{LowerBound: key, UpperBound: []byte{streamPrefix + 1}})
				if err != nil {
					return err
				}
				defer func() { _ = it.Close() }() // its error is read below
				n := 0
				for more = it.First(); more && n < verifyChunk; more, n = it.Next(), n+1 {
					if err := f(it); err != nil {
						return err
					}
					done++
				}
				if more {
					key = append([]byte(nil), it.Key()...)
				}
				return it.Error()
			})
			if err != nil {
				return err
			}
			v.progress(uint64(h.position)+min(done, uint64(h.position)), 2*uint64(h.position))
		}
		return nil
	}
	err := each(func(it *pebble.Iterator) error {
		stream, rest, err := cutName(it.Key())
		if err == nil && len(rest) > 0 {
			err = fmt.Errorf("%q is not a key of the index", it.Key())
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errIndex, err)
		}
		if _, ok := tails[stream]; ok {
			return nil // what is in memory is newer
		}
		t, err := decodeTail(it.Value())
		if err != nil {
			return fmt.Errorf("%w: %w", errIndex, err)
		}
		return count(stream, t)
	})
	if err == nil {
		err = v.store.read(func() error {
			for stream, t := range tails {
				if err := count(stream, t); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil && events != uint64(h.position) {
		err = fmt.Errorf("%w: it knows streams with %d events, and the log has %d", errIndex, events, h.position)
	}
	for p := eventstore.Position(positionStep); err == nil && p <= h.position; p += positionStep {
		err = v.store.read(func() error { return v.checkPlace(p, h.end) })
	}
	if errors.Is(err, eventstore.ErrCorrupt) {
		return found(v.report.Head.Position, "%v; the index, which is not the ledger, is made anew if %s is removed while the ledger is closed", err, v.store.fs.PathJoin(v.store.dir, "ledger", "index"))
	}
	return err
}

// checkStream checks that the index leads to a stream's events.
func (v *verifier) checkStream(stream string, t tail, end address) error {
	for revision := uint64(streamStep - 1); int64(revision) < t.revision; revision += streamStep {
		at, err := v.store.index.waypoint(stream, t, revision)
		if err != nil {
			return err
		}
		if _, _, err := v.store.member(stream, revision, at, end); err != nil {
			return err
		}
	}
	_, _, err := v.store.member(stream, uint64(t.revision), t.at, end)
	return err
}

// checkPlace checks that the index leads to a position.
func (v *verifier) checkPlace(p eventstore.Position, end address) error {
	at, err := v.store.index.near(p)
	if err != nil {
		return err
	}
	f, err := v.store.segments.frame(at, end)
	if err != nil {
		return err
	}
	if f.position() != p {
		return fmt.Errorf("%w: it leads to position %d for position %d", errIndex, f.position(), p)
	}
	return nil
}
