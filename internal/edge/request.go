package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	maxBody     = 2 << 20   // bytes of a body that can be sent again: what the regions take at most
	maxBuffered = 512 << 20 // bytes of all such bodies; those beyond it are sent once
	maxWait     = time.Minute
)

// errRequestBody is that of a client that goes away in the middle of its own request.
var errRequestBody = errors.New("reading the request")

// A request is one from a client, in the form in which it can be sent more than once.
type request struct {
	*http.Request
	class   Class
	country string
	wait    time.Duration // how long the client lets the region wait for news
	body    []byte        // of what may be sent again
	release func()
}

// read finds out what may be done with a request, and keeps its body if it may be sent again.
func (e *Edge) read(r *http.Request) (*request, error) {
	q := &request{Request: r, class: classify(r), country: strings.ToUpper(r.Header.Get(e.cfg.CountryHeader)), release: func() {}}
	if wait, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil && wait > 0 && q.class == Read {
		q.class, q.wait = Long, min(wait, maxWait)
	}
	if q.class == Once || r.Body == nil || r.Body == http.NoBody {
		return q, nil
	}
	return q, e.keepBody(q)
}

func classify(r *http.Request) Class {
	switch {
	case r.Method == http.MethodGet, r.Method == http.MethodHead, r.Method == http.MethodOptions:
		if strings.Contains(r.Header.Get("Accept"), eventStream) {
			return Long
		}
		return Read
	case len(r.Header.Values("Idempotency-Key")) == 1 && r.Header.Get("Idempotency-Key") != "":
		return Keyed
	}
	return Once
}

// keepBody reads the body. If it is too large, or too much is kept already, the request will be sent once.
func (e *Edge) keepBody(q *request) error {
	size := int64(maxBody)
	if q.ContentLength >= 0 {
		size = q.ContentLength
	}
	if size > maxBody || e.buffered.Add(size) > maxBuffered {
		if size <= maxBody {
			e.buffered.Add(-size)
		}
		q.class = Once
		return nil
	}
	q.release = func() { e.buffered.Add(-size) }
	var kept bytes.Buffer
	if q.ContentLength > 0 {
		kept.Grow(int(q.ContentLength))
	}
	if _, err := io.Copy(&kept, io.LimitReader(q.Body, maxBody+1)); err != nil {
		return fmt.Errorf("%w: %w", errRequestBody, err)
	}
	if kept.Len() > maxBody {
		q.class = Once
		q.Body = io.NopCloser(io.MultiReader(&kept, q.Body))
		return nil
	}
	q.body = kept.Bytes()
	return nil
}

// repeatable reports whether the request may be sent again after a part of it may have arrived.
func (q *request) repeatable() bool { return q.class != Once }

// waitLeft shortens what the region is to wait by what another has waited already.
func (q *request) waitLeft(elapsed time.Duration) string {
	values := q.URL.Query()
	values.Set("wait", max(q.wait-elapsed, time.Millisecond).Round(time.Millisecond).String())
	return values.Encode()
}
