package esdb_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/internal/faultnet"
)

// A fake is a server whose answers a test decides on. It holds a ledger without events.
type fake struct {
	streams.UnimplementedStreamsServer
	serverfeatures.UnimplementedServerFeaturesServer

	version  string
	identity []byte // what stands in $ledger
	append   func(streams.Streams_AppendServer) error
	read     func(*streams.ReadReq_Options, streams.Streams_ReadServer) error // what is not asked by Open
	ledger   func(streams.Streams_ReadServer) error                           // what is asked by Open; nil: identity is told
	address  string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	return startFake(t, &fake{version: "24.6.0", identity: []byte(`{"ledger":"` + uuid.NewString() + `","lanes":64,"format":1}`)})
}

func startFake(t *testing.T, f *fake) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = l.Addr().String()
	g := grpc.NewServer()
	streams.RegisterStreamsServer(g, f)
	serverfeatures.RegisterServerFeaturesServer(g, f)
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(l) })
	t.Cleanup(func() {
		g.Stop()
		serving.Wait()
	})
	return f
}

func (f *fake) connection() string { return "esdb://" + f.address + "?tls=false" }

func (f *fake) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	return &serverfeatures.SupportedMethods{EventStoreServerVersion: f.version}, nil
}

func (f *fake) Append(s streams.Streams_AppendServer) error { return f.append(s) }

func (f *fake) Read(r *streams.ReadReq, s streams.Streams_ReadServer) error {
	o := r.GetOptions()
	if name := string(o.GetStream().GetStreamIdentifier().GetStreamName()); name == "$ledger" {
		if f.ledger != nil {
			return f.ledger(s)
		}
		if f.identity == nil {
			return notFound(s, name)
		}
		if o.GetSubscription() == nil {
			return s.Send(event(name, 0, 1, uuid.New(), "ledger.created.v1", f.identity))
		}
		if err := confirm(s); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	}
	if f.read == nil {
		return nil
	}
	return f.read(o, s)
}

func notFound(s streams.Streams_ReadServer, name string) error {
	return s.Send(&streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{StreamNotFound: &streams.ReadResp_StreamNotFound{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(name)},
	}}})
}

func event(stream string, revision, position uint64, id uuid.UUID, typ string, data []byte) *streams.ReadResp {
	return &streams.ReadResp{Content: &streams.ReadResp_Event{Event: &streams.ReadResp_ReadEvent{
		Event: &streams.ReadResp_ReadEvent_RecordedEvent{
			Id:               &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}},
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
			StreamRevision:   revision, CommitPosition: position, PreparePosition: position,
			Metadata: map[string]string{"type": typ, "content-type": "application/json", "created": "17000000000000000"},
			Data:     data,
		},
	}}}
}

func checkpoint(at uint64) *streams.ReadResp {
	return &streams.ReadResp{Content: &streams.ReadResp_Checkpoint_{Checkpoint: &streams.ReadResp_Checkpoint{CommitPosition: at, PreparePosition: at}}}
}

func confirm(s streams.Streams_ReadServer) error {
	return s.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: "1"}}})
}

// drained reads an append to its end.
func drained(s streams.Streams_AppendServer) {
	for {
		if _, err := s.Recv(); err != nil {
			return
		}
	}
}

func written(s streams.Streams_AppendServer, revision, position uint64) error {
	return s.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: &streams.AppendResp_Success{
		CurrentRevisionOption: &streams.AppendResp_Success_CurrentRevision{CurrentRevision: revision},
		PositionOption:        &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{CommitPosition: position, PreparePosition: position}},
	}}})
}

func wrongVersion(s streams.Streams_AppendServer) error {
	return s.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: &streams.AppendResp_WrongExpectedVersion{
		CurrentRevisionOption: &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: 0},
	}}})
}

