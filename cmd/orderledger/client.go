package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// A client talks to a running server.
type client struct {
	base         string
	businessUnit string
	token        string
	http         *http.Client
}

// client finds the server: the one that --server names, or the one that serves the data directory.
func (e *environment) client() (*client, error) {
	base := e.Server
	if base == "" {
		dir, err := e.announcedIn()
		if err != nil {
			return nil, err
		}
		announced, err := pebblestore.Announced(dir)
		if dir == "" || err != nil || announced.Address == "" {
			return nil, &exitError{exitUnavailable, fmt.Errorf(
				"no server serves %s: start one with 'orderledger serve --data %s', or name one with --server", e.Data, e.Data)}
		}
		base = announced.Address
	}
	return e.clientOf(base)
}

// clientOf is the client of the server at an address.
func (e *environment) clientOf(address string) (*client, error) {
	base, err := baseURL(address)
	if err != nil {
		return nil, err
	}
	return &client{base: base, businessUnit: e.BusinessUnit, token: e.Token, http: &http.Client{}}, nil
}

// requestTimeout bounds a request that is not a stream. It leaves room for the server's own limits.
const requestTimeout = 60 * time.Second

// A request is one call of the API.
type request struct {
	method string
	path   string // with query
	header http.Header
	body   any // marshalled as JSON; []byte is sent as it is
}

// call sends a request and decodes the answer into out, unless that is nil. An answer that is a problem comes back as
// a [*problem].
func (c *client) call(ctx context.Context, r request, out any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	response, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return response.Header, err
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return nil, &unreachableError{c.base, fmt.Errorf("reading the answer: %w", err)}
	}
	if err := json.Unmarshal(data, out); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return response.Header, nil
}

// send returns a successful response, whose body the caller closes.
func (c *client) send(ctx context.Context, r request) (*http.Response, error) {
	body, contentType, err := encodeBody(r.body)
	if err != nil {
		return nil, err
	}
	q, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		q.Header[name] = values
	}
	if contentType != "" && q.Header.Get("Content-Type") == "" {
		q.Header.Set("Content-Type", contentType)
	}
	q.Header.Set("Business-Unit", c.businessUnit)
	if c.token != "" {
		q.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.http.Do(q)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &unreachableError{c.base, err}
	}
	if response.StatusCode >= 400 {
		defer response.Body.Close()
		return nil, readProblem(response)
	}
	return response, nil
}

func encodeBody(body any) (io.Reader, string, error) {
	switch b := body.(type) {
	case nil:
		return nil, "", nil
	case []byte:
		return bytes.NewReader(b), "application/json", nil
	}
	data, err := json.Marshal(body)
	return bytes.NewReader(data), "application/json", err
}

// An unreachableError tells that nobody answered. What was asked may have been done.
type unreachableError struct {
	base string
	err  error
}

func (e *unreachableError) Error() string {
	cause := e.err
	if inner := errors.Unwrap(cause); inner != nil {
		cause = inner // without net/http's repetition of method and address
	}
	return fmt.Sprintf("the server at %s does not answer: %v", e.base, cause)
}

func (e *unreachableError) Unwrap() error { return e.err }

// write posts a command.
func (c *client) write(ctx context.Context, path, key string, header http.Header, body, out any) (http.Header, error) {
	return c.keyed(ctx, http.MethodPost, path, key, header, body, out)
}

// put replaces something.
func (c *client) put(ctx context.Context, path, key string, header http.Header, body, out any) (http.Header, error) {
	return c.keyed(ctx, http.MethodPut, path, key, header, body, out)
}

// maxAttempts bounds how often a keyed request is sent.
const maxAttempts = 5

// keyed sends a request with an idempotency key, a fresh one where none is given, and sends it again while the server
// does not answer or is not available: the key makes that safe. Where it gives up without an answer it names the key,
// under which the user can find out.
func (c *client) keyed(ctx context.Context, method, path, key string, header http.Header, body, out any) (http.Header, error) {
	if key == "" {
		key = uuid.NewString()
	}
	if header == nil {
		header = http.Header{}
	}
	header.Set("Idempotency-Key", key)
	for attempt := 1; ; attempt++ {
		answer, err := c.call(ctx, request{method, path, header, body}, out)
		var lost *unreachableError
		if errors.As(err, &lost) && attempt == maxAttempts {
			return nil, fmt.Errorf("%w\nIt may have been done: repeat it with --key %s, which does nothing twice", err, key)
		}
		if err == nil || attempt == maxAttempts || lost == nil && !busy(err) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Duration(attempt) * 200 * time.Millisecond):
		}
	}
}

// busy reports whether the server has asked to come again.
func busy(err error) bool {
	var p *problem
	return errors.As(err, &p) && (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests)
}

// A problem is an error that the server answered with (RFC 9457).
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Errors []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
	} `json:"errors"`
}

func readProblem(response *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	p := &problem{}
	if err := json.Unmarshal(data, p); err != nil || p.Code == "" {
		return fmt.Errorf("the server answered %s", response.Status)
	}
	p.Status = response.StatusCode
	return p
}

func (p *problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	if p.Detail == "" {
		b.WriteString(p.Title)
	}
	fmt.Fprintf(&b, " (%s)", p.Code)
	for _, e := range p.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", e.Location, e.Message)
	}
	return b.String()
}

func (p *problem) code() string {
	if p == nil {
		return ""
	}
	return p.Code
}

func (p *problem) exitCode() int {
	switch p.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType:
		return exitUsage
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnauthorized, http.StatusForbidden:
		return exitRefused
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return exitUnavailable
	}
	return exitFailure
}
