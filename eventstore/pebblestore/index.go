package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/orderledger/orderledger/eventstore"
)

// The keys of the index. Numbers are big-endian, so that keys sort as the numbers do.
//
//	s <length 2> <stream>                 where the stream ends: revision 8, address 8
//	w <length 2> <stream> <revision 8>    where an event stands: address 8
//	p <position 8>                        where an event stands: address 8
//	m                                     how far the log is indexed: the last event's address 8, position 8, chain 32
//
// An event's frame holds the address of the one before it in its stream, so that a stream is read from its end. Every
// 64th event of a stream and every 256th of the ledger has a key of its own, from which others are not far.
const (
	streamPrefix   = 's'
	waypointPrefix = 'w'
	positionPrefix = 'p'
	indexedKey     = "m"

	streamStep   = 64  // events of a stream between two that have keys
	positionStep = 256 // events of the ledger between two that have keys
)

func streamKey(stream string) []byte { return appendName([]byte{streamPrefix}, stream) }

func waypointKey(stream string, revision uint64) []byte {
	return binary.BigEndian.AppendUint64(appendName([]byte{waypointPrefix}, stream), revision)
}

func positionKey(p eventstore.Position) []byte {
	return binary.BigEndian.AppendUint64([]byte{positionPrefix}, uint64(p))
}

// appendName appends a name behind its length: so no name's keys begin with those of another one.
func appendName(k []byte, stream string) []byte {
	return append(binary.BigEndian.AppendUint16(k, uint16(len(stream))), stream...)
}

// cutName is the opposite of appendName for what follows the prefix of a key.
func cutName(k []byte) (stream string, rest []byte, err error) {
	if len(k) < 3 || len(k) < 3+int(binary.BigEndian.Uint16(k[1:])) {
		return "", nil, fmt.Errorf("%q is not a key of the index", k)
	}
	n := 3 + int(binary.BigEndian.Uint16(k[1:]))
	return string(k[3:n]), k[n:], nil
}

// A tail is the end of a stream. That of a stream without events has revision −1.
type tail struct {
	revision int64
	at       address
}

var noTail = tail{revision: -1}

func encodeTail(t tail) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(t.revision)), uint64(t.at))
}

func decodeTail(b []byte) (tail, error) {
	if len(b) != 16 {
		return noTail, errors.New("the end of a stream has 16 bytes in the index")
	}
	return tail{int64(binary.BigEndian.Uint64(b)), address(binary.BigEndian.Uint64(b[8:]))}, nil
}

func decodeAddress(b []byte) (address, error) {
	if len(b) != 8 {
		return 0, errors.New("an address has 8 bytes in the index")
	}
	return address(binary.BigEndian.Uint64(b)), nil
}

// An index finds events in the log. What was indexed last is in memory, in two halves: when the young half is full, it
// becomes the old one and is written to Pebble, which may lose it again: the log has it.
//
// One goroutine adds; any number look up.
type index struct {
	db       *pebble.DB
	broken   *breakdown
	volatile bool // Pebble takes no writes: everything stays in memory

	// Most streams that are asked for to be written to are new, and a search for what is not there is the longest.
	names    *filter     // of all streams, once it is complete
	complete atomic.Bool // all that were in Pebble at first are in names

	mu         sync.RWMutex // protects what follows against the one that adds
	young, old half
	generation uint64 // how often young became old

	// What follows belongs to the one that adds.
	maxStreams int   // in one half
	maxBytes   int64 // of the log that one half indexes

	flushing chan error // gets the result of writing the old half; nil: it was received
	unsynced int64      // bytes of the log since Pebble made its own durable
}

// A half of what is in memory.
type half struct {
	streams map[string]*entry
	places  []placed // every 256th position
	bytes   int64    // of the log
}

// An entry is a stream in memory.
type entry struct {
	tail
	waypoints []waypoint // that Pebble does not have yet

	// ahead is where the stream will end once the group under way is durable, if that is the group. They belong to
	// the one that adds.
	ahead tail
	group uint64
}

type waypoint struct {
	revision uint64
	at       address
}

type placed struct {
	position eventstore.Position
	at       address
}

const (
	maxYoung      = 1 << 15   // streams in one half
	maxYoungBytes = 32 << 20  // of the log that one half indexes
	maxUnsynced   = 128 << 20 // of the log that is read again after a crash, about
)

// A breakdown tells that Pebble cannot write. It would try for ever.
type breakdown struct {
	once sync.Once
	err  error         // when done is closed
	done chan struct{} // closed by the first error
}

func (b *breakdown) tell(err error) {
	b.once.Do(func() {
		b.err = err
		close(b.done)
	})
}

