package esdb_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/eventstoretest"
)

// TestConformanceOfARealServer runs the suite against a server of one's own, which keeps what the suite writes. All ledgers
// of the suite stand in it side by side.
func TestConformanceOfARealServer(t *testing.T) {
	connection := os.Getenv("ORDERLEDGER_TEST_EVENTSTOREDB")
	if connection == "" {
		t.Skip("ORDERLEDGER_TEST_EVENTSTOREDB names no server, such as esdb://admin:changeit@localhost:2113?tls=false")
	}
	var mu sync.Mutex
	shares := make(map[string]*share)
	eventstoretest.Run(t, eventstoretest.Implementation{
		Open: func(t *testing.T, dir string) eventstore.Store {
			t.Helper()
			s, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: connection, Logger: silent()})
			if err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if shares[dir] == nil {
				head, err := s.Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				shares[dir] = &share{tag: "~" + uuid.NewString()[:8], base: head.Position, names: make(map[string]string)}
			}
			return &tagged{s, shares[dir]}
		},
		Unchained: true,
		Slow:      true,
	})
}

// A share is one ledger of the suite: the streams whose names end with its tag, from a position on.
type share struct {
	tag  string
	base eventstore.Position

	mu    sync.Mutex            // protects what follows
	names map[string]string     // what the suite calls those streams whose names were too long for the tag
	known []eventstore.Position // events, in no order
}

type tagged struct {
	eventstore.Store
	*share
}

func (s *tagged) outer(stream string) string {
	name := stream + s.tag
	if len(name) <= eventstore.MaxStreamName {
		return name
	}
	sum := sha256.Sum256([]byte(stream))
	name = stream[:strings.Index(stream, "-")+1] + hex.EncodeToString(sum[:]) + s.tag
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name] = stream
	return name
}

func (s *tagged) Append(ctx context.Context, stream string, expected eventstore.Expected, events []eventstore.Event) (eventstore.Appended, error) {
	if eventstore.Validate(stream, expected, events) != nil {
		return s.Store.Append(ctx, stream, expected, events)
	}
	a, err := s.Store.Append(ctx, s.outer(stream), expected, events)
	var c *eventstore.Conflict
	if errors.As(err, &c) {
		err = &eventstore.Conflict{Stream: stream, Expected: c.Expected, Actual: c.Actual}
	}
	return a, err
}

func (s *tagged) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return s.inner(0, eventstore.Filter{}, s.Store.ReadStream(ctx, s.outer(stream), from, dir))
}

func (s *tagged) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return s.inner(after, filter, s.Store.ReadAll(ctx, s.from(after), filter))
}

func (s *tagged) Subscribe(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return s.inner(after, filter, s.Store.Subscribe(ctx, s.from(after), filter))
}

// from is a position that the server knows, at or before one that the suite has made up: EventStoreDB reads from nowhere
// else.
func (s *tagged) from(after eventstore.Position) eventstore.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.known, after) {
		return after
	}
	return s.base
}

// inner gives the events of this ledger the names by which the suite knows their streams.
func (s *tagged) inner(after eventstore.Position, filter eventstore.Filter, seq iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range seq {
			if err == nil {
				name, ours := strings.CutSuffix(e.Stream, s.tag)
				s.mu.Lock()
				if long, ok := s.names[e.Stream]; ok {
					name = long
				}
				if ours {
					s.known = append(s.known, e.Position)
				}
				s.mu.Unlock()
				if !ours || after > 0 && e.Position <= after || !filter.Match(name) {
					continue
				}
				e.Stream = name
			}
			if !yield(e, err) {
				return
			}
		}
	}
}
