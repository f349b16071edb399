package eventstore

import (
	"errors"
	"fmt"
)

// Conditions that callers act on. Each may come wrapped.
var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("the ledger is closed")
	// ErrFailed is returned by every write after a write or sync to the disk has failed. What was acknowledged is
	// kept and can be read. The ledger must be opened anew.
	ErrFailed = errors.New("the ledger has failed and takes no writes until it is opened again")
	// ErrFull is returned by writes while the disk is full. Nothing of the append was kept; reads go on.
	ErrFull = errors.New("the disk of the ledger is full: writes are refused, reads go on")
	// ErrReadOnly is returned by writes to a ledger that was opened to be read.
	ErrReadOnly = errors.New("the ledger is open for reading only")
	// ErrUnreachable is returned while the ledger is elsewhere and does not answer: by reads, and by appends that were not
	// sent.
	ErrUnreachable = errors.New("the ledger cannot be reached")
	// ErrTooLarge is returned for an append over MaxAppend bytes or MaxEvents events. Nothing was stored.
	ErrTooLarge = errors.New("the append is too large")
	// ErrInvalid is returned for an append that no ledger takes: no events, an event without id or type, two events
	// with one id, a stream name that is empty, too long or not UTF-8. Nothing was stored.
	ErrInvalid = errors.New("the append is invalid")
	// ErrCorrupt is returned where stored bytes are not what was written.
	ErrCorrupt = errors.New("the ledger is corrupt")
)

// Unavailable reports whether an append was refused because the ledger takes no writes now. Nothing was stored.
func Unavailable(err error) bool {
	return errors.Is(err, ErrClosed) || errors.Is(err, ErrFailed) || errors.Is(err, ErrFull) || errors.Is(err, ErrReadOnly) ||
		errors.Is(err, ErrUnreachable)
}

// A Conflict tells that a stream was not as an append expected. Nothing was stored.
type Conflict struct {
	Stream   string
	Expected Expected
	Actual   Expected // NoStream, or the last revision; it may have been read after the refusal
}

func (e *Conflict) Error() string {
	return fmt.Sprintf("stream %q: expected %v, found %v", e.Stream, e.Expected, e.Actual)
}

// IsConflict reports whether an append was refused because the stream had changed.
func IsConflict(err error) bool {
	var c *Conflict
	return errors.As(err, &c)
}

// A LockedError tells that another process has the ledger open.
type LockedError struct {
	Dir     string
	PID     int    // 0: unknown
	Address string // where that process serves HTTP; empty: unknown, or not at all
}

func (e *LockedError) Error() string {
	s := fmt.Sprintf("the ledger in %s is open in another process", e.Dir)
	if e.PID != 0 {
		s += fmt.Sprintf(" (pid %d", e.PID)
		if e.Address != "" {
			s += ", serving " + e.Address
		}
		s += ")"
	}
	return s + ": use that one, or stop it first"
}
