package edge

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

const (
	maxEvent     = 4 << 20          // bytes of an event
	resumeWithin = 30 * time.Second // else the client is cut off, comes again, and learns what is wrong
	firstResume  = 100 * time.Millisecond
	slowResume   = 2 * time.Second
)

var errEventTooLarge = errors.New("an event is too large")

// A stream passes on whole Server-Sent Events. When the region breaks off it goes on in another one, behind the last
// event that it has passed on, and says so in a comment. Lines end with LF or CR LF.
//
// A stream whose events have no ids cannot be continued: it breaks off, too, and the client begins anew.
type stream struct {
	edge    *Edge
	q       *request
	choice  Choice
	body    io.ReadCloser
	lines   *bufio.Reader
	pending []byte // of what is to be passed on
	last    string // id of the last event that was passed on; empty: none
	unnamed bool   // the last event had none
	resumed bool   // nothing has come since it went on in another region

	broken time.Time     // when it broke off, if nothing has come since; else zero
	pause  time.Duration // before it is tried again, without jitter
}

func newStream(e *Edge, q *request, choice Choice, body io.ReadCloser) *stream {
	return &stream{edge: e, q: q, choice: choice, body: body, lines: bufio.NewReaderSize(body, 16<<10)}
}

func (s *stream) Close() error { return s.body.Close() }

// Read gives out whole events, comments among them, as far as they fit into p; the rest of one comes with the next call.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.pending) == 0 {
		b, err := readBlock(s.lines)
		switch {
		case err == nil:
			s.take(b)
			continue
		case s.q.Context().Err() != nil:
			return 0, err
		case s.edge.stopping():
			return 0, io.EOF // between two events
		case errors.Is(err, errEventTooLarge):
			return 0, err
		case !errors.Is(err, io.EOF): // a region that stops ends its streams well
			s.edge.report(s.choice, Failed, 0)
		}
		if err := s.resume(err); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.pending)
	s.pending = s.pending[n:]
	return n, nil
}

func (s *stream) take(b block) {
	echo := s.resumed && !b.data && b.named && b.id == s.last // the region says where it begins
	if b.data {
		s.unnamed = !b.named
	}
	if b.named {
		s.last = b.id
	}
	if b.data || b.named {
		s.resumed = false
	}
	if !echo {
		s.pending = b.text
		s.broken, s.pause = time.Time{}, 0
	}
}

// resume goes on in another region; in the same one only if there is no other.
func (s *stream) resume(cause error) error {
	_ = s.body.Close() // it is broken
	if s.unnamed {
		return cause
	}
	e := s.edge
	if s.broken.IsZero() {
		s.broken = e.cfg.Now()
	}
	not := []string{s.choice.Region.Name}
	for e.cfg.Now().Sub(s.broken) < resumeWithin {
		pause := e.pace()
		if s.pause > 0 {
			pause += s.pause/2 + rand.N(s.pause)
		}
		s.pause = min(max(2*s.pause, firstResume), slowResume)
		select {
		case <-s.q.Context().Done():
			return s.q.Context().Err()
		case <-e.stopped:
			return io.EOF
		case <-time.After(pause):
		}
		if s.connect(not) {
			return nil
		}
		not = nil
	}
	return fmt.Errorf("no region goes on with the stream: %w", cause)
}

func (e *Edge) pace() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.policy.Pace(e.cfg.Now())
}

// connect tries one region and reports whether the stream goes on there.
func (s *stream) connect(not []string) bool {
	e := s.edge
	again := *s.q
	again.class = Resume
	choice, err := e.choose(&again, not)
	if err != nil {
		return false
	}
	out := s.q.Clone(s.q.Context())
	if s.last != "" {
		out.Header.Set("Last-Event-ID", s.last)
	}
	answer, c, err := e.send(s.q, out, choice)
	switch {
	case err != nil && s.q.Context().Err() != nil:
		e.report(choice, Unknown, 0)
		return false
	case err != nil, isFailure(answer.StatusCode):
		if answer != nil {
			_ = answer.Body.Close()
		}
		e.report(choice, Failed, 0)
		return false
	}
	e.report(choice, Answered, 0)
	if !isStream(answer) { // it may not know yet what is asked for
		_ = answer.Body.Close()
		return false
	}
	e.markLong(c)
	e.metrics.resumed.WithLabelValues(choice.Region.Name).Inc()
	s.choice, s.body, s.resumed = choice, answer.Body, true
	s.lines.Reset(answer.Body)
	s.pending = []byte(": goes on in region " + choice.Region.Name + "\n\n")
	return true
}

// A block is an event or a comment: lines up to an empty one.
type block struct {
	text  []byte
	id    string
	named bool // it has an id
	data  bool // it raises an event
}

// readBlock returns [io.EOF] only where no block has begun.
func readBlock(r *bufio.Reader) (block, error) {
	var b block
	for {
		begin := len(b.text)
		if err := b.readLine(r); err != nil {
			return b, err
		}
		line := bytes.TrimRight(b.text[begin:], "\r\n")
		if len(line) == 0 {
			return b, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch string(name) {
		case "data":
			b.data = true
		case "id":
			b.id, b.named = string(bytes.TrimPrefix(value, []byte(" "))), true
		}
	}
}

func (b *block) readLine(r *bufio.Reader) error {
	for {
		part, err := r.ReadSlice('\n')
		b.text = append(b.text, part...)
		switch {
		case len(b.text) > maxEvent:
			return errEventTooLarge
		case err == nil:
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(b.text) > 0:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
}
