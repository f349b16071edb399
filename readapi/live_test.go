package readapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/readapi"
)

// A stream is the client's end of an event stream.
type stream struct {
	t      interface{ Fatalf(string, ...any) }
	body   *bufio.Scanner
	header http.Header
	last   string // id of the last event
	close  func()
}

func (w *world) open(base, path string, headers ...string) *stream {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("GET %s: %d %v", path, answer.StatusCode, answer.Header)
	}
	return &stream{t: w.t, body: bufio.NewScanner(answer.Body), header: answer.Header, close: func() {
		cancel()
		_ = answer.Body.Close()
	}}
}

// next returns the data of the next event, or nothing at the end.
func (s *stream) next() string {
	var data []string
	for s.body.Scan() {
		line := s.body.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && len(data) > 0:
			return strings.Join(data, "\n")
		case line == "", field == "": // the end of an id, or a comment
		case field == "id":
			s.last = value
		case field == "data":
			data = append(data, value)
		default:
			s.t.Fatalf("a line %q", line)
		}
	}
	return ""
}

// A watcher reads a stream in pieces: it is cut off again and again, and comes back in any of the ways that there are.
type watcher struct {
	w    *world
	base string
	path string
	last string // id of the last event that was read
	s    *stream
}

func (c *watcher) cut() {
	if c.s != nil {
		c.s.close()
	}
	c.s = nil
}

// read returns the data of the next event.
func (c *watcher) read(rt *rapid.T) string {
	if c.s == nil {
		switch {
		case c.last == "":
			c.s = c.w.open(c.base, c.path)
		case rapid.Bool().Draw(rt, "resume by header"):
			c.s = c.w.open(c.base, c.path+"?after=0", "Last-Event-ID: "+c.last)
		default:
			c.s = c.w.open(c.base, c.path+"?after="+url.QueryEscape(c.last))
		}
	}
	data := c.s.next()
	c.last = c.s.last
	return data
}

// An order's stream gives the same events in the same order, wherever it is cut off, also while events come and while
// it beats.
func TestWatchingAnOrderLosesAndRepeatsNothing(t *testing.T) {
	w := newWorld(t, func(c *readapi.Config) { c.Heartbeat = 5 * time.Millisecond })
	id, _ := w.submit("watched")
	c := watcher{w: w, base: w.serve(), path: "/v1/orders/" + id.String() + "/events"}
	w.live(12, func() error {
		_, err := w.try("main", id, domain.PlaceHold{Reason: domain.Reason{Code: "test"}})
		return err
	}, func() {
		rapid.Check(t, func(rt *rapid.T) {
			c.last = ""
			defer c.cut()
			for n := 0; n < 15; {
				switch rapid.SampledFrom([]string{"read", "read", "read", "cut", "poll"}).Draw(rt, "do") {
				case "cut":
					c.cut()
				case "poll":
					c.cut()
					limit := rapid.IntRange(1, 5).Draw(rt, "limit")
					p := read[readapi.Progress](w, fmt.Sprintf("%s?wait=10s&limit=%d&after=%s", c.path, limit, url.QueryEscape(c.last)))
					if len(p.Events) == 0 || len(p.Events) > limit {
						rt.Fatalf("%d events, at most %d were wanted", len(p.Events), limit)
					}
					for _, e := range p.Events {
						want(rt, w, e, n)
						n++
					}
					c.last = p.After
				default:
					var e readapi.TimelineEntry
					if err := json.Unmarshal([]byte(c.read(rt)), &e); err != nil || e.ID != c.last {
						rt.Fatalf("%v: event %q has the id %q", err, e.ID, c.last)
					}
					want(rt, w, e, n)
					n++
				}
			}
		})
	})
}

func want(rt *rapid.T, w *world, e readapi.TimelineEntry, n int) {
	if e.Revision != uint64(n) || e.ID != fmt.Sprintf("%s:%d", w.id, n) || e.Text == "" {
		rt.Fatalf("event %d is %+v", n, e)
	}
}

