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
	return &Relay{config: c}, nil
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
// for which errors.Is [eventstore.ErrCorrupt] holds if the checkpoint or an event cannot be read.
//
// Whoever receives must be stopped after Run has returned, or a last message may be sent twice.
func (r *Relay) Run(ctx context.Context) error {
	var pause backoff
	for {
		began := time.Now()
		err := r.publish(ctx)
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
		if time.Since(began) > longestPause {
			pause = backoff{} // it went well for a while
		}
		if err := pause.wait(ctx, r.config.Log, "reading the ledger", err); err != nil {
			return err
		}
	}
}

// publish relays from the checkpoint on until ctx is done, another relay has taken over, or the ledger fails.
func (r *Relay) publish(ctx context.Context) error {
	head, err := r.config.Ledger.Head(ctx)
	if err != nil {
		return fmt.Errorf("reading the ledger's head: %w", err)
	}
	j := &journal{ledger: r.config.Ledger, stream: streamOf(r.config.Name)}
	checkpoint, err := j.load(ctx)
	if err != nil {
		return err
	}
	state, err := NewState(head.Identity, checkpoint, time.Now())
	if err != nil {
		return fmt.Errorf("%w: stream %s: %w", eventstore.ErrCorrupt, j.stream, err)
	}
	state.tick = r.config.Tick
	r.config.Log.InfoContext(ctx, "relaying", "position", checkpoint.Position)
	f := &flow{
		relay:   r,
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

// send publishes the deliveries of a lane, again and again until the bus has taken them or ctx is done.
func (r *Relay) send(ctx context.Context, lane int, deliveries []eventstore.Delivery) error {
	return retry(ctx, r.config.Log, "publishing", func() error {
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
