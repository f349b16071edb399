package projections

import (
	"database/sql"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// An order that moves takes its events along, so that several ledgers hold the same one. It is told once: where it
// happened. An event that the winner's history does not have is not told at all.
//
// Where the rows of that ledger do not have the event, which may never come from it any more, the next home of the order
// tells it. If it does come, it is told a second time; order, revision and kind are then the same as before.

// A held event is an event of an order as one ledger holds it.
type held struct {
	id       uuid.UUID
	position eventstore.Position
	home     string        // where it says that the order moves to; empty: it is no move
	from     string        // where it says that the order moves from
	told     sql.NullInt64 // whether its notifications are shown; null: it has none
}

// copies are the histories of an order, by ledger.
type copies map[uuid.UUID][]held

// tellers returns, for each event in the winner's history, the ledger that tells it.
func (c copies) tellers(winner uuid.UUID) []uuid.UUID {
	history := c[winner]
	var homes []uuid.UUID // one after the other
	for _, e := range history {
		if e.home == "" {
			continue
		}
		if len(homes) == 0 {
			homes = append(homes, ledgerOf(e.from))
		}
		homes = append(homes, ledgerOf(e.home))
	}
	homes = append(homes, winner)
	tellers := make([]uuid.UUID, len(history))
	for r, e := range history {
		for _, home := range homes {
			if c.have(home, r, e.id) {
				tellers[r] = home
				break
			}
		}
		if e.home != "" {
			homes = homes[1:]
		}
	}
	return tellers
}

// have reports whether a ledger holds an event at a revision.
func (c copies) have(ledger uuid.UUID, revision int, id uuid.UUID) bool {
	history := c[ledger]
	return revision < len(history) && history[revision].id == id
}

// ledgerOf reads a ledger's id, which only a foreign writer writes in another way.
func ledgerOf(id string) uuid.UUID {
	ledger, err := uuid.Parse(id)
	if err != nil {
		return uuid.Nil
	}
	return ledger
}
