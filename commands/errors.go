package commands

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Conditions that callers act on. Each may come wrapped, and the command may be sent again under its id.
var (
	// ErrBusy is returned where others have changed the order at each of several attempts. Nothing was stored.
	ErrBusy = errors.New("too many change the order at the same time")
	// ErrOutcomeUnknown is returned where the ledger did not answer an append, nor could it be found afterwards. The
	// same command under the same id finds out.
	ErrOutcomeUnknown = errors.New("the ledger did not say whether it has stored the command")
	// ErrAskingPeers is returned for an order that exists while a region that has started finds out whether another one
	// has taken its orders over. Nothing was stored.
	ErrAskingPeers = errors.New("the other regions are being asked whether they have taken orders over")
)

// errRules is why a command is not decided while the rules cannot be had. Nothing of it was stored.
var errRules = errors.New("reading the rules")

// A KeyReused tells that something else was asked before under a command's id. Nothing was stored.
type KeyReused struct {
	Command uuid.UUID
}

func (e *KeyReused) Error() string {
	return fmt.Sprintf("command %s asked for something else before", e.Command)
}
