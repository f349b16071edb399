package esdbserver

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	proto "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	// batchWriters is how many appends of one call are written at the same time. Those to one stream are written one
	// after the other, in the order in which they came.
	batchWriters = 16
	// maxBatches is how many appends of one call may be incomplete.
	maxBatches = 256
)

// A batch is one append of a call for many.
type batch struct {
	gathering
	id       *shared.UUID
	options  *proto.BatchAppendReq_Options
	deadline time.Time // zero: none
	err      error     // why it is refused once it has come in
}

// batches is one call for many appends.
type batches struct {
	service *streamsService
	pending map[uuid.UUID]*batch // those that are not complete

	mu   sync.Mutex // guards send
	send func(*proto.BatchAppendResp) error
}

// BatchAppend implements [proto.StreamsServer]. Clients keep such a call open for as long as they live; it ends with them
// or with the server.
func (s *streamsService) BatchAppend(call proto.Streams_BatchAppendServer) error {
	ctx, cancel := context.WithCancel(call.Context())
	defer cancel()
	closing := s.server.closing.Done()
	b := &batches{service: s, pending: make(map[uuid.UUID]*batch), send: call.Send}

	var writers sync.WaitGroup
	queues := make([]chan *batch, batchWriters)
	for i := range queues {
		queues[i] = make(chan *batch)
		writers.Go(func() {
			for {
				select {
				case w, more := <-queues[i]:
					if !more {
						return
					}
					if err := b.write(ctx, w); err != nil {
						cancel() // the client is gone
					}
				case <-closing:
					return
				}
			}
		})
	}
	received := make(chan error, 1)
	// Only the end of this call ends a Recv, so that it is Close that waits for it.
	s.server.serving.Go(func() {
		err := b.receive(call.Recv, func(w *batch) error {
			select {
			case queues[maphash.String(s.streams.seed, w.stream)%batchWriters] <- w:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-closing:
				return context.Canceled
			}
		})
		for _, q := range queues {
			close(q)
		}
		received <- err
	})
	writers.Wait()
	select {
	case err := <-received:
		return s.server.failure(ctx, err)
	case <-closing:
		return s.server.failure(ctx, context.Canceled)
	}
}

// receive passes on each append once it is complete, until the client has no more.
func (b *batches) receive(next func() (*proto.BatchAppendReq, error), pass func(*batch) error) error {
	for {
		req, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		w, err := b.gather(req)
		if err != nil {
			return err
		}
		if w != nil {
			if err := pass(w); err != nil {
				return err
			}
		}
	}
}

// gather adds a message to the append that it is part of, and returns that if it is complete.
func (b *batches) gather(req *proto.BatchAppendReq) (*batch, error) {
	id, err := parseID(req.GetCorrelationId())
	if err != nil {
		return nil, err
	}
	w := b.pending[id]
	if w == nil {
		if len(b.pending) == maxBatches {
			return nil, invalid("more than %d appends are incomplete", maxBatches)
		}
		w = b.service.begin(req)
		b.pending[id] = w
	}
	for _, m := range req.GetProposedMessages() {
		if w.err == nil {
			w.err = w.add(m)
		}
	}
	if !req.GetIsFinal() {
		return nil, nil
	}
	delete(b.pending, id)
	return w, nil
}

func (s *streamsService) begin(req *proto.BatchAppendReq) *batch {
	o := req.GetOptions()
	w := &batch{id: req.GetCorrelationId(), options: o}
	switch {
	case o == nil:
		w.err = invalid("an append begins with its options")
		return w
	case o.GetDeadline() != nil:
		w.deadline = time.Now().Add(o.GetDeadline().AsDuration())
	case o.GetDeadline_21_10_0() != nil:
		w.deadline = o.GetDeadline_21_10_0().AsTime()
	}
	if w.stream, w.err = streamName(o.GetStreamIdentifier()); w.err != nil {
		return w
	}
	switch p := o.GetExpectedStreamPosition().(type) {
	case *proto.BatchAppendReq_Options_NoStream:
		w.expected = eventstore.NoStream
	case *proto.BatchAppendReq_Options_Any:
		w.expected = eventstore.Any
	case *proto.BatchAppendReq_Options_StreamExists:
		w.expected = eventstore.StreamExists
	case *proto.BatchAppendReq_Options_StreamPosition:
		w.expected, w.err = revision(p.StreamPosition)
	default:
		w.err = invalid("a write says what it expects")
	}
	return w
}

// write appends, and tells the client how that went.
func (b *batches) write(ctx context.Context, w *batch) error {
	if !w.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, w.deadline)
		defer cancel()
	}
	var done written
	if w.err == nil {
		done, w.err = b.service.streams.append(ctx, w.stream, w.expected, w.events)
	}
	resp := &proto.BatchAppendResp{CorrelationId: w.id, StreamIdentifier: w.options.GetStreamIdentifier()}
	switch p := w.options.GetExpectedStreamPosition().(type) {
	case *proto.BatchAppendReq_Options_StreamPosition:
		resp.ExpectedStreamPosition = &proto.BatchAppendResp_StreamPosition{StreamPosition: p.StreamPosition}
	case *proto.BatchAppendReq_Options_NoStream:
		resp.ExpectedStreamPosition = &proto.BatchAppendResp_NoStream{NoStream: &emptypb.Empty{}}
	case *proto.BatchAppendReq_Options_Any:
		resp.ExpectedStreamPosition = &proto.BatchAppendResp_Any{Any: &emptypb.Empty{}}
	case *proto.BatchAppendReq_Options_StreamExists:
		resp.ExpectedStreamPosition = &proto.BatchAppendResp_StreamExists{StreamExists: &emptypb.Empty{}}
	}
	if w.err != nil {
		resp.Result = &proto.BatchAppendResp_Error{Error: b.service.server.batchFailure(ctx, w.err)}
	} else {
		resp.Result = &proto.BatchAppendResp_Success_{Success: batchSuccess(done)}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.send(resp)
}

func batchSuccess(w written) *proto.BatchAppendResp_Success {
	s := &proto.BatchAppendResp_Success{
		CurrentRevisionOption: &proto.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}},
		PositionOption:        &proto.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}},
	}
	if w.revision >= 0 {
		s.CurrentRevisionOption = &proto.BatchAppendResp_Success_CurrentRevision{CurrentRevision: uint64(w.revision)}
	}
	if p := uint64(w.position); p > 0 {
		s.PositionOption = &proto.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{CommitPosition: p, PreparePosition: p}}
	}
	return s
}
