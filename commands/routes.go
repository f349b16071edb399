package commands

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/web"
)

// Register adds the routes of the write side to a server: orders, what has become of commands from the queue, the import
// of orders, erasures and, where there are other regions or rules, their routes. The server's configuration needs [WebError] among its Errors and [Codes] among its Codes.
func Register(s *web.Server, h *Handler, active *rules.Active) {
	r := &routes{api: s.API(), handler: h}
	if h.cfg.Enqueue != nil {
		r.offerQueue()
	}
	r.offerDurability()
	if h.cfg.Regions != nil {
		r.offerPassingOn()
		r.movements()
	}
	r.orders()
	r.fulfilments()
	r.conflicts()
	r.outcomes()
	r.administration()
	if active != nil {
		r.rules(active)
	}
	s.Router().Get("/transitions", serveTransitions)
}

// serveTransitions answers the table of what every command does in every state.
func serveTransitions(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, domain.Transitions)
}

// routes are the write side of one server.
type routes struct {
	api     huma.API
	handler *Handler
}

// An Answer tells what a command has led to. It depends on nothing but the order's history up to then, so that a
// repeated command gets the same bytes.
type Answer struct {
	ID          string            `json:"id" format:"uuid" doc:"The order's id; it never changes"`
	Number      string            `json:"number" doc:"The order's number, for people" example:"K7Q2-9FTM-3XWA-P"`
	Status      domain.Status     `json:"status" doc:"Where the order stands after the command" example:"routed" enum:"submitted,rejected,on_hold,accepted,routed,confirmed,in_fulfilment,partially_shipped,shipped,delivered,closed,cancelled,withdrawn"`
	Revision    uint64            `json:"revision" doc:"Revision of the last event that the command led to"`
	Events      []string          `json:"events" doc:"Types of the events that the command led to, in order"`
	Fulfilments []FulfilmentState `json:"fulfilments" doc:"Which sites fulfil the order, ended ones included"`
	Holds       []domain.Hold     `json:"holds" doc:"Open holds: the order goes on when all are released"`
	Reason      domain.Reason     `json:"reason,omitzero" doc:"Why the order was rejected, cancelled or withdrawn"`
}

// A FulfilmentState is a fulfilment in an [Answer].
type FulfilmentState struct {
	ID    string       `json:"id" doc:"Names the fulfilment in the routes that sites report to" example:"f1"`
	Site  string       `json:"site" example:"LYON-WH"`
	Phase domain.Phase `json:"phase" example:"routed" enum:"routed,confirmed,started,failed,unrouted"`
}

func answer(r Result) Answer {
	a := Answer{
		ID: r.Order.ID.String(), Number: r.Order.Number, Status: r.Order.Status(), Revision: r.Revision, Events: r.Events,
		Fulfilments: []FulfilmentState{}, Holds: append([]domain.Hold{}, r.Order.Holds...), Reason: r.Order.Reason,
	}
	for _, f := range r.Order.Fulfilments {
		a.Fulfilments = append(a.Fulfilments, FulfilmentState{ID: f.ID, Site: f.Site, Phase: f.Phase})
	}
	return a
}

// changed is the response of a route that changes an order.
type changed struct {
	Location string `header:"Location" doc:"Where the order can be read"`
	ETag     string `header:"ETag" doc:"Version of the order after the command, for If-Match and If-None-Match"`
	Mark     string `header:"Orderledger-Mark" doc:"Send it with a read to see this write"`
	Replayed string `header:"Idempotent-Replayed" enum:"true" doc:"Present where the request had been answered before and this is the first answer"`
	Durable  string `header:"Orderledger-Durability" enum:"region,remote" doc:"How durable the command is, where the request asks for that"`
	Body     Answer
}

// do handles a command and writes its answer, sends it to the queue if its client prefers that, or passes it on to
// another region.
func (r *routes) do(ctx context.Context, q request) (*changed, error) {
	if accepted, err := r.enqueue(ctx, q); err != nil {
		return nil, err
	} else if accepted != nil {
		return nil, accepted
	}
	result, err := r.handler.handle(ctx, &q)
	if err != nil {
		return nil, r.passOn(ctx, q.command, err)
	}
	return &changed{
		Location: "/v1/orders/" + result.Order.ID.String(),
		ETag:     web.Version{Epoch: uint64(result.Order.Epoch), Revision: result.Revision}.ETag(),
		Mark:     result.Mark.String(),
		Replayed: replayed(result.Repeated),
		Durable:  r.handler.reach(ctx, result),
		Body:     answer(result),
	}, nil
}

