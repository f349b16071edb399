package servicebustest

import "fmt"

// The conditions with which Service Bus refuses.
const (
	NotFound              = "amqp:not-found"
	NotAllowed            = "amqp:not-allowed"
	NotImplemented        = "amqp:not-implemented"
	InvalidField          = "amqp:invalid-field"
	ResourceLimitExceeded = "amqp:resource-limit-exceeded"
	ConnectionForced      = "amqp:connection:forced"
	DetachForced          = "amqp:link:detach-forced"
	MessageSizeExceeded   = "amqp:link:message-size-exceeded"
	EntityAlreadyExists   = "com.microsoft:entity-already-exists"
	EntityDisabled        = "com.microsoft:entity-disabled"
	MessageLockLost       = "com.microsoft:message-lock-lost"
	MessageNotFound       = "com.microsoft:message-not-found"
	ServerBusy            = "com.microsoft:server-busy"
	SessionCannotBeLocked = "com.microsoft:session-cannot-be-locked"
	SessionLockLost       = "com.microsoft:session-lock-lost"
	Timeout               = "com.microsoft:timeout"
)

// Error is a refusal in the words of Service Bus.
type Error struct {
	Condition   string // one of the constants above
	Description string // for people
}

func (e *Error) Error() string { return e.Condition + ": " + e.Description }

func refuse(condition, format string, args ...any) *Error {
	return &Error{Condition: condition, Description: fmt.Sprintf(format, args...)}
}

var (
	errMessageLockLost = refuse(MessageLockLost, "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue.")
	errSessionLockLost = refuse(SessionLockLost, "The session lock has expired on the receiver. Accept the session again.")
	errServerBusy      = refuse(ServerBusy, "The request was terminated because the entity is being throttled.")
	errSessionRequired = refuse(NotAllowed, "It is not possible for an entity that requires sessions to create a non-sessionful message receiver.")
	errNoSessionID     = refuse(NotAllowed, "The SessionId was not set on a message, and it cannot be sent to the entity. Entities that have session support enabled can only receive messages that have the SessionId set to a valid value.")
)
