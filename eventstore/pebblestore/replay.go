package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/orderledger/orderledger/eventstore"
)

// A place is one between two events of the log: what stands before it is known to be whole.
type place struct {
	next     address             // of the next event
	position eventstore.Position // of the last event
	chain    eventstore.Hash     // its head
}

// replay reads on from a place to the end of the log, and passes on the events of every append that is there whole. It
// returns where the log ends.
//
// A crash leaves the last group that was written in pieces: what can be read of it is kept up to the end of an append.
// Damage to anything older is no crash, and is returned as [eventstore.ErrCorrupt].
func (l *log) replay(from place, index func(address, frame) error) (place, error) {
	from.next = l.next(from.next)
	type found struct {
		at address
		f  frame
	}
	var (
		whole   = from
		now     = from
		waiting []found // of an append of which the end has not come yet
		newest  = l.newest()
		scan    = l.scan(from.next, addressOf(newest.number, newest.size))
		link    []byte
	)
	for {
		at, f, err := scan.next()
		if err == nil {
			link, err = checkNext(now, f, link)
		}
		if err == nil && len(waiting) > 0 && f.left()+1 != waiting[len(waiting)-1].f.left() {
			err = errElsewhere
		}
		if errors.Is(err, io.EOF) || errors.Is(err, errEnd) || isBroken(err) {
			return whole, l.checkCut(whole, at, err)
		}
		if err != nil {
			return whole, err
		}
		now = place{next: scan.at, position: f.position(), chain: f.chain()}
		if f.left() > 0 {
			waiting = append(waiting, found{at, slices.Clone(f)})
			continue
		}
		for _, w := range waiting {
			if err := index(w.at, w.f); err != nil {
				return whole, err
			}
		}
		if err := index(at, f); err != nil {
			return whole, err
		}
		waiting, whole = waiting[:0], now
	}
}

// checkNext checks that a frame holds the event that follows a place. It uses b as memory and returns it.
func checkNext(p place, f frame, b []byte) ([]byte, error) {
	if f.position() != p.position+1 {
		return b, errTwice
	}
	want := p.chain
	if !eventstore.Internal(string(f.stream())) {
		b = append(append(b[:0], want[:]...), f.record()...)
		want = eventstore.ChainRecord(b)
	}
	if f.chain() != want {
		return b, errChain
	}
	return b, nil
}

var errChain = errors.New("the chain does not hold")

// isBroken reports whether an error says that no event stands where one was looked for.
func isBroken(err error) bool {
	for _, broken := range []error{errCut, errLength, errChecksum, errTwice, errElsewhere, errChain} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}

// checkCut checks that the log may end at a place behind which nothing whole was found: at an address, for a reason.
func (l *log) checkCut(whole place, at address, reason error) error {
	newest := l.newest()
	if whole.next.segment() != newest.number {
		return corrupt(whole.position+1, fmt.Errorf("%v: %w", at, reason))
	}
	// Frames are looked for at every byte, with so much in memory that the longest has room behind any of the first half.
	b := make([]byte, 0, min(4*maxFrame, int(newest.size-whole.next.offset())))
	for end := whole.next.offset(); ; {
		n := len(b)
		b = b[:min(int64(cap(b)), int64(n)+newest.size-end)]
		if len(b) == n {
			return nil
		}
		if _, err := newest.file.ReadAt(b[n:], end); err != nil {
			return readError(whole.next, err)
		}
		end += int64(len(b) - n)
		i := 0
		for ; i < len(b) && (len(b)-i >= positionAt+maxFrame || end == newest.size); i++ {
			if len(b)-i < recordAt || binary.BigEndian.Uint32(b[i:]) == 0 {
				continue
			}
			if f, _, err := cutFrame(b[i:]); err == nil && f.durable() > whole.next && f.position() > whole.position {
				return corrupt(whole.position+1, fmt.Errorf("%v: %w, and a later event tells that it was durable", at, reason))
			}
		}
		b = b[:copy(b, b[i:])]
	}
}
