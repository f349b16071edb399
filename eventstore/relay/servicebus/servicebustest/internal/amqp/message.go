package amqp

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
)

// BatchFormat is the message format of a Service Bus batch, see [SplitBatch].
const BatchFormat uint32 = 0x80013700

// A Header says how a message is to be carried.
type Header struct {
	Durable       bool
	Priority      *uint8         // 4 when nil
	TTL           *time.Duration // in whole milliseconds up to 2³²-1
	FirstAcquirer bool
	DeliveryCount uint32 // failed attempts so far
}

// Properties are what a sender says about its message. What is nil is absent.
type Properties struct {
	MessageID          any // uint64, uuid.UUID, []byte or string
	UserID             []byte
	To                 *string
	Subject            *string
	ReplyTo            *string
	CorrelationID      any // like MessageID
	ContentType        *Symbol
	ContentEncoding    *Symbol
	AbsoluteExpiryTime *time.Time
	CreationTime       *time.Time
	GroupID            *string
	GroupSequence      *uint32
	ReplyToGroupID     *string
}

// Descriptors of a message's sections, in their order.
const (
	codeHeader                uint64 = 0x70
	codeDeliveryAnnotations   uint64 = 0x71
	codeAnnotations           uint64 = 0x72
	codeProperties            uint64 = 0x73
	codeApplicationProperties uint64 = 0x74
	codeData                  uint64 = 0x75
	codeSequence              uint64 = 0x76
	codeValue                 uint64 = 0x77
	codeFooter                uint64 = 0x78
)

// A Message is a message in its sections. Sections that are not set anew are kept as the bytes they came as. The zero value is
// a message without any. A Message may be read from several goroutines, and copied: setting a section of the copy leaves the
// original alone. What its methods return must not be changed.
type Message struct {
	raw [codeFooter - codeHeader + 1][]byte // all data or sequence sections of the body stand together

	header                *Header
	deliveryAnnotations   Map
	annotations           Map
	properties            *Properties
	applicationProperties Map
}

// DecodeMessage reads a message. The Message keeps parts of b, which must not be changed afterwards.
func DecodeMessage(b []byte) (Message, error) {
	var m Message
	d := decoder{b: b, empty: maxEmpty}
	var last uint64 // the section before
	begin := 0      // where it begins
	for len(d.b) > 0 {
		at := len(b) - len(d.b)
		code, err := d.section()
		if err != nil {
			return Message{}, err
		}
		more := code == last && (code == codeData || code == codeSequence)
		if !more && (code <= last || isBody(code) && isBody(last)) {
			return Message{}, fmt.Errorf("amqp: section %#x after section %#x", code, last)
		}
		if err := m.decode(&d, code); err != nil {
			return Message{}, fmt.Errorf("amqp: section %#x: %w", code, err)
		}
		if !more {
			last, begin = code, at
		}
		end := len(b) - len(d.b)
		m.raw[code-codeHeader] = b[begin:end:end]
	}
	return m, nil
}

func isBody(code uint64) bool { return code >= codeData && code <= codeValue }

// section reads the descriptor of a section.
func (d *decoder) section() (uint64, error) {
	if code, err := d.code(); err != nil {
		return 0, err
	} else if code != codeDescribed {
		return 0, fmt.Errorf("amqp: constructor %#02x where a section should begin", code)
	}
	v, err := d.value(0)
	if err != nil {
		return 0, err
	}
	code, ok := v.(uint64)
	if !ok || code < codeHeader || code > codeFooter {
		return 0, fmt.Errorf("amqp: unknown section %v", v)
	}
	return code, nil
}

