package mirror_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/feed"
	"github.com/orderledger/orderledger/eventstore/mirror"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// running runs a function until the test stops it, which returns its error.
func running(t *testing.T, f func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- f(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-result
	})
}

// wait waits until a mirror has all that a ledger holds.
func wait(t *testing.T, m *mirror.Mirror, ledger eventstore.Reader) {
	t.Helper()
	all := public(t, ledger)
	if err := m.Wait(soon(t), head(t, ledger).Incarnation, all[len(all)-1].Position); err != nil {
		t.Fatal(err)
	}
	checkEqual(t, m, all)
}

func TestFollowHealsWhatTheBusLoses(t *testing.T) {
	ledger := newLedger(t)
	m := openMirror(t, "", ledger, nil)
	stop := running(t, func(ctx context.Context) error { return m.Follow(ctx, ledger) })
	fill(t, ledger, 10)
	id := head(t, ledger).Identity
	sent := deliveries(id, public(t, ledger))
	apply(t, m, sent[9]) // whether or not contact was made
	wait(t, m, ledger)
	fill(t, ledger, 10)
	sent = deliveries(id, public(t, ledger))
	apply(t, m, sent[12:]...)
	wait(t, m, ledger)
	fill(t, ledger, 1)
	sent = deliveries(id, public(t, ledger))
	tick := sent[20]
	tick.Event = nil
	apply(t, m, tick)
	wait(t, m, ledger)
	checkError(t, stop(), context.Canceled)
}

func TestFollowFeed(t *testing.T) {
	for name, source := range map[string]func(eventstore.Reader) eventstore.Reader{
		"with hashes":    func(r eventstore.Reader) eventstore.Reader { return r },
		"without hashes": func(r eventstore.Reader) eventstore.Reader { return unchained(r) },
	} {
		t.Run(name, func(t *testing.T) {
			ledger := newLedger(t)
			fill(t, ledger, 10)
			m := openMirror(t, "", ledger, nil)
			stop := running(t, func(ctx context.Context) error { return m.FollowFeed(ctx, source(ledger)) })
			for range 5 {
				fill(t, ledger, 30)
				wait(t, m, ledger)
			}
			checkError(t, stop(), context.Canceled)
		})
	}
}

// TestFollowOverBreakingConnections reads a feed the answers of which break at any byte, and that is away for a while.
func TestFollowOverBreakingConnections(t *testing.T) {
	ledger := newLedger(t)
	fill(t, ledger, 200)
	var away atomic.Bool
	var served atomic.Int64
	handler := http.StripPrefix("/v1/feed", feed.NewHandler(feed.HandlerConfig{Ledger: ledger, Logger: silent()}))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := served.Add(1)
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		if n%2 == 0 && filepath.Base(r.URL.Path) != "head" {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			handler.ServeHTTP(&cut{ResponseWriter: w, left: int(n*n*37) % 5000, stop: cancel}, r.WithContext(ctx))
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
	}))
	defer server.Close()
	client, err := feed.NewClient(feed.ClientConfig{URL: server.URL + "/v1/feed", Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var log logBook
	m := openMirror(t, "", ledger, log.logger())
	away.Store(true)
	stop := running(t, func(ctx context.Context) error { return m.FollowFeed(ctx, client) })
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for m.Status().Err == nil {
		<-ticker.C
	}
	away.Store(false)
	wait(t, m, ledger)
	for range 3 {
		fill(t, ledger, 50)
		wait(t, m, ledger)
		server.CloseClientConnections()
	}
	fill(t, ledger, 1)
	wait(t, m, ledger)
	checkError(t, stop(), context.Canceled)
	if log.count("does not follow") != 1 || log.count("follows its ledger again") != 1 {
		t.Errorf("log %s", &log)
	}
}

// cut is an answer that breaks after some bytes.
type cut struct {
	http.ResponseWriter
	left int
	stop func()
}

func (c *cut) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		p = p[:c.left]
	}
	n, err := c.ResponseWriter.Write(p)
	if c.left -= n; c.left == 0 {
		c.stop()
		return n, errors.New("cut")
	}
	return n, err
}

