package esdbserver

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

const (
	metadataPrefix = "$$"
	metadataType   = "$metadata"
	tombstoneType  = "$streamDeleted"

	// tombstoneRevision is where a tombstone stands in its stream.
	tombstoneRevision = math.MaxInt64
	// allTruncated is the $tb of a stream that is deleted.
	allTruncated = math.MaxInt64
)

// metadataOf is the stream that has the metadata of another.
func metadataOf(stream string) string { return metadataPrefix + stream }

// baseOf is the stream whose metadata a stream has.
func baseOf(stream string) (base string, ok bool) { return strings.CutPrefix(stream, metadataPrefix) }

// streamMetadata is what the newest event beside a stream says of it.
type streamMetadata struct {
	exists    bool
	tombstone bool
	text      []byte // JSON

	maxCount int64 // how many of the newest events are shown; 0: all
	maxAge   int64 // seconds for which an event is shown; 0: for ever
	before   int64 // the first revision that is shown
}

// deleted reports whether a stream shows nothing, not even that it exists.
func (m *streamMetadata) deleted() bool { return m.tombstone || m.before == allTruncated }

// metadata reads the metadata of a stream that is none of metadata itself.
func (s *streams) metadata(ctx context.Context, stream string) (streamMetadata, error) {
	e, exists, err := s.newest(ctx, metadataOf(stream))
	switch {
	case err != nil || !exists:
		return streamMetadata{}, err
	case e.Type == tombstoneType:
		return streamMetadata{exists: true, tombstone: true}, nil
	}
	return parseMetadata(e.Data), nil
}

// parseMetadata reads metadata. What is malformed counts as empty.
func parseMetadata(text []byte) streamMetadata {
	var keys struct {
		MaxCount int64 `json:"$maxCount"`
		MaxAge   int64 `json:"$maxAge"`
		Before   int64 `json:"$tb"`
	}
	m := streamMetadata{exists: true, text: text}
	if json.Unmarshal(text, &keys) == nil {
		m.maxCount, m.maxAge, m.before = max(keys.MaxCount, 0), max(keys.MaxAge, 0), max(keys.Before, 0)
	}
	return m
}

// truncated is the text of the metadata with another $tb.
func (m streamMetadata) truncated(before int64) []byte {
	keys := make(map[string]json.RawMessage)
	if json.Unmarshal(m.text, &keys) != nil || keys == nil {
		keys = make(map[string]json.RawMessage) // what is malformed counts as empty
	}
	keys["$tb"] = strconv.AppendInt(nil, before, 10)
	text, _ := json.Marshal(keys) // its values have been parsed
	return text
}

func metadataEvent(text []byte) eventstore.Event {
	return eventstore.Event{ID: uuid.New(), Type: metadataType, Data: text}
}

func (s *streams) putMetadata(ctx context.Context, stream string, text []byte) error {
	_, err := s.store.Append(ctx, metadataOf(stream), eventstore.Any, []eventstore.Event{metadataEvent(text)})
	return err
}

// shown is how clients see an event: a tombstone as the last event of the stream that it ends.
func shown(e eventstore.Recorded) eventstore.Recorded {
	if e.Type == tombstoneType {
		if base, ok := baseOf(e.Stream); ok {
			e.Stream, e.Revision = base, tombstoneRevision
		}
	}
	return e
}
