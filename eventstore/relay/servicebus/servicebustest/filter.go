package servicebustest

import (
	"time"

	"github.com/google/uuid"
)

// A Filter says which of a topic's messages a subscription gets: TrueFilter, FalseFilter or CorrelationFilter.
type Filter interface {
	matches(m *Message) bool
}

// TrueFilter lets every message through.
type TrueFilter struct{}

func (TrueFilter) matches(*Message) bool { return true }

// FalseFilter lets no message through.
type FalseFilter struct{}

func (FalseFilter) matches(*Message) bool { return false }

// CorrelationFilter lets a message through that equals it in every field that is set.
type CorrelationFilter struct {
	CorrelationID         string
	MessageID             string
	To                    string
	ReplyTo               string
	Subject               string
	SessionID             string
	ReplyToSessionID      string
	ContentType           string
	ApplicationProperties map[string]any
}

func (f CorrelationFilter) matches(m *Message) bool {
	session := ""
	if m.SessionID != nil {
		session = *m.SessionID
	}
	for _, field := range [...]struct{ want, have string }{
		{f.CorrelationID, m.CorrelationID},
		{f.MessageID, m.MessageID},
		{f.To, m.To},
		{f.ReplyTo, m.ReplyTo},
		{f.Subject, m.Subject},
		{f.SessionID, session},
		{f.ReplyToSessionID, m.ReplyToSessionID},
		{f.ContentType, m.ContentType},
	} {
		if field.want != "" && field.want != field.have {
			return false
		}
	}
	for name, want := range f.ApplicationProperties {
		have, ok := m.ApplicationProperties[name]
		if !ok || !equalValues(want, have) {
			return false
		}
	}
	return true
}

// equalValues compares numbers by value, whatever their AMQP types: clients choose different ones for the same literal.
func equalValues(a, b any) bool {
	if x, ok := integer(a); ok {
		y, ok := integer(b)
		return ok && x == y
	}
	if x, ok := a.(time.Time); ok {
		y, ok := b.(time.Time)
		return ok && x.Equal(y)
	}
	switch a.(type) {
	case string, bool, float32, float64, uuid.UUID:
		return a == b
	default:
		return false
	}
}

func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int8:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case uint64:
		return int64(v), v <= 1<<63-1
	default:
		return 0, false
	}
}

// Rule is a named filter of a subscription. A message that several rules let through arrives once.
type Rule struct {
	Name   string
	Filter Filter
}

// DefaultRule is the name of the rule that a subscription has when it is created without rules; it lets everything
// through.
const DefaultRule = "$Default"
