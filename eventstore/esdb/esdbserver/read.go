package esdbserver

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"

	proto "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/orderledger/orderledger/eventstore"
)

// Read implements [proto.StreamsServer]: reads, which end, and subscriptions, which do not.
func (s *streamsService) Read(req *proto.ReadReq, call proto.Streams_ReadServer) error {
	ctx, cancel := context.WithCancel(call.Context())
	defer cancel()
	defer context.AfterFunc(s.server.closing, cancel)()
	r := &reading{streams: s.streams, options: req.GetOptions(), send: call.Send}
	return s.server.failure(call.Context(), r.run(ctx))
}

// A reading is one call that reads.
type reading struct {
	streams *streams
	options *proto.ReadReq_Options
	send    func(*proto.ReadResp) error
	filter  *filter
}

func (r *reading) run(ctx context.Context) (err error) {
	if r.filter, err = newFilter(r.options.GetFilter()); err != nil {
		return err
	}
	_, subscribes := r.options.GetCountOption().(*proto.ReadReq_Options_Subscription)
	backwards := r.options.GetReadDirection() == proto.ReadReq_Options_Backwards
	switch {
	case subscribes && backwards:
		return invalid("a subscription goes forwards")
	case subscribes && r.options.GetAll() != nil:
		return r.subscribeAll(ctx)
	case subscribes:
		return r.subscribeStream(ctx)
	case r.options.GetAll() != nil:
		return r.readAll(ctx, backwards)
	}
	return r.readStream(ctx, backwards)
}

func (r *reading) readStream(ctx context.Context, backwards bool) error {
	o := r.options.GetStream()
	stream, err := streamName(o.GetStreamIdentifier())
	if err != nil {
		return err
	}
	from, direction := o.GetRevision(), eventstore.Forward
	switch {
	case o.GetStart() != nil:
		from = 0
	case o.GetEnd() != nil:
		from = eventstore.End
	}
	if backwards {
		direction = eventstore.Backward
	}
	err = r.some(ctx, r.streams.read(ctx, stream, from, direction))
	if errors.Is(err, errNotFound) {
		return r.send(&proto.ReadResp{Content: &proto.ReadResp_StreamNotFound_{
			StreamNotFound: &proto.ReadResp_StreamNotFound{StreamIdentifier: identifier(stream)},
		}})
	}
	return err
}

func (r *reading) readAll(ctx context.Context, backwards bool) error {
	position, err := r.position()
	if err != nil {
		return err
	}
	if backwards {
		return r.some(ctx, r.streams.readAllBackward(ctx, position))
	}
	if position == 0 {
		position = 1 // nothing stands at 0
	}
	return r.some(ctx, r.streams.store.ReadAll(ctx, position-1, eventstore.Filter{}))
}

// atEnd stands for the end of the ledger, whatever that is when it is looked for.
const atEnd eventstore.Position = math.MaxUint64

// position is where a reading of $all begins.
func (r *reading) position() (eventstore.Position, error) {
	o := r.options.GetAll()
	switch {
	case o.GetEnd() != nil:
		return atEnd, nil
	case o.GetStart() != nil:
		return 0, nil
	}
	p := o.GetPosition().GetCommitPosition()
	if p > math.MaxInt64 {
		return 0, invalid("there is no position %d", p)
	}
	return eventstore.Position(p), nil
}

// some sends as many events as were asked for.
func (r *reading) some(ctx context.Context, events iter.Seq2[eventstore.Recorded, error]) error {
	left := r.options.GetCount()
	if left == 0 {
		return nil
	}
	for e, err := range events {
		if err != nil {
			return err
		}
		e = shown(e)
		if !r.filter.match(&e) {
			continue
		}
		if err := r.event(ctx, &e); err != nil {
			return err
		}
		if left--; left == 0 {
			break
		}
	}
	return nil
}

