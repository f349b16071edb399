package message

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/orderledger/orderledger/eventstore"
)

// attributes are those attributes of a message that are not in the delivery itself.
type attributes struct {
	id, kind, subject, region string
	time                      time.Time // zero: none
	epoch                     uint64
	correlation, causation    string
	traceparent               string
	businessUnit              string
}

// The members of an event's metadata that become attributes. Writers of events may leave out any of them.
type metadata struct {
	BusinessUnit string    `json:"business_unit"`
	Correlation  string    `json:"correlation"`
	Causation    string    `json:"causation"`
	Traceparent  string    `json:"traceparent"`
	Occurred     time.Time `json:"occurred"`
	Epoch        uint64    `json:"epoch"`
}

func attributesOf(d eventstore.Delivery, region string) attributes {
	if d.Event == nil {
		return attributes{id: tickID(d), kind: TickType, region: attribute(region)}
	}
	var m metadata
	if json.Unmarshal(d.Event.Metadata, &m) != nil {
		m = metadata{} // metadata of another make travels verbatim all the same
	}
	if year := m.Occurred.UTC().Year(); m.Occurred.IsZero() || year < 0 || year > 9999 { // RFC 3339 has no others
		m.Occurred = d.Event.Time
	}
	subject, _ := subjectOf(d.Event.Stream)
	return attributes{
		id:           d.Event.ID.String(),
		kind:         TypePrefix + d.Event.Type,
		subject:      subject,
		region:       attribute(region),
		time:         m.Occurred,
		epoch:        m.Epoch,
		correlation:  attribute(m.Correlation),
		causation:    attribute(m.Causation),
		traceparent:  attribute(m.Traceparent),
		businessUnit: attribute(m.BusinessUnit),
	}
}

// attribute returns a value that may stand in a property of a broker, or nothing: what is long or holds control
// characters would make the whole message undeliverable.
func attribute(s string) string {
	if len(s) > 256 || !utf8.ValidString(s) {
		return ""
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return ""
		}
	}
	return s
}

// encode writes the body of a message.
func encode(d eventstore.Delivery, a attributes) []byte {
	e := d.Event
	if e == nil {
		return append(envelope(nil, d, a), '}')
	}
	if len(e.Metadata)+len(e.Data) <= MaxBody {
		b := envelope(make([]byte, 0, 1024+2*len(e.Metadata)+len(e.Data)), d, a)
		b = append(payload(b, e), '}')
		if len(b) <= MaxBody {
			return b
		}
	}
	b := envelope(nil, d, a)
	b = member(b, "dataref", dataref(d))
	return append(b, '}')
}

// envelope writes all attributes but those of the payload. The object stays open.
func envelope(b []byte, d eventstore.Delivery, a attributes) []byte {
	b = append(b, `{"specversion":"1.0"`...)
	b = member(b, "id", a.id)
	b = member(b, "type", a.kind)
	b = member(b, "source", sourceOf(d.Source))
	b = optional(b, "subject", a.subject)
	if !a.time.IsZero() {
		b = member(b, "time", a.time.UTC().Format(time.RFC3339Nano))
	}
	if e := d.Event; e != nil {
		if _, derivable := subjectOf(e.Stream); !derivable {
			b = member(b, "stream", e.Stream)
		}
		b = number(b, "revision", e.Revision)
		b = number(b, "epoch", a.epoch)
	}
	b = number(b, "position", uint64(d.Position))
	b = number(b, "previousposition", uint64(d.Previous))
	b = number(b, "incarnation", uint64(d.Incarnation))
	b = member(b, "lane", LaneName(d.Lane))
	if e := d.Event; e != nil {
		b = member(b, "chain", e.Chain.String())
		b = member(b, "recordedtime", e.Time.UTC().Format(time.RFC3339Nano))
	}
	b = optional(b, "correlationid", a.correlation)
	b = optional(b, "causationid", a.causation)
	b = optional(b, "traceparent", a.traceparent)
	b = optional(b, "region", a.region)
	return optional(b, "businessunit", a.businessUnit)
}

// payload writes metadata and data as they are: JSON inside JSON where that keeps every byte, else base64.
func payload(b []byte, e *eventstore.Recorded) []byte {
	switch {
	case len(e.Metadata) == 0:
	case utf8.Valid(e.Metadata):
		b = member(b, "metadata", string(e.Metadata))
	default:
		b = member(b, "metadatabase64", base64.StdEncoding.EncodeToString(e.Metadata))
	}
	if len(e.Data) == 0 {
		return b
	}
	if !json.Valid(e.Data) {
		b = member(b, "datacontenttype", "application/octet-stream")
		return member(b, "data_base64", base64.StdEncoding.EncodeToString(e.Data))
	}
	b = member(b, "datacontenttype", "application/json")
	if !utf8.Valid(e.Data) || len(bytes.TrimSpace(e.Data)) != len(e.Data) || string(e.Data) == "null" {
		// As a member of the envelope it would lose its outer white space, be no JSON text, or count as absent.
		return member(b, "data_base64", base64.StdEncoding.EncodeToString(e.Data))
	}
	b = append(b, `,"data":`...)
	return append(b, e.Data...)
}

func dataref(d eventstore.Delivery) string {
	return sourceOf(d.Source) + "/streams/" + url.PathEscape(d.Event.Stream) + "/" + strconv.FormatUint(d.Event.Revision, 10)
}

func optional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return member(b, name, value)
}

// number writes a number as CloudEvents wants those that may exceed 32 bits: as a string.
func number(b []byte, name string, n uint64) []byte {
	return member(b, name, strconv.FormatUint(n, 10))
}

// member writes a string. It escapes what JSON requires and nothing else, so that all else stays readable.
func member(b []byte, name, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':', '"')
	for i := range len(value) {
		switch c := value[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			const digits = "0123456789abcdef"
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xf])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
