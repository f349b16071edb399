package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// LongestWait bounds how long one request waits for a mirror.
const LongestWait = 10 * time.Second

// answerTime bounds how long an answer takes beside the wait.
const answerTime = 5 * time.Second

// HandlerConfig says what a handler answers from.
type HandlerConfig struct {
	// Mirror finds the mirror of a ledger; nil: there is none.
	Mirror func(ledger uuid.UUID) *Mirror
	// Fail, if it is not nil, answers a request that was refused, with the status and a sentence for people.
	Fail func(w http.ResponseWriter, r *http.Request, status int, detail string)
}

// NewHandler returns a handler that tells how far mirrors are, at
//
//	GET /{ledger}?incarnation=&position=&wait=
//
// where wait is a duration such as 5s, at most [LongestWait], or is left out. As soon as the mirror of the ledger has
// come to the position, the answer is 200 with how far it is, durably:
//
//	{"ledger": …, "incarnation": …, "position": …, "chain": …}
//
// The position must be that of the last event of an append: readers see everything up to it then, even should the ledger
// never be reached again.
//
// 404 tells that there is no mirror of the ledger, 409 that it is in a later incarnation, 503 that it has not come so far
// in time. The handler checks nobody: whoever reaches it is answered.
func NewHandler(c HandlerConfig) http.Handler {
	if c.Fail == nil {
		c.Fail = problem
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{ledger}", c.confirm)
	return mux
}

// headBody is what a request is answered with.
type headBody struct {
	Ledger      uuid.UUID           `json:"ledger"`
	Incarnation uint32              `json:"incarnation"`
	Position    eventstore.Position `json:"position"`
	Chain       eventstore.Hash     `json:"chain"`
}

func (c *HandlerConfig) confirm(w http.ResponseWriter, r *http.Request) {
	ledger, err := uuid.Parse(r.PathValue("ledger"))
	if err != nil {
		c.Fail(w, r, http.StatusBadRequest, "The path names a ledger by its UUID.")
		return
	}
	query := r.URL.Query()
	incarnation, err1 := strconv.ParseUint(query.Get("incarnation"), 10, 32)
	position, err2 := strconv.ParseUint(query.Get("position"), 10, 64)
	wait, err3 := time.Duration(0), error(nil)
	if text := query.Get("wait"); text != "" {
		wait, err3 = time.ParseDuration(text)
	}
	if errors.Join(err1, err2, err3) != nil || wait < 0 {
		c.Fail(w, r, http.StatusBadRequest, "Incarnation and position are whole numbers, wait is a duration such as 5s.")
		return
	}
	m := c.Mirror(ledger)
	if m == nil {
		c.Fail(w, r, http.StatusNotFound, "There is no mirror of this ledger here.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(wait, LongestWait))
	defer cancel()
	switch err := m.confirm(ctx, uint32(incarnation), eventstore.Position(position)); {
	case errors.Is(err, ErrBranched):
		c.Fail(w, r, http.StatusConflict, "The ledger went on from a backup: the mirror is in a later incarnation.")
		return
	case r.Context().Err() != nil: // whoever asked has left: another mirror was faster
		return
	case err != nil:
		w.Header().Set("Retry-After", "1")
		c.Fail(w, r, http.StatusServiceUnavailable, "The mirror has not come so far.")
		return
	}
	s, _ := m.snapshot()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(headBody{ledger, s.identity.Incarnation, s.end, s.chain}) // the client has gone away
}

// confirm returns when the append that ends at a position is durable here, and readers see it.
func (m *Mirror) confirm(ctx context.Context, incarnation uint32, p eventstore.Position) error {
	if err := m.await(ctx, incarnation, func(s *state) bool { return s.end >= p }); err != nil {
		return err
	}
	if s, _ := m.snapshot(); s.shown >= p {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // it has come in time
	return m.transact(ctx, func(s *step) error {
		if s.identity.Incarnation != incarnation {
			return ErrBranched
		}
		return s.show(ctx, p)
	})
}

// problem answers in the form of RFC 9457.
func problem(w http.ResponseWriter, _ *http.Request, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail}) // the client has gone away
}

// A Client asks another process how far its mirrors are.
type Client struct {
	URL   string       // where the handler is, such as https://host/v1/mirrors
	HTTP  *http.Client // nil: http.DefaultClient
	Token string       // is sent as a bearer token, unless it is empty
}

// ErrUnconfirmed is returned where a mirror has not confirmed a position: it has not come so far in time, or there is
// none.
var ErrUnconfirmed = errors.New("no mirror has confirmed the position")

// Wait returns nil as soon as the mirror of a ledger in the other process has come to a position, at which an append ends:
// everything up to it is then durable there, and visible. It asks once, and waits until ctx is done or [LongestWait] is
// over. It returns [ErrUnconfirmed] where the mirror answers that it is not so far, and other errors where it does not
// answer.
func (c *Client) Wait(ctx context.Context, ledger uuid.UUID, incarnation uint32, position eventstore.Position) error {
	if err := c.ask(ctx, ledger, incarnation, position); err != nil {
		return fmt.Errorf("asking for position %d of ledger %s at %s: %w", position, ledger, c.URL, err)
	}
	return nil
}

func (c *Client) ask(ctx context.Context, ledger uuid.UUID, incarnation uint32, position eventstore.Position) error {
	wait := LongestWait
	if deadline, ok := ctx.Deadline(); ok {
		left := max(0, time.Until(deadline))
		wait = min(wait, left-left/8) // so that the answer comes in time
	}
	query := url.Values{
		"incarnation": {strconv.FormatUint(uint64(incarnation), 10)},
		"position":    {strconv.FormatUint(uint64(position), 10)},
		"wait":        {wait.String()},
	}
	ctx, cancel := context.WithTimeout(ctx, wait+answerTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+"/"+ledger.String()+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable:
		return fmt.Errorf("%w: the server answers %s", ErrUnconfirmed, response.Status)
	default:
		return fmt.Errorf("the server answers %s", response.Status)
	}
	var at headBody
	if err := json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&at); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if at.Ledger != ledger || at.Incarnation != incarnation || at.Position < position {
		return fmt.Errorf("%w: it has ledger %s up to position %d of incarnation %d", ErrUnconfirmed, at.Ledger, at.Position, at.Incarnation)
	}
	return nil
}
