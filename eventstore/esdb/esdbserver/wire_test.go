package esdbserver_test

import (
	"context"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/esdb/esdbserver"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
)

func id(stream string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(stream)}
}

// trailers are the values by which clients tell what has happened.
func trailers(md metadata.MD, keys ...string) (values []string) {
	for _, key := range keys {
		values = append(values, append(md.Get(key), "")[0])
	}
	return values
}

func TestTrailersSayWhatHasHappened(t *testing.T) {
	t.Parallel()
	d := open(t)
	client := streams.NewStreamsClient(dial(t, d.server))
	d.append("größe", esdb.NoStream{}, newEvents(3)...)
	at := func(n uint64) *streams.DeleteReq {
		return &streams.DeleteReq{Options: &streams.DeleteReq_Options{
			StreamIdentifier: id("größe"), ExpectedStreamRevision: &streams.DeleteReq_Options_Revision{Revision: n},
		}}
	}
	var md metadata.MD
	check := func(what string, err error, code codes.Code, want ...string) {
		t.Helper()
		if status.Code(err) != code {
			t.Errorf("%s: %v, want %v", what, err, code)
		}
		for i := 0; i < len(want); i += 2 {
			if got := trailers(md, want[i])[0]; got != want[i+1] {
				t.Errorf("%s: trailer %s is %q, want %q", what, want[i], got, want[i+1])
			}
		}
	}
	_, err := client.Delete(d.ctx, at(7), grpc.Trailer(&md))
	check("a conflict", err, codes.FailedPrecondition, "exception", "wrong-expected-version",
		"stream-name", "gr%C3%B6%C3%9Fe", "expected-version", "7", "actual-version", "2")
	_, err = client.Delete(d.ctx, at(math.MaxUint64), grpc.Trailer(&md))
	check("no revision", err, codes.InvalidArgument, "exception", "")
	_, err = client.Delete(d.ctx, &streams.DeleteReq{Options: &streams.DeleteReq_Options{StreamIdentifier: id("s")}}, grpc.Trailer(&md))
	check("no expectation", err, codes.InvalidArgument)
	_, err = client.Delete(d.ctx, &streams.DeleteReq{}, grpc.Trailer(&md))
	check("no options", err, codes.InvalidArgument)
	if _, err := d.TombstoneStream(d.ctx, "größe", esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = client.Delete(d.ctx, at(2), grpc.Trailer(&md))
	check("deleted", err, codes.FailedPrecondition, "exception", "stream-deleted", "stream-name", "gr%C3%B6%C3%9Fe")

	options := &streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
		StreamIdentifier: id("s"), ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}},
	}}}
	message := func(id string, metadata map[string]string) *streams.AppendReq {
		return &streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
			Id: &shared.UUID{Value: &shared.UUID_String_{String_: id}}, Metadata: metadata,
		}}}
	}
	send := func(reqs ...*streams.AppendReq) error {
		t.Helper()
		call, err := client.Append(d.ctx, grpc.Trailer(&md))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reqs {
			if err := call.Send(r); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		_, err = call.CloseAndRecv()
		return err
	}
	const some = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	both := map[string]string{"type": "t", "content-type": "application/json"}
	check("no content type", send(options, message(some, map[string]string{"type": "t"})), codes.InvalidArgument,
		"exception", "missing-required-metadata-property", "required-metadata-properties", "type,content-type")
	check("options twice", send(options, options), codes.InvalidArgument)
	check("no options", send(message(some, both)), codes.InvalidArgument)
	check("a bad id", send(options, message("nonsense", both)), codes.InvalidArgument)
	check("no id", send(options, message("", both)), codes.InvalidArgument)
	check("a name not in UTF-8", send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
		StreamIdentifier: id("\xff"), ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}},
	}}}), codes.InvalidArgument)
	big := message(some, both)
	big.GetProposedMessage().Data = make([]byte, eventstore.MaxAppend)
	check("too large", send(options, big), codes.InvalidArgument, "exception", "maximum-append-size-exceeded", "maximum-append-size", "1048576")
	check("as it should be", send(options, message(some, both)), codes.OK)
}

// read sends a request to read and returns the first answer.
func (d *db) ask(o *streams.ReadReq_Options) (*streams.ReadResp, error) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	call, err := streams.NewStreamsClient(dial(d.t, d.server)).Read(ctx, &streams.ReadReq{Options: o})
	if err != nil {
		d.t.Fatal(err)
	}
	return call.Recv()
}

