package readapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
	"github.com/orderledger/orderledger/projections/history"
)

type historyInput struct {
	OrderPath
	Freshness
	From  uint64 `query:"from" maximum:"9007199254740991" doc:"The revision to begin with"`
	Limit int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
}

type historyOutput struct {
	Seen
	Body History
}

// A History is what an order went through, step by step, as the ledger has it.
type History struct {
	Order  uuid.UUID `json:"order"`
	Number string    `json:"number"`
	Steps  []Step    `json:"steps"`
	Next   *uint64   `json:"next,omitempty" doc:"The revision to go on from; absent where the history is whole"`
}

// A Step is one event of an order and what it led to.
type Step struct {
	Revision uint64              `json:"revision"`
	Position eventstore.Position `json:"position"`
	EventID  uuid.UUID           `json:"event_id"`
	Type     string              `json:"type" example:"order.shipped.v1"`
	Text     string              `json:"text" doc:"What happened, as a sentence for people"`
	Event    json.RawMessage     `json:"event" doc:"What the event says, without its personal section"`
	Occurred time.Time           `json:"occurred" doc:"When it happened"`
	Recorded time.Time           `json:"recorded" doc:"When the ledger took it"`
	Actor    domain.Actor        `json:"actor" doc:"Who asked for it"`
	Command  uuid.UUID           `json:"command" doc:"The command that led to it"`
	Cause    Cause               `json:"cause,omitzero" doc:"What the command belonged to"`
	Changes  []Change            `json:"changes,omitempty" doc:"What it changed in the order"`
	After    *Order              `json:"order" doc:"The order after the event, without personal data"`
}

// A Cause ties a step to what led to it.
type Cause struct {
	Correlation string `json:"correlation,omitempty" doc:"The whole undertaking"`
	Causation   string `json:"causation,omitempty" doc:"What directly led to it"`
	Traceparent string `json:"traceparent,omitempty"`
}

// A Change is a place in an order that differs between two states.
type Change struct {
	Path   string          `json:"path" example:"lines[2].quantity" doc:"Entries of lists are named by their id"`
	Before json.RawMessage `json:"before,omitempty" doc:"Absent where it was not there"`
	After  json.RawMessage `json:"after,omitempty" doc:"Absent where it is no longer there"`
	Sealed bool            `json:"sealed,omitempty" doc:"Personal data changed, which history does not show"`
}

func (a *api) getHistory(ctx context.Context, in *historyInput) (*historyOutput, error) {
	id, seen, err := a.locate(ctx, in.ID, in.Freshness)
	if err != nil {
		return nil, err
	}
	h, err := a.history(ctx, id, in.From, in.Limit)
	if err != nil {
		return nil, err
	}
	return &historyOutput{seen, h}, nil
}

// locate returns the id of an order whose history is wanted. Only a number is looked up in the read models: the
// ledger knows more orders than they do.
func (a *api) locate(ctx context.Context, name string, f Freshness) (uuid.UUID, Seen, error) {
	id, isID := parseID(name)
	if isID {
		seen, err := a.freshen(ctx, f, &id)
		return id, seen, err
	}
	seen, err := a.freshen(ctx, f, nil)
	if err == nil {
		id, err = a.byNumber(ctx, name)
	}
	return id, seen, err
}

// maxHistoryLines bounds how many order lines an answer repeats, since each step has the whole order.
const maxHistoryLines = 5000

func (a *api) history(ctx context.Context, id uuid.UUID, from uint64, limit int) (History, error) {
	h := History{Order: id, Steps: []Step{}}
	ledger, err := a.copyOf(ctx, id)
	if err != nil {
		return h, err
	}
	lines := 0
	for s, err := range history.Steps(ctx, ledger, id) {
		if err != nil {
			return h, historyError(err)
		}
		if s.After.BusinessUnit != web.BusinessUnit(ctx) {
			return h, unknownOrder()
		}
		h.Number = s.After.Number
		if s.Recorded.Revision < from {
			continue
		}
		lines += len(s.After.Lines)
		if len(h.Steps) == limit || len(h.Steps) > 0 && lines > maxHistoryLines {
			h.Next = &s.Recorded.Revision
			break
		}
		h.Steps = append(h.Steps, a.step(s))
	}
	return h, a.tell(ctx, h.Steps)
}

