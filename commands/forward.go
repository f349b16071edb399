package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/orderledger/orderledger/internal/web"
)

// Bounds of what is passed on to one region.
const (
	passTimeout = 10 * time.Second // one request, or a new order through all regions
	maxPassing  = 64               // requests at once
	maxHops     = 3                // regions that a request has come through
	maxPassed   = 4 << 20          // bytes of an answer

	connectTimeout = 2 * time.Second
	answerTimeout  = 5 * time.Second // of a region that is asked whether it is there
	slowAnswer     = time.Second     // of a region of which its client did not wait for the answer
)

// viaHeader names the regions that a request has come through, in order.
const viaHeader = "Orderledger-Via"

// A ForwarderConfig says how requests get to another region. Region, URL and From are required.
type ForwarderConfig struct {
	Region string       // the one to which they are passed on
	URL    string       // of its API, such as https://eu.example.com
	Token  string       // for all business units, with the role peer there; empty: none is needed
	From   string       // the region that passes them on
	Client *http.Client // nil: one that gives up connecting after two seconds

	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: slog.Default
}

// A Forwarder passes requests on to the API of another region, each in the name of the principal that it is from (see
// [web.PrincipalFrom]), and gives the answers back as they are.
//
// It answers by itself where the region does not: 503 with the code home_unreachable if the region has not got the
// request, and with outcome_unknown if it may have; 508 with the code routing_loop for a request that comes back. A
// region that does not answer costs others nothing: so many requests wait for it at most, each of them for ten
// seconds at most, and after three that failed only one at a time tries whether it is back.
//
// It is safe for concurrent use.
type Forwarder struct {
	cfg     ForwarderConfig
	base    string
	client  http.Client
	room    chan struct{}
	breaker breaker

	answered, failed, refused atomic.Uint64
}

// ForwarderStatus tells how a [Forwarder] gets on with its region. The numbers count since it was made.
type ForwarderStatus struct {
	Reachable bool   // the last attempts have not all failed
	Passing   int    // requests under way
	Answered  uint64 // requests that the region has answered, whatever it said
	Failed    uint64 // requests that it has not answered
	Refused   uint64 // requests that were not sent, because too many were under way or it was known not to answer
}

var regionPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// NewForwarder returns a Forwarder. It connects to nobody.
func NewForwarder(cfg ForwarderConfig) (*Forwarder, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("the address of region %s is no URL such as https://eu.example.com", cfg.Region)
	case !regionPattern.MatchString(cfg.Region) || !regionPattern.MatchString(cfg.From) || cfg.Region == cfg.From:
		return nil, errors.New("requests are passed from one region to another, named by 1 to 32 of a-z, 0-9 and '-'")
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
			TLSHandshakeTimeout: connectTimeout,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: maxPassing,
			IdleConnTimeout:     time.Minute,
		}}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	f := &Forwarder{cfg: cfg, base: strings.TrimSuffix(u.String(), "/"), client: *cfg.Client, room: make(chan struct{}, maxPassing)}
	// The token is for this address and no other.
	f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return f, nil
}

// Status returns how the region answers.
func (f *Forwarder) Status() ForwarderStatus {
	return ForwarderStatus{
		Reachable: f.breaker.closed(), Passing: len(f.room),
		Answered: f.answered.Load(), Failed: f.failed.Load(), Refused: f.refused.Load(),
	}
}

// Answers reports whether anybody answers for the region at its address, whatever was so before.
func (f *Forwarder) Answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+"/healthz", http.NoBody)
	if err != nil {
		return false
	}
	response, err := f.client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode < http.StatusInternalServerError // something in front of it may answer in its place
}

func (f *Forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	via, refused := f.via(r)
	if refused != nil {
		web.WriteError(w, r, refused)
		return
	}
	select {
	case f.room <- struct{}{}:
		defer func() { <-f.room }()
	default:
		f.refused.Add(1)
		web.WriteError(w, r, f.unreachable("for which too many commands wait already", time.Second, nil))
		return
	}
	if pause, ok := f.breaker.enter(f.cfg.Now()); !ok {
		f.refused.Add(1)
		web.WriteError(w, r, f.unreachable("which does not answer", pause, nil))
		return
	}
	began := f.cfg.Now()
	a, err := f.pass(r, via)
	now := f.cfg.Now()
	switch {
	case err == nil:
		f.answered.Add(1)
		f.told(r.Context(), f.breaker.succeeded(), nil)
		a.write(w)
		return
	case r.Context().Err() != nil && now.Sub(began) < slowAnswer:
		f.breaker.leave() // its client was in a hurry, which says nothing about the region
	default:
		f.failed.Add(1)
		f.told(r.Context(), f.breaker.failed(now), err)
	}
	var failure *web.Error
	if !errors.As(err, &failure) {
		failure = unknownOutcome(f.cfg.Region)
		failure.Cause = err
	}
	f.cfg.Logger.LogAttrs(r.Context(), slog.LevelDebug, "a request was not answered by another region",
		slog.String("request_id", web.RequestID(r.Context())), slog.String("region", f.cfg.Region), slog.Any("error", err))
	web.WriteError(w, r, failure)
}

