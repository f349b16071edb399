package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/message"
	"github.com/orderledger/orderledger/internal/retry"
)

// Config says what a [Relay] reads from and publishes to.
type Config struct {
	// Name tells relays of one ledger apart. Those of one name relieve each other, and one of them is active.
	Name string
	// Ledger is what is relayed, and where the relay keeps its checkpoint. The relay does not close it.
	Ledger eventstore.Store
	// Bus takes the messages. It must keep the order of messages with the same [message.KeySession], and
	// return nil only for messages that it has taken. The context of a message ends with the relay. The relay
	// does not close it.
	Bus watermill.Publisher
	// Topic names the topic of a lane; nil: LaneTopic.
	Topic func(lane int) string
	// Tick is how long a lane has nothing to carry before it gets a tick, while the ledger goes on; 0: a second. Readers
	// who wait for all lanes wait up to twice as long. Each tick is a message for every quiet lane.
	Tick time.Duration
	// Region stands in every message. It may be empty.
	Region string
	// Log is told about failures and changes of who is active; nil: nobody is.
	Log *slog.Logger
}

// A Relay publishes the events of a ledger. Its methods may be called concurrently.
type Relay struct {
	config Config

	reading, publishing *retry.Outage // publishing: of all lanes

	mu     sync.Mutex // protects what follows
	status Status
	oldest time.Time // when the ledger took the oldest event that the bus has not; zero: there is none
}

// Status is what there is to see of a [Relay].
type Status struct {
	Active    bool                // it publishes; otherwise it is starting, or stands by for another relay of its name
	Position  eventstore.Position // the bus has taken all events up to here
	Read      eventstore.Position // the newest event read
	Pending   int                 // events read that the bus has not taken; more may be unread once this is in the thousands
	Behind    time.Duration       // age of the oldest event that the bus has not taken; 0: there is none
	Published uint64              // events taken by the bus since Run began
	Failures  uint64              // calls that the bus has refused since Run began
}

// longestPause is how long a relay and a consumer wait at most before they try again.
const longestPause = 10 * time.Second

// New returns a relay. It reads and publishes nothing until Run.
func New(c Config) (*Relay, error) {
	switch {
	case c.Name == "":
		return nil, errors.New("a relay needs a name")
	case c.Ledger == nil:
		return nil, errors.New("a relay needs a ledger")
	case c.Bus == nil:
		return nil, errors.New("a relay needs a bus")
	}
	if c.Topic == nil {
		c.Topic = LaneTopic
	}
	if c.Tick <= 0 {
		c.Tick = defaultTick
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("relay", c.Name)
	return &Relay{
		config:     c,
		reading:    retry.NewOutage(c.Log, "reading the ledger", longestPause),
		publishing: retry.NewOutage(c.Log, "publishing", longestPause),
	}, nil
}

// Status returns the relay's present state.
func (r *Relay) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	if !r.oldest.IsZero() {
		s.Behind = max(time.Since(r.oldest), 0)
	}
	return s
}

// Run publishes until ctx is done, then saves a last checkpoint and returns the error of ctx. It outlasts failures of
// the bus and passing failures of the ledger; it returns [eventstore.ErrClosed] if the ledger is closed, and an error
// for which errors.Is [eventstore.ErrCorrupt] holds if the checkpoint or an event cannot be read, or the ledger ends before
// the checkpoint.
//
// Whoever receives must be stopped after Run has returned, or a last message may be sent twice.
func (r *Relay) Run(ctx context.Context) error {
	attempts := r.reading.Attempts()
	defer attempts.Leave()
	for {
		err := r.publish(ctx, attempts)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, eventstore.ErrClosed) || errors.Is(err, eventstore.ErrCorrupt):
			return err
		case errors.Is(err, errRelieved):
			r.config.Log.InfoContext(ctx, "another relay is active, standing by")
			if err := r.standBy(ctx); err != nil {
				return err
			}
			continue
		}
		if err := attempts.Failed(ctx, err); err != nil {
			return err
		}
	}
}

// publish relays from the checkpoint on until ctx is done, another relay has taken over, or the ledger fails. The
// attempt has succeeded once the ledger has given something, or has not failed for a while.
func (r *Relay) publish(ctx context.Context, attempts *retry.Attempts) error {
	j := &journal{ledger: r.config.Ledger, stream: streamOf(r.config.Name)}
	checkpoint, err := j.load(ctx)
	if err != nil {
		return err
	}
	head, err := r.config.Ledger.Head(ctx) // after the checkpoint, which another relay may move
	if err != nil {
		return fmt.Errorf("reading the ledger's head: %w", err)
	}
	if head.Position < checkpoint.Position {
		return fmt.Errorf("%w: it ends at position %d, and was relayed up to %d: its end was cut off", eventstore.ErrCorrupt, head.Position, checkpoint.Position)
	}
	r.forget(ctx, j.stream)
	state, err := NewState(head.Identity, checkpoint, time.Now())
	if err != nil {
		return fmt.Errorf("%w: stream %s: %w", eventstore.ErrCorrupt, j.stream, err)
	}
	state.tick = r.config.Tick
	r.config.Log.InfoContext(ctx, "relaying", "position", checkpoint.Position)
	f := &flow{
		relay:   r,
		began:   time.Now(),
		well:    func() { attempts.Succeeded(ctx) },
		state:   state,
		journal: j,
		events:  make(chan eventstore.Recorded, 256),
		failed:  make(chan error, 1),
		taken:   make(chan taken, state.Lanes()),
		saved:   make(chan error, 1),
	}
	defer r.inactive()
	return f.run(ctx)
}

// forget lets a ledger that can do so forget old checkpoints.
func (r *Relay) forget(ctx context.Context, stream string) {
	ledger, ok := r.config.Ledger.(interface {
		KeepNewest(ctx context.Context, stream string) error
	})
	if !ok {
		return
	}
	if err := ledger.KeepNewest(ctx, stream); err != nil && ctx.Err() == nil {
		r.config.Log.WarnContext(ctx, "old checkpoints are kept", "error", err)
	}
}

// send publishes the deliveries of a lane, again and again until the bus has taken them or ctx is done.
func (r *Relay) send(ctx context.Context, lane int, deliveries []eventstore.Delivery) error {
	return r.publishing.Do(ctx, func() error {
		batch := make([]*watermill.Message, len(deliveries))
		for i, d := range deliveries {
			batch[i] = message.New(d, r.config.Region)
			batch[i].SetContext(ctx)
		}
		err := r.config.Bus.Publish(r.config.Topic(lane), batch...)
		if err != nil {
			r.mu.Lock()
			r.status.Failures++
			r.mu.Unlock()
		}
		return err
	})
}

// show makes the state visible in Status.
func (r *Relay) show(s *State, published int) {
	position, _, oldest := s.published()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Active = true
	r.status.Position, r.status.Read, r.status.Pending = position, s.read, s.pending
	r.status.Published += uint64(published)
	r.oldest = time.Time{}
	if oldest != nil {
		r.oldest = oldest.Time
	}
}

func (r *Relay) inactive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Active, r.status.Pending, r.oldest = false, 0, time.Time{}
}
