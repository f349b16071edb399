package esdb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/internal/faultnet"
)

// through is the connection string of what stands behind a proxy.
func through(p *faultnet.Proxy) string { return "esdb://" + p.Addr() + "?tls=false" }

func newEvent() eventstore.Event {
	id := uuid.New()
	return eventstore.Event{ID: id, Type: "test.happened.v1", Data: fmt.Appendf(nil, `{"id":%q}`, id)}
}

// A load is writers, each with a stream of its own.
type load struct {
	stop    context.CancelFunc
	work    sync.WaitGroup
	written [4][]uuid.UUID

	mu    sync.Mutex // protects what follows
	moved *sync.Cond
	total int
}

func begin(t *testing.T, s *esdb.Store) *load {
	l := &load{}
	l.moved = sync.NewCond(&l.mu)
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	for w := range l.written {
		l.work.Go(func() {
			stream, expected := fmt.Sprintf("order-%d", w), eventstore.NoStream
			for ctx.Err() == nil {
				events := []eventstore.Event{newEvent(), newEvent()}
				for {
					// Whoever gets no answer asks again with the same ids.
					a, err := s.Append(t.Context(), stream, expected, events)
					if err == nil {
						expected = eventstore.At(a.Revision)
						break
					}
					if eventstore.IsConflict(err) || t.Context().Err() != nil {
						t.Errorf("appending to %s: %v", stream, err)
						return
					}
				}
				l.written[w] = append(l.written[w], events[0].ID, events[1].ID)
				l.mu.Lock()
				l.total += 2
				l.moved.Broadcast()
				l.mu.Unlock()
			}
		})
	}
	return l
}

// wait waits until so many more events were written.
func (l *load) wait(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for until := l.total + n; l.total < until; {
		l.moved.Wait()
	}
}

func (l *load) end() {
	l.stop()
	l.work.Wait()
}

// check compares what was written with what stands in the ledger, and with what a subscriber got.
func (l *load) check(t *testing.T, s *esdb.Store, come []eventstore.Recorded) {
	t.Helper()
	got := make(map[string][]uuid.UUID)
	var last eventstore.Position
	for _, e := range come {
		if e.Position <= last {
			t.Errorf("the subscriber got position %d after %d", e.Position, last)
		}
		last = e.Position
		got[e.Stream] = append(got[e.Stream], e.ID)
	}
	for w, want := range l.written {
		stream := fmt.Sprintf("order-%d", w)
		var stands []uuid.UUID
		for e, err := range s.ReadStream(t.Context(), stream, 0, eventstore.Forward) {
			if err != nil {
				t.Fatal(err)
			}
			stands = append(stands, e.ID)
		}
		if fmt.Sprint(stands) != fmt.Sprint(want) {
			t.Errorf("%s holds %d events, %d were acknowledged, or others", stream, len(stands), len(want))
		}
		if fmt.Sprint(got[stream]) != fmt.Sprint(want) {
			t.Errorf("the subscriber got %d events of %s, %d were acknowledged, or others", len(got[stream]), stream, len(want))
		}
	}
}

func TestOutages(t *testing.T) {
	fs := vfs.NewMem()
	for name, c := range map[string]struct {
		rounds int
		strike func(t *testing.T, p *faultnet.Proxy, server **served)
	}{
		"the server is killed and started again": {20, func(t *testing.T, p *faultnet.Proxy, server **served) {
			p.Point("")
			p.Cut()
			if err := (*server).Close(); err != nil {
				t.Error(err)
			}
			*server = serve(t, fs, "killed", "")
			p.Point((*server).server.Addr())
		}},
		"connections are cut": {20, func(_ *testing.T, p *faultnet.Proxy, _ **served) { p.Cut() }},
		"connections are half closed": {6, func(_ *testing.T, p *faultnet.Proxy, _ **served) {
			p.Half(true)
			p.Half(false)
		}},
		"the network stands still and then breaks": {4, func(t *testing.T, p *faultnet.Proxy, _ **served) {
			p.Freeze()
			pass(t, 150*time.Millisecond)
			p.Cut()
			p.Thaw()
		}},
		"the network stands still for a moment": {4, func(t *testing.T, p *faultnet.Proxy, _ **served) {
			p.Freeze()
			pass(t, 150*time.Millisecond)
			p.Thaw()
		}},
		"nobody is there for longer than the official client looks": {1, func(t *testing.T, p *faultnet.Proxy, server **served) {
			p.Point("")
			p.Cut()
			pass(t, 1500*time.Millisecond)
			p.Point((*server).server.Addr())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := name
			if c.rounds == 20 && name[0] == 't' {
				dir = "killed"
			}
			server := serve(t, fs, dir, "")
			defer func() {
				if err := server.Close(); err != nil {
					t.Error(err)
				}
			}()
			p := faultnet.New(t, "")
			p.Point(server.server.Addr())
			s := open(t, through(p))
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			l := begin(t, s)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			come := make(chan []eventstore.Recorded, 1)
			written := make(chan int, 1)
			go func() { come <- follow(t, ctx, s, written) }()
			for range c.rounds {
				l.wait(20)
				c.strike(t, p, &server)
			}
			l.wait(20)
			l.end()
			written <- l.total
			l.check(t, s, <-come)
		})
	}
}

