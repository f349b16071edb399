package commands_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/keyring"
	"github.com/orderledger/orderledger/internal/web"
)

// A world is some regions that know one another. Everybody asks as erp.
type world struct {
	regions map[string]*region
	order   []string
	passed  atomic.Int64 // minutes, so that nobody waits until a region is tried again
}

var errKilled = errors.New("killed")

// A region is a server of a world.
type region struct {
	*server
	name       string
	ledger     uuid.UUID
	mirrors    map[string]*mirror // by region
	links      map[string]*link
	forwarders map[string]*commands.Forwarder
	clock      func() time.Time // nil: it is now
	unwritable error            // why the ledger takes nothing; nil: it does
	appends    atomic.Int64     // that were tried
	breakAfter int              // so many appends the ledger is killed; 0: never
	breakLost  bool             // though the next append is done
	reconciler *commands.Reconciler
	asking     bool // whether the others are being asked what they know
	remote     func(context.Context, eventstore.Mark) error
	enqueue    map[string]func(*watermill.Message) error // by region; "" is the own queue
}

// newWorld starts regions of the given names. The next one after each is the one behind it in the list.
func newWorld(t testing.TB, names ...string) *world {
	t.Helper()
	w := &world{regions: map[string]*region{}, order: names}
	secret := filepath.Join(t.TempDir(), "keys")
	first, err := keyring.Open(secret)
	if err == nil {
		err = first.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	urls := map[string]string{}
	for _, name := range names {
		r := &region{name: name, mirrors: map[string]*mirror{}, links: map[string]*link{}, forwarders: map[string]*commands.Forwarder{},
			enqueue: map[string]func(*watermill.Message) error{}}
		w.regions[name] = r
		r.server = &server{t: t, store: openLedger(t), keys: copyKeys(t, secret)}
		head, err := r.store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.ledger = head.ID
		listening := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.handler.ServeHTTP(w, q) }))
		t.Cleanup(listening.Close)
		urls[name] = listening.URL
	}
	for _, name := range names {
		w.connect(t, w.regions[name], urls)
	}
	return w
}

// copyKeys opens a keyring that has the same secret as another one.
func copyKeys(t testing.TB, secret string) *keyring.Keyring {
	t.Helper()
	content, err := os.ReadFile(secret)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	return keys
}

