package amqp

import "fmt"

// Role is the side of a link that its holder plays.
type Role bool

// The roles.
const (
	RoleSender   Role = false
	RoleReceiver Role = true
)

// SenderSettleMode says whether a sender settles what it sends by itself.
type SenderSettleMode uint8

// The sender settle modes.
const (
	SenderUnsettled SenderSettleMode = 0
	SenderSettled   SenderSettleMode = 1
	SenderMixed     SenderSettleMode = 2
)

// ReceiverSettleMode says whether a receiver settles first, or only after the sender has.
type ReceiverSettleMode uint8

// The receiver settle modes.
const (
	ReceiverFirst  ReceiverSettleMode = 0
	ReceiverSecond ReceiverSettleMode = 1
)

// Attach is what one side says when it attaches a link.
type Attach struct {
	Name               string
	Handle             uint32
	Role               Role // of the side that says it
	SenderSettleMode   SenderSettleMode
	ReceiverSettleMode ReceiverSettleMode
	Source             *Source // where the messages come from; nil refuses the link, when the sender says it
	Target             *Target // where the messages go; nil refuses the link, when the receiver says it
	InitialDelivery    uint32  // the sender's first delivery count
	MaxMessageSize     uint64  // 0 means no limit
	Offered            []Symbol
	Desired            []Symbol
	Properties         Map

	coordinator bool // the target is one of transactions
}

// A Source is where the messages of a link come from.
type Source struct {
	Address               *string
	Durable               uint32
	ExpiryPolicy          Symbol
	Timeout               uint32 // seconds
	Dynamic               bool
	DynamicNodeProperties Map
	DistributionMode      Symbol
	Filter                Map // values as they came: described by one client, plain by another
	DefaultOutcome        any
	Outcomes              []Symbol
	Capabilities          []Symbol
}

// A Target is where the messages of a link go.
type Target struct {
	Address               *string
	Durable               uint32
	ExpiryPolicy          Symbol
	Timeout               uint32 // seconds
	Dynamic               bool
	DynamicNodeProperties Map
	Capabilities          []Symbol
}

const (
	codeSource      uint64 = 0x28
	codeTarget      uint64 = 0x29
	codeCoordinator uint64 = 0x30
)

func (s *Source) field() any {
	if s == nil {
		return nil
	}
	return composite(codeSource,
		somePointer(s.Address), some(s.Durable, 0), some(s.ExpiryPolicy, ""), some(s.Timeout, 0), some(s.Dynamic, false),
		someMap(s.DynamicNodeProperties), some(s.DistributionMode, ""), someMap(s.Filter), s.DefaultOutcome,
		someSymbols(s.Outcomes), someSymbols(s.Capabilities))
}

func decodeSource(v any) (*Source, error) {
	if v == nil {
		return nil, nil
	}
	code, f, err := newFieldReader("source", v)
	if err != nil {
		return nil, err
	}
	if code != codeSource {
		return nil, fmt.Errorf("amqp: a source is described by %#x", code)
	}
	s := &Source{
		Address:               optional[string](f),
		Durable:               withDefault(f, uint32(0)),
		ExpiryPolicy:          withDefault(f, Symbol("")),
		Timeout:               withDefault(f, uint32(0)),
		Dynamic:               withDefault(f, false),
		DynamicNodeProperties: withDefault(f, Map(nil)),
		DistributionMode:      withDefault(f, Symbol("")),
		Filter:                withDefault(f, Map(nil)),
		DefaultOutcome:        f.field(),
		Outcomes:              f.symbols(),
		Capabilities:          f.symbols(),
	}
	return s, f.err
}

func (t *Target) field() any {
	if t == nil {
		return nil
	}
	return composite(codeTarget,
		somePointer(t.Address), some(t.Durable, 0), some(t.ExpiryPolicy, ""), some(t.Timeout, 0), some(t.Dynamic, false),
		someMap(t.DynamicNodeProperties), someSymbols(t.Capabilities))
}

// decodeTarget reads a target. A transaction coordinator is none that this package serves.
func decodeTarget(v any) (t *Target, coordinator bool, err error) {
	if v == nil {
		return nil, false, nil
	}
	code, f, err := newFieldReader("target", v)
	if err != nil {
		return nil, false, err
	}
	switch code {
	case codeTarget:
	case codeCoordinator:
		return nil, true, nil
	default:
		return nil, false, fmt.Errorf("amqp: a target is described by %#x", code)
	}
	t = &Target{
		Address:               optional[string](f),
		Durable:               withDefault(f, uint32(0)),
		ExpiryPolicy:          withDefault(f, Symbol("")),
		Timeout:               withDefault(f, uint32(0)),
		Dynamic:               withDefault(f, false),
		DynamicNodeProperties: withDefault(f, Map(nil)),
		Capabilities:          f.symbols(),
	}
	return t, false, f.err
}

func (a *Attach) append(dst []byte) ([]byte, error) {
	var initial any
	if a.Role == RoleSender {
		initial = a.InitialDelivery
	}
	return appendComposite(dst, codeAttach,
		a.Name, a.Handle, bool(a.Role), uint8(a.SenderSettleMode), uint8(a.ReceiverSettleMode), a.Source.field(), a.Target.field(),
		nil, nil, initial, some(a.MaxMessageSize, 0), someSymbols(a.Offered), someSymbols(a.Desired), someMap(a.Properties))
}

func decodeAttach(f *fieldReader) (*Attach, error) {
	a := &Attach{
		Name:               required[string](f),
		Handle:             required[uint32](f),
		Role:               Role(required[bool](f)),
		SenderSettleMode:   SenderSettleMode(withDefault(f, uint8(SenderMixed))),
		ReceiverSettleMode: ReceiverSettleMode(withDefault(f, uint8(ReceiverFirst))),
	}
	var err error
	if a.Source, err = decodeSource(f.field()); err != nil {
		return nil, err
	}
	if a.Target, a.coordinator, err = decodeTarget(f.field()); err != nil {
		return nil, err
	}
	f.field() // unsettled deliveries of an earlier life of the link: links are not resumed
	f.field() // whether these are all
	a.InitialDelivery = withDefault(f, uint32(0))
	a.MaxMessageSize = withDefault(f, uint64(0))
	a.Offered = f.symbols()
	a.Desired = f.symbols()
	a.Properties = withDefault(f, Map(nil))
	if f.err == nil && (a.SenderSettleMode > SenderMixed || a.ReceiverSettleMode > ReceiverSecond) {
		return nil, fmt.Errorf("amqp: unknown settle modes %d and %d", a.SenderSettleMode, a.ReceiverSettleMode)
	}
	return a, f.err
}
