package commands

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

const (
	// ErasureStream is the stream in which a ledger keeps every erasure.
	ErasureStream = "erasures"
	// ErasureType is the wire name of its events.
	ErasureType = "keys.erased.v1"
)

// An Erasure asks that what the ledger knows about a person be made unreadable for ever, in all orders.
type Erasure struct {
	Command      uuid.UUID // the same for every retry
	BusinessUnit string
	Actor        domain.Actor
	Cause        domain.Cause
	Buyer        domain.Identifier // who is to be forgotten; or
	Order        uuid.UUID         // the order whose buyer nobody knows
}

// Erased is the result of an erasure.
type Erased struct {
	Keys     int // how many keys were destroyed
	Mark     eventstore.Mark
	Repeated bool // it was done before, and this is the first answer
}

// erasedKeys is the data of an event. It names nobody.
type erasedKeys struct {
	BusinessUnit string   `json:"business_unit"`
	Keys         []string `json:"keys"` // their names
}

// Erase destroys the keys of a data subject. The act is in the ledger before, so that [Handler.Reapply] can do it again
// with a key file from a backup.
//
// It returns a [*domain.Malformed] where nobody is named, a [*domain.Refused] for an order that does not exist or whose
// buyer is known, because that buyer's key seals other orders too, and a [*KeyReused].
func (h *Handler) Erase(ctx context.Context, e Erasure) (Erased, error) {
	subject, err := h.erasable(ctx, e)
	if err != nil {
		return Erased{}, err
	}
	digest, err := h.erasureDigest(e)
	if err != nil {
		return Erased{}, err
	}
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		erased, err := h.erase(ctx, e, digest, subject)
		if !eventstore.IsConflict(err) {
			return erased, err
		}
		if err := pause(ctx, attempt); err != nil {
			return Erased{}, err
		}
	}
	return Erased{}, fmt.Errorf("recording an erasure: %w", ErrBusy)
}

// erasable returns the subject that an erasure is about.
func (h *Handler) erasable(ctx context.Context, e Erasure) (string, error) {
	switch {
	case (e.Buyer != domain.Identifier{}) == (e.Order != uuid.Nil):
		return "", &domain.Malformed{Field: "subject", Code: "missing", Detail: "an erasure names either a subject or an order"}
	case e.Order != uuid.Nil:
		return h.unknownBuyer(ctx, e)
	case e.Buyer.Scheme == "" || e.Buyer.Value == "" || e.Buyer.Value == domain.UnknownParty:
		return "", &domain.Malformed{Field: "subject", Code: "missing", Detail: "a subject has a scheme and a value; buyers whom nobody knows are erased by order"}
	}
	return domain.Subject(e.BusinessUnit, uuid.Nil, domain.Party{Identifiers: []domain.Identifier{e.Buyer}}), nil
}

// unknownBuyer returns the subject of an order that has a key of its own.
func (h *Handler) unknownBuyer(ctx context.Context, e Erasure) (string, error) {
	step, err := h.load(ctx, domain.Command{Order: e.Order, BusinessUnit: e.BusinessUnit}, domain.Digest{})
	if err != nil {
		return "", err
	}
	if !step.order.Exists() || step.foreign() {
		return "", &domain.Refused{Code: domain.CodeUnknownOrder, Detail: fmt.Sprintf("there is no order %s", e.Order)}
	}
	subject := domain.Subject(e.BusinessUnit, e.Order, step.order.Parties.Buyer)
	if subject != domain.Subject(e.BusinessUnit, e.Order, domain.Party{}) {
		return "", &domain.Refused{Code: CodeBuyerKnown, Detail: "the order's buyer is known and has one key for all orders: name the buyer as the subject"}
	}
	return subject, nil
}

// CodeBuyerKnown refuses to erase a single order of a known buyer.
const CodeBuyerKnown domain.Code = "buyer_known"

// erasureDigest tells whether a repeated erasure asks for the same. Like the digest of a command it betrays nobody.
func (h *Handler) erasureDigest(e Erasure) (domain.Digest, error) {
	asked, err := json.Marshal([]string{"erasure", e.BusinessUnit, e.Order.String(), e.Buyer.Scheme, e.Buyer.Value})
	if err != nil {
		return domain.Digest{}, err
	}
	mac := hmac.New(sha256.New, h.keys.Digest())
	_, _ = mac.Write(asked)
	return domain.Digest(mac.Sum(nil)), nil
}