func openFake(t *testing.T, f *fake, patience time.Duration) *esdb.Store {
	t.Helper()
	s, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: f.connection(), Patience: patience, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestAServerThatIsNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		f    fake
		says string
	}{
		"too old":                 {fake{version: "22.10.1"}, "23.10"},
		"no identity":             {fake{version: "24.6.0", identity: []byte(`{}`)}, "which ledger"},
		"an identity of tomorrow": {fake{version: "24.6.0", identity: []byte(`{"ledger":"c2f8a3f0-58a1-4b58-9f2b-0f6d1f7f0a11","lanes":64,"format":2}`)}, "format 2"},
	} {
		f := startFake(t, &c.f)
		_, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: f.connection(), Logger: silent()})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, c.says)
		}
	}
}

func TestTheConfig(t *testing.T) {
	for _, connection := range []string{"", "http://localhost", "esdb://user:secret@local host:1", "esdb://user:secret@localhost:port", "esdb://user:secret@localhost?tls=perhaps",
		"esdb://user:1/secret@localhost", "esdb://user:%secret@localhost", "kurrentdb://user:secret?x@localhost", "esdb://user:secret@localhost?tlsCaFile=missing"} {
		_, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: connection})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v, want one without the password", connection, err)
		}
	}
	if _, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: "esdb://localhost", Lanes: -1}); err == nil {
		t.Error("a ledger with -1 lanes was opened")
	}
}

func TestAppendLearnsWhatBecameOfIt(t *testing.T) {
	e := newEvent()
	other := e
	other.Data = []byte(`{"other":true}`)
	for name, c := range map[string]struct {
		answer   func(n int32, s streams.Streams_AppendServer) error
		stands   *eventstore.Event // at revision 0, position 9
		want     eventstore.Appended
		conflict bool
		fails    bool
		asked    int32
	}{
		"it was written":                     {answer: func(_ int32, s streams.Streams_AppendServer) error { return written(s, 0, 9) }, stands: &e, want: eventstore.Appended{Position: 9}, asked: 1},
		"another had written other contents": {answer: func(_ int32, s streams.Streams_AppendServer) error { return written(s, 0, 9) }, stands: &other, want: eventstore.Appended{Position: 9, Repeated: true}, asked: 1},
		"the position is not told": {answer: func(_ int32, s streams.Streams_AppendServer) error {
			return s.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: &streams.AppendResp_Success{
				CurrentRevisionOption: &streams.AppendResp_Success_CurrentRevision{CurrentRevision: 0}}}})
		}, stands: &e, want: eventstore.Appended{Position: 9}, asked: 1},
		"the answer is none": {answer: func(_ int32, s streams.Streams_AppendServer) error { return s.SendAndClose(&streams.AppendResp{}) }, fails: true},
		"the first answer was lost": {answer: func(n int32, s streams.Streams_AppendServer) error {
			if n == 1 {
				return status.Error(codes.Unavailable, "gone")
			}
			return written(s, 0, 9)
		}, stands: &e, want: eventstore.Appended{Position: 9}, asked: 2},
		"the server does not recognise a repetition": {answer: func(n int32, s streams.Streams_AppendServer) error {
			if n == 1 {
				return status.Error(codes.Aborted, "timeout")
			}
			return wrongVersion(s)
		}, stands: &e, want: eventstore.Appended{Position: 9}, asked: 2},
		"another one was first": {answer: func(_ int32, s streams.Streams_AppendServer) error { return wrongVersion(s) }, stands: new(newEvent()), conflict: true, asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			var asked atomic.Int32
			f.append = func(s streams.Streams_AppendServer) error {
				drained(s)
				return c.answer(asked.Add(1), s)
			}
			f.read = func(o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
				switch {
				case o.GetAll() != nil:
					return nil
				case c.stands == nil:
					return notFound(s, "order-1")
				}
				return s.Send(event("order-1", 0, 9, c.stands.ID, c.stands.Type, c.stands.Data))
			}
			got, err := openFake(t, f, 500*time.Millisecond).Append(t.Context(), "order-1", eventstore.NoStream, []eventstore.Event{e})
			var conflict *eventstore.Conflict
			switch {
			case c.conflict:
				if want := (eventstore.Conflict{Stream: "order-1", Expected: eventstore.NoStream}); !errors.As(err, &conflict) || *conflict != want {
					t.Errorf("error %v, want %v", err, &want)
				}
			case c.fails:
				if err == nil || eventstore.IsConflict(err) || eventstore.Unavailable(err) {
					t.Errorf("%+v, error %v; want an unknown outcome", got, err)
				}
			case err != nil || got != c.want:
				t.Errorf("%+v, error %v; want %+v", got, err, c.want)
			}
			if n := asked.Load(); c.asked > 0 && n != c.asked {
				t.Errorf("the server was asked %d times, want %d", n, c.asked)
			}
		})
	}
}

