package readapi

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/orderledger/orderledger/internal/web"
)

// get registers an operation that answers once.
func get[In, Out any](s *web.Server, id, path, summary string, handler func(context.Context, *In) (*Out, error)) {
	huma.Register(s.API(), operation(id, path, summary), handler)
}

// live registers an operation that answers with a stream, or with one JSON text; see [wantsStream].
func live[In any](s *web.Server, id, path, summary string, body any, handler func(context.Context, *In) (answer, error)) {
	op := operation(id, path, summary)
	schema := s.API().OpenAPI().Components.Schemas.Schema(reflect.TypeOf(body), true, "")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A stream that goes on until one side ends it; or, with wait or Accept: application/json, what there is, or what comes first",
		Content: map[string]*huma.MediaType{
			"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString, Description: "The members of the JSON answer's list as the data of Server-Sent Events"}},
			"application/json":  {Schema: schema},
		},
	}}
	huma.Register(s.API(), op, func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
		answer, err := handler(ctx, in)
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			r, w := humachi.Unwrap(ctx)
			if err := answer(w, r); err != nil {
				s.WriteProblem(w, r, err)
			}
		}}, nil
	})
}

// An answer writes the rest of a response, or returns an error before it has written anything.
type answer func(http.ResponseWriter, *http.Request) error

func operation(id, path, summary string) huma.Operation {
	tag := "orders"
	switch {
	case strings.HasPrefix(path, "/v1/history"):
		tag = "history"
	case !strings.HasPrefix(path, "/v1/orders"):
		tag = "operation"
	}
	errs := []int{http.StatusBadRequest, http.StatusServiceUnavailable}
	if strings.Contains(path, "{id}") {
		errs = append(errs, http.StatusNotFound)
	}
	return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{tag}, Errors: errs}
}

// A span is a duration in a query, such as 30s.
type span struct{ d time.Duration }

var errSpan = errors.New("a duration such as 30s is expected")

// UnmarshalText reads what [time.ParseDuration] reads, but nothing negative.
func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return errSpan
	}
	s.d = d
	return nil
}

// Schema documents a span.
func (span) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Examples: []any{"30s"}}
}