func (b *breakdown) happened() error {
	select {
	case <-b.done:
		return b.err
	default:
		return nil
	}
}

func newIndex(db *pebble.DB, broken *breakdown, volatile bool) *index {
	return &index{
		db: db, broken: broken, volatile: volatile, names: newFilter(), young: half{streams: map[string]*entry{}},
		maxStreams: maxYoung, maxBytes: maxYoungBytes,
	}
}

// A hint is what a look into the index has found, for the one that adds.
type hint struct {
	tail
	generation uint64
	known      bool
}

// collectNames adds the streams that Pebble has had from the beginning to names.
func (x *index) collectNames(stopped func() bool) error {
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{streamPrefix}, UpperBound: []byte{streamPrefix + 1}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && !stopped(); ok = it.Next() {
		if stream, _, err := cutName(it.Key()); err == nil {
			x.names.add(stream)
		}
	}
	if err := it.Close(); err != nil {
		return err
	}
	x.complete.Store(!stopped())
	return nil
}

// lookUp finds the end of a stream.
func (x *index) lookUp(stream string) (hint, error) {
	// What is written after this look is in memory until the generation after the next one.
	x.mu.RLock()
	generation := x.generation
	e := x.inMemory(stream)
	if e != nil {
		defer x.mu.RUnlock()
		return hint{e.tail, generation, true}, nil
	}
	x.mu.RUnlock()
	t, err := x.stored(stream)
	return hint{t, generation, err == nil}, err
}

// isNew reports whether a stream is certainly not there yet.
func (x *index) isNew(stream string) bool { return x.complete.Load() && !x.names.mayHave(stream) }

// inMemory returns a stream's entry, or nil.
func (x *index) inMemory(stream string) *entry {
	if e, ok := x.young.streams[stream]; ok {
		return e
	}
	return x.old.streams[stream]
}

// stored finds the end of a stream that is not in memory.
func (x *index) stored(stream string) (tail, error) {
	if x.isNew(stream) {
		return noTail, nil
	}
	value, closer, err := x.db.Get(streamKey(stream))
	if errors.Is(err, pebble.ErrNotFound) {
		return noTail, nil
	}
	if err != nil {
		return noTail, err
	}
	t, err := decodeTail(value)
	if err != nil {
		err = fmt.Errorf("%w: stream %q: %w", errIndex, stream, err)
	}
	return t, errors.Join(err, closer.Close())
}

// open returns the entry of a stream, for the one that adds. What was looked up before saves a search.
func (x *index) open(stream string, h hint) (*entry, error) {
	if e, ok := x.young.streams[stream]; ok {
		return e, nil
	}
	e, ok := x.old.streams[stream]
	if !ok {
		// Between one generation and the next everything that was written is still in memory.
		if !h.known || h.generation+1 < x.generation {
			t, err := x.stored(stream)
			if err != nil {
				return nil, err
			}
			h.tail = t
		}
		e = &entry{tail: h.tail}
		stream = strings.Clone(stream)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.young.streams[stream] = e
	return e, nil
}

// extend moves the end of a stream to an event that has become durable. The caller holds mu.
func (x *index) extend(e *entry, stream string, revision uint64, at address, p eventstore.Position, size int) {
	if revision == 0 {
		x.names.add(stream)
	}
	e.tail = tail{int64(revision), at}
	if revision%streamStep == streamStep-1 {
		e.waypoints = append(e.waypoints, waypoint{revision, at})
	}
	if p%positionStep == 0 {
		x.young.places = append(x.young.places, placed{p, at})
	}
	x.young.bytes += int64(size)
}

// waypoint finds the event of a stream at a revision or one not far behind it, no later than the stream's end.
func (x *index) waypoint(stream string, end tail, revision uint64) (address, error) {
	at := revision | (streamStep - 1)
	if int64(at) >= end.revision {
		return end.at, nil
	}
	x.mu.RLock()
	if e := x.inMemory(stream); e != nil {
		i, ok := slices.BinarySearchFunc(e.waypoints, at, func(w waypoint, r uint64) int { return compare(w.revision, r) })
		if ok {
			defer x.mu.RUnlock()
			return e.waypoints[i].at, nil
		}
	}
	x.mu.RUnlock()
	value, closer, err := x.db.Get(waypointKey(stream, at))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, fmt.Errorf("%w: it lacks revision %d of stream %q", errIndex, at, stream)
	}
	if err != nil {
		return 0, err
	}
	a, err := decodeAddress(value)
	if err != nil {
		err = fmt.Errorf("%w: %w", errIndex, err)
	}
	return a, errors.Join(err, closer.Close())
}