// follow subscribes until as many events have come as were written.
func follow(t *testing.T, ctx context.Context, s *esdb.Store, written <-chan int) (come []eventstore.Recorded) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	want, n := -1, 0
	var watch sync.WaitGroup
	defer watch.Wait()
	watch.Go(func() {
		select {
		case total := <-written:
			mu.Lock()
			defer mu.Unlock()
			if want = total; n >= want {
				cancel()
			}
		case <-ctx.Done():
		}
	})
	for e, err := range s.Subscribe(ctx, 0, eventstore.Filter{Prefixes: []string{"order-"}, Public: true}) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the subscription ended: %v", err)
			}
			return come
		}
		come = append(come, e)
		mu.Lock()
		if n++; n == want {
			mu.Unlock()
			return come
		}
		mu.Unlock()
	}
	return come
}

// pass lets time pass.
func pass(t *testing.T, d time.Duration) {
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}

func TestAServerThatNeverAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { _, _ = io.Copy(io.Discard, c) })
		}
	})
	defer work.Wait()
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = esdb.Open(ctx, esdb.Config{ConnectionString: "esdb://" + l.Addr().String() + "?tls=false&gossipTimeout=1", Logger: silent()})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
		t.Errorf("error %v after %v, want context.DeadlineExceeded soon", err, time.Since(began))
	}
}

func TestCloseDuringAnOutage(t *testing.T) {
	server := serve(t, vfs.NewMem(), "closed", "")
	defer func() { _ = server.Close() }()
	p := faultnet.New(t, "")
	p.Point(server.server.Addr())
	s, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: through(p), Patience: time.Hour, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	p.Point("")
	p.Cut()
	var work sync.WaitGroup
	began := make(chan struct{}, 3)
	for name, f := range map[string]func() error{
		"Append": func() error {
			_, err := s.Append(t.Context(), "order-1", eventstore.NoStream, []eventstore.Event{newEvent()})
			return err
		},
		"ReadStream": func() (last error) {
			for _, err := range s.ReadStream(t.Context(), "order-1", 0, eventstore.Forward) {
				last = err
			}
			return last
		},
		"Subscribe": func() (last error) {
			for _, err := range s.Subscribe(t.Context(), 0, eventstore.Filter{}) {
				last = err
			}
			return last
		},
	} {
		work.Go(func() {
			began <- struct{}{}
			// An append may have been sent, and then its outcome is unknown.
			if err := f(); err == nil || name != "Append" && !errors.Is(err, eventstore.ErrClosed) {
				t.Errorf("%s: error %v, want ErrClosed", name, err)
			}
		})
	}
	for range 3 {
		<-began
	}
	pass(t, 300*time.Millisecond)
	start := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	work.Wait()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("closing took %v", d)
	}
}

func TestPatience(t *testing.T) {
	server := serve(t, vfs.NewMem(), "patience", "")
	defer func() { _ = server.Close() }()
	p := faultnet.New(t, "")
	p.Point(server.server.Addr())
	s, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: through(p), Patience: 100 * time.Millisecond, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	p.Point("")
	p.Cut()
	events := []eventstore.Event{newEvent()}
	if _, err := s.Append(t.Context(), "order-1", eventstore.NoStream, events); err == nil || eventstore.IsConflict(err) {
		t.Errorf("error %v, want an unknown outcome, or one that tells that it was not sent", err)
	}
	if _, err := s.Append(t.Context(), "order-2", eventstore.NoStream, []eventstore.Event{newEvent()}); !errors.Is(err, eventstore.ErrUnreachable) || !eventstore.Unavailable(err) {
		t.Errorf("error %v of an append that found no server, want ErrUnreachable", err)
	}
	for _, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if !errors.Is(err, eventstore.ErrUnreachable) {
			t.Errorf("error %v, want ErrUnreachable", err)
		}
	}
	p.Point(server.server.Addr())
	if a, err := s.Append(t.Context(), "order-1", eventstore.NoStream, events); err != nil || a.Repeated {
		t.Errorf("%+v, error %v, although the server is back", a, err)
	}
}
