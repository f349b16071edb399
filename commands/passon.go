package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/keyring"
	"github.com/orderledger/orderledger/internal/web"
)

// A kept request can be passed on as it came.
type kept struct {
	request *http.Request
	body    bytes.Buffer // as far as it was read
}

type keptKey struct{}

// keepRequest is a huma middleware.
func keepRequest(ctx huma.Context, next func(huma.Context)) {
	r, _ := humachi.Unwrap(ctx)
	k := &kept{request: r}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.TeeReader(r.Body, &k.body), r.Body}
	next(huma.WithValue(ctx, keptKey{}, k))
}

// offerPassingOn makes the requests that change orders ready to be passed on. It is called before routes are registered.
func (r *routes) offerPassingOn() {
	r.api.OpenAPI().OnAddOperation = append(r.api.OpenAPI().OnAddOperation, func(_ *huma.OpenAPI, op *huma.Operation) {
		if queueable(op.Method, op.Path) {
			op.Middlewares = append(op.Middlewares, keepRequest)
		}
	})
}

// passOn lets another region answer a command that this one cannot, and returns what that says. It returns the error as
// it is if there is no such region.
//
// A new order is passed from region to region as long as nobody can have stored it, by the region that its client has
// asked and by no other.
func (r *routes) passOn(ctx context.Context, c domain.Command, err error) error {
	k, ok := ctx.Value(keptKey{}).(*kept)
	if !ok {
		return err
	}
	from, _ := ctx.Value(moverKey{}).(*mover)
	var there *Elsewhere
	if !errors.As(err, &there) {
		there = r.handler.homeOf(c.Order, from, err)
	}
	switch {
	case there == nil:
		return r.passAlong(ctx, k, c, err)
	case from != nil && from.home != there.Home && there.region.Enqueue != nil:
		from.to = there
		return err
	case there.region.API == nil:
		return err
	}
	return k.passTo(ctx, there.region)
}

// homeOf returns the home of an order of which nothing is known here, by the queue that a command on it comes from.
func (h *Handler) homeOf(order uuid.UUID, from *mover, err error) *Elsewhere {
	var refused *domain.Refused
	if from == nil || from.home == "" || !errors.As(err, &refused) || refused.Code != domain.CodeUnknownOrder {
		return nil
	}
	for _, region := range h.cfg.Regions() {
		if region.Name == from.home {
			return &Elsewhere{Order: order, Home: region.Name, region: region}
		}
	}
	return nil
}

// passAlong lets the next region take a new order that this one cannot store.
func (r *routes) passAlong(ctx context.Context, k *kept, c domain.Command, err error) error {
	_, isNew := c.Do.(domain.Submit)
	switch refused := (*domain.Refused)(nil); {
	case r.handler.cfg.Regions == nil || k.request.Header[viaHeader] != nil:
		return err
	case !isNew && errors.As(err, &refused) && refused.Code == domain.CodeUnknownOrder:
		return r.askAround(ctx, k, err)
	case !isNew || !cannotStore(err):
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	for _, region := range r.handler.cfg.Regions() {
		if region.API == nil {
			continue
		}
		if p := k.passTo(ctx, region); !p.storedNothing() {
			return p
		}
	}
	return err
}

// askAround lets the other regions answer a command for an order of which nothing was heard here: it may be younger than
// what the mirrors have. It returns the error as it is if none of them has the order, and that it cannot be known if one
// of them cannot be asked.
func (r *routes) askAround(ctx context.Context, k *kept, unknown error) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	answer := unknown
	for _, region := range r.handler.cfg.Regions() {
		if region.API == nil {
			continue
		}
		switch p := k.passTo(ctx, region); {
		case p.status == http.StatusNotFound && problemCode(p.body) == string(domain.CodeUnknownOrder):
		case p.storedNothing():
			answer = p
		default:
			return p
		}
	}
	return answer
}

// cannotStore reports whether a command stored nothing because this region stores nothing at present.
func cannotStore(err error) bool {
	return !errors.Is(err, ErrOutcomeUnknown) &&
		(eventstore.Unavailable(err) || errors.Is(err, keyring.ErrFailed) || errors.Is(err, keyring.ErrClosed))
}

// A mover takes a command from the queue that is for another region, so that it waits there and keeps nobody waiting
// here.
type mover struct {
	home string     // that of the commands in the queue; empty: this region
	to   *Elsewhere // nil: nowhere
}

type moverKey struct{}

// passTo passes the request on to a region.
func (k *kept) passTo(ctx context.Context, region Region) *passed {
	r := k.request.Clone(ctx)
	r.URL.RawQuery = "" // at most the business unit
	r.Body = io.NopCloser(bytes.NewReader(k.body.Bytes()))
	r.Header.Set("Business-Unit", web.BusinessUnit(ctx))
	r.Header.Set("Traceparent", web.Traceparent(ctx))
	var w answerWriter
	if err := w.serve(region.API, r); err != nil || !json.Valid(w.body.Bytes()) {
		w = answerWriter{}
		web.WriteError(&w, r, unknownOutcome(region.Name))
	}
	return &passed{w.status, w.header, w.body.Bytes()}
}

// passed is another region's answer, given back as it is. Huma takes an answer of another form than the route's own only
// as an error.
type passed struct {
	status int
	header http.Header
	body   []byte
}

func (p *passed) Error() string                { return "another region has answered " + http.StatusText(p.status) }
func (p *passed) GetStatus() int               { return p.status }
func (p *passed) ContentType(string) string    { return p.header.Get("Content-Type") }
func (p *passed) MarshalJSON() ([]byte, error) { return p.body, nil }

// answerHeaders are what an answer says beside its body.
var answerHeaders = []string{
	"Location", "ETag", "Orderledger-Mark", "Idempotent-Replayed", "Retry-After", "Preference-Applied", durabilityHeader,
}

// GetHeaders tells huma the headers.
func (p *passed) GetHeaders() http.Header {
	h := http.Header{}
	for _, name := range answerHeaders {
		if value := p.header.Get(name); value != "" {
			h.Set(name, value)
		}
	}
	return h
}

// storedNothing reports whether the region is sure to have stored nothing, and another one may be asked.
func (p *passed) storedNothing() bool {
	if p.status < http.StatusInternalServerError {
		return false
	}
	return slices.Contains([]string{codeHomeUnreachable, codeReadOnly, codeNoKeys, codeRoutingLoop}, problemCode(p.body))
}

// problemCode is the code of a problem; empty where it is none.
func problemCode(body []byte) string {
	var p struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(body, &p) // what is no problem has no code
	return p.Code
}