func TestAppendThatMayNotBeRepeated(t *testing.T) {
	f := newFake(t)
	var asked atomic.Int32
	f.append = func(s streams.Streams_AppendServer) error {
		drained(s)
		asked.Add(1)
		return status.Error(codes.Unavailable, "gone")
	}
	s := openFake(t, f, 5*time.Second)
	for i, expected := range []eventstore.Expected{eventstore.Any, eventstore.StreamExists} {
		if _, err := s.Append(t.Context(), "order-1", expected, []eventstore.Event{newEvent()}); err == nil || eventstore.Unavailable(err) {
			t.Errorf("expecting %v: error %v, want an unknown outcome", expected, err)
		}
		if n := asked.Load(); n != int32(i+1) {
			t.Errorf("expecting %v: the server was asked %d times, want %d", expected, n, i+1)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		with metadata.MD
		want error // nil: any
	}{
		"a wrong password": {err: status.Error(codes.Unauthenticated, "no")},
		"no permission":    {err: status.Error(codes.PermissionDenied, "no"), with: metadata.Pairs("exception", "access-denied")},
		"a deleted stream": {err: status.Error(codes.FailedPrecondition, "no"), with: metadata.Pairs("exception", "stream-deleted", "stream-name", "order-1"), want: eventstore.ErrCorrupt},
		"too large":        {err: status.Error(codes.InvalidArgument, "Maximum Append Size of 1 Exceeded."), with: metadata.Pairs("exception", "maximum-append-size-exceeded"), want: eventstore.ErrTooLarge},
		"invalid":          {err: status.Error(codes.InvalidArgument, "no"), want: eventstore.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			var asked atomic.Int32
			f.append = func(s streams.Streams_AppendServer) error {
				drained(s)
				asked.Add(1)
				s.SetTrailer(c.with)
				return c.err
			}
			s := openFake(t, f, time.Minute)
			_, err := s.Append(t.Context(), "order-1", eventstore.NoStream, []eventstore.Event{newEvent()})
			if err == nil || c.want != nil && !errors.Is(err, c.want) || asked.Load() != 1 {
				t.Errorf("error %v after %d attempts, want %v after one", err, asked.Load(), c.want)
			}
			f.read = func(_ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
				s.SetTrailer(c.with)
				return c.err
			}
			if _, err := s.Head(t.Context()); err == nil {
				t.Error("the head was read")
			}
			for _, err := range s.ReadStream(t.Context(), "order-1", 0, eventstore.Forward) {
				if err == nil {
					t.Error("an event was read")
				}
			}
			for _, err := range s.Subscribe(t.Context(), 0, eventstore.Filter{}) {
				if err == nil && name != "a deleted stream" {
					t.Error("an event was read")
				}
				break
			}
		})
	}
}

// A surprise makes the official client panic.
func surprise(s streams.Streams_ReadServer) error {
	return s.Send(&streams.ReadResp{Content: &streams.ReadResp_LastStreamPosition{LastStreamPosition: 7}})
}

