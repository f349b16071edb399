package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	watermill "github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/internal/message"
	"github.com/orderledger/orderledger/internal/web"
)

// carryOut does what a command asks for and returns its outcome, which is durable then. After an error it may be called
// again. A command that comes again gets the outcome that it got before.
func (q *Queue) carryOut(ctx context.Context, c queued) (Outcome, error) {
	digest := c.digest(q.handler.keys.Digest())
	all, expected, err := recordedOutcomes(ctx, q.handler.store, c.command)
	if err != nil {
		return Outcome{}, err
	}
	o, err := q.decide(ctx, c, digest, all)
	if err != nil {
		return Outcome{}, err
	}
	known := slices.ContainsFunc(all, func(r recordedOutcome) bool {
		return r.State == o.State && (o.State == stateDone || r.meta.Digest == digest)
	})
	if known {
		return o, nil
	}
	// A conflict says that the message came twice at once.
	return o, q.handler.record(ctx, c, digest, expected, o)
}

// decide returns the outcome of a command for which others may have been recorded.
func (q *Queue) decide(ctx context.Context, c queued, digest domain.Digest, all []recordedOutcome) (Outcome, error) {
	settled := slices.IndexFunc(all, func(r recordedOutcome) bool { return r.meta.Digest == digest && r.State != stateDone })
	late := !c.applyUntil.IsZero() && q.handler.cfg.Now().After(c.applyUntil)
	if settled >= 0 || late {
		// It may have been done all the same, by whoever died before saying so.
		_, done, err := q.handler.done(ctx, domain.Command{ID: c.command, Order: c.order, BusinessUnit: c.unit})
		switch {
		case err != nil:
			return Outcome{}, err
		case !done && settled >= 0:
			return all[settled].Outcome, nil
		case !done:
			o := c.outcome(stateExpired)
			o.Status, o.Code, o.Detail = http.StatusGone, codeExpired, "The command came later than it was to be done."
			return o, nil
		}
	}
	return q.serve(ctx, c)
}

// outcome begins an outcome of the command.
func (q *queued) outcome(state string) Outcome {
	return Outcome{Command: q.command.String(), Order: q.order.String(), State: state, ApplyUntil: q.applyUntil}
}

// A serverError tells that a route has not answered a command for good.
type serverError struct {
	status int
	code   string
}

func (e *serverError) Error() string {
	return fmt.Sprintf("the server answered %d %s", e.status, e.code)
}

// serve sends a command to its route. It returns an [*Elsewhere] for one that has to wait in another queue.
func (q *Queue) serve(ctx context.Context, c queued) (Outcome, error) {
	moved := mover{home: q.cfg.Home}
	ctx = context.WithValue(web.As(ctx, c.by), moverKey{}, &moved)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+c.path, bytes.NewReader(c.body))
	if err != nil {
		return Outcome{}, err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Idempotency-Key": c.key, "Business-Unit": c.unit, "If-Match": c.ifMatch, "Traceparent": c.traceparent,
	} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	var w answerWriter
	if err := w.serve(q.cfg.Routes, r); err != nil {
		return Outcome{}, err
	}
	if moved.to != nil {
		return Outcome{}, moved.to
	}
	if w.status < http.StatusMultipleChoices {
		var a Answer
		if err := json.Unmarshal(w.body.Bytes(), &a); err != nil {
			return Outcome{}, fmt.Errorf("reading the answer to a command: %w", err)
		}
		o := c.outcome(stateDone)
		o.Status, o.Revision, o.Answer = w.status, &a.Revision, &a
		return o, nil
	}
	var p web.Problem
	_ = json.Unmarshal(w.body.Bytes(), &p) // an answer that is none of ours has no code
	if !final(w.status) || p.Code == "" {
		return Outcome{}, &serverError{w.status, p.Code}
	}
	o := c.outcome(stateRefused)
	o.Status, o.Code, o.Detail, o.Errors = w.status, p.Code, p.Detail, p.Errors
	return o, nil
}

// final reports whether the same request would get the same answer again as long as the order stays as it is.
func final(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError
}

// An answerWriter keeps an answer in memory.
type answerWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *answerWriter) Header() http.Header { return w.header }

func (w *answerWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *answerWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// serve answers a request. A handler that gives up in the middle of its answer has panicked, which the server around it
// has logged.
func (w *answerWriter) serve(h http.Handler, r *http.Request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &serverError{http.StatusInternalServerError, "aborted"}
		}
	}()
	w.header = http.Header{}
	h.ServeHTTP(w, r)
	return nil
}

// reply sends an outcome to where its sender wants it. It tries for some seconds: the ledger keeps the outcome anyway,
// and a place that takes no replies must not keep other commands waiting.
func (q *Queue) reply(ctx context.Context, m *watermill.Message, c queued, o Outcome) {
	to := m.Metadata.Get(keyReplyTo)
	if to == "" || q.cfg.Replies == nil || to == q.cfg.Topic {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	answer, err := q.replyTo(m, c, o)
	for failures := 0; err == nil; failures++ {
		answer.SetContext(ctx)
		failed := q.cfg.Replies.Publish(to, answer)
		if failed == nil {
			return
		}
		if failures+1 == maxReplies {
			err = failed
			break
		}
		err = q.again(ctx, failures, "replying to a command", m.UUID, failed)
	}
	q.log.LogAttrs(ctx, slog.LevelError, "a reply could not be sent", slog.String("message_id", m.UUID), slog.Any("error", err))
}

// replyTo makes the message that tells an outcome. The same outcome of the same message makes the same message.
func (q *Queue) replyTo(m *watermill.Message, c queued, o Outcome) (*watermill.Message, error) {
	body, err := json.Marshal(o)
	if err == nil && len(body) > message.MaxBody {
		o.Answer = nil // the order can be read
		body, err = json.Marshal(o)
	}
	if err != nil {
		return nil, err
	}
	id := q.handler.outcomeID(c, c.digest(q.handler.keys.Digest()), o.State).String()
	answer := watermill.NewMessage(id, body)
	answer.Metadata[message.KeyMessageID] = id
	answer.Metadata[message.KeyContentType] = "application/json"
	answer.Metadata[message.KeySubject] = o.Order
	answer.Metadata[keyCorrelation] = m.UUID
	if session := m.Metadata.Get(keyReplySession); session != "" {
		answer.Metadata[message.KeySession] = session
	}
	return answer, nil
}
