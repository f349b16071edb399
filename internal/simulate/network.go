package simulate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"

	"github.com/orderledger/orderledger/eventstore"
)

// A link carries requests from one region to another. Answers come back over it too, or get lost where the way back is
// cut.
type link struct {
	cut   bool
	flaps bool // every other request finds it cut
	count int
}

// up reports whether something that is sent now gets through.
func (l *link) up() bool {
	l.count++
	return !l.cut && (!l.flaps || l.count%2 == 1)
}

func (l *link) same(as link) bool { return l.cut == as.cut && l.flaps == as.flaps }

// A fate is what becomes of a request.
type fate int

const (
	answered   fate = iota
	refused         // nobody is reached
	lost            // it does not arrive
	lostAnswer      // it is carried out, and the answer does not arrive
	cutAnswer       // the answer breaks off at some byte
)

var errNetwork = errors.New("the connection was lost")

func errRefused() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
}

// fate decides what becomes of a request from one region to another.
func (w *world) fate(from, to *region) fate {
	switch {
	case to.process == nil:
		return refused
	case !w.links[from.index][to.index].up():
		if w.chance.IntN(2) == 0 {
			return refused
		}
		return lost
	case !w.links[to.index][from.index].up():
		return lostAnswer
	}
	return w.mishap()
}

// mishap is what may become of a request over a link that is well.
func (w *world) mishap() fate {
	if !w.may(Partitions) {
		return answered
	}
	switch w.chance.IntN(40) {
	case 0:
		return lost
	case 1:
		return lostAnswer
	case 2:
		return cutAnswer
	}
	return answered
}

// exchange has a region's process answer a request, and lets the answer come to its fate.
func (w *world) exchange(to *region, request *http.Request, f fate, handler func(*process) http.Handler) (*http.Response, error) {
	switch {
	case f == refused || to.process == nil:
		return nil, errRefused()
	case f == lost:
		return nil, errNetwork
	}
	p := to.process
	served := request.Clone(request.Context())
	served.Host, served.RequestURI, served.RemoteAddr = to.name, request.URL.RequestURI(), "127.0.0.1:1"
	if served.Body == nil {
		served.Body = http.NoBody
	}
	recorded := recorder{header: make(http.Header)}
	handler(p).ServeHTTP(&recorded, served)
	if to.process != p || f == lostAnswer { // it died meanwhile
		return nil, errNetwork
	}
	body := io.Reader(bytes.NewReader(recorded.body.Bytes()))
	if f == cutAnswer && recorded.body.Len() > 0 {
		body = io.MultiReader(bytes.NewReader(recorded.body.Bytes()[:w.chance.IntN(recorded.body.Len())]), brokenReader{})
	}
	return &http.Response{
		StatusCode: recorded.status, Header: recorded.header, Body: io.NopCloser(body), ContentLength: -1, Request: request,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// An answer is what has come of a request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// fetch is exchange, of whole answers.
func (w *world) fetch(to *region, request *http.Request, f fate, handler func(*process) http.Handler) (answer, error) {
	response, err := w.exchange(to, request, f, handler)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, body}, err
}

// routes are what a process answers to everybody.
func routes(p *process) http.Handler { return p.server }

// A recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errNetwork }

// A road leads from a region to another one. It is an [http.RoundTripper].
type road struct {
	world    *world
	from, to *region
}

func (r road) RoundTrip(request *http.Request) (*http.Response, error) {
	return r.world.exchange(r.to, request, r.world.fate(r.from, r.to), routes)
}

// A feed is another region's ledger, read over a road that may break at each event.
type feed struct{ road }

var _ eventstore.Reader = feed{}

func (f feed) reach() (*ledger, error) {
	if fate := f.world.fate(f.from, f.to); fate != answered {
		return nil, errNetwork
	}
	return f.to.process.ledger, nil
}

func (f feed) Head(ctx context.Context) (eventstore.Head, error) {
	l, err := f.reach()
	if err != nil {
		return eventstore.Head{}, err
	}
	return l.Head(ctx)
}

func (f feed) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return f.read(func(l *ledger) iter.Seq2[eventstore.Recorded, error] { return l.ReadStream(ctx, stream, from, dir) })
}

func (f feed) ReadAll(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return f.read(func(l *ledger) iter.Seq2[eventstore.Recorded, error] { return l.ReadAll(ctx, after, filter) })
}

func (f feed) Subscribe(ctx context.Context, after eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return f.read(func(l *ledger) iter.Seq2[eventstore.Recorded, error] { return l.Subscribe(ctx, after, filter) })
}

func (f feed) read(from func(*ledger) iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		l, err := f.reach()
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		left := -1 // events before the connection breaks
		if f.world.may(Partitions) && f.world.chance.IntN(10) == 0 {
			left = f.world.chance.IntN(20)
		}
		for e, err := range from(l) {
			if left == 0 {
				yield(eventstore.Recorded{}, errNetwork)
				return
			}
			left--
			if !yield(e, err) {
				return
			}
		}
	}
}
