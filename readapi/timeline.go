package readapi

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

type timelineInput struct {
	OrderPath
	Freshness
	From  uint64 `query:"from" maximum:"9007199254740991" doc:"The revision to begin with"`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"200"`
}

type timelineOutput struct {
	Seen
	Body Timeline
}

// A Timeline is what happened to an order.
type Timeline struct {
	Order   uuid.UUID       `json:"order"`
	Number  string          `json:"number"`
	Entries []TimelineEntry `json:"entries" doc:"In the order in which they happened to the order"`
	Next    *uint64         `json:"next,omitempty" doc:"The revision to go on from; absent where the timeline is whole"`
}

// A TimelineEntry is one event of an order.
type TimelineEntry struct {
	ID       string              `json:"id" doc:"Goes on behind this entry, as Last-Event-ID or after" example:"5a0ea6a6-9a0d-4b7e-8f57-9b0c5b1f6a51:3"`
	Text     string              `json:"text" doc:"What happened, as a sentence for people"`
	Type     string              `json:"type" doc:"The event's wire name" example:"order.shipped.v1"`
	Revision uint64              `json:"revision"`
	Position eventstore.Position `json:"position"`
	EventID  uuid.UUID           `json:"event_id"`
	Status   domain.Status       `json:"status" doc:"Of the order after the event"`
	Occurred time.Time           `json:"occurred" doc:"When it happened"`
	Recorded time.Time           `json:"recorded" doc:"When the ledger took it"`
	Actor    domain.Actor        `json:"actor" doc:"Who asked for it"`
	Reason   domain.Reason       `json:"reason,omitzero"`
	RuleSet  string              `json:"rule_set,omitempty" doc:"Hash of the rule set that decided"`
	RuleRow  string              `json:"rule_row,omitempty" doc:"Its row that decided"`
	Summary  projections.Summary `json:"summary" doc:"What the sentence is made of"`
}

func (a *api) timelineEntry(e projections.Entry) TimelineEntry {
	return TimelineEntry{
		ID: place{e.Source, e.Revision}.String(), Text: a.sentence(e.Summary), Type: e.Type, Revision: e.Revision,
		Position: e.Position, EventID: e.EventID, Status: e.Status, Occurred: e.Occurred, Recorded: e.Recorded,
		Actor: e.Actor, Reason: e.Reason, RuleSet: e.RuleSet, RuleRow: e.RuleRow, Summary: e.Summary,
	}
}

// sentence is a summary for people, who know regions by their names.
func (a *api) sentence(s projections.Summary) string {
	if name := a.regionName(s.Ledger); name != "" && s.Code == projections.CodeHomeMoved {
		return "Moved to region " + name + "."
	}
	return s.String()
}

func (a *api) getTimeline(ctx context.Context, in *timelineInput) (*timelineOutput, error) {
	row, _, seen, err := a.find(ctx, in.ID, in.Freshness)
	if err != nil {
		return nil, err
	}
	entries, err := a.Views.Timeline(ctx, row.BusinessUnit, row.Source, row.ID, in.From, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &timelineOutput{Seen: seen, Body: Timeline{Order: row.ID, Number: row.Number, Entries: make([]TimelineEntry, len(entries))}}
	for i, e := range entries {
		out.Body.Entries[i] = a.timelineEntry(e)
	}
	if n := len(entries); n == in.Limit && entries[n-1].Revision < row.Revision {
		next := entries[n-1].Revision + 1
		out.Body.Next = &next
	}
	return out, nil
}