// decode reads the value of a section, and keeps it unless it is one of the body.
func (m *Message) decode(d *decoder, section uint64) error {
	if section == codeData {
		_, err := d.data()
		return err
	}
	v, err := d.value(0)
	if err != nil {
		return err
	}
	ok := true
	switch section {
	case codeHeader:
		m.header, err = decodeHeader(v)
	case codeDeliveryAnnotations:
		m.deliveryAnnotations, ok = v.(Map)
	case codeAnnotations:
		m.annotations, ok = v.(Map)
	case codeProperties:
		m.properties, err = decodeProperties(v)
	case codeApplicationProperties:
		m.applicationProperties, ok = v.(Map)
	case codeSequence:
		_, ok = v.(List)
	case codeFooter:
		_, ok = v.(Map)
	}
	if !ok {
		return fmt.Errorf("a %T", v)
	}
	return err
}

// data reads the binary value of a data section without copying it.
func (d *decoder) data() ([]byte, error) {
	code, err := d.code()
	if err != nil {
		return nil, err
	}
	if code != codeBinary8 && code != codeBinary {
		return nil, fmt.Errorf("constructor %#02x instead of binary", code)
	}
	return d.cut(code)
}

// Encode returns the message as bytes.
func (m *Message) Encode() []byte {
	b := make([]byte, 0, m.Size())
	for _, section := range m.raw {
		b = append(b, section...)
	}
	return b
}

// Size returns the length of what Encode returns.
func (m *Message) Size() int {
	size := 0
	for _, section := range m.raw {
		size += len(section)
	}
	return size
}

// Header returns the header, and whether there is one.
func (m *Message) Header() (Header, bool) {
	if m.header == nil {
		return Header{}, false
	}
	return *m.header, true
}

// SetHeader replaces the header.
func (m *Message) SetHeader(h Header) {
	var ttl any
	if h.TTL != nil {
		ttl = uint32(min(max(h.TTL.Milliseconds(), 0), math.MaxUint32))
	}
	// All fields have types of AMQP.
	m.raw[0], _ = appendComposite(nil, codeHeader, h.Durable, somePointer(h.Priority), ttl, some(h.FirstAcquirer, false), h.DeliveryCount)
	m.header = &h
}

func decodeHeader(v any) (*Header, error) {
	_, f, err := newFieldReader("header", Described{codeHeader, v})
	if err != nil {
		return nil, err
	}
	h := &Header{Durable: withDefault(f, false), Priority: optional[uint8](f)}
	if ttl := optional[uint32](f); ttl != nil {
		h.TTL = new(time.Duration(*ttl) * time.Millisecond)
	}
	h.FirstAcquirer = withDefault(f, false)
	h.DeliveryCount = withDefault(f, uint32(0))
	return h, f.err
}

// DeliveryAnnotations returns what is said to the next node only.
func (m *Message) DeliveryAnnotations() Map { return m.deliveryAnnotations }

// SetDeliveryAnnotations replaces the delivery annotations; none removes the section. It fails if a value has no AMQP type.
func (m *Message) SetDeliveryAnnotations(a Map) error {
	return m.setMap(codeDeliveryAnnotations, &m.deliveryAnnotations, a)
}

// Annotations returns the message annotations.
func (m *Message) Annotations() Map { return m.annotations }

// SetAnnotations replaces the message annotations; none removes the section. It fails if a value has no AMQP type.
func (m *Message) SetAnnotations(a Map) error {
	return m.setMap(codeAnnotations, &m.annotations, a)
}

// ApplicationProperties returns the sender's own properties.
func (m *Message) ApplicationProperties() Map { return m.applicationProperties }

// SetApplicationProperties replaces the application properties; none removes the section. It fails if a value has no AMQP type.
func (m *Message) SetApplicationProperties(a Map) error {
	return m.setMap(codeApplicationProperties, &m.applicationProperties, a)
}

func (m *Message) setMap(section uint64, field *Map, a Map) error {
	var raw []byte
	if len(a) > 0 {
		var err error
		if raw, err = AppendValue(nil, Described{section, a}); err != nil {
			return err
		}
	}
	m.raw[section-codeHeader] = raw
	*field = a
	return nil
}

// Properties returns the properties, and whether there are any.
func (m *Message) Properties() (Properties, bool) {
	if m.properties == nil {
		return Properties{}, false
	}
	return *m.properties, true
}

