package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/internal/web"
)

// A wire is a connection to a server, used by one client. It costs less than that of net/http, which would be measured
// with the server.
type wire struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
	body    []byte // of the last answer
}

// wires returns as many connections as there are clients.
func wires(address string, clients int) []wire {
	w := make([]wire, clients)
	for i := range w {
		w[i].address = address
	}
	return w
}

func closeWires(all []wire) error {
	var errs []error
	for i := range all {
		if all[i].conn != nil {
			errs = append(errs, all[i].conn.Close())
		}
	}
	return errors.Join(errs...)
}

// exchange sends a request and reads its answer, which must have the status.
func (w *wire) exchange(ctx context.Context, request []byte, status int) ([]byte, error) {
	if w.conn == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", w.address)
		if err != nil {
			return nil, err
		}
		w.conn, w.reader = conn, bufio.NewReader(conn)
	}
	if err := w.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return nil, err
	}
	if _, err := w.conn.Write(request); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(w.reader, nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if size := int(response.ContentLength); size >= 0 && size <= cap(w.body) {
		w.body = w.body[:size]
		_, err = io.ReadFull(response.Body, w.body)
	} else {
		w.body, err = io.ReadAll(response.Body)
	}
	if err == nil && response.StatusCode != status {
		err = fmt.Errorf("the server answered %d: %.200s", response.StatusCode, w.body)
	}
	return w.body, err
}

// serveBench serves a handler on a port of its own. stop ends that.
func serveBench(handler http.Handler) (address string, stop func() error, err error) {
	listener, err := web.Listen("127.0.0.1:0", false)
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: requestTimeout}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return listener.Addr().String(), func() error {
		err := server.Close()
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}

// A benchNode is a node in this process, at work.
type benchNode struct {
	*node
	address string // where it serves HTTP
	stop    func() error
}

// startNode opens a node in a directory and runs it, the whole of it or only what takes commands. It limits nobody's
// rate. The context that it returns ends with ctx or when the node stops by itself, whose reason end then tells: who
// waits for the node waits under it.
func (b *benchmark) startNode(ctx context.Context, dir string, whole bool) (*benchNode, context.Context, error) {
	n, err := openNode(ctx, nodeConfig{globals: globals{Data: dir}, Rules: rules.Minimal(), Log: b.log, Rate: -1})
	if err != nil {
		return nil, nil, err
	}
	started := &benchNode{node: n}
	if !whole {
		if started.address, started.stop, err = serveBench(n.web); err != nil {
			return nil, nil, errors.Join(err, n.close())
		}
		return started, ctx, nil
	}
	listener, err := web.Listen("127.0.0.1:0", false)
	if err != nil {
		return nil, nil, errors.Join(err, n.close())
	}
	started.address = listener.Addr().String()
	alive, cancel := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() {
		defer cancel()
		stopped <- n.run(alive, listener)
	}()
	started.stop = func() error {
		cancel()
		return <-stopped
	}
	return started, alive, nil
}

// quiet returns when the read models show everything and the bus has brought what it has to bring.
func (n *benchNode) quiet(ctx context.Context) error {
	if err := n.settle(ctx); err != nil {
		return err
	}
	return relayedAll(ctx, n.ledger, n.relay)
}

// end stops the node and closes it.
func (n *benchNode) end() error { return errors.Join(n.stop(), n.close()) }

// emptyKeys lets a ledger that was filled without its server have keys: none of its orders has personal data.
func emptyKeys(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "keys"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}
