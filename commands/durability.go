package commands

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/orderledger/orderledger/internal/web"
)

// How durable a command is when it is answered, as the header Orderledger-Durability says it.
const (
	durableRegion = "region" // on the disk of this region
	durableRemote = "remote" // and in the mirror of another one
)

const durabilityHeader = "Orderledger-Durability"

// remoteTimeout is how long an answer waits for another region.
const remoteTimeout = 5 * time.Second

type durabilityKey struct{}

// offerDurability makes the routes that change orders take the header Orderledger-Durability. It is called before they
// are registered.
func (r *routes) offerDurability() {
	schema := &huma.Schema{Type: huma.TypeString, Enum: []any{durableRegion, durableRemote}}
	r.api.OpenAPI().OnAddOperation = append(r.api.OpenAPI().OnAddOperation, func(_ *huma.OpenAPI, op *huma.Operation) {
		if !queueable(op.Method, op.Path) {
			return
		}
		op.Parameters = append(op.Parameters, &huma.Param{Name: durabilityHeader, In: "header", Schema: schema,
			Description: "What the answer waits for: region, which is what every answer promises, or remote, that another region has what the command led to. " +
				"The answer's header of the same name says what was reached within five seconds. What is stored stays stored, whatever it says"})
		op.Middlewares = append(op.Middlewares, r.readDurability)
	})
}

// readDurability is a huma middleware.
func (r *routes) readDurability(ctx huma.Context, next func(huma.Context)) {
	request, _ := humachi.Unwrap(ctx)
	asked := request.Header[durabilityHeader]
	switch {
	case asked == nil:
	case len(asked) == 1 && (asked[0] == durableRegion || asked[0] == durableRemote):
		ctx = huma.WithValue(ctx, durabilityKey{}, asked[0])
	default:
		_ = huma.WriteErr(r.api, ctx, http.StatusBadRequest, "", &web.Error{ // a client that has gone needs no answer
			Status: http.StatusBadRequest, Code: "invalid_parameter", Detail: durabilityHeader + " is region or remote.",
			Errors: []web.Violation{{Location: "header." + durabilityHeader, Code: "invalid_parameter", Message: "neither region nor remote"}}})
		return
	}
	next(ctx)
}

// reach waits until the result of a command is as durable as its client wants, and returns how durable it is; empty:
// nobody wants to know.
func (h *Handler) reach(ctx context.Context, result Result) string {
	asked, _ := ctx.Value(durabilityKey{}).(string)
	switch {
	case asked == "":
		return ""
	case result.Mark.Ledger != h.ledger.ID: // it comes from a mirror
		return durableRemote
	case asked == durableRegion || h.cfg.Remote == nil:
		return durableRegion
	}
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	if err := h.cfg.Remote(ctx, result.Mark); err != nil {
		h.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "no other region has said that it has a command's events",
			slog.Any("order_id", result.Order.ID), slog.Uint64("revision", result.Revision),
			slog.Uint64("position", uint64(result.Mark.Position)), slog.Any("error", err))
		return durableRegion
	}
	return durableRemote
}
