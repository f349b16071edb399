package esdbserver_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orderledger/orderledger/eventstore"
)

func textID() *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_String_{String_: uuid.NewString()}}
}

func proposed(n int) []*streams.BatchAppendReq_ProposedMessage {
	events := make([]*streams.BatchAppendReq_ProposedMessage, n)
	for i := range events {
		events[i] = &streams.BatchAppendReq_ProposedMessage{
			Id: textID(), Data: []byte(`{}`), Metadata: map[string]string{"type": fmt.Sprintf("t%d", i), "content-type": "application/json"},
		}
	}
	return events
}

func named(stream string) *streams.BatchAppendReq_Options {
	return &streams.BatchAppendReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte(stream)},
		ExpectedStreamPosition: &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}},
	}
}

func (d *db) batch() streams.Streams_BatchAppendClient {
	d.t.Helper()
	call, err := streams.NewStreamsClient(dial(d.t, d.server)).BatchAppend(d.ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	return call
}

func send(t *testing.T, call streams.Streams_BatchAppendClient, req *streams.BatchAppendReq) {
	t.Helper()
	if err := call.Send(req); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, call streams.Streams_BatchAppendClient) *streams.BatchAppendResp {
	t.Helper()
	resp, err := call.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestBatchAppendKeepsTheOrderOfAStream(t *testing.T) {
	t.Parallel()
	d := open(t)
	call := d.batch()
	const n, length = 16, 20 // more than may be incomplete at a time
	for i := range length {
		for s := range n {
			o := named(fmt.Sprintf("s%d", s))
			if i > 0 {
				o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: uint64(2*i - 1)}
			}
			o.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(time.Minute)}
			id := textID()
			send(t, call, &streams.BatchAppendReq{CorrelationId: id, Options: o, ProposedMessages: proposed(1)})
			send(t, call, &streams.BatchAppendReq{CorrelationId: id, ProposedMessages: proposed(1), IsFinal: true})
		}
	}
	if err := call.CloseSend(); err != nil {
		t.Fatal(err)
	}
	last := make(map[string]uint64)
	for range n * length {
		resp := receive(t, call)
		stream := string(resp.GetStreamIdentifier().GetStreamName())
		if resp.GetError() != nil || resp.GetSuccess().GetPosition().GetCommitPosition() == 0 {
			t.Fatalf("%s: %v", stream, resp)
		}
		last[stream] = resp.GetSuccess().GetCurrentRevision()
	}
	if _, err := call.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v", err)
	}
	for s := range n {
		if got := last[fmt.Sprintf("s%d", s)]; got != 2*length-1 {
			t.Errorf("stream s%d ends at %d", s, got)
		}
	}
}

func TestBatchAppendTellsErrorsInItsAnswers(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.append("s", esdb.NoStream{}, newEvents(3)...)
	d.append("gone", esdb.NoStream{}, newEvent("t"))
	if _, err := d.TombstoneStream(d.ctx, "gone", esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	exists := named("missing")
	exists.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamExists{StreamExists: &emptypb.Empty{}}
	at := named("s")
	at.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: 7}
	anything := named("s")
	anything.ExpectedStreamPosition = &streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}}
	undecided := named("s")
	undecided.ExpectedStreamPosition = nil
	late := named("late")
	late.DeadlineOption = &streams.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(time.Unix(0, 0))}
	big := proposed(1)
	big[0].Data = make([]byte, eventstore.MaxAppend+1)
	untyped := proposed(1)
	delete(untyped[0].Metadata, "type")

	call := d.batch()
	for name, c := range map[string]struct {
		options *streams.BatchAppendReq_Options
		events  []*streams.BatchAppendReq_ProposedMessage
		code    codes.Code
		detail  any
	}{
		"fits":            {anything, proposed(2), codes.OK, nil},
		"nothing":         {named("none"), nil, codes.OK, nil},
		"conflict":        {named("s"), proposed(1), codes.AlreadyExists, &shared.WrongExpectedVersion{}},
		"wrong revision":  {at, proposed(1), codes.AlreadyExists, &shared.WrongExpectedVersion{}},
		"must exist":      {exists, proposed(1), codes.AlreadyExists, &shared.WrongExpectedVersion{}},
		"deleted":         {named("gone"), proposed(1), codes.NotFound, &shared.StreamDeleted{}},
		"too large":       {named("big"), big, codes.InvalidArgument, &shared.MaximumAppendSizeExceeded{}},
		"no type":         {named("untyped"), untyped, codes.InvalidArgument, &shared.BadRequest{}},
		"no expectation":  {undecided, proposed(1), codes.InvalidArgument, &shared.BadRequest{}},
		"no name":         {named(""), proposed(1), codes.InvalidArgument, &shared.BadRequest{}},
		"no options":      {nil, proposed(1), codes.InvalidArgument, &shared.BadRequest{}},
		"past a deadline": {late, proposed(1), codes.DeadlineExceeded, &shared.Timeout{}},
	} {
		id := textID()
		send(t, call, &streams.BatchAppendReq{CorrelationId: id, Options: c.options, ProposedMessages: c.events, IsFinal: true})
		resp := receive(t, call)
		if resp.GetCorrelationId().GetString_() != id.GetString_() {
			t.Errorf("%s: another append is answered", name)
		}
		if got := codes.Code(resp.GetError().GetCode()); got != c.code {
			t.Errorf("%s: %v, want %v", name, resp, c.code)
			continue
		}
		if c.detail == nil {
			continue
		}
		m, err := resp.GetError().GetDetails()[0].UnmarshalNew()
		if err != nil || fmt.Sprintf("%T", m) != fmt.Sprintf("%T", c.detail) {
			t.Errorf("%s: the detail is %T, error %v, want %T", name, m, err, c.detail)
		}
	}
	send(t, call, &streams.BatchAppendReq{Options: anything, IsFinal: true})
	if _, err := call.Recv(); err == nil {
		t.Error("an append without a correlation id was answered")
	}
}

func TestBatchAppendBoundsWhatIsIncomplete(t *testing.T) {
	t.Parallel()
	d := open(t)
	call := d.batch()
	for range 256 {
		send(t, call, &streams.BatchAppendReq{CorrelationId: textID(), Options: named("s"), ProposedMessages: proposed(1)})
	}
	if err := call.Send(&streams.BatchAppendReq{CorrelationId: textID(), Options: named("s")}); err != nil {
		t.Fatal(err)
	}
	if _, err := call.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("257 incomplete appends: %v", err)
	}
}

func TestClosingEndsABatchCall(t *testing.T) {
	t.Parallel()
	d := open(t)
	call := d.batch()
	send(t, call, &streams.BatchAppendReq{CorrelationId: textID(), Options: named("s"), ProposedMessages: proposed(1), IsFinal: true})
	receive(t, call)
	began := time.Now()
	stop(t, d.server)
	if took := time.Since(began); took > time.Second {
		t.Errorf("closing took %v", took)
	}
	if _, err := call.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}
