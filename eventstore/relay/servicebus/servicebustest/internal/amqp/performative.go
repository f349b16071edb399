package amqp

import "fmt"

const (
	codeOpen           uint64 = 0x10
	codeBegin          uint64 = 0x11
	codeAttach         uint64 = 0x12
	codeFlow           uint64 = 0x13
	codeTransfer       uint64 = 0x14
	codeDisposition    uint64 = 0x15
	codeDetach         uint64 = 0x16
	codeEnd            uint64 = 0x17
	codeClose          uint64 = 0x18
	codeSASLMechanisms uint64 = 0x40
	codeSASLInit       uint64 = 0x41
	codeSASLOutcome    uint64 = 0x44
)

// A performative is what a frame says; its fields are those of the standard.
type performative interface {
	append(dst []byte) ([]byte, error)
}

type openFrame struct {
	containerID  string
	hostname     string
	maxFrameSize uint32
	channelMax   uint16
	idleTimeout  uint32 // milliseconds, 0 is none
	properties   Map
}

func (o *openFrame) append(dst []byte) ([]byte, error) {
	return appendComposite(dst, codeOpen, o.containerID, some(o.hostname, ""), o.maxFrameSize, o.channelMax, some(o.idleTimeout, 0),
		nil, nil, nil, nil, someMap(o.properties))
}

func decodeOpen(f *fieldReader) (*openFrame, error) {
	o := &openFrame{
		containerID:  required[string](f),
		hostname:     withDefault(f, ""),
		maxFrameSize: withDefault(f, ^uint32(0)),
		channelMax:   withDefault(f, ^uint16(0)),
		idleTimeout:  withDefault(f, uint32(0)),
	}
	f.next += 4 // locales and capabilities
	o.properties = withDefault(f, Map(nil))
	return o, f.err
}

type beginFrame struct {
	remoteChannel  *uint16
	nextOutgoingID uint32
	incomingWindow uint32
	outgoingWindow uint32
	handleMax      uint32
}

func (b *beginFrame) append(dst []byte) ([]byte, error) {
	return appendComposite(dst, codeBegin, somePointer(b.remoteChannel), b.nextOutgoingID, b.incomingWindow, b.outgoingWindow, b.handleMax)
}

func decodeBegin(f *fieldReader) (*beginFrame, error) {
	b := &beginFrame{
		remoteChannel:  optional[uint16](f),
		nextOutgoingID: required[uint32](f),
		incomingWindow: required[uint32](f),
		outgoingWindow: required[uint32](f),
		handleMax:      withDefault(f, ^uint32(0)),
	}
	return b, f.err
}

type flowFrame struct {
	nextIncomingID *uint32
	incomingWindow uint32
	nextOutgoingID uint32
	outgoingWindow uint32
	handle         *uint32
	deliveryCount  *uint32
	linkCredit     *uint32
	available      *uint32
	drain          bool
	echo           bool
}

func (w *flowFrame) append(dst []byte) ([]byte, error) {
	return appendComposite(dst, codeFlow, somePointer(w.nextIncomingID), w.incomingWindow, w.nextOutgoingID, w.outgoingWindow,
		somePointer(w.handle), somePointer(w.deliveryCount), somePointer(w.linkCredit), somePointer(w.available),
		some(w.drain, false), some(w.echo, false))
}

func decodeFlow(f *fieldReader) (*flowFrame, error) {
	w := &flowFrame{
		nextIncomingID: optional[uint32](f),
		incomingWindow: required[uint32](f),
		nextOutgoingID: required[uint32](f),
		outgoingWindow: required[uint32](f),
		handle:         optional[uint32](f),
		deliveryCount:  optional[uint32](f),
		linkCredit:     optional[uint32](f),
		available:      optional[uint32](f),
		drain:          withDefault(f, false),
		echo:           withDefault(f, false),
	}
	return w, f.err
}

type transferFrame struct {
	handle     uint32
	deliveryID *uint32
	tag        []byte
	format     *uint32
	settled    *bool
	more       bool
	resume     bool
	aborted    bool
}

func (t *transferFrame) append(dst []byte) ([]byte, error) {
	var tag any
	if t.tag != nil {
		tag = t.tag
	}
	return appendComposite(dst, codeTransfer, t.handle, somePointer(t.deliveryID), tag, somePointer(t.format), somePointer(t.settled),
		some(t.more, false), nil, nil, some(t.resume, false), some(t.aborted, false))
}

