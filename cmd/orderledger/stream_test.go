package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/orderledger/orderledger/domain"
)

// TestStreamAcrossRestarts follows one order and the notifications of all, while the server is stopped, killed and
// started again: nothing is lost, and nothing comes twice.
func TestStreamAcrossRestarts(t *testing.T) {
	random := seeded(t)
	s := newServer(t)
	s.start()
	s.ready()
	writer := &remembering{t: t, name: "writer", base: s.url(), http: &http.Client{}, random: random}
	do := func(q question) { check(t, writer.ask(&q)) }
	do(writer.next())
	order := writer.orders[0]
	path := "/v1/orders/" + order.id

	progress := follow(t, s, path+"/events?mark="+order.mark, "")
	notifications := follow(t, s, "/v1/notifications", "0")
	here := func(e followed) bool { return (e.Order == order.id || e.Order == "") && e.Revision == order.revision }
	for step := 0; order.status != domain.StatusClosed; step++ {
		progress.until(t, here)
		notifications.until(t, here)
		action, body := report(order.status)
		do(question{order: order, path: path + action, key: string(order.status), body: body})
		for range random.IntN(5) { // others move, too
			do(writer.next())
		}
		switch step % 3 {
		case 0:
			s.kill()
		case 1:
			s.stop()
		default:
			continue
		}
		writer.http.CloseIdleConnections()
		s.start()
		s.ready()
	}
	do(question{order: order, path: path + "/return", key: "last", body: `{"lines":[{"line":"1","quantity":"1"}],"reason":{"code":"damaged"}}`})

	var types []string
	for i, e := range progress.until(t, here) {
		if e.Revision != uint64(i) {
			t.Errorf("event %d of the order came as its revision %d", i, e.Revision)
		}
		types = append(types, e.Type)
	}
	if !slices.Equal(types, order.events) {
		t.Errorf("the events of the order came as\n%v\nand were acknowledged as\n%v", types, order.events)
	}
	// Who comes now and is never cut off sees the same.
	got, want := notifications.until(t, here), follow(t, s, "/v1/notifications", "0").until(t, here)
	if !slices.Equal(got, want) {
		t.Errorf("the notifications came as\n%v\nand without restarts as\n%v", got, want)
	}
	ids := make(map[string]int)
	for _, e := range got {
		if ids[e.ID]++; ids[e.ID] > 1 {
			t.Errorf("notification %s came twice", e.ID)
		}
	}
	t.Logf("%d events of one order, %d notifications of %d orders", len(types), len(got), len(writer.orders))
}

// followed is what a stream tells, of an order's events or of notifications.
type followed struct {
	ID       string `json:"id"`
	Order    string `json:"order"`
	Type     string `json:"type"`
	Revision uint64 `json:"revision"`
}

// A follower reads a stream in a goroutine, which ends with the test.
type follower struct {
	mu   sync.Mutex // protects what follows
	came []followed
}

func follow(t *testing.T, s *server, path, after string) *follower {
	f := &follower{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	c := &client{base: s.url(), businessUnit: "main", http: &http.Client{Transport: &http.Transport{}}}
	go func() {
		done <- c.follow(ctx, path, after, func(event sseEvent) error {
			var e followed
			if err := json.Unmarshal(event.data, &e); err != nil {
				return err
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.came = append(f.came, e)
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("following %s: %v", path, err)
		}
		c.http.CloseIdleConnections()
	})
	return f
}

// until waits for the last one and returns all that have come.
func (f *follower) until(t *testing.T, last func(followed) bool) []followed {
	t.Helper()
	found := poll(func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.ContainsFunc(f.came, last)
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if !found {
		t.Fatalf("the last one did not come: %v", f.came)
	}
	return slices.Clone(f.came)
}
