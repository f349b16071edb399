package main

import (
	"fmt"

	"github.com/orderledger/orderledger/eventstore"
)

// A chainEnd is how far the chain of a ledger was followed.
type chainEnd struct {
	events   uint64
	position eventstore.Position // of the last one
	chain    eventstore.Hash
}

// follow goes on to the next event that is not internal. It returns an error that wraps [eventstore.ErrCorrupt] where the
// ledger itself says that the chain is another one.
func (c *chainEnd) follow(e *eventstore.Recorded) error {
	chain := eventstore.Chain(c.chain, e)
	if e.Chain != (eventstore.Hash{}) && e.Chain != chain {
		return fmt.Errorf("%w at position %d: the chain does not hold", eventstore.ErrCorrupt, e.Position)
	}
	c.events, c.position, c.chain = c.events+1, e.Position, chain
	return nil
}