func decodeTransfer(f *fieldReader) (*transferFrame, error) {
	t := &transferFrame{
		handle:     required[uint32](f),
		deliveryID: optional[uint32](f),
		tag:        withDefault(f, []byte(nil)),
		format:     optional[uint32](f),
		settled:    optional[bool](f),
		more:       withDefault(f, false),
	}
	f.field() // the receiver's settle mode for this delivery alone: the link's holds
	f.field() // a state, for resumed deliveries and transactions
	t.resume = withDefault(f, false)
	t.aborted = withDefault(f, false)
	return t, f.err
}

type dispositionFrame struct {
	role        Role
	first, last uint32
	settled     bool
	state       State
}

func (d *dispositionFrame) append(dst []byte) ([]byte, error) {
	return appendComposite(dst, codeDisposition, bool(d.role), d.first, some(d.last, d.first), some(d.settled, false), stateField(d.state))
}

func decodeDisposition(f *fieldReader) (*dispositionFrame, error) {
	d := &dispositionFrame{role: Role(required[bool](f)), first: required[uint32](f)}
	d.last = withDefault(f, d.first)
	d.settled = withDefault(f, false)
	var err error
	if d.state, err = decodeState(f.field()); err != nil {
		return nil, err
	}
	return d, f.err
}

type detachFrame struct {
	handle uint32
	closed bool
	err    *Error
}

func (d *detachFrame) append(dst []byte) ([]byte, error) {
	return appendComposite(dst, codeDetach, d.handle, some(d.closed, false), d.err.field())
}

func decodeDetach(f *fieldReader) (*detachFrame, error) {
	d := &detachFrame{handle: required[uint32](f), closed: withDefault(f, false)}
	var err error
	if d.err, err = decodeError(f.field()); err != nil {
		return nil, err
	}
	return d, f.err
}

type endFrame struct{ err *Error }

func (e *endFrame) append(dst []byte) ([]byte, error) {
	return appendComposite(dst, codeEnd, e.err.field())
}

type closeFrame struct{ err *Error }

func (c *closeFrame) append(dst []byte) ([]byte, error) {
	return appendComposite(dst, codeClose, c.err.field())
}

type saslMechanisms struct{ mechanisms []Symbol }

func (m *saslMechanisms) append(dst []byte) ([]byte, error) {
	return appendComposite(dst, codeSASLMechanisms, m.mechanisms)
}

type saslInit struct {
	mechanism Symbol
	response  []byte
}

func (i *saslInit) append(dst []byte) ([]byte, error) {
	return appendComposite(dst, codeSASLInit, i.mechanism, i.response)
}

func decodeSASLInit(f *fieldReader) (*saslInit, error) {
	i := &saslInit{required[Symbol](f), withDefault(f, []byte(nil))}
	return i, f.err
}

type saslOutcome struct{ code uint8 }

func (o *saslOutcome) append(dst []byte) ([]byte, error) {
	return appendComposite(dst, codeSASLOutcome, o.code)
}

// decodePerformative reads what a frame says, and returns the payload that follows it.
func decodePerformative(body []byte) (p performative, payload []byte, err error) {
	v, payload, err := DecodeValue(body)
	if err != nil {
		return nil, nil, err
	}
	code, f, err := newFieldReader("performative", v)
	if err != nil {
		return nil, nil, err
	}
	switch code {
	case codeOpen:
		p, err = decodeOpen(f)
	case codeBegin:
		p, err = decodeBegin(f)
	case codeAttach:
		p, err = decodeAttach(f)
	case codeFlow:
		p, err = decodeFlow(f)
	case codeTransfer:
		p, err = decodeTransfer(f)
	case codeDisposition:
		p, err = decodeDisposition(f)
	case codeDetach:
		p, err = decodeDetach(f)
	case codeEnd:
		e := &endFrame{}
		e.err, err = decodeError(f.field())
		p = e
	case codeClose:
		c := &closeFrame{}
		c.err, err = decodeError(f.field())
		p = c
	case codeSASLInit:
		p, err = decodeSASLInit(f)
	default:
		err = fmt.Errorf("amqp: unknown performative %#x", code)
	}
	if err != nil {
		return nil, nil, err
	}
	return p, payload, nil
}
