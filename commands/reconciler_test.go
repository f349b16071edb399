package commands_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/eventstore"
)

// What a reconciler could not do comes again, also for the next process: it does not save how far it has read before it
// has done what is to be done there.
func TestReconcilerFails(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.regions["a"], w.regions["b"]
	var id string
	for winner, i := a, 0; winner == a; i++ { // else there is nothing to be done here
		w.wellAgain()
		id, winner, _ = w.twice(t, fmt.Sprint(i), plain, plain)
	}
	w.join(a)
	r, err := commands.NewReconciler(t.Context(), a.commands)
	if err != nil {
		t.Fatal(err)
	}
	a.unwritable = eventstore.ErrFull
	if _, err := r.Step(t.Context(), b.ledger); !errors.Is(err, eventstore.ErrFull) {
		t.Fatalf("on a full disk: %v", err)
	}
	a.unwritable = nil
	if err := r.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	next, err := commands.NewReconciler(t.Context(), a.commands)
	if err != nil {
		t.Fatal(err)
	}
	if more, err := next.Step(t.Context(), b.ledger); more || err != nil {
		t.Fatal(more, err)
	}
	if !strings.HasSuffix(a.tale(id), " withdrawn") {
		t.Errorf("what failed was not done again: %s", a.tale(id))
	}
}
