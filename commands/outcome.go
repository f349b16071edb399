package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
)

const (
	// OutcomePrefix begins the names of the streams that keep what has become of commands from the bus. The command's
	// id follows.
	OutcomePrefix = "command-"
	// OutcomeType is the wire name of their events. The data of one is an [Outcome] without its Answer, which the
	// order's own events tell.
	OutcomeType = "command.answered.v1"
)

// States of an [Outcome].
const (
	stateDone    = "done"
	stateRefused = "refused"
	stateExpired = "expired"
)

// An Outcome is what has become of a command that came over the bus.
type Outcome struct {
	Command    string          `json:"command" format:"uuid" doc:"The command's id"`
	Order      string          `json:"order" format:"uuid" doc:"The id of the order that it was for"`
	State      string          `json:"state" enum:"done,refused,expired" doc:"done: what it has led to is durable; refused: nothing was stored; expired: it came too late, and nothing was stored"`
	Status     int             `json:"status" doc:"HTTP status that the same request gets from its route" example:"201"`
	Code       string          `json:"code,omitempty" doc:"Why it was not done: one of the codes at /problems" example:"order_shipped"`
	Detail     string          `json:"detail,omitempty" doc:"The same, for people"`
	Errors     []web.Violation `json:"errors,omitempty" doc:"What is wrong in detail, where that is known"`
	Revision   *uint64         `json:"revision,omitempty" doc:"Revision of the last event that the command led to"`
	ApplyUntil time.Time       `json:"apply_until,omitzero" doc:"Until when it was to be done: tells several attempts under one key apart"`
	Answer     *Answer         `json:"answer,omitempty" doc:"What the route answers"`
}

// maxOutcomes is how many outcomes of one command are looked at, the newest first. There is more than one only if the
// command was sent again after it had been refused or had expired.
const maxOutcomes = 100

// A recordedOutcome is an outcome as it stands in the ledger.
type recordedOutcome struct {
	Outcome
	meta domain.Meta
}

// recordedOutcomes returns the outcomes of a command in a ledger, the newest first, and what their stream looks like.
func recordedOutcomes(ctx context.Context, ledger eventstore.Reader, command uuid.UUID) ([]recordedOutcome, eventstore.Expected, error) {
	var all []recordedOutcome
	expected := eventstore.NoStream
	for r, err := range ledger.ReadStream(ctx, OutcomePrefix+command.String(), eventstore.End, eventstore.Backward) {
		if err != nil {
			return nil, 0, fmt.Errorf("reading the outcome of command %s: %w", command, err)
		}
		if expected == eventstore.NoStream {
			expected = eventstore.At(r.Revision)
		}
		o := recordedOutcome{}
		if r.Type != OutcomeType {
			return nil, 0, fmt.Errorf("reading the outcome of command %s: %w", command, domain.ErrUnknownEvent)
		}
		if o.meta, err = domain.DecodeMeta(r.Metadata); err == nil {
			err = json.Unmarshal(r.Data, &o.Outcome)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("reading the outcome of command %s: %w", command, err)
		}
		if all = append(all, o); len(all) == maxOutcomes {
			break
		}
	}
	return all, expected, nil
}

// record stores an outcome. It fails if the stream of outcomes is not as expected.
func (h *Handler) record(ctx context.Context, q queued, digest domain.Digest, expected eventstore.Expected, o Outcome) error {
	o.Answer = nil
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	now := h.cfg.Now().UTC()
	metadata, err := domain.EncodeMeta(domain.Meta{
		Command: q.command, Digest: digest, Actor: actorOf(q.by), BusinessUnit: q.unit, Occurred: now,
		Cause: domain.Cause{Causation: q.command.String(), Traceparent: q.traceparent},
	})
	if err != nil {
		return err
	}
	event := eventstore.Event{ID: h.outcomeID(q, digest, o.State), Type: OutcomeType, Metadata: metadata, Data: data}
	if _, err := h.store.Append(ctx, OutcomePrefix+q.command.String(), expected, []eventstore.Event{event}); err != nil {
		return fmt.Errorf("recording the outcome of command %s: %w", q.command, err)
	}
	return nil
}

// outcomeID names the event that tells a state of a message, the same for each of its deliveries.
func (h *Handler) outcomeID(q queued, digest domain.Digest, state string) uuid.UUID {
	name := append(h.ledger.ID[:], digest[:]...)
	return uuid.NewSHA1(q.command, append(name, state...))
}

