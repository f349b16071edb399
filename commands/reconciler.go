package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

const (
	// ReconcilerStream is the stream in which a [Reconciler] keeps how far it has come. Only its newest event counts.
	ReconcilerStream = "relay-reconcile"
	// ReconcilerType is the wire name of its events.
	ReconcilerType = "relay.reconciled.v1"
)

// How much a Reconciler does at once, and between two checkpoints.
const (
	reconcileBatch = 1_000 // events
	saveEvery      = 1_000 // events
	saveAfter      = time.Second
)

// A Reconciler finds the orders that several ledgers hold and reconciles them: it goes through the mirrors and the own
// ledger event by event. It keeps in the own ledger how far it has come, and does nothing wrong where it begins further
// back. It starts nothing and belongs to one goroutine.
type Reconciler struct {
	handler  *Handler
	passed   map[uuid.UUID]checkpoint // by ledger
	unread   map[uuid.UUID]checkpoint // before the first order that could not be read; what is kept stays there
	expected eventstore.Expected
	events   int       // since the checkpoints were saved
	saved    time.Time // when that was
}

// A checkpoint is a place in a ledger.
type checkpoint struct {
	Incarnation uint32              `json:"incarnation"`
	Position    eventstore.Position `json:"position"`
}

// NewReconciler returns a Reconciler that goes on where the last one has saved how far it had come.
func NewReconciler(ctx context.Context, h *Handler) (*Reconciler, error) {
	r := &Reconciler{
		handler: h, passed: map[uuid.UUID]checkpoint{}, unread: map[uuid.UUID]checkpoint{}, expected: eventstore.NoStream, saved: h.cfg.Now(),
	}
	for e, err := range h.store.ReadStream(ctx, ReconcilerStream, eventstore.End, eventstore.Backward) {
		if err == nil && e.Type != ReconcilerType {
			err = domain.ErrUnknownEvent
		}
		if err == nil {
			err = json.Unmarshal(e.Data, &r.passed)
		}
		if err != nil {
			return nil, fmt.Errorf("reading how far orders are reconciled: %w", err)
		}
		r.expected = eventstore.At(e.Revision)
		break
	}
	return r, nil
}

// Step reconciles the orders of the next events of a ledger, at most 1,000: a mirror's, or the own ones. It reports whether
// there are more. After an error the same events come again.
func (r *Reconciler) Step(ctx context.Context, ledger uuid.UUID) (more bool, err error) {
	h := r.handler
	reader := h.readerOf(ledger)
	if reader == nil {
		return false, fmt.Errorf("ledger %s: %w", ledger, errNoSuchRegion)
	}
	head, err := reader.Head(ctx)
	if err != nil {
		return false, fmt.Errorf("reconciling with ledger %s: %w", ledger, err)
	}
	at := r.passed[ledger]
	if at.Incarnation != head.Incarnation { // positions may stand for other events now
		at = checkpoint{Incarnation: head.Incarnation}
	}
	events, err := nextEvents(ctx, reader, at.Position)
	if err != nil {
		return false, fmt.Errorf("reconciling with ledger %s: %w", ledger, err)
	}
	if err := r.reconcile(ctx, ledger, at, events); err != nil {
		return true, err
	}
	if len(events) > 0 {
		at.Position = events[len(events)-1].Position
	}
	if more = len(events) == reconcileBatch; !more {
		at.Position = max(at.Position, head.Position)
	}
	r.passed[ledger] = at
	if r.events += len(events); r.events >= saveEvery || r.events > 0 && h.cfg.Now().Sub(r.saved) >= saveAfter {
		return more, r.Save(ctx)
	}
	return more, nil
}

// nextEvents returns the next events of orders in a ledger.
func nextEvents(ctx context.Context, ledger eventstore.Reader, after eventstore.Position) ([]eventstore.Recorded, error) {
	var events []eventstore.Recorded
	for e, err := range ledger.ReadAll(ctx, after, eventstore.Filter{Prefixes: []string{domain.StreamPrefix}}) {
		if err != nil {
			return nil, err
		}
		if events = append(events, e); len(events) == reconcileBatch {
			break
		}
	}
	return events, nil
}

// reconcile reconciles the orders of events of a ledger behind a place.
func (r *Reconciler) reconcile(ctx context.Context, ledger uuid.UUID, at checkpoint, events []eventstore.Recorded) error {
	h := r.handler
	seen := make(map[uuid.UUID]bool)
	for i := range events {
		order, ok := domain.StreamOrder(events[i].Stream)
		if !ok || seen[order] {
			continue
		}
		due, err := h.concerns(ctx, ledger, order, &events[i])
		if err != nil {
			return err
		}
		if !due {
			continue
		}
		seen[order] = true
		if _, err := h.Reconcile(ctx, order); errors.Is(err, errUnreadable) {
			if _, ok := r.unread[ledger]; !ok {
				r.unread[ledger] = at
			}
			h.cfg.Logger.LogAttrs(ctx, slog.LevelError, "an order in several ledgers is left as it is until a version comes that can read it",
				slog.Any("order_id", order), slog.Any("error", err))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// concerns reports whether an event of a ledger may be a reason to reconcile its order: of a mirror, if the own ledger has
// the order too, or the order has moved, be it to here or from a ledger of which this one may know more; of the own one,
// if it was a first one or a move.
func (h *Handler) concerns(ctx context.Context, ledger, order uuid.UUID, e *eventstore.Recorded) (bool, error) {
	_, isMove := decodeMove(e)
	switch {
	case ledger == h.ledger.ID:
		return e.Revision == 0 || isMove, nil
	case isMove:
		return true, nil
	}
	for _, err := range h.store.ReadStream(ctx, domain.Stream(order), 0, eventstore.Forward) {
		if err != nil {
			return false, fmt.Errorf("reading order %s: %w", order, err)
		}
		return true, nil
	}
	return false, nil
}

// readerOf returns what can be read here of a ledger; nil: nothing.
func (h *Handler) readerOf(ledger uuid.UUID) eventstore.Reader {
	if ledger == h.ledger.ID {
		return h.store
	}
	return h.regionOf(ledger).Mirror
}

// Save keeps how far the Reconciler has come. [Reconciler.Step] does that from time to time.
func (r *Reconciler) Save(ctx context.Context) error {
	passed := maps.Clone(r.passed)
	maps.Copy(passed, r.unread)
	data, err := json.Marshal(passed)
	if err != nil {
		return err
	}
	ledger := r.handler.ledger.ID
	// An append whose outcome is unknown is repeated under the same id, whatever it says then: an older place does no harm.
	event := eventstore.Event{ID: uuid.NewSHA1(ledger, fmt.Append(nil, ReconcilerType, r.expected)), Type: ReconcilerType, Data: data}
	done, err := r.handler.store.Append(ctx, ReconcilerStream, r.expected, []eventstore.Event{event})
	var conflict *eventstore.Conflict
	switch {
	case errors.As(err, &conflict): // somebody else reconciles, too
		r.expected = conflict.Actual
		return nil
	case err != nil:
		return fmt.Errorf("saving how far orders are reconciled: %w", err)
	}
	r.expected, r.events, r.saved = eventstore.At(done.Revision), 0, r.handler.cfg.Now()
	return nil
}
