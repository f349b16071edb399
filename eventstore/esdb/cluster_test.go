package esdb_test

import (
	"crypto/tls"
	"encoding/pem"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb"
	"github.com/orderledger/orderledger/eventstore/esdb/esdbserver"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// A follower in a cluster says who the leader is, and is asked for nothing else.
func TestTheLeaderIsAsked(t *testing.T) {
	leader := newFake(t)
	host, port, _ := strings.Cut(leader.address, ":")
	var refused, wrote, unasked atomic.Int32
	follower := startFake(t, &fake{version: leader.version, ledger: func(s streams.Streams_ReadServer) error {
		if in, _ := metadata.FromIncomingContext(s.Context()); len(in.Get("requires-leader")) == 0 {
			unasked.Add(1)
		}
		refused.Add(1)
		s.SetTrailer(metadata.Pairs("exception", "not-leader", "leader-endpoint-host", host, "leader-endpoint-port", port))
		return status.Error(codes.NotFound, "leader info available")
	}})
	e := newEvent()
	leader.append = func(s streams.Streams_AppendServer) error {
		drained(s)
		wrote.Add(1)
		return written(s, 0, 9)
	}
	leader.read = func(_ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		return s.Send(event("order-1", 0, 9, e.ID, e.Type, e.Data))
	}
	a, err := openFake(t, follower, 5*time.Second).Append(t.Context(), "order-1", eventstore.NoStream, []eventstore.Event{e})
	if err != nil || a.Position != 9 || refused.Load() != 1 || wrote.Load() != 1 || unasked.Load() != 0 {
		t.Errorf("%+v, error %v; the follower was asked %d times (%d without asking for the leader), the leader %d times", a, err, refused.Load(), unasked.Load(), wrote.Load())
	}
}

func TestEncryptionAndPasswords(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certified.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	ledger, err := pebblestore.Open("tls", &pebblestore.Config{FS: vfs.NewMem(), Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	server, err := esdbserver.New(esdbserver.Config{
		Store: ledger, Logger: silent(), Users: map[string]string{"admin": "changeit"},
		TLS: &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &served{ledger, server}
	defer func() { _ = s.Close() }()

	trusted := "?tlsCaFile=" + url.QueryEscape(ca)
	right := open(t, "esdb://admin:changeit@"+server.Addr()+trusted)
	if _, err := right.Append(t.Context(), "order-1", eventstore.NoStream, []eventstore.Event{newEvent()}); err != nil {
		t.Error(err)
	}
	seeds := open(t, "esdb://admin:changeit@"+server.Addr()+","+server.Addr()+trusted)
	first, err := right.Head(t.Context())
	if err != nil {
		t.Error(err)
	}
	if second, err := seeds.Head(t.Context()); err != nil || second != first {
		t.Errorf("found by gossip: %+v, error %v; want %+v", second, err, first)
	}
	for _, s := range []*esdb.Store{right, seeds} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, connection := range map[string]string{
		"a wrong password":   "esdb://admin:guessed@" + server.Addr() + trusted,
		"no password":        "esdb://" + server.Addr() + trusted,
		"an unknown issuer":  "esdb://admin:changeit@" + server.Addr(),
		"no encryption":      "esdb://admin:changeit@" + server.Addr() + "?tls=false",
		"nobody listens":     "esdb://admin:changeit@127.0.0.1:1" + trusted,
		"no seed is running": "esdb://127.0.0.1:1,127.0.0.1:2" + trusted,
	} {
		_, err := esdb.Open(t.Context(), esdb.Config{ConnectionString: connection, Patience: 50 * time.Millisecond, Logger: silent()})
		if err == nil || strings.Contains(err.Error(), "changeit") || strings.Contains(err.Error(), "guessed") {
			t.Errorf("%s: error %v, want one without a password", name, err)
		}
	}
}
