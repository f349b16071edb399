package feed

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

// HandlerConfig says what a [Handler] serves.
type HandlerConfig struct {
	Ledger eventstore.Reader
	// Linger, if it is not nil, is told of a request that takes long, and returns the context that ends it, or an
	// error where there is no room for it.
	Linger func(context.Context) (context.Context, error)
	// Fail, if it is not nil, answers a request that was refused, with the status and a sentence for people.
	Fail   func(w http.ResponseWriter, r *http.Request, status int, detail string)
	Logger *slog.Logger // nil: slog.Default
}

// A Handler serves a ledger to [Client]s, at paths that begin with its routes; see the package. It checks nobody: whoever
// reaches it reads everything.
type Handler struct {
	config HandlerConfig
	mux    *http.ServeMux
}

const (
	// writeTime is how long a client may take to accept what was written to it.
	writeTime = 30 * time.Second
	// heartbeat is how often a sequence that has nothing to say tells how far it is.
	heartbeat = 10 * time.Second
	// ahead is how many events are read ahead of a client.
	ahead = 256
)

// NewHandler returns a handler.
func NewHandler(c HandlerConfig) *Handler {
	if c.Linger == nil {
		c.Linger = func(ctx context.Context) (context.Context, error) { return ctx, nil }
	}
	if c.Fail == nil {
		c.Fail = func(w http.ResponseWriter, _ *http.Request, status int, detail string) { http.Error(w, detail, status) }
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	h := &Handler{config: c, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET /head", h.head)
	h.mux.HandleFunc("GET /streams/{stream}", h.stream)
	h.mux.HandleFunc("GET /events", h.events)
	return h
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

func (h *Handler) head(w http.ResponseWriter, r *http.Request) {
	head, ok := h.begin(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(headBody{
		head.ID.String(), head.Lanes, head.Format, head.Incarnation, head.Position, head.Chain,
	}) // the client has gone away
}

// begin names the ledger in an answer. It reports false where it has answered already.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request) (eventstore.Head, bool) {
	head, err := h.config.Ledger.Head(r.Context())
	if err != nil {
		h.config.Logger.WarnContext(r.Context(), "the feed cannot read the ledger", slog.Any("error", err))
		h.config.Fail(w, r, http.StatusServiceUnavailable, "The ledger cannot be read now.")
		return head, false
	}
	w.Header().Set(ledgerHeader, ledgerName(head.Identity))
	w.Header().Set("Cache-Control", "no-store")
	return head, true
}

func (h *Handler) stream(w http.ResponseWriter, r *http.Request) {
	q := query{values: r.URL.Query()}
	from, limit := q.number("from"), q.number("limit")
	direction := eventstore.Forward
	switch q.get("direction") {
	case "", "forward":
	case "backward":
		direction = eventstore.Backward
	default:
		q.err = errors.New("direction is forward or backward")
	}
	if q.err != nil {
		h.config.Fail(w, r, http.StatusBadRequest, q.err.Error())
		return
	}
	if _, ok := h.begin(w, r); !ok {
		return
	}
	h.send(w, r, func(ctx context.Context) iter.Seq2[eventstore.Recorded, error] {
		events := h.config.Ledger.ReadStream(ctx, r.PathValue("stream"), from, direction)
		if limit == 0 {
			return events
		}
		return first(events, limit)
	}, 0)
}

// first is the beginning of a sequence.
func first(events iter.Seq2[eventstore.Recorded, error], n uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		left := n
		for e, err := range events {
			if !yield(e, err) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}

func (h *Handler) events(w http.ResponseWriter, r *http.Request) {
	q := query{values: r.URL.Query()}
	after, until := q.number("after"), q.number("until")
	filter := eventstore.Filter{Prefixes: q.values["prefix"], Public: q.flag("public")}
	follow := q.flag("follow")
	if q.err != nil {
		h.config.Fail(w, r, http.StatusBadRequest, q.err.Error())
		return
	}
	head, ok := h.begin(w, r)
	if !ok {
		return
	}
	if follow {
		h.send(w, r, func(ctx context.Context) iter.Seq2[eventstore.Recorded, error] {
			return h.config.Ledger.Subscribe(ctx, eventstore.Position(after), filter)
		}, 0)
		return
	}
	end := head.Position
	if until > 0 {
		end = min(end, eventstore.Position(until))
	}
	h.send(w, r, func(ctx context.Context) iter.Seq2[eventstore.Recorded, error] {
		return upTo(h.config.Ledger.ReadAll(ctx, eventstore.Position(after), filter), end)
	}, end)
}

// upTo is a sequence without what stands behind a position.
func upTo(events iter.Seq2[eventstore.Recorded, error], end eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range events {
			if err == nil && e.Position > end || !yield(e, err) {
				return
			}
		}
	}
}

// send answers with a sequence of events, of which end, if it is not zero, is the last possible position.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, read func(context.Context) iter.Seq2[eventstore.Recorded, error], end eventstore.Position) {
	ctx, err := h.config.Linger(r.Context())
	if err != nil {
		h.config.Fail(w, r, http.StatusServiceUnavailable, "Too many sequences are being read.")
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type item struct {
		event eventstore.Recorded
		err   error
	}
	items := make(chan item, ahead)
	go func() { // ends when ctx does, for which send waits by draining
		defer close(items)
		for e, err := range read(ctx) {
			select {
			case items <- item{e, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		for range items { // waits for the reader
		}
	}()
	out := newOutput(w, r)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var next item
		var ok bool
		select {
		case next, ok = <-items:
		default:
			if out.flush() != nil {
				return
			}
			select {
			case next, ok = <-items:
			case <-beat.C:
				if out.position(0) != nil {
					return
				}
				continue
			}
		}
		switch {
		case !ok && ctx.Err() == nil:
			_ = out.finish(end)
			return
		case !ok || ctx.Err() != nil:
			return // the client goes on elsewhere
		case next.err != nil:
			h.config.Logger.WarnContext(ctx, "the feed ends", slog.Any("error", next.err))
			_ = out.fault(next.err)
			return
		}
		if out.event(&next.event) != nil {
			return
		}
	}
}

// An output writes frames to a client, compressed if it asked for that.
type output struct {
	control *http.ResponseController
	buffer  *bufio.Writer
	zip     *gzip.Writer // nil: not compressed
	frame   []byte
}

func newOutput(w http.ResponseWriter, r *http.Request) *output {
	o := &output{control: http.NewResponseController(w)}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Accel-Buffering", "no")
	var to io.Writer = w
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		o.zip, _ = gzip.NewWriterLevel(w, gzip.BestSpeed) // the level exists
		to = o.zip
	}
	o.buffer = bufio.NewWriterSize(to, 64<<10)
	return o
}

func (o *output) write() error {
	_ = o.control.SetWriteDeadline(time.Now().Add(writeTime)) // recorders of tests know none
	_, err := o.buffer.Write(o.frame)
	return err
}

func (o *output) event(e *eventstore.Recorded) error {
	o.frame = appendEvent(o.frame[:0], e)
	return o.write()
}

func (o *output) position(p eventstore.Position) error {
	o.frame = appendPosition(o.frame[:0], p)
	return o.write()
}

func (o *output) fault(err error) error {
	text := "reading the ledger failed"
	if errors.Is(err, eventstore.ErrCorrupt) {
		text = err.Error()
	}
	o.frame = appendFault(o.frame[:0], text)
	return errors.Join(o.write(), o.flush())
}

func (o *output) finish(end eventstore.Position) error {
	o.frame = o.frame[:0]
	if end > 0 {
		o.frame = appendPosition(o.frame, end)
	}
	o.frame = appendEnd(o.frame)
	err := errors.Join(o.write(), o.flush())
	if o.zip != nil {
		err = errors.Join(err, o.zip.Close())
	}
	return err
}

func (o *output) flush() error {
	if err := o.buffer.Flush(); err != nil {
		return err
	}
	if o.zip != nil {
		if err := o.zip.Flush(); err != nil {
			return err
		}
	}
	return o.control.Flush()
}

// A query reads the parameters of a request.
type query struct {
	values map[string][]string
	err    error // the first one
}

func (q *query) get(name string) string {
	if v := q.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// number reads a number; one that is missing is 0.
func (q *query) number(name string) uint64 {
	text := q.get(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && q.err == nil {
		q.err = errors.New(name + " is a whole number")
	}
	return n
}

func (q *query) flag(name string) bool {
	switch q.get(name) {
	case "", "false":
		return false
	case "true":
		return true
	}
	q.err = errors.New(name + " is true or false")
	return false
}
