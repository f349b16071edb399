package projections_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/domain/domaintest"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/projections"
)

// A strange ledger shows events as a program sees them that does not understand all of them.
type strange struct {
	eventstore.Reader
	distort func(*eventstore.Recorded)
}

func (s strange) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return s.through(s.Reader.ReadStream(ctx, stream, from, dir))
}

func (s strange) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return s.through(s.Reader.ReadAll(ctx, after, f))
}

func (s strange) through(all iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range all {
			s.distort(&e)
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestParkedOrderStopsAlone(t *testing.T) {
	for name, spoil := range map[string]func(*eventstore.Recorded){
		"unknown type":        func(e *eventstore.Recorded) { e.Type = "order.teleported.v1" },
		"undecodable data":    func(e *eventstore.Recorded) { e.Data = []byte(`{"surprise":1}`) },
		"undecodable meta":    func(e *eventstore.Recorded) { e.Metadata = []byte(`[]`) },
		"other business unit": func(e *eventstore.Recorded) { e.Metadata = []byte(`{"business_unit":"other"}`) },
		"no order's event":    func(e *eventstore.Recorded) { e.Type, e.Data = "ruleset.activated.v1", []byte(`{}`) },
		"second submission": func(e *eventstore.Recorded) {
			data, err := domain.EncodeEvent(&domain.Submitted{})
			if err != nil {
				panic(err)
			}
			e.Type, e.Data = "order.submitted.v1", data
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t)
			sick := newLife(t, l, "sick", nil)
			sound := newLife(t, l, "sound", nil)
			sick.deliver()
			sound.deliver()
			should, _ := caughtUp(t, l)

			understood := false
			ledger := strange{l, func(e *eventstore.Recorded) {
				if !understood && e.Stream == domain.Stream(sick.order.ID) && e.Revision == 2 {
					spoil(e)
				}
			}}
			is := newViews(t)
			p := newProjector(t, is, ledger)
			for _, d := range deliveries(t, ledger) {
				check(t, p.Apply(t.Context(), []eventstore.Delivery{d}))
			}
			wantRevision(t, is, sick.order.ID, 1)
			wantRevision(t, is, sound.order.ID, sound.order.Revision())
			wantFold(t, is, ledger)
			parked, err := is.Parked(t.Context(), 10)
			check(t, err)
			if len(parked) != 1 || parked[0].Order != sick.order.ID || parked[0].Revision != 2 || parked[0].Error == "" || parked[0].BusinessUnit != domaintest.BusinessUnit {
				t.Errorf("parked: %+v", parked)
			}
			lag, err := p.Lag(t.Context())
			check(t, err)
			if lag[0].Parked != 1 || lag[0].Events != 0 {
				t.Errorf("lag: %+v", lag)
			}

			wantResumed(t, p, 0)
			wantRevision(t, is, sick.order.ID, 1)
			if err := p.SkipParked(t.Context(), sound.order.ID); !errors.Is(err, projections.ErrNotParked) {
				t.Errorf("skipping an order that is not parked: %v", err)
			}
			check(t, p.SkipParked(t.Context(), sick.order.ID))
			check(t, p.SkipParked(t.Context(), sick.order.ID))
			parked, err = is.Parked(t.Context(), 10)
			check(t, err)
			lag, err = p.Lag(t.Context())
			check(t, err)
			if len(parked) != 1 || !parked[0].Skipped || lag[0].Parked != 0 {
				t.Errorf("once it is skipped: parked %+v, lag %+v", parked, lag)
			}
			wantFold(t, is, ledger)
			wantResumed(t, p, 0, sound.order.ID)
			understood = true
			p = newProjector(t, is, ledger) // the next version of the program
			wantResumed(t, p, 0)            // it was given up
			wantResumed(t, p, 0, sound.order.ID)
			wantResumed(t, p, 1, sick.order.ID)
			wantSame(t, is, should)
			wantResumed(t, p, 0)
		})
	}
}

func wantResumed(t *testing.T, p *projections.Projector, want int, orders ...uuid.UUID) {
	t.Helper()
	n, err := p.RetryParked(t.Context(), orders...)
	check(t, err)
	if n != want {
		t.Errorf("%d orders resumed, not %d", n, want)
	}
}

func wantRevision(t *testing.T, v *projections.Views, order uuid.UUID, want uint64) {
	t.Helper()
	row, folded, err := v.Order(t.Context(), domaintest.BusinessUnit, order)
	check(t, err)
	if row.Revision != want || folded.Revision() != want || row.Status != folded.Status() {
		t.Errorf("order %s: revisions %d and %d, statuses %s and %s; want revision %d", order, row.Revision, folded.Revision(), row.Status, folded.Status(), want)
	}
}

// An order that no event has named a business unit for has no row at all.
func TestParkedAtBirth(t *testing.T) {
	l := newLedger(t)
	sick := newLife(t, l, "sick", nil)
	understood := false
	_, p := caughtUp(t, strange{l, func(e *eventstore.Recorded) {
		if !understood {
			e.Metadata = nil
		}
	}})
	sick.deliver()
	// What comes while the order is parked stays in the ledger: the lane goes on, the order does not.
	check(t, p.Apply(t.Context(), deliveries(t, l)))
	understood = true
	wantResumed(t, p, 1)
}

// An order resumes no further than its lane has come, for the rest will be delivered.
func TestRetryStopsAtTheCheckpoint(t *testing.T) {
	l := newLedger(t)
	sick := newLife(t, l, "sick", nil)
	understood := false
	ledger := strange{l, func(e *eventstore.Recorded) {
		if !understood && e.Revision == 1 {
			e.Type = strings.ToUpper(e.Type)
		}
	}}
	v, p := caughtUp(t, ledger)
	at := sick.order.Revision()
	sick.deliver()
	understood = true
	wantResumed(t, p, 1)
	wantRevision(t, v, sick.order.ID, at)
	check(t, p.Apply(t.Context(), deliveries(t, ledger)))
	wantRevision(t, v, sick.order.ID, sick.order.Revision())
	wantFold(t, v, ledger)
}
