// Package esdbserver speaks the gRPC protocol of EventStoreDB in front of any [eventstore.Store], so that clients of
// EventStoreDB in any language can write and read an embedded ledger, and so that they can be tested without a database.
//
// It serves appends (one by one and batched), reads and catch-up subscriptions of streams and of $all with filters and
// checkpoints, deletes, tombstones and stream metadata. Other services answer "unimplemented": projections, users,
// operations, and of persistent subscriptions all but their creation, with which the vendor's test suites begin. As there
// are no projections, there are no streams of links ($ce-…, $et-…) either; links that a client writes are resolved.
//
// # How it differs from EventStoreDB
//
// What the ledger's contract lacks stands in the ledger itself, in streams beside the others, as in EventStoreDB: $$name
// has the metadata of the stream name ($maxCount, $maxAge and $tb are applied when it is read), a deletion is metadata
// with $tb at the largest number, and a tombstone is the event $streamDeleted in $$name, shown as the last event of name.
// Nothing is ever removed from the ledger, and $all shows all of it.
//
//   - Positions are the ledger's; commit and prepare are always equal.
//   - The limits of the ledger hold: see [eventstore.MaxAppend], [eventstore.MaxStreamName] (two bytes less for a stream
//     with metadata), and an event id may not occur twice in one append.
//   - Append at any revision, or at an existing stream, knows a repetition by the ids of the last [recentIDs] events.
//   - The content type is kept exactly; but as the ledger has no place for it, the metadata of an event whose type cannot
//     be told from its data gets two bytes in front, which other readers of the ledger see.
//   - Access control lists are kept and not enforced: every user may do everything.
//   - A deletion and an append to the same stream exclude each other within one server only. Writers who use the ledger
//     past the server do not see deletions.
package esdbserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	streamsproto "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/orderledger/orderledger/eventstore"
)

// A Config says what a server serves, and where.
type Config struct {
	// Store is the ledger. It stays the caller's to close, after the server.
	Store eventstore.Store
	// Addr is where to listen, such as 127.0.0.1:2113; empty: a free port of 127.0.0.1. Its host is what clients are
	// told to connect to.
	Addr string
	// Followers are more addresses to listen on. There the server presents itself as a follower in a cluster whose leader
	// is at Addr, for tests of clients that look for a leader.
	Followers []string
	// TLS has the server's certificate; nil: connections are not encrypted.
	TLS *tls.Config
	// Users are names with their passwords; empty: everybody may connect. They need TLS, because clients send no
	// credentials without it.
	Users map[string]string

	Now    func() time.Time // the clock that $maxAge is measured by; nil: time.Now
	Logger *slog.Logger     // nil: slog.Default
}

// A Server serves one ledger. Once it is started, its methods are safe for concurrent use.
type Server struct {
	config  Config
	streams *streams
	grpc    *grpc.Server
	id      uuid.UUID // of this run, as a member of a cluster

	listeners []net.Listener // that for Addr first; fixed by Start
	serving   sync.WaitGroup // goroutines that end after the server of gRPC

	closing context.Context //nolint:containedctx // the life of the server, which ends subscriptions
	close   context.CancelFunc
	once    sync.Once
}

const (
	maxReceive = 16 << 20 // bytes of one message; EventStoreDB's own limit
	// minPing is the shortest time between two pings of a client. The official ones ping each 10 s, also without a call.
	minPing = 5 * time.Second
	// ping is after how long without a sign of life, and then again how long without an answer, a client is given up.
	ping = 10 * time.Second
	// grace is how long Close waits for calls that are under way.
	grace = 2 * time.Second
)

// New returns a server that does not yet listen.
func New(c Config) (*Server, error) {
	if c.Store == nil {
		return nil, errors.New("a server needs a ledger")
	}
	if len(c.Users) > 0 && c.TLS == nil {
		return nil, errors.New("users need TLS: clients send no credentials over an open connection")
	}
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Server{config: c, streams: newStreams(c.Store, c.Now), id: uuid.New()}
	s.closing, s.close = context.WithCancel(context.Background())

	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxReceive),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: ping, Timeout: ping}),
	}
	if c.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(c.TLS)))
	}
	if len(c.Users) > 0 {
		u := newUsers(c.Users)
		options = append(options, grpc.UnaryInterceptor(u.unary), grpc.StreamInterceptor(u.stream))
	}
	s.grpc = grpc.NewServer(options...)
	streamsproto.RegisterStreamsServer(s.grpc, &streamsService{server: s, streams: s.streams})
	serverfeatures.RegisterServerFeaturesServer(s.grpc, features{})
	gossip.RegisterGossipServer(s.grpc, &gossipService{server: s})
	persistent.RegisterPersistentSubscriptionsServer(s.grpc, &persistentService{server: s, groups: make(map[group]struct{})})
	return s, nil
}

// Start listens, and serves until Close; ctx bounds the start alone. It may be called once. Users are entered in the
// stream $users, where clients look for them, without their passwords.
func (s *Server) Start(ctx context.Context) error {
	if err := s.enterUsers(ctx); err != nil {
		return fmt.Errorf("entering the users: %w", err)
	}
	var listen net.ListenConfig
	for _, addr := range append([]string{s.config.Addr}, s.config.Followers...) {
		l, err := listen.Listen(ctx, "tcp", addr)
		if err != nil {
			for _, l := range s.listeners {
				err = errors.Join(err, l.Close())
			}
			return fmt.Errorf("serving EventStoreDB's protocol: %w", err)
		}
		s.listeners = append(s.listeners, l)
	}
	for _, l := range s.listeners {
		s.serving.Go(func() {
			if err := s.grpc.Serve(l); err != nil && s.closing.Err() == nil {
				s.config.Logger.Error("the server of EventStoreDB's protocol has ended", slog.String("address", l.Addr().String()), slog.Any("error", err))
			}
		})
	}
	return nil
}

// Addr is where the server listens, with the port that it was given. It is empty before Start.
func (s *Server) Addr() string {
	if len(s.listeners) == 0 {
		return ""
	}
	return s.endpoint(0)
}

// endpoint is what clients are told to connect to for the nth address.
func (s *Server) endpoint(n int) string {
	configured := append([]string{s.config.Addr}, s.config.Followers...)[n]
	actual := s.listeners[n].Addr().String()
	host, _, err := net.SplitHostPort(configured)
	if err != nil || host == "" {
		return actual
	}
	return net.JoinHostPort(host, strconv.Itoa(port(s.listeners[n].Addr())))
}

// port is the port of a TCP address; 0 for other ones.
func port(a net.Addr) int {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.Port
	}
	return 0
}

// ConnectionString is how the official clients connect to the server, without credentials. It is valid after Start.
func (s *Server) ConnectionString() string {
	if s.config.TLS == nil {
		return "esdb://" + s.Addr() + "?tls=false"
	}
	return "esdb://" + s.Addr()
}

// Close ends subscriptions, waits a moment for calls under way, and stops listening. The ledger stays open. It may be
// called twice.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.close()
		stop := time.AfterFunc(grace, s.grpc.Stop)
		s.grpc.GracefulStop()
		stop.Stop()
		s.serving.Wait()
	})
	return nil
}