// erase records an erasure and carries it out, or does the latter again for one that was recorded before.
func (h *Handler) erase(ctx context.Context, e Erasure, digest domain.Digest, subject string) (Erased, error) {
	id := domain.EventID(e.Command, h.ledger.ID, 0)
	expected := eventstore.NoStream
	mark := eventstore.Mark{Ledger: h.ledger.ID, Incarnation: h.ledger.Incarnation}
	for r, err := range h.store.ReadStream(ctx, ErasureStream, 0, eventstore.Forward) {
		if err != nil {
			return Erased{}, fmt.Errorf("reading the erasures: %w", err)
		}
		if r.ID == id {
			mark.Position, mark.Revision = r.Position, r.Revision
			return h.eraseAgain(e, digest, r, mark)
		}
		expected = eventstore.At(r.Revision)
	}
	h.erasing.Lock()
	defer h.erasing.Unlock()
	names := h.keys.Names(subject)
	event, err := erasureEvent(e, digest, id, names, h.cfg.Now())
	if err != nil {
		return Erased{}, err
	}
	appended, err := h.store.Append(ctx, ErasureStream, expected, []eventstore.Event{event})
	if err != nil && !eventstore.IsConflict(err) && !refusedAppend(err) {
		err = errors.Join(ErrOutcomeUnknown, err)
	}
	if err != nil {
		return Erased{}, fmt.Errorf("recording an erasure: %w", err)
	}
	if appended.Repeated { // the same request came twice at once
		return Erased{}, &eventstore.Conflict{Stream: ErasureStream, Expected: expected, Actual: eventstore.At(appended.Revision)}
	}
	if _, err := h.keys.Destroy(names...); err != nil {
		return Erased{}, err
	}
	h.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "personal data erased",
		slog.Any("event_id", id), slog.Int("keys", len(names)), slog.Uint64("position", uint64(appended.Position)))
	mark.Position, mark.Revision = appended.Position, appended.Revision
	return Erased{Keys: len(names), Mark: mark}, nil
}

// eraseAgain answers an erasure that was recorded before as it was answered then, and makes sure that it was carried
// out.
func (h *Handler) eraseAgain(e Erasure, digest domain.Digest, r eventstore.Recorded, mark eventstore.Mark) (Erased, error) {
	meta, err := domain.DecodeMeta(r.Metadata)
	if err != nil {
		return Erased{}, err
	}
	if meta.Digest != digest {
		return Erased{}, &KeyReused{Command: e.Command}
	}
	names, err := erasedNames(r)
	if err != nil {
		return Erased{}, err
	}
	h.erasing.Lock()
	defer h.erasing.Unlock()
	_, err = h.keys.Destroy(names...)
	return Erased{Keys: len(names), Mark: mark, Repeated: true}, err
}

func erasureEvent(e Erasure, digest domain.Digest, id uuid.UUID, names []string, now time.Time) (eventstore.Event, error) {
	data, err := json.Marshal(erasedKeys{BusinessUnit: e.BusinessUnit, Keys: append([]string{}, names...)})
	if err != nil {
		return eventstore.Event{}, err
	}
	metadata, err := domain.EncodeMeta(domain.Meta{
		Command: e.Command, Digest: digest, Actor: e.Actor, BusinessUnit: e.BusinessUnit, Cause: e.Cause, Occurred: now.UTC(),
	})
	return eventstore.Event{ID: id, Type: ErasureType, Metadata: metadata, Data: data}, err
}

func erasedNames(r eventstore.Recorded) ([]string, error) {
	var erased erasedKeys
	err := domain.ErrUnknownEvent
	if r.Type == ErasureType {
		err = json.Unmarshal(r.Data, &erased)
	}
	if err != nil {
		return nil, fmt.Errorf("reading erasure %d (%s): %w", r.Revision, r.Type, err)
	}
	return erased.Keys, nil
}

// Reapply carries out every erasure that the ledger records once more, and returns how many keys it destroyed. A
// server calls it before it takes requests: its key file may be older than the ledger.
func (h *Handler) Reapply(ctx context.Context) (int, error) {
	var names []string
	for r, err := range h.store.ReadStream(ctx, ErasureStream, 0, eventstore.Forward) {
		if err != nil {
			return 0, fmt.Errorf("reading the erasures: %w", err)
		}
		erased, err := erasedNames(r)
		if err != nil {
			return 0, err
		}
		names = append(names, erased...)
	}
	n, err := h.keys.Destroy(names...)
	if n > 0 {
		h.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the key file was older than the ledger, erased keys were destroyed again", slog.Int("keys", n))
	}
	return n, err
}