// live lets things happen n times in the background while test runs.
func (w *world) live(n int, happen func() error, test func()) {
	w.t.Helper()
	done := make(chan error, 1)
	go func() {
		for range n {
			if err := happen(); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	test()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

// So does the stream of all orders.
func TestWatchingAllOrdersLosesAndRepeatsNothing(t *testing.T) {
	w := newWorld(t, func(c *readapi.Config) { c.Heartbeat = 5 * time.Millisecond })
	c := watcher{w: w, base: w.serve(), path: "/v1/notifications"}
	begin := read[readapi.Notifications](w, c.path+"?wait=1ns").After
	const orders = 6
	n := 0
	w.live(orders, func() error {
		n++
		_, err1 := w.try("main", orderID("main", fmt.Sprint(n)), simple())
		_, err2 := w.try("eu", orderID("eu", fmt.Sprint(n)), simple())
		return errors.Join(err1, err2)
	}, func() {
		rapid.Check(t, func(rt *rapid.T) {
			c.last = begin
			defer c.cut()
			var got []readapi.Notification
			for len(got) < 3*orders {
				switch rapid.SampledFrom([]string{"read", "read", "read", "cut", "poll"}).Draw(rt, "do") {
				case "cut":
					c.cut()
				case "poll":
					c.cut()
					limit := rapid.IntRange(1, 5).Draw(rt, "limit")
					p := read[readapi.Notifications](w, fmt.Sprintf("%s?wait=10s&limit=%d&after=%s", c.path, limit, url.QueryEscape(c.last)))
					got, c.last = append(got, p.Notifications...), p.After
				default:
					var e readapi.Notification
					if err := json.Unmarshal([]byte(c.read(rt)), &e); err != nil {
						rt.Fatal(err)
					}
					got = append(got, e)
				}
			}
			for i, e := range got {
				kind := []string{"submitted", "accepted", "routed"}[i%3]
				if e.Order != orderID("main", fmt.Sprint(i/3+1)) || e.Kind != kind || e.Revision != uint64(i%3) {
					rt.Fatalf("notification %d is %+v", i, e)
				}
			}
		})
	})
}

func TestStreamsBeat(t *testing.T) {
	w := newWorld(t, func(c *readapi.Config) { c.Heartbeat = time.Millisecond })
	id, mark := w.submit("a")
	s := w.open(w.serve(), "/v1/orders/"+id.String()+"/events?mark="+mark.String())
	defer s.close()
	for range 3 {
		s.next()
	}
	for beats := 0; beats < 3; { // while nothing happens
		if !s.body.Scan() {
			t.Fatal("the stream ended")
		}
		if strings.HasPrefix(s.body.Text(), ":") {
			beats++
		}
	}
	w.do("main", id, domain.PlaceHold{Reason: domain.Reason{Code: "test"}})
	if e := s.next(); !strings.Contains(e, "order.held.v1") {
		t.Errorf("event %s", e)
	}
	if s.header.Get("Orderledger-Mark") == "" || s.header.Get("Orderledger-Lag") == "" || s.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", s.header)
	}
}

// A stream that begins now tells first where that is, so that a client that is cut off before the first event misses none.
func TestStreamTellsWhereItBegins(t *testing.T) {
	w := newWorld(t)
	w.submit("a")
	base := w.serve()
	s := w.open(base, "/v1/notifications")
	if !s.body.Scan() || !strings.HasPrefix(s.body.Text(), "id: "+w.id.String()+":") {
		t.Fatalf("the stream begins with %q", s.body.Text())
	}
	begin := strings.TrimPrefix(s.body.Text(), "id: ")
	s.close()
	w.submit("b")
	resumed := w.open(base, "/v1/notifications", "Last-Event-ID: "+begin)
	defer resumed.close()
	for _, kind := range []string{"submitted", "accepted", "routed"} {
		var n readapi.Notification
		if err := json.Unmarshal([]byte(resumed.next()), &n); err != nil || n.Kind != kind || n.Order != orderID("main", "b") || n.Text == "" || n.Customer != "K-1001" {
			t.Errorf("%v %+v", err, n)
		}
	}
}

func TestStreamEndsWhenTheServerStops(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	base := w.serve()
	for _, path := range []string{"/v1/orders/" + id.String() + "/events?after=" + w.id.String() + ":2", "/v1/notifications"} {
		s := w.open(base, path)
		defer s.close()
		defer func() {
			if e := s.next(); e != "" {
				t.Errorf("%s: %s", path, e)
			}
		}()
	}
	w.server.Drain()
}

func TestLongPollWaits(t *testing.T) {
	w := newWorld(t, func(c *readapi.Config) { c.MaxWait = time.Minute })
	id, _ := w.submit("a")
	for i, path := range []string{
		"/v1/orders/" + id.String() + "/events?wait=1h&after=" + w.id.String() + ":2",
		"/v1/notifications?wait=1h",
	} {
		rec, done := w.background(path)
		rec.waitUntilItLingers(t, done)
		w.do("main", id, domain.PlaceHold{Reason: domain.Reason{Code: fmt.Sprint("test-", i)}})
		<-done
		if rec.Code != 200 || !strings.Contains(rec.Body.String(), `"code":"held"`) {
			t.Errorf("GET %s: %d %s", path, rec.Code, rec.Body)
		}
	}
}

// A command's events come together, although a poll waits for the first.
func TestLongPollAnswersWithAllThatComes(t *testing.T) {
	w := newWorld(t)
	w.submit("a")
	rec, done := w.background("/v1/notifications?wait=1h")
	rec.waitUntilItLingers(t, done)
	w.submit("b")
	<-done
	var n readapi.Notifications
	if err := json.Unmarshal(rec.Body.Bytes(), &n); err != nil || len(n.Notifications) != 3 {
		t.Errorf("%v %s", err, rec.Body)
	}
}

func TestLiveForms(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	base := w.serve()
	path := "/v1/orders/" + id.String() + "/events"
	for _, accept := range []string{"", "*/*", "text/event-stream", "application/json, text/event-stream;q=0.1"} {
		s := w.open(base, path, "Accept: "+accept)
		s.close()
	}
	for _, form := range []string{path + "?wait=1ms", path + "?wait=1ms|Accept: text/event-stream", path + "|Accept: application/json", path + "|Accept: application/json;q=1, text/html"} {
		path, accept, _ := strings.Cut(form, "|")
		if p := read[readapi.Progress](w, path, accept); len(p.Events) != 3 || p.After != w.id.String()+":2" {
			t.Errorf("%s: %+v", form, p)
		}
	}
	if p := read[readapi.Progress](w, path+"?wait=1ms&after="+uuid.New().String()+":1"); len(p.Events) != 3 {
		t.Errorf("after an event of another ledger: %+v", p)
	}
	if n := read[readapi.Notifications](w, "/v1/notifications?after=0", "Accept: application/json"); len(n.Notifications) != 3 {
		t.Errorf("from the start: %+v", n)
	}
	if n := read[readapi.Notifications](w, "/v1/notifications", "Accept: application/json"); len(n.Notifications) != 0 || n.Notifications == nil || n.After == "" {
		t.Errorf("from now on: %+v", n)
	}
}

func TestInvalidAfter(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submit("a")
	ledger := w.id.String()
	for _, bad := range []string{"x", ":1", ledger, ledger + ":", ledger + ":-1", ledger + ":01", ledger + ":9223372036854775807", ledger + ":1:2", strings.ToUpper(ledger) + ":1"} {
		w.refused(400, "invalid_after", "/v1/orders/"+id.String()+"/events?after="+bad)
		w.refused(400, "invalid_after", "/v1/orders/"+id.String()+"/events", "Last-Event-ID: "+bad)
	}
	for _, bad := range []string{
		"x", ledger, ledger + ":1", ledger + ":1.x", ledger + ":1.0,", ledger + ":1.0," + ledger + ":2.0", ledger + ":01.0", ledger + ":1.0x",
		ledger + ":9223372036854775807.0", strings.Repeat(ledger+":1.0,", 20) + ledger + ":1.0",
	} {
		w.refused(400, "invalid_after", "/v1/notifications?after="+bad)
	}
	var many []string
	for range 17 {
		many = append(many, uuid.New().String()+":1.0")
	}
	w.refused(400, "invalid_after", "/v1/notifications?after="+strings.Join(many, ","))
}
