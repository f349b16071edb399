package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxAttempts   = 3        // regions that a request is sent to
	maxKept       = 64 << 10 // bytes of an answer that are awaited before any is passed on
	regionHeader  = "Orderledger-Region"
	eventStream   = "text/event-stream"
	codeElsewhere = "home_unreachable" // said by a region that is well: the one that would have to decide is not
	codeAsking    = "asking_peers"     // said by a region that is well: it is about to find out whether it is to decide
	codeNotKnown  = "not_known_yet"    // said by a region that is well: another one may have the order
)

var (
	errStopping       = errors.New("the entry is stopping")
	errTooSlow        = errors.New("the region takes too long")
	errLost           = errors.New("the region is lost")
	errOutcomeUnknown = errors.New("a write that cannot be repeated was cut off")
	errNoEnd          = errors.New("the answer does not tell where it ends")
)

// attempts is the transport behind the proxy: it sends a request to one region after the other until one answers.
type attempts struct{ edge *Edge }

// RoundTrip returns the first answer that may be passed on. Where all fail it returns what the last region has said, if
// it has said anything.
func (a attempts) RoundTrip(r *http.Request) (*http.Response, error) {
	e := a.edge
	q, err := e.read(r)
	defer q.release()
	if err != nil {
		return nil, err
	}
	begun := e.cfg.Now()
	var tried []string
	var last result
	for len(tried) < maxAttempts {
		choice, err := e.choose(q, tried)
		if err != nil && len(tried) == 0 {
			return nil, err
		}
		if err != nil {
			break
		}
		if last.answer != nil {
			_ = last.answer.Body.Close() // another region may have a better one
		}
		out := q.Clone(r.Context())
		if len(tried) > 0 {
			e.metrics.retries.Inc()
			if q.wait > 0 {
				out.URL.RawQuery = q.waitLeft(e.cfg.Now().Sub(begun))
			}
		}
		last = e.attempt(q, out, choice)
		if !last.again {
			break
		}
		tried = append(tried, choice.Region.Name)
	}
	return last.answer, last.err
}

func (e *Edge) choose(q *request, tried []string) (Choice, error) {
	now := e.cfg.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.policy.Use(e.cfg.Topology())
	choice, err := e.policy.Choose(now, q.class, q.country, tried)
	if errors.Is(err, ErrRetryBudget) {
		e.metrics.refused.Inc()
	}
	return choice, err
}

// A result is what became of one attempt: an answer or an error, and whether the next region may be asked.
type result struct {
	answer *http.Response
	err    error
	again  bool
}

// attempt sends a request to a region and reports to the policy.
func (e *Edge) attempt(q *request, out *http.Request, choice Choice) result {
	answer, c, err := e.send(q, out, choice)
	if err == nil && endless(answer) {
		err = errNoEnd
		_ = answer.Body.Close()
	}
	if err == nil && (isFailure(answer.StatusCode) || q.repeatable() && short(answer) && !isStream(answer)) {
		err = keep(answer)
	}
	if err != nil {
		return e.failed(q, choice, err)
	}
	answer.Header.Set(regionHeader, choice.Region.Name)
	switch {
	case isStream(answer):
		e.markLong(c)
		answer.Header.Del("Content-Length") // of what one region says; another may add to it
		answer.ContentLength = -1
		e.report(choice, Answered, 0)
		answer.Body = newStream(e, q, choice, answer.Body)
	case !isFailure(answer.StatusCode):
		e.report(choice, Answered, 0)
		answer.Body = &passed{answer.Body, e, choice, func() bool { return q.Context().Err() != nil }}
	case codeOf(answer) == codeElsewhere, codeOf(answer) == codeAsking:
		e.report(choice, Answered, 0)
	case codeOf(answer) == codeNotKnown:
		e.report(choice, Answered, 0)
		return result{answer: answer, again: q.repeatable()}
	default:
		e.report(choice, Failed, retryAfter(answer))
		return result{answer: answer, again: q.repeatable()}
	}
	return result{answer: answer}
}

// failed tells what an attempt means that brought no answer.
func (e *Edge) failed(q *request, choice Choice, err error) result {
	var dialling *net.OpError
	switch {
	case q.Context().Err() != nil, errors.Is(err, errRequestBody), errors.Is(err, errStopping):
		e.report(choice, Unknown, 0)
		return result{err: err}
	case q.repeatable(), errors.As(err, &dialling) && dialling.Op == "dial": // of the latter, nothing has left
		e.report(choice, Failed, 0)
		return result{err: err, again: true}
	}
	e.report(choice, Failed, 0)
	return result{err: fmt.Errorf("%w: %w", errOutcomeUnknown, err)}
}

