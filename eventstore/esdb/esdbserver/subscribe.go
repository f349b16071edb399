package esdbserver

import (
	"context"
	"errors"

	"github.com/google/uuid"

	proto "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/orderledger/orderledger/eventstore"
)

// subscribeStream sends the events of a stream after a revision, and then those to come.
func (r *reading) subscribeStream(ctx context.Context) error {
	o := r.options.GetStream()
	stream, err := streamName(o.GetStreamIdentifier())
	if err != nil {
		return err
	}
	// What comes after this head is waited for; what comes before is read, and what is both is sent once.
	head, err := r.streams.store.Head(ctx)
	if err != nil {
		return err
	}
	next, err := r.streams.next(ctx, stream, o)
	if err != nil {
		return err
	}
	if err := r.confirm(); err != nil {
		return err
	}
	for e, err := range r.streams.read(ctx, stream, next, eventstore.Forward) {
		if errors.Is(err, errNotFound) {
			break
		}
		if err != nil {
			return err
		}
		next = e.Revision + 1
		if err := r.event(ctx, &e); err != nil {
			return err
		}
	}
	if err := r.caughtUp(); err != nil {
		return err
	}
	names := eventstore.Filter{Prefixes: []string{stream, metadataOf(stream)}}
	for e, err := range r.streams.store.Subscribe(ctx, head.Position, names) {
		if err != nil {
			return err
		}
		e = shown(e)
		if e.Stream != stream || e.Revision < next {
			continue
		}
		if err := r.event(ctx, &e); err != nil {
			return err
		}
		if e.Type == tombstoneType {
			return &deletedError{stream}
		}
	}
	return nil
}

// next is the revision of the first event that a subscription asks for.
func (s *streams) next(ctx context.Context, stream string, o *proto.ReadReq_Options_StreamOptions) (uint64, error) {
	switch {
	case o.GetStart() != nil:
		return 0, nil
	case o.GetEnd() != nil:
		last, err := s.last(ctx, stream)
		return uint64(last + 1), err
	}
	last, err := revision(o.GetRevision())
	return uint64(last) + 1, err
}

// subscribeAll sends the events of the ledger after a position, and then those to come.
func (r *reading) subscribeAll(ctx context.Context) error {
	if r.filter != nil && r.filter.interval == 0 {
		return invalid("the interval of checkpoints is at least 1")
	}
	after, err := r.position()
	if err != nil {
		return err
	}
	if after == atEnd {
		head, err := r.streams.store.Head(ctx)
		if err != nil {
			return err
		}
		after = head.Position
	}
	if err := r.confirm(); err != nil {
		return err
	}
	p := &progress{reading: r, position: after, told: after}
	for e, err := range r.streams.store.ReadAll(ctx, after, eventstore.Filter{}) {
		if err != nil {
			return err
		}
		if err := p.take(ctx, e); err != nil {
			return err
		}
	}
	if err := p.checkpoint(); err != nil {
		return err
	}
	if err := r.caughtUp(); err != nil {
		return err
	}
	for e, err := range r.streams.store.Subscribe(ctx, p.position, eventstore.Filter{}) {
		if err != nil {
			return err
		}
		if err := p.take(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// progress is how far a subscription to $all has come. What the filter passes over is considered, too, so that clients
// learn by checkpoints that it was.
type progress struct {
	*reading
	position   eventstore.Position // of the event that was considered last
	told       eventstore.Position // by the last checkpoint
	considered int                 // events since then
}

func (p *progress) take(ctx context.Context, e eventstore.Recorded) error {
	e = shown(e)
	if p.filter.match(&e) {
		if err := p.event(ctx, &e); err != nil {
			return err
		}
	}
	p.position = e.Position
	p.considered++
	if p.filter == nil || p.considered < p.filter.interval {
		return nil
	}
	return p.checkpoint()
}

// checkpoint tells the client how far the subscription has come, if it has a filter and has come further. All that was
// chosen up to there has been sent before.
func (p *progress) checkpoint() error {
	if p.filter == nil || p.position == p.told {
		return nil
	}
	p.told, p.considered = p.position, 0
	at := uint64(p.position)
	return p.send(&proto.ReadResp{Content: &proto.ReadResp_Checkpoint_{
		Checkpoint: &proto.ReadResp_Checkpoint{CommitPosition: at, PreparePosition: at},
	}})
}

func (r *reading) confirm() error {
	return r.send(&proto.ReadResp{Content: &proto.ReadResp_Confirmation{
		Confirmation: &proto.ReadResp_SubscriptionConfirmation{SubscriptionId: uuid.NewString()},
	}})
}

func (r *reading) caughtUp() error {
	return r.send(&proto.ReadResp{Content: &proto.ReadResp_CaughtUp_{CaughtUp: &proto.ReadResp_CaughtUp{}}})
}
