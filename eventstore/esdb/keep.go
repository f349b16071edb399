package esdb

import (
	"context"
	"encoding/json"
	"fmt"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
)

// KeepNewest tells the server that only the newest event of a stream counts: it shows no other any more, and may remove
// them. Other metadata of the stream stay as they are.
func (s *Store) KeepNewest(ctx context.Context, stream string) error {
	err := s.retry(ctx, s.patience, func() (bool, error) {
		return false, s.with(ctx, func(c *client) error { return c.keepNewest(ctx, "$$"+stream) })
	})
	if err != nil {
		return fmt.Errorf("setting $maxCount of stream %q: %w", stream, err)
	}
	return nil
}

func (c *client) keepNewest(ctx context.Context, metadata string) error {
	last, err := c.collect(ctx, lastOfStream(metadata))
	if err != nil {
		return err
	}
	keys := make(map[string]json.RawMessage)
	var expected official.ExpectedRevision = official.NoStream{}
	if len(last) > 0 {
		expected = official.Revision(last[0].Revision)
		if json.Unmarshal(last[0].Data, &keys) != nil || keys == nil {
			keys = make(map[string]json.RawMessage) // to EventStoreDB, what is malformed is empty
		}
	}
	if string(keys["$maxCount"]) == "1" {
		return nil
	}
	keys["$maxCount"] = json.RawMessage("1")
	data, err := json.Marshal(keys)
	if err != nil {
		return final{err}
	}
	_, err = c.append(ctx, metadata, expected, []official.EventData{{
		EventID: uuid.New(), EventType: "$metadata", ContentType: official.ContentTypeJson, Data: data,
	}})
	return err // somebody else's change is looked at anew
}
