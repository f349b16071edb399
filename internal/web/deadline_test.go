package web_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orderledger/orderledger/internal/web"
)

// A pipeListener is a network in memory, so that deadlines pass in a bubble's time.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// inBubble runs a test in a bubble of its own with a server, to which dial connects once the routes are registered.
func inBubble(t *testing.T, test func(t *testing.T, s *web.Server, dial func() net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, web.Config{})
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := web.HTTPServer(s)
		done := make(chan error)
		go func() { done <- server.Serve(l) }()
		var clients []net.Conn
		defer func() {
			for _, c := range clients {
				_ = c.Close()
			}
			_ = server.Close()
			if err := <-done; !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("serving: %v", err)
			}
		}()
		test(t, s, func() net.Conn {
			client, conn := net.Pipe()
			clients = append(clients, client)
			l.conns <- conn
			return client
		})
	})
}

// answer sends a request and returns the answer's status, body and the time that it took.
func answer(t *testing.T, c net.Conn, request string) (int, string, time.Duration) {
	t.Helper()
	start := time.Now()
	go func() { _, _ = io.WriteString(c, request) }()
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err.Error(), time.Since(start)
	}
	defer closing(t, response.Body)
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("reading the answer: %v", err)
	}
	return response.StatusCode, string(body), time.Since(start)
}

func TestSlowClients(t *testing.T) {
	for _, tt := range []struct {
		name, request string
		status        int // 0: cut off without an answer
		after         time.Duration
	}{
		{"headers that never end", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", 0, 5 * time.Second},
		{"a body that never ends", "POST /v1/things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", 408, 5 * time.Second},
		{"a prompt request", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, _ *web.Server, dial func() net.Conn) {
				status, body, took := answer(t, dial(), tt.request)
				if status != tt.status || took != tt.after {
					t.Errorf("status %d after %v, want %d after %v: %s", status, took, tt.status, tt.after, body)
				}
			})
		})
	}
}

// A long poll outlives the deadlines of other requests, and no more than that.
func TestLinger(t *testing.T) {
	tests := []struct {
		name            string
		linger, takes   time.Duration
		status          int
		ended           bool // the handler sees the request end first
		drainedMeantime bool
	}{
		{name: "no longer than others", takes: 50 * time.Second, status: 200},
		{name: "longer than others", takes: 70 * time.Second, status: 0},
		{name: "lingering", linger: 2 * time.Minute, takes: 100 * time.Second, status: 200},
		{name: "lingering too long", linger: 2 * time.Minute, takes: 3 * time.Minute, status: 200, ended: true},
		{name: "the server stops", linger: 2 * time.Minute, takes: 100 * time.Second, status: 200, ended: true, drainedMeantime: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *web.Server, dial func() net.Conn) {
				s.Router().Get("/poll", func(w http.ResponseWriter, r *http.Request) {
					ctx := r.Context()
					if tt.linger > 0 {
						var err error
						if ctx, err = web.Linger(ctx, tt.linger); err != nil {
							t.Error(err)
							return
						}
					}
					select {
					case <-ctx.Done():
						if !tt.ended {
							t.Error("the request ended before its time")
						}
					case <-time.After(tt.takes):
						if tt.ended {
							t.Error("the request did not end")
						}
					}
					_, _ = io.WriteString(w, "done")
				})
				if tt.drainedMeantime {
					time.AfterFunc(10*time.Second, s.Drain)
				}
				status, body, took := answer(t, dial(), "GET /poll HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
				if status != tt.status {
					t.Errorf("status %d after %v: %s", status, took, body)
				}
			})
		})
	}
	if ctx, err := web.Linger(t.Context(), 0); ctx != t.Context() || err != nil {
		t.Errorf("outside a request: %v", err)
	}
}

// A client that does not read is cut off, so that it holds nothing up for long; one that reads may stay for hours.
func TestSlowReaderOfAStream(t *testing.T) {
	inBubble(t, func(t *testing.T, s *web.Server, dial func() net.Conn) {
		ended := make(chan time.Duration, 1)
		s.Router().Get("/stream", func(w http.ResponseWriter, r *http.Request) {
			stream, ctx, err := web.NewEventStream(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			start := time.Now()
			for i := 0; ctx.Err() == nil; i++ {
				if err := stream.Send(web.StreamEvent{ID: fmt.Sprint(i)}); err != nil {
					break
				}
				<-time.After(web.HeartbeatInterval)
			}
			ended <- time.Since(start)
		})
		client := dial()
		go func() { _, _ = io.WriteString(client, "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n") }()
		response, err := http.ReadResponse(bufio.NewReader(client), httptest.NewRequest(http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }() // it is cut off
		lines := bufio.NewReader(response.Body)
		const hour = 3600 / 15
		for range hour {
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			_, _ = lines.ReadString('\n')
		}
		if took := <-ended; took < time.Hour || took > time.Hour+time.Minute {
			t.Errorf("the stream ended after %v", took)
		}
	})
}