// event sends an event, and with it what it links to, if that is asked for.
func (r *reading) event(ctx context.Context, e *eventstore.Recorded) error {
	_, stringIDs := r.options.GetUuidOption().GetContent().(*proto.ReadReq_Options_UUIDOption_String_)
	read := &proto.ReadResp_ReadEvent{
		Event:    recorded(e, stringIDs),
		Position: &proto.ReadResp_ReadEvent_CommitPosition{CommitPosition: uint64(e.Position)},
	}
	if r.options.GetResolveLinks() && e.Type == linkType {
		target, err := r.streams.target(ctx, e)
		if err != nil {
			return err
		}
		read.Link, read.Event = read.Event, nil
		if target != nil {
			read.Event = recorded(target, stringIDs)
		}
	}
	return r.send(&proto.ReadResp{Content: &proto.ReadResp_Event{Event: read}})
}

// linkType is the type of events that stand for another one: their data are its revision, '@' and its stream.
const linkType = "$>"

// target is the event that a link stands for; nil: there is none.
func (s *streams) target(ctx context.Context, link *eventstore.Recorded) (*eventstore.Recorded, error) {
	text, stream, ok := strings.Cut(string(link.Data), "@")
	n, err := strconv.ParseUint(text, 10, 63)
	if !ok || err != nil {
		return nil, nil // what is no link resolves to nothing
	}
	for e, err := range s.read(ctx, stream, n, eventstore.Forward) {
		if deleted := (*deletedError)(nil); errors.Is(err, errNotFound) || errors.As(err, &deleted) {
			return nil, nil
		}
		if err != nil || e.Revision != n {
			return nil, err
		}
		return &e, nil
	}
	return nil, nil
}

// read yields what a stream shows. It yields [errNotFound] or a [*deletedError] for one that shows nothing.
func (s *streams) read(ctx context.Context, stream string, from uint64, direction eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		m, first, err := s.visible(ctx, stream)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		if direction == eventstore.Forward {
			from = max(from, first)
		}
		for e, err := range s.store.ReadStream(ctx, stream, from, direction) {
			if err == nil && e.Revision < first {
				return
			}
			if err == nil && m.maxAge > 0 && s.now().Unix()-e.Time.Unix() >= m.maxAge {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// visible is the metadata of a stream, and the first revision that it shows.
func (s *streams) visible(ctx context.Context, stream string) (m streamMetadata, first uint64, err error) {
	newest, exists, err := s.newest(ctx, stream)
	if err != nil {
		return m, 0, err
	}
	if _, ok := baseOf(stream); ok {
		if exists && newest.Type == tombstoneType {
			return m, 0, &deletedError{stream}
		}
		m = streamMetadata{maxCount: 1}
	} else if m, err = s.metadata(ctx, stream); err != nil {
		return m, 0, err
	}
	switch {
	case m.tombstone:
		return m, 0, &deletedError{stream}
	case !exists || m.deleted():
		return m, 0, errNotFound
	}
	first = uint64(m.before)
	if m.maxCount > 0 && newest.Revision >= uint64(m.maxCount) {
		first = max(first, newest.Revision-uint64(m.maxCount)+1)
	}
	return m, first, nil
}

const (
	firstWindow = 64  // positions that are read at once at first, going backwards
	maxWindow   = 256 // events that are held at once
)

// readAllBackward yields the events before a position, the newest first. As ledgers are read forwards, it reads them in
// windows of positions, whose width follows how many events were in the last one.
func (s *streams) readAllBackward(ctx context.Context, before eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		head, err := s.store.Head(ctx)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		before = min(before, head.Position+1)
		for width := eventstore.Position(firstWindow); before > 1; {
			after := before - 1 - min(before-1, width)
			events, whole, err := s.window(ctx, after, before)
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			if !whole {
				width /= 2
				continue
			}
			for _, e := range slices.Backward(events) {
				if !yield(e, nil) {
					return
				}
			}
			before = after + 1
			if len(events) < maxWindow/2 && width < math.MaxInt64/2 {
				width *= 2
			}
		}
	}
}

// window reads the events between two positions, without those. It reports whether these are all.
func (s *streams) window(ctx context.Context, after, before eventstore.Position) (events []eventstore.Recorded, whole bool, err error) {
	for e, err := range s.store.ReadAll(ctx, after, eventstore.Filter{}) {
		switch {
		case err != nil:
			return nil, false, err
		case e.Position >= before:
			return events, true, nil
		case len(events) == maxWindow:
			return nil, false, nil
		}
		events = append(events, e)
	}
	return events, true, nil
}
