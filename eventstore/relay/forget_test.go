package relay_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/relay"
)

func TestALedgerThatEndsBeforeTheCheckpointStopsTheRelay(t *testing.T) {
	source := newLedger(2)
	write(t, source, 0, 3)
	data := fmt.Appendf(nil, `{"position":1000,"chain":%q,"lanes":[1000,900]}`, eventstore.Hash{1})
	if _, err := source.Append(t.Context(), "relay-main", eventstore.NoStream, []eventstore.Event{{ID: uuid.New(), Type: "relay.checkpoint.v1", Data: data}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := newRelay(t, source, newBus(newView(source))).Run(ctx); !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
	checkpoint, err := relay.LastCheckpoint(t.Context(), source, "main")
	if err != nil || checkpoint.Position != 1000 || checkpoint.Chain != (eventstore.Hash{1}) {
		t.Errorf("checkpoint %+v, error %v", checkpoint, err)
	}
}

// A forgetful ledger can be told what it need not keep.
type forgetful struct {
	*ledger
	told []string
	err  error
}

func (f *forgetful) KeepNewest(_ context.Context, stream string) error {
	f.told = append(f.told, stream)
	return f.err
}

func TestTheLedgerMayForgetOldCheckpoints(t *testing.T) {
	for _, refusal := range []error{nil, errors.New("not permitted")} {
		synctest.Test(t, func(t *testing.T) {
			source := &forgetful{ledger: newLedger(2), err: refusal}
			write(t, source, 0, 3)
			b := newBus(newView(source.ledger))
			run := start(t, newRelay(t, source, b).Run)
			time.Sleep(time.Minute)
			run.end(t)
			b.check(t)
			if len(source.told) != 1 || source.told[0] != "relay-main" {
				t.Errorf("the ledger was told %v, want the stream of checkpoints once", source.told)
			}
		})
	}
}
