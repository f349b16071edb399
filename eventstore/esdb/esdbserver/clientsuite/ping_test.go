package clientsuite

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/net/http2"

	"github.com/orderledger/orderledger/eventstore/esdb/esdbserver"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// TestPingsAreNoAttack pings, without a call, a little more often than the official clients do: by default, a server of
// gRPC sends such a client away.
func TestPingsAreNoAttack(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	store, err := pebblestore.Open("ledger", &pebblestore.Config{FS: vfs.NewMem(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	server, err := esdbserver.New(esdbserver.Config{Store: store, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	pongs := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- listen(framer, pongs) }()
	for n := range 5 {
		if err := framer.WritePing(false, [8]byte{byte(n)}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-pongs:
		case err := <-ended:
			t.Fatalf("after %d pings: %v", n, err)
		case <-time.After(5 * time.Second):
			t.Fatalf("ping %d is not answered", n)
		}
		<-time.After(6 * time.Second)
	}
	for _, close := range []func() error{conn.Close, server.Close, store.Close} {
		if err := close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err == nil {
		t.Error("the connection has not ended")
	}
}

// listen tells of answers to pings, until the connection ends or the server says that it will.
func listen(framer *http2.Framer, pongs chan<- struct{}) error {
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.PingFrame:
			if f.IsAck() {
				pongs <- struct{}{}
			}
		case *http2.GoAwayFrame:
			return errors.New(fmt.Sprint("the server says goodbye: ", f.ErrCode, " ", string(f.DebugData())))
		}
	}
}
