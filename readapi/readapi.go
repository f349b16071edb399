// Package readapi answers what people ask about orders: JSON under /v1, live progress, and web pages. It reads the
// read models and, where history is replayed, the ledger; it changes nothing.
//
// # How fresh an answer is
//
// Every write answers a mark in the header Orderledger-Mark. A read that is given one, in the same header or in the
// query parameter mark, waits until it can show that write, for five seconds or as long as mark_wait says, and else
// answers 503 with the code not_yet. Every read answers a mark of its own, which other reads take, and in
// Orderledger-Lag how far the read models are behind: events;seconds.
//
// # Live progress
//
// The events of one order and the notifications about all orders come as Server-Sent Events or, in the same content
// and order, as JSON that waits. Each carries an id; who sends the last one back (as Last-Event-ID, or as after)
// goes on behind it and misses nothing and sees nothing twice. A client that has been away for days and one that was
// cut off for a second do the same. They go along when an order moves to another region: its events go on there, and
// none is told again. One exception keeps notifications from being lost with a region: what only a later home of the
// order could tell is told again when the first one is heard of after all. Order, revision and kind say that it is the same.
//
// # Personal data
//
// Personal data appears in the view of one order and on its page, nowhere else, and only while the key of its
// subject exists.
package readapi

import (
	"context"
	"log/slog"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
	"github.com/orderledger/orderledger/projections"
)

// A Config says what the read side reads. Views and Ledger are required.
type Config struct {
	Views  *projections.Views
	Ledger eventstore.Reader // in which histories are replayed
	// Regions are those that take orders, this one first; nil: it is the only one, and has no name.
	Regions func() []Region
	// Projector retries parked orders; nil: that is not offered.
	Projector *projections.Projector

	// Key returns the key that opens personal sections, by its name, and false for one that was destroyed; nil: this
	// server opens none.
	Key func(name string) ([]byte, bool)
	// Lag tells how far Views are behind each ledger, as [projections.Projector.Lag] does; nil: reads do not say.
	Lag func(context.Context) ([]projections.Lag, error)

	Logger    *slog.Logger     // nil: no log
	Now       func() time.Time // nil: time.Now; serves to tell ages
	Heartbeat time.Duration    // between comments in a stream; 0: [web.HeartbeatInterval]
	MaxWait   time.Duration    // of a long poll, whatever it asks for; 0: one minute
}

// An api is the read side of one server.
type api struct {
	Config
	server *web.Server
	pages  *pages
	recent recentSeen
}

// Register adds the read side to a server. It panics on a configuration that cannot work.
func Register(s *web.Server, cfg Config) {
	if cfg.Views == nil || cfg.Ledger == nil {
		panic("readapi: Views and Ledger are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = web.HeartbeatInterval
	}
	if cfg.MaxWait == 0 {
		cfg.MaxWait = time.Minute
	}
	a := &api{Config: cfg, server: s, pages: newPages()}

	get(s, "list-orders", "/v1/orders", "List and find orders", a.listOrders)
	get(s, "get-order", "/v1/orders/{id}", "An order as it stands", a.getOrder)
	get(s, "get-timeline", "/v1/orders/{id}/timeline", "What happened to an order, for people", a.getTimeline)
	live(s, "watch-order", "/v1/orders/{id}/events", "Follow an order", Progress{}, a.watchOrder)
	live(s, "watch-notifications", "/v1/notifications", "Follow all orders", Notifications{}, a.watchNotifications)
	get(s, "get-counts", "/v1/counts", "How many orders are in each status", a.getCounts)
	get(s, "get-status", "/v1/status", "How far the read models have come", a.getStatus)
	get(s, "get-regions", "/v1/regions", "Where orders have their home, and how far each region can be seen from here", a.getRegions)
	get(s, "list-conflicts", "/v1/conflicts", "What a region has done with an order and does not count where it lives", a.getConflicts)
	a.registerParked()
	get(s, "get-history", "/v1/history/orders/{id}", "Every step of an order", a.getHistory)
	get(s, "get-state", "/v1/history/orders/{id}/state", "An order as it was", a.getState)
	get(s, "get-diff", "/v1/history/orders/{id}/diff", "What changed between two moments", a.getDiff)

	order := s.API().OpenAPI().Paths["/v1/orders/{id}"].Get
	order.Description = "The ETag is the order's version. The erasure of personal data is no new version, so that an order some of whose " +
		"personal data was erased is never answered 304: with wait, it is answered when it changes or the time is up."
	order.Responses["304"] = &huma.Response{Description: "The order is still one of those in If-None-Match"}

	r := s.Scoped()
	r.Get("/", a.overviewPage)
	r.Get("/regions", a.regionsPage)
	r.Get("/conflicts", a.conflictsPage)
	r.Get("/orders/{id}", a.orderPage)
	r.Get("/orders/{id}/history", a.historyPage)
	s.Router().Get("/assets/{name}", a.serveAsset)
}