// replayed is the header that says whether an answer was given before.
func replayed(repeated bool) string {
	if repeated {
		return "true"
	}
	return "" // huma leaves it out
}

// An ask is what the body of a request asks for.
type ask struct {
	do       domain.Action
	personal domain.Personal
	occurred time.Time
}

// command makes the command of a request. The key, the principal and the order name it.
func command(ctx context.Context, order uuid.UUID, key string, a ask) request {
	return request{
		command: domain.Command{
			ID:           domain.CommandID(order, web.PrincipalFrom(ctx).Subject, key),
			Order:        order,
			BusinessUnit: web.BusinessUnit(ctx),
			Actor:        actor(ctx),
			Cause:        cause(ctx),
			Occurred:     a.occurred,
			Do:           a.do,
		},
		personal: a.personal,
	}
}

func actor(ctx context.Context) domain.Actor { return actorOf(web.PrincipalFrom(ctx)) }

func actorOf(p web.Principal) domain.Actor {
	kind := "person"
	if p.Kind == "service" {
		kind = "system"
	}
	return domain.Actor{Kind: kind, Issuer: p.Issuer, Subject: p.Subject}
}

func cause(ctx context.Context) domain.Cause {
	return domain.Cause{Correlation: web.RequestID(ctx), Traceparent: web.Traceparent(ctx)}
}

// parseOrder reads the id of an order.
func parseOrder(text, location string) (uuid.UUID, error) {
	// uuid.Parse takes other forms too.
	id, err := uuid.Parse(text)
	if err == nil && len(text) == len(uuid.Nil.String()) {
		return id, nil
	}
	if number, ok := domain.ParseNumber(text); ok {
		return uuid.Nil, &web.Error{Status: http.StatusNotFound, Code: string(domain.CodeUnknownOrder),
			Detail: "Writes name an order by its id. Ask /v1/orders/" + number + " for that."}
	}
	return uuid.Nil, &web.Error{Status: http.StatusBadRequest, Code: "invalid_parameter", Detail: "An order is named by its id, a UUID.",
		Errors: []web.Violation{{Location: location, Code: "invalid_parameter", Message: "not a UUID"}}}
}

// expect makes a command depend on the version of the order that If-Match names.
func expect(q *request, ifMatch string) error {
	condition, err := web.ParseIfMatch(ifMatch)
	switch {
	case err != nil:
		return err
	case !condition.Present || condition.Any:
		return nil // an order that does not exist is refused anyhow
	case len(condition.Versions) == 0:
		return &domain.Refused{Code: domain.CodeStaleRevision, Detail: "the order has no such version"}
	case len(condition.Versions) > 1:
		return &web.Error{Status: http.StatusBadRequest, Code: "invalid_etag", Detail: "A write depends on one version of the order at most.",
			Errors: []web.Violation{{Location: "header.If-Match", Code: "invalid_etag", Message: "more than one version"}}}
	}
	version := condition.Versions[0]
	epoch := uint32(version.Epoch)
	if uint64(epoch) != version.Epoch {
		return &domain.Refused{Code: domain.CodeStaleRevision, Detail: "the order has no such version"}
	}
	q.command.Expected, q.epoch = &version.Revision, &epoch
	return nil
}

// A route describes an operation to people.
type route struct {
	id, path, summary, description string
	example                        string // body
	optional                       bool   // the body may be left out
}

// maxOrder is the largest body in bytes of a command on an order. It is twice an append, because what an indented body
// with escapes says is stored without both; what it leads to must still fit into one append.
const maxOrder = 2 << 20

// operation makes the operation of a route. Its schema serves the documentation alone: the strict decoder and the
// domain say what is wrong with a body, and where.
func (r route) operation(tag string, errors ...int) huma.Operation {
	return huma.Operation{
		OperationID: r.id, Method: http.MethodPost, Path: r.path, Summary: r.summary, Description: r.description, Tags: []string{tag},
		SkipValidateBody: true,
		Errors: append([]int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
			http.StatusTooManyRequests, http.StatusServiceUnavailable}, errors...),
		RequestBody: &huma.RequestBody{
			Required: !r.optional,
			Content:  map[string]*huma.MediaType{"application/json": {Example: json.RawMessage(r.example)}},
		},
	}
}

// bodyOf returns what a request says; nothing, where it has no body.
func bodyOf[B any](body *web.Body[B]) B {
	if body == nil {
		var nothing B
		return nothing
	}
	return body.Value
}
