package esdbserver

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	proto "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/orderledger/orderledger/eventstore"
)

// streamsService is the service that reads and writes streams.
type streamsService struct {
	proto.UnimplementedStreamsServer
	server  *Server
	streams *streams
}

// A gathering is an append whose events come in several messages. It stops to grow when it is too large.
type gathering struct {
	stream   string
	expected eventstore.Expected
	events   []eventstore.Event
	size     int
}

func (g *gathering) add(p proposed) error {
	e, err := event(p)
	if err != nil {
		return err
	}
	g.size += len(e.ID) + len(e.Type) + len(e.Metadata) + len(e.Data)
	if g.size > eventstore.MaxAppend || len(g.events) == eventstore.MaxEvents {
		return fmt.Errorf("%w: at most %d bytes and %d events", eventstore.ErrTooLarge, eventstore.MaxAppend, eventstore.MaxEvents)
	}
	g.events = append(g.events, e)
	return nil
}

// Append implements [proto.StreamsServer].
func (s *streamsService) Append(call proto.Streams_AppendServer) error {
	ctx := call.Context()
	resp, err := s.append(ctx, call)
	if err != nil {
		passOver(call)
		return s.server.failure(ctx, err)
	}
	return call.SendAndClose(resp)
}

// maxPassedOver bounds the messages of an append that was refused already.
const maxPassedOver = 2 * eventstore.MaxEvents

// passOver receives the rest of an append that is refused: clients do not look for the reason if they cannot send all.
func passOver(call grpc.ServerStream) {
	for range maxPassedOver {
		if call.RecvMsg(new(proto.AppendReq)) != nil {
			return
		}
	}
}

func (s *streamsService) append(ctx context.Context, call proto.Streams_AppendServer) (*proto.AppendResp, error) {
	first, err := call.Recv()
	if err != nil {
		return nil, err
	}
	var g gathering
	if g.stream, g.expected, err = target(first.GetOptions()); err != nil {
		return nil, err
	}
	for {
		req, err := call.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		message := req.GetProposedMessage()
		if message == nil {
			return nil, invalid("an append has options once, and then events")
		}
		if err := g.add(message); err != nil {
			return nil, err
		}
	}
	w, err := s.streams.append(ctx, g.stream, g.expected, g.events)
	if conflict := (*eventstore.Conflict)(nil); errors.As(err, &conflict) {
		return &proto.AppendResp{Result: &proto.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: wrongAppend(conflict)}}, nil
	}
	if err != nil {
		return nil, err
	}
	return &proto.AppendResp{Result: &proto.AppendResp_Success_{Success: success(w)}}, nil
}

// options are those of an append, a deletion or a tombstone.
type options interface {
	GetStreamIdentifier() *shared.StreamIdentifier
	GetRevision() uint64
	GetNoStream() *shared.Empty
	GetAny() *shared.Empty
	GetStreamExists() *shared.Empty
	ProtoReflect() protoreflect.Message
}

// target reads which stream is written to, and how it must be.
func target(o options) (stream string, expected eventstore.Expected, err error) {
	if stream, err = streamName(o.GetStreamIdentifier()); err != nil {
		return "", 0, err
	}
	m := o.ProtoReflect()
	switch {
	case m.WhichOneof(m.Descriptor().Oneofs().ByName("expected_stream_revision")) == nil:
		err = invalid("a write says what it expects")
	case o.GetNoStream() != nil:
		expected = eventstore.NoStream
	case o.GetAny() != nil:
		expected = eventstore.Any
	case o.GetStreamExists() != nil:
		expected = eventstore.StreamExists
	default:
		expected, err = revision(o.GetRevision())
	}
	return stream, expected, err
}

func success(w written) *proto.AppendResp_Success {
	s := &proto.AppendResp_Success{
		CurrentRevisionOption: &proto.AppendResp_Success_NoStream{NoStream: &shared.Empty{}},
		PositionOption:        &proto.AppendResp_Success_NoPosition{NoPosition: &shared.Empty{}},
	}
	if w.revision >= 0 {
		s.CurrentRevisionOption = &proto.AppendResp_Success_CurrentRevision{CurrentRevision: uint64(w.revision)}
	}
	if p := uint64(w.position); p > 0 {
		s.PositionOption = &proto.AppendResp_Success_Position{Position: &proto.AppendResp_Position{CommitPosition: p, PreparePosition: p}}
	}
	return s
}

// wrongAppend tells of a conflict, also in the fields of clients before 20.6.1.
func wrongAppend(c *eventstore.Conflict) *proto.AppendResp_WrongExpectedVersion {
	empty := &shared.Empty{}
	w := &proto.AppendResp_WrongExpectedVersion{
		CurrentRevisionOption:        &proto.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: empty},
		CurrentRevisionOption_20_6_0: &proto.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: empty},
	}
	if n := uint64(c.Actual); c.Actual >= 0 {
		w.CurrentRevisionOption = &proto.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: n}
		w.CurrentRevisionOption_20_6_0 = &proto.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: n}
	}
	switch n := uint64(c.Expected); c.Expected {
	case eventstore.NoStream:
		w.ExpectedRevisionOption = &proto.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: empty}
	case eventstore.Any:
		w.ExpectedRevisionOption = &proto.AppendResp_WrongExpectedVersion_ExpectedAny{ExpectedAny: empty}
		w.ExpectedRevisionOption_20_6_0 = &proto.AppendResp_WrongExpectedVersion_Any_20_6_0{Any_20_6_0: empty}
	case eventstore.StreamExists:
		w.ExpectedRevisionOption = &proto.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: empty}
		w.ExpectedRevisionOption_20_6_0 = &proto.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: empty}
	default:
		w.ExpectedRevisionOption = &proto.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: n}
		w.ExpectedRevisionOption_20_6_0 = &proto.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: n}
	}
	return w
}

// Delete implements [proto.StreamsServer].
func (s *streamsService) Delete(ctx context.Context, req *proto.DeleteReq) (*proto.DeleteResp, error) {
	p, err := s.remove(ctx, req.GetOptions(), false)
	if err != nil {
		return nil, s.server.failure(ctx, err)
	}
	return &proto.DeleteResp{PositionOption: &proto.DeleteResp_Position_{
		Position: &proto.DeleteResp_Position{CommitPosition: uint64(p), PreparePosition: uint64(p)},
	}}, nil
}

// Tombstone implements [proto.StreamsServer].
func (s *streamsService) Tombstone(ctx context.Context, req *proto.TombstoneReq) (*proto.TombstoneResp, error) {
	p, err := s.remove(ctx, req.GetOptions(), true)
	if err != nil {
		return nil, s.server.failure(ctx, err)
	}
	return &proto.TombstoneResp{PositionOption: &proto.TombstoneResp_Position_{
		Position: &proto.TombstoneResp_Position{CommitPosition: uint64(p), PreparePosition: uint64(p)},
	}}, nil
}

func (s *streamsService) remove(ctx context.Context, o options, forGood bool) (eventstore.Position, error) {
	stream, expected, err := target(o)
	if err != nil {
		return 0, err
	}
	return s.streams.remove(ctx, stream, expected, forGood)
}
