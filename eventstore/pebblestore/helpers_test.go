package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

var slogDiscard = slog.New(slog.DiscardHandler)

func mustOpen(t *testing.T, dir string, cfg *Config) *Store {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slogDiscard
	}
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func appendOne(t *testing.T, s *Store, stream string) eventstore.Appended {
	t.Helper()
	return appendEvents(t, s, stream, 1)
}

func appendEvents(t *testing.T, s *Store, stream string, n int) eventstore.Appended {
	t.Helper()
	a, err := s.Append(context.WithoutCancel(t.Context()), stream, eventstore.Any, newEvents(n))
	if err != nil {
		t.Error(err)
	}
	return a
}

func newEvents(n int) []eventstore.Event {
	events := make([]eventstore.Event, n)
	for i := range events {
		events[i] = eventstore.Event{ID: uuid.New(), Type: "test.happened.v1", Data: binary.AppendUvarint(nil, uint64(i))}
	}
	return events
}

// sized makes an event that takes so many bytes in a segment.
func sized(stream string, size int) eventstore.Event {
	e := newEvents(1)[0]
	e.Data = make([]byte, size-len(frame(appendFrame(nil, stream, &eventstore.Event{Type: e.Type}, 0))))
	return e
}

func count(t *testing.T, s *Store) (n int) {
	t.Helper()
	for _, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// checkWhole checks that a ledger has so many events and that nothing is wrong with them.
func checkWhole(t *testing.T, s *Store, events int) {
	t.Helper()
	if n := count(t, s); n != events {
		t.Errorf("%d events, want %d", n, events)
	}
	if r, err := s.Verify(context.WithoutCancel(t.Context()), nil); err != nil || r.Problem != "" || r.Events != uint64(events) {
		t.Errorf("report %+v, error %v; want %d events", r, err, events)
	}
}

func readFrom(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// writeTo replaces a file.
func writeTo(t *testing.T, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil { // a Write of vfs.MemFS may change b
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// writeAt writes over a part of a file.
func writeAt(t *testing.T, fs vfs.FS, name string, at int64, b []byte) {
	t.Helper()
	all := readFrom(t, fs, name)
	copy(all[at:], b)
	writeTo(t, fs, name, all)
}

// A layout is a log laid open: its segments and their events can be changed and written again, with right lengths and
// checksums.
type layout struct {
	t       *testing.T
	fs      vfs.FS
	dir     string
	headers []header
	sizes   []int
	events  []*event
}

type event struct {
	eventstore.Recorded
	chain   eventstore.Hash
	segment uint32
	left    int
	before  *event // of the same stream
	at      address
	raw     []byte // written in place of all this, if it is not nil
}

// layOpen reads the log of a closed ledger.
func layOpen(t *testing.T, fs vfs.FS, dir string) *layout {
	t.Helper()
	l := &layout{t: t, fs: fs, dir: fs.PathJoin(dir, "ledger")}
	numbers, err := segmentNumbers(fs, l.dir)
	if err != nil {
		t.Fatal(err)
	}
	at := map[address]*event{}
	for _, n := range numbers {
		b := readFrom(t, fs, fs.PathJoin(l.dir, segmentName(n)))
		h, err := decodeHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		l.headers, l.sizes = append(l.headers, h), append(l.sizes, len(b))
		for i := headerSize; ; {
			f, size, err := cutFrame(b[i:])
			if err != nil {
				break
			}
			e, err := f.event()
			if err != nil {
				t.Fatal(err)
			}
			laid := &event{Recorded: e, chain: f.chain(), segment: n, left: int(f.left()), before: at[f.previous()], at: addressOf(n, int64(i))}
			at[laid.at] = laid
			l.events = append(l.events, laid)
			i += size
		}
	}
	return l
}

// event is the one at a position.
func (l *layout) event(p eventstore.Position) *event { return l.events[p-1] }

// number gives the events the positions that their order says.
func (l *layout) number() {
	for i, e := range l.events {
		e.Position = eventstore.Position(i + 1)
	}
}

// forge computes the chain anew from a position on.
func (l *layout) forge(p eventstore.Position) {
	var chain eventstore.Hash
	for _, e := range l.events {
		if e.Position >= p && !eventstore.Internal(e.Stream) {
			e.chain = eventstore.Chain(chain, &e.Recorded)
		} else if e.Position >= p {
			e.chain = chain
		}
		chain = e.chain
	}
}

// write replaces the log, as if each event had been in a group of its own.
func (l *layout) write() {
	l.t.Helper()
	for n := range l.sizes[len(l.headers):] {
		if err := l.fs.Remove(l.fs.PathJoin(l.dir, segmentName(uint32(len(l.headers)+n+1)))); err != nil {
			l.t.Fatal(err)
		}
	}
	var end address
	for i, h := range l.headers {
		if i > 0 {
			h.before = end
		}
		b := h.encode()
		for _, e := range l.events {
			if e.segment != h.number {
				continue
			}
			e.at = addressOf(h.number, int64(len(b)))
			f := frame(appendFrame(nil, e.Stream, &e.Event, e.left))
			s := seal{position: e.Position, revision: e.Revision, time: e.Time.UnixNano(), durable: e.at}
			if e.before != nil {
				s.previous = e.before.at
			}
			f.seal(s, e.chain)
			if e.raw != nil {
				f = e.raw
			}
			b = append(b, f...)
		}
		end = addressOf(h.number, int64(len(b)))
		if more := l.sizes[i] - len(b); more > 0 {
			b = append(b, make([]byte, more)...)
		}
		writeTo(l.t, l.fs, l.fs.PathJoin(l.dir, segmentName(h.number)), b)
	}
}

// fitIndex has the index say that it goes up to the last event of the log, whatever that is now.
func (l *layout) fitIndex() {
	l.t.Helper()
	var last event
	if n := len(l.events); n > 0 {
		last = *l.events[n-1]
	}
	changeIndex(l.t, l.fs, l.fs.PathDir(l.dir), func(b *pebble.Batch) error {
		return b.Set([]byte(indexedKey), encodeIndexed(last.at, place{position: last.Position, chain: last.chain}), nil)
	})
}

// changeIndex changes the index of a closed ledger.
func changeIndex(t *testing.T, fs vfs.FS, dir string, change func(b *pebble.Batch) error) {
	t.Helper()
	s := &Store{logger: slog.New(slog.DiscardHandler)}
	db, err := pebble.Open(fs.PathJoin(dir, "ledger", "index"), s.options(fs, false, &breakdown{done: make(chan struct{})}))
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	if err := errors.Join(change(b), b.Commit(pebble.NoSync), b.Close(), db.Flush(), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func removeIndex(t *testing.T, fs vfs.FS, dir string) {
	t.Helper()
	if err := fs.RemoveAll(fs.PathJoin(dir, "ledger", "index")); err != nil {
		t.Fatal(err)
	}
}
