package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// HeartbeatInterval is how often a stream that has nothing to say should send a comment, so that neither end nor a
// gateway between them takes it for dead.
const HeartbeatInterval = 15 * time.Second

// An EventStream is an answer in Server-Sent Events. A client that does not accept an event within ten seconds is cut
// off; it resumes by Last-Event-ID. An EventStream is not safe for concurrent use.
type EventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
}

// A StreamEvent is one event of a stream. Empty members are left out.
type StreamEvent struct {
	ID    string // what the client sends as Last-Event-ID to resume after this event
	Event string // name of the kind of event
	Data  []byte // may have several lines
	Retry time.Duration
}

// NewEventStream begins an answer that is a stream; it counts as a long request, see [Linger]. The stream ends when
// the handler returns, which it does when the context that comes with it is done. Without an error the status 200
// has been sent; with one, nothing has.
func NewEventStream(w http.ResponseWriter, r *http.Request) (*EventStream, context.Context, error) {
	ctx, err := Linger(r.Context(), 0)
	if err != nil {
		return nil, nil, err
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx and those that follow it would hold events back
	w.WriteHeader(http.StatusOK)
	s := &EventStream{w: w, control: http.NewResponseController(w)}
	if err := s.control.Flush(); err != nil {
		return nil, nil, fmt.Errorf("beginning an event stream: %w", err)
	}
	return s, ctx, nil
}

// Send writes one event and flushes it. After an error the stream is over. An id or event name with a line break is
// an error before anything is written.
func (s *EventStream) Send(e StreamEvent) error {
	if strings.ContainsAny(e.ID, "\r\n\x00") || strings.ContainsAny(e.Event, "\r\n") {
		return fmt.Errorf("an event with a line break in its id or name")
	}
	s.buf.Reset()
	s.line("id", e.ID)
	s.line("event", e.Event)
	if e.Retry > 0 {
		s.line("retry", strconv.FormatInt(e.Retry.Milliseconds(), 10))
	}
	if e.Data != nil {
		s.lines("data: ", e.Data)
	}
	return s.flush()
}

// Comment writes a comment, which clients ignore, and flushes it.
func (s *EventStream) Comment(text string) error {
	s.buf.Reset()
	s.lines(": ", []byte(text))
	return s.flush()
}

func (s *EventStream) line(field, value string) {
	if value != "" {
		s.buf.WriteString(field + ": " + value + "\n")
	}
}

// lines writes a text line by line, since every kind of line break ends a field.
func (s *EventStream) lines(prefix string, text []byte) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		s.buf.WriteString(prefix)
		s.buf.Write(line)
		s.buf.WriteByte('\n')
	}
}

func (s *EventStream) flush() error {
	s.buf.WriteByte('\n')
	_ = s.control.SetWriteDeadline(time.Now().Add(writeGrace)) // recorders of tests know none
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return fmt.Errorf("writing to an event stream: %w", err)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("flushing an event stream: %w", err)
	}
	return nil
}
