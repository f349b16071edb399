package esdb_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/relay"
)

// The relay of a ledger without a chain computes it, goes on with it from its checkpoint, and comes to what anybody
// computes who reads the ledger from its beginning.
func TestTheRelayComputesTheChain(t *testing.T) {
	server := serve(t, vfs.NewMem(), "chain", "")
	defer func() { _ = server.Close() }()
	s := open(t, server.server.ConnectionString())
	defer func() { _ = s.Close() }()
	for _, stream := range []string{"order-1", "relay-x", "order-2", "order-1", "command-1"} {
		if _, err := s.Append(t.Context(), stream, eventstore.Any, []eventstore.Event{newEvent(), newEvent()}); err != nil {
			t.Fatal(err)
		}
	}
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want eventstore.Hash
	var all []eventstore.Recorded
	for e, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{Public: true}) {
		if err != nil {
			t.Fatal(err)
		}
		want = eventstore.Chain(want, &e)
		all = append(all, e)
	}
	if len(all) != 8 {
		t.Fatalf("%d events are public, want 8", len(all))
	}
	var from relay.Checkpoint
	for i, stop := range []int{3, 8} { // the second relay goes on from the first one's checkpoint
		now := time.Now()
		state, err := relay.NewState(head.Identity, from, now)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		n := i * 3
		for e, err := range s.Subscribe(ctx, from.Position, eventstore.Filter{Public: true}) {
			if errors.Is(err, context.Canceled) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			lane := state.Add(e)
			state.Next(lane, now)
			state.Taken(lane, now)
			if n++; n == stop {
				cancel()
			}
		}
		cancel()
		from = state.Checkpoint(now)
	}
	if from.Chain != want || from.Position != all[7].Position {
		t.Errorf("the checkpoint is at position %d, hash %s; want %d, %s", from.Position, from.Chain, all[7].Position, want)
	}
}
