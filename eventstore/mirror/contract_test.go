package mirror_test

import (
	"context"
	"errors"
	"iter"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/eventstoretest"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// A mirrored ledger is written in one place and read in its mirror. As a mirror has no internal streams, and the suite
// has some, they stand in the ledger under another name.
type mirrored struct {
	ledger    *pebblestore.Store
	mirror    *mirror.Mirror
	appending sync.RWMutex // held to read while an append is under way
	close     func() error
}

const disguise = "disguised-"

func disguised(stream string) string {
	if eventstore.Internal(stream) {
		return disguise + stream
	}
	return stream
}

func (m *mirrored) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	m.appending.RLock()
	defer m.appending.RUnlock()
	a, err := m.ledger.Append(ctx, disguised(stream), expected, events)
	var conflict *eventstore.Conflict
	if errors.As(err, &conflict) {
		conflict.Stream = stream
	}
	if err == nil {
		err = m.mirror.CatchUp(ctx, m.ledger)
	}
	return a, err
}

func (m *mirrored) Close() error {
	m.appending.Lock()
	defer m.appending.Unlock()
	return m.close()
}

func (m *mirrored) Head(ctx context.Context) (eventstore.Head, error) { return m.mirror.Head(ctx) }

func (m *mirrored) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return m.reveal(m.mirror.ReadStream(ctx, disguised(stream), from, dir), false)
}

func (m *mirrored) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return m.reveal(m.mirror.ReadAll(ctx, after, disguisedFilter(f)), f.Public)
}

func (m *mirrored) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return m.reveal(m.mirror.Subscribe(ctx, after, disguisedFilter(f)), f.Public)
}

func disguisedFilter(f eventstore.Filter) (g eventstore.Filter) {
	for _, p := range f.Prefixes {
		g.Prefixes = append(g.Prefixes, disguised(p))
	}
	return g
}

func (m *mirrored) reveal(seq iter.Seq2[eventstore.Recorded, error], public bool) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range seq {
			e.Stream = strings.TrimPrefix(e.Stream, disguise)
			if public && eventstore.Internal(e.Stream) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestContract(t *testing.T) {
	fs := vfs.NewMem()
	eventstoretest.Run(t, eventstoretest.Implementation{Slow: true, Unchained: true, Open: func(t *testing.T, dir string) eventstore.Store {
		ledger, err := pebblestore.Open(dir, &pebblestore.Config{FS: fs, Logger: silent()})
		if err != nil {
			t.Fatal(err)
		}
		id := head(t, ledger).ID
		copied, err := mirror.Open(t.Context(), filepath.Join(filepath.Dir(dir), filepath.Base(dir)+".db"), mirror.Config{Ledger: id})
		if err != nil {
			t.Fatal(err)
		}
		if err := copied.CatchUp(t.Context(), ledger); err != nil {
			t.Fatal(err)
		}
		return &mirrored{ledger: ledger, mirror: copied, close: sync.OnceValue(func() error { return errors.Join(copied.Close(), ledger.Close()) })}
	}})
}