// SetProperties replaces the properties. It fails if an id has none of the types for ids.
func (m *Message) SetProperties(p Properties) error {
	if !isID(p.MessageID) || !isID(p.CorrelationID) {
		return fmt.Errorf("amqp: no ids: a %T and a %T", p.MessageID, p.CorrelationID)
	}
	var user any
	if p.UserID != nil {
		user = p.UserID
	}
	raw, err := appendComposite(nil, codeProperties, p.MessageID, user, somePointer(p.To), somePointer(p.Subject), somePointer(p.ReplyTo),
		p.CorrelationID, somePointer(p.ContentType), somePointer(p.ContentEncoding), somePointer(p.AbsoluteExpiryTime),
		somePointer(p.CreationTime), somePointer(p.GroupID), somePointer(p.GroupSequence), somePointer(p.ReplyToGroupID))
	if err != nil {
		return err
	}
	m.raw[codeProperties-codeHeader] = raw
	m.properties = &p
	return nil
}

func decodeProperties(v any) (*Properties, error) {
	_, f, err := newFieldReader("properties", Described{codeProperties, v})
	if err != nil {
		return nil, err
	}
	p := &Properties{
		MessageID:          f.id(),
		UserID:             withDefault(f, []byte(nil)),
		To:                 optional[string](f),
		Subject:            optional[string](f),
		ReplyTo:            optional[string](f),
		CorrelationID:      f.id(),
		ContentType:        optional[Symbol](f),
		ContentEncoding:    optional[Symbol](f),
		AbsoluteExpiryTime: optional[time.Time](f),
		CreationTime:       optional[time.Time](f),
		GroupID:            optional[string](f),
		GroupSequence:      optional[uint32](f),
		ReplyToGroupID:     optional[string](f),
	}
	return p, f.err
}

func isID(v any) bool {
	switch v.(type) {
	case nil, uint64, uuid.UUID, []byte, string:
		return true
	}
	return false
}

// Data returns the contents of the body's data sections, none if the body is of another kind.
func (m *Message) Data() [][]byte {
	var contents [][]byte
	for d := (decoder{b: m.raw[codeData-codeHeader]}); len(d.b) > 0; {
		// Both have been read before, or written here.
		_, _ = d.section()
		content, _ := d.data()
		contents = append(contents, content)
	}
	return contents
}

// SetData replaces the body by one data section.
func (m *Message) SetData(b []byte) {
	raw, _ := AppendValue(nil, Described{codeData, b})
	m.setBody(codeData, raw)
}

// Value returns the value of a body that is one value, and whether it is.
func (m *Message) Value() (any, bool) {
	raw := m.raw[codeValue-codeHeader]
	if raw == nil {
		return nil, false
	}
	v, _, err := DecodeValue(raw)
	d, ok := v.(Described)
	return d.Value, err == nil && ok
}

// SetValue replaces the body by one value. It fails if the value has no AMQP type.
func (m *Message) SetValue(v any) error {
	raw, err := AppendValue(nil, Described{codeValue, v})
	if err != nil {
		return err
	}
	m.setBody(codeValue, raw)
	return nil
}

func (m *Message) setBody(section uint64, raw []byte) {
	for code := codeData; code <= codeValue; code++ {
		m.raw[code-codeHeader] = nil
	}
	m.raw[section-codeHeader] = raw
}

// WithoutBody returns the message without its body and footer.
func (m *Message) WithoutBody() Message {
	out := *m
	out.setBody(codeFooter, nil)
	return out
}

// SplitBatch returns the messages of a batch: each data section of the envelope is one encoded message, and the rest of the
// envelope says nothing. It fails if there is none.
func SplitBatch(envelope []byte) ([][]byte, error) {
	m, err := DecodeMessage(envelope)
	if err != nil {
		return nil, err
	}
	messages := m.Data()
	if len(messages) == 0 {
		return nil, errors.New("amqp: a batch without messages")
	}
	return messages, nil
}
