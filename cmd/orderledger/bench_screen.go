package main

import (
	"fmt"
	"io"
	"time"
)

// A benchScreen tells somebody who waits for figures what is being measured, and about how long the rest will take. It is
// used by one goroutine.
type benchScreen struct {
	out     io.Writer
	live    bool // one line that changes, rather than a line for each step
	subject string
	left    time.Duration // for this subject and those after it, when it began
	begun   time.Time     // of the subject
}

func newBenchScreen(e *environment) *benchScreen {
	s := &benchScreen{out: e.err, live: isTerminal(e.err)}
	if e.JSON && !s.live {
		s.out = io.Discard // scripts read errors there
	}
	return s
}

// begin begins a subject.
func (s *benchScreen) begin(subject string, left time.Duration) {
	s.subject, s.left, s.begun = subject, left, time.Now()
}

// step tells what is done now.
func (s *benchScreen) step(text string) {
	line := s.subject + ": " + text
	if left := s.left - time.Since(s.begun); left > 0 {
		line += fmt.Sprintf(" (about %v left)", left.Round(time.Second))
	}
	if s.live {
		fmt.Fprintf(s.out, "\r\x1b[K%s", line)
		return
	}
	fmt.Fprintln(s.out, line)
}

// done takes the line away.
func (s *benchScreen) done() {
	if s.live {
		fmt.Fprint(s.out, "\r\x1b[K")
	}
}