func TestPanicsOfTheOfficialClient(t *testing.T) {
	f := newFake(t)
	var asked atomic.Int32
	id := uuid.New()
	f.read = func(o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		if o.GetAll() != nil {
			return nil
		}
		if asked.Add(1) == 1 {
			return surprise(s)
		}
		return s.Send(event("order-1", 0, 9, id, "t.v1", []byte("{}")))
	}
	s := openFake(t, f, 5*time.Second)
	for e, err := range s.ReadStream(t.Context(), "order-1", 0, eventstore.Forward) {
		if err != nil || e.ID != id {
			t.Errorf("event %v, error %v", e.ID, err)
		}
	}
	f.read = func(_ *streams.ReadReq_Options, s streams.Streams_ReadServer) error { return surprise(s) }
	impatient := openFakeImpatient(t, f)
	for _, err := range impatient.ReadStream(t.Context(), "order-1", 0, eventstore.Forward) {
		if err == nil || !strings.Contains(err.Error(), "panicked") {
			t.Errorf("error %v, want one that tells the panic", err)
		}
	}
}

func openFakeImpatient(t *testing.T, f *fake) *esdb.Store {
	t.Helper()
	read := f.read
	f.read = nil
	s := openFake(t, f, 50*time.Millisecond)
	f.read = read
	return s
}

func TestAnotherLedgerAnswers(t *testing.T) {
	first, second := newFake(t), newFake(t)
	empty := startFake(t, &fake{version: "24.6.0"})
	p := faultnet.New(t, "")
	p.Point(first.address)
	s, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: through(p), Patience: 300 * time.Millisecond, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for _, c := range []struct {
		f    *fake
		says string
	}{{empty, "no ledger"}, {second, "and not"}} {
		p.Point(c.f.address)
		p.Cut()
		// What was on its way when the connection broke may have come through.
		for deadline := time.Now().Add(5 * time.Second); ; {
			_, err := s.Head(t.Context())
			if err != nil && strings.Contains(err.Error(), c.says) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("error %v, want one that says %q", err, c.says)
			}
		}
	}
	p.Point(first.address)
	p.Cut()
	if _, err := s.Head(t.Context()); err != nil {
		t.Errorf("error %v, although the ledger is back", err)
	}
}

// A checkpoint is trusted only when the next one has come: the first subscription sends one ahead of an event.
func TestCheckpointsDoNotRunAhead(t *testing.T) {
	f := newFake(t)
	var asked atomic.Int32
	began := make(chan string, 10)
	f.read = func(o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		if o.GetSubscription() == nil {
			return nil
		}
		began <- strconv.FormatUint(o.GetAll().GetPosition().GetCommitPosition(), 10)
		if err := confirm(s); err != nil {
			return err
		}
		send := func(m ...*streams.ReadResp) {
			for _, m := range m {
				_ = s.Send(m)
			}
		}
		one := event("order-1", 0, 10, uuid.New(), "t.v1", []byte("{}"))
		two := event("order-1", 1, 20, uuid.New(), "t.v1", []byte("{}"))
		three := event("order-1", 2, 60, uuid.New(), "t.v1", []byte("{}"))
		switch asked.Add(1) {
		case 1:
			send(one, checkpoint(30)) // 20 has not come
			return status.Error(codes.Unavailable, "gone")
		case 2:
			send(one, two, checkpoint(30), checkpoint(40), checkpoint(50))
			return nil // a subscription does not end like that
		default:
			send(two, three)
			<-s.Context().Done()
			return nil
		}
	}
	s := openFake(t, f, time.Second)
	var got []eventstore.Position
	for e, err := range s.Subscribe(t.Context(), 0, eventstore.Filter{Public: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, e.Position); len(got) == 3 {
			break
		}
	}
	if len(got) != 3 || got[0] != 10 || got[1] != 20 || got[2] != 60 {
		t.Errorf("positions %v, want 10, 20 and 60", got)
	}
	close(began)
	for _, want := range []string{"0", "10", "40"} {
		if from := <-began; from != want {
			t.Errorf("a subscription began after %q, want %q", from, want)
		}
	}
}
