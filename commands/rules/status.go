package rules

import (
	"context"
	"fmt"
	"time"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
)

// maxHistory is how many activations a Status tells of.
const maxHistory = 100

// A Status tells which rules are in force for a business unit, and how that came.
type Status struct {
	BusinessUnit string
	Name         string // of the rule set in force
	SHA256       string // of the text in force; empty: none that this version reads
	Text         string
	Warnings     []Problem
	Sites        []Site
	Revision     uint64       // of its activation; 0 also while it was never activated
	BuiltIn      bool         // nothing was activated yet: the default will be, before its first use
	Unreadable   *Unreadable  // a newer text that this version does not read
	NotFollowing string       // why what other processes activate is not seen just now
	History      []HistoryRow // newest first, the last 100
}

// An Unreadable is an activated rule set that this version does not read, so that an older one is in force.
type Unreadable struct {
	Revision uint64
	Recorded time.Time
	Error    string
}

// A HistoryRow is one activation.
type HistoryRow struct {
	Revision uint64
	SHA256   string // empty where the event cannot be read
	Recorded time.Time
	Actor    domain.Actor
	Bytes    int // of the text
}

// Status reads a business unit's rules and their history. It activates nothing.
func (a *Active) Status(ctx context.Context, businessUnit string) (Status, error) {
	u, err := a.load(ctx, businessUnit)
	if err != nil {
		return Status{}, err
	}
	s := Status{BusinessUnit: businessUnit}
	if why := a.following.Load(); why != nil {
		s.NotFollowing = *why
	}
	switch {
	case u == nil:
		s.BuiltIn = true
		s.show(a.config.Default)
		return s, nil
	case u.inForce != nil:
		s.Revision = u.inForce.revision
		s.show(u.inForce.set)
	}
	if u.unreadable != nil && (u.inForce == nil || u.unreadable.Revision > u.inForce.revision) {
		s.Unreadable = u.unreadable
	}
	for rec, err := range a.store.ReadStream(ctx, Stream(businessUnit), eventstore.End, eventstore.Backward) {
		if err != nil {
			return Status{}, fmt.Errorf("reading the history of the rule sets of business unit %q: %w", businessUnit, err)
		}
		s.History = append(s.History, historyRow(&rec))
		if len(s.History) == maxHistory {
			break
		}
	}
	return s, nil
}

func (s *Status) show(set *RuleSet) {
	s.Name, s.SHA256, s.Text, s.Warnings, s.Sites = set.Name(), set.Hash(), set.Text(), set.Warnings(), set.Sites()
}

// historyRow tells what it can of an activation.
func historyRow(rec *eventstore.Recorded) HistoryRow {
	row := HistoryRow{Revision: rec.Revision, Recorded: rec.Time}
	if e, err := activation(rec); err == nil {
		row.SHA256, row.Bytes = e.SHA256, len(e.Text)
	}
	if meta, err := domain.DecodeMeta(rec.Metadata); err == nil {
		row.Actor = meta.Actor
	}
	return row
}
