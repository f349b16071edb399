package domain

import (
	"bytes"
	"crypto/sha256"

	"github.com/google/uuid"
)

// A Claim is an order as one of several ledgers holds it. Two hold the same order after it was submitted twice under one
// key while its regions could not reach each other, or after it has moved.
type Claim struct {
	Ledger    uuid.UUID
	Epoch     uint32 // how often the order has moved to come there
	Withdrawn bool
	Left      bool // for another ledger, as its own history says
}

// Claim returns the order as a ledger holds it that has folded it to this.
func (o Order) Claim(ledger uuid.UUID) Claim {
	return Claim{
		Ledger: ledger, Epoch: o.Epoch, Withdrawn: o.WithdrawnFor != "", Left: o.Home != "" && o.Home != ledger.String(),
	}
}

// Over reports whether an order counts as c's ledger holds it, and not as d's does. All regions come to the same answer,
// whatever they learned first: a withdrawn order never counts before another; the one that moved later does; of two
// that moved equally often one that has left its ledger never counts before the other; and of two alike the one with the
// smaller SHA-256 of the order's and the ledger's id, which spreads the winners over the ledgers.
func (c Claim) Over(d Claim, order uuid.UUID) bool {
	if c.Withdrawn != d.Withdrawn {
		return d.Withdrawn
	}
	if c.Epoch != d.Epoch {
		return c.Epoch > d.Epoch
	}
	if c.Left != d.Left {
		return d.Left
	}
	mine, other := c.rank(order), d.rank(order)
	return bytes.Compare(mine[:], other[:]) < 0
}

func (c Claim) rank(order uuid.UUID) [sha256.Size]byte {
	return sha256.Sum256(append(order[:], c.Ledger[:]...))
}
