package servicebustest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

// Config configures a Server. The zero value is useful.
type Config struct {
	Addr           string       // where to listen for AMQP; empty: a free port of the loopback
	ControlAddr    string       // where to listen for control over HTTP, see Server.Control; empty: nowhere
	MaxMessageSize int          // of a message or a batch, in bytes; zero: 256 KiB, as the standard tier
	Clock          Clock        // nil: real time
	Logger         *slog.Logger // nil: silence
}

// Server is a Service Bus namespace. All its methods may be called from several goroutines.
type Server struct {
	broker   *broker
	config   Config
	listener net.Listener
	control  *http.Server // nil without control
	url      string       // of the control
	cancel   context.CancelFunc
	running  sync.WaitGroup // the accept loops
	serving  sync.WaitGroup // the enlisted connections

	mu      sync.Mutex // protects what follows
	stopped bool       // connections are refused
	conns   map[net.Conn]struct{}
	links   map[*amqp.Link]string // the entity's path in lower case
}

// TB is what New needs of a test: a *testing.T, B or F has it.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// New starts a Server that is closed when the test ends. A nil config is the zero Config.
func New(t TB, config *Config) *Server {
	t.Helper()
	if config == nil {
		config = &Config{}
	}
	s, err := Start(*config)
	if err != nil {
		t.Fatalf("starting a service bus: %v", err)
		return nil
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Start starts a Server. Close it when done.
func Start(config Config) (*Server, error) {
	if config.Addr == "" {
		config.Addr = "127.0.0.1:0"
	}
	if config.MaxMessageSize == 0 {
		config.MaxMessageSize = 256 << 10
	}
	if config.Clock == nil {
		config.Clock = realClock{}
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		broker: newBroker(config.Clock, config.MaxMessageSize),
		config: config,
		cancel: cancel,
		conns:  make(map[net.Conn]struct{}),
		links:  make(map[*amqp.Link]string),
	}
	var listen net.ListenConfig
	var err error
	if s.listener, err = listen.Listen(ctx, "tcp", config.Addr); err != nil {
		cancel()
		return nil, fmt.Errorf("listening for AMQP: %w", err)
	}
	if config.ControlAddr != "" {
		controlled, err := listen.Listen(ctx, "tcp", config.ControlAddr)
		if err != nil {
			cancel()
			return nil, errors.Join(fmt.Errorf("listening for control: %w", err), s.listener.Close())
		}
		s.url = "http://" + controlled.Addr().String()
		s.control = &http.Server{Handler: s.Control(), ReadHeaderTimeout: 10 * time.Second}
		s.running.Go(func() { _ = s.control.Serve(controlled) })
	}
	s.running.Go(func() { s.accept(ctx) })
	return s, nil
}

// Close ends all connections and forgets everything. It may be called again.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if s.control != nil {
		err = errors.Join(err, s.control.Close())
	}
	s.Stop()
	s.running.Wait()
	s.broker.close()
	return err
}

// Addr is the host and port on which the Server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// ControlURL is where the Server listens for control, empty if it does not.
func (s *Server) ControlURL() string { return s.url }

// ConnectionString is what a client needs to connect.
func (s *Server) ConnectionString() string {
	return "Endpoint=sb://" + s.Addr() + ";SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
}

// accept serves connections until the listener is closed.
func (s *Server) accept(ctx context.Context) {
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.enlist(nc) {
			reset(nc)
			continue
		}
		go func() {
			defer s.delist(nc)
			s.serve(ctx, nc)
		}()
	}
}

// enlist reports whether a connection is welcome. After it has, Stop waits for delist.
func (s *Server) enlist(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.conns[nc] = struct{}{}
	s.serving.Add(1)
	return true
}

func (s *Server) delist(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, nc)
	s.serving.Done()
}

func (s *Server) serve(ctx context.Context, nc net.Conn) {
	p := &peer{
		server:  s,
		replies: make(map[string]*replyLink),
		outlets: make(map[string]*outlet),
	}
	err := amqp.Serve(ctx, nc, amqp.Config{
		ContainerID: "servicebustest",
		IdleTimeout: time.Minute,
		Attach:      p.attach,
	})
	p.outletsDone.Wait()
	s.config.Logger.DebugContext(ctx, "a connection has ended", slog.Any("error", err))
}

// reset closes a connection in a way that the peer cannot take for an orderly end.
func reset(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}

// DropConnections cuts all connections, as a broken network does, and returns how many there were. Locks outside
// sessions stay until they lapse, for their holders come back.
func (s *Server) DropConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nc := range s.conns {
		reset(nc)
	}
	return len(s.conns)
}

// Stop cuts all connections, refuses new ones until Resume, and gives back everything that is locked without counting a
// delivery. Everything enqueued stays.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.DropConnections()
	s.serving.Wait()
	s.broker.releaseLocks()
}

// Resume ends a Stop, on the same port.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = false
}

// Restart stops the Server for a while. It resumes also when ctx is done before.
func (s *Server) Restart(ctx context.Context, down time.Duration) {
	s.Stop()
	defer s.Resume()
	if down <= 0 {
		return
	}
	timer := time.NewTimer(down)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// DetachLinks ends all links to and from an entity with an error, and returns how many there were.
func (s *Server) DetachLinks(entity string, why *Error) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for link, path := range s.links {
		if path == strings.ToLower(entity) {
			link.Detach(wireError(why))
			n++
		}
	}
	return n
}

func (s *Server) enter(link *amqp.Link, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links[link] = strings.ToLower(path)
}

func (s *Server) leave(link *amqp.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, link)
}
