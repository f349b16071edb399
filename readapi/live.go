package readapi

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/orderledger/orderledger/internal/web"
)

// LiveInput is what operations take that answer with a stream.
type LiveInput struct {
	Freshness
	LastEventID string `header:"Last-Event-ID" maxLength:"2000" doc:"Go on behind the event of this id"`
	After       string `query:"after" maxLength:"2000" doc:"The same, where a header cannot be set; the header goes first"`
	Wait        span   `query:"wait" doc:"Answer in JSON with what there is; where that is nothing, wait this long for something to come"`
	Limit       int    `query:"limit" minimum:"1" maximum:"200" default:"200" doc:"How much a JSON answer holds at most"`
	Accept      string `header:"Accept" hidden:"true"`
}

// after is where the client has come to. A browser that reconnects repeats the first query and adds the header, so
// the header is newer.
func (in *LiveInput) after() string {
	if in.LastEventID != "" {
		return in.LastEventID
	}
	return in.After
}

// wantsStream reports whether the answer is to be a stream: it is, unless the client waits for JSON, or takes JSON and
// says nothing of streams.
func (in *LiveInput) wantsStream() bool {
	if in.Wait.d > 0 {
		return false
	}
	takesJSON := false
	for part := range strings.SplitSeq(in.Accept, ",") {
		switch mediaType, _, _ := mime.ParseMediaType(part); mediaType {
		case "text/event-stream":
			return true
		case "application/json":
			takesJSON = true
		}
	}
	return !takesJSON
}

func invalidAfter() error {
	return &web.Error{Status: http.StatusBadRequest, Code: "invalid_after", Detail: "Last-Event-ID or after is not an id that this route has sent."}
}

// linger begins a wait for something to happen. Its context is done when the time is up, the client goes away or the
// server stops.
func (a *api) linger(ctx context.Context, wait span) (context.Context, error) {
	return web.Linger(ctx, min(wait.d, a.MaxWait))
}

// A feed gives out what comes behind a place, and moves the place on. It is for one goroutine.
type feed[T any] struct {
	at    string                                     // the place, in the form in which clients send it back; empty: the start
	ready func(context.Context, int) ([]T, error)    // what is there now, at most so many
	next  func(context.Context) iter.Seq2[T, error]  // what is there and what comes, until ctx is done
	body  func(items []T, after string) (answer any) // the JSON answer
}

// reply answers with what a feed gives out, in the form that the client wants.
func reply[T any](a *api, in *LiveInput, f *feed[T], seen Seen) answer {
	return func(w http.ResponseWriter, r *http.Request) error {
		seen.writeTo(w.Header())
		if in.wantsStream() {
			return stream(a, f, w, r)
		}
		items, err := collect(r.Context(), a, f, in.Limit, in.Wait)
		if err != nil {
			return err
		}
		body, err := json.Marshal(f.body(items, f.at))
		if err != nil {
			return fmt.Errorf("encoding an answer: %w", err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
		return nil
	}
}

// collect returns what a feed has to give, at most n items. Where that is nothing, it waits for something to come.
func collect[T any](ctx context.Context, a *api, f *feed[T], n int, wait span) ([]T, error) {
	items, err := f.ready(ctx, n)
	if err != nil || len(items) > 0 || wait.d == 0 {
		return items, err
	}
	waiting, err := a.linger(ctx, wait)
	if err != nil {
		return nil, err
	}
	for item, err := range f.next(waiting) {
		if err != nil {
			if waiting.Err() != nil {
				return items, nil
			}
			return nil, err
		}
		more, err := f.ready(ctx, n-1) // what one commit brings comes at once
		return append([]T{item}, more...), err
	}
	return items, nil
}

// stream sends what a feed gives out, and a comment from time to time, until the client goes away or the server stops.
func stream[T any](a *api, f *feed[T], w http.ResponseWriter, r *http.Request) error {
	s, ctx, err := web.NewEventStream(w, r)
	if err != nil {
		return err
	}
	if f.at != "" {
		// Without data, this raises no event: the client takes note of where it begins.
		err = s.Send(web.StreamEvent{ID: f.at})
	}
	for err == nil && ctx.Err() == nil {
		if err = forward(ctx, a.Heartbeat, f, s); err == nil {
			err = s.Comment("")
		}
	}
	if err != nil && ctx.Err() == nil { // the status has been sent; the client comes again and learns what is wrong
		a.Logger.WarnContext(ctx, "event stream cut off", slog.String("request_id", web.RequestID(ctx)), slog.Any("error", err))
	}
	return nil
}

// forward sends what a feed gives out for as long as d.
func forward[T any](ctx context.Context, d time.Duration, f *feed[T], s *web.EventStream) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for item, err := range f.next(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		data, err := json.Marshal(item)
		if err != nil {
			return fmt.Errorf("encoding an event: %w", err)
		}
		if err := s.Send(web.StreamEvent{ID: f.at, Data: data}); err != nil {
			return err
		}
	}
	return nil
}