func (a *api) step(s history.Step) Step {
	return Step{
		Revision: s.Recorded.Revision, Position: s.Recorded.Position, EventID: s.Recorded.ID, Type: s.Recorded.Type,
		Text: plainType(s.Recorded.Type), Event: withoutPersonal(s.Recorded.Data),
		Occurred: s.Meta.Occurred, Recorded: s.Recorded.Time, Actor: s.Meta.Actor, Command: s.Meta.Command,
		Cause: Cause(s.Meta.Cause), Changes: changes(s.Changes), After: project(s.After),
	}
}

// tell gives steps the sentences of the timeline.
func (a *api) tell(ctx context.Context, steps []Step) error {
	if len(steps) == 0 {
		return nil
	}
	texts, err := a.sentences(ctx, steps[0].After.ID, steps[0].Revision, len(steps))
	for i := range steps {
		if text, ok := texts[steps[i].EventID]; ok {
			steps[i].Text = text
		}
	}
	return err
}

// sentences returns the timeline's sentences by the ids of events. An order that is parked may lack some.
func (a *api) sentences(ctx context.Context, id uuid.UUID, from uint64, n int) (map[uuid.UUID]string, error) {
	row, _, err := a.Views.Order(ctx, web.BusinessUnit(ctx), id)
	if errors.Is(err, projections.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := a.Views.Timeline(ctx, row.BusinessUnit, row.Source, id, from, n)
	texts := make(map[uuid.UUID]string, len(entries))
	for _, e := range entries {
		texts[e.EventID] = a.sentence(e.Summary)
	}
	return texts, err
}

// plainType makes words of a wire name: order.fulfilment_started.v1 is "Fulfilment started".
func plainType(typ string) string {
	name := strings.TrimPrefix(typ, "order.")
	if i := strings.LastIndex(name, ".v"); i > 0 {
		name = name[:i]
	}
	return sentence(name)
}

const personalMember = "personal"

func withoutPersonal(data []byte) json.RawMessage {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members[personalMember] == nil {
		return data
	}
	delete(members, personalMember)
	rest, err := json.Marshal(members)
	if err != nil { // it was JSON
		return nil
	}
	return rest
}

// changes leaves out what sealed sections say: one change stands for all that is personal.
func changes(list []history.Change) []Change {
	var all []Change
	sealed := false
	for _, c := range list {
		if name, _, _ := strings.Cut(c.Path, "["); name == personalMember || strings.HasPrefix(name, personalMember+".") {
			if !sealed {
				all = append(all, Change{Path: personalMember, Sealed: true})
			}
			sealed = true
			continue
		}
		all = append(all, Change{Path: c.Path, Before: c.Before, After: c.After})
	}
	return all
}

func historyError(err error) error {
	if errors.Is(err, history.ErrNotFound) {
		return unknownOrder()
	}
	return err
}

// ClockInput chooses by which time moments are told.
type ClockInput struct {
	Clock string `query:"clock" enum:"recorded,occurred" default:"recorded" doc:"Whether a time means what the ledger had taken by then, or what had happened by then"`
}

type stateInput struct {
	OrderPath
	Freshness
	ClockInput
	Revision string `query:"revision" maxLength:"20" doc:"The order at this revision"`
	Position string `query:"position" maxLength:"20" doc:"When the ledger was at this position"`
	At       string `query:"at" maxLength:"40" doc:"At this time, such as 2026-11-22T10:00:00Z"`
}

type stateOutput struct {
	Seen
	Body Step
}

// getState answers with the newest step where no moment is named.
func (a *api) getState(ctx context.Context, in *stateInput) (*stateOutput, error) {
	m, err := in.moment()
	if err != nil {
		return nil, err
	}
	id, seen, err := a.locate(ctx, in.ID, in.Freshness)
	if err != nil {
		return nil, err
	}
	s, err := a.at(ctx, id, m)
	if err != nil {
		return nil, err
	}
	steps := []Step{a.step(s)}
	if err := a.tell(ctx, steps); err != nil {
		return nil, err
	}
	return &stateOutput{seen, steps[0]}, nil
}

func (in *stateInput) moment() (m history.Moment, err error) {
	named := 0
	for _, form := range []struct {
		value string
		read  func(string) (history.Moment, error)
	}{
		{in.Revision, revisionMoment},
		{in.Position, positionMoment},
		{in.At, in.timeMoment},
	} {
		if form.value == "" {
			continue
		}
		if named++; named > 1 {
			return m, invalidMoment("Name a revision, a position or a time, not several.")
		}
		if m, err = form.read(form.value); err != nil {
			return m, err
		}
	}
	return m, nil
}

// at returns an order's step at a moment. An order that did not exist then is told from one that never did.
func (a *api) at(ctx context.Context, id uuid.UUID, m history.Moment) (history.Step, error) {
	ledger, err := a.copyOf(ctx, id)
	if err != nil {
		return history.Step{}, err
	}
	s, err := history.At(ctx, ledger, id, m)
	if errors.Is(err, history.ErrNotFound) {
		now, err := history.At(ctx, ledger, id, history.Moment{})
		if err == nil && now.After.BusinessUnit == web.BusinessUnit(ctx) {
			return s, &web.Error{Status: http.StatusNotFound, Code: "unknown_moment", Detail: "The order has no such revision, or did not exist at that moment."}
		}
		if err == nil {
			err = history.ErrNotFound
		}
		return s, historyError(err)
	}
	if err != nil {
		return s, err
	}
	if s.After.BusinessUnit != web.BusinessUnit(ctx) {
		return s, unknownOrder()
	}
	return s, nil
}

type diffInput struct {
	OrderPath
	Freshness
	ClockInput
	From string `query:"from" required:"true" maxLength:"60" example:"3" doc:"A revision, a time, or position:N"`
	To   string `query:"to" maxLength:"60" doc:"The same; now, if it is not given"`
}

type diffOutput struct {
	Seen
	Body Difference
}

// A Difference is what changed in an order between two moments.
type Difference struct {
	Order   uuid.UUID `json:"order"`
	Number  string    `json:"number"`
	From    uint64    `json:"from" doc:"The revision at the first moment"`
	To      uint64    `json:"to" doc:"The revision at the second moment"`
	Changes []Change  `json:"changes"`
}

func (a *api) getDiff(ctx context.Context, in *diffInput) (*diffOutput, error) {
	from, err := in.moment(in.From)
	if err != nil {
		return nil, err
	}
	var to history.Moment
	if in.To != "" {
		if to, err = in.moment(in.To); err != nil {
			return nil, err
		}
	}
	id, seen, err := a.locate(ctx, in.ID, in.Freshness)
	if err != nil {
		return nil, err
	}
	before, err := a.at(ctx, id, from)
	if err != nil {
		return nil, err
	}
	after, err := a.at(ctx, id, to)
	if err != nil {
		return nil, err
	}
	list, err := history.Diff(before.After, after.After)
	if err != nil {
		return nil, fmt.Errorf("comparing two states of order %s: %w", id, err)
	}
	out := &diffOutput{seen, Difference{Order: id, Number: after.After.Number,
		From: before.Recorded.Revision, To: after.Recorded.Revision, Changes: changes(list)}}
	if out.Body.Changes == nil {
		out.Body.Changes = []Change{}
	}
	return out, nil
}

// moment reads a revision, position:N, or a time.
func (c ClockInput) moment(s string) (history.Moment, error) {
	if position, ok := strings.CutPrefix(s, "position:"); ok {
		return positionMoment(position)
	}
	if m, err := revisionMoment(s); err == nil {
		return m, nil
	}
	return c.timeMoment(s)
}

func revisionMoment(s string) (history.Moment, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	if err != nil {
		return history.Moment{}, invalidMoment("A revision is a whole number.")
	}
	return history.Revision(n), nil
}

func positionMoment(s string) (history.Moment, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	if err != nil {
		return history.Moment{}, invalidMoment("A position is a whole number.")
	}
	return history.Position(eventstore.Position(n)), nil
}

func (c ClockInput) timeMoment(s string) (history.Moment, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return history.Moment{}, invalidMoment("A moment is a revision, position:N, or a time such as 2026-11-22T10:00:00Z.")
	}
	if c.Clock == "occurred" {
		return history.Occurred(t), nil
	}
	return history.Recorded(t), nil
}

func invalidMoment(detail string) error {
	return &web.Error{Status: http.StatusBadRequest, Code: "invalid_moment", Detail: detail}
}
