package projections_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

// TestPollWakesReadersOfAnotherProcess reads a database that somebody else writes, as another process would.
func TestPollWakesReadersOfAnotherProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l := newLedger(t)
	order := newLife(t, l, "a", nil)
	path := filepath.Join(t.TempDir(), "views.db")
	written, err := projections.Open(ctx, path, nil)
	check(t, err)
	defer func() { check(t, written.Close()) }()
	p, err := projections.NewProjector(ctx, written, []eventstore.Reader{l}, nil)
	check(t, err)
	defer func() { check(t, p.Close(context.Background())) }()
	check(t, p.CatchUp(ctx))

	read, err := projections.Open(ctx, path, nil)
	check(t, err)
	defer func() { check(t, read.Close()) }()
	polling, stop := context.WithCancel(ctx)
	polled := make(chan error, 1)
	go func() { polled <- read.Poll(polling) }()

	order.deliver()
	head, err := l.Head(ctx)
	check(t, err)
	mark := eventstore.Mark{Ledger: head.ID, Incarnation: head.Incarnation, Position: head.Position, Revision: order.order.Revision()}
	waited := make(chan error, 1)
	go func() { waited <- read.WaitFor(ctx, mark, &order.order.ID) }()
	select {
	case err := <-waited:
		t.Errorf("what nobody has written is seen: %v", err)
	case <-time.After(3 * projections.PollInterval):
	}
	check(t, p.CatchUp(ctx))
	check(t, <-waited)
	stop()
	if err := <-polled; !errors.Is(err, context.Canceled) {
		t.Errorf("Poll returned %v", err)
	}
}
