package esdbserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb/esdbserver"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

// A db is a server with a ledger in memory, and the official client.
type db struct {
	*esdb.Client
	t      *testing.T
	ctx    context.Context //nolint:containedctx // bounds every call of the test
	store  eventstore.Store
	server *esdbserver.Server
}

var discard = slog.New(slog.DiscardHandler)

func newStore(t *testing.T, now func() time.Time) eventstore.Store {
	t.Helper()
	store, err := pebblestore.Open("ledger", &pebblestore.Config{FS: vfs.NewMem(), Logger: discard, SegmentSize: 4 << 20, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func start(t *testing.T, c esdbserver.Config) *esdbserver.Server {
	t.Helper()
	if c.Store == nil {
		c.Store = newStore(t, c.Now)
	}
	c.Logger = discard
	server, err := esdbserver.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, server) })
	return server
}

func stop(t *testing.T, server *esdbserver.Server) {
	t.Helper()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

func connect(t *testing.T, connection string) *esdb.Client {
	t.Helper()
	config, err := esdb.ParseConnectionString(connection)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // it may be closed already
	return client
}

func open(t *testing.T) *db {
	t.Helper()
	store := newStore(t, nil)
	server := start(t, esdbserver.Config{Store: store})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return &db{Client: connect(t, server.ConnectionString()), t: t, ctx: ctx, store: store, server: server}
}

func newEvent(typ string) esdb.EventData {
	return esdb.EventData{EventID: uuid.New(), EventType: typ, ContentType: esdb.ContentTypeJson, Data: []byte(`{"a":1}`)}
}

func newEvents(n int) []esdb.EventData {
	events := make([]esdb.EventData, n)
	for i := range events {
		events[i] = newEvent(fmt.Sprintf("t%d", i))
	}
	return events
}

func (d *db) append(stream string, expected esdb.ExpectedRevision, events ...esdb.EventData) *esdb.WriteResult {
	d.t.Helper()
	w, err := d.AppendToStream(d.ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, events...)
	if err != nil {
		d.t.Fatalf("append to %s: %v", stream, err)
	}
	return w
}

func drain(stream *esdb.ReadStream, err error) ([]*esdb.ResolvedEvent, error) {
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var events []*esdb.ResolvedEvent
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
}

// read returns what a stream shows, as revision:type.
func (d *db) read(stream string, o esdb.ReadStreamOptions, n uint64) string {
	d.t.Helper()
	events, err := drain(d.ReadStream(d.ctx, stream, o, n))
	if err != nil {
		return "error " + code(err)
	}
	return text(events)
}

func text(events []*esdb.ResolvedEvent) string {
	var s []string
	for _, e := range events {
		s = append(s, fmt.Sprintf("%d:%s", e.OriginalEvent().EventNumber, e.OriginalEvent().EventType))
	}
	return strings.Join(s, " ")
}

var codeNames = map[esdb.ErrorCode]string{
	esdb.ErrorCodeUnknown: "unknown", esdb.ErrorCodeUnsupportedFeature: "unsupported", esdb.ErrorCodeDeadlineExceeded: "deadline",
	esdb.ErrorCodeUnauthenticated: "unauthenticated", esdb.ErrorCodeResourceNotFound: "not found", esdb.ErrorCodeResourceAlreadyExists: "exists",
	esdb.ErrorCodeConnectionClosed: "closed", esdb.ErrorCodeWrongExpectedVersion: "conflict", esdb.ErrorCodeAccessDenied: "denied",
	esdb.ErrorCodeStreamDeleted: "deleted", esdb.ErrorCodeParsing: "parsing", esdb.ErrorCodeNotLeader: "not leader", esdb.ErrorUnavailable: "unavailable",
}

func code(err error) string {
	var e *esdb.Error
	switch {
	case errors.As(err, &e):
		return codeNames[e.Code()]
	case err != nil:
		return err.Error()
	}
	return "none"
}

// authority makes a certificate for 127.0.0.1, and the file by which clients know it.
func authority(t *testing.T) (config *tls.Config, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, file
}

func TestUsersNeedTheirPasswords(t *testing.T) {
	t.Parallel()
	config, ca := authority(t)
	store := newStore(t, nil)
	server := start(t, esdbserver.Config{Store: store, TLS: config, Users: map[string]string{"admin": "changeit", "ops": ""}})
	for who, want := range map[string]string{
		"admin:changeit@": "none", "ops:x@": "unauthenticated", "admin:wrong@": "unauthenticated", "nobody:changeit@": "unauthenticated", "": "unauthenticated",
	} {
		client := connect(t, fmt.Sprintf("esdb://%s%s?tlsCaFile=%s", who, server.Addr(), ca))
		_, err := client.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{}, newEvent("t"))
		if got := code(err); got != want {
			t.Errorf("%q appends: %s, want %s", who, got, want)
		}
		events, err := drain(client.ReadStream(t.Context(), "$users", esdb.ReadStreamOptions{}, 10))
		if got := code(err); got != want || err == nil && len(events) != 2 {
			t.Errorf("%q reads: %s, %d events, want %s", who, got, len(events), want)
		}
		_, err = client.TombstoneStream(t.Context(), uuid.NewString(), esdb.TombstoneStreamOptions{})
		if got := code(err); got != want {
			t.Errorf("%q deletes: %s, want %s", who, got, want)
		}
	}
	client := connect(t, fmt.Sprintf("esdb://%s?tlsCaFile=%s", server.Addr(), ca))
	_, err := client.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{Authenticated: &esdb.Credentials{Login: "admin", Password: "changeit"}}, newEvent("t"))
	if err != nil {
		t.Errorf("credentials of the call alone: %v", err)
	}

	stop(t, server)
	again := start(t, esdbserver.Config{Store: store, TLS: config, Users: map[string]string{"admin": "other", "new": "n"}})
	client = connect(t, fmt.Sprintf("esdb://new:n@%s?tlsCaFile=%s", again.Addr(), ca))
	users, err := drain(client.ReadStream(t.Context(), "$users", esdb.ReadStreamOptions{}, 10))
	if err != nil || len(users) != 3 || string(users[2].Event.Data) != "new" {
		t.Errorf("after a restart with another user: %d users, error %v", len(users), err)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	if _, err := esdbserver.New(esdbserver.Config{}); err == nil {
		t.Error("a server without a ledger was made")
	}
	store := newStore(t, nil)
	if _, err := esdbserver.New(esdbserver.Config{Store: store, Users: map[string]string{"a": "b"}}); err == nil {
		t.Error("a server with users and without TLS was made")
	}
	first := start(t, esdbserver.Config{Store: store})
	second, err := esdbserver.New(esdbserver.Config{Store: store, Followers: []string{first.Addr()}, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	if second.Addr() != "" {
		t.Errorf("Addr before Start: %q", second.Addr())
	}
	if err := second.Start(t.Context()); err == nil {
		t.Error("two servers listen on one address")
	}
	stop(t, second)
	stop(t, second)
}

func TestClientsOfAClusterFindTheLeader(t *testing.T) {
	t.Parallel()
	server := start(t, esdbserver.Config{Addr: "localhost:0", Followers: []string{"localhost:0", "localhost:0"}})
	if host, _, _ := net.SplitHostPort(server.Addr()); host != "localhost" {
		t.Errorf("clients are told to connect to %q", server.Addr())
	}
	info, err := gossip.NewGossipClient(dial(t, server)).Read(t.Context(), &shared.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, m := range info.GetMembers() {
		states = append(states, m.GetState().String())
	}
	if !slices.Equal(states, []string{"Leader", "Follower", "Follower"}) {
		t.Errorf("the members are %v", states)
	}
	client := connect(t, fmt.Sprintf("esdb://%s,%s?tls=false&nodePreference=follower", server.Addr(), server.Addr()))
	create := func() error {
		return client.CreatePersistentSubscription(t.Context(), "s", "g", esdb.PersistentStreamSubscriptionOptions{})
	}
	for _, want := range []string{"not leader", "none", "exists"} {
		if got := code(create()); got != want {
			t.Errorf("creating a persistent subscription: %s, want %s", got, want)
		}
	}
	if _, err := client.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{}, newEvent("t")); err != nil {
		t.Error(err)
	}
	version, err := client.GetServerVersion()
	if err != nil || version.Major != 24 {
		t.Errorf("version %+v, error %v", version, err)
	}
}

func TestWhatIsLeftOutSaysSo(t *testing.T) {
	t.Parallel()
	d := open(t)
	if err := d.CreatePersistentSubscription(d.ctx, "s", "g", esdb.PersistentStreamSubscriptionOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := d.SubscribeToPersistentSubscription(d.ctx, "s", "g", esdb.SubscribeToPersistentSubscriptionOptions{}); code(err) != "unsupported" {
		t.Errorf("subscribing to a group: %v", err)
	}
	if err := d.DeletePersistentSubscription(d.ctx, "s", "g", esdb.DeletePersistentSubscriptionOptions{}); code(err) != "unsupported" {
		t.Errorf("deleting a group: %v", err)
	}
	if err := d.CreatePersistentSubscriptionToAll(d.ctx, "g", esdb.PersistentAllSubscriptionOptions{}); code(err) != "unsupported" {
		t.Errorf("a group to $all: %v", err)
	}
	projections := esdb.NewProjectionClientFromExistingClient(d.Client)
	if err := projections.Create(d.ctx, "p", "q", esdb.CreateProjectionOptions{}); status.Code(err) != grpccodes.Unimplemented {
		t.Errorf("creating a projection: %v", err)
	}
}

func TestARestartedServerGoesOn(t *testing.T) {
	t.Parallel()
	d := open(t)
	first := newEvents(2)
	d.append("s", esdb.NoStream{}, first...)
	addr := d.server.Addr()
	subscription, err := d.SubscribeToStream(d.ctx, "s", esdb.SubscribeToStreamOptions{From: esdb.End{}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stop(t, d.server)
	if took := time.Since(began); took > time.Second {
		t.Errorf("with a subscription, closing took %v", took)
	}
	e := subscription.Recv()
	for ; e.SubscriptionDropped == nil; e = subscription.Recv() {
	}
	if err := e.SubscriptionDropped.Error; status.Code(err) != grpccodes.Unavailable {
		t.Errorf("the subscription was dropped: %v", err)
	}
	server := start(t, esdbserver.Config{Store: d.store, Addr: addr})
	d.Client = connect(t, server.ConnectionString())
	if w := d.append("s", esdb.NoStream{}, first...); w.NextExpectedVersion != 1 {
		t.Errorf("a repeated append: %+v", w)
	}
	d.append("s", esdb.Revision(1), newEvent("t2"))
	if got := d.read("s", esdb.ReadStreamOptions{}, 10); got != "0:t0 1:t1 2:t2" {
		t.Errorf("after a restart: %s", got)
	}
}

func TestAClosedLedgerIsUnavailable(t *testing.T) {
	t.Parallel()
	d := open(t)
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AppendToStream(d.ctx, "s", esdb.AppendToStreamOptions{}, newEvent("t")); code(err) != "unavailable" {
		t.Errorf("append: %v", err)
	}
	if got := d.read("s", esdb.ReadStreamOptions{}, 1); got != "error unavailable" {
		t.Errorf("read: %s", got)
	}
}

// dial connects without the official client.
func dial(t *testing.T, server *esdbserver.Server) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