// connect makes a region's handler, and what leads from it to the others.
func (w *world) connect(t testing.TB, r *region, urls map[string]string) {
	t.Helper()
	for _, name := range w.others(r.name) {
		r.mirrors[name] = &mirror{Reader: w.regions[name].store}
		r.links[name] = &link{}
		f, err := commands.NewForwarder(commands.ForwarderConfig{
			Region: name, URL: urls[name], From: r.name, Client: &http.Client{Transport: r.links[name]}, Logger: quiet,
			Now: func() time.Time { return now.Add(time.Duration(w.passed.Load()) * time.Minute) },
		})
		if err != nil {
			t.Fatal(err)
		}
		r.forwarders[name] = f
	}
	ledger := &meddled{Store: r.store, append: func(_ context.Context, _ []eventstore.Event, do func() (eventstore.Appended, error)) (eventstore.Appended, error) {
		tried := int(r.appends.Add(1))
		if r.unwritable != nil {
			return eventstore.Appended{}, r.unwritable
		}
		if r.breakAfter > 0 && tried > r.breakAfter {
			if r.breakLost {
				_, _ = do() // nobody hears of it
			}
			return eventstore.Appended{}, errKilled
		}
		return do()
	}}
	h, err := commands.NewHandler(t.Context(), commands.Config{
		Ledger: ledger, Keys: r.keys, Logger: quiet,
		Now: func() time.Time {
			if r.clock != nil {
				return r.clock()
			}
			return now
		},
		Policy:  func(context.Context, string) (domain.Policy, error) { return sites{"a", "b", "c"}, nil },
		Regions: func() []commands.Region { return w.seenFrom(r) },
		Asked:   func() bool { return !r.asking },
		Remote: func(ctx context.Context, m eventstore.Mark) error {
			if r.remote == nil {
				return errors.New("nobody follows")
			}
			return r.remote(ctx, m)
		},
		Enqueue: func(m *watermill.Message) error {
			if r.enqueue[""] == nil {
				return errors.New("there is no bus")
			}
			return r.enqueue[""](m)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := web.New(web.Config{
		Rate: -1, Errors: []func(error) *web.Error{commands.WebError}, Codes: commands.Codes(), Allowed: []web.Allowed{commands.Allowed()},
	})
	commands.Register(s, h, nil)
	r.handler, r.commands = s, h
}

// others are the names of the other regions, the next one first.
func (w *world) others(name string) []string {
	for i, n := range w.order {
		if n == name {
			return append(append([]string{}, w.order[i+1:]...), w.order[:i]...)
		}
	}
	return nil
}

func (w *world) seenFrom(r *region) []commands.Region {
	var all []commands.Region
	for _, name := range w.others(r.name) {
		all = append(all, commands.Region{Name: name, Ledger: w.regions[name].ledger, Mirror: r.mirrors[name], API: r.forwarders[name], Enqueue: r.enqueue[name]})
	}
	return all
}

// erp is the region as erp sees it.
func (r *region) erp() *server { return r.as(erp) }

// A mirror is what is known of a ledger.
type mirror struct {
	eventstore.Reader

	mu   sync.Mutex // protects the fields below
	last *eventstore.Head
	err  error // what reading it answers
}

// cut lets nothing that happens from now on come to the mirror; heal undoes that.
func (m *mirror) cut(t testing.TB) {
	t.Helper()
	head, err := m.Reader.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = &head
}

func (m *mirror) heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last, m.err = nil, nil
}

func (m *mirror) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *mirror) Head(ctx context.Context) (eventstore.Head, error) {
	m.mu.Lock()
	last, err := m.last, m.err
	m.mu.Unlock()
	switch {
	case err != nil:
		return eventstore.Head{}, err
	case last != nil:
		return *last, nil
	}
	return m.Reader.Head(ctx)
}

func (m *mirror) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	m.mu.Lock()
	last, err := m.last, m.err
	m.mu.Unlock()
	return func(yield func(eventstore.Recorded, error) bool) {
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		for r, err := range m.Reader.ReadStream(ctx, stream, from, dir) {
			if err == nil && last != nil && r.Position > last.Position {
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func (m *mirror) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	m.mu.Lock()
	last, err := m.last, m.err
	m.mu.Unlock()
	return func(yield func(eventstore.Recorded, error) bool) {
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		for r, err := range m.Reader.ReadAll(ctx, after, filter) {
			if err == nil && last != nil && r.Position > last.Position || !yield(r, err) {
				return
			}
		}
	}
}

// A fault is what becomes of a request on its way to another region.
type fault int

const (
	whole      fault = iota
	refused          // nobody listens there
	lostBefore       // the connection dies before the request is there
	lostAfter        // and after it was carried out
	silent           // nobody answers
	strange          // something else answers
)

// A link leads to another region.
type link struct {
	mu    sync.Mutex // protects the fields below
	how   fault
	next  []fault // of the next requests, before how
	tried int     // requests
}

func (l *link) set(how fault, next ...fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.how, l.next = how, next
}

func (l *link) requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tried
}

func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	how := l.how
	if len(l.next) > 0 {
		how, l.next = l.next[0], l.next[1:]
	}
	l.tried++
	l.mu.Unlock()
	switch how {
	case refused:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	case lostBefore:
		return nil, io.ErrUnexpectedEOF
	case lostAfter:
		response, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			_ = response.Body.Close()
		}
		return nil, io.ErrUnexpectedEOF
	case silent:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case strange:
		return &http.Response{StatusCode: http.StatusBadGateway, Header: http.Header{"Content-Type": {"text/html"}},
			Body: io.NopCloser(strings.NewReader("<html>Bad gateway</html>")), Request: r}, nil
	}
	return http.DefaultTransport.RoundTrip(r)
}
