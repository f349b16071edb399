package esdb

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/orderledger/orderledger/eventstore"
)

// An event that was copied from another ledger keeps the time at which that one took it: the chain covers it. As
// EventStoreDB sets a time of its own, this one stands in the metadata, before everything else:
//
//	{"$recorded":"2026-11-22T15:52:52.691234567Z","command":"…", …}
//
// Metadata that are no JSON object, or an empty one, stand beside it, in base64 under $bytes.
const (
	recordedOpens = `{"$recorded":"`
	bytesOpens    = `"$bytes":"`
)

// stamp puts a time into metadata.
func stamp(metadata []byte, t time.Time) []byte {
	b := append([]byte(recordedOpens), t.UTC().Format(time.RFC3339Nano)...)
	b = append(b, `",`...)
	if inner, ok := bytes.CutPrefix(metadata, []byte("{")); ok && joinable(metadata, inner) {
		return append(b, inner...)
	}
	b = append(b, bytesOpens...)
	b = base64.StdEncoding.AppendEncode(b, metadata)
	return append(b, `"}`...)
}

// joinable reports whether the members of a JSON object can follow others, and would be told from $bytes.
func joinable(object, inner []byte) bool {
	members := bytes.TrimLeft(inner, " \t\r\n")
	return json.Valid(object) && !bytes.HasPrefix(members, []byte("}")) && !bytes.HasPrefix(inner, []byte(bytesOpens))
}

// unstamp is the opposite of stamp. It returns false for metadata that stamp has not made.
func unstamp(stamped []byte) (metadata []byte, t time.Time, ok bool) {
	rest, ok := bytes.CutPrefix(stamped, []byte(recordedOpens))
	if !ok {
		return nil, t, false
	}
	text, rest, ok := bytes.Cut(rest, []byte(`",`))
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if !ok || err != nil {
		return nil, t, false
	}
	if coded, ok := bytes.CutPrefix(rest, []byte(bytesOpens)); ok {
		coded, ok = bytes.CutSuffix(coded, []byte(`"}`))
		metadata, err := base64.StdEncoding.AppendDecode(nil, coded)
		return metadata, t.UTC(), ok && err == nil
	}
	return append([]byte("{"), rest...), t.UTC(), true
}

// checkMetadata returns [eventstore.ErrInvalid] for events whose metadata would be taken for a stamp.
func checkMetadata(events []eventstore.Event) error {
	for i := range events {
		if bytes.HasPrefix(events[i].Metadata, []byte(recordedOpens)) {
			return fmt.Errorf("%w: event %d: metadata that begin with $recorded are those of a copy", eventstore.ErrInvalid, i)
		}
	}
	return nil
}
