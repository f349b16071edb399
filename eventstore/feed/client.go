package feed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

var (
	// ErrWrongLedger is returned where another ledger answers than the one that a client reads.
	ErrWrongLedger = errors.New("another ledger answers")
	// ErrUnreachable is returned after several attempts in a row at which the server has not answered as it should.
	ErrUnreachable = errors.New("the ledger cannot be read")
	// ErrRefused is returned where the server does not serve the feed to this client.
	ErrRefused = errors.New("the server refuses the feed")
)

// ClientConfig says how a [Client] reaches a ledger.
type ClientConfig struct {
	// URL is where the handler is, such as https://host/v1/feed.
	URL string
	// HTTP sends the requests; nil: a client of its own without a time limit, which would end sequences.
	HTTP *http.Client
	// Token is sent as a bearer token, unless it is empty.
	Token string
	// Ledger is which ledger must answer; zero: the one that answers first.
	Ledger uuid.UUID
	Logger *slog.Logger // nil: slog.Default
}

// A Client reads a ledger that another process has. It is an [eventstore.Reader]: a sequence whose connection breaks goes
// on where it was. ReadStream, ReadAll and Head give up after several attempts; Subscribe tries on until its context is
// done. All methods are safe for concurrent use. Chains are passed on and not checked.
type Client struct {
	config ClientConfig
	base   string
	name   atomic.Pointer[string] // of the ledger that answered first, without its incarnation

	closing chan struct{} // closed when the client is, which ends its sequences
	once    sync.Once
}

var _ eventstore.Reader = (*Client)(nil)

const (
	maxAttempts  = 5
	firstPause   = 5 * time.Millisecond
	longestPause = 5 * time.Second
	// silence is how long nothing may come, not even a heartbeat, before a connection is taken for broken.
	silence = 3 * heartbeat
)

// NewClient returns a client. It asks nothing yet.
func NewClient(c ClientConfig) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("a feed is at an address such as http://127.0.0.1:8080/v1/feed, not %q", c.URL)
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 64, ResponseHeaderTimeout: silence}}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	client := &Client{config: c, base: strings.TrimSuffix(c.URL, "/"), closing: make(chan struct{})}
	if c.Ledger != uuid.Nil {
		name := c.Ledger.String()
		client.name.Store(&name)
	}
	return client, nil
}

// Close ends every sequence with [eventstore.ErrClosed]. It may be called twice.
func (c *Client) Close() error {
	c.once.Do(func() {
		close(c.closing)
		c.config.HTTP.CloseIdleConnections()
	})
	return nil
}

func (c *Client) closed() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// Head implements [eventstore.Reader].
func (c *Client) Head(ctx context.Context) (head eventstore.Head, err error) {
	err = c.retry(ctx, maxAttempts, func() (bool, error) {
		body, stop, err := c.get(ctx, "/head", nil)
		if err != nil {
			return false, err
		}
		defer stop()
		var h headBody
		if err := json.NewDecoder(io.LimitReader(body, 64<<10)).Decode(&h); err != nil {
			return false, fmt.Errorf("reading the head: %w", err)
		}
		id, err := uuid.Parse(h.Ledger)
		if err != nil {
			return false, fmt.Errorf("reading the head: %w", err)
		}
		head = eventstore.Head{
			Identity: eventstore.Identity{ID: id, Lanes: h.Lanes, Format: h.Format, Incarnation: h.Incarnation},
			Position: h.Position, Chain: h.Chain,
		}
		return true, nil
	})
	return head, err
}

// ReadStream implements [eventstore.Reader].
func (c *Client) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		done := false
		err := c.retry(ctx, maxAttempts, func() (moved bool, err error) {
			if done {
				return false, nil
			}
			q := url.Values{"from": {strconv.FormatUint(from, 10)}}
			if dir == eventstore.Backward {
				q.Set("direction", "backward")
			}
			return c.sequence(ctx, "/streams/"+url.PathEscape(stream), q, func(f frame) error {
				if f.event == nil {
					return nil
				}
				if !yield(*f.event, nil) {
					return errStop
				}
				switch {
				case dir == eventstore.Forward:
					from = f.event.Revision + 1
				case f.event.Revision == 0:
					done = true // should the end not come any more
				default:
					from = f.event.Revision - 1
				}
				return nil
			})
		})
		c.end(yield, err)
	}
}

// ReadAll implements [eventstore.Reader].
func (c *Client) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	head, err := c.Head(ctx)
	return func(yield func(eventstore.Recorded, error) bool) {
		if err == nil && after < head.Position {
			q := filterQuery(filter)
			q.Set("until", strconv.FormatUint(uint64(head.Position), 10))
			err = c.retry(ctx, maxAttempts, func() (bool, error) { return c.from(ctx, &after, q, yield) })
		}
		c.end(yield, err)
	}
}

