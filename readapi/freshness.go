package readapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

const (
	defaultMarkWait = 5 * time.Second
	maxMarkWait     = 10 * time.Second // well within what a connection is given
)

// Freshness is what every read takes.
type Freshness struct {
	Mark        string `header:"Orderledger-Mark" maxLength:"120" doc:"Wait until this mark can be seen. Writes answer marks, and so do reads."`
	MarkInQuery string `query:"mark" maxLength:"120" doc:"The same, where a header cannot be set"`
	MarkWait    span   `query:"mark_wait" doc:"How long to wait for the mark, at most 10s; 5s if it is not given"`
}

// Seen is what every read answers.
type Seen struct {
	Mark []string `header:"Orderledger-Mark" doc:"What this answer has seen, one mark for each ledger"`
	Lag  []string `header:"Orderledger-Lag" doc:"How far the read models are behind, for each ledger: events;seconds"`
}

func (s Seen) writeTo(h http.Header) {
	h["Orderledger-Mark"] = slices.Clone(s.Mark) // others answer with the same
	h["Orderledger-Lag"] = slices.Clone(s.Lag)
}

// freshen waits until the read models show what a request wants to see at least, of one order or of all, and says what
// they show. It is called before the rows are read, so that an answer shows at least what it says it has seen.
func (a *api) freshen(ctx context.Context, f Freshness, order *uuid.UUID) (Seen, error) {
	mark := cmp.Or(f.Mark, f.MarkInQuery)
	if mark == "" {
		return a.recent.seen(ctx, a, recentEnough)
	}
	if err := a.await(ctx, mark, f.MarkWait, order); err != nil {
		return Seen{}, err
	}
	return a.recent.seen(ctx, a, 0)
}

func (a *api) await(ctx context.Context, text string, atMost span, order *uuid.UUID) error {
	mark, err := eventstore.ParseMark(text)
	if err != nil {
		return &web.Error{Status: http.StatusBadRequest, Code: "invalid_mark", Detail: "The mark was not made by a ledger."}
	}
	wait := defaultMarkWait
	if atMost.d > 0 {
		wait = min(atMost.d, maxMarkWait)
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err = a.Views.WaitFor(waiting, mark, order)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, projections.ErrUnknownLedger) && slices.ContainsFunc(a.regions(), func(r Region) bool { return r.Ledger == mark.Ledger }):
		return notYet(" Nothing of that region was seen here so far.")
	case errors.Is(err, projections.ErrUnknownLedger):
		return &web.Error{Status: http.StatusBadRequest, Code: "unknown_mark", Detail: "The mark is of a ledger that is not followed here."}
	case errors.Is(err, projections.ErrLostBranch):
		return &web.Error{Status: http.StatusConflict, Code: "lost_mark", Detail: "The ledger was restored from a backup since the mark was made: what it marks may be gone."}
	case errors.Is(err, projections.ErrParked):
		return &web.Error{Status: http.StatusServiceUnavailable, Code: "order_parked", Detail: "The order cannot come to the mark: an event of it could not be applied. Without the mark, the order is shown as it was before.", RetryAfter: time.Minute}
	case ctx.Err() != nil:
		return ctx.Err()
	case waiting.Err() != nil:
		return notYet(a.behind(ctx, mark.Ledger))
	}
	return fmt.Errorf("waiting for a mark: %w", err)
}

func notYet(why string) error {
	return &web.Error{Status: http.StatusServiceUnavailable, Code: "not_yet", Detail: "What the mark marks cannot be seen here yet." + why, RetryAfter: time.Second}
}

// recentEnough is how old what most reads say about marks and lag may be. What was true then is true now: the rows
// only come further.
const recentEnough = 100 * time.Millisecond

// recentSeen spares most reads the question how far the rows have come.
type recentSeen struct {
	mu    sync.Mutex // protects the fields below, and keeps two from asking at once
	last  Seen
	asked time.Time
}

func (r *recentSeen) seen(ctx context.Context, a *api, maxAge time.Duration) (Seen, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := a.Now()
	if age := now.Sub(r.asked); age >= 0 && age < maxAge {
		return r.last, nil
	}
	seen, err := a.ask(ctx)
	if err == nil {
		r.last, r.asked = seen, now
	}
	return seen, err
}

func (a *api) ask(ctx context.Context) (Seen, error) {
	var seen Seen
	sources, err := a.Views.Sources(ctx)
	if err != nil {
		return seen, err
	}
	for _, s := range sources {
		seen.Mark = append(seen.Mark, eventstore.Mark{Ledger: s.Ledger, Incarnation: s.Incarnation, Position: s.Passed}.String())
	}
	for _, l := range a.lags(ctx) {
		seen.Lag = append(seen.Lag, strconv.Itoa(l.Events)+";"+strconv.FormatFloat(l.Age.Seconds(), 'f', 3, 64))
	}
	return seen, nil
}

// lags are how far the read models are behind, where that is known: reads go on while a ledger cannot be asked.
func (a *api) lags(ctx context.Context) []projections.Lag {
	if a.Lag == nil {
		return nil
	}
	lags, err := a.Lag(ctx)
	if err != nil && ctx.Err() == nil {
		a.Logger.WarnContext(ctx, "the lag is not known", slog.Any("error", err))
	}
	return lags
}
