package web_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/orderledger/orderledger/internal/web"
)

// serve runs the server as it runs outside of tests, on a port of its own.
func serve(t *testing.T, s *web.Server) (*http.Server, string) {
	t.Helper()
	l, err := web.Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	server := web.HTTPServer(s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving: %v", err)
		}
	})
	return server, "http://" + l.Addr().String()
}

func closing(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
}

func TestEventStream(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	s.Router().Get("/stream", func(w http.ResponseWriter, r *http.Request) {
		stream, _, err := web.NewEventStream(w, r)
		if err != nil {
			s.WriteProblem(w, r, err)
			return
		}
		for _, e := range []web.StreamEvent{
			{ID: "a:1", Event: "status", Data: []byte(`{"x":1}`), Retry: 1500 * time.Millisecond},
			{Data: []byte("two\nlines\r\nor\rfour")},
			{ID: "a:2", Data: []byte("")},
			{Retry: time.Second},
		} {
			if err := stream.Send(e); err != nil {
				t.Error(err)
			}
		}
		if err := stream.Comment("still here\nid: forged"); err != nil {
			t.Error(err)
		}
		for _, forged := range []web.StreamEvent{{ID: "1\nid: 2"}, {Event: "a\rb"}, {ID: "a\x00"}} {
			if stream.Send(forged) == nil {
				t.Errorf("%+v was sent", forged)
			}
		}
	})
	w := send(s, "GET", "/stream", "")
	const want = "id: a:1\nevent: status\nretry: 1500\ndata: {\"x\":1}\n\n" +
		"data: two\ndata: lines\ndata: or\ndata: four\n\n" +
		"id: a:2\ndata: \n\n" +
		"retry: 1000\n\n" +
		": still here\n: id: forged\n\n"
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A stream reaches the client event by event, counts among the long requests only, and ends when the server is shut
// down.
func TestStreamLives(t *testing.T) {
	s, _ := newServer(t, web.Config{MaxInFlight: 1, MaxLong: 1})
	next := make(chan string)
	ended := make(chan struct{})
	s.Router().Get("/stream", func(w http.ResponseWriter, r *http.Request) {
		stream, ctx, err := web.NewEventStream(w, r)
		if err != nil {
			s.WriteProblem(w, r, err)
			return
		}
		for {
			select {
			case id := <-next:
				if err := stream.Send(web.StreamEvent{ID: id, Data: []byte("{}")}); err != nil {
					t.Error(err)
				}
			case <-ctx.Done():
				close(ended)
				return
			}
		}
	})
	server, url := serve(t, s)
	response, err := http.Get(url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, response.Body)
	lines := bufio.NewReader(response.Body)
	for _, id := range []string{"1", "2"} {
		next <- id
		if line, err := lines.ReadString('\n'); err != nil || line != "id: "+id+"\n" {
			t.Fatalf("%q, %v", line, err)
		}
		for range 2 { // data, blank line
			_, _ = lines.ReadString('\n')
		}
	}

	if w := send(s, "GET", "/v1/things/1", ""); w.Code != 200 {
		t.Errorf("beside a stream: %d %s", w.Code, w.Body)
	}
	if text := send(s, "GET", "/metrics", "").Body.String(); !strings.Contains(text, "orderledger_http_long_requests 1") || !strings.Contains(text, "in_flight 0") {
		t.Error("the stream is not counted as long")
	}
	w := send(s, "GET", "/stream", "")
	if p := problem(t, w); p.Status != 503 || p.Code != "unavailable" || w.Header().Get("Retry-After") != "5" {
		t.Errorf("a second stream: %+v", p)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Errorf("shutdown with an open stream: %v", err)
	}
	<-ended
	if _, err := io.ReadAll(lines); err != nil {
		t.Errorf("the stream was cut: %v", err)
	}
	if text := send(s, "GET", "/metrics", "").Body.String(); !strings.Contains(text, "orderledger_http_long_requests 0") ||
		strings.Contains(text, `duration_seconds_count{method="GET",route="/stream"} 2`) {
		t.Error("the end of the stream is not counted")
	}
}

// A stream that is over leaves its place to the next.
func TestStreamsOneAfterTheOther(t *testing.T) {
	s, _ := newServer(t, web.Config{MaxInFlight: 1, MaxLong: 1})
	s.Router().Get("/stream", func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := web.NewEventStream(w, r); err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		send(s, "GET", "/stream", "")
	}
	if w := send(s, "GET", "/v1/things/1", ""); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}

	s.Drain()
	s.Router().Get("/late", func(w http.ResponseWriter, r *http.Request) {
		_, ctx, err := web.NewEventStream(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		if ctx.Err() == nil {
			t.Error("a stream that begins while the server drains does not end at once")
		}
	})
	send(s, "GET", "/late", "")
}

// A stream ends when its client goes away.
func TestStreamEndsWithItsClient(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	ended := make(chan struct{})
	s.Router().Get("/stream", func(w http.ResponseWriter, r *http.Request) {
		_, ctx, err := web.NewEventStream(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		<-ctx.Done()
		close(ended)
	})
	_, url := serve(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, response.Body)
	cancel()
	<-ended
}

func TestStreamNeedsFlush(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if _, _, err := web.NewEventStream(struct{ http.ResponseWriter }{httptest.NewRecorder()}, r); err == nil {
		t.Error("a writer without Flush is taken")
	}
}

func TestStreamReportsABrokenConnection(t *testing.T) {
	stream, _, err := web.NewEventStream(&failing{ResponseRecorder: httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Comment(""); err == nil {
		t.Error("no error")
	}
}

type failing struct{ *httptest.ResponseRecorder }

func (*failing) Write([]byte) (int, error) { return 0, net.ErrClosed }

func TestListen(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "localhost:0", "127.3.2.1:0", "[::ffff:127.0.0.1]:0"} {
		l, err := web.Listen(addr, false)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		_ = l.Close()
	}
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "8.8.8.8:80"} {
		l, err := web.Listen(addr, false)
		if err == nil {
			_ = l.Close()
			t.Errorf("%s is listened on", addr)
		} else if !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{"", "127.0.0.1", "127.0.0.1:port", "127.0.0.1:99999"} {
		if l, err := web.Listen(addr, false); err == nil {
			_ = l.Close()
			t.Errorf("%q is listened on", addr)
		}
	}
	l, err := web.Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, l)
	if _, err := web.Listen(l.Addr().String(), false); err == nil {
		t.Error("a port twice")
	}
}

func TestHTTPServerIsBounded(t *testing.T) {
	s, _ := newServer(t, web.Config{})
	server, url := serve(t, s)
	if server.ReadHeaderTimeout == 0 || server.ReadTimeout == 0 || server.WriteTimeout == 0 || server.IdleTimeout == 0 {
		t.Errorf("%+v has no timeout", server)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Big", strings.Repeat("x", 64<<10))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, response.Body)
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers: %d", response.StatusCode)
	}
}
