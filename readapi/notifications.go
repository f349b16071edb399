package readapi

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

// Notifications are a part of what happened to all orders.
type Notifications struct {
	Notifications []Notification `json:"notifications"`
	After         string         `json:"after" doc:"Send it back to get what follows; 0 stands before all"`
}

// A Notification tells that an order has moved.
type Notification struct {
	ID       string              `json:"id" doc:"Of this notification; the id of a stream's event has a place for each ledger"`
	Text     string              `json:"text" doc:"What happened, as a sentence for people"`
	Kind     string              `json:"kind" example:"shipped"`
	Order    uuid.UUID           `json:"order"`
	Number   string              `json:"number"`
	Customer string              `json:"customer,omitempty"`
	Before   domain.Status       `json:"status_before,omitempty"`
	Status   domain.Status       `json:"status"`
	Revision uint64              `json:"revision"`
	Occurred time.Time           `json:"occurred"`
	Summary  projections.Summary `json:"summary" doc:"What the sentence is made of"`
}

func notification(n projections.Notification) Notification {
	return Notification{
		ID: formatPlaces([]projections.Place{n.Place}), Text: n.Summary.String(), Kind: n.Kind, Order: n.Order, Number: n.Number,
		Customer: n.Customer, Before: n.Before, Status: n.Status, Revision: n.Revision, Occurred: n.Occurred, Summary: n.Summary,
	}
}

// fromStart is the place before all notifications.
const fromStart = "0"

// watchNotifications gives out what comes behind the client's place; without one, what comes from now on.
func (a *api) watchNotifications(ctx context.Context, in *LiveInput) (answer, error) {
	places, err := parsePlaces(in.after())
	if err != nil {
		return nil, err
	}
	seen, err := a.freshen(ctx, in.Freshness, nil)
	if err != nil {
		return nil, err
	}
	if in.after() == "" {
		if places, err = a.Views.End(ctx); err != nil {
			return nil, err
		}
	}
	return reply(a, in, a.notificationFeed(web.BusinessUnit(ctx), places), seen), nil
}

func (a *api) notificationFeed(businessUnit string, places []projections.Place) *feed[Notification] {
	f := &feed[Notification]{
		at:   formatPlaces(places),
		body: func(list []Notification, after string) any { return Notifications{list, after} },
	}
	advance := func(n projections.Notification) Notification {
		places = projections.Advance(places, n.Place)
		f.at = formatPlaces(places)
		return notification(n)
	}
	f.ready = func(ctx context.Context, n int) ([]Notification, error) {
		notifications := []Notification{}
		if n == 0 {
			return notifications, nil
		}
		list, err := a.Views.Notifications(ctx, businessUnit, places, n)
		for _, n := range list {
			notifications = append(notifications, advance(n))
		}
		return notifications, err
	}
	f.next = func(ctx context.Context) iter.Seq2[Notification, error] {
		return func(yield func(Notification, error) bool) {
			for n, err := range a.Views.WatchNotifications(ctx, businessUnit, places) {
				if err != nil {
					yield(Notification{}, err)
					return
				}
				if !yield(advance(n), nil) {
					return
				}
			}
		}
	}
	return f
}

// formatPlaces writes a place for each ledger: ledger:position.n, separated by commas.
func formatPlaces(places []projections.Place) string {
	if len(places) == 0 {
		return fromStart
	}
	var b strings.Builder
	for i, p := range places {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s:%d.%d", p.Source, p.Position, p.N)
	}
	return b.String()
}

// maxPlaces bounds how many ledgers an id may name.
const maxPlaces = 16

// parsePlaces reads what formatPlaces wrote; nothing is no place.
func parsePlaces(s string) ([]projections.Place, error) {
	if s == "" || s == fromStart {
		return nil, nil
	}
	var places []projections.Place
	for part := range strings.SplitSeq(s, ",") {
		ledger, rest, _ := strings.Cut(part, ":")
		source, err := uuid.Parse(ledger)
		var position eventstore.Position
		var n int
		if err == nil {
			_, err = fmt.Sscanf(rest, "%d.%d", &position, &n)
		}
		known := slices.ContainsFunc(places, func(p projections.Place) bool { return p.Source == source })
		if err != nil || known || position > 1<<62 || len(places) == maxPlaces {
			return nil, invalidAfter()
		}
		places = append(places, projections.Place{Source: source, Position: position, N: n})
	}
	if formatPlaces(places) != s {
		return nil, invalidAfter()
	}
	return places, nil
}