// Subscribe implements [eventstore.Reader].
func (c *Client) Subscribe(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		q := filterQuery(filter)
		q.Set("follow", "true")
		for {
			err := c.retry(ctx, 0, func() (bool, error) { return c.from(ctx, &after, q, yield) })
			if err != nil {
				c.end(yield, err)
				return
			}
		}
	}
}

func filterQuery(f eventstore.Filter) url.Values {
	q := url.Values{}
	if len(f.Prefixes) > 0 {
		q["prefix"] = f.Prefixes
	}
	if f.Public {
		q.Set("public", "true")
	}
	return q
}

// from yields events after a position, which it moves on.
func (c *Client) from(ctx context.Context, after *eventstore.Position, q url.Values, yield func(eventstore.Recorded, error) bool) (moved bool, err error) {
	q.Set("after", strconv.FormatUint(uint64(*after), 10))
	return c.sequence(ctx, "/events", q, func(f frame) error {
		if f.event != nil && f.position <= *after {
			return errBroken
		}
		if f.event != nil && !yield(*f.event, nil) {
			return errStop
		}
		*after = max(*after, f.position)
		return nil
	})
}

// errStop tells that the receiver wants no more.
var errStop = errors.New("the receiver has left")

// end yields the error with which a sequence ends.
func (c *Client) end(yield func(eventstore.Recorded, error) bool, err error) {
	if err != nil && !errors.Is(err, errStop) {
		yield(eventstore.Recorded{}, err)
	}
}

// retry calls f until it returns no error or one that will stay, at most so many times in a row without its having moved;
// 0: any number.
func (c *Client) retry(ctx context.Context, attempts int, f func() (moved bool, err error)) error {
	pause := firstPause
	for failed := 0; ; {
		if c.closed() {
			return eventstore.ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		moved, err := f()
		switch {
		case err == nil || errors.Is(err, errStop) || errors.Is(err, ErrWrongLedger) || errors.Is(err, ErrRefused) || errors.Is(err, eventstore.ErrCorrupt):
			return err
		case c.closed():
			return eventstore.ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		case moved:
			failed, pause = 0, 50*time.Millisecond
		}
		if failed++; failed == attempts {
			return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
		}
		c.config.Logger.DebugContext(ctx, "the feed is asked again", slog.String("url", c.base), slog.Any("error", err))
		select {
		case <-ctx.Done():
		case <-c.closing:
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, longestPause)
	}
}

// sequence reads a sequence of events to its end. It reports whether any frame has come.
func (c *Client) sequence(ctx context.Context, path string, q url.Values, take func(frame) error) (moved bool, err error) {
	body, stop, err := c.get(ctx, path, q)
	if err != nil {
		return false, err
	}
	defer stop()
	watch := time.AfterFunc(silence, stop)
	defer watch.Stop()
	r := bufio.NewReaderSize(body, 64<<10)
	for {
		watch.Reset(silence)
		f, err := readFrame(r)
		watch.Stop() // the receiver may take its time
		var told *fault
		switch {
		case errors.Is(err, io.EOF):
			return moved, nil
		case errors.As(err, &told) && strings.Contains(told.text, eventstore.ErrCorrupt.Error()):
			return moved, fmt.Errorf("%w: %w", eventstore.ErrCorrupt, told)
		case err != nil:
			return moved, err
		}
		moved = moved || f.position > 0
		if err := take(f); err != nil {
			return moved, err
		}
	}
}

// get sends a request and returns the body of its answer, which stop ends.
func (c *Client) get(ctx context.Context, path string, q url.Values) (body io.Reader, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends when the answer has been read, or the client is closed
		select {
		case <-c.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, nil, err
	}
	if c.config.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.config.Token)
	}
	response, err := c.config.HTTP.Do(request) //nolint:bodyclose // stop closes it
	if err != nil {
		return nil, nil, err
	}
	stop = func() {
		cancel()
		_ = response.Body.Close() // it was only read
	}
	if err := c.check(response); err != nil {
		stop()
		return nil, nil, err
	}
	return response.Body, stop, nil
}

// check refuses answers that are none of the ledger.
func (c *Client) check(response *http.Response) error {
	switch status := response.StatusCode; {
	case status == http.StatusOK:
	case status == http.StatusTooManyRequests || status >= 500:
		return fmt.Errorf("the server answers %s", response.Status)
	default:
		return fmt.Errorf("%w: %s answers %s", ErrRefused, c.base, response.Status)
	}
	name, _, ok := strings.Cut(response.Header.Get(ledgerHeader), ".")
	if !ok {
		return fmt.Errorf("%w: %s is no feed of a ledger", ErrRefused, c.base)
	}
	if !c.name.CompareAndSwap(nil, &name) && *c.name.Load() != name {
		return fmt.Errorf("%w: at %s is ledger %s, and not %s", ErrWrongLedger, c.base, name, *c.name.Load())
	}
	return nil
}
