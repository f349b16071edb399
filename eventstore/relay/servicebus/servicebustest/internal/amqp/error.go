package amqp

import (
	"errors"
	"fmt"
)

// Conditions of the AMQP standard. A broker has more of its own.
const (
	InternalError         Symbol = "amqp:internal-error"
	NotFound              Symbol = "amqp:not-found"
	UnauthorizedAccess    Symbol = "amqp:unauthorized-access" //nolint:misspell // the spelling of the standard
	DecodeError           Symbol = "amqp:decode-error"
	ResourceLimitExceeded Symbol = "amqp:resource-limit-exceeded"
	NotAllowed            Symbol = "amqp:not-allowed"
	InvalidField          Symbol = "amqp:invalid-field"
	NotImplemented        Symbol = "amqp:not-implemented"
	ConnectionForced      Symbol = "amqp:connection:forced"
	FramingError          Symbol = "amqp:connection:framing-error"
	HandleInUse           Symbol = "amqp:session:handle-in-use"
	UnattachedHandle      Symbol = "amqp:session:unattached-handle"
	DetachForced          Symbol = "amqp:link:detach-forced"
	TransferLimitExceeded Symbol = "amqp:link:transfer-limit-exceeded"
	MessageSizeExceeded   Symbol = "amqp:link:message-size-exceeded"
)

var (
	// ErrNoCredit says that a link takes no more messages now. Handler.Credit is called when it does again.
	ErrNoCredit = errors.New("amqp: the link has no credit")
	// ErrClosed says that the link is not attached, not any more or not yet, or that its connection has gone.
	ErrClosed = errors.New("amqp: the link is not attached")
)

// An Error is an error as AMQP carries it from one side to the other.
type Error struct {
	Condition   Symbol
	Description string
	Info        Map
}

// Error returns the condition and the description.
func (e *Error) Error() string {
	if e.Description == "" {
		return string(e.Condition)
	}
	return string(e.Condition) + ": " + e.Description
}

const codeError uint64 = 0x1d

// field returns the error as a field of a performative.
func (e *Error) field() any {
	if e == nil {
		return nil
	}
	return composite(codeError, e.Condition, some(e.Description, ""), encodable(e.Info))
}

func decodeError(v any) (*Error, error) {
	if v == nil {
		return nil, nil
	}
	code, f, err := newFieldReader("error", v)
	if err != nil {
		return nil, err
	}
	if code != codeError {
		return nil, fmt.Errorf("amqp: an error is described by %#x", code)
	}
	e := &Error{required[Symbol](f), withDefault(f, ""), withDefault(f, Map(nil))}
	return e, f.err
}