// near finds an event at a position or not far before it. It returns zero if there is none: then the log's beginning is
// not far.
func (x *index) near(p eventstore.Position) (address, error) {
	x.mu.RLock()
	for _, h := range []half{x.young, x.old} {
		i, ok := slices.BinarySearchFunc(h.places, p, func(at placed, p eventstore.Position) int { return compare(at.position, p) })
		if !ok {
			i--
		}
		if i >= 0 {
			defer x.mu.RUnlock()
			return h.places[i].at, nil
		}
	}
	x.mu.RUnlock()
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: positionKey(0), UpperBound: append(positionKey(p), 0)})
	if err != nil {
		return 0, err
	}
	defer func() { _ = it.Close() }() // its error is read below
	if !it.Last() {
		return 0, it.Error()
	}
	a, err := decodeAddress(it.Value())
	if err != nil {
		err = fmt.Errorf("%w: %w", errIndex, err)
	}
	return a, err
}

var errIndex = fmt.Errorf("%w: the index is damaged", eventstore.ErrCorrupt)

func compare[T uint64 | eventstore.Position](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// turn makes the young half old if it is full, and has it written. The indexed place is that of the last event added.
// It waits for the half before it, which bounds the memory.
func (x *index) turn(last address, p place) error {
	if x.volatile || len(x.young.streams) < x.maxStreams && x.young.bytes < x.maxBytes {
		return nil
	}
	return x.store(last, p)
}

// store makes the young half old and has it written.
func (x *index) store(last address, p place) error {
	if err := x.await(); err != nil {
		return err
	}
	x.mu.Lock()
	x.old, x.young = x.young, half{streams: make(map[string]*entry, len(x.young.streams))}
	x.generation++
	old := x.old
	x.mu.Unlock()
	x.unsynced += old.bytes
	sync := x.unsynced >= maxUnsynced
	if sync {
		x.unsynced = 0
	}
	x.flushing = make(chan error, 1)
	go func(result chan<- error) { result <- x.put(old, last, p, sync) }(x.flushing)
	return nil
}

// await returns when the old half is written.
func (x *index) await() error {
	if x.flushing == nil {
		return nil
	}
	err := <-x.flushing
	x.flushing = nil
	return err
}

// put writes a half to Pebble, all of it or nothing.
func (x *index) put(h half, last address, p place, sync bool) error {
	b := x.db.NewBatch()
	var errs []error
	set := func(key, value []byte) { errs = append(errs, b.Set(key, value, nil)) }
	written := make(map[*entry]int)
	for stream, e := range h.streams {
		x.mu.RLock()
		t, waypoints := e.tail, e.waypoints
		x.mu.RUnlock()
		if t.revision < 0 {
			continue
		}
		set(streamKey(stream), encodeTail(t))
		for _, w := range waypoints {
			set(waypointKey(stream, w.revision), binary.BigEndian.AppendUint64(nil, uint64(w.at)))
		}
		if len(waypoints) > 0 {
			written[e] = len(waypoints)
		}
	}
	for _, at := range h.places {
		set(positionKey(at.position), binary.BigEndian.AppendUint64(nil, uint64(at.at)))
	}
	set([]byte(indexedKey), encodeIndexed(last, p))
	err := errors.Join(append(errs, x.broken.happened())...)
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err == nil {
		err = b.Close()
	}
	if err == nil && sync {
		err = x.flush()
	}
	if err != nil {
		return fmt.Errorf("writing the index: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for e, n := range written {
		e.waypoints = e.waypoints[n:]
	}
	return nil
}

// flush makes durable what was put.
func (x *index) flush() error {
	flushed, err := x.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case <-x.broken.done:
		return x.broken.err
	}
}

func encodeIndexed(last address, p place) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(last))
	b = binary.BigEndian.AppendUint64(b, uint64(p.position))
	return append(b, p.chain[:]...)
}

// indexed returns how far the log is indexed: the last event's address, position and chain. ok is false if nothing is.
func (x *index) indexed() (last address, p place, ok bool, err error) {
	value, closer, err := x.db.Get([]byte(indexedKey))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, p, false, nil
	}
	if err != nil {
		return 0, p, false, err
	}
	if len(value) != 48 {
		err = fmt.Errorf("%w: how far it goes cannot be read", errIndex)
	} else {
		last = address(binary.BigEndian.Uint64(value))
		p.position = eventstore.Position(binary.BigEndian.Uint64(value[8:]))
		p.chain = eventstore.Hash(value[16:])
	}
	return last, p, err == nil, errors.Join(err, closer.Close())
}
