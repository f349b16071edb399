// Package eventstore is the contract of a ledger: an append-only store of immutable events in streams, with one
// total order over all of them. It knows no orders.
//
// # What a ledger promises
//
//   - An append is all or nothing. It is acknowledged only after it is durable, and no reader sees it earlier.
//   - Revisions are gapless within a stream: 0, 1, 2, …
//   - Positions rise strictly over the whole ledger and may have gaps. Once a reader has seen a position, no
//     smaller one appears later.
//   - An append repeated with the same event ids at [NoStream] or at a revision succeeds with the first result,
//     also after a restart. [Any] and [StreamExists] promise nothing of the kind.
//   - After a failed sync the ledger refuses every write with [ErrFailed] until it is opened anew; reads go on.
//   - Every event is linked to the one before it by [Chain], so that a changed, removed, inserted or swapped event
//     can be found. Streams for which [Internal] is true stand outside the chain.
//
// Every implementation passes the suite in eventstoretest, which says all of this in tests. All methods of
// [Appender], [Reader] and [Store] are safe for concurrent use.
package eventstore

import (
	"context"
	"hash/fnv"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// MaxAppend is the largest size in bytes of one append: ids, types, data and metadata of its events.
	// It is EventStoreDB's own limit.
	MaxAppend = 1 << 20
	// MaxEvents is the largest number of events in one append.
	MaxEvents = 10_000
	// MaxStreamName is the longest name of a stream in bytes.
	MaxStreamName = 256
	// MaxTypeName is the longest type name of an event in bytes.
	MaxTypeName = 128
)

// An Event is what a writer appends.
type Event struct {
	ID       uuid.UUID // names the event for ever; a repeated append is recognised by it
	Type     string    // versioned wire name, such as order.shipped.v1
	Metadata []byte    // JSON, or empty
	Data     []byte    // JSON
}

// A Recorded is an event as it stands in the ledger. Its slices belong to the receiver, who may keep them and must
// not change them.
type Recorded struct {
	Event
	Stream   string
	Revision uint64    // place in the stream, from 0
	Position Position  // place in the ledger
	Time     time.Time // when the ledger took it, UTC; informative, never a source of order
	Chain    Hash      // hash of this record and all before it; zero for internal streams, or where not yet known
}

// A Position is a place in a ledger's total order. It is opaque: positions are compared, never calculated with.
// Zero stands before the first event.
type Position uint64

// Expected says which state of a stream an append requires: [NoStream], [StreamExists], [Any] or a revision,
// made by [At]. The zero value requires that the stream's last revision is 0.
type Expected int64

// The states that are not a revision.
const (
	NoStream     Expected = -1
	Any          Expected = -2
	StreamExists Expected = -4
)

// At requires that the last event of a stream has the given revision.
func At(revision uint64) Expected { return Expected(revision) }

func (e Expected) String() string {
	switch e {
	case NoStream:
		return "no stream"
	case Any:
		return "any"
	case StreamExists:
		return "an existing stream"
	}
	return "revision " + strconv.FormatInt(int64(e), 10)
}

// Appended is the result of an append.
type Appended struct {
	Revision uint64   // of the last event
	Position Position // of the last event; 0 where a repeated append no longer knows it
	Repeated bool     // the events stood there already
}

// An Appender takes events.
type Appender interface {
	// Append adds events to the end of a stream and returns when they are durable, all of them or none.
	//
	// It returns a [*Conflict] if the stream is not as expected, [ErrTooLarge] or [ErrInvalid] for events that no
	// ledger takes, and an error for which [Unavailable] is true while the ledger takes no writes. Any other
	// error, a cancelled context included, leaves the outcome unknown: repeat the append with the same ids.
	Append(ctx context.Context, stream string, expected Expected, events []Event) (Appended, error)
}

// A Direction is the order in which a stream is read.
type Direction int

// The directions.
const (
	Forward Direction = iota
	Backward
)

// End is where a backward read begins to begin at a stream's newest event.
const End = ^uint64(0)

// A Reader gives events back. Each sequence ends after it has yielded an error. The sequences may be ranged over
// once, by one goroutine.
type Reader interface {
	// ReadStream yields the events of a stream from a revision on, that one included. A stream that does not exist
	// yields nothing.
	ReadStream(ctx context.Context, stream string, from uint64, dir Direction) iter.Seq2[Recorded, error]
	// ReadAll yields the events after a position in order, up to the head at the time of the call.
	ReadAll(ctx context.Context, after Position, filter Filter) iter.Seq2[Recorded, error]
	// Subscribe yields the events after a position in order, without gap or duplicate, and waits for new ones until
	// ctx is done, whose error it then yields. A slow receiver costs no memory.
	Subscribe(ctx context.Context, after Position, filter Filter) iter.Seq2[Recorded, error]
	// Head tells which ledger this is and where it ends.
	Head(ctx context.Context) (Head, error)
}

// A Store is a whole ledger. Close waits for appends under way, ends every sequence with [ErrClosed] and may be
// called twice.
type Store interface {
	Appender
	Reader
	io.Closer
}

// A Filter chooses events by the names of their streams. The zero Filter chooses all.
type Filter struct {
	Prefixes []string // the stream's name begins with one of these; empty: any name
	Public   bool     // leave out streams for which Internal is true
}

// Match reports whether the filter chooses the events of a stream.
func (f Filter) Match(stream string) bool {
	if f.Public && Internal(stream) {
		return false
	}
	if len(f.Prefixes) == 0 {
		return true
	}
	for _, p := range f.Prefixes {
		if strings.HasPrefix(stream, p) {
			return true
		}
	}
	return false
}

// Internal reports whether a stream is bookkeeping of the store or of a relay. Such streams stand outside the chain
// and are never relayed.
func Internal(stream string) bool {
	return strings.HasPrefix(stream, "$") || strings.HasPrefix(stream, "relay-")
}

// An Identity tells one ledger from every other. It never changes, but for the incarnation.
type Identity struct {
	ID          uuid.UUID
	Lanes       int    // number of shares into which the relay deals the streams, see [Lane]
	Format      int    // version of the stored form
	Incarnation uint32 // raised when a copy from a backup is told to go on as this ledger
}

// A Head is the end of a ledger.
type Head struct {
	Identity
	Position Position // of the newest event
	Chain    Hash     // of the newest chained event
}

// DefaultLanes is the number of lanes of a new ledger.
const DefaultLanes = 64

// Lane deals a stream to one of n lanes: FNV-1a of what follows the first '-' in its name, modulo n. All events of
// an order travel in one lane.
func Lane(stream string, n int) int {
	if _, id, ok := strings.Cut(stream, "-"); ok {
		stream = id
	}
	h := fnv.New32a()
	_, _ = io.WriteString(h, stream)
	return int(h.Sum32() % uint32(n))
}