// TestOutages has one line logged when an outage begins and one when it ends, and the pauses in it grow.
func TestOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m, source, _ := followed(t, 10, &log)
		var away atomic.Bool
		var asked atomic.Int64
		gate := &gated{Reader: source, open: func() error {
			asked.Add(1)
			if away.Load() {
				return errors.New("away")
			}
			return nil
		}}
		away.Store(true)
		stop := running(t, func(ctx context.Context) error { return m.Follow(ctx, gate) })
		time.Sleep(10 * time.Minute) // nothing was heard for ten seconds
		if n := asked.Load(); n < 60 || n > 150 {
			t.Errorf("asked %d times in ten minutes", n)
		}
		if s := m.Status(); s.Err == nil || time.Since(s.Since) < 9*time.Minute || time.Since(s.Heard) < 9*time.Minute {
			t.Errorf("status %+v", s)
		}
		away.Store(false)
		time.Sleep(11 * time.Second)
		checkEqual(t, m, public(t, source))
		if s := m.Status(); s.Err != nil || !s.Since.IsZero() {
			t.Errorf("status %+v", s)
		}
		if log.count("does not follow") != 1 || log.count("follows its ledger again") != 1 {
			t.Errorf("log %s", &log)
		}
		finish(t, stop, m, source)
	})
}

// TestWhatAPersonMustMend has a ledger that was altered be asked once a minute, until it is as it was.
func TestWhatAPersonMustMend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m, source, _ := followed(t, 10, &log)
		var asked, altered atomic.Int64
		altered.Store(1)
		gate := &gated{Reader: changed{Reader: source, event: func(e *eventstore.Recorded) bool {
			if altered.Load() > 0 {
				e.ID = uuid.Nil
			}
			return true
		}}, open: func() error { asked.Add(1); return nil }}
		stop := running(t, func(ctx context.Context) error { return m.FollowFeed(ctx, gate) })
		time.Sleep(10 * time.Minute)
		if n := asked.Load(); n < 18 || n > 50 { // twice each time, to see whether it is another incarnation
			t.Errorf("asked %d times in ten minutes", n)
		}
		checkError(t, m.Status().Err, mirror.ErrAltered)
		altered.Store(0)
		time.Sleep(time.Minute)
		checkEqual(t, m, public(t, source))
		if log.count("level=ERROR") != 1 || log.count("follows its ledger again") != 1 {
			t.Errorf("log %s", &log)
		}
		finish(t, stop, m, source)
	})
}

// TestASubscriptionThatFails has the ledger be read nevertheless, and not all the time.
func TestASubscriptionThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, source, _ := followed(t, 10, nil)
		var asked atomic.Int64
		gate := &gated{Reader: source, open: func() error { asked.Add(1); return nil }, broken: errors.New("broken")}
		stop := running(t, func(ctx context.Context) error { return m.FollowFeed(ctx, gate) })
		time.Sleep(time.Second)
		checkEqual(t, m, public(t, source))
		fill(t, source.(*pebblestore.Store), 3)
		time.Sleep(11 * time.Second)
		checkEqual(t, m, public(t, source))
		if n := asked.Load(); n > 12*25 {
			t.Errorf("asked %d times in twelve seconds", n)
		}
		finish(t, stop, m, source)
	})
}

// finish ends what runs in a bubble.
func finish(t *testing.T, stop func() error, m *mirror.Mirror, source eventstore.Reader) {
	t.Helper()
	checkError(t, stop(), context.Canceled)
	if err := errors.Join(m.Close(), source.(*pebblestore.Store).Close()); err != nil {
		t.Error(err)
	}
}

func TestFollowEndsWithTheMirror(t *testing.T) {
	ledger := newLedger(t)
	for name, follow := range map[string]func(*mirror.Mirror, context.Context) error{
		"Follow":     func(m *mirror.Mirror, ctx context.Context) error { return m.Follow(ctx, ledger) },
		"FollowFeed": func(m *mirror.Mirror, ctx context.Context) error { return m.FollowFeed(ctx, ledger) },
		"Follow in an outage": func(m *mirror.Mirror, ctx context.Context) error {
			return m.Follow(ctx, failing{ledger, errors.New("away")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := openMirror(t, "", ledger, nil)
			result := make(chan error)
			go func() { result <- follow(m, t.Context()) }()
			if name != "Follow in an outage" {
				if err := m.Wait(soon(t), 0, 0); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			checkError(t, <-result, eventstore.ErrClosed)
			checkError(t, follow(m, t.Context()), eventstore.ErrClosed)
			checkError(t, m.Apply(t.Context(), nil), eventstore.ErrClosed)
			checkError(t, m.Wait(t.Context(), 7, 1), eventstore.ErrClosed)
			checkError(t, m.Verify(t.Context()), nil)
		})
	}
}

// A gated ledger may fail to tell its head, or to be subscribed to.
type gated struct {
	eventstore.Reader
	open   func() error
	broken error // of Subscribe
}

func (g *gated) Head(ctx context.Context) (eventstore.Head, error) {
	if err := g.open(); err != nil {
		return eventstore.Head{}, err
	}
	return g.Reader.Head(ctx)
}

func (g *gated) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) sequence {
	if g.broken != nil {
		return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, g.broken) }
	}
	return g.Reader.Subscribe(ctx, after, f)
}
