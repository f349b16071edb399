package servicebustest

import (
	"context"
	"math"
)

// CreateQueue creates a queue. It fails with EntityAlreadyExists or InvalidField.
func (s *Server) CreateQueue(name string, q Queue) error { return s.broker.createQueue(name, q) }

// CreateTopic creates a topic without subscriptions. It fails with EntityAlreadyExists or InvalidField.
func (s *Server) CreateTopic(name string, t Topic) error { return s.broker.createTopic(name, t) }

// CreateSubscription creates a subscription, which gets what is sent from now on. It fails with NotFound,
// EntityAlreadyExists or InvalidField.
func (s *Server) CreateSubscription(topic, name string, sub Subscription) error {
	return s.broker.createSubscription(topic, name, sub)
}

// SubscriptionPath returns the address of a subscription, as the other methods want it.
func SubscriptionPath(topic, subscription string) string {
	return topic + subscriptionPart + subscription
}

// DeadLetterPath returns the address of the dead-letter queue of a queue or a subscription.
func DeadLetterPath(path string) string { return path + deadLetterPart }

// Delete deletes a queue, a topic with its subscriptions, or a subscription, with everything in it.
func (s *Server) Delete(path string) error { return s.broker.remove(path) }

// AddRule adds a rule to a subscription.
func (s *Server) AddRule(path string, rule Rule) error { return s.broker.addRule(path, rule) }

// RemoveRule removes a rule from a subscription.
func (s *Server) RemoveRule(path, name string) error { return s.broker.removeRule(path, name) }

// Counts says how much is in a queue, a topic, a subscription or a dead-letter queue.
func (s *Server) Counts(path string) (Counts, error) { return s.broker.counts(path) }

// Await returns nil as soon as ok says so of the counts of an entity, which it looks at after every change.
func (s *Server) Await(ctx context.Context, path string, ok func(Counts) bool) error {
	return s.broker.await(ctx, path, ok)
}

// Messages returns what is in an entity by sequence number, whatever its state. The maps and bodies must not be changed.
func (s *Server) Messages(path string) ([]Message, error) {
	found, err := s.broker.peek(path, 0, math.MaxInt, nil)
	if err != nil {
		return nil, err
	}
	messages := make([]Message, len(found))
	for i, d := range found {
		messages[i] = d.Message
	}
	return messages, nil
}

// SetFaults replaces what goes wrong at an entity; the zero Faults end it. Busy concerns what is sent to it, received from
// it and asked of it; the others concern its deliveries, so that they belong to a subscription rather than its topic.
func (s *Server) SetFaults(path string, f Faults) error { return s.broker.setFaults(path, f) }

// LoseLocks takes all locks of an entity from those who hold them, sessions included, and returns how many. The messages
// are delivered to others at once, as if the locks had lapsed; the renewals of those who had them go on to succeed,
// their settlements fail.
func (s *Server) LoseLocks(path string) (int, error) { return s.broker.loseLocks(path) }
