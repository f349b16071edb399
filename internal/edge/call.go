package edge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"
)

// How long a region may take; a long poll's own wait comes on top.
const (
	answerWithin  = 15 * time.Second // until it begins to answer; it may itself wait for a mark
	answerWhole   = time.Minute      // until it has answered
	partWithin    = 15 * time.Second // until the next part of an answer comes
	silenceWithin = 45 * time.Second // the same on a stream, which says something every 15 s
)

// A call is a request that a region has not answered whole. It ends when the answer does, the client goes away, or it is
// cancelled.
type call struct {
	edge   *Edge
	region string
	long   bool // it ends when the edge is closed; protected by Edge.mu
	again  bool // it ends when the region is lost, because it may be sent to another one
	cancel context.CancelCauseFunc
	timer  *time.Timer // cancels it; stopped where nothing is awaited
}

func (e *Edge) begin(q *request, choice Choice) (context.Context, *call) {
	ctx, cancel := context.WithCancelCause(q.Context())
	c := &call{edge: e, region: choice.Region.Name, long: q.class == Long, again: q.repeatable(), cancel: cancel}
	c.timer = time.AfterFunc(answerWithin, func() { cancel(errTooSlow) })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls[c] = true
	if e.ended && c.long {
		cancel(errStopping)
	}
	return ctx, c
}

// end may be called twice.
func (c *call) end() {
	c.timer.Stop()
	c.cancel(nil)
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	delete(c.edge.calls, c)
}

// markLong makes a call one of a stream.
func (e *Edge) markLong(c *call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.long = true
	if e.ended {
		c.cancel(errStopping)
	}
}

// change lets the policy take note of something about a region, and logs what that changes.
func (e *Edge) change(region string, note func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before, known := e.policy.look(region)
	note()
	after, _ := e.policy.look(region)
	if !known || before == after {
		return
	}
	level := slog.LevelInfo
	if !after.up() && before.up() {
		level = slog.LevelWarn
	}
	e.log.LogAttrs(context.Background(), level, "a region has changed", slog.String("region", region),
		slog.String("breaker", after.state.String()), slog.Bool("ready", after.ready))
}

// abandon cancels what a lost region is still asked, so that it is sent elsewhere at once.
func (e *Edge) abandon(region string) {
	for c := range e.calls {
		if c.region == region && c.again {
			c.cancel(errLost)
		}
	}
}

// answerBody is the body of a region's answer. Each part must come in time.
type answerBody struct {
	io.ReadCloser
	call   *call
	by     time.Time // when all of it must be there, unless it is a stream
	stream bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	limit := silenceWithin
	if !b.stream {
		limit = min(partWithin, max(b.by.Sub(b.call.edge.cfg.Now()), 0))
	}
	b.call.timer.Reset(limit)
	n, err := b.ReadCloser.Read(p)
	b.call.timer.Stop()
	return n, err
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	b.call.end()
	return err
}

// passed is an answer's body of which the client gets parts before all is there.
type passed struct {
	io.ReadCloser
	edge   *Edge
	choice Choice
	gone   func() bool // the client has gone away
}

func (p *passed) Read(part []byte) (int, error) {
	n, err := p.ReadCloser.Read(part)
	if err != nil && !errors.Is(err, io.EOF) && !p.gone() {
		p.edge.metrics.broken.WithLabelValues(p.choice.Region.Name).Inc()
		p.edge.report(p.choice, Failed, 0)
	}
	return n, err
}
