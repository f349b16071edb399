package commands

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/message"
	"github.com/orderledger/orderledger/internal/web"
)

const (
	preferAsync = "respond-async"

	defaultApplyFor = 24 * time.Hour
	maxApplyFor     = 7 * 24 * time.Hour
	enqueueTimeout  = 5 * time.Second
)

// An async is a request whose client would rather be told where to look for the answer than wait for it (RFC 7240).
type async struct {
	path, key, ifMatch, applyUntil string
	body                           []byte
}

type asyncKey struct{}

// keepBody is a huma middleware. It keeps the bodies of requests that may go to the queue, so that they can go as they
// came after all has been checked. One that is too large for a message is answered at once, whatever its client prefers.
func keepBody(ctx huma.Context, next func(huma.Context)) {
	r, _ := humachi.Unwrap(ctx)
	if !prefers(r.Header.Values("Prefer"), preferAsync) || !queueable(r.Method, ctx.Operation().Path) {
		next(ctx)
		return
	}
	kept, err := io.ReadAll(io.LimitReader(r.Body, message.MaxBody+1))
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(kept), &after{r.Body, err}), r.Body}
	if err == nil && len(kept) <= message.MaxBody {
		ctx = huma.WithValue(ctx, asyncKey{}, &async{
			path: r.URL.EscapedPath(), key: r.Header.Get("Idempotency-Key"), ifMatch: r.Header.Get("If-Match"),
			applyUntil: r.Header.Get("Apply-Until"), body: kept,
		})
	}
	next(ctx)
}

// after goes on with a reader, unless that has failed.
type after struct {
	r   io.Reader
	err error
}

func (a *after) Read(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	return a.r.Read(p)
}

// prefers reports whether a preference is among those of the headers Prefer.
func prefers(headers []string, preference string) bool {
	for _, header := range headers {
		quoted := false
		for part := range strings.FieldsFuncSeq(header, func(r rune) bool {
			quoted = quoted != (r == '"')
			return r == ',' && !quoted
		}) {
			name, _, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), preference) {
				return true
			}
		}
	}
	return false
}

// accepted is the answer to a request that went to the queue. Huma takes an answer of another form than the route's own
// only as an error.
type accepted struct {
	Command    string    `json:"command" format:"uuid" doc:"The command's id: ask /v1/commands/ID what has become of it"`
	Order      string    `json:"order" format:"uuid" doc:"The id of the order that it is for; a new order has it when the command is done"`
	Number     string    `json:"number" doc:"The order's number, for people" example:"K7Q2-9FTM-3XWA-P"`
	ApplyUntil time.Time `json:"apply_until" doc:"The command is done until then, or not at all"`
	Note       string    `json:"note" doc:"What the answer does not promise"`
}

const acceptedNote = "The command is on its way and has not been decided: it may still be refused. " +
	"Send it again with the same Idempotency-Key whenever in doubt, here or elsewhere: it is done once at most."

func (a *accepted) Error() string  { return "command " + a.Command + " is on its way" }
func (a *accepted) GetStatus() int { return http.StatusAccepted }

// GetHeaders tells huma the headers.
func (a *accepted) GetHeaders() http.Header {
	return http.Header{"Location": {"/v1/commands/" + a.Command}, "Preference-Applied": {preferAsync}}
}

// enqueue sends a command to the queue if its client prefers that. It returns nil if the command has to be carried out at
// once, because there is no such wish or no queue, or the bus does not take it.
func (r *routes) enqueue(ctx context.Context, q request) (*accepted, error) {
	a, ok := ctx.Value(asyncKey{}).(*async)
	if !ok {
		return nil, nil
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	until, err := r.applyUntil(a.applyUntil)
	if err != nil {
		return nil, err
	}
	key, err := web.ParseIdempotencyKey(a.key)
	if err != nil {
		return nil, err
	}
	h := r.handler
	c := queued{
		path: a.path, key: key, ifMatch: a.ifMatch, unit: q.command.BusinessUnit, by: web.PrincipalFrom(ctx),
		applyUntil: until, traceparent: web.Traceparent(ctx), body: a.body, order: q.command.Order, command: q.command.ID,
	}
	m := c.message(h.outcomeID(c, c.digest(h.keys.Digest()), ""), h.ledger.Lanes)
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	m.SetContext(ctx)
	if err := h.cfg.Enqueue(m); err != nil {
		h.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the queue takes no command, carrying it out at once",
			slog.Any("order_id", c.order), slog.Any("error", err))
		return nil, nil
	}
	return &accepted{Command: c.command.String(), Order: c.order.String(), Number: domain.Number(c.order), ApplyUntil: until, Note: acceptedNote}, nil
}

// applyUntil reads the header Apply-Until.
func (r *routes) applyUntil(header string) (time.Time, error) {
	now := r.handler.cfg.Now().UTC()
	if header == "" {
		return now.Add(defaultApplyFor), nil
	}
	until, err := time.Parse(time.RFC3339Nano, header)
	if err != nil || !until.After(now) || until.Sub(now) > maxApplyFor {
		return time.Time{}, &web.Error{Status: http.StatusBadRequest, Code: "invalid_parameter",
			Detail: fmt.Sprintf("Apply-Until is a time as RFC 3339 has it, and within %d days.", maxApplyFor/(24*time.Hour)),
			Errors: []web.Violation{{Location: "header.Apply-Until", Code: "invalid_parameter", Message: "no time, past or too far away"}}}
	}
	return until.UTC(), nil
}

// offerQueue documents that requests may go to the queue, and makes those go that want to. It is called before routes are
// registered.
func (r *routes) offerQueue() {
	r.api.UseMiddleware(keepBody)
	schema := r.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[accepted](), true, "Accepted")
	text := &huma.Schema{Type: huma.TypeString}
	r.api.OpenAPI().OnAddOperation = append(r.api.OpenAPI().OnAddOperation, func(_ *huma.OpenAPI, op *huma.Operation) {
		if !queueable(op.Method, op.Path) {
			return
		}
		op.Parameters = append(op.Parameters,
			&huma.Param{Name: "Prefer", In: "header", Schema: text, Description: "respond-async: answer 202 as soon as the command is in the queue"},
			&huma.Param{Name: "Apply-Until", In: "header", Schema: text, Description: "With Prefer: respond-async, until when the command may be carried out: a time as RFC 3339 has it, at most 7 days away; by default it is one day"})
		op.Responses["202"] = &huma.Response{
			Description: "The command is in the queue. The header Location says where to look for what has become of it.",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
		}
	})
}