// done returns what a command has led to, if it was done, however it came and wherever that was.
func (h *Handler) done(ctx context.Context, c domain.Command) (Result, bool, error) {
	step, err := h.load(ctx, c, domain.Digest{})
	if err != nil || step.foreign() {
		return Result{}, false, err
	}
	if step.first == nil {
		at, err := h.locate(ctx, step)
		switch {
		case at.answered != nil:
			step = at.answered
		case at.home != uuid.Nil: // who could not be read is no home, as far as one can see
			return Result{}, false, nil
		default:
			return Result{}, false, err
		}
	}
	return *step.first, true, nil
}

// outcome returns what has become of a command that the principal has sent for a business unit. What the order's history
// says counts before what was recorded: after a refusal the command may have come by another way, and been done.
func (h *Handler) outcome(ctx context.Context, command uuid.UUID, unit string, who web.Principal) (Outcome, error) {
	for i, ledger := range h.ledgers() {
		all, _, err := recordedOutcomes(ctx, ledger, command)
		if err != nil && i > 0 {
			err = fmt.Errorf("%w: %w", errMirror, err)
		}
		if err != nil {
			return Outcome{}, err
		}
		for _, o := range all {
			// Without authentication everybody may ask about everything.
			if o.meta.BusinessUnit == unit && (o.meta.Actor.Subject == who.Subject || who.Kind == "local") {
				return h.latest(ctx, o.Outcome, command, unit)
			}
		}
	}
	return Outcome{}, errUnknownCommand
}

// latest returns what an outcome has become since it was recorded.
func (h *Handler) latest(ctx context.Context, o Outcome, command uuid.UUID, unit string) (Outcome, error) {
	order, err := uuid.Parse(o.Order)
	if err != nil {
		return Outcome{}, fmt.Errorf("reading the outcome of command %s: %w", command, err)
	}
	result, done, err := h.done(ctx, domain.Command{ID: command, Order: order, BusinessUnit: unit})
	if err != nil || !done {
		return o, err
	}
	return doneOutcome(o, answer(result)), nil
}

var errUnknownCommand = &web.Error{Status: http.StatusNotFound, Code: codeUnknownCommand,
	Detail: "No such command has been answered, or not yet."}

// doneOutcome turns the outcome of a command into one that was done.
func doneOutcome(o Outcome, a Answer) Outcome {
	o.State, o.Status, o.Code, o.Detail, o.Errors = stateDone, http.StatusOK, "", "", nil
	if len(a.Events) > 0 && a.Events[0] == (*domain.Submitted)(nil).Type() {
		o.Status = http.StatusCreated
	}
	o.Revision, o.Answer = &a.Revision, &a
	return o
}

type outcomeRequest struct {
	ID string `path:"id" doc:"The command's id, a UUID" example:"5f0c1c5e-64b5-5a86-8b3f-4c1f6a1f0a52"`
}

type outcomeAnswer struct {
	Body Outcome
}

// outcomes registers the route that tells what has become of a command.
func (r *routes) outcomes() {
	huma.Register(r.api, huma.Operation{
		OperationID: "get-command", Method: http.MethodGet, Path: "/v1/commands/{id}", Tags: []string{tagOrders},
		Summary: "Ask what has become of a command that was sent over the bus",
		Description: "For commands from the queue, those among them that were answered 202. It says the same as the route itself would have: status, code and answer. " +
			"404 means that the command is not known, or not yet.",
		Errors: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *outcomeRequest) (*outcomeAnswer, error) {
		id, err := uuid.Parse(in.ID)
		if err != nil || id.String() != in.ID {
			return nil, &web.Error{Status: http.StatusBadRequest, Code: "invalid_parameter", Detail: "A command is named by its id, a UUID in small letters.",
				Errors: []web.Violation{{Location: "path.id", Code: "invalid_parameter", Message: "not a UUID"}}}
		}
		o, err := r.handler.outcome(ctx, id, web.BusinessUnit(ctx), web.PrincipalFrom(ctx))
		if err != nil {
			return nil, err
		}
		return &outcomeAnswer{Body: o}, nil
	})
}

// Codes of outcomes.
const (
	codeUnknownCommand = "unknown_command"
	codeExpired        = "expired"
)

func outcomeCodes() []web.Code {
	return []web.Code{
		{Code: codeUnknownCommand, Status: http.StatusNotFound, Meaning: "No command of this id has been answered that came over the bus from this client for this business unit, or not yet."},
		{Code: codeExpired, Status: http.StatusGone, Meaning: "The command came over the bus later than it said it was to be done. Nothing was stored; it may be sent again under the same key."},
	}
}
