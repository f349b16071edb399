package message

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
)

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

// A reader takes attributes out of a message and keeps the first error.
type reader struct {
	members []field
	err     error
}

// value returns the text of a member's value, or nothing where there is none.
func (r *reader) value(name string) string {
	for i := range r.members {
		if r.members[i].name == name {
			return r.members[i].value
		}
	}
	return ""
}

func (r *reader) fail(name, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s "+format, append([]any{name}, args...)...)
	}
}

func (r *reader) has(name string) bool {
	value := r.value(name)
	return value != "" && value != "null"
}

// text reads a string that must be there.
func (r *reader) text(name string) string {
	if !r.has(name) {
		r.fail(name, "is missing")
		return ""
	}
	s, ok := unquote(r.value(name))
	if !ok {
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
		e.Data = []byte(r.value("data"))
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
