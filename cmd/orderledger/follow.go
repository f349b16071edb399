package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// An sseEvent is one Server-Sent Event (WHATWG HTML, section 9.2).
type sseEvent struct {
	id   string
	data []byte
}

const (
	maxEvent       = 4 << 20          // bytes of an event
	silenceTimeout = 60 * time.Second // the server says something at least four times in it
)

// follow reads a stream of events and hands each over once, in order. It connects again, behind the last event, when
// the connection or the server fails, until ctx is done or take returns an error, which it returns.
func (c *client) follow(ctx context.Context, path, after string, take func(sseEvent) error) error {
	for failures := 0; ; {
		before := after
		err := c.followOnce(ctx, path, &after, take)
		var p *problem
		var taken *takeError
		switch {
		case errors.As(err, &taken):
			return taken.err
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &p) && p.Status < 500 && p.Status != http.StatusTooManyRequests:
			return err
		}
		if after != before {
			failures = 0
		}
		failures++
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(time.Duration(failures)*250*time.Millisecond, 5*time.Second)):
		}
	}
}

// A takeError is the receiver's own.
type takeError struct{ err error }

func (e *takeError) Error() string { return e.err.Error() }

func (c *client) followOnce(ctx context.Context, path string, after *string, take func(sseEvent) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	header := http.Header{"Accept": {"text/event-stream"}}
	if *after != "" {
		header.Set("Last-Event-ID", *after)
	}
	response, err := c.send(ctx, request{method: http.MethodGet, path: path, header: header})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	silent := time.AfterFunc(silenceTimeout, cancel)
	defer silent.Stop()

	lines := bufio.NewReaderSize(response.Body, 64<<10)
	var event sseEvent
	for {
		line, err := readLine(lines)
		if err != nil {
			return err
		}
		silent.Reset(silenceTimeout)
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch {
		case len(line) > 0 && string(name) == "id":
			event.id = string(value)
		case len(line) > 0 && string(name) == "data":
			if len(event.data) > 0 {
				event.data = append(event.data, '\n')
			}
			event.data = append(event.data, value...)
			if len(event.data) > maxEvent {
				return fmt.Errorf("the server sent an event of more than %d bytes", maxEvent)
			}
		case len(line) == 0:
			if len(event.data) > 0 {
				if err := take(event); err != nil {
					return &takeError{err}
				}
			}
			if event.id != "" { // also without data: the server says where the stream begins
				*after = event.id
			}
			event = sseEvent{}
		}
	}
}

// readLine returns the next line without its end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimRight(line, "\r\n"), nil
		case errors.Is(err, bufio.ErrBufferFull) && len(line) <= maxEvent:
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("the server sent a line of more than %d bytes", maxEvent)
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}
