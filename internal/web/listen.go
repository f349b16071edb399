package web

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of a connection. A handler that needs longer says so with [Linger].
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
)

// HTTPServer returns a server for a [Server] that bounds headers and times, and drains it when it is shut down. The
// caller may set BaseContext and serves on a listener from [Listen].
func HTTPServer(s *Server) *http.Server {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // mostly clients that hang up
	}
	server.RegisterOnShutdown(s.Drain)
	return server
}

// Listen opens a TCP port on an address such as "127.0.0.1:8080" or "localhost:0". Without authentication it refuses one
// that is not loopback, because whoever can connect can do everything.
func Listen(addr string, authenticated bool) (net.Listener, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: %w", addr, err)
	}
	if !authenticated && !tcp.IP.IsLoopback() {
		return nil, fmt.Errorf("listening on %q: without tokens only a loopback address such as 127.0.0.1:8080 is served", addr)
	}
	l, err := net.ListenTCP("tcp", tcp)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: %w", addr, err)
	}
	return l, nil
}
