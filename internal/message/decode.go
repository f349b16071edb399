package message

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

// maxMembers bounds the members of a message's body.
const maxMembers = 64

// Decode reads the body of a message. Where whole is false the event's data and metadata did not fit into the
// message: [Fetch] reads them from the ledger.
//
// Attributes that this version does not know are ignored, as are those that repeat what metadata says. Everything
// else is checked, and the error names the attribute and quotes none of its value, so that it may be logged.
func Decode(body []byte) (d eventstore.Delivery, whole bool, err error) {
	m, err := members(body)
	if err != nil {
		return eventstore.Delivery{}, false, fmt.Errorf("reading a message: %w", err)
	}
	r := reader{members: m}
	d, whole = r.delivery()
	if r.err != nil {
		return eventstore.Delivery{}, false, fmt.Errorf("reading a message: %w", r.err)
	}
	return d, whole, nil
}

// members splits a JSON object. The values keep their bytes.
func members(body []byte) (map[string]json.RawMessage, error) {
	if len(body) > MaxBody {
		return nil, fmt.Errorf("%d bytes, at most %d", len(body), MaxBody)
	}
	if !utf8.Valid(body) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	m := make(map[string]json.RawMessage, 24)
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errors.New("not a JSON object")
		}
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("%.40q occurs twice", name)
		}
		if len(m) == maxMembers {
			return nil, fmt.Errorf("more than %d members", maxMembers)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("%.40q is not JSON", name)
		}
		m[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return m, nil
}

// A reader takes attributes out of a message and keeps the first error.
type reader struct {
	members map[string]json.RawMessage
	err     error
}

func (r *reader) fail(name, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s "+format, append([]any{name}, args...)...)
	}
}

func (r *reader) has(name string) bool {
	value, ok := r.members[name]
	return ok && string(value) != "null"
}

// text reads a string that must be there.
func (r *reader) text(name string) string {
	if !r.has(name) {
		r.fail(name, "is missing")
		return ""
	}
	value := r.members[name]
	if value[0] == '"' && bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]) // most have nothing to unescape
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		r.fail(name, "is not a string")
	}
	return s
}

func (r *reader) exactly(name, want string) {
	if got := r.text(name); r.err == nil && got != want {
		r.fail(name, "is not %.80q", want)
	}
}

func (r *reader) number(name string, bits int) uint64 {
	s := r.text(name)
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil || strconv.FormatUint(n, 10) != s {
		r.fail(name, "is not a whole number of %d bits in decimal digits", bits)
	}
	return n
}

func (r *reader) uuid(name, s string) uuid.UUID {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		r.fail(name, "is not a UUID in lower-case hexadecimal digits and dashes")
	}
	return id
}

func (r *reader) time(name string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, r.text(name))
	if err != nil {
		r.fail(name, "is not a time as RFC 3339 has it")
	}
	return t.UTC()
}

func (r *reader) base64(name string) []byte {
	b, err := base64.StdEncoding.Strict().DecodeString(r.text(name))
	if err != nil {
		r.fail(name, "is not base64")
	}
	return b
}

func (r *reader) delivery() (d eventstore.Delivery, whole bool) {
	r.exactly("specversion", "1.0")
	kind := r.text("type")
	name, ours := strings.CutPrefix(kind, TypePrefix)
	if !ours || name == "" || len(name) > eventstore.MaxTypeName {
		r.fail("type", "is not one of this ledger's")
	}
	ledger, ok := strings.CutPrefix(r.text("source"), sourcePrefix)
	if !ok {
		r.fail("source", "does not begin with %s", sourcePrefix)
	}
	d.Source = r.uuid("source", ledger)
	d.Position = eventstore.Position(r.number("position", 64))
	d.Previous = eventstore.Position(r.number("previousposition", 64))
	d.Incarnation = uint32(r.number("incarnation", 32))
	lane, err := parseLane(r.text("lane"))
	if err != nil {
		r.fail("lane", "%v", err)
	}
	d.Lane = lane
	if kind == TickType && !r.has("revision") {
		r.exactly("id", tickID(d))
		return d, true
	}
	d.Event, whole = r.event(d, name)
	return d, whole
}

func (r *reader) event(d eventstore.Delivery, name string) (e *eventstore.Recorded, whole bool) {
	e = &eventstore.Recorded{
		Event:    eventstore.Event{ID: r.uuid("id", r.text("id")), Type: name},
		Stream:   r.stream(),
		Revision: r.number("revision", 64),
		Position: d.Position,
		Time:     r.time("recordedtime"),
	}
	if e.Chain.UnmarshalText([]byte(r.text("chain"))) != nil {
		r.fail("chain", "is not %d hexadecimal digits", 2*len(e.Chain))
	}
	if d.Previous >= d.Position {
		r.fail("previousposition", "is not below position")
	}
	if r.has("dataref") {
		d.Event = e
		r.exactly("dataref", dataref(d))
		for _, other := range []string{"data", "data_base64", "metadata", "metadatabase64"} {
			if r.has(other) {
				r.fail(other, "stands beside dataref")
			}
		}
		return e, false
	}
	switch {
	case r.has("metadata") && r.has("metadatabase64"):
		r.fail("metadatabase64", "stands beside metadata")
	case r.has("metadata"):
		e.Metadata = []byte(r.text("metadata"))
	case r.has("metadatabase64"):
		e.Metadata = r.base64("metadatabase64")
	}
	switch {
	case r.has("data") && r.has("data_base64"):
		r.fail("data_base64", "stands beside data")
	case r.has("data"):
		e.Data = r.members["data"]
	case r.has("data_base64"):
		e.Data = r.base64("data_base64")
	}
	return e, true
}

func (r *reader) stream() string {
	subject := r.text("subject")
	stream := orderPrefix + subject
	if r.has("stream") {
		stream = r.text("stream")
		want, derivable := subjectOf(stream)
		if subject != want {
			r.fail("subject", "does not fit the stream")
		}
		if derivable {
			r.fail("stream", "repeats the subject")
		}
	}
	if subject == "" || len(stream) > eventstore.MaxStreamName {
		r.fail("subject", "is empty or too long")
	}
	return stream
}
