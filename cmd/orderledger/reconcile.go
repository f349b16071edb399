package main

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/retry"
)

// A reconciliation lets orders that several ledgers hold come to one and the same. It is told which ledgers have news.
type reconciliation struct {
	mu   sync.Mutex // protects due
	due  map[uuid.UUID]bool
	woke chan struct{} // has a value when something is due
}

func newReconciliation() *reconciliation {
	return &reconciliation{due: make(map[uuid.UUID]bool), woke: make(chan struct{}, 1)}
}

// news tells that a ledger may have events that have not been looked at.
func (r *reconciliation) news(ledger uuid.UUID) {
	r.mu.Lock()
	r.due[ledger] = true
	r.mu.Unlock()
	select {
	case r.woke <- struct{}{}:
	default:
	}
}

// take returns the ledgers that have news.
func (r *reconciliation) take() map[uuid.UUID]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := r.due
	r.due = make(map[uuid.UUID]bool)
	return due
}

// run reconciles until ctx is done. Then it keeps how far it has come.
func (r *reconciliation) run(ctx context.Context, n *node) {
	var steps *commands.Reconciler
	outage := retry.NewOutage(n.log, "reconciling orders that several ledgers hold", 10*time.Second)
	if outage.Do(ctx, func() (err error) {
		steps, err = commands.NewReconciler(ctx, n.handler)
		return err
	}) != nil {
		return
	}
	for attempts := outage.Attempts(); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-r.woke:
			if err := r.stepAll(ctx, steps); err != nil {
				_ = attempts.Failed(ctx, err) // ends with ctx
			} else {
				attempts.Succeeded(ctx)
			}
		}
		select { // what comes one by one is looked at together
		case <-ctx.Done():
		case <-time.After(reconcileTime):
		}
	}
	r.save(ctx, n, steps)
}

// reconcileTime is how often ledgers that have news are looked at.
const reconcileTime = 50 * time.Millisecond

// stepAll goes on with each ledger that has news. Those that have more after that, or fail, are due again.
func (r *reconciliation) stepAll(ctx context.Context, steps *commands.Reconciler) (failed error) {
	for due := r.take(); len(due) > 0 && ctx.Err() == nil; {
		for ledger := range due {
			more, err := steps.Step(ctx, ledger)
			if err != nil {
				failed = err
				r.news(ledger)
			}
			if err != nil || !more {
				delete(due, ledger)
			}
		}
	}
	return failed
}

// save keeps how far the reconciliation has come, after ctx is done. Without that the next one does some of it again.
func (r *reconciliation) save(ctx context.Context, n *node, steps *commands.Reconciler) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := steps.Save(ctx); err != nil {
		n.log.WarnContext(ctx, "it is not kept how far orders were reconciled", "error", err)
	}
}

// tell has the reconciliation look at the mirror whenever it shows more, until ctx is done.
func (o *peer) tell(ctx context.Context, r *reconciliation) {
	for incarnation, position := uint32(0), eventstore.Position(0); ; {
		_ = o.mirror.Wait(ctx, incarnation, position) // the head says how it ended
		head, err := o.mirror.Head(ctx)
		if err != nil || ctx.Err() != nil {
			return
		}
		r.news(o.ledger)
		incarnation, position = head.Incarnation, head.Position+1
	}
}

// tell has the reconciliation look at the own ledger whenever an order begins or moves there, until ctx is done.
func (r *reconciliation) tell(ctx context.Context, n *node) {
	outage := retry.NewOutage(n.log, "listening to the own ledger", 10*time.Second)
	_ = outage.Do(ctx, func() error { // ends with ctx
		head, err := n.ledger.Head(ctx)
		if err != nil {
			return err
		}
		r.news(n.own)
		for e, err := range n.ledger.Subscribe(ctx, head.Position, eventstore.Filter{Prefixes: []string{domain.StreamPrefix}}) {
			if err != nil {
				return err
			}
			if e.Revision == 0 || e.Type == (*domain.HomeMoved)(nil).Type() {
				r.news(n.own)
			}
		}
		return ctx.Err()
	})
}
