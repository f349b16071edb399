package eventstore

import (
	"fmt"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Validate returns [ErrInvalid] or [ErrTooLarge], with the reason, for an append that no ledger takes. Stores call it
// before they touch anything.
func Validate(stream string, expected Expected, events []Event) error {
	switch {
	case stream == "" || len(stream) > MaxStreamName || !utf8.ValidString(stream):
		return fmt.Errorf("%w: a stream's name is 1 to %d bytes of UTF-8, not %.80q", ErrInvalid, MaxStreamName, stream)
	case expected < 0 && expected != NoStream && expected != Any && expected != StreamExists:
		return fmt.Errorf("%w: expected %d", ErrInvalid, expected)
	case len(events) == 0:
		return fmt.Errorf("%w: no events", ErrInvalid)
	case len(events) > MaxEvents:
		return fmt.Errorf("%w: %d events, at most %d", ErrTooLarge, len(events), MaxEvents)
	}
	size := 0
	ids := make(map[uuid.UUID]struct{}, len(events))
	for i := range events {
		e := &events[i]
		if e.ID == uuid.Nil {
			return fmt.Errorf("%w: event %d has no id", ErrInvalid, i)
		}
		if _, twice := ids[e.ID]; twice {
			return fmt.Errorf("%w: event id %s occurs twice", ErrInvalid, e.ID)
		}
		ids[e.ID] = struct{}{}
		if e.Type == "" || len(e.Type) > MaxTypeName || !utf8.ValidString(e.Type) {
			return fmt.Errorf("%w: event %d: a type is 1 to %d bytes of UTF-8", ErrInvalid, i, MaxTypeName)
		}
		size += len(e.ID) + len(e.Type) + len(e.Metadata) + len(e.Data)
	}
	if size > MaxAppend {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, MaxAppend)
	}
	return nil
}
