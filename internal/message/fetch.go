package message

import (
	"context"
	"errors"
	"fmt"

	"github.com/orderledger/orderledger/eventstore"
)

// ErrMismatch is returned by [Fetch] if the ledger does not hold the event that a message announced. To ask again
// does not help.
var ErrMismatch = errors.New("the ledger does not hold the event that the message announced")

// Fetch completes an event that was too large for its message: it reads it where the message says it stands, and
// checks that id, type and chain are those of the message.
func Fetch(ctx context.Context, ledger eventstore.Reader, announced *eventstore.Recorded) (*eventstore.Recorded, error) {
	for e, err := range ledger.ReadStream(ctx, announced.Stream, announced.Revision, eventstore.Forward) {
		if err != nil {
			return nil, fmt.Errorf("fetching event %s: %w", announced.ID, err)
		}
		if e.Chain == (eventstore.Hash{}) {
			e.Chain = announced.Chain // a ledger that leaves the chain to its relay
		}
		if e.Revision != announced.Revision || e.ID != announced.ID || e.Type != announced.Type || e.Chain != announced.Chain {
			break
		}
		return &e, nil
	}
	return nil, fmt.Errorf("fetching event %s: %w", announced.ID, ErrMismatch)
}
