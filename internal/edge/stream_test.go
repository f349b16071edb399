package edge_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An eventSource sends the events 1 to last to everybody, each with its number as id, and waits at the end. It goes on
// behind Last-Event-ID, and says first where it begins, as readapi does.
type eventSource struct {
	last    int
	unnamed bool          // the events have no ids
	end     chan struct{} // closed: streams end well
	asked   atomic.Int64
}

func (s *eventSource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	control := http.NewResponseController(w)
	from := 0
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		from, _ = strconv.Atoi(id)
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	if from > 0 {
		_, _ = fmt.Fprintf(w, "id: %d\n\n", from)
	}
	for n := from + 1; n <= s.last; n++ {
		if !s.unnamed {
			_, _ = fmt.Fprintf(w, "id: %d\n", n)
		}
		_, _ = fmt.Fprintf(w, "event: moved\ndata: {\"n\":%d,\ndata: \"text\":\"ü\"}\n\n", n)
		if n%3 == 0 {
			_, _ = io.WriteString(w, ":\r\n\r\n")
		}
		_ = control.Flush()
	}
	select {
	case <-r.Context().Done():
	case <-s.end:
	}
}

// events reads a stream as a client does, until the n-th event, the end or an error. Every event must be whole.
func (w *world) events(path string, n int) (ids []int, comments []string, err error) {
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+path, nil)
	check(w, err)
	r.Header.Set("Orderledger-Country", "DE")
	r.Header.Set("Accept-Encoding", "gzip")
	r.Header.Set("Accept", "text/event-stream")
	answer, err := w.client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	id, data, alone := "", "", false
	for len(ids) < n {
		line, err := lines.ReadString('\n')
		if err != nil {
			return ids, comments, err
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "" && data != "":
			number := -1
			if _, err := fmt.Sscanf(data, `{"n":%d,"text":"ü"}`, &number); err != nil || id != "" && id != strconv.Itoa(number) {
				w.Errorf("event %s has the data %s", id, data)
			}
			ids = append(ids, number)
			data, alone = "", false
		case line == "" && alone:
			w.Errorf("the id %s comes alone", id) // the client has not asked to go on, so no region should tell it where
		case strings.HasPrefix(line, "id: "):
			id, alone = line[4:], true
		case strings.HasPrefix(line, "data: "):
			data += line[6:]
		case strings.HasPrefix(line, ": "):
			comments = append(comments, line)
		}
	}
	return ids, comments, nil
}

func inOrder(ids []int) bool {
	for i, id := range ids {
		if id != i+1 {
			return false
		}
	}
	return true
}

// Wherever a stream is cut, the client misses nothing and gets nothing twice.
func TestStreamCutAtAnyByte(t *testing.T) {
	first, second := &eventSource{last: 6}, &eventSource{last: 6}
	w := newWorld(t, first, second)
	for at := 0; at < 800; at += 1 + at%3 {
		w.renew()
		w.wires[0].cutAfter(at)
		ids, comments, err := w.events("/", 6)
		if err != nil || len(ids) != 6 || !inOrder(ids) {
			t.Fatalf("cut at %d: %v %v", at, ids, err)
		}
		if len(comments) > 1 || len(comments) == 1 && comments[0] != ": goes on in region b" {
			t.Errorf("cut at %d: %q", at, comments)
		}
	}
	if second.asked.Load() == 0 {
		t.Error("the second region was never asked")
	}
}

// Regions may die one after the other, and the last one come back.
func TestStreamThroughManyRegions(t *testing.T) {
	w := newWorld(t, &eventSource{last: 40}, &eventSource{last: 40}, &eventSource{last: 40})
	for _, wire := range w.wires {
		wire.cutAfter(1500)
	}
	done := make(chan struct{})
	mended := make(chan struct{})
	go func() {
		defer close(mended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				w.wires[2].cutAfter(500)
			}
		}
	}()
	ids, _, err := w.events("/", 40)
	close(done)
	<-mended
	if err != nil || len(ids) != 40 || !inOrder(ids) {
		t.Errorf("%v %v", ids, err)
	}
}

// A region that stops ends its streams; its breaker stays closed.
func TestStreamThatEndsWell(t *testing.T) {
	end := make(chan struct{})
	close(end)
	w := newWorld(t, &eventSource{last: 3, end: end}, &eventSource{last: 5})
	ids, comments, err := w.events("/", 5)
	if err != nil || !inOrder(ids) || len(comments) != 1 {
		t.Errorf("%v %q %v", ids, comments, err)
	}
	if metrics := w.get("/edge/metrics").body; !strings.Contains(metrics, `streams_resumed_total{region="b"} 1`) || strings.Contains(metrics, "failed") {
		t.Error(metrics)
	}
}

// A stream that cannot be continued breaks off where the region does, and ends where it does.
func TestStreamWithoutIDs(t *testing.T) {
	end := make(chan struct{})
	close(end)
	w := newWorld(t, &eventSource{last: 3, unnamed: true, end: end}, &eventSource{last: 5, unnamed: true})
	ids, _, err := w.events("/", 5)
	if !errors.Is(err, io.EOF) || len(ids) != 3 || !inOrder(ids) {
		t.Errorf("%v %v", ids, err)
	}
	w.wires[0].cutAfter(250)
	ids, _, err = w.events("/", 5)
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(ids) == 0 || !inOrder(ids) {
		t.Errorf("%v %v", ids, err)
	}
}

// An event that is not whole never reaches a client, nor one that is too large.
func TestStreamOfALargeEvent(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "id: 1\ndata: "+strings.Repeat("x", 1<<20)+"\n\nid: 2\ndata: "+strings.Repeat("x", 5<<20)+"\n\n")
	}))
	answer, err := w.ask(http.MethodGet, "/", nil, "")
	if err != nil || answer.err == nil || len(answer.body) != len("id: 1\ndata: \n\n")+1<<20 {
		t.Errorf("%v %v %d", err, answer.err, len(answer.body))
	}
}

// A region that ends its stream in the middle of an event has cut it off.
func TestStreamThatEndsInAnEvent(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "id: 1\ndata: {\"n\":1,\"text\":\"ü\"}\n\nid: 2\ndata: {\"n\":2,")
	}), &eventSource{last: 3})
	if ids, _, err := w.events("/", 3); err != nil || len(ids) != 3 || !inOrder(ids) {
		t.Errorf("%v %v", ids, err)
	}
}

// Closing the edge ends streams between two events, and answers who comes then.
func TestCloseEndsStreams(t *testing.T) {
	w := newWorld(t, &eventSource{last: 3})
	answer, err := w.client.Get(w.server.URL)
	check(t, err)
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	for line := ""; line != ":\r\n"; { // behind the third event
		line, err = lines.ReadString('\n')
		check(t, err)
	}
	w.edge.Close()
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != "\r\n" {
		t.Errorf("%q %v", rest, err)
	}
	if answer, err := w.ask(http.MethodGet, "/", http.Header{"Accept": {"text/event-stream"}}, ""); err != nil || answer.status != 503 || !strings.Contains(answer.body, "stopping") {
		t.Errorf("%v %+v", err, answer)
	}
}
