package servicebustest

import (
	"net/http"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest/internal/amqp"
)

// What described values stand for in answers about rules.
const (
	ruleDescriptor        = uint64(0x13700000004)
	emptyActionDescriptor = uint64(0x13700000005)
	trueDescriptor        = uint64(0x1370000007)
	falseDescriptor       = uint64(0x1370000008)
	correlationDescriptor = uint64(0x1370000009)
)

func (r *request) addRule() response {
	name, _ := r.body.Get("rule-name").(string)
	description, _ := r.body.Get("rule-description").(amqp.Map)
	if description.Get("sql-rule-action") != nil {
		return failure(refuse(NotImplemented, "Rule actions are not supported."))
	}
	filter, err := readFilter(description)
	if err != nil {
		return failure(err)
	}
	if err := r.broker().addRule(r.entity, Rule{Name: name, Filter: filter}); err != nil {
		return failure(err)
	}
	return success(nil)
}

func readFilter(description amqp.Map) (Filter, error) {
	if f, ok := description.Get("correlation-filter").(amqp.Map); ok {
		field := func(key string) string {
			s, _ := f.Get(key).(string)
			return s
		}
		props, _ := f.Get("properties").(amqp.Map)
		return CorrelationFilter{
			CorrelationID:         field("correlation-id"),
			MessageID:             field("message-id"),
			To:                    field("to"),
			ReplyTo:               field("reply-to"),
			Subject:               field("label"),
			SessionID:             field("session-id"),
			ReplyToSessionID:      field("reply-to-session-id"),
			ContentType:           field("content-type"),
			ApplicationProperties: properties(props),
		}, nil
	}
	f, _ := description.Get("sql-filter").(amqp.Map)
	switch expression := f.Get("expression"); expression {
	case "1=1":
		return TrueFilter{}, nil
	case "1=0":
		return FalseFilter{}, nil
	default:
		return nil, refuse(NotImplemented, "Of SQL filters only 1=1 and 1=0 are supported, not '%v'.", expression)
	}
}

func (r *request) removeRule() response {
	name, _ := r.body.Get("rule-name").(string)
	if err := r.broker().removeRule(r.entity, name); err != nil {
		return failure(err)
	}
	return success(nil)
}

func (r *request) enumerateRules() response {
	rules, err := r.broker().rulesOf(r.entity)
	if err != nil {
		return failure(err)
	}
	skip := min(max(number(r.body.Get("skip")), 0), int64(len(rules)))
	rules = rules[skip:]
	rules = rules[:min(max(number(r.body.Get("top")), 0), int64(len(rules)))]
	if len(rules) == 0 {
		return response{code: http.StatusNoContent}
	}
	list := make(amqp.List, len(rules))
	for i, rule := range rules {
		list[i] = amqp.Map{{Key: "rule-description", Value: amqp.Described{
			Descriptor: ruleDescriptor,
			Value: amqp.List{
				writeFilter(rule.Filter),
				amqp.Described{Descriptor: emptyActionDescriptor, Value: amqp.List{}},
				rule.Name,
			},
		}}}
	}
	return success(amqp.Map{{Key: "rules", Value: list}})
}

func writeFilter(f Filter) amqp.Described {
	switch f := f.(type) {
	case FalseFilter:
		return amqp.Described{Descriptor: falseDescriptor, Value: amqp.List{}}
	case CorrelationFilter:
		fields := make(amqp.List, 0, 9)
		for _, field := range []string{
			f.CorrelationID, f.MessageID, f.To, f.ReplyTo, f.Subject, f.SessionID, f.ReplyToSessionID, f.ContentType,
		} {
			if field == "" {
				fields = append(fields, nil)
			} else {
				fields = append(fields, field)
			}
		}
		return amqp.Described{Descriptor: correlationDescriptor, Value: append(fields, propertyMap(f.ApplicationProperties))}
	default:
		return amqp.Described{Descriptor: trueDescriptor, Value: amqp.List{}}
	}
}
