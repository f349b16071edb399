package esdbserver

import (
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

func TestRecentForgetsTheOldest(t *testing.T) {
	r := newRecent(4)
	var ids []uuid.UUID
	for i := range 7 {
		id := uuid.New()
		ids = append(ids, id)
		e := []eventstore.Event{{ID: id}}
		r.add("s", eventstore.Appended{Revision: uint64(i), Position: eventstore.Position(i + 1)}, e)
		r.add("s", eventstore.Appended{Revision: uint64(i), Position: eventstore.Position(i + 1)}, e)
	}
	for i, id := range ids {
		w, known, err := r.find("s", eventstore.Any, []eventstore.Event{{ID: id}})
		if known != (i >= 3) || err != nil || known && w != (written{eventstore.At(uint64(i)), eventstore.Position(i + 1)}) {
			t.Errorf("event %d: %+v, known %t, error %v", i, w, known, err)
		}
	}
	if len(r.places) != 4 {
		t.Errorf("%d places are remembered", len(r.places))
	}
	if _, known, _ := r.find("other", eventstore.Any, []eventstore.Event{{ID: ids[6]}}); known {
		t.Error("an event is known in another stream")
	}
}