// told logs that the region answers again, or no more.
func (f *Forwarder) told(ctx context.Context, changed bool, err error) {
	switch {
	case !changed:
	case err == nil:
		f.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "another region answers again", slog.String("region", f.cfg.Region))
	default:
		f.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "another region does not answer, requests are passed on one at a time",
			slog.String("region", f.cfg.Region), slog.Any("error", err))
	}
}

// via returns the regions that a request will have come through.
func (f *Forwarder) via(r *http.Request) (string, *web.Error) {
	var names []string
	for _, header := range r.Header[viaHeader] {
		for name := range strings.SplitSeq(header, ",") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	for _, name := range names {
		if !regionPattern.MatchString(name) {
			return "", &web.Error{Status: http.StatusBadRequest, Code: "invalid_parameter", Detail: viaHeader + " is a list of regions.",
				Errors: []web.Violation{{Location: "header." + viaHeader, Code: "invalid_parameter", Message: "not the name of a region"}}}
		}
	}
	if len(names) >= maxHops || slices.Contains(names, f.cfg.From) {
		// While an order returns to its old home, the two may not have heard of each other.
		return "", &web.Error{Status: http.StatusLoopDetected, Code: codeRoutingLoop, RetryAfter: time.Second,
			Detail: "The regions do not agree about the order's home: the request has come through too many of them. Nothing was stored; " +
				"send it again with the same idempotency key."}
	}
	return strings.Join(append(names, f.cfg.From), ", "), nil
}

// passedHeaders are what is passed on of a request.
var passedHeaders = []string{
	"Content-Type", "Idempotency-Key", "If-Match", "Business-Unit", "Prefer", "Apply-Until", "Traceparent", "Orderledger-Mark", durabilityHeader,
}

// pass sends a request and returns the region's answer. An error that is no [*web.Error] leaves the outcome unknown.
func (f *Forwarder) pass(r *http.Request, via string) (*passed, error) {
	ctx, cancel := context.WithTimeout(r.Context(), passTimeout)
	defer cancel()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxOrder+1))
	if err != nil {
		return nil, f.unreachable("which did not get all of it", time.Second, err)
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, f.base+r.URL.EscapedPath(), bytes.NewReader(body))
	if err != nil {
		return nil, f.unreachable("which cannot be asked that", time.Second, err)
	}
	for _, name := range passedHeaders {
		if values := r.Header.Values(name); len(values) > 0 {
			request.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	request.Header.Set(viaHeader, via)
	request.Header.Set(web.OnBehalfHeader, web.PrincipalFrom(ctx).OnBehalf())
	if f.cfg.Token != "" {
		request.Header.Set("Authorization", "Bearer "+f.cfg.Token)
	}
	response, err := f.client.Do(request)
	if err != nil {
		var failed *net.OpError
		if errors.As(err, &failed) && failed.Op == "dial" {
			return nil, f.unreachable("which cannot be reached", time.Second, err)
		}
		return nil, err
	}
	defer response.Body.Close()
	return f.read(response)
}

// read reads an answer. What the region's API does not say itself, but something in front of it, is none; nor is what
// it says about this region rather than about the command.
func (f *Forwarder) read(response *http.Response) (*passed, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPassed+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of region %s: %w", f.cfg.Region, err)
	}
	a := &passed{response.StatusCode, response.Header, body}
	code := problemCode(body)
	switch {
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden, a.status == http.StatusMethodNotAllowed,
		a.status == http.StatusMisdirectedRequest, code == "not_found":
		return nil, f.unreachable("which refuses what this region passes on", passTimeout, fmt.Errorf("the answer is %d %s", a.status, code))
	case a.status >= http.StatusOK && a.status < http.StatusMultipleChoices && len(body) <= maxPassed && json.Valid(body):
		return a, nil
	case a.status >= http.StatusBadRequest && code != "":
		return a, nil
	}
	return nil, fmt.Errorf("region %s answered %d, %d bytes, without a code", f.cfg.Region, a.status, len(body))
}

// write gives the answer to the one who has asked.
func (p *passed) write(w http.ResponseWriter) {
	h := w.Header()
	for name, values := range p.GetHeaders() {
		h[name] = values
	}
	h.Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body) // a client that has gone needs no answer
}

// unreachable is the answer where a region has not got a request.
func (f *Forwarder) unreachable(why string, retryAfter time.Duration, cause error) *web.Error {
	e := unreachable(f.cfg.Region, why)
	e.RetryAfter, e.Cause = retryAfter, cause
	return e
}

func unreachable(region, why string) *web.Error {
	return &web.Error{Status: http.StatusServiceUnavailable, Code: codeHomeUnreachable, RetryAfter: time.Second,
		Detail: fmt.Sprintf("The command is for the region %s, %s. Nothing was stored here; send it again with the same idempotency key.", region, why)}
}

// unknownOutcome is the answer where a region has got a request, perhaps, and has not answered it.
func unknownOutcome(region string) *web.Error {
	return &web.Error{Status: http.StatusServiceUnavailable, Code: codeOutcomeUnknown, RetryAfter: time.Second,
		Detail: fmt.Sprintf("The command was passed on to the region %s, which has not said what has become of it. Nothing was stored here; "+
			"send it again with the same idempotency key: it is done once at most.", region)}
}
