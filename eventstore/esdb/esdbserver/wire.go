package esdbserver

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	proto "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/orderledger/orderledger/eventstore"
)

// Keys and values of an event's system metadata.
const (
	typeKey        = "type"
	contentTypeKey = "content-type"
	createdKey     = "created"
	jsonType       = "application/json"
	binaryType     = "application/octet-stream"

	requiredProperties = typeKey + "," + contentTypeKey
)

func identifier(stream string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(stream)}
}

// streamName reads the name of a stream that a client writes to or reads.
func streamName(id *shared.StreamIdentifier) (string, error) {
	name := string(id.GetStreamName())
	if name == "" || name == "$all" || name == metadataPrefix || !utf8.ValidString(name) {
		return "", invalid("%.80q is not the name of a stream", name)
	}
	return name, nil
}

func structured(id uuid.UUID) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits:  int64(binary.BigEndian.Uint64(id[:8])),
		LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:])),
	}}}
}

func parseID(id *shared.UUID) (uuid.UUID, error) {
	var u uuid.UUID
	switch v := id.GetValue().(type) {
	case *shared.UUID_Structured_:
		binary.BigEndian.PutUint64(u[:8], uint64(v.Structured.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(u[8:], uint64(v.Structured.GetLeastSignificantBits()))
	case *shared.UUID_String_:
		parsed, err := uuid.Parse(v.String_)
		if err != nil {
			return u, invalid("%.80q is not an id", v.String_)
		}
		u = parsed
	}
	if u == uuid.Nil {
		return u, invalid("an id is missing")
	}
	return u, nil
}

// ticks is a time as the protocol has it: steps of 100 ns since 1970.
func ticks(t time.Time) int64 { return t.UnixNano() / 100 }

// revision reads the revision that a client expects.
func revision(n uint64) (eventstore.Expected, error) {
	if n > math.MaxInt64 {
		return 0, invalid("there is no revision %d", n)
	}
	return eventstore.At(n), nil
}

// A proposed is an event that a client appends, in whichever message.
type proposed interface {
	GetId() *shared.UUID
	GetMetadata() map[string]string
	GetCustomMetadata() []byte
	GetData() []byte
}

func event(p proposed) (eventstore.Event, error) {
	id, err := parseID(p.GetId())
	if err != nil {
		return eventstore.Event{}, err
	}
	for key := range strings.SplitSeq(requiredProperties, ",") {
		if _, has := p.GetMetadata()[key]; !has {
			return eventstore.Event{}, &missingError{key}
		}
	}
	isJSON := p.GetMetadata()[contentTypeKey] == jsonType
	return eventstore.Event{
		ID:       id,
		Type:     p.GetMetadata()[typeKey],
		Metadata: mark(p.GetCustomMetadata(), isJSON, p.GetData()),
		Data:     p.GetData(),
	}, nil
}

// The ledger has no place for an event's content type. It is told from the data: what is JSON has the type of JSON. Where
// a client says otherwise, the metadata begins with escape and one of the marks; metadata that begin with escape
// themselves get both in front, too.
const (
	escape     = 0
	markJSON   = 'j'
	markBinary = 'b'
)

func mark(metadata []byte, isJSON bool, data []byte) []byte {
	escaped := len(metadata) > 0 && metadata[0] == escape
	if isJSON == json.Valid(data) && !escaped {
		return metadata
	}
	m := byte(markBinary)
	if isJSON {
		m = markJSON
	}
	return append([]byte{escape, m}, metadata...)
}

func unmark(e *eventstore.Recorded) (metadata []byte, isJSON bool) {
	if len(e.Metadata) >= 2 && e.Metadata[0] == escape {
		return e.Metadata[2:], e.Metadata[1] == markJSON
	}
	return e.Metadata, json.Valid(e.Data)
}

// recorded is an event as clients are told it.
func recorded(e *eventstore.Recorded, stringIDs bool) *proto.ReadResp_ReadEvent_RecordedEvent {
	metadata, isJSON := unmark(e)
	contentType := binaryType
	if isJSON {
		contentType = jsonType
	}
	id := structured(e.ID)
	if stringIDs {
		id = &shared.UUID{Value: &shared.UUID_String_{String_: e.ID.String()}}
	}
	return &proto.ReadResp_ReadEvent_RecordedEvent{
		Id:               id,
		StreamIdentifier: identifier(e.Stream),
		StreamRevision:   e.Revision,
		PreparePosition:  uint64(e.Position),
		CommitPosition:   uint64(e.Position),
		Metadata: map[string]string{
			typeKey:        e.Type,
			contentTypeKey: contentType,
			createdKey:     strconv.FormatInt(ticks(e.Time), 10),
		},
		CustomMetadata: metadata,
		Data:           e.Data,
	}
}
