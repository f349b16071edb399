package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// checkpointType is the type of the events in a relay's own stream. Only the newest counts.
const checkpointType = "relay.checkpoint.v1"

// errRelieved tells that another relay of the same name has saved a checkpoint.
var errRelieved = errors.New("another relay has saved a checkpoint")

func streamOf(name string) string { return "relay-" + name }

// A journal keeps checkpoints in a stream of the ledger. That two relays who both think they are active cannot both
// append at one revision is what tells them so.
type journal struct {
	ledger   eventstore.Store
	stream   string
	expected eventstore.Expected
	unknown  *eventstore.Event // an append whose outcome is unknown; it must be settled before the next
	failed   time.Time         // when it was tried last
}

// LastCheckpoint reads the newest checkpoint of the relay with a name, or the zero one.
func LastCheckpoint(ctx context.Context, ledger eventstore.Reader, name string) (Checkpoint, error) {
	c, _, err := lastCheckpoint(ctx, ledger, streamOf(name))
	return c, err
}

// lastCheckpoint also returns what the next append to the stream expects.
func lastCheckpoint(ctx context.Context, ledger eventstore.Reader, stream string) (Checkpoint, eventstore.Expected, error) {
	for e, err := range ledger.ReadStream(ctx, stream, eventstore.End, eventstore.Backward) {
		if err != nil {
			return Checkpoint{}, 0, fmt.Errorf("reading the checkpoint: %w", err)
		}
		var c Checkpoint
		if err := json.Unmarshal(e.Data, &c); err != nil || e.Type != checkpointType {
			return Checkpoint{}, 0, fmt.Errorf("%w: event %d of stream %s is no checkpoint", eventstore.ErrCorrupt, e.Revision, stream)
		}
		return c, eventstore.At(e.Revision), nil
	}
	return Checkpoint{}, eventstore.NoStream, nil
}

// load reads the newest checkpoint, or the zero one.
func (j *journal) load(ctx context.Context) (Checkpoint, error) {
	c, expected, err := lastCheckpoint(ctx, j.ledger, j.stream)
	j.expected, j.unknown = expected, nil
	return c, err
}

// save appends a checkpoint. It returns errRelieved if another relay has appended since load.
func (j *journal) save(ctx context.Context, c Checkpoint) error {
	if j.unknown != nil {
		if err := j.append(ctx); err != nil {
			return err
		}
	}
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	j.unknown = &eventstore.Event{ID: id, Type: checkpointType, Data: data}
	return j.append(ctx)
}

// append tries, or tries again, the append whose outcome is unknown. The event's id makes a repetition harmless.
func (j *journal) append(ctx context.Context) error {
	result, err := j.ledger.Append(ctx, j.stream, j.expected, []eventstore.Event{*j.unknown})
	switch {
	case eventstore.IsConflict(err):
		return errRelieved
	case err != nil:
		j.failed = time.Now()
		return fmt.Errorf("appending to %s: %w", j.stream, err)
	}
	j.expected, j.unknown = eventstore.At(result.Revision), nil
	return nil
}

// unsure reports whether the last save has failed.
func (j *journal) unsure() bool { return j.unknown != nil }

// retryDue reports whether it is time to try a save that has failed again.
func (j *journal) retryDue(now time.Time) bool {
	return j.unsure() && now.Sub(j.failed) >= saveAgain
}