func TestReadTakesWhatClientsSend(t *testing.T) {
	t.Parallel()
	d := open(t)
	events := newEvents(1)
	d.append("s", esdb.NoStream{}, events...)
	resp, err := d.ask(&streams.ReadReq_Options{
		StreamOption: &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{StreamIdentifier: id("s")}},
		CountOption:  &streams.ReadReq_Options_Count{Count: 1},
		UuidOption:   &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_String_{String_: &shared.Empty{}}},
	})
	if err != nil || resp.GetEvent().GetEvent().GetId().GetString_() != events[0].EventID.String() {
		t.Errorf("an id as text: %v, error %v", resp, err)
	}
	all := &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{}}
	subscribe := &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
	for name, o := range map[string]*streams.ReadReq_Options{
		"nothing":                 nil,
		"a backward subscription": {StreamOption: all, CountOption: subscribe, ReadDirection: streams.ReadReq_Options_Backwards},
		"no interval":             {StreamOption: all, CountOption: subscribe, FilterOption: &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{}}},
		"prefixes and expressions": {StreamOption: all, CountOption: subscribe, FilterOption: &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
			Filter: &streams.ReadReq_Options_FilterOptions_EventType{EventType: &streams.ReadReq_Options_FilterOptions_Expression{Regex: "x", Prefix: []string{"y"}}},
		}}},
		"a negative revision": {CountOption: subscribe, StreamOption: &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
			StreamIdentifier: id("s"), RevisionOption: &streams.ReadReq_Options_StreamOptions_Revision{Revision: math.MaxUint64},
		}}},
	} {
		resp, err := d.ask(o)
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, error %v", name, resp, err)
		}
	}
	filtered, err := d.ask(&streams.ReadReq_Options{
		StreamOption: all, CountOption: &streams.ReadReq_Options_Count{Count: 1},
		FilterOption: &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
			Filter: &streams.ReadReq_Options_FilterOptions_EventType{EventType: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: []string{"none"}}},
		}},
	})
	if !errors.Is(err, io.EOF) {
		t.Errorf("a read that the filter leaves nothing of: %v, error %v", filtered, err)
	}
}

func TestCreateTakesWhatClientsSend(t *testing.T) {
	t.Parallel()
	server := start(t, esdbserver.Config{})
	client := persistent.NewPersistentSubscriptionsClient(dial(t, server))
	for name, c := range map[string]struct {
		o    *persistent.CreateReq_Options
		want codes.Code
	}{
		"nothing":             {nil, codes.InvalidArgument},
		"no group":            {&persistent.CreateReq_Options{StreamOption: &persistent.CreateReq_Options_Stream{Stream: &persistent.CreateReq_StreamOptions{StreamIdentifier: id("s")}}}, codes.InvalidArgument},
		"of an older client":  {&persistent.CreateReq_Options{StreamIdentifier: id("s"), GroupName: "g"}, codes.OK}, //nolint:staticcheck // that is the point
		"to $all":             {&persistent.CreateReq_Options{StreamOption: &persistent.CreateReq_Options_All{All: &persistent.CreateReq_AllOptions{}}}, codes.Unimplemented},
		"of a current client": {&persistent.CreateReq_Options{StreamOption: &persistent.CreateReq_Options_Stream{Stream: &persistent.CreateReq_StreamOptions{StreamIdentifier: id("s")}}, GroupName: "h"}, codes.OK},
	} {
		if _, err := client.Create(t.Context(), &persistent.CreateReq{Options: c.o}); status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestALedgerThatIsOnlyReadRefusesWrites(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	config := &pebblestore.Config{FS: fs, Logger: discard}
	store, err := pebblestore.Open("ledger", config)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	config.ReadOnly = true
	if store, err = pebblestore.Open("ledger", config); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	server := start(t, esdbserver.Config{Store: store})
	client := connect(t, server.ConnectionString())
	if _, err := client.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{}, newEvent("t")); code(err) != "denied" {
		t.Errorf("append: %v", err)
	}
	if _, err := client.TombstoneStream(t.Context(), "s", esdb.TombstoneStreamOptions{}); code(err) != "denied" {
		t.Errorf("tombstone: %v", err)
	}
	d := &db{Client: client, t: t, ctx: t.Context(), store: store, server: server}
	call := d.batch()
	send(t, call, &streams.BatchAppendReq{CorrelationId: textID(), Options: named("s"), ProposedMessages: proposed(1), IsFinal: true})
	if resp := receive(t, call); codes.Code(resp.GetError().GetCode()) != codes.PermissionDenied {
		t.Errorf("batch: %v", resp)
	}
	stop(t, server)
}
