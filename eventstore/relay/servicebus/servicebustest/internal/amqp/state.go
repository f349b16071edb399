package amqp

import "fmt"

const (
	codeReceived uint64 = 0x23
	codeAccepted uint64 = 0x24
	codeRejected uint64 = 0x25
	codeReleased uint64 = 0x26
	codeModified uint64 = 0x27
)

// A State is what one side says about a delivery: [Accepted], [Rejected], [Released], [Modified] or [Received]. A nil State
// says nothing.
type State interface {
	fields() (code uint64, fields []any)
}

// Accepted says that the delivery was taken.
type Accepted struct{}

// Rejected says that the delivery is invalid and must not come again.
type Rejected struct {
	Error *Error // nil when the peer gave none
}

// Released says that the delivery was not worked on, as if it had never been sent.
type Released struct{}

// Modified says that the delivery was not worked on, and changes the message.
type Modified struct {
	DeliveryFailed    bool // counts as a failed attempt
	UndeliverableHere bool // must not come again on this link
	Annotations       Map  // to be merged into the message's annotations
}

// Received says how far a partly sent delivery has come. It is never the last word.
type Received struct {
	SectionNumber uint32
	SectionOffset uint64
}

func (Accepted) fields() (uint64, []any) { return codeAccepted, nil }
func (Released) fields() (uint64, []any) { return codeReleased, nil }
func (s Rejected) fields() (uint64, []any) {
	return codeRejected, []any{s.Error.field()}
}

func (s Modified) fields() (uint64, []any) {
	return codeModified, []any{some(s.DeliveryFailed, false), some(s.UndeliverableHere, false), encodable(s.Annotations)}
}

func (s Received) fields() (uint64, []any) {
	return codeReceived, []any{s.SectionNumber, s.SectionOffset}
}

// stateField returns a state as a field of a performative.
func stateField(s State) any {
	if s == nil {
		return nil
	}
	code, fields := s.fields()
	return composite(code, fields...)
}

func decodeState(v any) (State, error) {
	if v == nil {
		return nil, nil
	}
	code, f, err := newFieldReader("delivery state", v)
	if err != nil {
		return nil, err
	}
	var s State
	switch code {
	case codeAccepted:
		s = Accepted{}
	case codeReleased:
		s = Released{}
	case codeRejected:
		e, err := decodeError(f.field())
		if err != nil {
			return nil, err
		}
		s = Rejected{e}
	case codeModified:
		s = Modified{withDefault(f, false), withDefault(f, false), withDefault(f, Map(nil))}
	case codeReceived:
		s = Received{required[uint32](f), required[uint64](f)}
	default:
		return nil, fmt.Errorf("amqp: unknown delivery state %#x", code)
	}
	return s, f.err
}