// send sends a request to a region. The answer's body belongs to the call, and ends with it.
func (e *Edge) send(q *request, out *http.Request, choice Choice) (*http.Response, *call, error) {
	base, err := url.Parse(choice.Region.API)
	if err != nil { // the topology was checked
		return nil, nil, err
	}
	ctx, c := e.begin(q, choice)
	out = out.WithContext(ctx)
	out.URL.Scheme, out.URL.Host, out.Host = base.Scheme, base.Host, ""
	switch {
	case q.body != nil:
		out.ContentLength = int64(len(q.body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(q.body)), nil }
		out.Body, _ = out.GetBody()
	case q.Body != nil:
		out.Body = io.NopCloser(clientBody{q.Body}) // the transport must not close it while it may be sent again
	}
	begun := e.cfg.Now()
	c.timer.Reset(answerWithin + q.wait)
	answer, err := e.transport.RoundTrip(out)
	c.timer.Stop()
	if err != nil {
		cause := context.Cause(ctx)
		c.end()
		if cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return nil, nil, fmt.Errorf("asking region %s: %w", choice.Region.Name, err)
	}
	e.metrics.duration.WithLabelValues(choice.Region.Name).Observe(e.cfg.Now().Sub(begun).Seconds())
	answer.Body = &answerBody{ReadCloser: answer.Body, call: c, by: begun.Add(answerWhole + q.wait), stream: isStream(answer)}
	return answer, c, nil
}

func (e *Edge) report(choice Choice, o Outcome, retryAfter time.Duration) {
	e.metrics.requests.WithLabelValues(choice.Region.Name, o.String()).Inc()
	now := e.cfg.Now()
	e.change(choice.Region.Name, func() { e.policy.Report(now, choice, o, retryAfter) })
}

// clientBody marks the errors of a client's own body.
type clientBody struct{ io.Reader }

func (b clientBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", errRequestBody, err)
	}
	return n, err
}

// isFailure reports whether a status is that of a region that cannot answer.
func isFailure(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

func mediaType(answer *http.Response) string {
	kind, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return kind
}

func isStream(answer *http.Response) bool {
	return answer.StatusCode == http.StatusOK && mediaType(answer) == eventStream &&
		answer.Request.Method == http.MethodGet && answer.Header.Get("Content-Encoding") == ""
}

// endless reports whether an answer ends with its connection, so that nobody can tell whether it is whole.
func endless(answer *http.Response) bool {
	return answer.ContentLength < 0 && answer.ProtoMajor == 1 && !slices.Contains(answer.TransferEncoding, "chunked")
}

// short reports whether an answer is of a kind that comes at once, so that its first part is worth waiting for.
func short(answer *http.Response) bool {
	kind := mediaType(answer)
	return answer.ContentLength >= 0 && answer.ContentLength <= maxKept ||
		kind == "application/json" || kind == "application/problem+json" || kind == "text/html"
}

// keep reads an answer's body as far as it is kept, so that a region may still fail without the client's noticing. After
// an error the body is closed.
func keep(answer *http.Response) error {
	if answer.Request.Method == http.MethodHead {
		return nil
	}
	body := answer.Body
	kept, err := io.ReadAll(io.LimitReader(body, maxKept))
	if err != nil {
		_ = body.Close()
		return err
	}
	if len(kept) == maxKept { // there may be more
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(kept), body), body}
		return nil
	}
	_ = body.Close()
	answer.Body, answer.ContentLength = keptBody{bytes.NewReader(kept)}, int64(len(kept))
	return nil
}

// keptBody is a body that is there as a whole.
type keptBody struct{ *bytes.Reader }

func (keptBody) Close() error { return nil }

// codeOf is the code of a problem that is kept.
func codeOf(answer *http.Response) string {
	body, ok := answer.Body.(keptBody)
	if !ok || !strings.HasSuffix(mediaType(answer), "json") {
		return ""
	}
	var p struct {
		Code string `json:"code"`
	}
	_ = json.NewDecoder(body).Decode(&p) // what is no problem has no code
	_, _ = body.Seek(0, io.SeekStart)    // it cannot fail
	return p.Code
}

func retryAfter(answer *http.Response) time.Duration {
	seconds, err := strconv.ParseUint(answer.Header.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
